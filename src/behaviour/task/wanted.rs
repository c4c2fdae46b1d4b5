//! Decides whether a generated text gives the right answer to a question.

use super::forms::letter;
use crate::behaviour::said::Words;

/// What a generated text must contain to be right. Only the first line of the text that is not blank is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of the texts, as whole words.
    Contains(Vec<String>),
    /// The right choice and no other: the text begins with its letter, or contains its text as whole words.
    Choice {
        choices: Vec<String>,
        /// The index of the right choice.
        right: usize,
    },
}

impl Wanted {
    /// Returns whether the text that a model generates after the prompt gives the right answer.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let line = text.trim_start().lines().next().unwrap_or_default();
        match self {
            Self::Contains(accepted) => {
                let said = Words::of(line);
                accepted.iter().any(|wanted| said.contain(&Words::of(wanted)))
            }
            Self::Choice { choices, right } => named(line, choices) == Some(*right),
        }
    }
}

/// Returns the index of the choice that a line names. A line that begins with the letter of a choice names this choice,
/// if the letter is not followed by another word, as in "A dog". A line that is a choice names it. Any other line names a
/// choice if it contains the text of exactly one choice; a choice that is part of a longer one there does not count.
fn named(line: &str, choices: &[String]) -> Option<usize> {
    let open = line.trim_start_matches('(');
    let lettered = (0..choices.len()).find(|at| {
        let rest = open.strip_prefix(letter(*at));
        rest.is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(['.', ')', ':', ',']))
    });
    let said = Words::of(line);
    let whole = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    let equal = choices.iter().position(|choice| whole(choice) == whole(line));
    let parts: Vec<Words> = choices.iter().map(|choice| Words::of(choice)).collect();
    let longer = |at: usize| -> Vec<Words> {
        parts.iter().filter(|other| other.is_longer(&parts[at]) && said.contain(other)).cloned().collect()
    };
    let mut found = (0..choices.len()).filter(|at| said.is_said_outside(&parts[*at], &longer(*at)));
    let only = found.next().filter(|_| found.next().is_none());
    lettered.or(equal).or(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_accepted_text_is_found_as_whole_words() {
        let wanted = Wanted::Contains(list(&["New York", "NYC"]));
        assert!(wanted.is_in(" the city of New\u{a0}York."));
        assert!(wanted.is_in("\n nyc, of course"));
        for text in ["New Yorkshire", "NYCB", "York New", "", "Paris\nNew York"] {
            assert!(!wanted.is_in(text), "{text}");
        }
    }

    #[test]
    fn a_choice_is_named_by_its_letter_or_its_text() {
        let wanted = Wanted::Choice { choices: list(&["a dog", "red", "dark blue"]), right: 1 };
        for text in [" B", "B.", "(B) red", "B: because", " it is red.", "RED"] {
            assert!(wanted.is_in(text), "{text}");
        }
        for text in ["A", "C. red", "red or dark blue", "redder", "A dog", "D", "", "Blue"] {
            assert!(!wanted.is_in(text), "{text}");
        }
        assert!(Wanted::Choice { choices: list(&["a dog", "red"]), right: 0 }.is_in("A dog"));
        let named = |choices: &[&str], right, text: &str| Wanted::Choice { choices: list(choices), right }.is_in(text);
        assert!(named(&["red", "dark red"], 1, " dark red.") && named(&["red", "dark red"], 1, "It is dark red"));
        assert!(named(&["red", "dark red"], 0, "It is red") && !named(&["red", "dark red"], 0, "dark red or red"));
        assert!(
            named(&["x + 1", "x - 1"], 1, " x - 1") && named(&["-5", "5"], 0, "-5") && named(&["C", "C++"], 1, "c++")
        );
    }
}
