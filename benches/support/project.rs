//! Writes a project that edits the shared model `counterfact-gpt2` by CounterFact records.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use corrigenda::project::PROJECT_FILE;
use corrigenda::project::edits::writer::{DraftEdit, DraftExpectations, edit_file};
use corrigenda::research::bench::data::{Dataset, read_all};
use corrigenda::research::bench::draft::{draft_of, sentences};

use crate::counterfact::{Failure, MODEL, Record, World, corpus, records, shared, subjects};

/// The path, in the shared folder, of a large dataset in EasyEdit's flat form.
pub const EASYEDIT: &str = "data/counterfact/easyedit-10000.json";

/// The numbers of edits, of prompts in all `unchanged` lists, and of corpus documents in the project that was written.
pub struct Written {
    pub edits: usize,
    pub unchanged: usize,
    pub documents: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edits, unchanged, documents } = self;
        write!(f, "{edits} edits, {unchanged} prompts that should stay, {documents} documents")
    }
}

/// Writes a project of `count` records whose true answer the base predicts, after skipping the first `skip` of these.
pub fn from_records(folder: &Path, skip: usize, count: usize) -> Result<Written, Failure> {
    new_or_empty(folder)?;
    let (world, records) = (World::open()?, records()?);
    let mut drafts = Vec::new();
    for record in world.known(&records, skip, count)? {
        drafts.push(expecting(&world, record)?);
    }
    write(folder, drafts, &records)
}

/// Returns the edit of a record. The neighbours for which the base predicts the true answer are in its `unchanged`
/// list.
fn expecting(world: &World, record: &Record) -> Result<DraftEdit, Failure> {
    let mut draft = record.draft();
    for prompt in sentences(&record.neighborhood_prompts) {
        if world.knows(&prompt, record.requested_rewrite.was())? {
            draft.expect.unchanged.push(prompt);
        }
    }
    Ok(draft)
}

/// Writes a project of `count` usable records in EasyEdit's flat form, after skipping the first `skip`, without running
/// a model.
pub fn from_easyedit(folder: &Path, skip: usize, count: usize) -> Result<Written, Failure> {
    new_or_empty(folder)?;
    let (cases, _) = read_all(&shared(EASYEDIT), Dataset::Easyedit)?;
    let mut prompts = BTreeSet::new();
    let drafts = cases.iter().filter(|case| prompts.insert(case.filled())).map(|case| draft_of(case).edit);
    // A record without an old answer would add a fact that may already be true.
    let changing = drafts.filter(|draft| draft.was.is_some() && draft.subject.trim() == draft.subject);
    write(folder, changing.skip(skip).take(count).collect(), &records()?)
}

/// Fails if the folder exists and is not empty, so that no file is overwritten.
fn new_or_empty(folder: &Path) -> Result<(), Failure> {
    if folder.exists() && std::fs::read_dir(folder)?.next().is_some() {
        Err(format!("{} is not empty", folder.display()).into())
    } else {
        Ok(())
    }
}

/// Writes the project. Prompts that contain an edited subject are removed from the `unchanged` lists, because the
/// answers to these prompts may change.
fn write(folder: &Path, mut drafts: Vec<DraftEdit>, records: &[Record]) -> Result<Written, Failure> {
    let edited: BTreeSet<String> = drafts.iter().map(|draft| draft.subject.clone()).collect();
    for draft in &mut drafts {
        draft.expect.unchanged.retain(|prompt| !edited.iter().any(|subject| prompt.contains(subject)));
        let DraftExpectations { paraphrase, unchanged, .. } = &mut draft.expect;
        unchanged.retain(|prompt| !paraphrase.contains(prompt));
    }
    let mut avoided = subjects(records);
    avoided.extend(edited.iter().map(String::as_str));
    let documents = corpus(records, &avoided);
    std::fs::create_dir_all(folder.join("edits"))?;
    std::fs::write(folder.join(PROJECT_FILE), settings()?)?;
    std::fs::write(folder.join("corpus.txt"), documents.join("\n") + "\n")?;
    for draft in &drafts {
        std::fs::write(
            folder.join("edits").join(format!("{}.toml", draft.id)),
            edit_file(std::slice::from_ref(draft)),
        )?;
    }
    let unchanged = drafts.iter().map(|draft| draft.expect.unchanged.len()).sum();
    Ok(Written { edits: drafts.len(), unchanged, documents: documents.len() })
}

/// Returns the project file: the paths, the layer that the model card recommends, and a small clamp. With the published
/// clamp of 4, slightly fewer neighbours keep their answers, and edits in a large set affect one another more.
fn settings() -> Result<String, Failure> {
    let model = shared(MODEL).canonicalize()?;
    let model = toml::Value::from(model.to_str().ok_or("the path of the shared model is not UTF-8")?);
    let statistics = "[statistics]\ncorpus = \"corpus.txt\"";
    Ok(format!(
        "format = 1\n\n[model]\npath = {model}\n\n[rome]\nlayer = 0\nbare-weight = 0.5\nclamp = 1\n\n{statistics}\n"
    ))
}
