//! Checks the documents: links and anchors, the list of pages, command lines, and that the reference is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use corrigenda::cli::Arguments;
use corrigenda::diagnostics::{Code, Severity};
use serde_json::Value;

/// The maximum number of words of the README.
const README_WORDS: usize = 1500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the Markdown files of the repository, sorted.
fn documents() -> Vec<PathBuf> {
    let mut folders = vec![root().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let skipped = name == "target" || (name.starts_with('.') && name != ".github");
            if path.is_dir() && !path.is_symlink() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Returns the pages of the book: all Markdown files below `docs`.
fn pages() -> Vec<PathBuf> {
    documents().into_iter().filter(|path| path.starts_with(root().join("docs"))).collect()
}

/// Splits a document into lines of text and lines of code, without fences and indentation.
fn split(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code, mut fenced, mut blank) = (Vec::new(), Vec::new(), false, true);
    for line in text.lines() {
        let indented = line.strip_prefix("    ").filter(|_| blank);
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(line);
        } else if let Some(code_line) = indented {
            code.push(code_line);
        } else {
            prose.push(line);
            blank = line.trim().is_empty();
        }
    }
    (prose, code)
}

/// Returns the texts of inline code in a line, and the line without inline code.
fn spans(line: &str) -> (Vec<&str>, String) {
    let parts: Vec<&str> = line.split('`').collect();
    let code = parts.iter().skip(1).step_by(2).copied().collect();
    (code, parts.iter().step_by(2).copied().collect())
}

/// Returns the relative targets of the links and images in a document.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in split(text).0 {
        let plain = spans(line).1;
        for rest in plain.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Returns the anchors of a document: its headings in lower case, with hyphens for spaces and without punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in split(text).0.into_iter().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let letters = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        let slug: String = letters.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        let count = seen.entry(slug.clone()).or_default();
        found.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    found
}

