//! CounterFact records and the shared `counterfact-gpt2` that knows them: what benches and examples share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corrigenda::bench::import::{Draft, Expected, id, sentences};
use corrigenda::compile::resolve::fill;
use corrigenda::model::tokens::target_text;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::rows::{greatest, softmax};
use serde::Deserialize;

pub type Failure = Box<dyn std::error::Error>;

/// The model, below the shared folder.
pub const MODEL: &str = "models/counterfact-gpt2";
/// The records, below the shared folder.
pub const RECORDS: &str = "data/counterfact/dev.json";

/// A path below the shared folder, which stands beside the repository.
pub fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path)
}

/// The first of these shared paths that is not here.
pub fn absent(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(|path| shared(path)).find(|path| !path.exists())
}

/// One record, in the published schema.
#[derive(Deserialize)]
pub struct Record {
    pub case_id: u64,
    pub requested_rewrite: Rewrite,
    pub paraphrase_prompts: Vec<String>,
    pub neighborhood_prompts: Vec<String>,
    pub attribute_prompts: Vec<String>,
}

/// What a record asks for.
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
    /// The new answer.
    pub fn target(&self) -> &str {
        &self.target_new.str
    }

    /// The true one.
    pub fn was(&self) -> &str {
        &self.target_true.str
    }

    /// The prompt with its subject.
    pub fn filled(&self) -> Result<String, Failure> {
        Ok(fill(&self.prompt, &self.subject)?.0)
    }
}

impl Record {
    /// The edit that it asks for, expected in its paraphrases; nothing is expected to stay yet.
    pub fn draft(&self) -> Draft {
        let rewrite = &self.requested_rewrite;
        let paraphrase = sentences(&self.paraphrase_prompts);
        Draft {
            id: id(self.case_id, &rewrite.subject),
            subject: rewrite.subject.clone(),
            prompt: rewrite.prompt.clone(),
            target: rewrite.target().to_owned(),
            was: Some(rewrite.was().to_owned()),
            expect: Expected { paraphrase, unchanged: Vec::new() },
        }
    }
}

/// All records.
pub fn records() -> Result<Vec<Record>, Failure> {
    Ok(serde_json::from_slice(&std::fs::read(shared(RECORDS))?)?)
}

/// The corpus of the statistics: what is true of the records' neighbours and of those that the new answers are true
/// of, without any sentence that names one of `subjects`; each sentence once, in the order of the records.
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

/// The subjects of all records.
pub fn subjects(records: &[Record]) -> BTreeSet<&str> {
    records.iter().map(|record| record.requested_rewrite.subject.as_str()).collect()
}

/// The base model and its tokenizer.
pub struct World {
    pub model: Model,
    pub tokens: Tokens,
}

impl World {
    /// Opens the shared model.
    pub fn open() -> Result<Self, Failure> {
        let model = Model::open(&shared(MODEL), Isa::detect())?;
        let tokens = Tokens::open(&shared(MODEL), model.spec().vocabulary)?;
        Ok(Self { model, tokens })
    }

    /// Whether every token of the target is the arg-max of `model` behind the prompt, and the mean negative
    /// log-likelihood per token.
    pub fn score(&self, model: &Model, prompt: &str, target: &str) -> Result<(bool, f64), Failure> {
        let target = self.tokens.continuation(&target_text(prompt, target))?;
        let mut row = self.tokens.encode(prompt)?.ids;
        row.extend(&target[..target.len() - 1]);
        let logits = model.logits(&[&row], &[target.len()]).remove(0);
        let (mut holds, mut nll) = (true, 0.0);
        for (row, &label) in logits.chunks(model.spec().vocabulary).zip(&target) {
            holds &= row[label as usize] == greatest(row);
            nll += softmax(&mut row.to_vec()) - f64::from(row[label as usize]);
        }
        Ok((holds, nll / target.len() as f64))
    }

    /// Whether the base gives this answer.
    pub fn knows(&self, prompt: &str, answer: &str) -> Result<bool, Failure> {
        Ok(self.score(&self.model, prompt, answer)?.0)
    }

    /// The records whose true answer the base gives, without the first `skip` and at most `count`; of those with
    /// the same filled prompt the first.
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
