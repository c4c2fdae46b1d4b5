//! Tests `[[task]]`: both models answer the questions of a task, and the fall of the accuracy has a limit.

use std::path::Path;

use corrigenda::NoProgress;
use corrigenda::behaviour::cache::MeasurementCache;
use corrigenda::behaviour::task::compare::{TaskModel, compare};
use corrigenda::behaviour::task::read::read;
use corrigenda::behaviour::task::{EncodedTask, TaskResult};
use corrigenda::behaviour::{Question, scores};
use corrigenda::model::{Model, Tokens};
use corrigenda::project::{TaskConfig, TaskForm};
use corrigenda::{Isa, Sources};

use crate::support::project::Project;
use crate::support::{counterfact_model, shared};

/// Questions about the edited prompts of the tiny project. No answer is the new one.
const QUESTIONS: &str = r#"{"question": "I live in Ada Bellini", "choices": ["Rome", "Paris"], "answer": "Rome"}
{"question": "I live in Ada Bellini", "choices": ["Vienna", "Paris"], "answer": 0}
{"question": "The people live in São Tomé", "choices": ["Lisbon", "Paris"], "answer": "A"}
{"question": "The people live in São Tomé", "choices": ["Paris", "Rome"], "answer": "B"}
{"question": "We saw the city of Rome", "choices": ["Oslo", "Vienna"], "answer": "Oslo"}
{"question": "We saw the city of Rome", "choices": ["Vienna", "Paris"], "answer": "Paris"}
"#;

/// Returns a built project with a task and with settings under `[test]`.
fn tested(settings: &str) -> Project {
    let project = Project::new();
    project.write("places.jsonl", QUESTIONS);
    let text = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("{text}\n[test]\n{settings}\n[[task]]\nfile = \"places.jsonl\"\n"));
    project.run(&["build", "-q"]);
    project
}

/// Returns the entries of the store that contain measurements.
fn measured(project: &Project) -> usize {
    Project::files(&project.cache().join("v1/measured")).len()
}

#[test]
fn a_test_compares_both_models_on_tasks() {
    let project = tested("");
    let run = project.run(&["test", "--no-damage"]);
    insta::assert_snapshot!("tasks", run.whole());
    let report = project.run(&["test", "--no-damage", "--format", "json"]).json();
    let task = &report["tasks"][0];
    assert_eq!((&task["name"], &task["questions"], &task["left-out"]), (&"places".into(), &6.into(), &0.into()));
    assert_eq!((&task["protocol"], &task["pass"]), (&"likelihood, sum".into(), &true.into()));
    let share = |key: &str| task[key].as_f64().expect("a number");
    assert!(share("after") < share("before"), "{task}");
    let changed = share("became-right") - share("became-wrong");
    assert!((share("difference") - changed / 6.0).abs() < 1e-12);
    for (format, wanted) in [("markdown", "#### Tasks"), ("html", "<h2>Tasks"), ("junit", "corrigenda.tasks")] {
        let shown = project.run(&["test", "--no-damage", "--format", format]).out();
        assert!(shown.contains(wanted) && shown.contains("places"), "{format}: {shown}");
    }
    let diff = project.run(&["diff", "base", "worktree", "--no-damage", "--tokens", "0"]);
    assert!(diff.out().contains("plain, likelihood, sum"), "{}", diff.whole());
    for verb in [&["test"][..], &["diff", "base", "worktree", "--tokens", "0"]] {
        let skipped = project.run(&[verb, &["--no-damage", "--no-tasks"]].concat());
        assert!(!skipped.out().contains("likelihood, sum"), "{}", skipped.whole());
    }
    let only = project.run(&["test", "--only", "ada.born"]);
    assert!(!only.out().contains("likelihood, sum"), "{}", only.whole());
}

#[test]
fn the_answers_of_the_base_are_reused() {
    let project = tested("");
    project.run(&["test", "--no-damage"]);
    let first = measured(&project);
    let again = project.run(&["test", "--no-damage"]);
    assert_eq!((again.code(), measured(&project)), (project.run(&["test", "--no-damage"]).code(), first));
    // A task with other right answers needs no new answer of a model.
    project.replace("places.jsonl", "\"answer\": \"B\"", "\"answer\": \"A\"");
    project.run(&["test", "--no-damage"]);
    assert_eq!(measured(&project), first);
    // One more question makes another group of questions, which both models are asked.
    project.write("places.jsonl", &format!("{QUESTIONS}{}", QUESTIONS.lines().next().expect("a line")));
    project.run(&["test", "--no-damage"]);
    assert_eq!(measured(&project), first + 2);
}

