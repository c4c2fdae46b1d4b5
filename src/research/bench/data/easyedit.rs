//! Reads CounterFact records in the JSON schema of EasyEdit. A record has at most one paraphrase and one neighbour
//! prompt, and its prompt contains the subject's text instead of the placeholder `{}`. WikiBigEdit has the same schema,
//! but its records may lack the old answer.

use serde::Deserialize;

use super::{Answers, Case, Neighbour, RecordSchema, placed};

#[derive(Deserialize)]
pub(crate) struct EasyeditRecord {
    #[serde(default)]
    case_id: Option<u64>,
    prompt: String,
    subject: String,
    target_new: String,
    #[serde(default)]
    ground_truth: Option<Answers>,
    #[serde(default)]
    rephrase_prompt: Option<String>,
    #[serde(default)]
    locality_prompt: Option<String>,
    #[serde(default)]
    locality_ground_truth: Option<String>,
}

impl RecordSchema for EasyeditRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let neighbours = match (self.locality_prompt, self.locality_ground_truth) {
            (Some(prompt), Some(answer)) => vec![Neighbour { prompt, answer }],
            (None, None) => Vec::new(),
            _ => return Err("either `locality_prompt` or `locality_ground_truth` is missing".to_owned()),
        };
        Ok(vec![Case {
            record,
            id: self.case_id.unwrap_or(record),
            prompt: placed(&self.prompt, &self.subject)?,
            subject: self.subject,
            target: self.target_new,
            was: self.ground_truth.and_then(Answers::first),
            paraphrases: self.rephrase_prompt.into_iter().collect(),
            neighbours,
            ..Case::default()
        }])
    }
}
