//! Reads edit requests in the JSON schema of the ROME, MEMIT and AlphaEdit repositories. A request has only the fact to
//! change, without paraphrases or neighbour prompts.

use serde::Deserialize;

use super::{Answers, Case, RecordSchema, placed};
use crate::project::edits::edit::PLACEHOLDER;

#[derive(Deserialize)]
pub(crate) struct RequestRecord {
    #[serde(default)]
    case_id: Option<u64>,
    prompt: String,
    subject: String,
    #[serde(default)]
    relation_id: Option<String>,
    target_new: RequestTarget,
    #[serde(default)]
    target_true: Option<RequestTarget>,
    #[serde(default)]
    ground_truth: Option<Answers>,
}

/// An answer in an edit request: a string, or an object with the string and an optional Wikidata id.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a text, or an object with `str`")]
enum RequestTarget {
    Named {
        str: String,
        #[serde(default)]
        id: Option<String>,
    },
    Text(String),
}

impl RequestTarget {
    /// Returns the answer and its Wikidata id. The answers in the published notebooks begin with a space, which is
    /// removed.
    fn parts(self) -> (String, Option<String>) {
        let (text, id) = match self {
            Self::Named { str, id } => (str, id),
            Self::Text(text) => (text, None),
        };
        (text.trim().to_owned(), id)
    }
}

impl RecordSchema for RequestRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let (target, target_id) = self.target_new.parts();
        let stated = self.target_true.map(|answer| answer.parts().0);
        let was = stated.filter(|was| !was.is_empty()).or_else(|| self.ground_truth.and_then(Answers::first));
        let prompt = if self.prompt.contains(PLACEHOLDER) { self.prompt } else { placed(&self.prompt, &self.subject)? };
        Ok(vec![Case {
            record,
            id: self.case_id.unwrap_or(record),
            subject: self.subject,
            prompt,
            target,
            was: was.map(|was| was.trim().to_owned()),
            relation: self.relation_id,
            target_id,
            ..Case::default()
        }])
    }
}
