//! Reads CounterFact records, and opens the shared model `counterfact-gpt2`, which was trained on them. Used by
//! benchmarks and examples.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corrigenda::compile::resolve::fill;
use corrigenda::model::text::tokens::target_text;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::rows::{max, softmax};
use corrigenda::project::edits::writer::{DraftEdit, DraftExpectations};
use corrigenda::research::bench::draft::{id, sentences};
use serde::Deserialize;

pub type Failure = Box<dyn std::error::Error>;

/// The path of the model in the shared folder.
pub const MODEL: &str = "models/counterfact-gpt2";
/// The path of the records in the shared folder.
pub const RECORDS: &str = "data/counterfact/dev.json";

/// Returns the absolute path of a file in the shared folder, which is next to the repository.
pub fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path)
}

/// Returns the first of these paths in the shared folder that does not exist; `None` if all exist.
pub fn absent(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(|path| shared(path)).find(|path| !path.exists())
}

/// One record of the CounterFact dataset, with the fields that its JSON has.
#[derive(Deserialize)]
pub struct Record {
    pub case_id: u64,
    pub requested_rewrite: Rewrite,
    pub paraphrase_prompts: Vec<String>,
    pub neighborhood_prompts: Vec<String>,
    pub attribute_prompts: Vec<String>,
}

/// The edit that a record requests: the old and the new answer to a prompt about a subject.
#[derive(Deserialize)]
pub struct Rewrite {
    pub subject: String,
    pub prompt: String,
    target_new: Answer,
    target_true: Answer,
}

#[derive(Deserialize)]
struct Answer {
    str: String,
}

impl Rewrite {
    pub fn target(&self) -> &str {
        &self.target_new.str
    }

    pub fn was(&self) -> &str {
        &self.target_true.str
    }

    /// Returns the prompt with `{}` replaced by the subject.
    pub fn filled(&self) -> Result<String, Failure> {
        Ok(fill(&self.prompt, &self.subject)?.0)
    }
}

impl Record {
    /// Returns the edit of the record with its paraphrases as expectations; the list `unchanged` is empty.
    pub fn draft(&self) -> DraftEdit {
        let rewrite = &self.requested_rewrite;
        let paraphrase = sentences(&self.paraphrase_prompts);
        DraftEdit {
            id: id(self.case_id, 0, &rewrite.subject),
            subject: rewrite.subject.clone(),
            prompt: rewrite.prompt.clone(),
            target: rewrite.target().to_owned(),
            was: Some(rewrite.was().to_owned()),
            expect: DraftExpectations { paraphrase, ..DraftExpectations::default() },
        }
    }
}

pub fn records() -> Result<Vec<Record>, Failure> {
    Ok(serde_json::from_slice(&std::fs::read(shared(RECORDS))?)?)
}

/// Returns the statistics corpus: the true sentences about the records' neighbours, and about subjects for which the
/// new answers are true. Sentences that contain one of `subjects` are left out. Each sentence occurs once, in the order
/// of the records.
pub fn corpus(records: &[Record], subjects: &BTreeSet<&str>) -> Vec<String> {
    let mut all = Vec::new();
    for record in records {
        let (old, new) = (record.requested_rewrite.was(), record.requested_rewrite.target());
        for (prompts, answer) in [(&record.neighborhood_prompts, old), (&record.attribute_prompts, new)] {
            all.extend(prompts.iter().map(|prompt| prompt.clone() + &target_text(prompt, answer)));
        }
    }
    let named = |sentence: &str| subjects.iter().any(|subject| sentence.contains(subject));
    sentences(&all).into_iter().filter(|sentence| !named(sentence)).collect()
}

pub fn subjects(records: &[Record]) -> BTreeSet<&str> {
    records.iter().map(|record| record.requested_rewrite.subject.as_str()).collect()
}

pub struct World {
    pub model: Model,
    pub tokens: Tokens,
}

impl World {
    /// Opens the shared model and its tokenizer.
    pub fn open() -> Result<Self, Failure> {
        let model = Model::open(&shared(MODEL), Isa::detect())?;
        let tokens = Tokens::open(&shared(MODEL), model.spec().vocabulary)?;
        Ok(Self { model, tokens })
    }

    /// Returns whether every token of the target is the arg-max of `model` after the prompt, and the mean negative
    /// log-likelihood per target token.
    pub fn score(&self, model: &Model, prompt: &str, target: &str) -> Result<(bool, f64), Failure> {
        let target = self.tokens.continuation(&target_text(prompt, target))?;
        let mut row = self.tokens.encode(prompt)?.ids;
        row.extend(&target[..target.len() - 1]);
        let logits = model.logits(&[&row], &[target.len()]).remove(0);
        let (mut holds, mut nll) = (true, 0.0);
        for (logit_row, &label) in logits.chunks(model.spec().vocabulary).zip(&target) {
            holds &= logit_row[label as usize] == max(logit_row);
            nll += softmax(&mut logit_row.to_vec()) - f64::from(logit_row[label as usize]);
        }
        Ok((holds, nll / target.len() as f64))
    }

    /// Returns whether every token of the answer is the arg-max of the base after the prompt.
    pub fn knows(&self, prompt: &str, answer: &str) -> Result<bool, Failure> {
        Ok(self.score(&self.model, prompt, answer)?.0)
    }

    /// Returns at most `count` records whose true answer the base predicts, after skipping the first `skip` of these.
    /// Of records with the same prompt, only the first counts.
    pub fn known<'a>(&self, records: &'a [Record], skip: usize, count: usize) -> Result<Vec<&'a Record>, Failure> {
        let (mut known, mut prompts) = (Vec::new(), BTreeSet::new());
        for record in records {
            if known.len() == skip.saturating_add(count) {
                break;
            }
            let rewrite = &record.requested_rewrite;
            let filled = rewrite.filled()?;
            if self.knows(&filled, rewrite.was())? && prompts.insert(filled) {
                known.push(record);
            }
        }
        Ok(known.split_off(skip.min(known.len())))
    }
}
