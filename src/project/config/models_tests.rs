use std::path::Path;

use super::*;
use crate::diagnostics::{RenderStyle, Sources, render, sort, summary};
use crate::project::config::{Config, PROJECT_FILE, parse};

const TWO: &str = "\
format = 1

[model.small]
path = \"models/small\"

[model.large]
path = \"hf:acme/large\"

[model.large.rome]
layer = 5
clamp = 2

[model.large.statistics]
max-documents = 7

[rome]
layer = 1
kl-factor = 0.5

[statistics]
corpus = \"corpus.txt\"
max-tokens = 64
";

fn parsed(text: &str) -> Result<Config, String> {
    let mut sources = Sources::default();
    let file = sources.add(PROJECT_FILE, text);
    let (config, _, mut findings) = parse(Path::new("project"), file, sources.text(file));
    sort(&mut findings);
    match config {
        Some(config) if findings.is_empty() => Ok(config),
        _ => {
            let drawn = findings.iter().map(|finding| render(finding, &sources, RenderStyle::default()) + "\n\n");
            Err(drawn.collect::<String>() + &summary(&findings))
        }
    }
}

#[test]
fn a_model_overrides_settings_of_the_project() {
    let mut config = parsed(TWO).expect("valid");
    assert_eq!(config.model_names(), ["large", "small"]);
    config.choose(Some("large")).expect("there");
    assert_eq!(config.model.path, Path::new("hf:acme/large"));
    assert_eq!((config.rome.layer, config.rome.clamp, config.rome.kl_factor), (Some(5), Some(2.0), Some(0.5)));
    let span = config.rome.layer_span.clone().expect("written");
    assert_eq!(&TWO[span], "5");
    let statistics = config.statistics.clone().expect("the project's");
    assert_eq!((statistics.max_tokens, statistics.max_documents), (Some(64), Some(7)));
    assert_eq!(statistics.corpus, Path::new("corpus.txt"));
    config.choose(Some("small")).expect("there");
    assert_eq!((config.rome.layer, config.rome.clamp), (Some(1), None));
    assert_eq!(config.statistics.and_then(|settings| settings.max_documents), None);
}

#[test]
fn one_model_is_chosen() {
    let mut config = parsed(TWO).expect("valid");
    let said = |error: Diagnostic| format!("{}: {}\n  {}", error.code, error.message, error.help.join("\n  "));
    let unchosen = said(config.choose(None).expect_err("two"));
    let unknown = said(config.choose(Some("smal")).expect_err("none"));
    let mut single = parsed("format = 1\nmodel.path = \"m\"\n").expect("valid");
    single.choose(None).expect("the only one");
    let unnamed = said(single.choose(Some("small")).expect_err("none"));
    insta::assert_snapshot!([unchosen, unknown, unnamed].join("\n"));
    let mut named = parsed("format = 1\nmodel.only.path = \"m\"\n").expect("valid");
    named.choose(None).expect("the only one");
    assert_eq!(named.model.name.as_deref(), Some("only"));
}

#[test]
fn a_model_is_chosen_as_in_another_project() {
    let mut two = parsed(TWO).expect("valid");
    two.choose(Some("small")).expect("there");
    let single = parsed("format = 1\nmodel.path = \"m\"\n").expect("valid");
    let mut before = single.clone();
    before.choose_as(&two).expect("one entry");
    assert_eq!(before, single);
    assert!(two.clone().choose_as(&single).is_err());
    let mut same_names = parsed(TWO).expect("valid");
    same_names.choose_as(&two).expect("the same names");
    assert_eq!(same_names, two);
    let mut other = parsed(&TWO.replace("small", "tiny")).expect("valid");
    assert_eq!(other.choose_as(&two).expect_err("no such name").code, Code::ModelUnknown);
}

#[test]
fn findings_about_models_name_their_place() {
    let both = "format = 1\n[model]\npath = \"m\"\n[model.a]\npath = \"n\"\n";
    let names = "format = 1\n[model.A]\npath = \"m\"\n[model.-b]\npath = \"m\"\n[model.\"c d\"]\npath = \"m\"\n";
    let keys = "format = 1\n[model]\nb = \"m\"\n[model.a]\nlayer = 3\n[model.a.rome]\nclamp = -1\n\
        [model.a.statistics]\nmax-tokens = 0\n";
    for text in [both, names, keys, "format = 1\n[model]\n", "format = 1\n[model.path]\npath = \"m\"\n"] {
        insta::assert_snapshot!(parsed(text).expect_err("wrong"));
    }
}

#[test]
fn names() {
    for name in ["a", "7", "llama-3", &"x".repeat(MOST_NAME_BYTES)] {
        assert!(is_model_name(name), "{name}");
    }
    for name in ["", "-a", "A", "a.b", "a b", "a/b", "ä", &"x".repeat(MOST_NAME_BYTES + 1)] {
        assert!(!is_model_name(name), "{name}");
    }
}
