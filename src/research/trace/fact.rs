//! Reads and tokenizes the facts to trace. A fact is a prompt, its subject, and the expected answer.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;

use crate::model::text::tokens::EncodedPrompt;
use crate::model::{ModelError, Prompt, Tokens};

/// A fact to trace. Facts that the model does not know are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFact {
    /// The id of the fact in reports and file names.
    pub id: String,
    /// The prompt with the subject filled in.
    pub prompt: String,
    /// The byte range of the subject in the prompt.
    pub subject: Range<usize>,
    /// The expected answer. If it is `None`, the token that the model predicts is traced.
    pub answer: Option<String>,
    /// The id of the relation between subject and answer, such as `P131`; `None` if the file does not state the
    /// relation. Counterfactual edits take the new answer from a fact of the same relation.
    pub relation: Option<String>,
    /// Whether the prompt is formatted as a user message with the model's chat template.
    pub chat: bool,
}

impl KnownFact {
    /// Returns the subject as it is written in the prompt.
    pub fn subject_text(&self) -> &str {
        &self.prompt[self.subject.clone()]
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedFact {
    /// The token ids of the prompt. If the prompt is a chat message, the tokens of the chat template are included.
    pub ids: Vec<u32>,
    /// The text of each token of the prompt, for reports.
    pub pieces: Vec<String>,
    /// The index range of the subject's tokens in `ids`; not empty.
    pub subject: Range<usize>,
    /// The token ids of the answer; empty if the fact has no answer.
    pub answer: Vec<u32>,
}

/// The reason why a fact is not traced.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum Skipped {
    #[error("the subject {subject:?} is not in {prompt:?}")]
    NoSubject { subject: String, prompt: String },
    #[error("no token covers the subject {0:?}")]
    NoToken(String),
    #[error("the model says {found:?}, not {expected:?}")]
    Unknown { expected: String, found: String },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Returns the byte range of the first occurrence of the subject in the prompt.
///
/// # Errors
/// If the subject is empty or does not occur in the prompt.
pub fn subject_in(prompt: &str, subject: &str) -> Result<Range<usize>, Skipped> {
    let place = prompt.find(subject).filter(|_| !subject.is_empty());
    let place = place.map(|start| start..start + subject.len());
    place.ok_or_else(|| Skipped::NoSubject { subject: subject.to_owned(), prompt: prompt.to_owned() })
}

/// Tokenizes a fact; `limit` is the model's context length in tokens.
///
/// # Errors
/// If the text is longer than `limit`, the tokenizer rejects a text, or no token covers the subject.
pub fn tokenize(fact: &KnownFact, tokens: &Tokens, limit: usize) -> Result<TokenizedFact, Skipped> {
    let framed = tokens.encode_prompt(Prompt { text: &fact.prompt, chat: fact.chat })?;
    let place = framed.place(&fact.subject);
    let encoded = &framed.encoded;
    if encoded.ids.len() > limit {
        let (text, length) = (fact.prompt.clone(), encoded.ids.len());
        return Err(ModelError::TooLong { text, tokens: length, limit }.into());
    }
    let first = encoded.spans.iter().position(|span| !span.is_empty() && span.end > place.start);
    let (Some(first), Some(last)) = (first, encoded.subject_last(&place)) else {
        return Err(Skipped::NoToken(fact.subject_text().to_owned()));
    };
    let answer = match &fact.answer {
        Some(answer) => tokens.continuation(&framed.answer(answer))?,
        None => Vec::new(),
    };
    let pieces = pieces(&framed, tokens);
    Ok(TokenizedFact { subject: first..last + 1, answer, pieces, ids: framed.encoded.ids })
}

/// Returns the text of each token. If several tokens encode one character, each of them is shown as the character with
/// the number of the token, for example `é 1/2`.
fn pieces(framed: &EncodedPrompt, tokens: &Tokens) -> Vec<String> {
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

/// A JSON record of a fact, in the schema of ROME's `known_1000.json`; `attribute` is the answer. Unknown fields are
/// ignored.
#[derive(Deserialize)]
struct KnownFactRecord {
    #[serde(default)]
    known_id: Option<u64>,
    subject: String,
    #[serde(default)]
    attribute: Option<String>,
    #[serde(default)]
    relation_id: Option<String>,
    prompt: String,
}

/// The facts to trace, and the facts that cannot be traced, each with its id and the reason.
pub type GatheredFacts = (Vec<KnownFact>, Vec<(String, Skipped)>);

/// Parses a file of known facts. Facts whose prompt does not contain the subject are returned separately, with the
/// reason.
///
/// # Errors
/// If the bytes are not a JSON array of records in the schema of `known_1000.json`. The error text describes the first
/// invalid record.
pub fn known_facts(bytes: &[u8]) -> Result<GatheredFacts, String> {
    let records: Vec<serde_json::Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let (mut facts, mut left, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, record) in records.into_iter().enumerate() {
        let entry: KnownFactRecord =
            serde_json::from_value(record).map_err(|error| format!("record {index}: {error}"))?;
        let mut id = format!("known-{}", entry.known_id.unwrap_or(index as u64));
        if !ids.insert(id.clone()) {
            // Another record already has this id, so a suffix makes the id unique. This also happens if the index of a
            // record without `known_id` equals the `known_id` of another record.
            id = format!("{id}-record-{index}");
        }
        match subject_in(&entry.prompt, &entry.subject) {
            Ok(subject) => {
                let KnownFactRecord { prompt, attribute: answer, relation_id: relation, .. } = entry;
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
        assert!(left[0].1.to_string().contains("\"Oslo\" is not in"));
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