#[test]
fn every_relative_link_and_anchor_exists() {
    let mut wrong = Vec::new();
    for path in documents() {
        let text = read(&path);
        for link in links(&text) {
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let is_there = target.exists()
                && anchor.is_none_or(|anchor| target.is_file() && anchors(&read(&target)).contains(anchor));
            if !is_there {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

/// Returns the path in the source tree that inline code begins with, without the words after it; `None` for other code.
fn named_path(code: &str) -> Option<&Path> {
    const FOLDERS: [&str; 6] = ["src/", "tests/", "benches/", "examples/", "docs/", "schemas/"];
    let word = code.split(' ').next().unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let named = FOLDERS.iter().any(|folder| word.starts_with(folder)) && word.chars().all(plain);
    named.then(|| Path::new(word))
}

#[test]
fn every_file_that_a_document_names_exists() {
    for path in documents().into_iter().filter(|path| !path.ends_with("CHANGELOG.md")) {
        let text = read(&path);
        let joined = split(&text).0.join(" ");
        for named in spans(&joined).0.into_iter().filter_map(named_path) {
            let beside = path.parent().expect("a folder").join(named);
            let is_there = root().join(named).exists() || beside.exists();
            assert!(is_there, "{} names {}, which does not exist", path.display(), named.display());
        }
    }
}

#[test]
fn test_files_named_in_documents_exist() {
    let modules: String =
        ["tests/main.rs", "tests/hostile/mod.rs"].iter().map(|name| read(&root().join(name))).collect();
    for path in documents() {
        let text = read(&path);
        let joined = split(&text).0.join(" ");
        for command in spans(&joined).0 {
            let Some((_, rest)) = command.split_once("--test suite ") else { continue };
            let name = rest.split_whitespace().find(|word| !word.starts_with('-')).unwrap_or_default();
            // A name in upper case is a placeholder.
            for part in name.split("::").filter(|part| part.chars().any(char::is_lowercase)) {
                let is_there = modules.contains(&format!("mod {part};"));
                assert!(is_there, "{}: `{command}`: the suite has no module `{part}`", path.display());
            }
        }
    }
}

#[test]
fn the_book_is_complete() {
    let docs = root().join("docs");
    let summary: BTreeSet<PathBuf> =
        links(&read(&docs.join("SUMMARY.md"))).into_iter().map(|link| docs.join(link)).collect();
    for page in pages().into_iter().filter(|page| !page.ends_with("SUMMARY.md")) {
        assert!(summary.contains(&page), "docs/SUMMARY.md does not list {}", page.display());
        for link in links(&read(&page)) {
            let file = link.split('#').next().unwrap_or_default();
            let target = page.parent().expect("a folder").join(file);
            let target = target.canonicalize().unwrap_or(target);
            let inside = target.starts_with(docs.canonicalize().expect("docs"));
            assert!(inside, "{} links to {link}, which is not in the book", page.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    let words = read(&root().join("README.md")).split_whitespace().count();
    assert!(words <= README_WORDS, "the README has {words} words; at most {README_WORDS} are allowed");
}

/// Returns the words of a command line after `corrigenda`, without a comment; `None` for another program.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.split(" # ").next().unwrap_or_default();
    let rest = line.strip_prefix("corrigenda").or_else(|| line.strip_prefix("cargo run --release --"))?;
    let rest = rest.strip_prefix(' ')?;
    let mut words = vec!["corrigenda".to_owned()];
    for (index, part) in rest.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    Some(words)
}

/// Returns the first word of a command line that is neither a verb nor an option of that verb.
fn unknown_word(words: &[String]) -> Option<String> {
    let top = Arguments::command();
    let mut command = &top;
    let knows = |verb: &Command, option: &str| {
        let of = |owner: &Command| owner.get_arguments().any(|one| one.get_long() == Some(option));
        of(verb) || of(&top) || matches!(option, "help" | "version")
    };
    let mut chosen = false;
    for (index, word) in words.iter().enumerate().skip(1) {
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap_or_default();
            if !option.is_empty() && !knows(command, option) {
                return Some(word.clone());
            }
        } else if words[index - 1] != "-C" && command.has_subcommands() && !word.starts_with('-') {
            match command.find_subcommand(word) {
                Some(below) => (command, chosen) = (below, true),
                None if chosen => {}
                None => return Some(word.clone()),
            }
        }
    }
    None
}

#[test]
fn every_command_has_a_verb_and_options_that_exist() {
    let mut wrong = Vec::new();
    for path in documents() {
        let text = read(&path);
        let (prose, code) = split(&text);
        for words in code.iter().filter_map(|line| words(line.strip_prefix("$ ")?)) {
            if let Err(error) = Arguments::read(words.iter().map(Into::into)) {
                wrong.push(format!("{}: {words:?}: {error}", path.display()));
            }
        }
        // A command in running text may be shortened, so only its verb and its options are checked.
        let joined = prose.join(" ");
        let named = spans(&joined).0.into_iter().filter_map(words);
        wrong.extend(named.filter_map(|words| {
            let word = unknown_word(&words)?;
            Some(format!("{}: {}: {word} is unknown", path.display(), words.join(" ")))
        }));
    }
    assert!(wrong.is_empty(), "these commands do not exist:\n{}", wrong.join("\n"));
}

/// Returns a section of a page: the text from its heading to the next heading of level 2.
fn section<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    page.split("\n## ").find(|section| section.lines().next() == Some(heading))
}

#[test]
fn the_reference_has_every_verb_and_option() {
    let page = read(&root().join("docs/reference/verbs.md"));
    let has = |text: &str, option: &str| ["`", " ", "\\"].iter().any(|end| text.contains(&format!("--{option}{end}")));
    let top = Arguments::command();
    let common = section(&page, "Common options").expect("the common options");
    for option in top.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(has(&page, option), "verbs.md lacks the common option --{option}");
    }
    for verb in top.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        let heading = if matches!(name, "completions" | "man") { "completions and man" } else { name };
        let text = section(&page, heading).unwrap_or_else(|| panic!("verbs.md has no section `{heading}`"));
        for below in verb.get_subcommands().filter(|below| below.get_name() != "help") {
            let full = format!("corrigenda {name} {}", below.get_name());
            assert!(text.contains(&full), "verbs.md does not describe `{full}`");
        }
        let all = std::iter::once(verb).chain(verb.get_subcommands());
        for option in all.flat_map(Command::get_arguments).filter_map(clap::Arg::get_long) {
            assert!(has(text, option) || has(common, option), "verbs.md lacks --{option} of {name}");
        }
    }
}

#[test]
fn the_reference_has_every_finding() {
    let page = read(&root().join("docs/reference/findings.md"));
    for code in Code::ALL {
        let severity = if code.severity() == Severity::Error { "error" } else { "warning" };
        let level = if code.is_adjustable() { "can be set" } else { "fixed" };
        let row = format!("| `{code}` | {severity} | {level} | ");
        assert!(page.contains(&row), "findings.md lacks the row {row}");
    }
}

/// Adds the names of all properties of a schema.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn the_reference_has_every_key_of_the_schemas() {
    let reference = root().join("docs/reference");
    let entries = std::fs::read_dir(root().join("schemas")).expect("the schemas");
    // The reference describes the keys of `schemas/answers` in a table, without the keys of every entry.
    for path in entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let pages: &[&str] = match name.as_str() {
            "project.schema.json" => &["project.md", "policy.md"],
            "edits.schema.json" => &["edits.md"],
            "probes.schema.json" => &["probes.md"],
            _ => &["json.md"],
        };
        let text: String = pages.iter().map(|page| read(&reference.join(page))).collect();
        let mut found = BTreeSet::new();
        keys(&serde_json::from_str(&read(&path)).expect("a schema"), &mut found);
        for key in found {
            let named = text.contains(&format!("`{key}`")) || text.contains(&format!(".{key}`"));
            assert!(named, "{pages:?} do not describe the key `{key}` of {name}");
        }
    }
}

