//! Judges a generated text: whether it is an answer, contains it, or repeats itself.
//!
//! Texts are compared word by word after normalisation: Unicode NFC, lower case, without punctuation, without the
//! articles a, an and the. Symbols that make another word stay (`C++`, `-5`). Scripts that are written without spaces are
//! compared character by character. The rules are those of the evaluation WILD (Yang et al. 2025, "The Mirage of Model
//! Editing"), which judges by exact match; the containment of whole words is added to it.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use crate::project::SaysRule;

/// The maximum number of generated tokens of a judged text, as in WILD.
pub const SAID_TOKENS: usize = 50;
/// The number of times that a phrase must stand at the end of a text, one after the other, for the text to repeat
/// itself.
const REPETITIONS: usize = 3;
/// The maximum length of such a phrase in words.
const MOST_PHRASE: usize = 16;

/// The judgement of a generated text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Said")]
pub struct SaidText {
    /// The generated text: at most 50 tokens, decoded greedily.
    pub text: String,
    /// Whether the first sentence of the text is an accepted answer, and nothing else.
    pub exact: bool,
    /// Whether the text contains an accepted answer as whole words, in the first sentence or, after a user message,
    /// anywhere.
    pub contains: bool,
    /// Whether the same part of the text contains an answer that the model should not give any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forbidden: bool,
    /// Whether the first sentence contains an accepted answer twice, or the text ends with the same phrase three times.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
}

impl SaidText {
    /// Judges `text`, the continuation of a prompt or, if `chat` is true, the reply to a user message. `answers` are the
    /// accepted answers, and `never` the answers that the model should not give any more.
    pub fn judge(text: &str, answers: &[&str], never: &[&str], chat: bool) -> Self {
        let sentence = first_sentence(text, answers);
        let (own, all) = (Words::of(sentence), Words::of(text));
        let part = if chat { &all } else { &own };
        let answers: Vec<Words> = answers.iter().map(|answer| Words::of(answer)).collect();
        Self {
            text: text.to_owned(),
            exact: answers.iter().any(|answer| own.plain == answer.plain),
            contains: answers.iter().any(|answer| part.contain(answer)),
            // An old answer that is a part of an accepted one, such as `York` of `New York`, is not forbidden there.
            forbidden: never.iter().any(|old| part.is_said_outside(&Words::of(old), &answers)),
            repeats: answers.iter().any(|answer| own.occurrences(answer) > 1) || loops(&all.plain),
        }
    }

    /// Returns whether the text meets a rule. A text with a forbidden answer meets no rule.
    pub fn meets(&self, rule: SaysRule) -> bool {
        let says = match rule {
            SaysRule::Exact => self.exact,
            SaysRule::Contains => self.contains,
        };
        says && !self.forbidden
    }
}

/// Returns the beginning of a generated text up to its first line break or the end of its first sentence. A full stop
/// ends a sentence if white space or nothing follows it. A full stop inside of an accepted answer, after an initial
/// (`John F. Kennedy`) or before the first word ends no sentence.
pub fn first_sentence<'t>(text: &'t str, answers: &[&str]) -> &'t str {
    let text = text.trim_start();
    let answers = answers.iter().map(|answer| answer.trim()).filter(|answer| !answer.is_empty());
    let answered: Vec<Range<usize>> = answers.flat_map(|answer| ranges(text, answer)).collect();
    for (at, letter) in text.char_indices() {
        let before = &text[..at];
        let ends = match letter {
            '\n' | '\r' | '。' => true,
            '.' => {
                let is_inside = answered.iter().any(|range| range.start < at && at + 1 < range.end);
                let follows_answer = answered.iter().any(|range| range.end == at);
                text[at + 1..].chars().next().is_none_or(char::is_whitespace)
                    && before.chars().any(char::is_alphanumeric)
                    && !is_inside
                    && (follows_answer || !ends_with_initial(before))
            }
            _ => false,
        };
        if ends {
            return before;
        }
    }
    text
}