#[test]
fn a_fall_of_the_accuracy_has_a_limit() {
    let project = tested("max-task-loss = 0.01");
    let run = project.run(&["test", "--no-damage"]);
    assert_eq!(run.code(), Some(1));
    insta::assert_snapshot!("a_task_that_falls", run.whole());
    for format in ["sarif", "github", "junit", "json"] {
        let shown = project.run(&["test", "--no-damage", "--format", format]);
        assert_eq!(shown.code(), Some(1), "{format}");
        assert!(shown.out().contains("of task `places` falls from") || format == "junit", "{format}: {}", shown.out());
    }
    let report = project.run(&["test", "--no-damage", "--format", "json"]).json();
    assert_eq!((&report["tasks"][0]["pass"], &report["tasks"][0]["limit"]), (&false.into(), &0.01.into()));
    let skipped = project.run(&["test", "--no-damage", "--no-tasks"]);
    assert!(skipped.out().contains("and their limit was not checked"), "{}", skipped.whole());
    assert!(!skipped.err().contains("max-task-loss"), "{}", skipped.whole());
    // `[test]` allows nothing that the policy forbids, and the other way round.
    project.replace("corrigenda.toml", "max-task-loss = 0.01", "max-task-loss = 1");
    assert!(!project.run(&["test", "--no-damage"]).err().contains("max-task-loss"));
    let text = project.read("corrigenda.toml");
    project.write("corrigenda.toml", &format!("{text}\n[policy]\nmax-task-loss = 0.01\n"));
    let denied = project.run(&["test", "--no-damage"]);
    assert!(denied.code() == Some(1) && denied.err().contains("the policy"), "{}", denied.whole());
    let build = project.run(&["build"]);
    assert_eq!(build.code(), Some(1), "{}", build.whole());
    assert!(build.err().contains("error[max-task-loss]: the accuracy of task `places` falls"), "{}", build.whole());
    project.write(
        "corrigenda.toml",
        &format!("{text}\n[policy]\nmax-task-loss = 0.01\nlevels.max-task-loss = \"warn\"\n"),
    );
    for verb in ["build", "test"] {
        let warned = project.run(&[verb]);
        assert!(warned.err().contains("warning[max-task-loss]"), "{verb}: {}", warned.whole());
    }
    project.write("corrigenda.toml", &format!("{text}\n[policy]\nmax-task-loss = 1\n"));
    assert_eq!(project.run(&["build"]).code(), Some(0));
}

#[test]
fn every_mistake_of_all_tasks_is_reported() {
    let project = tested("");
    let text = project.read("corrigenda.toml");
    let more = "[[task]]\nfile = \"none.jsonl\"\n[[task]]\nfile = \"bytes.jsonl\"\n[[task]]\nfile = \"empty.jsonl\"\n\
        [[task]]\nfile = \"long.jsonl\"\n[[task]]\nfile = \"q.csv\"\nform = \"mmlu\"\n";
    project.write("corrigenda.toml", &format!("{text}\n{more}"));
    project.write(
        "places.jsonl",
        &format!("\u{feff}{QUESTIONS}{{\"question\": \"a\", \"choices\": [\"b\"]}}\nnot JSON\n"),
    );
    std::fs::write(project.path("bytes.jsonl"), b"{\"prompt\": \"\xff\"}\n").expect("the file is written");
    project.write("empty.jsonl", "\n");
    project.write("long.jsonl", &format!("{{\"prompt\": \"{}\", \"answer\": \"Rome\"}}\n", "Rome ".repeat(400)));
    project.write("q.csv", "q,a,b,c,d,E\nq,a,b,c\n");
    let run = project.run(&["test"]);
    assert_eq!(run.code(), Some(2));
    insta::assert_snapshot!("bad_tasks", run.whole());
    // `check` reads no model, so it cannot know which questions are too long.
    let checked = project.run(&["check"]);
    assert_eq!(checked.code(), Some(2));
    let errors =
        |whole: String| whole.lines().filter(|line| line.starts_with("error")).map(str::to_owned).collect::<Vec<_>>();
    let known = errors(run.err()).into_iter().filter(|line| !line.contains("longer than the context"));
    assert_eq!(errors(checked.err()), known.collect::<Vec<_>>());
}

