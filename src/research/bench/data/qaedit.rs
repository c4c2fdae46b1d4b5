//! Reads the records of QAEdit (Yang et al. 2025, "The Mirage of Model Editing"): questions that models answered
//! wrongly. A record has no old answer. The questions of `locality` become neighbour prompts.

use serde::Deserialize;

use super::{Case, Neighbour, RecordSchema, placed};

#[derive(Deserialize)]
pub(crate) struct QaeditRecord {
    #[serde(default)]
    id: Option<u64>,
    prompt: String,
    subject: String,
    target: String,
    #[serde(default)]
    rephrase: Option<String>,
    #[serde(default)]
    locality: Vec<QaeditLocality>,
}

#[derive(Deserialize)]
struct QaeditLocality {
    loc: String,
    loc_ans: String,
}

impl RecordSchema for QaeditRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let neighbour = |QaeditLocality { loc, loc_ans }| Neighbour { prompt: loc, answer: loc_ans };
        Ok(vec![Case {
            record,
            id: self.id.unwrap_or(record),
            prompt: placed(&self.prompt, &self.subject)?,
            subject: self.subject,
            target: self.target.trim().to_owned(),
            paraphrases: self.rephrase.into_iter().collect(),
            neighbours: self.locality.into_iter().map(neighbour).collect(),
            ..Case::default()
        }])
    }
}
