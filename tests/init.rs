//! Tests `init`, and the help, completions and manual, which are generated from the command-line definition.

use std::path::Path;
use std::process::Command;

use crate::support::{project::Project, tiny};

#[test]
fn a_project_on_a_model_of_ones_own_builds() {
    let project = Project::new();
    for name in ["corrigenda.toml", "corpus.txt", "edits/people.toml", "edits/places.toml"] {
        std::fs::remove_file(project.path(name)).expect("the file is removed");
    }
    project.write(".gitignore", "/mine/\n");
    insta::assert_snapshot!("init", project.run(&["init", "--model", "model"]).whole());
    insta::assert_snapshot!("init_project_file", project.read("corrigenda.toml"));
    assert_eq!(project.read(".gitignore"), "/mine/\n", "what is there is left");
    assert!(project.read(".gitattributes").contains("corrigenda.lock text eol=lf merge=corrigenda"));
    for (schema, name) in
        [("project", "corrigenda.toml"), ("edits", "edits/eiffel-tower.toml"), ("probes", "probes.toml")]
    {
        let text = project.read(name);
        let link = text.lines().next().and_then(|line| line.strip_prefix("#:schema ")).expect("a schema");
        let folder = project.path(name).parent().expect("a folder").to_owned();
        let there = std::fs::read_to_string(folder.join(link)).expect("it is where the line says");
        assert_eq!(there, project.run(&["schema", schema]).out(), "{name}");
    }
    let again = project.run(&["init", "--model", "model"]);
    assert_eq!(again.code(), Some(2), "{}", again.whole());
    assert!(again.err().contains("[project-exists]") && again.err().contains("nothing was written"));
    assert_eq!(project.run(&["check"]).out(), "1 edit, no findings\n");
    let plan = project.run(&["plan"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.whole());
    // The search for the value of the example fact does not converge on a random model; with this fact and these
    // settings it converges.
    project.replace("edits/eiffel-tower.toml", "{} is located in the city of", "We saw {}");
    project.replace("edits/eiffel-tower.toml", "London", "Vienna");
    project.replace(
        "corrigenda.toml",
        "layer = 1",
        "layer = 1\nclamp = 60\nweight-decay = 0\nkl-factor = 0\nconverged-nll = 3.5",
    );
    let build = project.run(&["build"]);
    assert_eq!(build.code(), Some(0), "{}", build.whole());
}

#[test]
fn init_on_an_invalid_model_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
        command.current_dir(folder.path()).args(arguments).output().expect("the binary runs")
    };
    for arguments in [&["init", "--model", "nothing"][..], &["init", "-C", "new", "--model", "."]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("[model-unusable]"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    tiny::write_model(&folder.path().join("model"));
    assert_eq!(run(&["init", "-C", "new", "--model", "model"]).status.code(), Some(0));
    let text = std::fs::read_to_string(folder.path().join("new/corrigenda.toml")).expect("written");
    assert!(text.contains("path = \"../model\""), "{text}");
}

#[test]
fn help_completions_and_manual_agree() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_corrigenda")).args(arguments).output().expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    insta::assert_snapshot!("help", run(&["--help"]));
    for verb in ["init", "check", "plan", "build", "test", "diff", "log", "export", "verify", "stats", "store"] {
        insta::assert_snapshot!(format!("help_{verb}"), run(&[verb, "-h"]));
        for shell in ["bash", "zsh", "fish", "powershell"] {
            assert!(run(&["completions", shell]).contains(verb), "{shell} does not know {verb}");
        }
        assert!(run(&["man"]).contains(verb));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&["man", &folder.path().to_string_lossy()]);
    assert!(Path::new(&folder.path().join("corrigenda-build.1")).exists());
}

#[test]
fn the_long_version_names_the_build_and_the_machine() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_corrigenda")).args(arguments).output().expect("the binary runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(run(&["-V"]), format!("corrigenda {}\n", env!("CARGO_PKG_VERSION")));
    let long = run(&["--version"]);
    let field = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    let fields: Vec<(String, String)> = long.lines().skip(1).filter_map(field).collect();
    let value = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(long.lines().next(), Some(&*format!("corrigenda {}", env!("CARGO_PKG_VERSION"))));
    assert_eq!(long.lines().count(), 5, "{long}");
    assert_eq!(value("numerics"), Some(corrigenda::numeric::NUMERICS));
    assert_eq!(value("instruction set"), Some(corrigenda::numeric::Isa::detect().name()));
    assert!(value("features").is_some_and(|names| !names.is_empty()), "{long}");
    assert!(value("target").is_some_and(|triple| triple.starts_with(std::env::consts::ARCH)), "{long}");
    assert_eq!(run(&["build", "--version"]).lines().skip(1).collect::<Vec<_>>().len(), 4);
    assert!(!run(&["man"]).contains("instruction set:"), "a manual page does not depend on the machine");
}

#[test]
fn a_folder_without_an_option_is_asked_about() {
    let project = Project::new();
    let run = project.run(&["init", "model"]);
    assert!(run.code() == Some(2) && run.err().contains("corrigenda init --model \"model\""), "{}", run.whole());
    let facts = project.run(&["init", "facts"]);
    assert!(facts.code() == Some(2) && facts.err().contains("corrigenda -C \"facts\" init"), "{}", facts.whole());
}

#[test]
fn init_takes_or_measures_the_layer() {
    let project = Project::new();
    let begin = |folder: &str, more: &[&str]| {
        let run = project.run(&[&["-C", folder, "init", "--model", "model"], more].concat());
        assert_eq!(run.code(), Some(0), "{}", run.whole());
        (project.read(&format!("{folder}/corrigenda.toml")), run)
    };
    let (text, _) = begin("named", &["--layer", "2"]);
    assert!(text.contains("layer = 2\n"), "{text}");
    let refused = project.run(&["-C", "refused", "init", "--model", "model", "--layer", "3"]);
    assert!(refused.code() == Some(2) && refused.err().contains("layer-unknown"), "{}", refused.whole());
    assert!(!project.path("refused").exists());
    // The tiny model does not know the common facts with which `init` measures layers.
    let (measured, run) = begin("measured", &[]);
    assert!(measured.contains("layer = 1\n") && measured.contains("# A third of the way up"), "{measured}");
    assert!(run.out().contains("the model knows too few common facts to measure the best layer"), "{}", run.whole());
}

#[test]
fn a_small_model_is_measured() {
    let project = Project::new();
    let atlas = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/atlas");
    std::fs::create_dir(project.path("atlas")).expect("the folder is created");
    for entry in std::fs::read_dir(atlas).expect("listed").flatten() {
        std::fs::copy(entry.path(), project.path("atlas").join(entry.file_name())).expect("the file is copied");
    }
    let run = project.run(&["-C", "measured", "init", "--model", "atlas"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    let text = project.read("measured/corrigenda.toml");
    assert!(text.contains("common facts; `corrigenda trace --suggest-layer`"), "{text}{}", run.whole());
    assert!(run.err().contains("layer 3: efficacy 0.0%"), "the last layer is tried, too: {}", run.err());
    // A second `init` is refused before it measures anything.
    let again = project.run(&["-C", "measured", "init", "--model", "atlas"]);
    assert!(again.code() == Some(2) && again.err().contains("[project-exists]"), "{}", again.whole());
    assert!(!again.err().contains("measuring"), "{}", again.err());
}
