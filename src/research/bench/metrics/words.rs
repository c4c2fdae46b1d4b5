//! Splits a text into words by the Penn Treebank rules of NLTK, as `word_tokenize(text, preserve_line=True)` does.
//!
//! The released evaluation calls `word_tokenize` without `preserve_line`. NLTK then splits the text into sentences
//! first, and the full stop of each sentence is a separate word. In this module only the full stop at the end of the
//! text is a separate word.

use std::sync::LazyLock;

use fancy_regex::Regex;

/// The pattern of a word character, equivalent to Python's `\w`.
const LETTER: &str = r"[\p{L}\p{N}_]";

/// A substitution: a regular expression, and the text that replaces each match.
type Rule = (Regex, &'static str);

/// Compiles a substitution: each match of `pattern` is replaced by `with`. In `pattern`, `W` stands for [`LETTER`].
fn rule(pattern: &str, with: &'static str) -> Rule {
    let pattern = pattern.replace('W', LETTER);
    (Regex::new(&pattern).expect("every pattern below is one"), with)
}

/// The substitutions that put spaces between the words of a text and replace its double quotes. The rules in `open`
/// (for opening quotes, punctuation and brackets) are applied first. Then [`words`] adds a space before and after the
/// text, and applies the rules in `close` (for closing quotes and contractions).
struct Rules {
    open: Vec<Rule>,
    close: Vec<Rule>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    open: vec![
        rule("([«“‘„]|[`]+)", " $1 "),
        rule("^\"", "``"),
        rule("(``)", " $1 "),
        rule("([ (\\[{<])(\"|'{2})", "$1 `` "),
        rule(r"(?i)(?<!W)(')(?!(?:re|ve|ll|m|t|s|d|n)(?!W))(?=W)", "$1 "),
        rule(r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "$1 $2 $3 "),
        rule(r"([:,])([^\d])", " $1 $2"),
        rule(r"([:,])(?=\n?\z)", " $1 "),
        rule(r"\.{2,}", " $0 "),
        rule("[;@#$%&]", " $0 "),
        rule("[\u{2012}-\u{2015}]", " $0 "),
        rule(r#"([^.])(\.)([\])}>"']*)\s*$"#, "$1 $2$3 "),
        rule("[?!]", " $0 "),
        rule("([^'])' ", "$1 ' "),
        rule(r"[*]", " $0 "),
        rule(r"[\]\[(){}<>]", " $0 "),
        rule("--", " -- "),
    ],
    close: vec![
        rule("([»”’])", " $1 "),
        rule("''", " '' "),
        rule("\"", " '' "),
        rule(r"\s+", " "),
        rule("([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
        rule("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
        rule(r"(?i)(?<!W)(can)(not)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(d)('ye)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(gim)(me)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(gon)(na)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(got)(ta)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(lem)(me)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(more)('n)(?!W)", " $1 $2 "),
        rule(r"(?i)(?<!W)(wan)(na)(?=\s)", " $1 $2 "),
        rule(r"(?i) ('t)(is)(?!W)", " $1 $2 "),
        rule(r"(?i) ('t)(was)(?!W)", " $1 $2 "),
    ],
});

fn apply(rules: &[Rule], text: String) -> String {
    rules.iter().fold(text, |text, (found, with)| found.replace_all(&text, *with).into_owned())
}

pub fn words(text: &str) -> Vec<String> {
    let text = apply(&RULES.open, text.to_owned());
    let text = apply(&RULES.close, format!(" {text} "));
    let space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    text.split(space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the words of a few texts. The integration tests compare the words of many more texts with those of NLTK.
    #[test]
    fn words_are_the_treebanks() {
        let said = |text: &str| words(text).join(" ");
        assert_eq!(
            said("Good muffins cost $3.88 (roughly 3,36 euros)."),
            "Good muffins cost $ 3.88 ( roughly 3,36 euros ) ."
        );
        assert_eq!(said("in New York. Please"), "in New York. Please");
        assert_eq!(said("They'll save and can't; \"gonna\" cannot"), "They 'll save and ca n't ; `` gon na '' can not");
        assert_eq!(said("a -- b...c: d,"), "a -- b ... c : d ,");
        assert_eq!(said(""), "");
    }
}
