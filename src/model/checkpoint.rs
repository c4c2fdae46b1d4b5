//! A checkpoint in the Hub's layout: opened, validated, mapped, and never written.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::ModelError;
use super::family::{Family, Spec};
use crate::safetensors::{Dtype, Header, TensorInfo, refuse_pickle};

/// config.json may be this long.
const CONFIG_LIMIT: u64 = 1 << 20;

/// One f32 tensor of a model: in the map, or in memory when it was changed or was not aligned in the file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Arc<Vec<f32>>),
}

impl Tensor {
    /// The elements, row-major.
    pub fn data(&self) -> &[f32] {
        match &self.storage {
            Storage::Owned(data) => data,
            Storage::Mapped(map, range) => aligned(&map[range.clone()]).unwrap_or_default(),
        }
    }

    /// The same tensor with other elements.
    pub fn with_data(&self, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), self.shape.iter().product::<usize>(), "elements of {}", self.name);
        Self { storage: Storage::Owned(Arc::new(data)), ..self.clone() }
    }

    fn mapped(name: String, info: &TensorInfo, map: &Arc<Mmap>) -> Self {
        // The header was checked against the file's length: the range lies inside the map.
        let range = info.start as usize..info.end as usize;
        let bytes = &map[range.clone()];
        let storage = if aligned(bytes).is_some() {
            Storage::Mapped(Arc::clone(map), range)
        } else {
            let (chunks, _) = bytes.as_chunks::<4>();
            Storage::Owned(Arc::new(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
        };
        Self { name, shape: info.shape.iter().map(|&side| side as usize).collect(), storage }
    }
}

/// The bytes as little-endian f32, where they are aligned for it.
#[expect(unsafe_code, reason = "weights are read in place from the map")]
fn aligned(bytes: &[u8]) -> Option<&[f32]> {
    const { assert!(cfg!(target_endian = "little"), "weights are mapped as little-endian f32") };
    // SAFETY: every bit pattern is a valid f32, and `align_to` keeps to the slice.
    let (before, data, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(data)
}

/// The tensors of one block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub attention_norm: [Tensor; 2],
    pub attention_in: [Tensor; 2],
    pub attention_out: [Tensor; 2],
    pub mlp_norm: [Tensor; 2],
    pub mlp_in: [Tensor; 2],
    pub mlp_out: [Tensor; 2],
}

impl Block {
    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let Self { attention_norm, attention_in, attention_out, mlp_norm, mlp_in, mlp_out } = self;
        [attention_norm, attention_in, attention_out, mlp_norm, mlp_in, mlp_out].into_iter().flatten()
    }
}

/// An opened checkpoint. Cloning is cheap: the weights stay where they are.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    weights: PathBuf,
    header: Arc<Header>,
    spec: Spec,
    pub(super) token_embedding: Tensor,
    pub(super) position_embedding: Tensor,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: [Tensor; 2],
    pub(super) head: Tensor,
}

