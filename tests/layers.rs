//! Tests the search for the layer at which edits work best: an interrupted run resumes, a layer at which no edit works
//! is skipped, and the search narrows the range of layers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use corrigenda::behaviour::ask::{BaselineRun, Inquiry, ask};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::safetensors::{Header, TensorData, write};
use serde_json::Value;

use crate::support::project::{PROJECT, Project, binary};
use crate::support::tiny;

const SUGGEST: [&str; 4] = ["trace", "--suggest-layer", "--noise", "0.1"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SUGGEST[..], more].concat()
}

#[test]
fn an_interrupted_layer_search_resumes() {
    let fresh = Project::new();
    let want = fresh.run(&SUGGEST);
    assert_eq!(want.code(), Some(0), "{}", want.whole());
    let project = Project::new();
    let mut command = Command::new(binary());
    command.current_dir(project.path("")).args(SUGGEST).env("CORRIGENDA_CACHE_DIR", project.cache());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // The process is killed as soon as its first row is printed.
    let row = lines.map_while(Result::ok).find(|line| line.starts_with("layer 0: efficacy "));
    let _ = child.kill();
    child.wait().expect("it ends");
    let row = row.expect("a row of layer 0");
    let run = project.run(&SUGGEST);
    assert_eq!((run.code(), run.out()), (Some(0), want.out()), "{}", run.whole());
    let kept = format!("{}; read from the store", row.split(';').next().expect("a row"));
    assert!(run.err().contains(&kept) && !run.err().contains("documents ("), "{row}: {}", run.err());
    // A second run gives the same output, byte for byte, and computes nothing again.
    let json = project.run(&with(&["--format", "json"]));
    let again = project.run(&with(&["--format", "json"]));
    assert_eq!(json.out(), again.out());
    assert_eq!(again.err().matches("; read from the store").count(), 3, "{}", again.err());
    for work in ["documents (", "to compile", "edits to try ("] {
        assert!(!again.err().contains(work), "{work}: {}", again.err());
    }
    // With another expectation the rows are computed again, but the compiled values are reused.
    project.replace("edits/people.toml", "I live in Lisbon", "I live in Oslo");
    let other = project.run(&SUGGEST);
    assert!(!other.err().contains("read from the store") && !other.err().contains("to compile"), "{}", other.err());
    // A damaged stored row is computed again.
    for entry in Project::files(&project.cache().join("v1/reports")) {
        std::fs::write(entry.0, "rubbish").expect("the file is written");
    }
    let healed = project.run(&with(&["--format", "json"]));
    assert_eq!(healed.code(), Some(0), "{}", healed.whole());
    assert_eq!(healed.json()["layers"], project.run(&with(&["--format", "json"])).json()["layers"]);
}

#[test]
fn a_layer_without_first_values_is_skipped() {
    let project = Project::new();
    project.replace(
        "corrigenda.toml",
        "{ rate = 0.2, steps = 200 }, { rate = 0.05, steps = 400 }",
        "{ rate = 0.2, steps = 2 }",
    );
    let edit = |index: usize| {
        let subject = ["Oslo", "Lisbon", "Vienna", "Paris", "Rome"][index % 5];
        let prompt = ["I live in {}", "The people live in {}"][index / 5];
        format!("[[edit]]\nid = \"e{index}\"\nsubject = \"{subject}\"\nprompt = \"{prompt}\"\ntarget = \"Italy\"\n\n")
    };
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    project.write("edits/people.toml", &format!("format = 1\n\n{}", (0..10).map(edit).collect::<String>()));
    project.replace("corrigenda.toml", "[statistics]", "[link]\nridge = 0.1\n\n[statistics]");
    let run = project.run(&SUGGEST);
    assert_eq!(run.code(), Some(1), "{}", run.whole());
    let words = "layer 0: 10 edits (stopped: none of the first 8 has one)";
    assert!(run.out().contains(words) && run.out().contains("suggested  none"), "{}", run.out());
    assert_eq!(run.err().matches("edits to compile (8)").count(), 3, "{}", run.err());
    let json = project.run(&with(&["--format", "json"])).json();
    for layer in json["layers"].as_array().expect("layers") {
        let efficacy = serde_json::json!({ "met": 0, "all": 10 });
        assert_eq!((&layer["not_found"], &layer["untried"], &layer["efficacy"]), (&10.into(), &2.into(), &efficacy));
    }
    // The store also records the edits without a value, so a run with fewer edits compiles nothing.
    let fewer = project.run(&with(&["e0", "e1", "--layers", "1"]));
    assert_eq!(fewer.code(), Some(1), "{}", fewer.whole());
    assert!(!fewer.err().contains("to compile") && fewer.out().contains("layer 1: 2 edits;"), "{}", fewer.whole());
}

