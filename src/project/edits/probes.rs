//! Reads `probes.toml`: prompts that `test` and `diff` run in addition to the prompts of the edits.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diagnostics::{Code, Diagnostic, FileId};
use crate::project::read::rules;
use crate::project::read::toml_reader::{KeysByTable, TomlReader, TomlTable, TomlText};

pub const PROBES_FILE: &str = "probes.toml";
/// The only value of `format` in `probes.toml` that this version of the program accepts.
pub const PROBES_FORMAT: i64 = 1;

pub(crate) const PROBES_KEYS: &[&str] = &["format", "probe"];
pub(crate) const PROBE_KEYS: &[&str] = &["id", "prompt", "chat", "unchanged", "reason"];

const TABLES: KeysByTable = &[("at the top of the file", PROBES_KEYS), ("under `[[probe]]`", PROBE_KEYS)];

/// A prompt of `probes.toml`, whose answer is watched independently of the edits. `test` runs it on the base and on the
/// patched model, and `diff` runs it on the two models of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The id that identifies the probe in reports; unique among the probes.
    pub id: String,
    pub prompt: String,
    /// Whether the prompt is a user message, to which the model's chat template is applied; false by default.
    pub chat: bool,
    /// Whether the answer should stay unchanged; true by default. If false, the answer is reported but not checked.
    pub unchanged: bool,
    pub file: FileId,
    /// The byte range of the prompt in `file`.
    pub place: Range<usize>,
}

/// Parses `probes.toml`, and returns the probes and a finding for every mistake.
pub(crate) fn parse(file: FileId, text: &str) -> (Vec<Probe>, Vec<Diagnostic>) {
    let (mut reader, tree) = TomlReader::document(file, text, TABLES);
    let top = TomlReader::root(&tree);
    if !reader.format(&top, "format", PROBES_FORMAT) && top.has("format") {
        return (Vec::new(), reader.finish());
    }
    reader.known_keys(&top, PROBES_KEYS);
    let entries = reader.tables(&top, "probe", "this probe");
    let read: Vec<_> = entries.iter().filter_map(|entry| read_probe(&mut reader, entry)).collect();
    let mut seen: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    for (Probe { id, .. }, span) in &read {
        if let Some(first) = seen.get(id.as_str()) {
            let finding = Diagnostic::new(Code::DuplicateId, format!("the id of the probe `{id}` is used twice"))
                .at(file, span, "second here")
                .with(file, first, "first here");
            reader.push(finding);
        } else {
            seen.insert(id, span);
        }
    }
    let probes = read.into_iter().map(|(probe, _)| probe).collect();
    (probes, reader.finish())
}

fn read_probe(reader: &mut TomlReader, entry: &TomlTable<'_, '_>) -> Option<(Probe, Range<usize>)> {
    reader.known_keys(entry, PROBE_KEYS);
    let id = reader.required_text(entry, "id").inspect(|id| rules::id(reader, id));
    let prompt = reader.required_text(entry, "prompt");
    rules::expectations(reader, "prompt", prompt.as_slice());
    let [chat, unchanged] = ["chat", "unchanged"].map(|key| reader.boolean(entry, key).map(|(truth, _)| truth));
    let (chat, unchanged) = (chat.unwrap_or(false), unchanged.unwrap_or(true));
    let _ = reader.text(entry, "reason").inspect(|text| rules::record(reader, "reason", text));
    let (TomlText { value: id, span }, prompt) = (id?, prompt?);
    Some((Probe { id, prompt: prompt.value, chat, unchanged, file: reader.file, place: prompt.span }, span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Sources;
    use crate::diagnostics::{RenderStyle, render};

    #[test]
    fn probes_are_read_and_checked() {
        let text = "format = 1\n[[probe]]\nid = \"louvre.city\"\nprompt = \"The Louvre is in\"\n\
            [[probe]]\nid = \"rome\"\nprompt = \"Rome is\"\nunchanged = false\nreason = \"It is edited.\"\n";
        let mut sources = Sources::default();
        let file = sources.add(PROBES_FILE, text);
        let (probes, findings) = parse(file, text);
        assert!(findings.is_empty());
        assert_eq!((probes[0].unchanged, probes[1].unchanged), (true, false));
        assert_eq!(&text[probes[1].place.clone()], "\"Rome is\"");
        let wrong = "format = 1\nprobes = 1\n[[probe]]\nid = \"a\"\nprompt = \"\"\n[[probe]]\nid = \"a\"\n\
            prompt = \"x \"\nunchanged = 1\n[[probe]]\nid = \"B\"\n";
        let mut wrong_sources = Sources::default();
        let wrong_file = wrong_sources.add(PROBES_FILE, wrong);
        let (_, mistakes) = parse(wrong_file, wrong);
        let drawn: Vec<_> = mistakes.iter().map(|one| render(one, &wrong_sources, RenderStyle::default())).collect();
        insta::assert_snapshot!(drawn.join("\n\n"));
        assert_eq!(parse(wrong_file, "format = 2\nx = 1").1.len(), 1);
    }
}
