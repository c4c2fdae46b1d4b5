//! Exports a PEFT adapter: a folder that `transformers` and programs built on it load in addition to a base model.
//!
//! The bytes depend only on the base, its name, the patch, the facts and the settings. Modules are listed by their full
//! paths, because the last part of a path, such as `c_proj`, could also match attention matrices. Only configuration
//! fields that every PEFT version accepts are written.

use std::fs;

use serde::{Deserialize, Serialize};

use super::card::{CARD_FILE, card, section};
use super::checkpoint::{ExportRequest, unchanged};
use super::destination::Destination;
use super::folder::{FolderListing, list};
use super::lora::{Adapter, FactorPair};
use super::manifest::{ExportManifest, MANIFEST_FILE};
use super::weights::{AppliedTensors, apply, open_all};
use super::{ExportError, ExportedFact};
use crate::diagnostics::escape_controls;
use crate::digest::Digest;
use crate::model::Spec;
use crate::model::load::hub::HubName;
use crate::numeric::{Elements, WeightDtype};
use crate::patch::Patch;
use crate::safetensors::Layout;
use crate::safetensors::{Dtype, Header, TensorData, write};

/// The name of the file with the LoRA factors.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The name of the file with the LoRA configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The base model for which an adapter is exported: its shape and its name.
#[derive(Clone, Copy, Debug)]
pub struct AdapterBase<'a> {
    pub spec: &'a Spec,
    pub name: BaseName<'a>,
}

#[derive(Clone, Copy, Debug)]
pub struct BaseName<'a> {
    /// The repository name or the path of the base, as written to `adapter_config.json`.
    pub name: &'a str,
    /// Whether `name` is a repository on the Hugging Face Hub; if not, the model card does not name the base.
    pub on_hub: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedPeft {
    pub manifest: ExportManifest,
    /// The LoRA rank, equal for all modules.
    pub rank: usize,
}

/// The content of `adapter_config.json`. The fields are in alphabetical order, as PEFT writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeftConfig {
    alpha_pattern: EmptyObject,
    base_model_name_or_path: String,
    bias: String,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: usize,
    lora_dropout: f64,
    modules_to_save: Option<EmptyObject>,
    peft_type: String,
    r: usize,
    rank_pattern: EmptyObject,
    revision: Option<EmptyObject>,
    target_modules: Vec<String>,
    task_type: String,
    use_dora: bool,
    use_rslora: bool,
}

/// A JSON object without keys, for fields that are always empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyObject {}

impl PeftConfig {
    fn new(adapter: &Adapter, name: &str) -> Self {
        Self {
            alpha_pattern: EmptyObject {},
            base_model_name_or_path: name.to_owned(),
            bias: "none".to_owned(),
            fan_in_fan_out: adapter.pairs.iter().all(|pair| pair.layout == Layout::Conv1d),
            inference_mode: true,
            init_lora_weights: true,
            // `use_rslora` is false, so PEFT scales the product of the factors by `lora_alpha / r`, which is 1.
            lora_alpha: adapter.rank,
            lora_dropout: 0.0,
            modules_to_save: None,
            peft_type: "LORA".to_owned(),
            r: adapter.rank,
            rank_pattern: EmptyObject {},
            revision: None,
            target_modules: adapter.pairs.iter().map(|pair| pair.module.clone()).collect(),
            task_type: "CAUSAL_LM".to_owned(),
            use_dora: false,
            use_rslora: false,
        }
    }

    fn render(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("texts, numbers and lists always serialise");
        format!("{text}\n").into_bytes()
    }
}