/// Returns the byte ranges of `answer` in `text` in any case, each of which starts and ends at the border of a word.
fn ranges<'a>(text: &'a str, answer: &'a str) -> impl Iterator<Item = Range<usize>> {
    let starts = text.char_indices().map(|(start, _)| start);
    starts.filter_map(move |start| {
        let end = start + same_letters(&text[start..], answer)?;
        let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        let inside = is_letter(text[..start].chars().next_back()) || is_letter(text[end..].chars().next());
        (!inside).then_some(start..end)
    })
}

/// Returns the length in bytes of the beginning of `text` that has the letters of `answer` in any case; `None` if `text`
/// begins with other letters.
fn same_letters(text: &str, answer: &str) -> Option<usize> {
    let mut letters = text.char_indices();
    for wanted in answer.chars() {
        let (_, letter) = letters.next()?;
        if !letter.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(letters.next().map_or(text.len(), |(end, _)| end))
}

/// Returns whether a text ends with a capital letter that stands alone, as the initial of a name does.
fn ends_with_initial(text: &str) -> bool {
    let mut letters = text.chars().rev();
    let initial = letters.next().is_some_and(char::is_uppercase);
    initial && letters.next().is_none_or(|before| before.is_whitespace() || before == '.')
}

/// The words of a text after normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// All words. If the text has only punctuation, its parts between white space are the words.
    all: Vec<String>,
    /// The words without articles; all words if the text has only articles.
    plain: Vec<String>,
}

impl Words {
    pub fn of(text: &str) -> Self {
        let all = split(text);
        let plain: Vec<String> = all.iter().filter(|word| !is_article(word)).cloned().collect();
        Self { plain: if plain.is_empty() { all.clone() } else { plain }, all }
    }

    /// Returns whether `answer` occurs in this text as whole words.
    pub fn contain(&self, answer: &Self) -> bool {
        self.occurrences(answer) > 0
    }

    /// Returns whether this text has more words than another.
    pub fn is_longer(&self, other: &Self) -> bool {
        self.plain.len() > other.plain.len()
    }

    /// Returns how often `answer` occurs in this text, without overlaps.
    fn occurrences(&self, answer: &Self) -> usize {
        let articles = answer.has_only_articles();
        places(self.compared(articles), answer.compared(articles)).len()
    }

    /// Returns whether `old` occurs in this text at a place that is not part of an accepted answer.
    pub fn is_said_outside(&self, old: &Self, answers: &[Self]) -> bool {
        let articles = old.has_only_articles();
        let text = self.compared(articles);
        let mut covered = vec![false; text.len()];
        for answer in answers.iter().map(|answer| answer.compared(articles)) {
            for at in places(text, answer) {
                covered[at..at + answer.len()].fill(true);
            }
        }
        let old = old.compared(articles);
        places(text, old).into_iter().any(|at| !covered[at..at + old.len()].iter().all(|covered| *covered))
    }

    /// Returns the words to compare: with articles if the text to find has nothing else, such as the answer `A`.
    fn compared(&self, articles: bool) -> &[String] {
        if articles { &self.all } else { &self.plain }
    }

    fn has_only_articles(&self) -> bool {
        self.all.iter().all(|word| is_article(word))
    }
}

/// Returns the words of a text after normalisation, with articles.
fn split(text: &str) -> Vec<String> {
    let lower = text.nfc().collect::<String>().to_lowercase();
    let mut spaced = String::with_capacity(lower.len());
    for (at, letter) in lower.char_indices() {
        match letter {
            _ if is_apostrophe(letter) => {
                // The `'s` of a possessive is left out, so that `Rome's` contains the word `Rome`.
                let mut after = lower[at + letter.len_utf8()..].chars();
                if after.next() == Some('s') && after.next().is_none_or(|next| !next.is_alphanumeric()) {
                    spaced.push('\'');
                }
            }
            _ if letter.is_alphanumeric() && has_no_spaces(letter) => spaced.extend([' ', letter, ' ']),
            _ if letter.is_alphanumeric() || is_mark(letter) => spaced.push(letter),
            // Full stops of abbreviations and separators in numbers are left out.
            '.' if is_inside_number(&lower, at) => spaced.push(letter),
            '.' => {}
            ',' if is_inside_number(&lower, at) => {}
            // Symbols that make another word, as in `C++`, `C#` and `-5`.
            '+' | '#' if spaced.ends_with(|before: char| before.is_alphanumeric() || before == letter) => {
                spaced.push(letter);
            }
            '-' if is_sign(&lower, at) => spaced.push(letter),
            _ => spaced.push(' '),
        }
    }
    let plain = spaced.replace("'s", "").replace('\'', "");
    let found: Vec<String> = plain.split_whitespace().map(str::to_owned).collect();
    if found.is_empty() { lower.split_whitespace().map(str::to_owned).collect() } else { found }
}