impl Checkpoint {
    /// Opens `folder` and checks every tensor that the decoder reads: presence, shape, dtype. Reads no weight.
    ///
    /// # Errors
    /// A missing or malformed file, an unsupported architecture, a pickle, a tensor that is not as config.json says.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let config_path = find(folder)?;
        let config = read_json(&config_path)?;
        let spec = Spec::parse(&config_path, &config)?;
        let weights = weights_path(folder)?;
        let (header, map) = map_weights(&weights)?;
        let source = Source { path: &weights, header: &header, map: &map, spec: &spec };
        let (token_embedding, position_embedding, final_norm, head) = source.ends()?;
        let blocks = (0..spec.layers).map(|layer| source.block(layer)).collect::<Result<_, _>>()?;
        Ok(Self {
            folder: folder.to_owned(),
            weights,
            header: Arc::new(header),
            spec,
            token_embedding,
            position_embedding,
            blocks,
            final_norm,
            head,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files that decide what the model says, as names in the folder, sorted.
    pub fn files() -> [&'static str; 3] {
        ["config.json", "model.safetensors", "tokenizer.json"]
    }

    /// Every tensor that the decoder reads, in one order.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let ends = [&self.token_embedding, &self.position_embedding, &self.head].into_iter().chain(&self.final_norm);
        ends.chain(self.blocks.iter().flat_map(Block::tensors)).collect()
    }

    /// The shape of the model.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The weight that an edit of `layer` changes, and its bias.
    pub fn edited(&self, layer: usize) -> (&Tensor, &Tensor) {
        let [weight, bias] = &self.blocks[layer].mlp_out;
        (weight, bias)
    }

    /// The checkpoint with another weight in `layer`'s second MLP matrix.
    pub fn with_edited(&self, layer: usize, data: Vec<f32>) -> Self {
        let mut changed = self.clone();
        changed.blocks[layer].mlp_out[0] = self.blocks[layer].mlp_out[0].with_data(data);
        changed
    }

    /// Refuses a tensor with a NaN or an infinity, naming the first.
    pub fn check_finite(&self, tensor: &Tensor) -> Result<(), ModelError> {
        let Some(index) = tensor.data().iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let start = self.header.tensors.get(&tensor.name).map_or(0, |info| info.start);
        Err(ModelError::NotFinite {
            path: self.weights.clone(),
            tensor: tensor.name.clone(),
            value: tensor.data()[index],
            index,
            offset: start + 4 * index as u64,
        })
    }
}

fn find(folder: &Path) -> Result<PathBuf, ModelError> {
    if let Some(refused) = refuse_pickle(folder, &[]) {
        return Err(refused.into());
    }
    if folder.is_file() {
        let mut first = [0; 8];
        let read = File::open(folder).and_then(|mut file| std::io::Read::read(&mut file, &mut first)).unwrap_or(0);
        return Err(match refuse_pickle(folder, &first[..read]) {
            Some(refused) => refused.into(),
            None => ModelError::NotAFolder(folder.to_owned()),
        });
    }
    if !folder.is_dir() {
        return Err(ModelError::NoFolder(folder.to_owned()));
    }
    let config = folder.join("config.json");
    if config.is_file() {
        Ok(config)
    } else {
        Err(ModelError::NoFile { folder: folder.to_owned(), name: "config.json" })
    }
}

/// Where the weights are; other formats are refused by name, so that nobody wonders why they were not seen.
fn weights_path(folder: &Path) -> Result<PathBuf, ModelError> {
    let weights = folder.join("model.safetensors");
    if weights.is_file() {
        return Ok(weights);
    }
    if folder.join("model.safetensors.index.json").is_file() {
        return Err(ModelError::Sharded(folder.to_owned()));
    }
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map_err(|source| ModelError::Read { path: folder.to_owned(), source })?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort();
    match names.iter().find_map(|path| refuse_pickle(path, &[])) {
        Some(refused) => Err(refused.into()),
        None => Err(ModelError::NoFile { folder: folder.to_owned(), name: "model.safetensors" }),
    }
}

pub(super) fn read_capped(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let context = |source| ModelError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(context)?.len();
    if size > limit {
        return Err(ModelError::TooLarge { path: path.to_owned(), size, limit });
    }
    std::fs::read(path).map_err(context)
}

fn read_json(path: &Path) -> Result<serde_json::Value, ModelError> {
    let bytes = read_capped(path, CONFIG_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|source| ModelError::NotJson { path: path.to_owned(), source })
}

#[expect(unsafe_code, reason = "weights are memory-mapped")]
fn map_weights(path: &Path) -> Result<(Header, Arc<Mmap>), ModelError> {
    let context = |source| ModelError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(context)?;
    let length = file.metadata().map_err(context)?.len();
    if length == 0 {
        // An empty file cannot be mapped; the header reader has the words for it.
        let source = Header::parse(0, &[]).expect_err("an empty file has no header");
        return Err(ModelError::Header { path: path.to_owned(), source });
    }
    // SAFETY: the map is read only. Another process that truncates the file while it is mapped can end this one
    // (SIGBUS); no process of ours ever writes to a base model.
    let map = unsafe { Mmap::map(&file) }.map_err(context)?;
    if let Some(refused) = refuse_pickle(path, &map[..map.len().min(8)]) {
        return Err(refused.into());
    }
    let header = Header::parse(length, &map).map_err(|source| ModelError::Header { path: path.to_owned(), source })?;
    Ok((header, Arc::new(map)))
}

/// Finds the decoder's tensors in one file.
struct Source<'a> {
    path: &'a Path,
    header: &'a Header,
    map: &'a Arc<Mmap>,
    spec: &'a Spec,
}

