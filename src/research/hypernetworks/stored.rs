//! Stores a trained editor: a safetensors file with its numbers, and a head that says what it was trained for and how.
//!
//! No file that can contain code is read, so the published editors, which are pickled files of PyTorch, cannot be used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::capture::{CapturedFact, capture_all};
use super::ke::Ke;
use super::learner::{Learner, Numbers};
use super::mend::Mend;
use super::objective::Loss;
use super::settings::{self, Method, TrainedOn, TrainingNumbers, editor_name};
use super::sites::sites;
use super::train::FactText;
use crate::digest::{Digest, FieldHasher};
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::numeric::NUMERICS;
use crate::numeric::random::NumpyRandomState;
use crate::safetensors::{Dtype, Header, TensorData, write};
use crate::store::{EntryKind, Store, StoreError};

/// The version of the file format and of the training. A change of either gives other addresses.
const VERSION: u32 = 1;
/// The name of the metadata field that contains the head.
const HEAD: &str = "editor";
/// The name of the tensor that contains the digests of the facts.
const SEEN: &str = "seen";
/// The maximum number of bytes that are read from the start of a file to parse its head.
const MOST_HEAD_BYTES: u64 = 1 << 24;

/// An editor of either method.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a program has few editors")]
pub enum AnyEditor {
    Mend(Mend),
    Ke(Ke),
}

/// The loss on the validation facts after some steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    pub step: usize,
    pub edit: f64,
    pub divergence: f64,
    /// The weighted sum of the two terms.
    pub total: f64,
}

impl Validation {
    pub fn new(step: usize, loss: Loss, numbers: &TrainingNumbers) -> Self {
        let total = loss.total(settings::training_settings(numbers, 0).weights);
        Self { step, edit: loss.edit, divergence: loss.divergence, total }
    }
}

/// What a training starts from. Its digest is the address of the trained editor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingInputs {
    pub version: u32,
    pub method: Method,
    pub trained_on: TrainedOn,
    /// The digest of the base model's files.
    pub base: Digest,
    /// The edited matrices, such as `down@11`, in the order of the rates.
    pub sites: Vec<String>,
    pub numbers: TrainingNumbers,
    pub seed: u32,
    /// Whether the training reproduces presumed errors of the published code.
    pub published: bool,
    pub numerics: String,
    /// The digest of all texts of the training.
    pub data: Digest,
}

/// What is known about a trained editor without its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditorHead {
    pub inputs: TrainingInputs,
    /// The name of the base model.
    pub base_name: String,
    /// The name of the file with the facts.
    pub file: String,
    /// The number of facts in the steps.
    pub facts: usize,
    /// The losses on the validation facts during the training, in ascending order of steps.
    pub curve: Vec<Validation>,
    /// The step whose numbers are stored: that with the lowest validation loss.
    pub best: usize,
}

/// A trained editor that was read from the store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEditor {
    pub address: Digest,
    pub head: EditorHead,
    pub editor: AnyEditor,
    /// The digests of the records on which the editor was trained or validated.
    pub seen: BTreeSet<Digest>,
}

/// The reason why a stored editor cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages explain the fields")]
pub enum EditorFileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it is not a trained editor of this version of the program: {0}")]
    Head(String),
    #[error("it was trained for another base model, {name} ({})", .digest.short())]
    OtherBase { name: String, digest: Digest },
    #[error("it edits {found}, but the model has {expected}")]
    OtherSites { found: String, expected: String },
    #[error("the tensor `{0}` is missing or has another size or type")]
    Tensor(String),
}

impl TrainingInputs {
    /// Returns the inputs of a training with the version of this program.
    pub fn new(
        (method, trained_on): (Method, TrainedOn),
        (base, model): (Digest, &Model),
        numbers: TrainingNumbers,
        (seed, published): (u32, bool),
        data: Digest,
    ) -> Self {
        let numbers = used(trained_on, numbers);
        let sites = site_names(&sites(model.spec(), numbers["layers"] as usize));
        let numerics = NUMERICS.to_owned();
        Self { version: VERSION, method, trained_on, base, sites, numbers, seed, published, numerics, data }
    }

