//! Writes a random checkpoint with the shape of a published model, to measure memory and time without the model itself.
//! Norm weights are one, biases are zero, and matrices are small noise from a formula: every run writes the same bytes.
//!
//!     cargo run --release --example random_checkpoint -- gpt2|gpt2-medium|gpt2-xl|llama-3.2-1b|llama-2-7b FOLDER TOKENIZER
//!
//! TOKENIZER is a `tokenizer.json`, or the folder of a byte-level BPE's `vocab.json` and `merges.txt`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use corrigenda::numeric::WeightDtype;
use corrigenda::numeric::half::{append, round};
use corrigenda::safetensors::{TensorData, write};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

const SHAPES: &str = "gpt2|gpt2-medium|gpt2-xl|llama-3.2-1b|llama-2-7b";

/// The maximum size of a shard in bytes, unless one tensor is larger.
const SHARD: usize = 1 << 30;

/// The name and the shape of a tensor that is to be written.
type Planned = (String, Vec<usize>);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, folder, tokenizer] = &arguments[..] else {
        return Err(format!("usage: random_checkpoint {SHAPES} FOLDER TOKENIZER").into());
    };
    let folder = Path::new(folder);
    let (config, stored, tensors) = match shape.as_str() {
        "gpt2" => gpt2(12, 768, 50_257),
        "gpt2-medium" => gpt2(24, 1024, 50_257),
        "gpt2-xl" => gpt2(48, 1600, 50_257),
        "llama-3.2-1b" => llama([16, 2048, 8192, 32, 8, 64], 128_256, true),
        "llama-2-7b" => llama([32, 4096, 11_008, 32, 32, 128], 32_000, false),
        other => return Err(format!("no shape is called {other}: {SHAPES}").into()),
    };
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("config.json"), serde_json::to_string_pretty(&config)?)?;
    write_tokenizer(Path::new(tokenizer), &folder.join("tokenizer.json"))?;
    shards(folder, stored, &tensors)
}

/// Writes `tokenizer.json`: a copy of the file `from`, or a conversion of GPT-2's `vocab.json` and `merges.txt` in the
/// folder `from`.
fn write_tokenizer(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    if from.is_file() {
        std::fs::copy(from, to)?;
        return Ok(());
    }
    let file = |name: &str| from.join(name).to_string_lossy().into_owned();
    let model = BPE::from_file(&file("vocab.json"), &file("merges.txt")).build().map_err(|e| e.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    let bytes = ByteLevel::new(false, false, true);
    tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes)).with_post_processor(Some(bytes));
    tokenizer.add_special_tokens([AddedToken::from("<|endoftext|>", true)]).map_err(|e| e.to_string())?;
    Ok(tokenizer.save(to, false).map_err(|e| e.to_string())?)
}

/// Writes all tensors in shards, and the index file that maps each tensor to its shard.
fn shards(folder: &Path, stored: WeightDtype, tensors: &[Planned]) -> Result<(), Box<dyn Error>> {
    let size = |(_, shape): &Planned| shape.iter().product::<usize>() * if stored == WeightDtype::F32 { 4 } else { 2 };
    let mut parts: Vec<Vec<(usize, &Planned)>> = vec![Vec::new()];
    let mut filled = 0;
    for (number, tensor) in tensors.iter().enumerate() {
        if filled > 0 && filled + size(tensor) > SHARD {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += size(tensor);
        parts.last_mut().expect("a part").push((number, tensor));
    }
    let mut map = serde_json::Map::new();
    for (index, part) in parts.iter().enumerate() {
        let file_name = format!("model-{:05}-of-{:05}.safetensors", index + 1, parts.len());
        let data: Vec<Vec<u8>> = part.iter().map(|(number, tensor)| bytes(*number as u64, tensor, stored)).collect();
        let list: Vec<TensorData> = part
            .iter()
            .zip(&data)
            .map(|((_, (name, shape)), data)| TensorData {
                name: name.clone(),
                dtype: stored.into(),
                shape: shape.iter().map(|side| *side as u64).collect(),
                data,
            })
            .collect();
        std::fs::write(folder.join(&file_name), write(&list, &BTreeMap::from([("format".into(), "pt".into())])))?;
        map.extend(part.iter().map(|(_, (tensor, _))| (tensor.clone(), json!(file_name))));
    }
    let total: usize = tensors.iter().map(size).sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    Ok(std::fs::write(folder.join("model.safetensors.index.json"), index.to_string())?)
}

/// Returns the bytes of one tensor in the dtype `stored`. `number`, the index of the tensor, is the seed of its noise.
fn bytes(number: u64, (name, shape): &Planned, stored: WeightDtype) -> Vec<u8> {
    const BLOCK: usize = 1 << 16;
    let count: usize = shape.iter().product();
    // A uniform distribution with a standard deviation of 0.02, the usual initialisation of such models.
    let width = 0.02 * 12_f64.sqrt();
    let value = |index: usize| match shape.len() {
        1 if name.ends_with("weight") => 1.0,
        1 => 0.0,
        _ => (noise(number, index as u64) - 0.5) * width,
    };
    let blocks: Vec<Vec<u8>> = (0..count.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let mut out = Vec::with_capacity(4 * BLOCK);
            for index in block * BLOCK..count.min((block + 1) * BLOCK) {
                append(stored, round(stored, value(index)).expect("a small number"), &mut out);
            }
            out
        })
        .collect();
    blocks.concat()
}

