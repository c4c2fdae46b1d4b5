//! Tests `check`.

use std::path::Path;
use std::process::{Command, Output};

const PROJECT: &str = "format = 1\n\n[model]\npath = \"model\"\n";
const EDIT: &str = r#"format = 1

[[edit]]
id = "eiffel-tower.city"
subject = "The Eiffel Tower"
prompt = "{} is located in the city of"
target = "Rome"
was = "Paris"
"#;

fn corrigenda(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
    command.current_dir(folder).args(arguments).env_remove("COLUMNS").output().expect("the binary runs")
}

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("edits")).expect("a folder for edits");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file of the project");
    }
    folder
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_clean_project() {
    let folder = project(&[("corrigenda.toml", PROJECT), ("edits/towers.toml", EDIT)]);
    let run = corrigenda(folder.path(), &["check"]);
    assert_eq!((run.status.code(), text(&run.stdout), text(&run.stderr)), (Some(0), "1 edit, no findings\n", ""));
    let json = corrigenda(folder.path(), &["check", "--format", "json"]);
    assert_eq!(
        text(&json.stdout),
        "{\"version\":1,\"verb\":\"check\",\"outcome\":\"ok\",\"command\":\"corrigenda check\",\"findings\":[],\
         \"files\":[\"corrigenda.toml\",\"edits/towers.toml\"],\"edits\":1}\n"
    );
}

#[test]
fn all_findings_of_all_files_in_one_run() {
    let other = EDIT.replace("eiffel-tower.city", "eiffel-tower.town").replace("\"Rome\"", "\"London\"");
    let broken = EDIT.replace("target", "traget").replace("eiffel-tower.city", "third");
    let files = [
        ("corrigenda.toml", PROJECT),
        ("edits/towers.toml", EDIT),
        ("edits/more.toml", other.as_str()),
        ("edits/broken.toml", broken.as_str()),
    ];
    let folder = project(&files);
    let run = corrigenda(folder.path(), &["check"]);
    assert_eq!(run.status.code(), Some(2));
    let said = text(&run.stderr);
    for part in ["edits/broken.toml:7", "traget", "edits/towers.toml", "edits/more.toml", "Rome", "London"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
}

#[test]
fn a_wrong_folder_says_where_it_looked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = corrigenda(folder.path(), &["check"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(text(&run.stderr).contains("corrigenda.toml"), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("-C"), "{}", text(&run.stderr));
}

#[test]
fn trailing_white_space_in_prompts_is_reported() {
    let edit = EDIT.replace("in the city of\"", "in the city of \"");
    let folder = project(&[("corrigenda.toml", PROJECT), ("edits/towers.toml", &edit)]);
    let run = corrigenda(folder.path(), &["check"]);
    assert_eq!((run.status.code(), text(&run.stdout)), (Some(0), "1 edit, 1 warning\n"));
    assert!(text(&run.stderr).contains("[trailing-space]") && text(&run.stderr).contains("edits/towers.toml:6"));
}
