//! Opens checkpoints in the layout of the Hugging Face Hub: validates their files and memory-maps the weights. Never
//! writes to the files.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::files::{WeightFiles, find_config, read_config};
use super::remark::{self, Remark};
use super::storage::names;
use super::tensor::Tensor;
use super::tied;
use crate::model::ModelError;
use crate::model::arch::family::{Family, NormKind, QkvLayout};
use crate::model::arch::spec::Spec;
use crate::safetensors::{Dtype, Layout};

/// The tensors of a linear projection. The weight is `[in, out]` or `[out, in]`, as in the file. The bias is `None` if
/// the model has none.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Projection {
    /// Returns the part of a projection with these outputs. The weight must be stored as `[out, in]`.
    fn outputs(&self, outputs: Range<usize>) -> Self {
        let part = |tensor: &Tensor| tensor.leading(outputs.clone());
        Self { weight: part(&self.weight), bias: self.bias.as_ref().map(part) }
    }
}

/// The parameters of a norm: gain and bias. RMSNorm has no bias.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub gain: Tensor,
    pub bias: Option<Tensor>,
}

/// A weight matrix of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpMatrix {
    /// The matrix of a gated MLP whose output the activation function is applied to.
    Gate,
    /// The up-projection.
    Up,
    /// The down-projection.
    Down,
}

/// The tensors of one transformer block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub attention_norm: Norm,
    /// Either one fused projection, or three projections in the order query, key, value.
    pub attention_in: Vec<Projection>,
    /// Norms of the query and of the key of every head, `[head_width]` each; `None` if the family does not normalise
    /// heads.
    pub head_norms: Option<[Norm; 2]>,
    pub attention_out: Projection,
    /// Norm before the MLP; `None` if attention and MLP share `attention_norm`.
    pub mlp_norm: Option<Norm>,
    pub mlp_gate: Option<Projection>,
    pub mlp_in: Projection,
    pub mlp_out: Projection,
}

impl Block {
    fn tensors(&self) -> Vec<&Tensor> {
        let Self { attention_norm, attention_in, head_norms, attention_out, mlp_norm, mlp_gate, mlp_in, mlp_out } =
            self;
        let norms = [attention_norm].into_iter().chain(head_norms.iter().flatten()).chain(mlp_norm);
        let norms = norms.flat_map(|norm| [Some(&norm.gain), norm.bias.as_ref()]);
        let projections = attention_in.iter().chain([attention_out]).chain(mlp_gate).chain([mlp_in, mlp_out]);
        let projections = projections.flat_map(|one| [Some(&one.weight), one.bias.as_ref()]);
        norms.chain(projections).flatten().collect()
    }
}

