//! Reads the rows of HalluEditBench (Huang et al. 2025), published as CSV files. A row is a fact that a model got
//! wrong. The answer of that model is not the old answer of another model, so it is not used. The answers to multi-hop
//! questions were generated and are partly wrong. The columns with multiple choices are not used.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::texts::{LeftOutText, consequence};
use super::{Case, RecordSchema, placed};
use crate::project::edits::consequence::{Consequence, ConsequenceKind};

#[derive(Deserialize)]
pub(crate) struct HallueditRow {
    subject: String,
    object: String,
    question: String,
    #[serde(default)]
    paraphrased_question: String,
    #[serde(default)]
    yes_question: String,
    #[serde(default)]
    no_question: String,
    #[serde(default)]
    locality_question: String,
    #[serde(default)]
    reversed_relation_question: String,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

impl HallueditRow {
    fn consequences(&mut self, left: &mut Vec<LeftOutText>) -> Vec<Consequence> {
        let take = std::mem::take::<String>;
        let words = |word: &str| vec![word.to_owned(), word.to_lowercase()];
        let mut asked = vec![
            ("yes_question".to_owned(), ConsequenceKind::Logic, take(&mut self.yes_question), words("Yes")),
            ("no_question".to_owned(), ConsequenceKind::Logic, take(&mut self.no_question), words("No")),
            (
                "reversed_relation_question".to_owned(),
                ConsequenceKind::Reversal,
                take(&mut self.reversed_relation_question),
                vec![self.subject.clone()],
            ),
        ];
        for (field, question) in &self.rest {
            let Some(hops) = field.strip_prefix("question_") else { continue };
            let answer = self.rest.get(&format!("answer_{hops}")).cloned();
            asked.push((field.clone(), ConsequenceKind::Hop, question.clone(), answer.into_iter().collect()));
        }
        let written = asked.into_iter().filter(|(_, _, prompt, _)| !prompt.trim().is_empty());
        written.filter_map(|(field, kind, prompt, texts)| consequence(&field, kind, prompt, texts, left)).collect()
    }
}

impl RecordSchema for HallueditRow {
    fn cases(mut self, record: u64) -> Result<Vec<Case>, String> {
        let mut left_out = Vec::new();
        let written = |text: String| Some(text).filter(|text| !text.trim().is_empty());
        Ok(vec![Case {
            record,
            id: record,
            prompt: placed(&self.question, &self.subject)?,
            consequences: self.consequences(&mut left_out),
            subject: self.subject,
            target: self.object,
            paraphrases: written(self.paraphrased_question).into_iter().collect(),
            watched: written(self.locality_question).into_iter().collect(),
            left_out,
            ..Case::default()
        }])
    }
}
