//! Adapters, and patches without a project: what is written, and every place and base that it is not written to.

use corrigenda::digest::Digest;

use crate::support::project::Project;

/// A project that was built.
fn built() -> Project {
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    project
}

#[test]
fn an_adapter_for_transformers() {
    let project = built();
    let before = Project::files(&project.path("model"));
    let run = project.run(&["export", "peft", "../out"]);
    insta::assert_snapshot!("peft", run.whole());
    let names: Vec<_> = Project::files(&project.path("../out")).into_iter().map(|(path, _)| path).collect();
    let names: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let expected = ["README.md", "adapter_config.json", "adapter_model.safetensors", "corrigenda-manifest.json"];
    assert_eq!(names, expected);
    insta::assert_snapshot!("peft_config", project.read("../out/adapter_config.json"));
    insta::assert_snapshot!("peft_readme", project.read("../out/README.md"));
    insta::assert_snapshot!("peft_manifest", project.read("../out/corrigenda-manifest.json"));
    assert!(Project::files(&project.path("model")) == before);
    // The same adapter twice is the same bytes, whatever its folder is called.
    let again = project.run(&["export", "peft", "../again", "--format", "json"]).json();
    assert_eq!((&again["rank"], &again["outcome"]), (&3.into(), &"ok".into()));
    let bytes = |name: &str| Project::files(&project.path(name)).into_iter().map(|one| one.1).collect::<Vec<_>>();
    assert!(bytes("../out") == bytes("../again"));
}

#[test]
fn an_adapter_for_llama_cpp() {
    let project = built();
    let before = Project::files(&project.path("model"));
    let run = project.run(&["export", "gguf", "../lora.gguf"]);
    insta::assert_snapshot!("gguf", run.whole());
    assert!(Project::files(&project.path("model")) == before);
    let bytes = std::fs::read(project.path("../lora.gguf")).expect("a file");
    assert!(bytes.starts_with(b"GGUF\x03\0\0\0"));
    let again = project.run(&["export", "gguf", "../again.gguf", "--format", "json"]).json();
    assert_eq!(again["digest"], Digest::of(&bytes).to_string());
    assert_eq!((&again["architecture"], &again["rank"]), (&"gpt2".into(), &3.into()));
    assert!(std::fs::read(project.path("../again.gguf")).expect("a file") == bytes);
}