/// Returns the names and contents of the adapter's files except the manifest, sorted by name.
pub fn files(
    adapter: &Adapter,
    base: &Digest,
    patch: &Digest,
    facts: &[ExportedFact],
    settings: Option<&Digest>,
    BaseName { name, on_hub }: BaseName<'_>,
) -> [(&'static str, Vec<u8>); 3] {
    // The name is quoted as a JSON string in the YAML header of the card. Every JSON string is also a valid YAML
    // string.
    let quoted = serde_json::to_string(&*escape_controls(name)).expect("a text always serialises");
    let model = if on_hub { format!("base_model: {quoted}\n") } else { String::new() };
    let matter = format!("---\n{model}library_name: peft\n---\n");
    [
        (CARD_FILE, card(Some(matter.as_bytes()), &section(base, patch, facts, settings))),
        (CONFIG_FILE, PeftConfig::new(adapter, name).render()),
        (WEIGHTS_FILE, weights(adapter)),
    ]
}

/// Returns the tensor names of the LoRA factors A and B of a module.
fn keys(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("base_model.model.{module}.lora_{factor}.weight"))
}

fn weights(adapter: &Adapter) -> Vec<u8> {
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let rank = adapter.rank as u64;
    let of_pair = |pair: &FactorPair| {
        let [a, b] = keys(&pair.module);
        [(a, vec![rank, pair.inner as u64], bytes(&pair.a)), (b, vec![pair.out as u64, rank], bytes(&pair.b))]
    };
    let data: Vec<_> = adapter.pairs.iter().flat_map(of_pair).collect();
    let tensors: Vec<_> = data
        .iter()
        .map(|(name, shape, data)| TensorData { name: name.clone(), dtype: Dtype::F32, shape: shape.clone(), data })
        .collect();
    write(&tensors, &[("format".to_owned(), "pt".to_owned())].into())
}

/// Parses the bytes of an `adapter_config.json` and returns the name of the base model; `None` if the bytes are
/// invalid.
pub fn name_of(config: &[u8]) -> Option<String> {
    serde_json::from_slice::<PeftConfig>(config).ok().map(|config| config.base_model_name_or_path)
}

/// Reads the LoRA factors from the untrusted bytes of an adapter's two files.
///
/// # Errors
/// If the files are not an adapter that was exported for this model. The error text names what is missing or wrong.
pub fn parse(config: &[u8], weights: &[u8], spec: &Spec) -> Result<Adapter, String> {
    let config: PeftConfig = serde_json::from_slice(config).map_err(|error| format!("{CONFIG_FILE}: {error}"))?;
    let header = Header::parse(weights.len() as u64, weights).map_err(|error| format!("{WEIGHTS_FILE}: {error}"))?;
    let layers = config.target_modules.iter().map(|module| {
        let layer = (0..spec.layers).find(|layer| spec.module(*layer) == *module);
        layer.ok_or_else(|| format!("{CONFIG_FILE}: `{module}` is not an editable module of the base"))
    });
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let layout = if config.fan_in_fan_out { Layout::Conv1d } else { Layout::Linear };
    let pair = |layer: usize| {
        let module = spec.module(layer);
        let [a, b] = keys(&module);
        let (rank, out, inner) = (config.r as u64, spec.hidden_size as u64, spec.intermediate_size as u64);
        let a = factor(&header, weights, &a, [rank, inner])?;
        let b = factor(&header, weights, &b, [out, rank])?;
        Ok(FactorPair { layer, module, layout, out: spec.hidden_size, inner: spec.intermediate_size, a, b })
    };
    let pairs = layers.into_iter().map(pair).collect::<Result<Vec<_>, String>>()?;
    let adapter = Adapter { rank: config.r, pairs };
    if PeftConfig::new(&adapter, &config.base_model_name_or_path) != config {
        return Err(format!("{CONFIG_FILE}: a field has a value that changes what the factors mean"));
    }
    if header.tensors.len() == 2 * adapter.pairs.len() {
        Ok(adapter)
    } else {
        Err(format!("{WEIGHTS_FILE}: it contains tensors that belong to no module in {CONFIG_FILE}"))
    }
}

fn factor(header: &Header, bytes: &[u8], name: &str, shape: [u64; 2]) -> Result<Vec<f32>, String> {
    let info = header.tensors.get(name).ok_or_else(|| format!("{WEIGHTS_FILE}: it lacks `{name}`"))?;
    if (info.dtype, &*info.shape) != (Dtype::F32, &shape) {
        let found = format!("{} of shape {:?}", info.dtype, info.shape);
        return Err(format!("{WEIGHTS_FILE}: `{name}` should be F32 of shape {shape:?}, but is {found}"));
    }
    // The range is valid because the header was checked against the number of bytes.
    let bytes = &bytes[info.start as usize..info.end as usize];
    Ok(Elements::of_bytes(WeightDtype::F32, bytes).to_f32().into_owned())
}

