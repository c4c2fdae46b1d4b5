//! Reads the records of CounterFact (Meng et al. 2022), published as `counterfact.json`.

use serde::Deserialize;

use super::{Case, Neighbour, RecordSchema};

/// A record in the published JSON schema. `attribute_prompts` is parsed but not used, because no metric of the
/// published tables uses it.
#[derive(Deserialize)]
pub(crate) struct CounterfactRecord {
    case_id: u64,
    requested_rewrite: Rewrite,
    paraphrase_prompts: Vec<String>,
    neighborhood_prompts: Vec<String>,
    #[serde(default, rename = "attribute_prompts")]
    _attribute_prompts: Vec<String>,
    #[serde(default)]
    generation_prompts: Vec<String>,
}

#[derive(Deserialize)]
struct Rewrite {
    prompt: String,
    subject: String,
    #[serde(default)]
    relation_id: Option<String>,
    target_new: CounterfactAnswer,
    target_true: CounterfactAnswer,
}

#[derive(Deserialize)]
struct CounterfactAnswer {
    str: String,
    #[serde(default)]
    id: Option<String>,
}

impl RecordSchema for CounterfactRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let Rewrite { prompt, subject, relation_id, target_new, target_true } = self.requested_rewrite;
        // In CounterFact, the correct answer to each neighbour prompt is the true answer of the edited fact.
        let neighbour = |text| Neighbour { prompt: text, answer: target_true.str.clone() };
        Ok(vec![Case {
            record,
            id: self.case_id,
            subject,
            prompt,
            target: target_new.str,
            relation: relation_id,
            target_id: target_new.id,
            paraphrases: self.paraphrase_prompts,
            neighbours: self.neighborhood_prompts.into_iter().map(neighbour).collect(),
            generation: self.generation_prompts,
            was: Some(target_true.str),
            ..Case::default()
        }])
    }
}
