//! Compares two texts word by word.

use schemars::JsonSchema;
use serde::Serialize;
use similar::algorithms::{DiffHook, myers};

/// A run of adjacent words that are in both texts, only in the earlier text, or only in the later text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Word")]
pub struct WordRun {
    /// Whether the words are in both texts (=), only in the earlier text (-), or only in the later text (+).
    #[schemars(with = "String")]
    pub change: WordChange,
    /// The words, with the white space between them.
    pub text: String,
}

/// Whether a run of words is in both texts, only in the earlier text, or only in the later text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WordChange {
    #[serde(rename = "=")]
    Unchanged,
    #[serde(rename = "-")]
    Removed,
    #[serde(rename = "+")]
    Added,
}

/// Compares two texts word by word. Adjacent words that differ are merged into one run of removed words and one run of
/// added words.
pub fn words(before: &str, after: &str) -> Vec<WordRun> {
    let (before, after) = (split(before), split(after));
    let mut collector = RunCollector { before: &before, after: &after, ..RunCollector::default() };
    let Ok(()) = myers::diff(&mut collector, &before[..], 0..before.len(), &after[..], 0..after.len());
    collector.end();
    collector.words
}

/// Splits a text into words and the runs of white space between them.
fn split(text: &str) -> Vec<&str> {
    let is_space = |word: &str| word.starts_with(char::is_whitespace);
    let mut words: Vec<&str> = Vec::new();
    let mut start = 0;
    for (index, character) in text.char_indices() {
        if index > start && character.is_whitespace() != is_space(&text[start..]) {
            words.push(&text[start..index]);
            start = index;
        }
    }
    words.extend(Some(&text[start..]).filter(|last| !last.is_empty()));
    words
}

/// The state of a word comparison: the finished runs, and the removed and added words of the run that is not finished
/// yet.
#[derive(Default)]
struct RunCollector<'t> {
    before: &'t [&'t str],
    after: &'t [&'t str],
    words: Vec<WordRun>,
    removed: String,
    added: String,
    /// White space that is in both texts and follows removed or added words. If more removed or added words follow, the
    /// white space is added to `removed` and `added`. Otherwise it becomes unchanged text.
    space: String,
}

impl DiffHook for RunCollector<'_> {
    type Error = std::convert::Infallible;

    fn equal(&mut self, start: usize, _: usize, count: usize) -> Result<(), Self::Error> {
        for word in &self.before[start..start + count] {
            let open = !self.removed.is_empty() || !self.added.is_empty();
            if open && word.trim().is_empty() {
                self.space.push_str(word);
            } else {
                self.end();
                push(&mut self.words, WordChange::Unchanged, word);
            }
        }
        Ok(())
    }

    fn delete(&mut self, start: usize, count: usize, _: usize) -> Result<(), Self::Error> {
        self.continue_run();
        self.removed.extend(self.before[start..start + count].iter().copied());
        Ok(())
    }

    fn insert(&mut self, _: usize, start: usize, count: usize) -> Result<(), Self::Error> {
        self.continue_run();
        self.added.extend(self.after[start..start + count].iter().copied());
        Ok(())
    }
}

impl RunCollector<'_> {
    fn continue_run(&mut self) {
        self.removed.push_str(&self.space);
        self.added.push_str(&self.space);
        self.space.clear();
    }

    fn end(&mut self) {
        push(&mut self.words, WordChange::Removed, &std::mem::take(&mut self.removed));
        push(&mut self.words, WordChange::Added, &std::mem::take(&mut self.added));
        push(&mut self.words, WordChange::Unchanged, &std::mem::take(&mut self.space));
    }
}

fn push(words: &mut Vec<WordRun>, change: WordChange, text: &str) {
    match words.last_mut().filter(|last| last.change == change) {
        _ if text.is_empty() => {}
        Some(last) => last.text.push_str(text),
        None => words.push(WordRun { change, text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_words_that_differ_form_one_run() {
        let shown = |before: &str, after: &str| {
            let sign = |change| match change {
                WordChange::Unchanged => '=',
                WordChange::Removed => '-',
                WordChange::Added => '+',
            };
            words(before, after).iter().map(|run| format!("{}{}|", sign(run.change), run.text)).collect::<String>()
        };
        assert_eq!(shown(" You can find it", " She is here it"), "= |-You can find|+She is here|= it|");
        assert_eq!(shown(" Paris.", " Rome."), "= |-Paris.|+Rome.|");
        assert_eq!(shown("a b", "a b"), "=a b|");
        assert_eq!(shown("a b", "a"), "=a|- b|");
        assert_eq!(shown("", "x y"), "+x y|");
    }

    #[test]
    fn each_side_can_be_read_from_the_runs() {
        let (before, after) = (" in Paris, France, where it", " in Rome, Italy, where it");
        let words = words(before, after);
        let side =
            |skip: WordChange| words.iter().filter(|run| run.change != skip).map(|run| &*run.text).collect::<String>();
        assert_eq!((side(WordChange::Added).as_str(), side(WordChange::Removed).as_str()), (before, after));
        assert!(words.iter().any(|word| word.change == WordChange::Unchanged && word.text.contains("where")));
        assert!(words.iter().any(|word| word.change == WordChange::Removed && word.text.contains("Paris")));
    }
}