/// Lists the base's files and computes the patched tensors. The manifest of an adapter contains the digests of these
/// tensors.
pub(super) fn list_and_apply(request: &ExportRequest<'_>) -> Result<(FolderListing, AppliedTensors), ExportError> {
    let listing = list(request.folder)?;
    let applied = apply(&open_all(&listing, request.base)?, request.patch)?;
    Ok((listing, applied))
}

/// Exports the patch as a PEFT folder. The files are read back and compared before the folder is moved to the
/// destination.
///
/// # Errors
/// If the destination is rejected, an adapter cannot represent the patch, the patch was made for a different base, or
/// an I/O operation fails.
pub fn peft(request: &ExportRequest<'_>, named: AdapterBase<'_>) -> Result<ExportedPeft, ExportError> {
    let ExportRequest { base, patch, facts, settings, .. } = *request;
    let place = Destination::folder(request.to, request.folder, request.store)?;
    let adapter = Adapter::new(patch, named.spec)?;
    let (listing, applied) = list_and_apply(request)?;
    let id = patch.id().0;
    let staging = place.stage()?;
    let mut entries = Vec::new();
    for (name, bytes) in files(&adapter, &base.digest, &id, facts, settings.as_ref(), named.name) {
        entries.push(staging.write(name, |out| out.write_all(&bytes))?);
    }
    let manifest = ExportManifest::new(base, id, &applied, facts.to_vec(), settings, entries, Vec::new());
    let own = staging.write(MANIFEST_FILE, |out| out.write_all(&manifest.render()))?;
    unchanged(base, &listing)?;
    manifest.files.iter().chain([&own]).try_for_each(|file| staging.read_back(file))?;
    let written = |name: &str| fs::read(staging.path(name)).map_err(ExportError::io("reading", &staging.path(name)));
    check(&written(CONFIG_FILE)?, &written(WEIGHTS_FILE)?, patch, named.spec)?;
    staging.commit()?;
    Ok(ExportedPeft { manifest, rank: adapter.rank })
}

/// Parses the written files and compares the product of their LoRA factors with the weight change that the patch makes.
fn check(config: &[u8], weights: &[u8], patch: &Patch, spec: &Spec) -> Result<(), ExportError> {
    let differs = |what| ExportError::Differs { file: WEIGHTS_FILE.to_owned(), what };
    let adapter = parse(config, weights, spec).map_err(differs)?;
    adapter.difference(patch, spec).map_or(Ok(()), |place| Err(differs(place)))
}

