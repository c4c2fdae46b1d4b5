//! Defines [`Model`], an opened checkpoint, and computes its embeddings and logits.

use std::path::Path;

use crate::model::load::checkpoint::{Checkpoint, MlpMatrix};
use crate::model::{ModelError, Spec};
use crate::numeric::rows::{add, each_row};
use crate::numeric::{Isa, View, matmul};
use crate::safetensors::Layout;

/// An opened checkpoint, and the instruction set for computing with it. Clones share the weights, so cloning is cheap.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) checkpoint: Checkpoint,
    isa: Isa,
}

impl Model {
    /// Opens the checkpoint in `folder`. All computations of the model use the instruction set `isa`.
    ///
    /// # Errors
    /// If [`Checkpoint::open`] returns an error.
    pub fn open(folder: &Path, isa: Isa) -> Result<Self, ModelError> {
        Ok(Self { checkpoint: Checkpoint::open(folder)?, isa })
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub fn spec(&self) -> &Spec {
        self.checkpoint.spec()
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns a copy of the model in which `data`, oriented as in the file, replaces the weight of `layer`'s MLP
    /// down-projection.
    pub fn with_edited(&self, layer: usize, data: Vec<f32>) -> Self {
        Self { checkpoint: self.checkpoint.with_edited(layer, data), isa: self.isa }
    }

    /// Returns a copy of the model in which `data`, `[d]`, replaces the bias of `layer`'s MLP down-projection. Changes
    /// nothing if the projection has no bias.
    pub fn with_edited_bias(&self, layer: usize, data: Vec<f32>) -> Self {
        Self { checkpoint: self.checkpoint.with_edited_bias(layer, data), isa: self.isa }
    }

    /// Returns a copy of the model in which `aᵀ b` is added to the matrix of an MLP, which maps row vectors to
    /// `x W`. `a` is `[rank, inputs]` and `b` is `[rank, outputs]`.
    ///
    /// # Panics
    /// If `matrix` is the gate and the MLP is not gated.
    pub fn with_added(&self, layer: usize, matrix: MlpMatrix, a: &[f32], b: &[f32]) -> Self {
        let weight = self.checkpoint.mlp_weight(layer, matrix);
        let (d, f) = (self.spec().hidden_size, self.spec().intermediate_size);
        let (inputs, outputs) = if matrix == MlpMatrix::Down { (f, d) } else { (d, f) };
        let rank = a.len() / inputs;
        let (a, b) = (View::new(a, rank, inputs), View::new(b, rank, outputs));
        let change = match self.spec().family.layout {
            Layout::Conv1d => matmul(self.isa, a.transposed(), b),
            Layout::Linear => matmul(self.isa, b.transposed(), a),
        };
        let mut data = weight.to_f32().into_owned();
        add(&mut data, &change);
        Self { checkpoint: self.checkpoint.with_mlp_weight(layer, matrix, data), isa: self.isa }
    }

    /// Computes the embeddings of all token sequences, `[positions, d]`: the token embeddings, plus the position
    /// embeddings if the model has them.
    pub fn embed(&self, tokens: &[&[u32]]) -> Vec<f32> {
        self.embed_from(tokens, &vec![0; tokens.len()])
    }

    /// Returns the embedding of one token, `[d]`, without a position embedding.
    pub fn token_embedding(&self, token: u32) -> Vec<f32> {
        self.checkpoint.token_embedding.row(token as usize)
    }

    /// Computes the embeddings of token sequences, `[positions, d]`. The first token of sequence `i` is at position
    /// `first[i]` of its text.
    pub(crate) fn embed_from(&self, tokens: &[&[u32]], first: &[usize]) -> Vec<f32> {
        self.embed_with(tokens, first, |_, _, _| {})
    }

    /// Computes the embeddings of token sequences, `[positions, d]`, and lets `change` modify each token embedding
    /// before the position embedding is added. `change` receives the index of the sequence, the position in the
    /// sequence, and the embedding. The first token of sequence `i` is at position `first[i]` of its text.
    pub fn embed_with(
        &self,
        tokens: &[&[u32]],
        first: &[usize],
        mut change: impl FnMut(usize, usize, &mut [f32]),
    ) -> Vec<f32> {
        let (embedding, positions) = (&self.checkpoint.token_embedding, &self.checkpoint.position_embedding);
        let mut out = Vec::with_capacity(tokens.iter().map(|row| row.len()).sum::<usize>() * self.spec().hidden_size);
        for (index, (row, start)) in tokens.iter().zip(first).enumerate() {
            for (position, &token) in row.iter().enumerate() {
                let mut state = embedding.row(token as usize);
                change(index, position, &mut state);
                if let Some(positions) = positions {
                    add(&mut state, &positions.row(start + position));
                }
                out.extend(state);
            }
        }
        out
    }

    /// Applies the final norm and the output matrix to hidden states after the last block. Returns the logits,
    /// `[positions, vocabulary]`.
    pub fn lm_head(&self, x: &[f32]) -> Vec<f32> {
        let (_, normed) = self.norm(x, self.spec().hidden_size, &self.checkpoint.final_norm);
        self.unembed(&normed)
    }

    pub(crate) fn unembed(&self, normed: &[f32]) -> Vec<f32> {
        let (spec, head) = (self.spec(), &self.checkpoint.head);
        let normed = View::new(normed, normed.len() / spec.hidden_size, spec.hidden_size);
        let mut logits = matmul(self.isa, normed, head.weight.view().transposed());
        if let Some(bias) = &head.bias {
            let bias = bias.to_f32();
            each_row(&mut logits, spec.vocabulary, |_, row| add(row, &bias));
        }
        logits
    }
}