/// Returns the folders of the table "Rooms" in docs/architecture.md, from top to bottom.
fn rooms(page: &str) -> Vec<&str> {
    let table = section(page, "Rooms").expect("the section");
    table.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next()).collect()
}

/// Returns the text of a source file without its tests and its comments.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the names after `crate::` in a source text: modules at the root of the crate.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let name = |text: &str| text.split(|one: char| !one.is_alphanumeric() && one != '_').next().map(str::to_owned);
    let paths = code.split("crate::").skip(1);
    paths
        .flat_map(|path| match path.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::trim).map(name).collect(),
            None => vec![name(path)],
        })
        .flatten()
        .collect()
}

#[test]
fn a_folder_uses_only_those_below_it() {
    let page = read(&root().join("docs/architecture.md"));
    let rooms = rooms(&page);
    for folder in std::fs::read_dir(root().join("src")).expect("src").map(|entry| entry.expect("an entry").path()) {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        assert!(!folder.is_dir() || rooms.contains(&name.as_str()), "{name} is not in the table");
    }
    let mut wrong = Vec::new();
    for (height, room) in rooms.iter().enumerate() {
        for path in sources(&root().join("src").join(room)) {
            let used = named_rooms(&code(&path));
            let above =
                used.iter().filter(|name| rooms.iter().position(|one| one == name).is_some_and(|at| at < height));
            wrong.extend(above.map(|name| format!("{} uses {name}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the Rust files below a folder, without those that contain only tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_test = |name: &str| name.ends_with("tests.rs") || name == "samples.rs";
    entries
        .flat_map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                sources(&path)
            } else if name.ends_with(".rs") && !is_test(&name) {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

#[test]
fn every_source_file_in_the_documents_exists() {
    let mut missing = Vec::new();
    for path in documents() {
        let text = read(&path);
        let named = text
            .split('`')
            .filter(|one| ["src/", "tests/", "benches/", "examples/"].iter().any(|folder| one.starts_with(folder)));
        let plain = named.filter(|one| one.chars().all(|one| one.is_alphanumeric() || "/._-".contains(one)));
        missing.extend(plain.filter(|one| !root().join(one).exists()).map(|one| format!("{}: {one}", path.display())));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
