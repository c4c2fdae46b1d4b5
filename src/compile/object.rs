//! Writes and reads compiled edits, and computes their addresses in the store.
//!
//! A compiled edit is stored as a safetensors file, which is called an object. For each edited layer N, it contains the
//! F32 tensors `layer.N.key` and `layer.N.value`. The address is a digest of everything that the object depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::value::Compiled;
use crate::digest::{Digest, FieldHasher};
use crate::numeric::NUMERICS;
use crate::safetensors::{Dtype, Header, HeaderError, TensorData, write};

/// The MLP key and the MLP value of one edit at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerVectors {
    /// The MLP key `k*`, `[intermediate_size]`.
    pub key: Vec<f32>,
    /// The MLP value `v*`, `[hidden_size]`; empty for an object that contains only a key.
    pub value: Vec<f32>,
}

/// A compiled edit as it is stored: its MLP keys and values by layer, and a summary of the search for the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The key and the value at each edited layer, by layer index.
    pub sites: BTreeMap<usize, LayerVectors>,
    /// A summary of the search for the value. Its stage and its number of evaluations are 0 for an object that contains
    /// only a key.
    pub search: SearchSummary,
}

/// A summary of the search for the value of an edit: the stage that found the value, and the number of evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSummary {
    /// The index in [`Settings::schedule`] of the stage that found the value.
    pub stage: usize,
    /// The number of evaluations of the loss, over all stages that ran.
    pub evaluations: usize,
}

/// The only metadata key of an object file. The text under this key is the [`SearchSummary`] as JSON.
const KEY: &str = "corrigenda";

/// The reason why an object file is damaged: its header or metadata is invalid, a tensor is unknown or not F32, a layer
/// lacks its key or its value, or a number is not finite.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the object is damaged: {0}")]
    Header(#[from] HeaderError),
    #[error("the object is damaged: tensor `{0}` does not belong in it, has no counterpart, or is not F32")]
    Tensor(String),
    #[error("the object is damaged: its metadata is not an object's")]
    Metadata,
    #[error("the object is damaged: `{0}` holds a number that is not finite")]
    NotFinite(String),
}

impl Object {
    /// Creates the object to store for an edit that was compiled at one layer. The object contains the MLP key, the MLP
    /// value and the search summary of `compiled`, but not its loss.
    pub fn new(layer: usize, compiled: &Compiled) -> Self {
        let site = LayerVectors { key: compiled.key.clone(), value: compiled.value.clone() };
        let search = SearchSummary { stage: compiled.stage, evaluations: compiled.evaluations };
        Self { sites: BTreeMap::from([(layer, site)]), search }
    }

    /// Returns an object that contains only a key, for a layer at which no value was optimised.
    pub fn of_key(layer: usize, key: Vec<f32>) -> Self {
        let site = LayerVectors { key, value: Vec::new() };
        Self { sites: BTreeMap::from([(layer, site)]), search: SearchSummary { stage: 0, evaluations: 0 } }
    }

    /// Returns the object as a safetensors file. Equal objects have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for (layer, site) in &self.sites {
            for (part, numbers) in [("key", &site.key), ("value", &site.value)] {
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                data.push((format!("layer.{layer}.{part}"), numbers.len() as u64, bytes));
            }
        }
        let tensors: Vec<TensorData> = data
            .iter()
            .map(|(name, length, data)| TensorData {
                name: name.clone(),
                dtype: Dtype::F32,
                shape: vec![*length],
                data,
            })
            .collect();
        let search = serde_json::to_string(&self.search).expect("two numbers can be written");
        write(&tensors, &BTreeMap::from([(KEY.to_owned(), search)]))
    }

    /// Parses the bytes that [`Object::to_bytes`] writes.
    ///
    /// # Errors
    /// If the bytes are not a safetensors file, the metadata does not describe the search, a tensor is unknown or not
    /// F32, a layer lacks its key or its value, or a number is not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectError> {
        let header = Header::parse(bytes.len() as u64, bytes)?;
        let search = header.metadata.get(KEY).and_then(|text| serde_json::from_str(text).ok());
        let search = search.filter(|_| header.metadata.len() == 1).ok_or(ObjectError::Metadata)?;
        let mut parts: BTreeMap<usize, [Option<Vec<f32>>; 2]> = BTreeMap::new();
        for (name, info) in &header.tensors {
            let strange = || ObjectError::Tensor(name.clone());
            let (layer, part) =
                name.strip_prefix("layer.").and_then(|rest| rest.split_once('.')).ok_or_else(strange)?;
            let layer: usize = layer.parse().map_err(|_| strange())?;
            let part = ["key", "value"].iter().position(|known| *known == part).ok_or_else(strange)?;
            if info.dtype != Dtype::F32 {
                return Err(strange());
            }
            let (words, _) = bytes[info.start as usize..info.end as usize].as_chunks::<4>();
            let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            if numbers.iter().any(|number| !number.is_finite()) {
                return Err(ObjectError::NotFinite(name.clone()));
            }
            parts.entry(layer).or_default()[part] = Some(numbers);
        }
        let site = |(layer, [key, value]): (usize, [Option<Vec<f32>>; 2])| match (key, value) {
            (Some(key), Some(value)) => Ok((layer, LayerVectors { key, value })),
            _ => Err(ObjectError::Tensor(format!("layer.{layer}"))),
        };
        Ok(Self { sites: parts.into_iter().map(site).collect::<Result<_, _>>()?, search })
    }
}

