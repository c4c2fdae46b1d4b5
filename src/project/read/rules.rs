//! Checks the texts of one edit, and the paths in `corrigenda.toml`. Every broken rule gives a finding.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use unicode_normalization::{IsNormalized, is_nfc, is_nfc_quick};

use super::toml_reader::{TomlReader, TomlText};
use crate::diagnostics::{Code, Diagnostic, is_bidi, is_control, shorten};
use crate::project::edits::edit::{Edit, PLACEHOLDER};

/// The maximum length of one TOML string in a project file, in bytes.
pub const MOST_TEXT_BYTES: usize = 4096;
pub const MOST_ID_BYTES: usize = 128;

/// Checks a text that the model reads. A text that is empty, is too long or contains a control character is an error. A
/// text that is not in Unicode normal form C gives a warning.
pub(crate) fn fact(reader: &mut TomlReader, key: &str, text: &TomlText) {
    if text.value.trim().is_empty() {
        let state = if text.value.is_empty() { "empty" } else { "only white space" };
        reader.note(Code::EmptyText, format!("`{key}` is {state}"), &text.span, "write a text here");
    }
    length(reader, key, text);
    characters(reader, key, text, is_control);
    if is_nfc_quick(text.value.chars()) != IsNormalized::Yes && !is_nfc(&text.value) {
        let finding = Diagnostic::new(Code::NotNormalised, format!("`{key}` is not in Unicode normal form C"))
            .at(reader.file, &text.span, "some letters are written as a letter and a mark")
            .help("the model sees other tokens than for the usual spelling; most editors can normalise the text");
        reader.push(finding);
    }
}

/// Checks a text that only people read, such as `reason`. The text may be empty and may have several lines.
pub(crate) fn record(reader: &mut TomlReader, key: &str, text: &TomlText) {
    length(reader, key, text);
    characters(reader, key, text, |character| is_control(character) && !matches!(character, '\n' | '\r' | '\t'));
}

/// Checks the text of a path in `corrigenda.toml`, which must not be empty, too long, or contain control characters.
/// Returns false only if it is empty. The function does not check whether the file exists.
pub(crate) fn path(reader: &mut TomlReader, key: &str, text: &TomlText) -> bool {
    if text.value.trim().is_empty() {
        reader.note(Code::EmptyText, format!("`{key}` is empty"), &text.span, "write a path here");
    }
    length(reader, key, text);
    characters(reader, key, text, is_control);
    !text.value.trim().is_empty()
}

/// Checks the path of the folder of edits, and returns it without `.` components. The folder must be inside the
/// project's folder, so that its edits are in the same git repository and can be reviewed.
pub(crate) fn path_below(reader: &mut TomlReader, key: &str, text: &TomlText) -> Option<PathBuf> {
    let parts = Path::new(&text.value).components().filter(|part| *part != Component::CurDir);
    let below: Option<PathBuf> = parts.map(|part| matches!(part, Component::Normal(_)).then_some(part)).collect();
    let below = below.filter(|path| !path.as_os_str().is_empty());
    if below.is_none() {
        let finding = Diagnostic::new(Code::PathOutside, format!("`{key}` is not a folder below the project's folder"));
        reader.push(
            finding.at(reader.file, &text.span, "not below it").help("move the folder there, and name it without `..`"),
        );
    }
    below
}

fn length(reader: &mut TomlReader, key: &str, text: &TomlText) {
    if text.value.len() > MOST_TEXT_BYTES {
        let message = format!("`{key}` is {} bytes long; at most {MOST_TEXT_BYTES} are allowed", text.value.len());
        reader.note(Code::TextTooLong, message, &text.span, "too long");
    }
}

fn characters(reader: &mut TomlReader, key: &str, text: &TomlText, refused: impl Fn(char) -> bool) {
    if let Some(found) = text.value.chars().find(|character| refused(*character)) {
        let message = format!("`{key}` holds the control character {}", code_point(found));
        reader.note(Code::ControlCharacter, message, &text.span, "in this text");
    }
    if let Some(found) = text.value.chars().find(|character| is_bidi(*character)) {
        let message = format!("`{key}` holds the invisible character {}", code_point(found));
        let finding = Diagnostic::new(Code::BidiCharacter, message)
            .at(reader.file, &text.span, "the displayed text may differ from the stored one")
            .help("a reviewer sees the characters in another order than the model does; remove it if you can");
        reader.push(finding);
    }
}

fn code_point(character: char) -> String {
    let name = match character {
        '\n' => " (line break)",
        '\t' => " (tab)",
        '\0' => " (NUL)",
        '\u{1b}' => " (escape)",
        _ => "",
    };
    format!("U+{:04X}{name}", u32::from(character))
}

