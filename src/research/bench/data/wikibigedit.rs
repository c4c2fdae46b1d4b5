//! Reads the records of WikiBigEdit (Thede et al. 2025): changes of Wikidata. Both published forms are read: the fields
//! of the whole dataset (`update`, `ans`), and those of the slice that LocFT publishes (`prompt`, `target_new`). The
//! old answer is optional. The multi-hop question becomes a consequence.

use serde::Deserialize;
use serde_json::Value;

use super::texts::{LeftOutText, all_texts, consequence};
use super::{Answers, Case, Neighbour, RecordSchema, placed};
use crate::project::edits::consequence::ConsequenceKind;

#[derive(Deserialize)]
pub(crate) struct WikibigeditRecord {
    #[serde(default)]
    case_id: Option<u64>,
    #[serde(alias = "update")]
    prompt: String,
    subject: String,
    #[serde(alias = "ans")]
    target_new: String,
    #[serde(default)]
    ground_truth: Option<Answers>,
    #[serde(default, alias = "rephrase")]
    rephrase_prompt: Option<String>,
    /// The question in the words of several people: one text, or a list.
    #[serde(default)]
    personas: Value,
    #[serde(default, alias = "loc")]
    locality_prompt: Option<String>,
    #[serde(default, alias = "loc_ans")]
    locality_ground_truth: Option<String>,
    #[serde(default)]
    mhop: Option<String>,
    #[serde(default)]
    mhop_ans: Value,
}

impl RecordSchema for WikibigeditRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let mut left_out = Vec::new();
        let neighbours = match (self.locality_prompt, self.locality_ground_truth) {
            (Some(prompt), Some(answer)) => vec![Neighbour { prompt, answer }],
            (None, None) => Vec::new(),
            _ => return Err("either the locality prompt or its answer is missing".to_owned()),
        };
        let mut texts = |field: &str, value: &Value| {
            all_texts(value).unwrap_or_else(|| {
                left_out.push(LeftOutText::new(field, value.to_string(), "it is not a text or a list of texts"));
                Vec::new()
            })
        };
        let (personas, hop_answers) = (texts("personas", &self.personas), texts("mhop_ans", &self.mhop_ans));
        let paraphrases = self.rephrase_prompt.into_iter().chain(personas).filter(|text| !text.trim().is_empty());
        let hop = self.mhop.filter(|prompt| !prompt.trim().is_empty());
        let hop = hop.and_then(|prompt| consequence("mhop", ConsequenceKind::Hop, prompt, hop_answers, &mut left_out));
        Ok(vec![Case {
            record,
            id: self.case_id.unwrap_or(record),
            prompt: placed(&self.prompt, &self.subject)?,
            subject: self.subject,
            target: self.target_new,
            was: self.ground_truth.and_then(Answers::first),
            paraphrases: paraphrases.collect(),
            neighbours,
            consequences: hop.into_iter().collect(),
            left_out,
            ..Case::default()
        }])
    }
}
