//! Compares the benchmark's metrics with NLTK and scikit-learn, and tests `bench`.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::Isa;
use corrigenda::behaviour::damage::{Neutral, PrefixTokens, damage, damage_after_prefix};
use corrigenda::model::{Model, Tokens};
use corrigenda::research::bench::metrics::consistency::TfIdf;
use corrigenda::research::bench::metrics::fluency::entropy;
use corrigenda::research::bench::metrics::words::words;
use serde::Deserialize;

use crate::support::project::Project;
use crate::support::tiny;

/// The content of golden/bench.json, written by tests/reference/bench.py.
#[derive(Deserialize)]
struct Golden {
    words: Vec<Text>,
    vocabulary: BTreeMap<String, usize>,
    frequencies: Vec<f64>,
    cosines: Vec<Pair>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    words: Vec<String>,
    entropy: Option<f64>,
}

#[derive(Deserialize)]
struct Pair {
    one: String,
    other: String,
    cosine: f64,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/golden/bench.json");
    serde_json::from_slice(&std::fs::read(path).expect("the golden file")).expect("its schema")
}

#[test]
fn words_and_entropies_agree_with_nltk() {
    for one in golden().words {
        assert_eq!(words(&one.text), one.words, "{:?}", one.text);
        match (entropy(&one.text), one.entropy) {
            (Some(found), Some(want)) => assert!((found - want).abs() < 1e-12, "{:?}: {found} {want}", one.text),
            (found, want) => assert_eq!(found, want, "{:?}", one.text),
        }
    }
}

#[test]
fn cosines_agree_with_scikit_learn() {
    let golden = golden();
    let weights = TfIdf::new(golden.vocabulary, golden.frequencies).expect("they belong together");
    for Pair { one, other, cosine } in &golden.cosines {
        let found = weights.cosine(one, other);
        assert!((found - cosine).abs() < 1e-12, "{one:?} {other:?}: {found} {cosine}");
    }
}

const RECORDS: &str = r#"[
{"case_id": 1, "requested_rewrite": {"prompt": "I live in {}", "relation_id": "P1", "subject": "Ada Bellini",
 "target_new": {"str": "Paris", "id": "Q1"}, "target_true": {"str": "Rome", "id": "Q2"}},
 "paraphrase_prompts": ["The people live in Ada Bellini"], "neighborhood_prompts": ["I live in Lisbon", "I live in Oslo"],
 "generation_prompts": ["I live in", "We saw the"]},
{"case_id": 2, "requested_rewrite": {"prompt": "We saw the city of {}", "relation_id": "P1", "subject": "Rome",
 "target_new": {"str": "Vienna", "id": "Q3"}, "target_true": {"str": "Paris", "id": "Q1"}},
 "paraphrase_prompts": ["I live in Rome"], "neighborhood_prompts": ["I live in Lisbon"], "generation_prompts": []},
{"case_id": 3, "requested_rewrite": {"prompt": "no place", "subject": "Rome", "target_new": {"str": "a"},
 "target_true": {"str": "b"}}, "paraphrase_prompts": [], "neighborhood_prompts": []}
]"#;

const ALL: &str =
    "rome,rome-closed,rome-released,rome-identity,rome-sequential,memit,emmet,alphaedit,ft,ft-l,ft-bf,ultraedit,kn,ike";

fn project() -> Project {
    let project = Project::new();
    project.write("records.json", RECORDS);
    project
}

/// Returns the result rows of a `bench` run without the times and the memory, which differ between runs.
fn rows(json: &serde_json::Value) -> Vec<serde_json::Value> {
    let mut rows = json["rows"].as_array().expect("rows").clone();
    rows.extend(json["sets"].as_array().expect("sets").iter().cloned());
    for row in &mut rows {
        row["seconds"].take();
        row["memory"].take();
    }
    rows
}

