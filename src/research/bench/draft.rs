//! Converts a dataset record to a draft of an edit. Texts that an edit file cannot contain, and texts that are noise,
//! are left out and listed with the reasons.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;

use super::data::{Case, LeftOutText};
use crate::diagnostics::is_control;
use crate::project::edits::MOST_EXPECTATIONS;
use crate::project::edits::consequence::{Condition, Consequence};
use crate::project::edits::writer::{DraftEdit, DraftExpectations};
use crate::project::read::rules::MOST_TEXT_BYTES;

/// An edit that is made from a record, and the texts of the record that are left out.
#[derive(Clone, Debug)]
pub struct Draft {
    pub edit: DraftEdit,
    pub left_out: Vec<LeftOutText>,
    /// The number of neighbour prompts in `left_out` that contain an edited subject.
    pub edited_neighbours: usize,
}

/// Converts a record to an edit. The paraphrases, neighbours and consequences of the record become the expectations of
/// the edit.
pub fn draft_of(case: &Case) -> Draft {
    let mut left_out = case.left_out.clone();
    let subject: String = case.subject.nfc().collect();
    let (prompt, target): (String, String) = (case.prompt.nfc().collect(), case.target.nfc().collect());
    let mut paraphrase = usable("expect.paraphrase", &case.paraphrases, &mut left_out);
    let folded = subject.to_lowercase();
    keep(&mut paraphrase, "expect.paraphrase", "it does not contain the subject", &mut left_out, |text| {
        text.to_lowercase().contains(&folded)
    });
    let watched = case.neighbours.iter().map(|asked| &asked.prompt).chain(&case.watched);
    let mut unchanged = usable("expect.unchanged", watched, &mut left_out);
    keep(&mut unchanged, "expect.unchanged", "it is a paraphrase", &mut left_out, |text| !paraphrase.contains(text));
    let consequence = consequences(case, &mut left_out);
    let edit = DraftEdit {
        id: id(case.id, case.part, &case.subject),
        subject,
        prompt,
        was: case.was.clone().filter(|was| was.trim() != case.target.trim()).map(|was| was.nfc().collect()),
        target,
        expect: DraftExpectations { paraphrase, unchanged, consequence, ..DraftExpectations::default() },
    };
    Draft { edit, left_out, edited_neighbours: 0 }
}

/// Returns an edit id made of the case number and up to six words of the subject in ASCII, such as `case-20952-angola`.
/// The id of a further edit of a record also has the number of the edit, as in `case-7.2-angola`.
pub fn id(case: u64, part: u64, subject: &str) -> String {
    let letters = subject.nfkd().filter(|c| c.is_ascii() || c.is_whitespace()).collect::<String>().to_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let number = if part == 0 { format!("case-{case}") } else { format!("case-{case}.{}", part + 1) };
    words.take(6).fold(number, |id, word| format!("{id}-{}", &word[..word.len().min(16)]))
}

/// Returns the reason why an answer is noise, for example because its last word is `*` or `)`. Returns `None` if its
/// first and last words have a letter or a digit.
pub fn noise(answer: &str) -> Option<String> {
    let is_word = |word: &&str| word.contains(char::is_alphanumeric);
    let first = answer.split_whitespace().next().filter(|word| !is_word(word));
    let last = answer.split_whitespace().next_back().filter(|word| !is_word(word));
    let (which, word) = last.map(|word| ("last", word)).or(first.map(|word| ("first", word)))?;
    Some(format!("its {which} word {word:?} has no letter or digit"))
}

/// Returns a text in Unicode normal form C, with spaces instead of line breaks.
///
/// # Errors
/// If an edit file cannot contain the text; the error is the reason.
fn plain(text: &str) -> Result<String, String> {
    let joined = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let normal: String = joined.nfc().collect();
    match &normal {
        blank if blank.trim().is_empty() => Err("it is blank".to_owned()),
        long if long.len() > MOST_TEXT_BYTES => Err(format!("it is longer than {MOST_TEXT_BYTES} bytes")),
        control if control.contains(is_control) => Err("it contains a control character".to_owned()),
        _ => Ok(normal),
    }
}

/// Returns the prompts that an edit file can contain, without duplicates.
pub fn sentences<'t>(texts: impl IntoIterator<Item = &'t String>) -> Vec<String> {
    usable("", texts, &mut Vec::new())
}

