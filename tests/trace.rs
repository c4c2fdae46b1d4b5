//! Compares causal tracing with PyTorch, which runs a full forward pass per cell (tests/reference/trace.py).

use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::progress::NoProgress;
use corrigenda::research::trace::{
    KnownFact, Noise, NoiseRule, RestoredKind, RestoredTokens, SeveredNoise, TracePlan, subject_in, trace,
};
use corrigenda::safetensors::Dtype;

use crate::support::families::write_steep;
use crate::support::project::{PROJECT, Project};
use crate::support::{golden, numbers, tiny};

#[test]
fn every_cell_agrees_with_pytorch() {
    let golden = golden("trace.json");
    let settings = &golden["settings"];
    let whole = |key: &str| settings[key].as_u64().expect("a number") as usize;
    let scale = settings["scale"].as_f64().expect("a number");
    let noise = Noise { rule: NoiseRule::Fixed(scale), scale, seed: 1, samples: whole("samples") };
    let plan = TracePlan {
        kinds: RestoredKind::ALL.to_vec(),
        window: whole("window"),
        severed: SeveredNoise::Same,
        places: RestoredTokens::All,
    };
    let kinds = RestoredKind::ALL.into_iter().filter(|kind| kind.is_severed()).collect();
    let published = TracePlan { kinds, severed: SeveredNoise::Next, ..plan.clone() };
    for of in golden["models"].as_array().expect("models") {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = of["model"].as_str().expect("a name");
        match name {
            "gpt2" => tiny::write_editable_model(folder.path()),
            name => write_steep(name, folder.path(), Dtype::F32, false),
        }
        let model = Model::open(folder.path(), Isa::detect()).expect("the model opens");
        let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
        for fact in of["facts"].as_array().expect("facts") {
            let text = |key: &str| fact[key].as_str().expect("a text");
            let (prompt, subject) = (text("prompt"), text("subject"));
            let place = subject_in(prompt, subject).expect("the subject");
            let known = KnownFact {
                id: "a".into(),
                prompt: prompt.into(),
                subject: place,
                answer: None,
                relation: None,
                chat: false,
            };
            let traced = trace(&model, &tokens, &known, &noise, &plan, &NoProgress).expect("traced");
            assert_eq!(numbers(&fact["place"]), [traced.subject.start as f64, traced.subject.end as f64]);
            assert_eq!(traced.answer, tokens.piece(fact["answer"].as_u64().expect("an id") as u32));
            let near = |found: f64, want: f64, what: &str| {
                assert!((found - want).abs() < 1e-4, "{name}, {prompt}: {what}: {found} {want}");
            };
            near(traced.clean, fact["clean"].as_f64().expect("a number"), "clean");
            near(traced.corrupted, fact["corrupted"].as_f64().expect("a number"), "corrupted");
            for (kind, table) in &traced.restored {
                let want = numbers(&fact["tables"][kind.name()]);
                assert_eq!(want.len(), table.iter().map(Vec::len).sum::<usize>());
                table.iter().flatten().zip(want).for_each(|(found, want)| near(*found, want, kind.name()));
            }
            let places = RestoredTokens::LastSubject;
            let last = trace(&model, &tokens, &known, &noise, &TracePlan { places, ..plan.clone() }, &NoProgress)
                .expect("traced");
            for ((kind, alone), (_, table)) in last.restored.iter().zip(&traced.restored) {
                let row = if kind.is_severed() { 0 } else { traced.subject.end - 1 };
                assert_eq!(*alone, table[row..=row], "{name}, {prompt}: {} at the subject's last token", kind.name());
            }
            let severed = trace(&model, &tokens, &known, &noise, &published, &NoProgress).expect("traced");
            for (kind, table) in &severed.restored {
                let want = numbers(&fact["severed_next"][kind.name()]);
                table[0].iter().zip(want).for_each(|(found, want)| near(*found, want, "severed as published"));
            }
        }
    }
}

const ADA: [&str; 5] = ["trace", "--prompt", "The people live in Ada Bellini", "--subject", "Ada Bellini"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ADA[..], more].concat()
}

