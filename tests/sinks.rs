//! Tests edits whose subjects are at an attention sink at the beginning of a text, and value searches that stop at a
//! margin.

use crate::support::project::Project;
use crate::support::tiny;

const SINK: &str = "\
format = 1

[[edit]]
id = \"la.city\"
subject = \"la\"
prompt = \"{}\"
target = \"Vienna\"

[edit.expect]
paraphrase = [\"la la\"]
";

/// Returns a project whose model has a residual stream of large norm at the first position, like a model with an
/// attention sink.
fn project(sink: bool) -> Project {
    let project = Project::new();
    let weights = tiny::editable(|name, elements| {
        if sink && name == "transformer.wpe.weight" {
            let width = elements.len() / tiny::POSITIONS;
            elements[..width].iter_mut().for_each(|x| *x *= 1000.0);
        }
    });
    tiny::write_model_with(&project.path("model"), &weights);
    std::fs::remove_file(project.path("edits/people.toml")).expect("the file is removed");
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    project.write("edits/la.toml", SINK);
    project
}

#[test]
fn an_edit_at_a_sink_gets_a_preface() {
    let project = project(true);
    let plan = project.run(&["plan"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.whole());
    let said = plan.err();
    assert!(said.contains("warning[subject-sink]: edit `la.city`") && said.contains("at layer 1"), "{said}");
    assert!(said.contains("it will not hold at the very beginning of a text"), "{said}");
    assert!(!project.path("corrigenda.lock").exists());
    let built = project.run(&["build"]);
    assert_eq!(built.code(), Some(0), "{}", built.whole());
    let lock = project.read("corrigenda.lock");
    assert!(lock.contains("preface = \"<|endoftext|>\"") && lock.contains("position = 1"), "{lock}");
    for verb in [&["build"][..], &["build", "--locked"], &["verify"], &["verify", "--rebuild"]] {
        let run = project.run(verb);
        assert_eq!(run.code(), Some(0), "{verb:?}: {}", run.whole());
    }
    assert_eq!(project.read("corrigenda.lock"), lock);
    // `test` and `diff` put the preface before the prompt of the edit, and before the paraphrase that starts with the
    // subject.
    for verb in [&["test", "--format", "json"][..], &["diff", "base", "--format", "json"]] {
        let asked = project.run(verb);
        let report: serde_json::Value = serde_json::from_str(&asked.out()).expect("JSON");
        let prompts: Vec<&str> =
            report["answers"].as_array().expect("answers").iter().filter_map(|one| one["prompt"].as_str()).collect();
        for prompt in ["la", "la la"] {
            assert!(prompts.contains(&format!("after \"<|endoftext|>\": {prompt}").as_str()), "{verb:?}: {prompts:?}");
        }
    }
    // The README and the manifest of an export state the preface.
    assert_eq!(project.run(&["export", "checkpoint", "out"]).code(), Some(0));
    assert!(project.read("out/README.md").contains("| after "), "{}", project.read("out/README.md"));
    assert!(project.read("out/corrigenda-manifest.json").contains("\"preface\": \"<|endoftext|>\""));
    let verified = project.run(&["verify", "out"]);
    assert!(
        verified.code() == Some(0) && verified.out().contains("after \"<|endoftext|>\": la"),
        "{}",
        verified.whole()
    );
    // A lock without the preface is stale.
    project.write("corrigenda.lock", &lock.replace("preface = \"<|endoftext|>\"\n", ""));
    let stale = project.run(&["build", "--locked"]);
    assert_eq!(stale.code(), Some(3), "{}", stale.whole());
    assert!(stale.err().contains("preface"), "{}", stale.whole());
}

#[test]
fn a_paraphrase_at_a_sink_is_reported() {
    let project = project(true);
    let own = SINK.replace("prompt = \"{}\"", "prompt = \"la la la la {}\"");
    project.write("edits/la.toml", &own.replace("\"la la\"", "\"la la\", \"la la la la la la\""));
    let plan = project.run(&["plan"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.whole());
    let said = plan.err();
    assert_eq!(said.matches("warning[subject-sink]").count(), 2, "{said}");
    assert!(said.contains("in a paraphrase \"la\" ends at an attention sink of layer 1"), "{said}");
}

#[test]
fn longer_prompts_cannot_change_at_the_last_layer() {
    let project = project(false);
    let last = tiny::LAYERS - 1;
    let plan = |layer: usize, prompt: &str| {
        project.write("edits/la.toml", &SINK.replace("prompt = \"{}\"", &format!("prompt = \"{prompt}\"")));
        project.replace("corrigenda.toml", "layer = 1", &format!("layer = {layer}"));
        let plan = project.run(&["plan"]);
        project.replace("corrigenda.toml", &format!("layer = {layer}"), "layer = 1");
        plan
    };
    assert_eq!(plan(last, "{}").code(), Some(0));
    let refused = plan(last, "{} la");
    assert_eq!(refused.code(), Some(2), "{}", refused.whole());
    assert!(refused.err().contains("error[layer-last]: edit `la.city`"), "{}", refused.whole());
    assert_eq!(plan(last - 1, "{} la").code(), Some(0));
}

#[test]
fn an_edit_without_a_sink_gets_no_preface() {
    let project = project(false);
    let plan = project.run(&["plan"]);
    assert!(plan.code() == Some(0) && !plan.err().contains("subject-sink"), "{}", plan.whole());
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let lock = project.read("corrigenda.lock");
    assert!(!lock.contains("preface") && lock.contains("position = 0"), "{lock}");
}

#[test]
fn a_margin_ends_the_value_search_early() {
    let evaluations = |margin: &str| -> Vec<usize> {
        let project = Project::new();
        project.replace("corrigenda.toml", "[rome]\n", &format!("[rome]\n{margin}"));
        let run = project.run(&["build"]);
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        let said = run.err();
        let counts =
            said.lines().filter_map(|line| line.strip_suffix(" evaluations")?.rsplit(' ').next()?.parse().ok());
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.len(), 3, "{said}");
        assert!(run.out().contains("<0.1%"), "{}", run.whole());
        counts
    };
    let (published, short, long) = (evaluations(""), evaluations("margin = 0\n"), evaluations("margin = 1\n"));
    let sum = |counts: &[usize]| counts.iter().sum::<usize>();
    assert!(sum(&short) < sum(&long) && sum(&long) < sum(&published), "{short:?} {long:?} {published:?}");
}