/// Adds a finding if an id is invalid, and suggests a similar valid id.
pub(crate) fn id(reader: &mut TomlReader, id: &TomlText) {
    if is_id(&id.value) {
        return;
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let mut finding = Diagnostic::new(Code::BadId, format!("`{}` cannot be an id", shorten(&id.value)))
        .at(reader.file, &id.span, "a-z, 0-9, `.` and `-`, a letter or digit first")
        .help(format!("an id has at most {MOST_ID_BYTES} bytes and never changes: it names the fact in reports"));
    let spelled: String = id.value.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect::<String>();
    let suggestion = spelled.trim_start_matches(['.', '-']).trim_end_matches(['.', '-']);
    if is_id(suggestion) {
        finding = finding.help(format!("for example `id = \"{suggestion}\"`"));
    }
    reader.push(finding);
}

/// Returns whether a text is a valid id: a-z, 0-9, `.` and `-`, beginning with a letter or digit, at most
/// [`MOST_ID_BYTES`] bytes.
pub fn is_id(text: &str) -> bool {
    let head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let tail = |b: u8| head(b) || matches!(b, b'.' | b'-');
    let bytes = text.as_bytes();
    bytes.len() <= MOST_ID_BYTES && bytes.first().is_some_and(|b| head(*b)) && bytes.iter().all(|b| tail(*b))
}

/// Checks a subject: it must be a valid text ([`fact`]) without white space at either end.
pub(crate) fn subject(reader: &mut TomlReader, subject: &TomlText) {
    fact(reader, "subject", subject);
    let trimmed = subject.value.trim();
    if !trimmed.is_empty() && trimmed != subject.value {
        let finding = Diagnostic::new(Code::SubjectWhitespace, "the subject begins or ends with white space")
            .at(reader.file, &subject.span, "the edit is made at the subject's last token")
            .help("move the white space into the prompt");
        reader.push(finding);
    }
}

/// Checks the aliases of the subject `own`. The subject and the aliases must all be different.
pub(crate) fn aliases(reader: &mut TomlReader, aliases: &[TomlText], own: Option<&TomlText>) {
    for (index, alias) in aliases.iter().enumerate() {
        fact(reader, "aliases", alias);
        if alias.value.trim() != alias.value && !alias.value.trim().is_empty() {
            let finding = Diagnostic::new(Code::SubjectWhitespace, "an alias begins or ends with white space")
                .at(reader.file, &alias.span, "the edit is made at its last token")
                .help("move the white space into the prompt");
            reader.push(finding);
        }
        let earlier = own.into_iter().chain(&aliases[..index]).find(|other| other.value == alias.value);
        if let Some(other) = earlier {
            let finding = Diagnostic::new(Code::DuplicateAlias, "the subject has this name already")
                .at(reader.file, &alias.span, "again here")
                .with(reader.file, &other.span, "first here")
                .help("remove it from `aliases`");
            reader.push(finding);
        }
    }
}

/// Checks a prompt: it must contain the placeholder `{}` exactly once, and should not end in white space.
pub(crate) fn prompt(reader: &mut TomlReader, prompt: &TomlText, subject: Option<&TomlText>) {
    fact(reader, "prompt", prompt);
    trailing_space(reader, "the prompt", prompt);
    let count = prompt.value.matches(PLACEHOLDER).count();
    if count == 1 || prompt.value.trim().is_empty() {
        return;
    }
    if count > 1 {
        let finding = Diagnostic::new(Code::PlaceholderRepeated, format!("the prompt has {count} `{{}}`"))
            .at(reader.file, &prompt.span, "exactly one is needed")
            .help("write the subject itself at every further place");
        reader.push(finding);
        return;
    }
    let named = subject.filter(|subject| !subject.value.trim().is_empty() && prompt.value.contains(&subject.value));
    let advice = match named {
        Some(contained) => {
            let mended = prompt.value.replacen(&contained.value, PLACEHOLDER, 1);
            format!("put `{{}}` in place of the subject: `prompt = {}`", toml_string(&shorten(&mended)))
        }
        None => "write `{}` in place of the subject".to_owned(),
    };
    let finding = Diagnostic::new(Code::PlaceholderMissing, "the prompt has no `{}`")
        .at(reader.file, &prompt.span, "there is no place for the subject")
        .help(advice);
    reader.push(finding);
}

/// Warns about white space at the end of a prompt. Byte-level tokenizers attach a space to the following word, so
/// "in" + " Rome" has other tokens than "in " + "Rome".
fn trailing_space(reader: &mut TomlReader, what: &str, text: &TomlText) {
    if text.value.ends_with(char::is_whitespace) && !text.value.trim().is_empty() {
        let finding = Diagnostic::new(Code::TrailingSpace, format!("{what} ends in white space"))
            .at(reader.file, &text.span, "the space before the answer belongs to the answer")
            .help("remove the white space: the space before the answer is added automatically");
        reader.push(finding);
    }
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Checks a list of prompts that must not contain the placeholder `{}`, such as `paraphrase`. No prompt may be
/// repeated.
pub(crate) fn expectations(reader: &mut TomlReader, key: &str, texts: &[TomlText]) {
    let mut seen: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    for text in texts {
        fact(reader, key, text);
        trailing_space(reader, &format!("a prompt of `{key}`"), text);
        if text.value.contains(PLACEHOLDER) {
            let finding = Diagnostic::new(Code::PlaceholderLiteral, format!("`{{}}` is not replaced in `{key}`"))
                .at(reader.file, &text.span, "the model would read the two braces")
                .help("write the whole sentence");
            reader.push(finding);
        }
        match seen.get(text.value.as_str()) {
            Some(first) => {
                let finding = Diagnostic::new(Code::DuplicateEntry, format!("`{key}` holds the same prompt twice"))
                    .at(reader.file, &text.span, "again here")
                    .with(reader.file, first, "first here");
                reader.push(finding);
            }
            None => {
                seen.insert(&text.value, &text.span);
            }
        }
    }
}

/// Checks the rules that involve several texts of one edit. For example, the target must differ from the old answer.
pub(crate) fn whole_edit(reader: &mut TomlReader, edit: &Edit) {
    let spans = &edit.spans;
    if let (Some(was), Some(span)) = (&edit.was, &spans.was)
        && was.trim() == edit.target.trim()
        && !was.trim().is_empty()
    {
        let finding = Diagnostic::new(Code::TargetUnchanged, "the target is the same as the old answer")
            .at(reader.file, &spans.target, "the new answer")
            .with(reader.file, span, "the old answer")
            .help("remove the edit if the fact has not changed");
        reader.push(finding);
    }
    accepted(reader, edit);
    repeated_consequences(reader, edit);
    let filled: Vec<String> = edit.names().map(|(name, _)| edit.filled_with(name)).collect();
    for (text, span) in edit.expect.unchanged.iter().zip(&spans.unchanged) {
        let other = if filled.contains(text) {
            Some((&spans.prompt, "the edit changes this prompt, with its subject"))
        } else {
            let same = edit.expect.paraphrase.iter().position(|paraphrase| paraphrase == text);
            same.map(|index| (&spans.paraphrase[index], "and expected to give the target here"))
        };
        if let Some((other, label)) = other {
            let finding = Diagnostic::new(Code::UnchangedEdited, "a prompt cannot both change and stay unchanged")
                .at(reader.file, span, "expected to stay unchanged here")
                .with(reader.file, other, label);
            reader.push(finding);
        }
    }
}

/// Warns about consequences with the same prompt as the edit, which is asked as the prompt of the edit already.
fn repeated_consequences(reader: &mut TomlReader, edit: &Edit) {
    let filled = edit.filled_prompt();
    for (consequence, span) in edit.expect.consequence.iter().zip(&edit.spans.consequence) {
        if consequence.prompt == filled {
            let finding = Diagnostic::new(Code::DuplicateEntry, "a consequence has the prompt of its edit")
                .at(reader.file, &span.prompt, "again here")
                .with(reader.file, &edit.spans.prompt, "the prompt of the edit, with its subject");
            reader.push(finding);
        }
    }
}

/// Checks the answers in `expect.accept`. An answer must not be the old answer, the beginning of the old answer, the
/// target, or another accepted answer.
fn accepted(reader: &mut TomlReader, edit: &Edit) {
    let spans = &edit.spans;
    let old = edit.was.as_deref().map(folded).zip(spans.was.as_ref());
    let mut seen = vec![(edit.target.trim(), &spans.target)];
    for (text, span) in edit.expect.accept.iter().zip(&spans.accept) {
        // `fact` already reports an empty text.
        if text.trim().is_empty() {
            continue;
        }
        if let Some((_, span_of_old)) = old.as_ref().filter(|(old, _)| begins(old, &folded(text))) {
            let finding = Diagnostic::new(Code::AcceptsOld, "the old answer counts as the target")
                .at(reader.file, span, "this answer is accepted")
                .with(reader.file, span_of_old, "it is the old answer, or the beginning of it")
                .help("remove it from `accept`: with it, the base already meets the expectation");
            reader.push(finding);
        }
        match seen.iter().find(|(other, _)| *other == text.trim()) {
            Some((_, first)) => {
                let finding = Diagnostic::new(Code::DuplicateEntry, "this answer already counts as the target")
                    .at(reader.file, span, "again here")
                    .with(reader.file, first, "first here");
                reader.push(finding);
            }
            None => seen.push((text.trim(), span)),
        }
    }
}

/// Returns whether `whole` begins with `start`, and `start` ends at the end of a word. For example, "paris, france"
/// begins with the answer "paris", but "parisian" does not.
fn begins(whole: &str, start: &str) -> bool {
    whole.strip_prefix(start).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Normalises a text for comparison: lower case, single spaces.
fn folded(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_another_where_a_word_ends() {
        for (whole, start) in [("paris", "paris"), ("paris, france", "paris"), ("new york", "new")] {
            assert!(begins(&folded(whole), &folded(start)), "{whole}: {start}");
        }
        for (whole, start) in [("parish", "paris"), ("paris", "paris, france"), ("rome", "paris")] {
            assert!(!begins(&folded(whole), &folded(start)), "{whole}: {start}");
        }
        assert_eq!(folded("  The\tUnited\u{a0}Kingdom "), "the united kingdom");
    }

    #[test]
    fn ids() {
        for good in ["a", "0", "eiffel-tower.city", "a..b", &"a".repeat(128)] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", ".a", "-a", "A", "a b", "a/b", "é", "a_b", &"a".repeat(129)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