    pub fn name(&self) -> String {
        editor_name(self.method, self.trained_on)
    }

    /// Returns the digest of all inputs.
    pub fn address(&self) -> Digest {
        let mut canon = FieldHasher::new("editor/1");
        canon.number("version", u64::from(self.version)).text("editor", &self.name()).digest("base", &self.base);
        canon.texts("sites", self.sites.iter().map(String::as_str));
        for (name, number) in &self.numbers {
            canon.text("number", name).float("value", *number);
        }
        canon.number("seed", u64::from(self.seed)).number("published", u64::from(self.published));
        canon.text("numerics", &self.numerics).digest("data", &self.data).finish()
    }

    /// Creates an editor with these settings. Its parameters are those before the training if `draw` is true.
    /// Otherwise they are without meaning, and the caller replaces them.
    pub fn editor(&self, model: &Model, draw: bool) -> AnyEditor {
        let sites = sites(model.spec(), self.numbers["layers"] as usize);
        let mut numbers = NumpyRandomState::new(self.seed);
        match self.method {
            Method::Mend => {
                let rank = self.numbers["rank"] as usize;
                let mut mend = if draw {
                    Mend::new(model.spec(), model.isa(), sites, rank, &mut numbers)
                } else {
                    Mend::identity(model.spec(), model.isa(), sites, rank)
                };
                mend.learning = settings::mend_rates(&self.numbers);
                settings::set_start(&mut mend, &self.numbers);
                AnyEditor::Mend(mend)
            }
            Method::Ke => {
                let mut ke = Ke::zeros(model, sites, settings::ke_sizes(&self.numbers));
                if draw {
                    ke.draw(&mut numbers);
                }
                ke.learning_rate = self.numbers["rate"];
                // The published code declares token 0 to be padding, whose embedding is not trained.
                ke.untrained_token = self.published.then_some(0);
                AnyEditor::Ke(ke)
            }
        }
    }
}

/// Returns the settings that affect a training on this kind of facts.
fn used(trained_on: TrainedOn, mut numbers: TrainingNumbers) -> TrainingNumbers {
    // The number and the length of the passages only affect the training on text.
    numbers.retain(|name, _| trained_on == TrainedOn::Text || !["passages", "tokens"].contains(&name.as_str()));
    numbers
}

/// Returns the names of edited matrices, such as `down@11`.
pub(super) fn site_names(sites: &[Site]) -> Vec<String> {
    let name = |site: &Site| {
        let matrix = match site.matrix {
            MlpMatrix::Gate => "gate",
            MlpMatrix::Up => "up",
            MlpMatrix::Down => "down",
        };
        format!("{matrix}@{}", site.layer)
    };
    sites.iter().map(name).collect()
}

impl AnyEditor {
    pub fn state(&mut self) -> Vec<(String, Numbers<'_>)> {
        match self {
            Self::Mend(mend) => mend.state(),
            Self::Ke(ke) => ke.state(),
        }
    }

    pub fn sites(&self) -> &[Site] {
        match self {
            Self::Mend(mend) => &mend.sites,
            Self::Ke(ke) => &ke.sites,
        }
    }