impl Source<'_> {
    fn family(&self) -> &'static Family {
        self.spec.family
    }

    /// The name as this file has it: with the family's prefix, or without.
    fn named(&self, name: &str) -> Option<(String, &TensorInfo)> {
        let full = format!("{}{name}", self.family().prefix);
        let found = self.header.tensors.get_key_value(&full).or_else(|| self.header.tensors.get_key_value(name));
        found.map(|(name, info)| (name.clone(), info))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let path = || self.path.to_owned();
        let Some((name, info)) = self.named(name) else {
            let tensor = format!("{}{name}", self.family().prefix);
            return Err(ModelError::NoTensor { path: path(), tensor });
        };
        if info.dtype != Dtype::F32 {
            return Err(ModelError::Dtype { path: path(), tensor: name, found: info.dtype.name().to_owned() });
        }
        let expected: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
        if info.shape != expected {
            return Err(ModelError::Shape { path: path(), tensor: name, expected, found: info.shape.clone() });
        }
        Ok(Tensor::mapped(name, info, self.map))
    }

    fn norm(&self, name: &str) -> Result<[Tensor; 2], ModelError> {
        let shape = [self.spec.width];
        Ok([self.tensor(&format!("{name}.weight"), &shape)?, self.tensor(&format!("{name}.bias"), &shape)?])
    }

    fn affine(&self, name: &str, inputs: usize, outputs: usize) -> Result<[Tensor; 2], ModelError> {
        let shape = match self.family().layout {
            crate::patch::Layout::Conv1d => [inputs, outputs],
            crate::patch::Layout::Linear => [outputs, inputs],
        };
        Ok([self.tensor(&format!("{name}.weight"), &shape)?, self.tensor(&format!("{name}.bias"), &[outputs])?])
    }

    fn block(&self, layer: usize) -> Result<Block, ModelError> {
        let family = self.family();
        let (width, inner) = (self.spec.width, self.spec.inner);
        let base = family.block.replace("{}", &layer.to_string());
        let at = |name: &str| format!("{base}{name}");
        Ok(Block {
            attention_norm: self.norm(&at(family.attention_norm))?,
            attention_in: self.affine(&at(family.attention_in), width, 3 * width)?,
            attention_out: self.affine(&at(family.attention_out), width, width)?,
            mlp_norm: self.norm(&at(family.mlp_norm))?,
            mlp_in: self.affine(&at(family.mlp_in), width, inner)?,
            mlp_out: self.affine(&at(family.mlp_out), inner, width)?,
        })
    }

    /// What stands before and behind the blocks.
    fn ends(&self) -> Result<(Tensor, Tensor, [Tensor; 2], Tensor), ModelError> {
        let (family, spec) = (self.family(), self.spec);
        let embedding = self.tensor(&format!("{}.weight", family.token_embedding), &[spec.vocabulary, spec.width])?;
        let positions = self.tensor(&format!("{}.weight", family.position_embedding), &[spec.positions, spec.width])?;
        let norm = self.norm(family.final_norm)?;
        // A tied head is the embedding, whether or not the file repeats it.
        let head = if spec.tied {
            embedding.clone()
        } else {
            let name = format!("{}.weight", family.head);
            if self.named(&name).is_none() {
                // The head never has the family's prefix.
                return Err(ModelError::NoTensor { path: self.path.to_owned(), tensor: name });
            }
            self.tensor(&name, &[spec.vocabulary, spec.width])?
        };
        Ok((embedding, positions, norm, head))
    }
}
