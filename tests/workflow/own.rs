//! Tests the workflows of this repository: the files parse, their scripts are valid, and the archives of a release have
//! the names that `cargo binstall` computes from Cargo.toml.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{action, has, text};

/// Returns the path of a file, given relative to the root of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Parses a file that holds one YAML document.
fn yaml(path: &Path) -> Value {
    serde_yaml_ng::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the string values of `key` at every depth of a YAML document.
fn strings<'a>(node: &'a Value, key: &str) -> Vec<&'a str> {
    match node {
        Value::Array(items) => items.iter().flat_map(|item| strings(item, key)).collect(),
        Value::Object(fields) => {
            let of = |(name, value): (&String, &'a Value)| match (name == key, value.as_str()) {
                (true, Some(found)) => vec![found],
                _ => strings(value, key),
            };
            fields.iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the workflows of this repository by file name.
fn workflows() -> Vec<(&'static str, Value)> {
    let parsed = |name: &'static str| (name, yaml(&file(".github/workflows").join(name)));
    vec![parsed("ci.yml"), parsed("release.yml")]
}

/// Returns the table `[package]` of Cargo.toml.
fn package() -> toml::Table {
    let manifest: toml::Table = text(&file("Cargo.toml")).parse().expect("Cargo.toml");
    manifest["package"].as_table().expect("a table").clone()
}

#[test]
fn every_workflow_parses_and_has_few_permissions() {
    for name in ["action.yml", "pull-request.yml", "merge-queue.yml"] {
        assert!(!strings(&yaml(&action(name)), "run").is_empty(), "{name}");
    }
    yaml(&file(".pre-commit-hooks.yaml"));
    let versions = [
        "actions/checkout@v5",
        "actions/setup-python@v6",
        "actions/upload-artifact@v6",
        "actions/download-artifact@v7",
        "pypa/gh-action-pypi-publish@release/v1",
    ];
    let oldest = package()["rust-version"].as_str().expect("a version").to_owned();
    for (name, workflow) in workflows() {
        assert_eq!(workflow["permissions"]["contents"].as_str(), Some("read"), "{name}");
        assert_eq!(workflow["permissions"].as_object().map(serde_json::Map::len), Some(1), "{name}");
        assert!(workflow["env"]["RUST"].as_str().is_some_and(|rust| rust.starts_with(&oldest)), "{name}");
        for (job, content) in workflow["jobs"].as_object().expect("jobs") {
            assert!(content["runs-on"].as_str().is_some(), "{name}: {job} names a runner");
            assert!(content["timeout-minutes"].as_i64().is_some(), "{name}: {job} has a time limit");
        }
        for used in strings(&workflow, "uses") {
            assert!(versions.contains(&used), "{name}: {used}");
        }
    }
}

#[test]
fn the_scripts_of_workflows_are_valid_and_exist() {
    if !has(&["bash"]) {
        return;
    }
    for (name, workflow) in workflows() {
        for script in strings(&workflow, "run") {
            let checked = Command::new("bash").args(["-n", "-c", script]).output().expect("bash runs");
            assert!(checked.status.success(), "{name}: {script}");
            assert!(!script.contains("${{"), "{name}: values reach a script as variables: {script}");
            for word in script.split_whitespace().filter(|word| word.starts_with(".ci/") || word.starts_with("tests/"))
            {
                assert!(file(word).is_file(), "{name}: {word} exists");
                #[cfg(unix)]
                {
                    use std::os::unix::fs::PermissionsExt as _;
                    let mode = std::fs::metadata(file(word)).expect("a file").permissions().mode();
                    assert_eq!(mode & 0o111, 0o111, "{word} is executable");
                }
            }
        }
    }
    for script in ["run", "package", "same-patch", "lint"].map(|name| format!(".ci/{name}")) {
        let checked = Command::new("bash").arg("-n").arg(file(&script)).output().expect("bash runs");
        assert!(checked.status.success(), "{script}");
    }
}

/// Returns the path of the archive for `target` and the path of the program in the archive, as `cargo binstall`
/// computes these paths.
fn expected(target: &str) -> (String, String) {
    let package = package();
    let binstall = package["metadata"]["binstall"].as_table().expect("a table");
    let overriding = binstall["overrides"].get(target).and_then(|one| one.as_table());
    let value = |key: &str| {
        let own = overriding.and_then(|one| one.get(key));
        let template = own.unwrap_or_else(|| &binstall[key]).as_str().expect("text");
        let filled = template.replace("{ version }", env!("CARGO_PKG_VERSION")).replace("{ target }", target);
        let filled = filled.replace("{ name }", "corrigenda").replace("{ bin }", "corrigenda");
        filled.replace("{ binary-ext }", if target.contains("windows") { ".exe" } else { "" })
    };
    let url = value("pkg-url");
    let release = format!("{{ repo }}/releases/download/v{}/", env!("CARGO_PKG_VERSION"));
    let archive = url.strip_prefix(&release).expect("a file of the release of this version").to_owned();
    assert_eq!(value("pkg-fmt"), if archive.ends_with(".zip") { "zip" } else { "tgz" });
    (archive, value("bin-dir"))
}

#[test]
fn archives_have_the_names_that_binstall_expects() {
    if !has(&["python3"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let python = |arguments: &[&str]| {
        let output = Command::new("python3").current_dir(folder.path()).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").replace('\r', "")
    };
    let packer = file(".ci/archive");
    let (_, release) = workflows().pop().expect("release.yml");
    let matrix = &release["jobs"]["build"]["strategy"]["matrix"];
    let targets = strings(matrix, "target");
    assert!(targets.len() >= 7, "{targets:?}");
    for target in targets {
        let program = if target.contains("windows") { "corrigenda.exe" } else { "corrigenda" };
        let wheel = format!("corrigenda-{}-py3-none-any.whl", env!("CARGO_PKG_VERSION"));
        let fill = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr(sys.argv[2], 'bytes')";
        python(&["-c", fill, &wheel, &format!("corrigenda.data/scripts/{program}")]);
        let packed = || {
            python(&[&packer.to_string_lossy(), &wheel, target, "out"]);
            let (archive, _) = expected(target);
            std::fs::read(folder.path().join("out").join(&archive)).unwrap_or_else(|error| panic!("{archive}: {error}"))
        };
        assert_eq!(packed(), packed(), "the same wheel gives the same archive");
        let (archive, inside) = expected(target);
        let kind = if archive.ends_with(".zip") { "zipfile" } else { "tarfile" };
        let listed = python(&["-m", kind, "-l", &format!("out/{archive}")]);
        let members: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(members.contains(&inside.as_str()), "{archive}: {listed}");
    }
}

#[test]
fn the_wheel_has_the_facts_of_the_package() {
    let project: toml::Table = text(&file("pyproject.toml")).parse().expect("pyproject.toml");
    let (project, package) = (&project["project"], package());
    for field in ["name", "description", "license", "readme", "keywords"] {
        assert_eq!(project[field], package[field], "{field}");
    }
}