/// Returns the name of a base in the form that transformers and PEFT use. A name on the Hugging Face Hub,
/// `hf:ORG/NAME@REVISION`, becomes `ORG/NAME`; any other name is returned unchanged.
pub fn plain_name(name: &str) -> String {
    name.parse::<HubName>().map_or_else(|_| name.to_owned(), |name| name.repository().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::lora::samples::{patch, spec};
    use super::*;

    fn hub(name: &str) -> BaseName<'_> {
        BaseName { name, on_hub: true }
    }

    fn sample() -> (Adapter, Vec<u8>, Vec<u8>) {
        let adapter = Adapter::new(&patch(), &spec()).expect("an adapter");
        let digest = Digest::of(b"x");
        let [_, (_, config), (_, weights)] = files(&adapter, &digest, &digest, &[], None, hub("org/tiny"));
        (adapter, config, weights)
    }

    #[test]
    fn the_layout_is_that_of_peft() {
        let (adapter, config, weights) = sample();
        insta::assert_snapshot!(String::from_utf8(config.clone()).expect("text"));
        // `serde_json::Value` sorts its keys, so equal texts show that the configuration's keys are sorted.
        let value: Value = serde_json::from_slice(&config).expect("JSON");
        let sorted = serde_json::to_string_pretty(&value).expect("JSON");
        assert_eq!(String::from_utf8(config.clone()).expect("text"), format!("{sorted}\n"));
        let header = Header::parse(weights.len() as u64, &weights).expect("a header");
        assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())].into());
        let shapes: Vec<_> = header.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())).collect();
        let expected: [(&str, &[u64]); 4] = [
            ("base_model.model.transformer.h.0.mlp.c_proj.lora_A.weight", &[3, 32]),
            ("base_model.model.transformer.h.0.mlp.c_proj.lora_B.weight", &[8, 3]),
            ("base_model.model.transformer.h.2.mlp.c_proj.lora_A.weight", &[3, 32]),
            ("base_model.model.transformer.h.2.mlp.c_proj.lora_B.weight", &[8, 3]),
        ];
        assert_eq!(shapes, expected);
        assert_eq!(parse(&config, &weights, &spec()).expect("read"), adapter);
        check(&config, &weights, &patch(), &spec()).expect("the patch");
    }

    #[test]
    fn files_that_no_export_writes_are_refused() {
        let (_, config, weights) = sample();
        let refused = |key: &str, value: Value| {
            let mut changed: Value = serde_json::from_slice(&config).expect("JSON");
            changed[key] = value;
            parse(changed.to_string().as_bytes(), &weights, &spec()).expect_err(key)
        };
        for (key, value, part) in [
            ("r", json!(2), "should be F32 of shape [2, 32]"),
            ("lora_alpha", json!(6), "changes what the factors mean"),
            ("use_rslora", json!(true), "changes what the factors mean"),
            ("target_modules", json!(["c_proj"]), "`c_proj` is not an editable module"),
            ("target_modules", json!(["transformer.h.0.mlp.c_proj"]), "tensors that belong to no module"),
            ("target_modules", json!(["transformer.h.1.mlp.c_proj"]), "it lacks `base_model"),
            ("rank_pattern", json!({ "c_proj": 2 }), "unknown field"),
            ("news", json!(1), "unknown field"),
            ("r", json!(u64::MAX), "should be F32"),
        ] {
            let why = refused(key, value);
            assert!(why.contains(part), "{key}: {why}");
        }
        for end in [0, 7, 100, weights.len() - 1] {
            assert!(parse(&config, &weights[..end], &spec()).is_err(), "{end}");
        }
        // An adapter with one changed number can be parsed, but does not match the patch.
        let mut other = weights.clone();
        let last = other.len() - 4;
        other[last] ^= 1;
        let error = check(&config, &other, &patch(), &spec()).expect_err("another product").to_string();
        assert!(error.contains("transformer.h.2.mlp.c_proj, row 7"), "{error}");
    }

    #[test]
    fn names_of_the_hub() {
        assert_eq!(plain_name("hf:openai-community/gpt2-xl@0123"), "openai-community/gpt2-xl");
        assert_eq!((plain_name("hf:gpt2").as_str(), plain_name("gpt2@home").as_str()), ("gpt2", "gpt2@home"));
    }

    #[test]
    fn a_base_name_is_escaped_in_the_card() {
        let adapter = Adapter::new(&patch(), &spec()).expect("an adapter");
        let digest = Digest::of(b"x");
        let [(_, hub_card), ..] = files(&adapter, &digest, &digest, &[], None, hub("a\"\n---\nlicense: mit\u{1b}"));
        let hub_card = String::from_utf8(hub_card).expect("text");
        assert_eq!(hub_card.lines().take_while(|line| !line.is_empty()).count(), 4, "{hub_card}");
        assert!(hub_card.starts_with("---\nbase_model: \"a\\\"") && !hub_card.contains('\u{1b}'), "{hub_card}");
        let folder = BaseName { name: "model", on_hub: false };
        let [(_, card), (_, config), _] = files(&adapter, &digest, &digest, &[], None, folder);
        let card = String::from_utf8(card).expect("text");
        assert!(card.starts_with("---\nlibrary_name: peft\n---\n"), "{card}");
        assert_eq!(name_of(&config).as_deref(), Some("model"));
    }
}
