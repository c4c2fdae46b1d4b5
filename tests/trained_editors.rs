//! Tests `bench train`, `bench trained ls`, and the trained editors in `bench`.

use crate::support::project::Project;

/// Small sizes, so that a training of the tiny model takes less than a second.
const SMALL: [&str; 14] = [
    "--text",
    "texts.txt",
    "--set",
    "texts=20",
    "--set",
    "locality-tokens=16",
    "--set",
    "every=2",
    "--set",
    "batch=3",
    "--set",
    "validation=2",
    "--set",
    "rate=1e-4",
];

/// Returns the records of the people in `names`, as a CounterFact file.
fn records(names: &[&str]) -> String {
    let one = |(index, name): (usize, &&str)| {
        serde_json::json!({
            "case_id": index,
            "requested_rewrite": {
                "prompt": "I live in {}", "relation_id": "P1", "subject": name,
                "target_new": {"str": "Paris", "id": "Q1"}, "target_true": {"str": "Rome", "id": "Q2"},
            },
            "paraphrase_prompts": [format!("The people live in {name}"), format!("We saw {name} in")],
            "neighborhood_prompts": ["I live in Lisbon"],
            "generation_prompts": [],
        })
    };
    serde_json::Value::Array(names.iter().enumerate().map(one).collect()).to_string()
}

const LEARNED: [&str; 10] =
    ["Ada", "Rome", "Paris", "Lisbon", "Oslo", "Vienna", "Madrid", "Berlin", "Hamburg", "Bellini"];

fn project() -> Project {
    let project = Project::new();
    project.write("learned.json", &records(&LEARNED));
    project.write("tested.json", &records(&["Ada Bellini", "Jan Novák", "Ada"]));
    let corpus = std::fs::read_to_string(project.path("corpus.txt")).expect("the corpus");
    let lines: Vec<&str> = corpus.lines().collect();
    let long: Vec<String> = (0..30).map(|start| lines[start..start + 6].join(" ")).collect();
    project.write("texts.txt", &long.join("\n"));
    project
}

fn train(project: &Project, more: &[&str]) -> crate::support::project::Run {
    project.run(&[&["bench"], more, &SMALL].concat())
}

#[test]
fn an_editor_is_trained_listed_and_used() {
    let project = project();
    for editor in ["mend", "ke"] {
        let first = train(&project, &["train", editor, "cf", "learned.json", "--steps", "4", "--format", "json"]);
        assert_eq!(first.code(), Some(0), "{}", first.whole());
        let json = first.json();
        assert_eq!(json["editor"]["name"], format!("{editor}-cf"));
        assert_eq!((&json["editor"]["facts"], &json["stored"]), (&8.into(), &false.into()));
        assert!(json["edit_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{json}");
        let again = train(&project, &["train", editor, "cf", "learned.json", "--steps", "4", "--format", "json"]);
        let again = again.json();
        assert_eq!(
            (&again["stored"], &again["editor"]),
            (&true.into(), &json["editor"]),
            "the second run trains nothing"
        );
    }
    let list = project.run(&["bench", "trained", "ls"]);
    assert!(
        list.out().contains("mend-cf") && list.out().contains("ke-cf") && list.out().contains("of 4"),
        "{}",
        list.out()
    );
    let compare = ["bench", "counterfact", "tested.json", "--editors", "mend-cf,ke-cf", "--generate", "0"];
    let refused = project.run(&compare);
    assert_eq!(refused.code(), Some(2), "{}", refused.whole());
    for name in ["mend-cf", "ke-cf"] {
        let why =
            format!("{name} was trained with 1 of the 3 records under test; the first is record 2 (case 2, \"Ada\")");
        assert!(refused.err().contains(&why), "{}", refused.err());
    }
    let run = project.run(&[&compare[..], &["--seen", "--batch", "2", "--format", "json"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let json = run.json();
    assert_eq!(
        (json["rows"].as_array().map(Vec::len), json["sets"].as_array().map(Vec::len)),
        (Some(9), Some(2)),
        "{json}"
    );
    assert_eq!(json["failed"].as_array().map(Vec::len), Some(0), "{json}");
    assert!(json["trained"][0].as_str().is_some_and(|text| text.contains("trained with 1 of the 3 records")), "{json}");
}

#[test]
fn text_needs_no_records() {
    let project = project();
    for editor in ["mend", "ke"] {
        let run =
            train(&project, &["train", editor, "text", "--steps", "2", "--set", "passages=10", "--set", "tokens=2"]);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        assert!(run.out().contains(&format!("{editor} is trained and stored")), "{}", run.out());
    }
}

#[test]
fn records_can_be_excluded() {
    let project = project();
    project.write("other.json", &records(&["Ada", "Nobody"]));
    let arguments = ["train", "mend", "cf", "learned.json", "--steps", "2", "--without", "other.json"];
    let run = train(&project, &arguments);
    assert!(run.out().contains("1 record; record 0 (case 0): it is in a file of `--without`"), "{}", run.whole());
    let compare = ["bench", "counterfact", "tested.json", "--editors", "mend-cf", "--generate", "0"];
    assert_eq!(project.run(&compare).code(), Some(0), "no record under test was in the training");
    let other = train(&project, &["train", "mend", "cf", "learned.json", "--steps", "3"]);
    assert_eq!(other.code(), Some(0), "{}", other.whole());
    let refused = project.run(&compare);
    assert_eq!(refused.code(), Some(2));
    assert!(
        refused.err().contains("2 trained editors fit") && refused.err().contains("--trained"),
        "{}",
        refused.err()
    );
}

#[test]
fn refused_trainings_state_the_reason_and_store_nothing() {
    let project = project();
    project.write("none.json", "[]");
    project.write("short.txt", "Too short.\nAlso this.\n");
    let no_answers = records(&LEARNED).replace("\"Paris\"", "\"\"");
    project.write("no-answers.json", &no_answers);
    let cases: [(&[&str], &str); 10] = [
        (&["train", "mend", "cf"], "<FILE>"),
        (&["train", "mend", "cf", "nowhere.json"], "nowhere.json"),
        (&["train", "mend", "cf", "none.json"], "none.json: 0 facts can be used for training, at least 5 are needed"),
        (&["train", "mend", "cf", "no-answers.json"], "it has an empty text"),
        (&["train", "mend", "zsre", "learned.json"], "0 facts can be used"),
        (&["train", "mend", "text", "learned.json"], "`text` needs no file with records"),
        (&["train", "mend", "cf", "learned.json", "--text", "short.txt"], "short.txt: 0 lines of at least 30 words"),
        (&["train", "mend", "cf", "learned.json", "--text", "texts.txt", "--set", "lstm=4"], "not a setting of mend"),
        (&["train", "mend", "cf", "learned.json", "--text", "texts.txt", "--set", "rank=0"], "rank must be from 1"),
        (
            &["train", "ke", "cf", "learned.json", "--text", "texts.txt", "--set", "rate=1e30", "--set", "texts=20"],
            "the training cannot continue: step",
        ),
    ];
    for (arguments, why) in cases {
        let run = project.run(&[&["bench"], arguments].concat());
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains(why), "{arguments:?}: {}", run.err());
    }
    let list = project.run(&["bench", "trained", "ls"]);
    assert!(list.out().contains("the store has no trained editor"), "{}", list.out());
    let compare = project.run(&["bench", "counterfact", "tested.json", "--editors", "ke"]);
    assert_eq!(compare.code(), Some(2));
    assert!(compare.err().contains("run `corrigenda bench train ke text`"), "{}", compare.err());
}