/// An opened checkpoint. Clones share the memory-mapped weights, so cloning is cheap.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    weights: WeightFiles,
    spec: Spec,
    remarks: Vec<Remark>,
    pub(crate) token_embedding: Tensor,
    pub(crate) position_embedding: Option<Tensor>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Norm,
    pub(crate) head: Projection,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`. Checks presence, shape and dtype of every tensor that the decoder reads. Only
    /// the headers of the weights files are read, with one exception: if a model with tied embeddings also stores an
    /// output matrix, this matrix is compared with the token embedding.
    ///
    /// # Errors
    /// If a file is missing or malformed, a file is a pickle, the architecture is not supported, or a tensor does not
    /// match config.json.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let config_path = find_config(folder)?;
        let config = read_config(&config_path)?;
        let spec = Spec::parse(&config_path, &config)?;
        let weights = WeightFiles::open(folder)?;
        let source = Source { weights: &weights, spec: &spec };
        let blocks = (0..spec.layers).map(|layer| source.block(layer)).collect::<Result<_, _>>()?;
        let token_embedding = source.token_embedding()?;
        let positions = spec.family.position_embedding;
        let positions = positions
            .map(|name| source.tensor(&format!("{name}.weight"), &[spec.max_positions, spec.hidden_size]))
            .transpose()?;
        let final_norm = source.norm(spec.family.final_norm, spec.hidden_size)?;
        let mut remarks: Vec<Remark> = remark::of_folder(folder, &config_path, &config, spec.family);
        let head = source.head(&token_embedding, &mut remarks)?;
        let mut opened = Self {
            folder: folder.to_owned(),
            token_embedding,
            position_embedding: positions,
            blocks,
            final_norm,
            head,
            weights: weights.clone(),
            spec: spec.clone(),
            remarks,
        };
        let read = opened.tensors().into_iter().map(|tensor| tensor.name.as_str()).collect();
        let unread = remark::unread(&weights.path, &names::unread(&weights, &spec, &read));
        opened.remarks.extend(unread);
        Ok(opened)
    }

    /// Returns the warnings that [`Checkpoint::open`] collected. The model can be run despite these warnings.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// Returns the folder that was given to [`Checkpoint::open`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the names of the files that determine the model's output, sorted and relative to the folder.
    pub fn files(&self) -> Vec<String> {
        self.weights.files()
    }

    /// Returns every tensor that the decoder reads, in a fixed order: embeddings, output matrix, final norm, then the
    /// blocks from first to last.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let ends = [Some(&self.token_embedding), self.position_embedding.as_ref(), Some(&self.head.weight)];
        let ends = ends.into_iter().chain([self.head.bias.as_ref(), Some(&self.final_norm.gain)]);
        let ends = ends.chain([self.final_norm.bias.as_ref()]).flatten();
        ends.chain(self.blocks.iter().flat_map(Block::tensors)).collect()
    }

    /// Returns the model's dimensions and options, which were read from config.json.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the weight of `layer`'s MLP down-projection, oriented as in the file. Edits change this weight.
    pub fn edited(&self, layer: usize) -> &Tensor {
        self.mlp_weight(layer, MlpMatrix::Down)
    }

    /// Returns the bias of `layer`'s MLP down-projection; `None` if the projection has no bias.
    pub fn edited_bias(&self, layer: usize) -> Option<&Tensor> {
        self.blocks[layer].mlp_out.bias.as_ref()
    }

    /// Returns a copy of the checkpoint in which `data`, oriented as in the file, replaces the weight of `layer`'s MLP
    /// down-projection.
    pub fn with_edited(&self, layer: usize, data: Vec<f32>) -> Self {
        self.with_mlp_weight(layer, MlpMatrix::Down, data)
    }

    /// Returns the weight of an MLP matrix, oriented as in the file.
    ///
    /// # Panics
    /// If `matrix` is the gate and the MLP is not gated.
    pub(crate) fn mlp_weight(&self, layer: usize, matrix: MlpMatrix) -> &Tensor {
        let block = &self.blocks[layer];
        match matrix {
            MlpMatrix::Gate => &block.mlp_gate.as_ref().expect("the MLP is gated").weight,
            MlpMatrix::Up => &block.mlp_in.weight,
            MlpMatrix::Down => &block.mlp_out.weight,
        }
    }

    /// Returns a copy of the checkpoint in which `data`, oriented as in the file, replaces the weight of an MLP matrix.
    ///
    /// # Panics
    /// If `matrix` is the gate and the MLP is not gated.
    pub(crate) fn with_mlp_weight(&self, layer: usize, matrix: MlpMatrix, data: Vec<f32>) -> Self {
        let weight = self.mlp_weight(layer, matrix).with_data(data);
        let mut changed = self.clone();
        let block = &mut changed.blocks[layer];
        match matrix {
            MlpMatrix::Gate => block.mlp_gate.as_mut().expect("the MLP is gated").weight = weight,
            MlpMatrix::Up => block.mlp_in.weight = weight,
            MlpMatrix::Down => block.mlp_out.weight = weight,
        }
        changed
    }

    /// Returns a copy of the checkpoint in which `data`, `[d]`, replaces the bias of `layer`'s MLP down-projection.
    /// Changes nothing if the projection has no bias.
    pub fn with_edited_bias(&self, layer: usize, data: Vec<f32>) -> Self {
        let mut changed = self.clone();
        let bias = changed.blocks[layer].mlp_out.bias.as_ref().map(|bias| bias.with_data(data));
        changed.blocks[layer].mlp_out.bias = bias;
        changed
    }

    /// Checks that every element of `tensor` is finite.
    ///
    /// # Errors
    /// If an element is NaN or infinite. The error gives the index and the byte offset of the first such element.
    pub fn check_finite(&self, tensor: &Tensor) -> Result<(), ModelError> {
        let wide = tensor.to_f32();
        let Some(index) = wide.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let found = self.weights.get(&tensor.name);
        let start = found.map_or(0, |(_, info)| info.start);
        Err(ModelError::NotFinite {
            path: found.map_or_else(|| self.weights.path.clone(), |(shard, _)| shard.file.path.clone()),
            tensor: tensor.name.clone(),
            value: wide[index],
            index,
            offset: start + Dtype::from(tensor.dtype).size() as u64 * index as u64,
        })
    }
}

/// The weights files of a model, with methods that look up the tensors of the decoder by name.
struct Source<'a> {
    weights: &'a WeightFiles,
    spec: &'a Spec,
}

impl Source<'_> {
    fn family(&self) -> &'static Family {
        self.spec.family
    }

    /// Returns the name of a tensor as the weights files spell it: `name` with the family's prefix if the files contain
    /// that name, otherwise `name` alone. Returns `None` if the files contain neither.
    fn named(&self, name: &str) -> Option<String> {
        let full = format!("{}{name}", self.family().prefix);
        [full, name.to_owned()].into_iter().find(|name| self.weights.get(name).is_some())
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        match self.named(name) {
            Some(name) => self.exact(name, shape),
            None => Err(self.missing(&format!("{}{name}", self.family().prefix))),
        }
    }

    /// Returns the error for a missing tensor that the decoder needs. The error states the likely cause.
    fn missing(&self, name: &str) -> ModelError {
        let bare = name.strip_prefix(self.family().prefix).unwrap_or(name);
        let absent = [name, bare].into_iter().find_map(|name| self.weights.absent.get_key_value(name));
        match absent {
            Some((tensor, shard)) => self.weights.not_there(tensor, shard),
            None => names::missing(self.weights, self.spec, name),
        }
    }

    /// Returns the tensor with the name `name`, without adding the family's prefix. Rejects an unexpected dtype or
    /// shape.
    fn exact(&self, name: String, shape: &[usize]) -> Result<Tensor, ModelError> {
        let Some((shard, info)) = self.weights.get(&name) else {
            return Err(self.missing(&name));
        };
        let path = || shard.file.path.clone();
        let Some(stored) = info.dtype.weight_dtype() else {
            return Err(ModelError::Dtype { path: path(), tensor: name, found: info.dtype.name().to_owned() });
        };
        let expected: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
        if info.shape != expected {
            return Err(ModelError::Shape { path: path(), tensor: name, expected, found: info.shape.clone() });
        }
        // The header reader has checked that the byte range is inside the file. The range is therefore also inside the
        // memory map of the file.
        let range = info.start as usize..info.end as usize;
        Ok(Tensor::mapped(name, shape.to_vec(), stored, &shard.map, range))
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, ModelError> {
        let part = |part: &str| self.tensor(&format!("{name}.{part}"), &[width]);
        let bias = match self.family().norm {
            NormKind::Layer => Some(part("bias")?),
            NormKind::Rms => None,
        };
        Ok(Norm { gain: part("weight")?, bias })
    }

    fn projection(&self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Projection, ModelError> {
        let shape = match self.family().layout {
            Layout::Conv1d => [inputs, outputs],
            Layout::Linear => [outputs, inputs],
        };
        let weight = self.tensor(&format!("{name}.weight"), &shape)?;
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"), &[outputs])).transpose()?;
        Ok(Projection { weight, bias })
    }

    fn block(&self, layer: usize) -> Result<Block, ModelError> {
        let (family, spec, biases) = (self.family(), self.spec, self.spec.biases);
        let (width, inner, attended) = (spec.hidden_size, spec.intermediate_size, spec.heads * spec.head_width);
        let shared = spec.kv_heads * spec.head_width;
        let base = family.block.replace("{}", &layer.to_string());
        let at = |name: &str| format!("{base}{name}");
        let into = |name: &str, outputs| self.projection(&at(name), width, outputs, biases.attention_in);
        let attention_in = match family.attention_in {
            QkvLayout::Fused(name) | QkvLayout::FusedByHead(name) => vec![into(name, attended + 2 * shared)?],
            QkvLayout::Separate([query, key, value]) => {
                vec![into(query, attended)?, into(key, shared)?, into(value, shared)?]
            }
        };
        let head_norms = match family.head_norms {
            None => None,
            Some([query, key]) => {
                Some([self.norm(&at(query), spec.head_width)?, self.norm(&at(key), spec.head_width)?])
            }
        };
        let mlp = |name: &str, inputs, outputs| self.projection(&at(name), inputs, outputs, biases.mlp);
        let (mlp_gate, mlp_in) = match family.mlp_gate {
            // One matrix has the rows of the gate, followed by those of the up-projection.
            Some(gate) if gate == family.mlp_in => {
                let both = mlp(gate, width, 2 * inner)?;
                (Some(both.outputs(0..inner)), both.outputs(inner..2 * inner))
            }
            gate => (gate.map(|name| mlp(name, width, inner)).transpose()?, mlp(family.mlp_in, width, inner)?),
        };
        Ok(Block {
            attention_norm: self.norm(&at(family.attention_norm), width)?,
            attention_in,
            head_norms,
            attention_out: self.projection(&at(family.attention_out), attended, width, biases.attention_out)?,
            mlp_norm: family.mlp_norm.map(|name| self.norm(&at(name), width)).transpose()?,
            mlp_gate,
            mlp_in,
            mlp_out: mlp(family.mlp_out, inner, width)?,
        })
    }

    /// Returns the token embedding. A model with tied embeddings may store only the output matrix, which is then used
    /// as the token embedding.
    fn token_embedding(&self) -> Result<Tensor, ModelError> {
        let (name, head) = (format!("{}.weight", self.family().token_embedding), self.head_name());
        let shape = [self.spec.vocabulary, self.spec.hidden_size];
        if self.spec.tied && self.named(&name).is_none() && self.weights.get(&head).is_some() {
            return self.exact(head, &shape);
        }
        self.tensor(&name, &shape)
    }

    /// Returns the output matrix that a model with tied embeddings stores in addition to the token embedding. Rejects a
    /// shape that differs from that of the token embedding.
    fn repeated(&self) -> Result<Tensor, ModelError> {
        let name = self.head_name();
        let shape = [self.spec.vocabulary, self.spec.hidden_size];
        let wide: Vec<u64> = shape.iter().map(|side| *side as u64).collect();
        match self.weights.get(&name) {
            Some((_, info)) if info.shape != wide => Err(tied::differs(&self.weights.path, &name)),
            _ => self.exact(name, &shape),
        }
    }

    /// Returns the tensor name of the output matrix. The family's prefix is never part of this name.
    fn head_name(&self) -> String {
        format!("{}.weight", self.family().head)
    }

    /// Returns the output matrix and its bias. In a model with tied embeddings, the output matrix is the token
    /// embedding. If such a model also stores an output matrix, the two must be equal up to rounding. If they differ by
    /// rounding, a warning is added to `remarks`.
    fn head(&self, embedding: &Tensor, remarks: &mut Vec<Remark>) -> Result<Projection, ModelError> {
        let spec = self.spec;
        let weight = if spec.tied {
            if self.weights.get(&self.head_name()).is_some() && embedding.name != self.head_name() {
                remarks.extend(tied::check(&self.weights.path, embedding, &self.repeated()?)?);
            }
            embedding.clone()
        } else {
            self.exact(self.head_name(), &[spec.vocabulary, spec.hidden_size])?
        };
        let bias = format!("{}.bias", self.family().head);
        let bias = spec.biases.head.then(|| self.exact(bias, &[spec.vocabulary])).transpose()?;
        Ok(Projection { weight, bias })
    }
}