/// Returns number `i` of the stream `seed`, in [0, 1) (splitmix).
fn noise(seed: u64, i: u64) -> f64 {
    let mut z = (seed << 40).wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / (1_u64 << 24) as f64
}

fn gpt2(layers: usize, width: usize, vocabulary: usize) -> (Value, WeightDtype, Vec<Planned>) {
    let config = json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "n_layer": layers, "n_embd": width, "n_head": width / 64, "n_positions": 1024, "vocab_size": vocabulary,
        "layer_norm_epsilon": 1e-5, "torch_dtype": "float32"
    });
    let mut tensors = vec![
        ("wte.weight".to_owned(), vec![vocabulary, width]),
        ("wpe.weight".to_owned(), vec![1024, width]),
        ("ln_f.weight".to_owned(), vec![width]),
        ("ln_f.bias".to_owned(), vec![width]),
    ];
    for layer in 0..layers {
        for norm in ["ln_1", "ln_2"] {
            tensors.push((format!("h.{layer}.{norm}.weight"), vec![width]));
            tensors.push((format!("h.{layer}.{norm}.bias"), vec![width]));
        }
        let parts = [("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)];
        for (name, inputs, outputs) in parts {
            tensors.push((format!("h.{layer}.{name}.weight"), vec![inputs * width, outputs * width]));
            tensors.push((format!("h.{layer}.{name}.bias"), vec![outputs * width]));
        }
    }
    (config, WeightDtype::F32, tensors)
}

fn llama(
    [layers, width, inner, heads, groups, head]: [usize; 6],
    vocabulary: usize,
    third: bool,
) -> (Value, WeightDtype, Vec<Planned>) {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "head_dim": head,
        "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": inner, "rms_norm_eps": 1e-5,
        "num_attention_heads": heads, "num_key_value_heads": groups, "vocab_size": vocabulary, "rope_theta": 10_000.0,
        "max_position_embeddings": 4096, "tie_word_embeddings": third, "torch_dtype": "bfloat16"
    });
    if third {
        config["rope_theta"] = json!(500_000.0);
        config["max_position_embeddings"] = json!(131_072);
        config["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        });
    }
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, width]),
        ("model.norm.weight".to_owned(), vec![width]),
    ];
    if !third {
        tensors.push(("lm_head.weight".to_owned(), vec![vocabulary, width]));
    }
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        add("input_layernorm", &[width]);
        add("post_attention_layernorm", &[width]);
        add("self_attn.q_proj", &[heads * head, width]);
        add("self_attn.k_proj", &[groups * head, width]);
        add("self_attn.v_proj", &[groups * head, width]);
        add("self_attn.o_proj", &[width, heads * head]);
        add("mlp.gate_proj", &[inner, width]);
        add("mlp.up_proj", &[inner, width]);
        add("mlp.down_proj", &[width, inner]);
    }
    (config, WeightDtype::BF16, tensors)
}