#[test]
fn every_editor_gives_reproducible_numbers() {
    let project = project();
    let run = |more: &[&str]| {
        let arguments = ["bench", "counterfact", "records.json", "--editors", ALL, "--batch", "2", "--format", "json"];
        project.run(&[&arguments, more].concat())
    };
    let first = run(&["--threads", "1"]);
    assert_eq!(first.code(), Some(0), "{}", first.whole());
    let json = first.json();
    assert_eq!((&json["records"], json["left_out"].as_array().map(Vec::len)), (&serde_json::json!([0, 1]), Some(1)));
    // For each of the two records: the base and fourteen editors. For the set of both records: all editors but kn.
    assert_eq!((rows(&json).len(), json["sets"].as_array().map(Vec::len)), (30 + 13, Some(13)), "{json}");
    assert_eq!(rows(&run(&["--threads", "3"]).json()), rows(&json));
    let magnitude = |editor: &str| {
        let row = json["rows"].as_array().expect("rows").iter().find(|row| row["editor"] == editor && row["case"] == 1);
        row.expect("a row")["measured"]["likelier"]["rewrite"]["magnitude"].as_f64().expect("a number")
    };
    let base = json["rows"][0]["measured"]["likelier"]["rewrite"]["magnitude"].as_f64().expect("a number");
    for editor in ["rome", "rome-identity", "rome-sequential", "memit", "emmet", "ft"] {
        assert!(magnitude(editor) > base + 0.01, "{editor}: {} {base}", magnitude(editor));
    }
    assert_eq!(magnitude("rome"), magnitude("rome-sequential"), "one edit after none is an edit alone");
    for editor in ["rome-closed", "ft"] {
        assert_ne!(magnitude("rome-identity"), magnitude(editor), "{editor}");
        assert_ne!(magnitude("ft-bf"), magnitude(editor), "{editor}");
    }
    assert!(["ft-bf", "ultraedit", "ike"].iter().all(|editor| magnitude(editor) != base));
    assert!(json["rows"][0]["fluency"].is_number() && json["rows"][1]["fluency"].is_null(), "{}", json["rows"]);
}

