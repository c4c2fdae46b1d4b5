//! Warns about paraphrases that misspell the subject. Without this warning, `corrigenda test` would report a wrong
//! answer of the model, and the user would not see the cause.

use strsim::normalized_damerau_levenshtein as likeness;

use super::edit::Edit;
use crate::diagnostics::{CappedFindings, Code, Diagnostic};

/// The minimum similarity (normalised Damerau-Levenshtein, 0 to 1) at which words count as a misspelling of the subject
/// or of an alias.
const ALIKE: f64 = 0.8;
/// The minimum length, in characters, of a subject or alias that is checked. A shorter name is similar to too many
/// words.
const SHORTEST: usize = 5;
/// The maximum number of words in a paraphrase that is checked. The limit bounds the running time.
const MOST_WORDS: usize = 256;

/// Adds a finding for every paraphrase that contains neither the subject nor an alias, but words that are similar to
/// one of these names.
pub(crate) fn find(edits: &[Edit], findings: &mut Vec<Diagnostic>) {
    let mut found = CappedFindings::default();
    for edit in edits {
        for (text, span) in edit.expect.paraphrase.iter().zip(&edit.spans.paraphrase) {
            let Some((words, name)) = nearly(edit, text) else { continue };
            let message = format!("edit `{}`: a paraphrase contains {words:?}, but the subject is {name:?}", edit.id);
            found.push(
                Diagnostic::new(Code::SubjectMisspelt, message)
                    .at(edit.spans.file, span, "similar to the subject")
                    .with(edit.spans.file, &edit.spans.subject, "the subject")
                    .help("write the subject as in the edit, or add this name to `aliases`"),
            );
        }
    }
    findings.extend(found.finish());
}

/// Finds the subject or alias that `text` misspells. Returns the words of `text` that are most similar to it, and the
/// subject or alias itself. Returns `None` if `text` contains the subject or an alias, has more than [`MOST_WORDS`]
/// words, or has no words that are similar enough.
fn nearly<'e>(edit: &'e Edit, text: &str) -> Option<(String, &'e str)> {
    let folded = text.to_lowercase();
    let names = || edit.names().map(|(name, _)| name);
    if names().any(|name| folded.contains(&name.to_lowercase())) {
        return None;
    }
    let words: Vec<&str> = text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect();
    if words.len() > MOST_WORDS {
        return None;
    }
    names().filter(|name| name.chars().count() >= SHORTEST).find_map(|name| {
        let count = name.split_whitespace().count().max(1);
        let spans = words.windows(count).map(|span| span.join(" "));
        let near = spans
            .filter(|span| is_slip(span, name))
            .map(|span| (likeness(&span.to_lowercase(), &name.to_lowercase()), span));
        let (_, span) = near.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((span, name))
    })
}

/// Returns whether `words` may be a misspelling of `name`. The texts are compared word by word. Two words must be
/// equal, or they must have the same first letter and differ in more than their endings. Words of `name` with fewer
/// than [`SHORTEST`] characters must be equal. The caller also computes how similar the texts are.
///
/// `German` is not a misspelling of `Germany`, and `South Korea` is not a misspelling of `North Korea`.
fn is_slip(words: &str, name: &str) -> bool {
    let first = |word: &str| word.chars().next().map(|letter| letter.to_lowercase().collect::<String>());
    let same = |(word, own): (&str, &str)| {
        let bare_own = bare(own);
        word.to_lowercase() == bare_own.to_lowercase()
            || (bare_own.chars().count() >= SHORTEST && first(word) == first(bare_own) && !is_ending(word, bare_own))
    };
    words.split_whitespace().zip(name.split_whitespace()).all(same)
}

/// Returns whether two words differ only in their endings, such as "German" and "Germany". Their lengths must differ,
/// and at most the last two letters of the shorter word may differ from the longer word.
fn is_ending(word: &str, own: &str) -> bool {
    let (word, own): (Vec<char>, Vec<char>) =
        (word.to_lowercase().chars().collect(), own.to_lowercase().chars().collect());
    let shared = word.iter().zip(&own).take_while(|(a, b)| a == b).count();
    word.len() != own.len() && shared + 2 >= word.len().min(own.len())
}

/// Returns a word without surrounding punctuation and without a final `'s`.
fn bare(word: &str) -> &str {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_files;

    fn findings_of(subject: &str, more: &str, paraphrase: &str) -> Vec<String> {
        let text = format!(
            "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"{subject}\"\n{more}prompt = \"{{}} is in\"\ntarget = \"Rome\"\n\
             [edit.expect]\nparaphrase = [\"{paraphrase}\"]\n"
        );
        let (_, findings) = parse_files(vec![("a.toml".to_owned(), text.into_bytes())]).expect("valid");
        findings.iter().filter(|one| one.code == Code::SubjectMisspelt).map(|one| one.message.clone()).collect()
    }

    #[test]
    fn a_misspelt_subject_is_reported() {
        let slip = findings_of("Mont Blanc", "", "The summit of Mont Blank's massif is in");
        assert_eq!(slip, ["edit `a`: a paraphrase contains \"Mont Blank\", but the subject is \"Mont Blanc\""]);
        assert_eq!(findings_of("France", "", "The capital of Frnace is in").len(), 1);
        for fine in ["Mont Blanc lies in", "the top of mont blanc is in", "The mountain is in", "Montreal is in"] {
            assert!(findings_of("Mont Blanc", "", fine).is_empty(), "{fine}");
        }
        assert!(findings_of("Mont Blanc", "aliases = [\"Mont Blank\"]\n", "Mont Blank is in").is_empty());
        assert!(findings_of("Ada", "", "Ida is in").is_empty(), "a short name is similar to many words");
        for (subject, other) in [
            ("Germany", "The German capital is"),
            ("India", "Indian food is"),
            ("Australia", "The Australian desert is"),
            ("World War I", "World War II began in"),
            ("North Korea", "South Korea is in"),
        ] {
            assert!(findings_of(subject, "", other).is_empty(), "{other}");
        }
    }
}
