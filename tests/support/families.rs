//! Generates the tiny random checkpoints of tests/reference/families.py, bit for bit. There is at least one per model
//! family.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::safetensors::{Dtype, TensorData, write};
use serde_json::{Value, json};

use super::generated::family_tensors;
use super::golden;
use super::tiny::VOCABULARY;

/// The JSON object of one checkpoint in the golden file: its configuration, its tensors and the expected outputs.
pub struct Case(pub Value);

pub fn cases() -> Vec<Case> {
    golden("families.json")["cases"].as_array().expect("cases").iter().cloned().map(Case).collect()
}

pub fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name() == name).expect("a case of that name")
}

impl Case {
    pub fn name(&self) -> &str {
        self.0["name"].as_str().expect("a name")
    }

    /// Returns the shape and the bytes of every tensor in `dtype`. The values are chosen so that every dtype represents
    /// them exactly.
    pub fn tensors(&self, dtype: Dtype) -> BTreeMap<String, (Vec<u64>, Vec<u8>)> {
        let bytes = |elements: Vec<f32>| elements.into_iter().flat_map(|x| in_type(x, dtype)).collect();
        let tensors = family_tensors(&self.0["tensors"]).into_iter();
        tensors.map(|(name, (shape, elements))| (name, (shape, bytes(elements)))).collect()
    }

    /// Writes config.json and the weights, in one file or in two shards with an index.
    pub fn write(&self, folder: &Path, dtype: Dtype, sharded: bool) {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("config.json"), self.0["config"].to_string()).expect("config.json");
        write_weights(folder, &self.tensors(dtype), dtype, sharded);
    }
}

/// Writes a tiny Llama with grouped-query attention and the tests' tokenizer; its head is scaled so that edits change
/// answers.
pub fn write_editable_llama(folder: &Path, dtype: Dtype, sharded: bool) {
    write_steep("llama3", folder, dtype, sharded);
}

/// Writes the checkpoint `name` with the tests' tokenizer. Its head is untied and multiplied by eight, so that edits
/// change answers.
pub fn write_steep(name: &str, folder: &Path, dtype: Dtype, sharded: bool) {
    let mut case = case(name);
    let before = case.0["config"]["vocab_size"].clone();
    case.0["config"]["vocab_size"] = json!(VOCABULARY);
    case.0["config"]["tie_word_embeddings"] = json!(false);
    let shapes = case.0["tensors"].as_object_mut().expect("tensors");
    shapes.entry("lm_head.weight").or_insert_with(|| json!([before, 32]));
    for shape in shapes.values_mut().filter(|shape| shape[0] == before) {
        shape[0] = json!(VOCABULARY);
    }
    case.write(folder, dtype, sharded);
    let mut tensors = case.tensors(dtype);
    let head = &mut tensors.get_mut("lm_head.weight").expect("a head").1;
    let stored = dtype.weight_dtype().expect("a type of weights");
    let wide = corrigenda::numeric::Elements::of_bytes(stored, head).to_f32().into_owned();
    *head = wide.into_iter().flat_map(|x| in_type(x * 8.0, dtype)).collect();
    write_weights(folder, &tensors, dtype, sharded);
    std::fs::copy(super::reference("tiny_tokenizer.json"), folder.join("tokenizer.json")).expect("tokenizer.json");
}

/// Writes weights in one file or in two shards with an index.
pub fn write_weights(folder: &Path, tensors: &BTreeMap<String, (Vec<u64>, Vec<u8>)>, dtype: Dtype, sharded: bool) {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let all: Vec<TensorData> = tensors
        .iter()
        .map(|(name, (shape, data))| TensorData { name: name.clone(), dtype, shape: shape.clone(), data })
        .collect();
    if !sharded {
        std::fs::write(folder.join("model.safetensors"), write(&all, &metadata)).expect("the weights");
        return;
    }
    let mut map = serde_json::Map::new();
    for (index, part) in all.chunks(all.len().div_ceil(2)).enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", index + 1);
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), json!(name))));
        std::fs::write(folder.join(&name), write(part, &metadata)).expect("a shard");
    }
    let size: usize = tensors.values().map(|(_, bytes)| bytes.len()).sum();
    let index = json!({ "metadata": { "total_size": size }, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("the index");
}

/// Returns the bytes of `x` in `dtype`, which must represent it exactly.
fn in_type(x: f32, dtype: Dtype) -> Vec<u8> {
    let stored = dtype.weight_dtype().expect("a type of weights");
    let mut bytes = Vec::new();
    assert_eq!(corrigenda::numeric::half::round(stored, f64::from(x)), Some(x), "{x} in {dtype}");
    corrigenda::numeric::half::append(stored, x, &mut bytes);
    bytes
}
