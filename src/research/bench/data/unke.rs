//! Reads the records of UnKEBench (Deng et al. 2024). A record has no subject, and its answer is a text of several
//! sentences. An edit needs a subject and a short answer, so every record is rejected with this reason.

use serde::Deserialize;

use super::{Case, RecordSchema};

#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields show that the record has the schema of UnKEBench")]
pub(crate) struct UnkeRecord {
    question: String,
    para_question: String,
    answer: String,
}

impl RecordSchema for UnkeRecord {
    fn cases(self, _: u64) -> Result<Vec<Case>, String> {
        Err("it has no subject, and its answer is a text of several sentences".to_owned())
    }
}
