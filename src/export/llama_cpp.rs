//! Exports a LoRA adapter in GGUF, for llama.cpp and programs built on it.
//!
//! llama.cpp scales the product of two LoRA factors by `alpha / rank`. All modules have the same rank, and `alpha =
//! rank`, so the scale is 1. The digests of the patch and the base are stored under metadata keys with the prefix
//! `corrigenda.`, which llama.cpp ignores.

use std::collections::BTreeMap;
use std::fs;

use super::ExportError;
use super::checkpoint::{ExportRequest, unchanged};
use super::destination::Destination;
use super::gguf::{Gguf, Matrix, MetadataValue};
use super::lora::{Adapter, FactorPair};
use super::manifest::{FileEntry, TensorEntry, tensor_entries};
use super::peft::list_and_apply;
use crate::digest::Digest;
use crate::model::Spec;
use crate::patch::Patch;

/// The metadata key of the base's digest.
pub const BASE: &str = "corrigenda.base";
/// The metadata key of the patch id.
pub const PATCH: &str = "corrigenda.patch";
/// The metadata key of the digest of all tensor data.
pub const TENSORS: &str = "corrigenda.tensors";
const ALPHA: &str = "adapter.lora.alpha";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedGguf {
    /// The name, size and digest of the written file.
    pub file: FileEntry,
    pub patch: Digest,
    /// The name of the architecture in llama.cpp, such as `gpt2`.
    pub architecture: &'static str,
    /// The LoRA rank, equal for all modules.
    pub rank: usize,
    /// The tensors of the base that the adapter changes, with their digests before and after applying the patch.
    pub tensors: Vec<TensorEntry>,
}

/// Builds the content of an adapter's GGUF file: the metadata, and two tensors per module.
///
/// # Errors
/// If llama.cpp does not support the model's architecture.
pub fn gguf(adapter: &Adapter, spec: &Spec, base: &Digest, patch: &Digest) -> Result<Gguf, ExportError> {
    let architecture = architecture(spec)?;
    let tensors = adapter.pairs.iter().flat_map(|pair| matrices(pair, adapter.rank)).collect();
    let mut file = Gguf { pairs: BTreeMap::new(), tensors };
    let name = format!("corrigenda patch {}", patch.short());
    let texts = [
        ("adapter.type", "lora".to_owned()),
        (BASE, base.to_string()),
        (PATCH, patch.to_string()),
        (TENSORS, digest_of_data(&file).to_string()),
        ("general.architecture", architecture.to_owned()),
        ("general.name", name),
        ("general.type", "adapter".to_owned()),
    ];
    file.pairs.extend(texts.map(|(key, text)| (key.to_owned(), MetadataValue::Text(text))));
    file.pairs.insert(ALPHA.to_owned(), MetadataValue::Float(adapter.rank as f32));
    Ok(file)
}

fn architecture(spec: &Spec) -> Result<&'static str, ExportError> {
    spec.family.gguf.ok_or(ExportError::NoArchitecture { family: spec.family.model_type })
}

/// Returns the digest of the data of all tensors, including the padding.
pub fn digest_of_data(file: &Gguf) -> Digest {
    let mut data = Vec::new();
    file.data(&mut data);
    Digest::of(&data)
}

fn names(layer: usize) -> [String; 2] {
    ["a", "b"].map(|factor| format!("blk.{layer}.ffn_down.weight.lora_{factor}"))
}

fn matrices(pair: &FactorPair, rank: usize) -> [(String, Matrix); 2] {
    let [a, b] = names(pair.layer);
    [
        (a, Matrix { shape: [rank, pair.inner], data: pair.a.clone() }),
        (b, Matrix { shape: [pair.out, rank], data: pair.b.clone() }),
    ]
}

/// Reads the LoRA factors of an exported adapter.
///
/// # Errors
/// If the file is not an adapter that was exported for this model. The error text names what is missing or wrong.
pub fn parse(file: &Gguf, spec: &Spec) -> Result<Adapter, String> {
    let Some(MetadataValue::Float(alpha)) = file.pairs.get(ALPHA) else { return Err(format!("`{ALPHA}` is missing")) };
    let rank = *alpha as usize;
    let pair = |layer: usize| {
        let [a, b] = names(layer).map(|name| file.tensors.get(&name));
        let (Some(a), Some(b)) = (a, b) else { return None };
        let ([rows, inner], [out, columns]) = (a.shape, b.shape);
        let (a, b, module, layout) = (a.data.clone(), b.data.clone(), spec.module(layer), spec.family.layout);
        (rows == rank && columns == rank).then_some(FactorPair { layer, module, layout, out, inner, a, b })
    };
    let pairs: Vec<FactorPair> = (0..spec.layers).filter_map(pair).collect();
    if rank > 0 && rank as f32 == *alpha && 2 * pairs.len() == file.tensors.len() {
        Ok(Adapter { rank, pairs })
    } else {
        Err(format!("its tensors are not pairs of factors of rank {alpha}, one for each layer"))
    }
}

