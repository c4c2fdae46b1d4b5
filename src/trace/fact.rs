//! What is traced: a prompt, its subject, and the answer that the model should know.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;

use crate::model::tokens::Framed;
use crate::model::{ModelError, Prompt, Tokens};

/// A fact that a model may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFact {
    /// How it is spoken of.
    pub id: String,
    /// The prompt, written out.
    pub prompt: String,
    /// The bytes of the prompt that are its subject.
    pub subject: Range<usize>,
    /// The answer; where none is known, what the model says is traced.
    pub answer: Option<String>,
    /// Of which relation it is, where that is known.
    pub relation: Option<String>,
    /// Whether a user says the prompt, under the model's chat template.
    pub chat: bool,
}

impl KnownFact {
    /// The subject.
    pub fn subject_text(&self) -> &str {
        &self.prompt[self.subject.clone()]
    }
}

/// A fact as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The tokens of the prompt.
    pub ids: Vec<u32>,
    /// Them as people read them.
    pub pieces: Vec<String>,
    /// Those of its subject.
    pub subject: Range<usize>,
    /// The tokens of the answer, where one is known.
    pub answer: Vec<u32>,
}

/// Why a fact is not traced.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it; the fields are their parts")]
pub enum LeftOut {
    #[error("the subject {subject:?} does not stand in {prompt:?}")]
    NoSubject { subject: String, prompt: String },
    #[error("no token covers the subject {0:?}")]
    NoToken(String),
    #[error("the model does not say {expected:?} but {found:?}")]
    Unknown { expected: String, found: String },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The place of a subject in a prompt: where it stands first.
///
/// # Errors
/// It does not stand there, or is empty.
pub fn subject_in(prompt: &str, subject: &str) -> Result<Range<usize>, LeftOut> {
    let place = prompt.find(subject).filter(|_| !subject.is_empty());
    let place = place.map(|start| start..start + subject.len());
    place.ok_or_else(|| LeftOut::NoSubject { subject: subject.to_owned(), prompt: prompt.to_owned() })
}

/// Cuts a fact into tokens; `limit` is the model's context.
///
/// # Errors
/// The text is too long, or the tokenizer refuses it or has no token for the subject.
pub fn resolve(fact: &KnownFact, tokens: &Tokens, limit: usize) -> Result<Resolved, LeftOut> {
    let framed = tokens.frame(Prompt { text: &fact.prompt, chat: fact.chat })?;
    let place = framed.place(&fact.subject);
    let encoded = &framed.encoded;
    if encoded.ids.len() > limit {
        let (text, tokens) = (fact.prompt.clone(), encoded.ids.len());
        return Err(ModelError::TooLong { text, tokens, limit }.into());
    }
    let first = encoded.spans.iter().position(|span| !span.is_empty() && span.end > place.start);
    let (Some(first), Some(last)) = (first, encoded.subject_last(&place)) else {
        return Err(LeftOut::NoToken(fact.subject_text().to_owned()));
    };
    let answer = match &fact.answer {
        Some(answer) => tokens.continuation(&framed.answer(answer))?,
        None => Vec::new(),
    };
    let pieces = pieces(&framed, tokens);
    Ok(Resolved { subject: first..last + 1, answer, pieces, ids: framed.encoded.ids })
}

/// Tokens as people read them: of a character that several tokens share, the character and which of them it is.
fn pieces(framed: &Framed, tokens: &Tokens) -> Vec<String> {
    let spans = &framed.encoded.spans;
    let same = |index: usize| spans.iter().filter(move |span| !span.is_empty() && **span == spans[index]);
    let piece = |index: usize| match same(index).count() {
        0 | 1 => tokens.piece(framed.encoded.ids[index]),
        all => {
            let before = spans[..index].iter().filter(|span| **span == spans[index]).count();
            format!("{} {}/{all}", &framed.text[spans[index].clone()], before + 1)
        }
    };
    (0..spans.len()).map(piece).collect()
}

/// A record of a file of known facts (the schema of ROME's `known_1000.json`). Other fields are not looked at; without
/// an attribute, what the model says is traced.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    known_id: Option<u64>,
    subject: String,
    #[serde(default)]
    attribute: Option<String>,
    #[serde(default)]
    relation_id: Option<String>,
    prompt: String,
}

/// Facts to trace; and those that cannot be, by their ids.
pub type Gathered = (Vec<KnownFact>, Vec<(String, LeftOut)>);

/// Reads a file of known facts: those whose subject stands in their prompt, and what is wrong with the others.
///
/// # Errors
/// It is no list of such records: what is wrong with the first that is none.
pub fn known_facts(bytes: &[u8]) -> Result<Gathered, String> {
    let records: Vec<serde_json::Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let (mut facts, mut left, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, record) in records.into_iter().enumerate() {
        let entry: Entry = serde_json::from_value(record).map_err(|error| format!("record {index}: {error}"))?;
        let mut id = format!("known-{}", entry.known_id.unwrap_or(index as u64));
        if !ids.insert(id.clone()) {
            // Numbers are given twice, or to some of the records only: the place in the file tells them apart.
            id = format!("{id}-record-{index}");
        }
        match subject_in(&entry.prompt, &entry.subject) {
            Ok(subject) => {
                let Entry { prompt, attribute: answer, relation_id: relation, .. } = entry;
                facts.push(KnownFact { id, prompt, subject, answer, relation, chat: false });
            }
            Err(error) => left.push((id, error)),
        }
    }
    Ok((facts, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_facts_are_read() {
        let text = r#"[{"known_id": 7, "subject": "Rome", "attribute": "Italy", "prompt": "Rome is in", "more": 1},
            {"subject": "Oslo", "attribute": "Norway", "prompt": "Rome is in"}]"#;
        let (facts, left) = known_facts(text.as_bytes()).expect("a list");
        assert_eq!((facts.len(), facts[0].id.as_str(), facts[0].subject_text()), (1, "known-7", "Rome"));
        assert_eq!((left[0].0.as_str(), left.len()), ("known-1", 1));
        assert!(left[0].1.to_string().contains("\"Oslo\" does not stand in"));
        let twice = r#"[{"known_id": 1, "subject": "a", "prompt": "a"}, {"subject": "a", "prompt": "a"}]"#;
        let (twice, _) = known_facts(twice.as_bytes()).expect("a list");
        assert_eq!([&twice[0].id, &twice[1].id], ["known-1", "known-1-record-1"]);
        for wrong in
            ["", "{}", "[1]", r#"[{"subject": "Rome"}]"#, r#"[{"subject": 1, "attribute": "a", "prompt": "p"}]"#]
        {
            assert!(known_facts(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(subject_in("Rome", "").is_err());
    }
}
