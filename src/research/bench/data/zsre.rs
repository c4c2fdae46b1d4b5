//! Reads zsRE records in the JSON schema of MEND. The new answer of an edit is the true answer to the record's
//! question, which a small model usually does not know. The neighbour prompt is an unrelated question from the dataset
//! Natural Questions.

use serde::Deserialize;

use super::{Case, Neighbour, RecordSchema, placed};

#[derive(Deserialize)]
pub(crate) struct ZsreRecord {
    subject: String,
    src: String,
    rephrase: String,
    answers: Vec<String>,
    loc: String,
    loc_ans: String,
}

impl RecordSchema for ZsreRecord {
    fn cases(self, record: u64) -> Result<Vec<Case>, String> {
        let target = self.answers.into_iter().next().ok_or("it has no answer")?;
        if !self.loc.starts_with("nq question: ") {
            return Err(format!("{:?} does not begin with \"nq question: \"", self.loc));
        }
        Ok(vec![Case {
            record,
            id: record,
            prompt: placed(&self.src, &self.subject)?,
            subject: self.subject,
            target,
            paraphrases: vec![self.rephrase],
            neighbours: vec![Neighbour { prompt: format!("{}?", self.loc), answer: self.loc_ans }],
            ..Case::default()
        }])
    }
}