/// One batch of all records is a set, and the first batch is measured as if it were alone.
#[test]
fn batches_are_measured_after_each_and_at_the_end() {
    let project = project();
    let arguments = ["bench", "counterfact", "records.json", "--editors", ALL, "--batch", "2", "--sequence", "1,2"];
    let more = ["--said", "--generate", "0", "--resume", "rows.jsonl"];
    let run = project.run(&[&arguments[..], &more, &["--format", "json", "--out", "charts"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let json = run.json();
    let all = json["sequences"].as_array().expect("sequences");
    let of = |batch: usize, editor: &str| {
        let found = all.iter().find(|one| one["batch"] == batch && one["after-all"]["editor"] == editor);
        found.unwrap_or_else(|| panic!("{editor} in batches of {batch}"))
    };
    for set in json["sets"].as_array().expect("sets") {
        let editor = set["editor"].as_str().expect("a name");
        for part in ["measured", "said"] {
            let whole = of(2, editor);
            assert_eq!(whole["after-each"][part], set[part], "{editor}: {part}");
            assert_eq!(whole["after-all"][part], set[part], "{editor}: {part}");
            assert_eq!(of(1, editor)["after-all"][part].as_array().map(Vec::len), Some(2), "{editor}: {part}");
        }
        let rows = json["rows"].as_array().expect("rows");
        let alone = rows.iter().find(|row| row["editor"] == editor).expect("the first record");
        assert_eq!(of(1, editor)["after-each"]["measured"][0], alone["measured"], "{editor}");
    }
    let set = json["sets"].as_array().expect("sets").iter().find(|set| set["editor"] == "rome-sequential");
    assert_eq!(of(1, "rome-sequential")["after-all"]["measured"], set.expect("a set")["measured"]);
    for editor in ["rome-closed", "memit", "ft"] {
        let one = of(1, editor);
        assert_ne!(one["after-each"]["measured"][0], one["after-all"]["measured"][0], "{editor}");
        assert!(one["after-all"]["damage"].is_array() && one["after-each"]["damage"].is_null(), "{one}");
    }
    for name in ["after-each.md", "after-all.md"] {
        assert!(project.read(&format!("charts/{name}")).contains("rome × 2 by 1"), "{name}");
    }
    let rows = project.read("rows.jsonl");
    let again = project.run(&[&arguments[..], &more].concat());
    assert_eq!(project.read("rows.jsonl"), rows);
    assert!(again.out().contains("after all batches") && again.out().contains("memit × 2 by 1"), "{}", again.out());
}

#[test]
fn rome_with_the_identity_needs_no_statistics() {
    let project = project();
    let run = |editor| {
        let run = project.run(&["bench", "counterfact", "records.json", "--editors", editor, "--generate", "0"]);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        project.run(&["store", "ls"]).out().contains("statistics")
    };
    assert_eq!((run("rome-identity"), run("rome-closed")), (false, true));
}

#[test]
fn facts_in_the_context_are_part_of_every_prompt() {
    let project = project();
    let arguments = ["bench", "counterfact", "records.json", "--editors", "ike", "--batch", "1,2", "--format", "json"];
    let json = project.run(&arguments).json();
    let measured = |editor: serde_json::Value| {
        let row = json["rows"].as_array().expect("rows").iter().find(|row| row["editor"] == editor && row["case"] == 1);
        let row = row.expect("a row");
        (row["measured"]["likelier"].clone(), row["fluency"].clone())
    };
    let ((edited, text), (base, base_text)) = (measured("ike".into()), measured(serde_json::Value::Null));
    for part in ["rewrite", "paraphrase", "neighbour"] {
        assert_ne!(edited[part]["magnitude"], base[part]["magnitude"], "{part}");
    }
    assert_ne!(text, base_text);
    let damage = &json["sets"][0]["damage"];
    assert!(damage[0].as_f64().is_some_and(|divergence| divergence > 1e-6), "{damage}");
    // The model reads 64 tokens, fewer than four facts have.
    let mut records: Vec<serde_json::Value> = serde_json::from_str(RECORDS).expect("records");
    let record = records[0].clone();
    records.extend(["Lisbon", "Oslo", "Paris", "Vienna"].map(|subject| {
        let mut record = record.clone();
        record["requested_rewrite"]["subject"] = subject.into();
        record
    }));
    project.write("records.json", &serde_json::to_string(&records).expect("records"));
    let run =
        project.run(&["bench", "counterfact", "records.json", "--editors", "ike,ft", "--batch", "6", "--batch-only"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.whole().contains("ike: 6 facts and a prompt after them are"), "{}", run.whole());
    assert!(run.out().contains("ft × 6") && !run.out().contains("ike × 6"), "{}", run.out());
}

/// Compares the damage with the logits of the same model on the prefix and the document together.
#[test]
fn damage_after_a_prefix_is_that_of_one_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let model = Model::open(folder.path(), Isa::detect()).expect("the tiny model opens");
    let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
    let path = folder.path().join("neutral.txt");
    std::fs::write(&path, "We saw the city of Rome. ".repeat(20)).expect("the text");
    let neutral = Neutral::read(&path, &tokens, tiny::POSITIONS).expect("a neutral text");
    let document = neutral.documents()[0].clone();
    let measure = |ids: &[u32], special| {
        damage_after_prefix(&model, &model, PrefixTokens { ids, special }, &neutral).expect("finite")
    };
    assert_eq!(measure(&[], 0), damage(&model, &model, &neutral).expect("finite"));
    // The first token of the prefix plays the role of a special token that starts the document too.
    let prefix = [&document[..1], &[7, 8, 9]].concat();
    for special in [0, 1] {
        let length = (document.len() - 1).min(tiny::POSITIONS - prefix.len() + special);
        let read = [&prefix[..], &document[special..length]].concat();
        assert_eq!(read.len(), tiny::POSITIONS, "the document is cut");
        let logits = model.logits(&[&read], &[length]).swap_remove(0);
        let nll = |(row, label): (&[f32], &u32)| {
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            total.ln() - f64::from(row[*label as usize])
        };
        let sum: f64 = logits.chunks(tiny::VOCABULARY).zip(&document[1..]).map(nll).sum();
        let (found, want) = (measure(&prefix, special), (sum / length as f64).exp());
        assert_eq!((found.tokens, found.divergence > 1e-6), (length, true));
        assert!((found.perplexity_after / want - 1.0).abs() < 1e-5, "{} {want}", found.perplexity_after);
    }
}

#[test]
fn breadth_first_training_needs_an_end_token() {
    let project = project();
    let config = project.read("model/config.json");
    let without = config.replace("\"eos_token_id\": 0, ", "");
    assert_ne!(without, config);
    project.write("model/config.json", &without);
    let run = project.run(&["bench", "counterfact", "records.json", "--editors", "ft,ft-bf"]);
    assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{}", run.whole());
    assert!(run.err().contains("ft-bf: config.json of the model has no usable `eos_token_id`"), "{}", run.err());
}

#[test]
fn a_run_resumes_and_writes_charts() {
    let project = project();
    let arguments =
        ["bench", "counterfact", "records.json", "--editors", "rome,ft", "--batch", "1,all", "--resume", "rows.jsonl"];
    let run = project.run(&[&arguments[..], &["--out", "charts"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("not converged") && run.out().contains("rome × 2"), "{}", run.out());
    let kept = project.read("rows.jsonl");
    let again = project.run(&arguments);
    assert_eq!((again.code(), project.read("rows.jsonl") == kept), (Some(0), true), "{}", again.whole());
    let other = project.run(&[&arguments[..], &["--seed", "2"]].concat());
    assert!(other.err().contains("rows of another run"), "{}", other.whole());
    // With another neutral text the damage differs, so the stored rows are not used.
    project.write("neutral.txt", "We saw the city.\n");
    let toml = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("{toml}\n[test]\nneutral = \"neutral.txt\"\n"));
    let other_text = project.run(&arguments);
    assert!(other_text.err().contains("rows of another run"), "{}", other_text.whole());
    project.write("corrigenda.toml", &toml);
    // With other neighbour prompts the figures differ, so the stored rows are not used. Two records with the same case
    // id are two records.
    project.write("records.json", &RECORDS.replace("I live in Oslo", "I live in Rome"));
    let other_prompts = project.run(&arguments);
    assert!(other_prompts.err().contains("rows of another run"), "{}", other_prompts.whole());
    project.write("records.json", &RECORDS.replace("\"case_id\": 2", "\"case_id\": 1"));
    let twice = project.run(&["bench", "counterfact", "records.json", "--editors", "ft", "--format", "json"]).json();
    assert_eq!(twice["rows"].as_array().map(Vec::len), Some(4), "{twice}");
    project.write("records.json", RECORDS);
    for name in ["scores.svg", "trade.png", "curve-score.svg", "alone.md", "together.md", "index.html", "bench.json"] {
        assert!(project.path("charts").join(name).is_file(), "{name}");
    }
    let narrow = project.run_with(&arguments, &[("COLUMNS", "60")]);
    assert!(narrow.out().lines().all(|line| line.chars().count() <= 60), "{}", narrow.out());
}

#[test]
fn zsre_and_published_settings_run() {
    let project = project();
    let zsre = r#"[{"subject": "Rome", "src": "We saw the city of Rome", "rephrase": "I live in Rome", "answers": ["Vienna"],
        "loc": "nq question: who lives in Lisbon", "loc_ans": "the people"}]"#;
    project.write("zsre.json", zsre);
    let run = project.run(&["bench", "zsre", "zsre.json", "--editors", "rome,ft,kn", "--published"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("specificity"), "{}", run.out());
    let sets = project.run(&["bench", "zsre", "zsre.json", "--batch", "1", "--batch-only"]);
    assert_eq!(sets.code(), Some(0), "{}", sets.whole());
    assert!(sets.out().contains("specificity") && !sets.out().contains("NS"), "{}", sets.out());
    let known = project.run(&["bench", "zsre", "zsre.json", "--known"]);
    assert_eq!(known.code(), Some(2), "{}", known.whole());
    assert!(known.err().contains("so `--known` cannot be used"), "{}", known.err());
}

/// Returns the first record, and the same record with other words after its subject, which do not change the key.
fn with_one_key() -> String {
    let mut records: Vec<serde_json::Value> = serde_json::from_str(RECORDS).expect("records");
    let mut other = records[0].clone();
    other["requested_rewrite"]["prompt"] = "I live in {} and".into();
    records[2] = records[0].clone();
    records.push(other);
    serde_json::to_string(&records).expect("records")
}

#[test]
fn failed_edits_do_not_stop_a_run() {
    let project = project();
    project.write("records.json", &with_one_key());
    let arguments = ["bench", "counterfact", "records.json", "--editors", "rome-closed,ft,ft", "--batch", "2,3,all"];
    let kept = ["--resume", "rows.jsonl"];
    let run = project.run(&[&arguments[..], &kept, &["--format", "json", "--out", "charts"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let json = run.json();
    let sets: Vec<_> =
        json["sets"].as_array().expect("sets").iter().map(|one| (&one["editor"], &one["size"])).collect();
    assert_eq!(serde_json::json!(sets), serde_json::json!([["rome-closed", 2], ["ft", 2], ["ft", 3]]));
    assert_eq!(
        json["left_out"],
        serde_json::json!([{ "record": 2, "case_id": 1, "why": "it has the prompt of record 0" }])
    );
    let failed = json["failed"].as_array().expect("failures");
    assert_eq!((failed.len(), &failed[0]["editor"], &failed[0]["size"]), (1, &"rome-closed".into(), &3.into()));
    assert!(failed[0]["why"].as_str().is_some_and(|why| why.contains("have the same key")), "{failed:?}");
    assert!(project.read("charts/together.md").contains("Failed: rome-closed, 1 edit; 3 at once: "));
    let batches =
        ["bench", "counterfact", "records.json", "--editors", "rome-closed", "--sequence", "3", "--batch-only"];
    let batches = project.run(&batches);
    assert!(batches.out().contains("rome-closed, 1 edit; 3 in batches of 3: "), "{}", batches.whole());
    let rows = project.read("rows.jsonl");
    let again = project.run(&[&arguments[..], &kept].concat());
    assert_eq!(project.read("rows.jsonl"), rows, "what failed is not tried again");
    assert!(again.out().contains("failed") && again.out().contains("1 record; record 2 (case 1)"), "{}", again.out());
}

#[test]
fn refused_runs_state_the_reason() {
    let project = project();
    project.write("none.json", "[]");
    let cases: [(&[&str], &str); 14] = [
        (&["nowhere.json"], "nowhere.json"),
        (&["none.json"], "there is no record to edit"),
        (&["records.json", "--batch", "9"], "`--batch 9` is more than 2 records"),
        (&["records.json", "--sequence", "9"], "`--sequence 9` is more than 2 records"),
        (&["records.json", "--batch-only"], "<--batch <N>|--sequence <N>>"),
        (&["records.json", "--batch", "0"], "a number of records, or `all`"),
        (&["records.json", "--set", "rome.steps=3"], "rome.refine-steps: steps of refinement"),
        (&["records.json", "--editors", "ft", "--set", "ft.layer=99"], "ft.layer: "),
        (&["records.json", "--editors", "ft-bf", "--set", "ft-bf.layer=3"], "ft-bf.layer: "),
        (&["records.json", "--editors", "ultraedit", "--set", "ultraedit.layer=3"], "ultraedit.layer: "),
        (&["records.json", "--set", "ft-bf.epochs=0.5"], "ft-bf.epochs must be a whole number"),
        (&["records.json", "--set", "rome.refine-steps=2.5"], "rome.refine-steps must be a whole number"),
        (&["records.json", "--references", "nowhere"], "tfidf_vocab.json"),
        (&["records.json", "--out", "model/x"], "model"),
    ];
    for (arguments, why) in cases {
        let run = project.run(&[&["bench", "counterfact"], arguments].concat());
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains(why), "{arguments:?}: {}", run.err());
    }
}
