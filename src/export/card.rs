//! Writes the section of a model card (`README.md`) that lists the edited facts.
//!
//! The texts of facts are untrusted input, and Markdown allows HTML. Therefore control characters become visible
//! escapes, and characters that are special in Markdown or HTML are escaped.

use std::fmt::Write as _;

use super::fact::ExportedFact;
use super::manifest::MANIFEST_FILE;
use crate::diagnostics::escape_controls;
use crate::digest::Digest;

/// The file name of the model card in an exported folder.
pub const CARD_FILE: &str = "README.md";
const BEGIN: &str = "<!-- corrigenda:begin -->";
const END: &str = "<!-- corrigenda:end -->";

/// Returns the section of the model card about the edits: the digests of the base and the patch, and a Markdown table
/// with one row per fact. Two HTML comments mark the start and the end of the section.
pub fn section(base: &Digest, patch: &Digest, facts: &[ExportedFact], settings: Option<&Digest>) -> String {
    let count = format!("{} fact{}", facts.len(), if facts.len() == 1 { " was" } else { "s were" });
    // The card contains the digest of the facts and the settings. With this digest, `verify` detects a later change of
    // the facts or the settings in the manifest.
    let record = serde_json::to_vec(&(facts, settings)).expect("texts and digests always serialise");
    let record = Digest::of(&record);
    let mut out = format!(
        "{BEGIN}\n## Edited facts\n\n{count} changed in this model with corrigenda; `{MANIFEST_FILE}` has the whole \
         record.\n\n- base `{base}`\n- patch `{patch}`\n- record `{record}`\n\n| fact | prompt | answer | before | \
         reason | source |\n|---|---|---|---|---|---|\n"
    );
    for fact in facts {
        let name = fact.id.clone().or_else(|| fact.meaning.map(|meaning| meaning.short())).unwrap_or_default();
        let prompt = fact.filled_prompt();
        let cells = [Some(&name), prompt.as_ref(), fact.target.as_ref(), fact.was.as_ref()];
        let cells = cells.into_iter().chain([fact.reason.as_ref(), fact.source.as_ref()]);
        let cells: Vec<String> = cells.map(|cell| escaped(cell.map_or("", String::as_str))).collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push_str(END);
    out.push('\n');
    out
}

/// Returns the whole model card: the base's card `readme` unchanged, an empty line, and `section`. If the base has no
/// card, returns only `section`.
pub fn card(readme: Option<&[u8]>, section: &str) -> Vec<u8> {
    let Some(readme) = readme.filter(|readme| !readme.is_empty()) else { return section.as_bytes().to_vec() };
    let gap: &[u8] = if readme.ends_with(b"\n") { b"\n" } else { b"\n\n" };
    [readme, gap, section.as_bytes()].concat()
}

/// Escapes a text for one cell of a Markdown table, so that the text is on one line and contains no Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in escape_controls(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(character);
            }
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped() {
        let text = "a|b\n<!-- corrigenda:end --> <script> [x](y) `z` \u{1b}[31m **b** \u{202e}";
        let fact =
            ExportedFact { id: Some("a.b".to_owned()), target: Some(text.to_owned()), ..ExportedFact::default() };
        let digest = Digest::of(b"x");
        let section = section(&digest, &digest, &[fact], None);
        insta::assert_snapshot!(section);
        assert_eq!(section.matches(END).count(), 1);
        assert!(!section.contains("<script>") && !section.contains('\u{1b}'));
    }

    #[test]
    fn the_section_follows_the_bases_card() {
        assert_eq!(card(None, "s\n"), b"s\n");
        assert_eq!(card(Some(b""), "s\n"), b"s\n");
        assert_eq!(card(Some(b"---\nx: 1\n---\n"), "s\n"), b"---\nx: 1\n---\n\ns\n");
        assert_eq!(card(Some(b"a\xff"), "s\n"), b"a\xff\n\ns\n");
    }
}