#[test]
fn answers_of_the_base_are_computed_once() {
    let project = Project::new();
    let base = Model::open(&project.path("model"), Isa::detect()).expect("the model opens");
    let tokens = Tokens::open(&project.path("model"), base.spec().vocabulary).expect("its tokenizer opens");
    let limit = base.spec().max_positions;
    let inquiry = |index: usize| {
        let prompt = ["I live in Rome", "The people live in Oslo", "We saw"][index % 3];
        let answers = ["Paris", "Vienna"].into_iter().take(index % 4);
        Inquiry::new(&tokens, prompt.into(), answers, limit).expect("it can be asked")
    };
    // 50 inquiries need more than one batch.
    let inquiries: Vec<Inquiry> = (0..50).map(inquiry).collect();
    let before = BaselineRun::of(&base, &inquiries);
    for scale in [0.5, 2.0] {
        let weight = base.checkpoint().edited(1).to_f32().iter().map(|x| x * scale).collect();
        let after = base.with_edited(1, weight);
        assert!(before.against(&after, &inquiries) == ask(&base, &after, &inquiries), "{scale}");
    }
    assert!(before.against(&base, &[]).is_empty() && ask(&base, &base, &[]).is_empty());
}

/// Replaces the tiny model by a model with `layers` layers, which repeat the layers of the tiny model.
fn deepen(project: &Project, layers: usize) {
    let bytes = tiny::editable(|_, _| {});
    let header = Header::parse(bytes.len() as u64, &bytes).expect("a header");
    let mut tensors = Vec::new();
    for (tensor, info) in &header.tensors {
        let data = &bytes[info.start as usize..info.end as usize];
        let mut put =
            |name: String| tensors.push(TensorData { name, dtype: info.dtype, shape: info.shape.clone(), data });
        match tensor.strip_prefix("transformer.h.").and_then(|rest| rest.split_once('.')) {
            None => put(tensor.clone()),
            Some((own, rest)) => {
                let own: usize = own.parse().expect("a layer");
                (own..layers).step_by(tiny::LAYERS).for_each(|layer| put(format!("transformer.h.{layer}.{rest}")));
            }
        }
    }
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    tiny::write_model_with(&project.path("model"), &write(&tensors, &header.metadata));
    let config: Value = serde_json::from_str(&project.read("model/config.json")).expect("a configuration");
    let mut config = config;
    config["n_layer"] = layers.into();
    project.write("model/config.json", &config.to_string());
}

#[test]
fn layers_are_tried_from_coarse_to_fine() {
    let project = Project::new();
    deepen(&project, 10);
    project
        .write("corrigenda.toml", &PROJECT.replace("steps = 200", "steps = 30").replace("steps = 400", "steps = 30"));
    let run = project.run(&with(&["--format", "json"]));
    let json = run.json();
    let rounds = json["rounds"].as_array().expect("rounds");
    assert_eq!(rounds[0], serde_json::json!({ "layers": [1, 3, 5, 7, 9], "around": [] }), "{}", run.whole());
    let tried = |answer: &Value| -> Vec<u64> {
        let layers = answer["layers"].as_array().expect("layers");
        layers.iter().map(|one| one["layer"].as_u64().expect("a layer")).collect()
    };
    let mut all: Vec<u64> = rounds
        .iter()
        .flat_map(|round| round["layers"].as_array().expect("layers"))
        .map(|layer| layer.as_u64().expect("a layer"))
        .collect();
    all.sort_unstable();
    assert_eq!(tried(&json), all, "a row for every layer, in their order");
    // The statistics of the layers of one round are summed in one pass.
    assert!(run.err().contains("keys of 5 layers from 1 to 9, documents"), "{}", run.err());
    let whole = project.run(&with(&["--layers", "0-9", "--format", "json"]));
    assert_eq!((tried(&whole.json()), whole.json()["rounds"].as_array().map(Vec::len)), ((0..10).collect(), Some(1)));
    assert_eq!(whole.err().matches("; read from the store").count(), all.len(), "{}", whole.err());
    // The figures of a layer do not depend on the order in which the search tried the layers.
    for one in json["layers"].as_array().expect("layers") {
        assert!(whole.json()["layers"].as_array().expect("layers").contains(one), "{one}");
    }
}

#[test]
fn the_last_layer_is_tried_without_a_search() {
    let project = Project::new();
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    project.replace("edits/people.toml", "live in {}\"", "live in {} and\"");
    let run = project.run(&with(&["--layers", "2"]));
    assert_eq!(run.code(), Some(1), "no edit holds there: {}", run.whole());
    assert!(!run.err().contains("evaluations\n") && !run.err().contains("REFUSED"), "{}", run.err());
    assert!(run.out().contains("layer 2: "), "{}", run.whole());
}