/// Returns the address of an edit's object in the store. The address is a digest of the base model, the meaning of the
/// edit, the layer, the context templates, the settings and the version of the arithmetic. For an edit of a chat, it is
/// also a digest of `reading`, the digest of the chat template. The id, the reason and the file of the edit do not change
/// the address.
pub fn address(
    base: &Digest,
    reading: Option<&Digest>,
    meaning: &Digest,
    layer: usize,
    templates: &[String],
    settings: &Settings,
) -> Digest {
    let mut canon = FieldHasher::new("object/1");
    canon.text("numerics", NUMERICS).digest("base", base).digest("meaning", meaning).number("layer", layer as u64);
    if let Some(reading) = reading {
        canon.digest("chat", reading);
    }
    canon.texts("templates", templates.iter().map(String::as_str));
    settings.describe(&mut canon);
    canon.finish()
}

/// Returns the address in the store of an object that contains only an MLP key. The address is a digest of the same
/// inputs as in [`address`], with `bare_weight` in place of all settings. No other setting changes an MLP key.
pub fn key_address(
    base: &Digest,
    reading: Option<&Digest>,
    meaning: &Digest,
    layer: usize,
    templates: &[String],
    bare_weight: Option<f64>,
) -> Digest {
    let mut canon = FieldHasher::new("key/1");
    canon.text("numerics", NUMERICS).digest("base", base).digest("meaning", meaning).number("layer", layer as u64);
    if let Some(reading) = reading {
        canon.digest("chat", reading);
    }
    if let Some(weight) = bare_weight {
        canon.float("bare-weight", weight);
    }
    canon.texts("templates", templates.iter().map(String::as_str)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Object {
        let site = |shift: f32| LayerVectors { key: vec![1.0 + shift, -2.5, 0.0], value: vec![shift, 4.0] };
        let search = SearchSummary { stage: 1, evaluations: 30 };
        Object { sites: BTreeMap::from([(2, site(0.5)), (10, site(1.5))]), search }
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = object().to_bytes();
        assert_eq!(Object::from_bytes(&bytes).expect("just written"), object());
        assert_eq!(Object::from_bytes(&bytes).expect("just written").to_bytes(), bytes);
    }

    #[test]
    fn damage_is_refused() {
        let mut infinite = object();
        infinite.sites.insert(3, LayerVectors { key: vec![f32::INFINITY], value: vec![0.0] });
        assert!(matches!(Object::from_bytes(&infinite.to_bytes()), Err(ObjectError::NotFinite(_))));
        let stray = TensorData { name: "layer.1.key".into(), dtype: Dtype::F32, shape: vec![0], data: &[] };
        let bare = write(std::slice::from_ref(&stray), &BTreeMap::new());
        assert!(matches!(Object::from_bytes(&bare), Err(ObjectError::Metadata)));
        let search = BTreeMap::from([(KEY.to_owned(), r#"{"stage":0,"evaluations":1}"#.to_owned())]);
        assert!(matches!(Object::from_bytes(&write(&[stray], &search)), Err(ObjectError::Tensor(_))));
        assert!(Object::from_bytes(b"no object").is_err());
    }

    #[test]
    fn the_address_holds_what_the_object_depends_on() {
        let (base, meaning) = (Digest::of(b"base"), Digest::of(b"meaning"));
        let settings = Settings::default();
        let templates = vec!["{}".to_owned()];
        let want = address(&base, None, &meaning, 1, &templates, &settings);
        assert_ne!(address(&meaning, None, &base, 1, &templates, &settings), want);
        assert_ne!(address(&base, None, &meaning, 2, &templates, &settings), want);
        assert_ne!(address(&base, None, &meaning, 1, &[], &settings), want);
        assert_ne!(address(&base, None, &meaning, 1, &templates, &Settings::published()), want);
        assert_ne!(address(&base, Some(&base), &meaning, 1, &templates, &settings), want);
        assert_eq!(address(&base, None, &meaning, 1, &templates, &Settings::default()), want);
    }
}
