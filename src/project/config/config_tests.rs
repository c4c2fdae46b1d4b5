use super::settings::StageConfig;
use super::*;
use crate::diagnostics::{RenderStyle, render};

fn parsed(text: &str) -> Result<Config, String> {
    let mut sources = Sources::default();
    let file = sources.add(PROJECT_FILE, text);
    let (config, _, mut findings) = parse(Path::new("project"), file, sources.text(file));
    sort(&mut findings);
    match config {
        Some(config) if findings.is_empty() => Ok(config),
        _ => Err(findings.iter().map(|finding| render(finding, &sources, RenderStyle::default()) + "\n\n").collect()),
    }
}

#[test]
fn a_small_and_a_full_project() {
    let small = parsed("format = 1\n[model]\npath = \"model\"\n").expect("valid");
    assert_eq!(small.edits, Path::new("edits"));
    assert_eq!((small.rome, small.link, small.statistics), (RomeConfig::default(), LinkConfig::default(), None));
    assert_eq!(Path::new("project/model"), small.root.join(&small.model.path));
    let full = parsed(crate::schema::tests::FULL_PROJECT).expect("valid");
    assert_eq!(full.resolve(&full.model.path), Path::new("project/examples/atlas"));
    let schedule = full.rome.schedule.expect("written");
    assert_eq!(schedule, [StageConfig { rate: 0.5, steps: 25 }, StageConfig { rate: 1.0, steps: 50 }]);
    assert_eq!(full.rome.clamp, Some(4.0));
    assert_eq!(full.statistics.and_then(|statistics| statistics.max_tokens), Some(100_000));
}

#[test]
fn all_findings_are_reported_at_once() {
    let text = "format = 1\nedit = \"x\"\nedits = \"\"\n[model]\npaht = \"m\"\n\
        [rome]\nlayer = -1\nschedule = [{ rate = 0, steps = 0 }, { rate = nan }, 3]\nclamp = inf\n\
        kl-factor = \"much\"\n[link]\nridge = -0.5\n[statistics]\ncorpus = 1\nmax-tokens = 0\n\
        [test]\nunchanged-kl = 0.0\nmin-efficacy = 1.9\n";
    insta::assert_snapshot!(parsed(text).expect_err("wrong"));
    insta::assert_snapshot!(parsed("format = 2\nnews = true\n").expect_err("newer"));
    insta::assert_snapshot!(parsed("model = 3\nstatistics = []\nlink = [").expect_err("wrong"));
}

#[test]
fn an_edits_folder_outside_the_project_is_refused() {
    let with = |folder: &str| parsed(&format!("format = 1\nedits = \"{folder}\"\nmodel.path = \"m\"\n"));
    for (folder, below) in [("facts", "facts"), ("./a//b/", "a/b"), ("..facts", "..facts")] {
        assert_eq!(with(folder).expect("below").edits, Path::new(below));
    }
    for folder in ["/", ".", "./", "..", "../facts", "facts/../..", "/facts"] {
        let message = with(folder).expect_err("not below");
        assert!(message.contains("path-outside") && message.contains("is not a folder below"), "{folder}: {message}");
    }
}

#[test]
fn a_missing_project_is_reported_with_its_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let findings = Config::load(folder.path()).expect_err("nothing there");
    assert_eq!(findings.diagnostics.len(), 1);
    let finding = &findings.diagnostics[0];
    assert_eq!(finding.code, Code::ProjectMissing);
    assert!(finding.message.contains(&*folder.path().to_string_lossy()));
    assert!(finding.help[0].contains("-C DIR"));
    std::fs::write(folder.path().join(PROJECT_FILE), "format = 1\nmodel = { path = \"m\" }\n").expect("written");
    let (config, warnings, sources) = Config::load(folder.path()).expect("valid");
    assert_eq!(&sources.text(config.file)[config.model.span], "\"m\"");
    assert!(warnings.is_empty());
}