/// Returns the prompts that an edit file can contain, without duplicates. The other prompts are added to `left`.
fn usable<'t>(field: &str, texts: impl IntoIterator<Item = &'t String>, left: &mut Vec<LeftOutText>) -> Vec<String> {
    let (mut seen, mut kept) = (BTreeSet::new(), Vec::new());
    for text in texts {
        let why = match plain(text) {
            Err(why) => why,
            Ok(plain) if !seen.insert(plain.clone()) => "it is repeated".to_owned(),
            Ok(_) if kept.len() == MOST_EXPECTATIONS => format!("at most {MOST_EXPECTATIONS} prompts are allowed"),
            Ok(plain) => {
                kept.push(plain);
                continue;
            }
        };
        left.push(LeftOutText::new(field, text, why));
    }
    kept
}

/// Keeps the texts for which `wanted` returns true. The other texts are added to `left` with the reason `why`.
fn keep(
    texts: &mut Vec<String>,
    field: &str,
    why: &str,
    left: &mut Vec<LeftOutText>,
    wanted: impl Fn(&String) -> bool,
) {
    texts.retain(|text| {
        let kept = wanted(text);
        if !kept {
            left.push(LeftOutText::new(field, text, why));
        }
        kept
    });
}

/// Returns the consequences that an edit file can contain. The other consequences are added to `left`.
fn consequences(case: &Case, left: &mut Vec<LeftOutText>) -> Vec<Consequence> {
    const FIELD: &str = "expect.consequence";
    let filled: String = case.filled().nfc().collect();
    let (mut seen, mut kept) = (BTreeSet::new(), Vec::new());
    for one in &case.consequences {
        let read = usable_consequence(one, left).and_then(|consequence| match &consequence.prompt {
            prompt if *prompt == filled => Err("it is the prompt of the edit".to_owned()),
            prompt if !seen.insert(prompt.clone()) => Err("an earlier consequence has the same prompt".to_owned()),
            _ if kept.len() == MOST_EXPECTATIONS => Err(format!("at most {MOST_EXPECTATIONS} are allowed")),
            _ => Ok(consequence),
        });
        match read {
            Ok(consequence) => kept.push(consequence),
            Err(why) => left.push(LeftOutText::new(FIELD, &one.prompt, why)),
        }
    }
    kept
}

fn usable_consequence(one: &Consequence, left: &mut Vec<LeftOutText>) -> Result<Consequence, String> {
    let Consequence { prompt, answer, accept, kind, condition } = one;
    let Condition { prompt, answer, accept } = usable_asked(prompt, answer, accept, left)?;
    let conditions = condition.iter().map(|given| {
        let read = usable_asked(&given.prompt, &given.answer, &given.accept, left);
        read.map_err(|why| format!("its condition {:?}: {why}", given.prompt))
    });
    let usable: Vec<Condition> = conditions.collect::<Result<_, _>>()?;
    Ok(Consequence { prompt, answer, accept, kind: *kind, condition: usable })
}

fn usable_asked(
    prompt: &str,
    answer: &str,
    accept: &[String],
    left: &mut Vec<LeftOutText>,
) -> Result<Condition, String> {
    let prompt = plain(prompt)?;
    let of_answer = |why| format!("its answer {answer:?}: {why}");
    let answer = plain(answer).map_err(of_answer)?;
    if let Some(why) = noise(&answer) {
        return Err(of_answer(why));
    }
    let mut kept: Vec<String> = Vec::new();
    for text in accept {
        let why = match plain(text) {
            Err(why) => why,
            Ok(plain) if plain.trim() == answer.trim() => "it equals the answer".to_owned(),
            Ok(plain) if kept.iter().any(|other| other.trim() == plain.trim()) => {
                "it repeats an accepted answer".to_owned()
            }
            Ok(_) if kept.len() == MOST_EXPECTATIONS => format!("at most {MOST_EXPECTATIONS} answers are allowed"),
            Ok(plain) => match noise(&plain) {
                Some(why) => why,
                None => {
                    kept.push(plain);
                    continue;
                }
            },
        };
        left.push(LeftOutText::new("expect.consequence.accept", text, why));
    }
    Ok(Condition { prompt, answer, accept: kept })
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