    /// Computes the changes of the edited matrices that edit some facts together. The gradient is that of one loss over
    /// the tokens of all targets.
    pub fn changes(&self, model: &Model, facts: &[FactText]) -> Vec<LowRank> {
        let texts: Vec<(&[u32], usize)> = facts.iter().map(|fact| (&fact.tokens[..], fact.labels)).collect();
        let mut rows: Vec<_> = capture_all(model, self.sites(), &texts).into_iter().map(|(_, rows)| rows).collect();
        let labels: usize = facts.iter().map(|fact| fact.labels).sum();
        for (fact, of_fact) in facts.iter().zip(&mut rows) {
            let share = fact.labels as f32 / labels as f32;
            of_fact.iter_mut().flat_map(|of_site| &mut of_site.delta).for_each(|x| *x *= share);
        }
        let captured: Vec<CapturedFact<'_>> =
            facts.iter().zip(&rows).map(|(fact, rows)| CapturedFact { text: &fact.tokens, rows }).collect();
        let of_facts = match self {
            Self::Mend(mend) => mend.edit(&captured).changes,
            Self::Ke(ke) => ke.edit(&captured).changes,
        };
        let joined = |index: usize| LowRank {
            a: of_facts.iter().flat_map(|changes| &changes[index].a).copied().collect(),
            b: of_facts.iter().flat_map(|changes| &changes[index].b).copied().collect(),
        };
        (0..self.sites().len()).map(joined).collect()
    }
}