fn is_article(word: &str) -> bool {
    ["a", "an", "the"].contains(&word)
}

fn is_apostrophe(letter: char) -> bool {
    matches!(letter, '\'' | '’' | 'ʼ')
}

/// Returns whether a letter belongs to a script that is written without spaces between words.
fn has_no_spaces(letter: char) -> bool {
    matches!(letter, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Returns whether a character is a combining mark, which belongs to the letter before it.
fn is_mark(letter: char) -> bool {
    unicode_normalization::char::is_combining_mark(letter)
}

/// Returns whether the character at the byte offset `at` is the sign of a number.
fn is_sign(text: &str, at: usize) -> bool {
    text[at + 1..].starts_with(|next: char| next.is_ascii_digit())
        && text[..at].chars().next_back().is_none_or(char::is_whitespace)
}

fn is_inside_number(text: &str, at: usize) -> bool {
    let digit = |found: Option<char>| found.is_some_and(|one| one.is_ascii_digit());
    digit(text[..at].chars().next_back()) && digit(text[at + 1..].chars().next())
}

/// Returns the indices in `text` at which `answer` starts, without overlaps.
fn places(text: &[String], answer: &[String]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while !answer.is_empty() && at + answer.len() <= text.len() {
        if text[at..at + answer.len()] == *answer {
            found.push(at);
            at += answer.len();
        } else {
            at += 1;
        }
    }
    found
}

/// Returns whether a text ends with the same phrase [`REPETITIONS`] times.
fn loops(text: &[String]) -> bool {
    (1..=MOST_PHRASE).any(|length| {
        let Some(start) = text.len().checked_sub(length * REPETITIONS) else { return false };
        let last = &text[text.len() - length..];
        text[start..].chunks(length).all(|phrase| phrase == last)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(text: &str, answers: &[&str]) -> (bool, bool, bool) {
        let said = SaidText::judge(text, answers, &[], false);
        (said.exact, said.contains, said.repeats)
    }

    #[test]
    fn exact_and_contained_answers() {
        assert_eq!(judge(" Rome.", &["Rome"]), (true, true, false));
        assert_eq!(judge(" the ROME", &["Rome"]), (true, true, false));
        assert_eq!(judge(" Rome, which is old. Paris is too.", &["Rome"]), (false, true, false));
        assert_eq!(judge(" Paris. Rome is old.", &["Rome"]), (false, false, false));
        assert_eq!(judge(" Romers", &["Rome"]), (false, false, false));
        assert_eq!(judge(" Rome's centre", &["Rome"]), (false, true, false));
        assert_eq!(judge(" Rome-based\nParis", &["Rome"]), (false, true, false));
        assert_eq!(judge("", &["Rome"]), (false, false, false));
    }

    #[test]
    fn a_full_stop_inside_of_an_answer_or_a_number_ends_nothing() {
        assert_eq!(first_sentence(" St. Louis. It is big", &["St. Louis"]), "St. Louis");
        assert_eq!(first_sentence(" St. Louis. It is big", &[]), "St");
        assert_eq!(first_sentence(" 3.5 million. Yes", &[]), "3.5 million");
        assert_eq!(first_sentence(" 東京。大阪", &[]), "東京");
        assert_eq!(judge(" 1,000 people", &["1000"]), (false, true, false));
        assert_eq!(judge(" 35", &["3.5"]), (false, false, false));
        assert_eq!(judge(" -5 degrees", &["5"]), (false, false, false));
        assert_eq!(judge(" -5 degrees", &["-5"]), (false, true, false));
    }

    #[test]
    fn abbreviations_end_nothing() {
        for (text, answer, exact) in [
            (" the U.S. Navy. It is", "U.S. Navy", true),
            (" THE u.s. navy", "U.S. Navy", true),
            (" He was born in St. Louis. Then", "St. Louis", false),
            (" John F. Kennedy was", "Kennedy", false),
            (" J. K. Rowling. She", "J. K. Rowling", true),
            (". Kennedy is that of politician.", "Kennedy", false),
            (" Vitamin A. It is", "Vitamin A", true),
            (" A. It is", "A", true),
        ] {
            assert_eq!(judge(text, &[answer]), (exact, true, false), "{text}");
        }
        assert_eq!(first_sentence(" It is B. It is", &["B"]), "It is B");
        assert_eq!(first_sentence(" St. Louisville. It", &["St. Louis"]), "St");
    }

    #[test]
    fn symbols_make_another_word() {
        let words = |text| Words::of(text).plain;
        assert_eq!(words("C++, C# and C"), ["c++", "c#", "and", "c"]);
        assert_eq!(words("1 + 2 = 3 #4"), ["1", "2", "3", "4"]);
        let said = SaidText::judge(" C.", &["C++"], &["C"], false);
        assert!(!said.exact && !said.contains && said.forbidden);
    }

    #[test]
    fn an_article_is_an_answer_if_it_is_the_whole_answer() {
        assert_eq!(judge(" A, they say", &["A"]), (false, true, false));
        assert_eq!(judge(" a.", &["A"]), (true, true, false));
        assert_eq!(judge(" The city is Rome", &["A"]), (false, false, false));
        assert_eq!(judge(" The Rome", &["Rome"]), (true, true, false));
        let said = SaidText::judge(" The A Team", &["Team"], &["A"], false);
        assert!(said.exact && said.forbidden);
    }

    #[test]
    fn scripts_without_spaces_and_marks() {
        assert_eq!(judge("東京です", &["東京"]), (false, true, false));
        assert_eq!(judge(" Zu\u{308}rich", &["Zürich"]), (true, true, false));
        assert_eq!(judge(" दिल्ली", &["दिल्ली"]), (true, true, false));
        let words = |text| Words::of(text).plain;
        assert_eq!(words("The The"), ["the", "the"]);
        assert_eq!(words("!"), ["!"]);
        assert_eq!(words("“An” Jean-Luc’s O'Brien, e.g."), ["jean", "luc", "obrien", "eg"]);
    }

    #[test]
    fn repetitions() {
        assert_eq!(judge(" Rome, Rome", &["Rome"]), (false, true, true));
        assert_eq!(judge(" Rome. It is big and it is big and it is big and", &["Rome"]), (true, true, true));
        assert_eq!(judge(" Rome. It is big and it is big", &["Rome"]), (true, true, false));
    }

    #[test]
    fn old_answers_are_forbidden_outside_of_accepted_ones() {
        let forbidden = |text: &str, chat| SaidText::judge(text, &["New York"], &["York", "Paris"], chat).forbidden;
        assert!(!forbidden(" New York", false));
        assert!(forbidden(" New York, formerly York", false));
        assert!(!forbidden(" New York. Not Paris", false), "the second sentence is not part of the answer");
        assert!(forbidden("It is New York. Not Paris", true), "a reply counts as a whole");
        let said = SaidText::judge(" New York, not Paris", &["New York"], &["Paris"], false);
        assert!(said.contains && !said.meets(SaysRule::Contains));
    }

    proptest! {
        #[test]
        fn an_answer_contains_itself_in_every_spelling(answer in "[A-Za-zäéß東]{1,6}( [A-Za-z0-9.'-]{1,6}){0,2}") {
            let text = format!(" {}, they say", answer.to_uppercase().to_lowercase());
            let both = [answer.as_str(), answer.trim()];
            for chat in [false, true] {
                let alone = SaidText::judge(&[" ", &answer].concat(), &both, &[], chat);
                prop_assert!(alone.contains, "chat: {}", chat);
            }
            let in_sentence = SaidText::judge(&text, &[&answer.to_uppercase().to_lowercase()], &[], true);
            prop_assert!(in_sentence.contains);
            let words = Words::of(&answer);
            prop_assert_eq!(Words::of(&words.all.join(" ")), words);
        }
    }
}
