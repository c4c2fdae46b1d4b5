//! Writes a model in the file layout of the Hugging Face Hub: config.json, model.safetensors, tokenizer.json.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::safetensors::{Dtype, TensorData, write as safetensors};
use serde_json::json;
use tokenizers::Tokenizer;

use crate::network::{EPSILON, Parameter, Shape};
use crate::vocabulary::{END, to_json};
use crate::{Fallible, work};

pub(crate) fn write(folder: &Path, shape: &Shape, flat: &[f32], tokenizer: &Tokenizer) -> Fallible<()> {
    crate::write(&folder.join("config.json"), config(shape).as_bytes())?;
    crate::write(&folder.join("tokenizer.json"), &to_json(tokenizer)?)?;
    crate::write(&folder.join("model.safetensors"), &weights(&shape.parameters(), flat))
}

/// Returns config.json in the format of `GPT2LMHeadModel`.
fn config(shape: &Shape) -> String {
    let config = json!({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.0,
        "bos_token_id": END, "embd_pdrop": 0.0, "eos_token_id": END,
        // ε is converted through its decimal digits, because `f64::from` would write 9.99999974…e-6.
        "layer_norm_epsilon": EPSILON.to_string().parse::<f64>().unwrap_or(1e-5),
        "model_type": "gpt2", "n_embd": shape.width, "n_head": shape.heads, "n_inner": null,
        "n_layer": shape.layers, "n_positions": shape.context, "resid_pdrop": 0.0, "scale_attn_weights": true,
        "tie_word_embeddings": true, "torch_dtype": "float32", "vocab_size": shape.vocabulary,
    });
    format!("{config:#}\n")
}

fn weights(parameters: &[Parameter], flat: &[f32]) -> Vec<u8> {
    let bytes = work::bytes(flat);
    let mut first = 0;
    let tensors: Vec<TensorData> = parameters
        .iter()
        .map(|parameter| {
            let data = &bytes[first..first + 4 * parameter.count()];
            first += data.len();
            let shape = parameter.sides.iter().map(|&side| side as u64).collect();
            TensorData { name: parameter.name.clone(), dtype: Dtype::F32, shape, data }
        })
        .collect();
    safetensors(&tensors, &BTreeMap::from([("format".to_owned(), "pt".to_owned())]))
}