/// Returns the bytes of the numbers of an editor, each tensor with `prefix` before its name.
pub(super) fn tensors(prefix: &str, state: Vec<(String, Numbers<'_>)>) -> Vec<(String, Dtype, Vec<u8>)> {
    let one = |(name, numbers): (String, Numbers<'_>)| {
        let name = format!("{prefix}{name}");
        match numbers {
            Numbers::F32(numbers) => (name, Dtype::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Numbers::F64(numbers) => (name, Dtype::F64, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Numbers::Count(count) => (name, Dtype::U64, count.to_le_bytes().to_vec()),
        }
    };
    state.into_iter().map(one).collect()
}

/// Returns a safetensors file with the given tensors, and one metadata field.
pub(super) fn file(tensors: &[(String, Dtype, Vec<u8>)], field: &str, text: String) -> Vec<u8> {
    let data = tensors.iter().map(|(name, dtype, data)| {
        let count = data.len() as u64 / dtype.size() as u64;
        TensorData { name: name.clone(), dtype: *dtype, shape: vec![count], data }
    });
    write(&data.collect::<Vec<_>>(), &BTreeMap::from([(field.to_owned(), text)]))
}

/// Sets the numbers of an editor to those in a file.
pub(super) fn fill(
    prefix: &str,
    state: Vec<(String, Numbers<'_>)>,
    header: &Header,
    bytes: &[u8],
) -> Result<(), EditorFileError> {
    for (name, numbers) in state {
        let name = format!("{prefix}{name}");
        let wrong = || EditorFileError::Tensor(name.clone());
        let info = header.tensors.get(&name).ok_or_else(wrong)?;
        let data = bytes.get(info.start as usize..info.end as usize).ok_or_else(wrong)?;
        let fits = |dtype: Dtype, count: usize| info.dtype == dtype && data.len() == count * dtype.size();
        match numbers {
            Numbers::F32(out) if fits(Dtype::F32, out.len()) => {
                out.iter_mut().zip(data.as_chunks().0).for_each(|(x, element)| *x = f32::from_le_bytes(*element));
            }
            Numbers::F64(out) if fits(Dtype::F64, out.len()) => {
                out.iter_mut().zip(data.as_chunks().0).for_each(|(x, element)| *x = f64::from_le_bytes(*element));
            }
            Numbers::Count(out) if fits(Dtype::U64, 1) => {
                *out = u64::from_le_bytes(data.try_into().map_err(|_| wrong())?);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(())
}

/// Returns the bytes of the file of a trained editor.
pub fn to_bytes(head: &EditorHead, editor: &mut AnyEditor, seen: &[Digest]) -> Vec<u8> {
    let mut tensors = tensors("", editor.state());
    tensors.push((SEEN.to_owned(), Dtype::U8, seen.iter().flat_map(|digest| *digest.bytes()).collect()));
    file(&tensors, HEAD, serde_json::to_string(head).expect("a head is JSON"))
}

/// Reads the head of a file from its first bytes.
///
/// # Errors
/// If it is not the head of a trained editor of this version.
fn head_of(length: u64, first: &[u8]) -> Result<(EditorHead, Header), EditorFileError> {
    let unusable = |why: String| EditorFileError::Head(why);
    let header = Header::parse(length, first).map_err(|error| unusable(error.to_string()))?;
    let text = header.metadata.get(HEAD).ok_or_else(|| unusable("it has no head".to_owned()))?;
    let head: EditorHead = serde_json::from_str(text).map_err(|error| unusable(error.to_string()))?;
    if head.inputs.version != VERSION || head.inputs.numerics != NUMERICS {
        let (version, numerics) = (head.inputs.version, &head.inputs.numerics);
        return Err(unusable(format!("version {version} and numerics {numerics}, not {VERSION} and {NUMERICS}")));
    }
    Ok((head, header))
}

/// An editor in the store: the address, the size of the file in bytes, and the head or the reason why the editor cannot
/// be used.
pub type ListedFile = (Digest, u64, Result<EditorHead, EditorFileError>);

/// Lists the trained editors in a store.
///
/// # Errors
/// If the store cannot be listed.
pub fn list(store: &Store) -> Result<Vec<ListedFile>, StoreError> {
    let entries = store.ls()?.into_iter().filter(|entry| entry.kind == EntryKind::Editor);
    let head = |address: &Digest| {
        let first = store.read_prefix(EntryKind::Editor, address, MOST_HEAD_BYTES)?;
        let (first, length) = first.ok_or_else(|| EditorFileError::Head("it was removed".to_owned()))?;
        head_of(length, &first).map(|(head, _)| head)
    };
    Ok(entries.map(|entry| (entry.key, entry.size, head(&entry.key))).collect())
}

/// Reads a trained editor for a base model.
///
/// # Errors
/// If the entry is missing or damaged, of another version or another base, or does not fit the model.
pub fn read(store: &Store, address: &Digest, model: &Model, base: &Digest) -> Result<StoredEditor, EditorFileError> {
    let bytes = store.get(EntryKind::Editor, address)?;
    let bytes = bytes.ok_or_else(|| EditorFileError::Head("it is missing".to_owned()))?;
    let (head, header) = head_of(bytes.len() as u64, &bytes)?;
    check(&head, model, base)?;
    let mut editor = head.inputs.editor(model, false);
    fill("", editor.state(), &header, &bytes)?;
    let wrong = || EditorFileError::Tensor(SEEN.to_owned());
    let info = header.tensors.get(SEEN).filter(|info| info.dtype == Dtype::U8).ok_or_else(wrong)?;
    let (seen, rest) = bytes.get(info.start as usize..info.end as usize).ok_or_else(wrong)?.as_chunks();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let seen = seen.iter().map(|digest| Digest::from_bytes(*digest)).collect();
    Ok(StoredEditor { address: *address, head, editor, seen })
}

/// Checks that an editor is for this base model and edits the matrices of this model.
///
/// # Errors
/// If it does not.
pub fn check(head: &EditorHead, model: &Model, base: &Digest) -> Result<(), EditorFileError> {
    if head.inputs.base != *base {
        return Err(EditorFileError::OtherBase { name: head.base_name.clone(), digest: head.inputs.base });
    }
    let all = settings::numbers(head.inputs.method, model.spec(), false, &TrainingNumbers::new());
    let settings = used(head.inputs.trained_on, all);
    if !head.inputs.numbers.keys().eq(settings.keys()) {
        return Err(EditorFileError::Head("it has other settings".to_owned()));
    }
    let expected = site_names(&sites(model.spec(), head.inputs.numbers["layers"] as usize));
    if head.inputs.sites != expected {
        let (found, expected) = (head.inputs.sites.join(", "), expected.join(", "));
        return Err(EditorFileError::OtherSites { found, expected });
    }
    Ok(())
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
