//! Generates the tiny random GPT-2 of tests/reference/tiny.py bit for bit from its formula.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::safetensors::{Dtype, TensorData, write};

use super::generated::splitmix;

pub const WIDTH: usize = 32;
pub const INNER: usize = 128;
pub const LAYERS: usize = 3;
pub const VOCABULARY: usize = 400;
pub const POSITIONS: usize = 64;

pub const CONFIG: &str = r#"{
  "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.0, "bos_token_id": 0,
  "embd_pdrop": 0.0, "eos_token_id": 0, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_embd": 32, "n_head": 4,
  "n_inner": null, "n_layer": 3, "n_positions": 64, "resid_pdrop": 0.0, "scale_attn_weights": true,
  "tie_word_embeddings": true, "torch_dtype": "float32", "vocab_size": 400
}
"#;

/// Returns the shape and the elements of every tensor, by name.
pub fn tensors() -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| shapes.insert(format!("transformer.{name}"), shape.to_vec());
    add("wte.weight".into(), &[VOCABULARY, WIDTH]);
    add("wpe.weight".into(), &[POSITIONS, WIDTH]);
    add("ln_f.weight".into(), &[WIDTH]);
    add("ln_f.bias".into(), &[WIDTH]);
    for layer in 0..LAYERS {
        for norm in ["ln_1", "ln_2"] {
            add(format!("h.{layer}.{norm}.weight"), &[WIDTH]);
            add(format!("h.{layer}.{norm}.bias"), &[WIDTH]);
        }
        let projections = [
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, INNER),
            ("mlp.c_proj", INNER, WIDTH),
        ];
        for (name, inputs, outputs) in projections {
            add(format!("h.{layer}.{name}.weight"), &[inputs, outputs]);
            add(format!("h.{layer}.{name}.bias"), &[outputs]);
        }
    }
    shapes.into_iter().enumerate().map(|(number, (name, shape))| filled(number as u64, name, &shape)).collect()
}

fn filled(number: u64, name: String, shape: &[usize]) -> (String, (Vec<u64>, Vec<f32>)) {
    let count: usize = shape.iter().product();
    let value = |i| {
        let centred = splitmix(0x5EED_0000 + number, i) - 0.5;
        if name.ends_with(".bias") || name.ends_with("wpe.weight") {
            centred * 0.125
        } else if shape.len() == 1 {
            1.0 + centred * 0.125
        } else {
            centred * 0.5
        }
    };
    let data = (0..count as u64).map(|i| value(i) as f32).collect();
    (name, (shape.iter().map(|&side| side as u64).collect(), data))
}

/// Returns the bytes of model.safetensors; `name` may rename the tensors, and `change` may change their elements.
pub fn weights(name: impl Fn(&str) -> String, change: impl Fn(&str, &mut Vec<f32>)) -> Vec<u8> {
    let mut all = tensors();
    all.iter_mut().for_each(|(tensor, (_, elements))| change(tensor, elements));
    file(all, name)
}

fn file(tensors: BTreeMap<String, (Vec<u64>, Vec<f32>)>, name: impl Fn(&str) -> String) -> Vec<u8> {
    let bytes = |elements: Vec<f32>| elements.iter().flat_map(|x| x.to_le_bytes()).collect();
    let data: Vec<(String, Vec<u64>, Vec<u8>)> =
        tensors.into_iter().map(|(tensor, (shape, elements))| (name(&tensor), shape, bytes(elements))).collect();
    let views: Vec<TensorData> = data
        .iter()
        .map(|(label, shape, data)| TensorData { name: label.clone(), dtype: Dtype::F32, shape: shape.clone(), data })
        .collect();
    write(&views, &BTreeMap::from([("format".to_owned(), "pt".to_owned())]))
}

/// Writes the tiny model into `folder`: configuration, tokenizer and weights.
pub fn write_model(folder: &Path) {
    write_model_with(folder, &weights(str::to_owned, |_, _| ()));
}

/// Writes the tiny model with other weights, given as the bytes of `model.safetensors`.
pub fn write_model_with(folder: &Path, weights: &[u8]) {
    std::fs::create_dir_all(folder).expect("a folder for the tiny model");
    std::fs::write(folder.join("config.json"), CONFIG).expect("config.json");
    std::fs::write(folder.join("model.safetensors"), weights).expect("model.safetensors");
    std::fs::copy(super::reference("tiny_tokenizer.json"), folder.join("tokenizer.json")).expect("tokenizer.json");
}

/// Writes the tiny model with an untied head: the token embedding times `factor`.
pub fn write_untied_model(folder: &Path, factor: f32) {
    let mut all = tensors();
    let (shape, mut elements) = all["transformer.wte.weight"].clone();
    elements.iter_mut().for_each(|x| *x *= factor);
    all.insert("lm_head.weight".into(), (shape, elements));
    write_model_with(folder, &file(all, str::to_owned));
    std::fs::write(folder.join("config.json"), CONFIG.replace("embeddings\": true", "embeddings\": false"))
        .expect("config.json");
}

/// Writes the tiny model with scaled final norm weights, so that edits can change its answers.
pub fn write_editable_model(folder: &Path) {
    write_model_with(folder, &editable(|_, _| ()));
}

/// Returns the weights of [`write_editable_model`] after `change`.
pub fn editable(change: impl Fn(&str, &mut Vec<f32>)) -> Vec<u8> {
    weights(str::to_owned, |name, elements| {
        if name == "transformer.ln_f.weight" {
            elements.iter_mut().for_each(|x| *x *= 8.0);
        }
        change(name, elements);
    })
}