/// Exports the patch as one GGUF file. The file is read back and compared before it is moved to the destination.
///
/// # Errors
/// If the destination is rejected, llama.cpp does not support the model's architecture, an adapter cannot represent the
/// patch, the patch was made for a different base, or an I/O operation fails.
pub fn llama_cpp(request: &ExportRequest<'_>, spec: &Spec) -> Result<ExportedGguf, ExportError> {
    let place = Destination::file(request.to, request.folder, request.store)?;
    let architecture = architecture(spec)?;
    let adapter = Adapter::new(request.patch, spec)?;
    let (listing, applied) = list_and_apply(request)?;
    let patch = request.patch.id().0;
    let bytes = gguf(&adapter, spec, &request.base.digest, &patch)?.to_bytes();
    let name = place.name();
    let staging = place.stage()?;
    let file = staging.write(&name, |out| out.write_all(&bytes))?;
    unchanged(request.base, &listing)?;
    staging.read_back(&file)?;
    let written = fs::read(staging.path(&name)).map_err(ExportError::io("reading", &staging.path(&name)))?;
    check(&written, request.patch, spec).map_err(|what| ExportError::Differs { file: name.clone(), what })?;
    staging.commit_file(&name)?;
    Ok(ExportedGguf { file, patch, architecture, rank: adapter.rank, tensors: tensor_entries(&applied) })
}

/// Parses the written bytes and compares the product of the LoRA factors with the weight change that the patch makes.
/// The error describes the difference.
fn check(bytes: &[u8], patch: &Patch, spec: &Spec) -> Result<(), String> {
    let file = Gguf::from_bytes(bytes).map_err(|error| error.to_string())?;
    parse(&file, spec)?.difference(patch, spec).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::super::lora::samples::{patch, spec};
    use super::*;
    use crate::model::arch::family::{Family, GPT2};

    fn sample() -> Gguf {
        let adapter = Adapter::new(&patch(), &spec()).expect("an adapter");
        gguf(&adapter, &spec(), &Digest::of(b"base"), &patch().id().0).expect("a file")
    }

    #[test]
    fn the_layout_is_that_of_llama_cpp() {
        let file = sample();
        let mut said = String::new();
        for (key, value) in &file.pairs {
            said += &format!("{key} = {value:?}\n");
        }
        for (name, matrix) in &file.tensors {
            said += &format!("{name} {:?}\n", matrix.shape);
        }
        insta::assert_snapshot!(said);
        let adapter = Adapter::new(&patch(), &spec()).expect("an adapter");
        assert_eq!(parse(&file, &spec()), Ok(adapter));
        assert_eq!(check(&file.to_bytes(), &patch(), &spec()), Ok(()));
    }

    #[test]
    fn a_difference_to_the_patch_is_found() {
        let refused = |change: &dyn Fn(&mut Gguf)| {
            let mut file = sample();
            change(&mut file);
            check(&file.to_bytes(), &patch(), &spec()).expect_err("refused")
        };
        let first = "blk.0.ffn_down.weight.lora_a";
        let tensor = |file: &mut Gguf| file.tensors.get_mut(first).expect("there").data[0] += 1.0;
        assert!(refused(&tensor).contains("transformer.h.0.mlp.c_proj, row 0"));
        assert!(refused(&|file| drop(file.tensors.remove(first))).contains("not pairs of factors"));
        for alpha in [0.0, 2.0, 3.5, -3.0, f32::NAN, f32::INFINITY] {
            let said = refused(&|file| drop(file.pairs.insert(ALPHA.to_owned(), MetadataValue::Float(alpha))));
            assert!(said.contains("not pairs of factors"), "{said}");
        }
        assert!(refused(&|file| drop(file.pairs.remove(ALPHA))).contains("is missing"));
    }

    #[test]
    fn a_family_without_an_architecture() {
        static OTHER: Family = Family { gguf: None, ..GPT2 };
        let mut spec = spec();
        spec.family = &OTHER;
        let adapter = Adapter::new(&patch(), &spec).expect("an adapter");
        let error = gguf(&adapter, &spec, &Digest::of(b""), &Digest::of(b"")).expect_err("no architecture");
        assert!(matches!(error, ExportError::NoArchitecture { .. }) && error.finding().help[0].contains("checkpoint"));
    }
}
