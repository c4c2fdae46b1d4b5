//! Checks the output matrix that some models store although their embeddings are tied. Embeddings are tied if
//! `tie_word_embeddings` is set in config.json. The token embedding is then also the output matrix.

use std::path::Path;

use super::remark::{Remark, RemarkKind};
use super::tensor::Tensor;
use crate::model::ModelError;
use crate::numeric::half::round;

/// Compares `head`, the output matrix in the weights, with the token embedding, which the decoder uses instead. Returns
/// `None` if they are equal, and a warning if `head` is the token embedding rounded to the dtype of `head`.
///
/// # Errors
/// If `head` is any other matrix, because some programs would use `head` and other programs the embedding.
pub(crate) fn check(path: &Path, embedding: &Tensor, head: &Tensor) -> Result<Option<Remark>, ModelError> {
    if embedding.is_same_bytes(head) {
        return Ok(None);
    }
    let mut exact = true;
    for row in 0..embedding.shape[0] {
        for (own, stored) in embedding.row(row).into_iter().zip(head.row(row)) {
            if own == stored {
                continue;
            }
            exact = false;
            if round(head.dtype, f64::from(own)) != Some(stored) {
                return Err(differs(path, &head.name));
            }
        }
    }
    let message = format!(
        "`{}` in {} is the token embedding rounded to its type, and the embedding is used; some programs use the rounded one",
        head.name,
        path.display()
    );
    let help = format!("remove `{}` from the weights, so that all programs use the same matrix", head.name);
    Ok((!exact).then(|| Remark::new(RemarkKind::HeadRounded, message, help)))
}

/// Returns the error for an output matrix, with the tensor name `head`, that differs from the token embedding.
pub(crate) fn differs(path: &Path, head: &str) -> ModelError {
    let found = format!(
        "`tie_word_embeddings` says that the output matrix is the token embedding, but `{head}` is a different \
         matrix: programs disagree on such a model"
    );
    let help =
        format!("set `tie_word_embeddings` to false in config.json to use `{head}`, or remove it from the weights");
    ModelError::stored(path, found, help)
}
