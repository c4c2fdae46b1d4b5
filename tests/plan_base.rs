//! Tests `plan --base`, which evaluates a set of edits with another base.

use corrigenda::safetensors::Dtype;

use crate::support::families::write_editable_llama;
use crate::support::project::Project;

/// Returns a built project, and next to its model a Llama with another tokenizer.
fn project() -> Project {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    write_editable_llama(&project.path("other"), Dtype::BF16, true);
    // This tokenizer splits in two every word that is one token with a leading space in the tokenizer of the base.
    let tokenizer =
        project.read("model/tokenizer.json").replace("\"add_prefix_space\": false", "\"add_prefix_space\": true");
    project.write("other/tokenizer.json", &tokenizer);
    project
}

#[test]
fn the_facts_on_another_model() {
    let project = project();
    let before = Project::files(&project.path(""));
    let run = project.run(&["plan", "--base", "other"]);
    insta::assert_snapshot!(run.whole());
    assert_eq!(run.code(), Some(0));
    let strict = project.run(&["plan", "--base", "other", "--exit-code"]);
    assert_eq!(strict.code(), Some(1));
    let json = project.run(&["plan", "--base", "other", "--format", "json"]).json();
    assert_eq!(json["edits"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!((&json["base"]["family"], &json["edits"][0]["standing"]), (&"llama".into(), &"needed".into()));
    assert_eq!(before, Project::files(&project.path("")));
}

/// With the patched model as the other base, every fact is reported as known, with the tokens of the lock.
#[test]
fn facts_that_the_base_knows_are_reported() {
    let project = project();
    assert_eq!(project.run(&["export", "checkpoint", "out"]).code(), Some(0));
    let run = project.run(&["plan", "--base", "out", "--exit-code"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("0 needed, 3 already true, 0 with other tokens than in the lock"), "{}", run.out());
    let one = project.run(&["plan", "--base", "out", "--only", "ada.born", "--format", "json"]).json();
    assert_eq!((one["edits"].as_array().map(Vec::len), &one["edits"][0]["moved"]), (Some(1), &serde_json::Value::Null));
}

#[test]
fn a_model_without_a_known_layer_is_reported() {
    let project = project();
    project.replace("corrigenda.toml", "layer = 1\n", "");
    let config =
        project.read("other/config.json").replace("\"max_position_embeddings\":64", "\"max_position_embeddings\":12");
    project.write("other/config.json", &config);
    let run = project.run(&["plan", "--base", "other"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(run.out().contains("none: no layer is set"), "{}", run.out());
    assert!(run.out().contains("cannot be read"), "{}", run.out());
    for (name, said) in [("nowhere", "there is no model folder"), ("hf:../x", "is not the name of a model")] {
        let refused = project.run(&["plan", "--base", name]);
        assert_eq!(refused.code(), Some(2));
        assert!(refused.err().contains(said), "{}", refused.err());
    }
}