#[test]
fn a_question_longer_than_the_context_is_left_out() {
    let project = tested("");
    let long =
        format!("{{\"question\": \"{}\", \"choices\": [\"Rome\", \"Paris\"], \"answer\": 0}}\n", "Rome ".repeat(400));
    project.write("places.jsonl", &format!("{long}{QUESTIONS}{long}"));
    let report = project.run(&["test", "--no-damage", "--format", "json"]).json();
    assert_eq!((&report["tasks"][0]["questions"], &report["tasks"][0]["left-out"]), (&6.into(), &2.into()));
    let note = "task `places`: 2 questions are longer than the context of the model, and not asked (line 1, 8)";
    assert_eq!(report["notes"][1], note, "{}", report["notes"]);
}

/// The task of the guide: the bundled model knows all answers.
#[test]
fn the_example_is_answered_by_the_bundled_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = asked(&root.join("examples/atlas"), &root.join("examples/tasks/atlas.jsonl"));
    assert_eq!((found.questions, found.left_out, found.before), (72, 0, 1.0));
}

/// Asks the model in a folder the questions of a file in the plain form, as both sides of a comparison.
fn asked(folder: &Path, file: &Path) -> TaskResult {
    let model = Model::open(folder, Isa::detect()).expect("the model opens");
    let tokens = Tokens::open(folder, model.spec().vocabulary).expect("the tokenizer opens");
    let (name, form) = ("t".to_owned(), TaskForm::Plain);
    let config = TaskConfig { name, file: "t.jsonl".into(), form, by: None, limit: None, span: 0..0 };
    let mut sources = Sources::default();
    let project = sources.add("corrigenda.toml", "");
    let task = read(&config, file, project, &mut sources).expect("a task");
    let encoded = EncodedTask::new(&config, &task, &tokens, model.spec().max_positions, &sources).expect("short");
    let same = || Ok(&model);
    let side = TaskModel { cache: MeasurementCache::disabled(), model: &same };
    compare(&[encoded], &tokens, [side, side], &NoProgress).expect("finite").remove(0)
}

/// Compares the accuracy of a task with the scores of the same answers, computed by [`scores`], on a model that was
/// trained on the facts.
#[test]
fn likelihoods_are_those_of_the_answers() {
    let (Some(folder), Some(known)) = (counterfact_model(), shared("data/known_counterfact_dev.json")) else { return };
    let model = Model::open(&folder, Isa::detect()).expect("the model opens");
    let tokens = Tokens::open(&folder, model.spec().vocabulary).expect("the tokenizer opens");
    let records: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(known).expect("the records are there")).expect("JSON");
    let (mut text, mut wanted) = (String::new(), Vec::new());
    let part = |record: &serde_json::Value, key: &str| record[key].as_str().expect("a text").to_owned();
    for pair in records.as_array().expect("a list").windows(2) {
        let (question, choices) = (part(&pair[0], "prompt"), [&pair[1], &pair[0]].map(|one| part(one, "attribute")));
        if choices[0] == choices[1] || wanted.len() == 40 {
            continue;
        }
        let line = serde_json::json!({ "question": question, "choices": choices, "answer": 1 });
        text += &format!("{line}\n");
        let asked = choices.map(|one| Question::new(&tokens, question.as_str().into(), &one, 1024).expect("short"));
        let found = scores(&model, &asked).into_iter().map(|score| score.probability);
        wanted.push(found.collect::<Vec<_>>());
    }
    let file = tempfile::tempdir().expect("a temporary folder");
    let path = file.path().join("t.jsonl");
    std::fs::write(&path, text).expect("the file is written");
    let found = asked(&folder, &path);
    let right = wanted.iter().filter(|sums| sums[1] > sums[0]).count();
    assert!(right > 30, "the model knows the facts: {right}");
    assert_eq!((found.questions, found.before, found.after), (40, right as f64 / 40.0, found.before));
    assert_eq!((found.difference, found.became_wrong), (0.0, 0));
}
