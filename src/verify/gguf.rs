//! Checks a GGUF adapter for llama.cpp. The base and the patch determine every byte of the file.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use serde_json::json;

use super::adapter::{AdapterCandidate, bounded, end};
use super::candidates::{Reference, add_facts, patch_check};
use super::{Audit, Check, VerifyContext, count};
use crate::diagnostics::Failure;
use crate::export::gguf::{Gguf, MAGIC, MetadataValue};
use crate::export::llama_cpp;
use crate::regular_file;

const CLAIMED: &str = "claimed by the file";

/// Returns whether `path` is a GGUF file, by its extension `gguf` or its first bytes.
pub fn is_gguf(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = regular_file::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
    path.is_file() && (path.extension().is_some_and(|it| it == "gguf") || read.is_ok() && first == MAGIC)
}

/// Checks an adapter file for llama.cpp against the patch from which it was exported.
///
/// # Errors
/// If the base or the file cannot be read.
pub fn gguf(context: &VerifyContext<'_>, path: &Path) -> Result<Audit, Failure> {
    let bytes = bounded(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut audit = Audit::new("adapter");
    audit.fields = json!({ "base": context.base.locked.digest, "patch": null });
    let spec = context.base.model.spec();
    let file = match Gguf::from_bytes(&bytes) {
        Ok(file) => file,
        Err(error) => {
            audit
                .add(Check::wrong("file", name, "not an adapter as `export gguf` writes it").detail(error.to_string()));
            audit.repair("corrigenda export gguf NEW-FILE");
            return Ok(audit);
        }
    };
    audit.add(Check::ok("file", name, format!("{} bytes, canonical", bytes.len())));
    let adapter = llama_cpp::parse(&file, spec);
    let claim = text(&file, llama_cpp::PATCH).and_then(|text| text.parse().ok());
    let reference = Reference::of_adapter(context, adapter.as_ref().ok(), claim, CLAIMED)?;
    audit.fields["patch"] = json!(reference.name().map(|(id, _)| id));
    audit.add(patch_check(context, reference.name(), reference.contained, claim, CLAIMED));
    pairs(&mut audit, context, &file, &reference)?;
    match &adapter {
        Ok(adapter) => reference.modules(&mut audit, adapter, spec),
        Err(why) => audit.add(Check::wrong("adapter", "factors", "not valid").detail(why)),
    }
    if let Some(known) = reference.candidate.as_ref().filter(|_| reference.contained) {
        add_facts(&mut audit, context, &known.patch.patch, &[]);
    }
    end(&mut audit, context, &reference, "corrigenda export gguf NEW-FILE");
    Ok(audit)
}

fn text<'a>(file: &'a Gguf, key: &str) -> Option<&'a str> {
    match file.pairs.get(key)? {
        MetadataValue::Text(text) => Some(text),
        MetadataValue::Float(_) => None,
    }
}

/// Compares the metadata in the file with the metadata of an export of the selected patch. If no patch was selected,
/// checks only the two digests that can be computed without a patch: those of the base and of the tensor data.
fn pairs(
    audit: &mut Audit,
    context: &VerifyContext<'_>,
    file: &Gguf,
    reference: &Reference<AdapterCandidate>,
) -> Result<(), Failure> {
    let base = &context.base.locked.digest;
    let expected = match &reference.candidate {
        Some(known) => llama_cpp::gguf(&known.adapter, context.base.model.spec(), base, &known.patch.id)?.pairs,
        None => {
            let data = llama_cpp::digest_of_data(file);
            let known = [(llama_cpp::BASE, base.to_string()), (llama_cpp::TENSORS, data.to_string())];
            let mut pairs = file.pairs.clone();
            pairs.extend(known.map(|(key, text)| (key.to_owned(), MetadataValue::Text(text))));
            pairs
        }
    };
    let keys: BTreeSet<&String> = expected.keys().chain(file.pairs.keys()).collect();
    let said = |value: Option<&MetadataValue>| match value {
        None => "nothing".to_owned(),
        Some(MetadataValue::Text(text)) => text.clone(),
        Some(MetadataValue::Float(number)) => number.to_string(),
    };
    let before = audit.failures();
    for key in keys {
        let (expected, found) = (said(expected.get(key)), said(file.pairs.get(key)));
        if expected != found {
            let check = Check::wrong("claim", key, "contradicted by the bytes");
            audit.add(check.detail(format!("claimed  {found}")).detail(format!("found    {expected}")));
        }
    }
    if audit.failures() == before {
        audit.add(Check::ok("claim", "keys", format!("{}: confirmed by the bytes", count(file.pairs.len(), "key"))));
    }
    Ok(())
}