#[test]
fn a_prompt_is_traced_and_drawn() {
    let project = Project::new();
    let run = project.run(&with(&["--out", "figures", "--noise", "0.1"]));
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    insta::assert_snapshot!(run.out());
    let files = Project::files(&project.path("figures"));
    let names: Vec<String> =
        files.iter().map(|(path, _)| path.file_name().expect("a name").to_string_lossy().into()).collect();
    let figures = [
        "average-attention",
        "average-mlp",
        "average-state",
        "fact-prompt-attention",
        "fact-prompt-mlp",
        "fact-prompt-state",
        "layers",
        "severed",
    ];
    let mut wanted: Vec<String> =
        figures.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]).collect();
    wanted.extend(["index.html".to_owned(), "trace.json".to_owned()]);
    wanted.sort();
    assert_eq!(names, wanted);
    let page = project.read("figures/index.html");
    assert_eq!(page.matches("<svg role=\"img\" aria-label=").count(), figures.len());
    assert!(
        !page.contains("http://") || page.matches("http").count() == figures.len(),
        "a page that needs nothing else"
    );
    // The results and the pictures do not depend on the number of threads.
    let again = project.run(&with(&["--out", "again", "--noise", "0.1", "--threads", "1"]));
    assert_eq!(again.code(), Some(0));
    let bytes =
        |listed: Vec<(std::path::PathBuf, Vec<u8>)>| listed.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(bytes(files), bytes(Project::files(&project.path("again"))));
}

