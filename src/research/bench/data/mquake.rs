//! Reads the records of MQuAKE (Zhong et al. 2023), in the form of `MQuAKE-CF-3k-v2.json`. A case has one or several
//! rewrites. Each rewrite becomes an edit, and the multi-hop question becomes one consequence of the first edit. The
//! hops that no rewrite changes become the conditions of the consequence.

use serde::Deserialize;

use super::texts::{LeftOutText, asked};
use super::{Case, RecordSchema};
use crate::project::edits::consequence::{Condition, Consequence, ConsequenceKind, MOST_CONDITIONS};
use crate::project::edits::edit::PLACEHOLDER;

#[derive(Deserialize)]
pub(crate) struct MquakeRecord {
    case_id: u64,
    requested_rewrite: Vec<MquakeRewrite>,
    questions: Vec<String>,
    new_answer: String,
    #[serde(default)]
    new_answer_alias: Vec<String>,
    #[serde(default)]
    new_single_hops: Vec<MquakeHop>,
}

#[derive(Deserialize)]
struct MquakeRewrite {
    prompt: String,
    subject: String,
    #[serde(default)]
    relation_id: Option<String>,
    target_new: MquakeAnswer,
    target_true: MquakeAnswer,
    #[serde(default)]
    question: Option<String>,
}

#[derive(Deserialize)]
struct MquakeAnswer {
    str: String,
    #[serde(default)]
    id: Option<String>,
}

/// One relation of the chain that leads to the answer of the multi-hop question after the edits.
#[derive(Deserialize)]
struct MquakeHop {
    question: String,
    cloze: String,
    answer: String,
    #[serde(default)]
    answer_alias: Vec<String>,
}

impl RecordSchema for MquakeRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let mut left_out = Vec::new();
        let condition = self.conditions(&mut left_out);
        let texts = [vec![self.new_answer], self.new_answer_alias].concat();
        let mut questions = self.questions.into_iter();
        let first = questions.next().ok_or("it has no question")?;
        let asked = asked("questions", first, texts, &mut left_out);
        left_out.extend(questions.map(|text| {
            LeftOutText::new("questions", text, "the consequence of a case has the first of its questions as prompt")
        }));
        let kind = ConsequenceKind::Hop;
        let consequence = match (asked, condition) {
            (Some(Condition { prompt, answer, accept }), Some(condition)) => {
                Some(Consequence { prompt, answer, accept, kind, condition })
            }
            (Some(unconditional), None) => {
                let why = "a hop of the case cannot be asked as its condition";
                left_out.push(LeftOutText::new("questions", unconditional.prompt, why));
                None
            }
            (None, _) => None,
        };
        let case = |(part, rewrite): (u64, MquakeRewrite)| Case {
            record,
            id: self.case_id,
            part,
            subject: rewrite.subject,
            prompt: rewrite.prompt,
            target: rewrite.target_new.str,
            was: Some(rewrite.target_true.str),
            relation: rewrite.relation_id,
            target_id: rewrite.target_new.id,
            paraphrases: rewrite.question.into_iter().collect(),
            ..Case::default()
        };
        let mut cases: Vec<Case> = (0..).zip(self.requested_rewrite).map(case).collect();
        let first_edit = cases.first_mut().ok_or("it has no rewrite")?;
        first_edit.consequences = consequence.into_iter().collect();
        first_edit.left_out = left_out;
        Ok(cases)
    }
}

impl MquakeRecord {
    /// Returns the hops that no rewrite of the case changes; `None` if one of them cannot be asked, or there are too many.
    fn conditions(&self, left: &mut Vec<LeftOutText>) -> Option<Vec<Condition>> {
        let is_edited = |hop: &MquakeHop| {
            self.requested_rewrite.iter().any(|rewrite| {
                rewrite.question.as_ref() == Some(&hop.question)
                    || rewrite.prompt.replacen(PLACEHOLDER, &rewrite.subject, 1) == hop.cloze
            })
        };
        let hops: Vec<&MquakeHop> = self.new_single_hops.iter().filter(|hop| !is_edited(hop)).collect();
        if hops.len() > MOST_CONDITIONS {
            return None;
        }
        let condition = |hop: &&MquakeHop| {
            let texts = [vec![hop.answer.clone()], hop.answer_alias.clone()].concat();
            asked("new_single_hops", hop.cloze.clone(), texts, left)
        };
        hops.iter().map(condition).collect()
    }
}
