//! Computes the weights of the tiny checkpoints of tests/reference. Unit tests of the crate include this file as well,
//! so it must not use other modules.

use std::collections::BTreeMap;

use serde_json::Value;

/// Returns number `i` of the splitmix64 stream `seed`, in [0, 1).
pub fn splitmix(seed: u64, i: u64) -> f64 {
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / (1_u64 << 24) as f64
}

/// Returns the shape and the elements of every tensor of a checkpoint in golden/families.json, by name. `shapes` is the
/// JSON object of the shapes. F32, F16 and BF16 represent the elements exactly.
pub fn family_tensors(shapes: &Value) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let shapes = shapes.as_object().expect("tensors");
    let shape = |value: &Value| value.as_array().expect("a shape").iter().filter_map(Value::as_u64).collect();
    let mut names: Vec<&String> = shapes.keys().collect();
    names.sort();
    let tensor = |(number, name): (usize, &String)| {
        let shape: Vec<u64> = shape(&shapes[name]);
        let count = shape.iter().product();
        let elements = (0..count).map(|i| value(name, shape.len(), splitmix(0x5EED_0000 + number as u64, i)));
        let elements = elements.collect();
        (name.clone(), (shape, elements))
    };
    names.into_iter().enumerate().map(tensor).collect()
}

fn value(name: &str, sides: usize, u: f64) -> f32 {
    let k = (u * 128.0).floor();
    let value = match sides {
        1 if name.ends_with("weight") => 1.0 + ((k / 8.0).floor() - 8.0) / 64.0,
        1 => (2.0 * k - 127.0) / 256.0 * 0.25,
        _ => (2.0 * k - 127.0) / 256.0 * 0.5,
    };
    value as f32
}