#[test]
fn edits_and_files_of_known_facts_are_traced() {
    let project = Project::new();
    let edits = project.run(&["trace", "sao-tome.city", "--format", "json"]).json();
    assert_eq!((&edits["facts"][0]["id"], &edits["effects"]["facts"]), (&"sao-tome.city".into(), &1.into()));
    // The first two records are traced. The third states another answer than the model's, and the prompt of the fourth
    // does not contain its subject.
    let said = project.run(&with(&["--format", "json"])).json()["facts"][0]["answer"].clone();
    let known = serde_json::json!([
        { "prompt": "The people live in Ada Bellini", "subject": "Ada Bellini", "attribute": said },
        { "prompt": "We saw the city of Rome", "subject": "Rome" },
        { "prompt": "The people live in Ada Bellini", "subject": "Ada Bellini", "attribute": "Vienna" },
        { "prompt": "The people live in Oslo", "subject": "Rome", "attribute": "Norway" },
    ]);
    project.write("known.json", &known.to_string());
    let run = project.run(&["trace", "--facts", "known.json", "--window", "2"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("2 of 4 facts"), "{}", run.out());
    assert!(
        run.out().contains("1: the model says something else; 1: the subject is not in the prompt"),
        "{}",
        run.out()
    );
    let json =
        project.run(&["trace", "--facts", "known.json", "--no-severed", "--base", "model", "--format", "json"]).json();
    assert_eq!(json["left_out"].as_array().map(Vec::len), Some(2));
    // A subject of one token at the end of a prompt is the first and the last subject token, and the last token of the
    // prompt.
    let rome = &json["facts"][1];
    assert_eq!(rome["subject_tokens"][1], serde_json::Value::from(rome["tokens"].as_array().map(Vec::len)));
}

#[test]
fn suggested_layers_are_shown_with_traces() {
    let project = Project::new();
    // The layer is neither set nor published.
    project.write("corrigenda.toml", &PROJECT.replace("layer = 1\n", ""));
    let hint = project.run(&["plan"]);
    assert_eq!(hint.code(), Some(2));
    assert!(hint.err().contains("`corrigenda trace --suggest-layer` measures which"), "{}", hint.err());
    let run = project.run(&["trace", "--suggest-layer", "--noise", "0.1"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    insta::assert_snapshot!(run.out());
    let json = project.run(&["trace", "--suggest-layer", "--noise", "0.1", "--format", "json"]).json();
    let suggested = json["suggested"].as_u64().expect("a layer");
    // A build with the suggested layer succeeds, and its figures equal those that the search reported.
    project.write("corrigenda.toml", &PROJECT.replace("layer = 1", &format!("layer = {suggested}")));
    let built = project.run(&["build"]);
    assert_eq!(built.code(), Some(0), "{}", built.whole());
    assert!(!built.err().contains("evaluations"), "its objects are there: {}", built.err());
    let one = project.run(&["trace", "ada.born", "--suggest-layer", "--layers", "1", "--format", "json"]).json();
    let layers = one["layers"].as_array().expect("layers");
    assert_eq!((layers.len(), &layers[0]["layer"], &one["edits"][0]), (1, &1.into(), &"ada.born".into()));
    let beyond = project.run(&["trace", "--suggest-layer", "--layers", "0-9"]);
    assert_eq!(beyond.code(), Some(2));
    assert!(beyond.err().contains("there is no layer 9"), "{}", beyond.err());
}

#[test]
fn layers_are_tried_with_counterfactuals() {
    let project = Project::new();
    let say = |prompt: &str, subject: &str| {
        let run = project.run(&["trace", "--prompt", prompt, "--subject", subject, "--format", "json"]);
        run.json()["facts"][0]["answer"].as_str().expect("an answer").trim().to_owned()
    };
    let known = |subject: &str, relation: &str, start: &str| {
        let prompt = format!("{start} {subject}");
        let attribute = say(&prompt, subject);
        serde_json::json!({ "prompt": prompt, "subject": subject, "attribute": attribute, "relation_id": relation })
    };
    let mut facts = vec![
        known("Ada Bellini", "P1", "The people live in"),
        known("Lisbon", "P1", "I live in"),
        known("Rome", "P2", "We saw the city of"),
    ];
    // Adds another answer of the relation, from a fact that the model does not know.
    facts.push(serde_json::json!({ "prompt": "I live in Oslo", "subject": "Oslo", "attribute": "Vienna", "relation_id": "P1" }));
    project.write("known.json", &serde_json::json!(facts).to_string());
    let run = project.run(&["trace", "--suggest-layer", "--facts", "known.json", "--format", "json", "--limit", "2"]);
    // The only edit converges at no layer, so the exit code is 1 and no layer is suggested.
    assert_eq!((run.code(), &run.json()["suggested"]), (Some(1), &serde_json::Value::Null), "{}", run.whole());
    let json = run.json();
    // The random model answers the second prompt with half a word, and it does not know the answer for Oslo.
    assert_eq!(json["edits"].as_array().map(Vec::len), Some(1), "{facts:?}");
    // The edit has one paraphrase, which is its prompt after a fact of another relation, and the neighbour prompts of
    // its relation.
    let layers = json["layers"].as_array().expect("layers");
    let asked = |what: &str, all: u64| layers.iter().filter(|layer| layer[what]["all"] == all).count();
    assert_eq!(asked("paraphrase", 1), 3, "{layers:?}");
    // No value is found for the edit at any layer, so the edit counts as failed, and no neighbour prompt is run.
    let not_found = layers.iter().filter(|layer| layer["not_found"] == 1).count();
    assert_eq!((not_found, asked("efficacy", 1), asked("unchanged", 0)), (3, 3, 3), "{layers:?}");
    project.write("alone.json", &serde_json::json!(facts[2..3]).to_string());
    let none = project.run(&["trace", "--suggest-layer", "--facts", "alone.json"]);
    assert_eq!(none.code(), Some(2));
    assert!(none.err().contains("none of these facts can be used"), "{}", none.err());
}

#[test]
fn untraceable_facts_are_reported_with_reasons() {
    let project = Project::new();
    project.write("list.json", "[{\"subject\": \"Rome\"}]");
    project.write("empty.json", "[]");
    let long = "word ".repeat(90) + "Rome";
    let before = Project::files(&project.path("model"));
    let cases: [(&[&str], i32, &str); 11] = [
        (&["--prompt", "I live in Rome", "--subject", "Oslo"], 2, "is not in"),
        (&["--prompt", "I live in Rome", "--subject", ""], 2, "is not in"),
        (&["--prompt", &long, "--subject", "Rome"], 2, "the model's context is 64"),
        (&["--prompt", "I live in Rome", "--subject", "Rome", "--answer", "Vienna"], 1, "the model says"),
        (&["--facts", "nowhere.json"], 2, "reading nowhere.json"),
        (&["--facts", "list.json"], 2, "record 0: missing field `prompt`"),
        (&["--facts", "empty.json"], 2, "no fact to trace"),
        (&["nobody"], 2, "no edit has the id `nobody`"),
        (&["--prompt", "I live in Rome", "--subject", "Rome", "--out", "edits"], 2, "edits"),
        (&["--prompt", "I live in Rome", "--subject", "Rome", "--out", "model/figures"], 2, "model"),
        (&["--prompt", "I live in Rome", "--subject", "Rome", "--noise", "m"], 2, "is not a noise level"),
    ];
    for (arguments, code, why) in cases {
        let run = project.run(&[&["trace"], arguments].concat());
        assert_eq!((run.code(), run.out().as_str()), (Some(code), ""), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains(why), "{arguments:?}: {}", run.err());
    }
    assert_eq!(before, Project::files(&project.path("model")));
}
