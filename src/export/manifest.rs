//! Reads and writes `corrigenda-manifest.json`, the machine-readable description of an export.
//!
//! Equal content has equal bytes: keys are sorted, the indentation is two spaces, and the file ends with a line break.
//! A manifest contains no time, host or path. It is untrusted input: `verify` compares every claim in it with the
//! files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fact::ExportedFact;
use super::folder::is_plain_name;
use super::weights::AppliedTensors;
use crate::digest::Digest;
use crate::numeric::NUMERICS;
use crate::project::{LockedBase, LockedFile};

pub const MANIFEST_FILE: &str = "corrigenda-manifest.json";
/// The format number of the manifests that this version of the program writes and reads.
pub const MANIFEST_FORMAT: u64 = 1;
/// The maximum size of a manifest file in bytes. A manifest is untrusted and is read into memory as a whole, so a
/// larger file counts as invalid.
pub const MOST_MANIFEST_BYTES: u64 = 64 << 20;

/// The content of a manifest: the exported files, and the base, the facts and the patch from which they were made. The
/// fields are in alphabetical order, which is the order of the keys in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportManifest {
    /// The base model that the patch was made for.
    pub base: BaseEntry,
    /// The facts that the patch contains, sorted by id.
    pub facts: Vec<ExportedFact>,
    /// Every file of the export except the manifest, sorted by name.
    pub files: Vec<FileEntry>,
    /// The format number of the manifest, currently 1.
    pub format: u64,
    /// The name of the arithmetic with which the patch was applied, such as `portable-1`. Results with another
    /// arithmetic may differ in some bits.
    pub numerics: String,
    /// The names of the weights files in the base's folder that are not part of the base, usually the same model in
    /// another format. They are neither edited nor exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// The id of the patch: the digest of its bytes.
    pub patch: Digest,
    /// The digest of the settings with which the patch was built; absent if `corrigenda.lock` does not name the patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Digest>,
    /// The tensors that differ from the base, sorted by file and name.
    pub tensors: Vec<TensorEntry>,
}

/// The base model of an export, identified by its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseEntry {
    /// The digest of the base, computed from `files`.
    pub digest: Digest,
    /// The files that determine the model's output: weights, configuration, tokenizer.
    pub files: Vec<FileEntry>,
}

/// A file of an export or of its base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The SHA-256 digest of the file.
    pub digest: Digest,
    /// The file name, without a folder.
    pub path: String,
    /// The size of the file in bytes.
    pub size: u64,
}

/// A tensor whose bytes in the export differ from those in the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// The digest of the tensor's bytes in the export.
    pub after: Digest,
    /// The digest of the tensor's bytes in the base.
    pub before: Digest,
    /// The name of the weights file that contains the tensor.
    pub file: String,
    /// The name of the tensor in the weights file.
    pub name: String,
}

impl From<&LockedFile> for FileEntry {
    fn from(file: &LockedFile) -> Self {
        Self { digest: file.digest, path: file.path.clone(), size: file.size }
    }
}

/// Returns the manifest entries of the tensors that a patch replaces, sorted by file and tensor name.
pub fn tensor_entries(applied: &AppliedTensors) -> Vec<TensorEntry> {
    let tensors = applied.iter().flat_map(|(file, tensors)| tensors.iter().map(move |(name, one)| (file, name, one)));
    let entry = |(file, name, one): (&String, &String, &super::weights::ReplacedTensor)| TensorEntry {
        after: one.after,
        before: one.before,
        file: file.clone(),
        name: name.clone(),
    };
    tensors.map(entry).collect()
}

impl ExportManifest {
    pub fn new(
        base: &LockedBase,
        patch: Digest,
        applied: &AppliedTensors,
        facts: Vec<ExportedFact>,
        settings: Option<Digest>,
        files: Vec<FileEntry>,
        omitted: Vec<String>,
    ) -> Self {
        let base = BaseEntry { digest: base.digest, files: base.files.iter().map(FileEntry::from).collect() };
        let (format, numerics, tensors) = (MANIFEST_FORMAT, NUMERICS.to_owned(), tensor_entries(applied));
        Self { base, facts, files, format, numerics, omitted, patch, settings, tensors }
    }

    /// Returns the text of the manifest file. Equal manifests have equal bytes.
    pub fn render(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("texts, numbers and lists always serialise");
        format!("{text}\n").into_bytes()
    }

    /// Parses the bytes of a manifest file from an untrusted source.
    ///
    /// # Errors
    /// If the JSON is invalid, the format number is not [`MANIFEST_FORMAT`], or a file name contains a path. The error
    /// text describes the problem.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        // The format number is checked before the keys. The error for a newer manifest is then about its format, and
        // not about a key that this version does not know.
        let unreadable = |error: serde_json::Error| format!("it is not a manifest: {error}");
        match serde_json::from_slice::<Format>(bytes).map_err(unreadable)?.format {
            MANIFEST_FORMAT => {}
            found => return Err(format!("it is of format {found}; this version reads {MANIFEST_FORMAT}")),
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        let files = manifest.base.files.iter().chain(&manifest.files).map(|file| &file.path);
        let mut names = files.chain(manifest.tensors.iter().map(|tensor| &tensor.file)).chain(&manifest.omitted);
        match names.find(|name| !is_plain_name(name)) {
            Some(name) => Err(format!("it names `{name}`, which is no file of the folder")),
            None => Ok(manifest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> ExportManifest {
        let digest = Digest::of(b"x");
        let file = FileEntry { digest, path: "config.json".to_owned(), size: 1 };
        ExportManifest {
            base: BaseEntry { digest, files: vec![file.clone()] },
            facts: vec![ExportedFact { meaning: Some(digest), ..ExportedFact::default() }],
            files: vec![file],
            format: MANIFEST_FORMAT,
            numerics: NUMERICS.to_owned(),
            omitted: vec!["model.gguf".to_owned()],
            patch: digest,
            settings: None,
            tensors: vec![TensorEntry { after: digest, before: digest, file: "m".to_owned(), name: "w".to_owned() }],
        }
    }

    #[test]
    fn manifests_are_read_as_written() {
        let bytes = manifest().render();
        assert_eq!(ExportManifest::parse(&bytes).expect("just written"), manifest());
        // `serde_json::Value` sorts its keys, so equal texts show that the manifest's keys are sorted.
        let sorted: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let sorted = serde_json::to_string_pretty(&sorted).expect("JSON");
        assert_eq!(String::from_utf8(bytes).expect("text"), format!("{sorted}\n"));
    }

    #[test]
    fn paths_in_a_manifest_are_refused() {
        for name in ["../x", "/etc/passwd", "a/b", "..", "c:\\x"] {
            let mut base = manifest();
            base.base.files[0].path = name.to_owned();
            let mut files = manifest();
            files.files[0].path = name.to_owned();
            let mut tensors = manifest();
            tensors.tensors[0].file = name.to_owned();
            for manifest in [base, files, tensors] {
                let why = ExportManifest::parse(&manifest.render()).expect_err(name);
                assert!(why.contains(name) && why.contains("no file of the folder"), "{why}");
            }
        }
    }

    #[test]
    fn other_formats_and_unknown_keys() {
        let text = String::from_utf8(manifest().render()).expect("text");
        let refused = |edited: String| ExportManifest::parse(edited.as_bytes()).expect_err("refused");
        assert!(refused(text.replace("\"format\": 1", "\"format\": 2, \"news\": 1")).contains("format 2"));
        assert!(refused(text.replace("\"format\": 1", "\"format\": 1, \"news\": 1")).contains("news"));
        assert!(refused(text[..40].to_owned()).contains("not a manifest"));
    }
}
