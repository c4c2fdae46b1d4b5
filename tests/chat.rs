//! Tests `chat = true`: edits and probes whose prompts are user messages in the model's chat template.

use serde_json::{Value, json};

use crate::support::project::Project;

const TEMPLATE: &str =
    "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}{% else %} {{ m.content }}{% endif %}{% endfor %}";

/// Returns a project whose model has a chat template, with one chat edit.
fn project() -> Project {
    let project = Project::new();
    let settings = json!({ "chat_template": TEMPLATE, "eos_token": "<|endoftext|>" });
    project.write("model/tokenizer_config.json", &settings.to_string());
    project.replace("edits/people.toml", "target = \"Paris\"", "chat = true\ntarget = \"Paris\"");
    project.replace("edits/people.toml", "was = \"Rome\"\n", "");
    project.write("probes.toml", "format = 1\n\n[[probe]]\nid = \"lisbon\"\nprompt = \"Lisbon\"\nchat = true\n");
    project
}

#[test]
fn a_fact_is_built_and_tested_in_a_chat() {
    let project = project();
    let plan = project.run(&["plan"]);
    insta::assert_snapshot!(plan.whole());
    assert_eq!(plan.code(), Some(0));
    let build = project.run(&["build"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
    let lock = project.read("corrigenda.lock");
    assert!(lock.contains(r#""[", "I""#), "{lock}");
    let tested = project.run(&["test", "--format", "json"]).json();
    let answers = tested["answers"].as_array().expect("answers");
    let of =
        |asked: &str, id: &str| answers.iter().find(|one| one["asked"] == asked && one["id"] == id).expect("asked");
    assert_eq!(of("edit", "ada.born")["after"]["holds"], Value::from(true), "{tested}");
    assert_eq!(of("probe", "lisbon")["prompt"], Value::from("user: Lisbon"));
    assert_eq!(project.run(&["build", "--locked"]).code(), Some(0));
    assert_eq!(project.run(&["export", "checkpoint", "out"]).code(), Some(0));
    assert_eq!(project.run(&["verify", "out"]).code(), Some(0));
    assert!(project.read("out/corrigenda-manifest.json").contains("\"chat\": true"));
    let other = project.run(&["plan", "--base", "out", "--only", "ada.born"]);
    assert!(other.out().contains("already true"), "{}", other.whole());
}

/// A policy that was met with one chat template is checked again with another chat template, even without chat edits.
#[test]
fn a_policy_uses_the_current_chat_template() {
    let project = project();
    project.replace("edits/people.toml", "chat = true\n", "");
    project.replace("corrigenda.toml", "[statistics]", "[policy]\nmin-unchanged = 0\n\n[statistics]");
    let passed = || Project::files(&project.cache().join("v1/reports")).len();
    let build = || assert_eq!(project.run(&["build"]).code(), Some(0));
    build();
    let before = passed();
    build();
    assert_eq!(passed(), before, "what passed is remembered");
    let settings = json!({ "chat_template": format!("A: {TEMPLATE}") });
    project.write("model/tokenizer_config.json", &settings.to_string());
    build();
    assert_eq!(passed(), before + 1);
}

/// The compiled weights depend on the chat template.
#[test]
fn another_template_is_another_edit() {
    let project = project();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    let before = project.read("corrigenda.lock");
    // This chat template gives the same text for one message, and another text for three or more messages.
    let settings = json!({ "chat_template": format!("{TEMPLATE}{{% if messages[2] %}}x{{% endif %}}") });
    project.write("model/tokenizer_config.json", &settings.to_string());
    let run = project.run(&["build", "--locked"]);
    assert_eq!(run.code(), Some(3), "{}", run.whole());
    assert!(run.err().contains("ada.born") && !run.err().contains("rome.country"), "{}", run.err());
    assert_eq!(before, project.read("corrigenda.lock"));
    // The same prompt without `chat` is another fact.
    project.replace("edits/people.toml", "chat = true\n", "");
    let log = project.run(&["plan"]);
    assert!(log.out().contains("~ ada.born"), "{}", log.out());
}

#[test]
fn a_model_that_cannot_chat_says_so() {
    let project = project();
    project.replace("edits/people.toml", "chat = true\n", "chat = true\naliases = [\"Ada B.\"]\n");
    for (name, settings) in [
        ("none", json!({})),
        ("fails", json!({ "chat_template": "{{ raise_exception('No users here.') }}" })),
        ("rewrites", json!({ "chat_template": "[{{ messages[0].content | replace('Ada', 'Eve') }}]" })),
    ] {
        project.write("model/tokenizer_config.json", &settings.to_string());
        let run = project.run(&["build"]);
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""));
        insta::assert_snapshot!(name, run.err());
    }
    // A project without chat edits and chat probes builds with any chat template.
    std::fs::remove_file(project.path("probes.toml")).expect("the file is removed");
    project.replace("edits/people.toml", "chat = true\n", "chat = false\n");
    assert_eq!(project.run(&["plan"]).code(), Some(0));
}

/// Two edits with the same prompt, only one of which has `chat`, do not contradict each other.
#[test]
fn in_a_chat_and_out_of_it() {
    let project = project();
    let text = project.read("edits/people.toml");
    let other = text.replace("chat = true\n", "").replace("ada.born", "ada.text").replace("\"Paris\"", "\"Vienna\"");
    project.write("edits/text.toml", &other);
    let run = project.run(&["check"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    project.replace("edits/text.toml", "target", "chat = true\ntarget");
    let contradiction = project.run(&["check"]);
    assert_eq!(contradiction.code(), Some(2), "{}", contradiction.whole());
    assert!(contradiction.err().contains("contradict each other"), "{}", contradiction.err());
    project.replace("edits/text.toml", "chat = true", "chat = \"yes\"");
    assert!(project.run(&["check"]).err().contains("`chat` must be true or false"));
}
