//! Reads the header of a GGUF file to find the model from which the file was made. Does not read the weights.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use crate::model::load::hub::repository;
use crate::regular_file;

/// The first four bytes of every GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Maximum number of bytes that are read from a GGUF file. The metadata about the source model is much shorter, and
/// comes before the vocabulary.
const MOST_BYTES: u64 = 1 << 20;
/// Maximum length of one text in the header, in bytes. The reader stops at the first longer text.
const MOST_TEXT: u64 = 1 << 12;
const TEXT: u32 = 8;

/// Returns the name of the model from which the GGUF file at `path` was made: `ORG/NAME` if the header contains the
/// organisation or a URL, otherwise the name alone. Returns `None` if the header contains no name.
pub(crate) fn made_from(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    regular_file::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let texts = texts(&bytes);
    let of = |key: &str| texts.get(&format!("general.base_model.0.{key}"));
    let by_address = of("repo_url").and_then(|address| repository(address));
    by_address.or_else(|| match (of("organization"), of("name")) {
        (Some(organization), Some(name)) => Some(format!("{organization}/{name}").replace(' ', "-")),
        (_, name) => name.cloned(),
    })
}

/// Returns the text values in a GGUF header by key. Stops at the first array or malformed value.
fn texts(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = Rest(bytes);
    let mut read = || {
        let (magic, _version, _tensors, pairs) = (rest.bytes(4)?, rest.u32()?, rest.u64()?, rest.u64()?);
        if magic != MAGIC {
            return None;
        }
        for _ in 0..pairs {
            let key = rest.text()?;
            match rest.u32()? {
                TEXT => drop(found.insert(key, rest.text()?)),
                kind => drop(rest.bytes(size(kind)?)?),
            }
        }
        Some(())
    };
    let _ = read();
    found
}

/// Returns the size in bytes of a number with the GGUF type `kind`; `None` for arrays and unknown types. The reader
/// stops at the first array, because the metadata about the source model comes before all arrays.
fn size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(8)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u64().filter(|length| *length <= MOST_TEXT)?;
        String::from_utf8(self.bytes(usize::try_from(length).ok()?)?.to_vec()).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Builds a GGUF header with the number 1 under `general.file_type`, followed by the pairs (key, value) in `texts`.
    pub(in crate::model::load::storage) fn header(texts: &[(&str, &str)]) -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(7_u64.to_le_bytes());
        bytes.extend((texts.len() as u64 + 1).to_le_bytes());
        bytes.extend([text("general.file_type"), 4_u32.to_le_bytes().to_vec(), 1_u32.to_le_bytes().to_vec()].concat());
        for (key, value) in texts {
            bytes.extend([text(key), TEXT.to_le_bytes().to_vec(), text(value)].concat());
        }
        bytes
    }

    #[test]
    fn a_header_names_its_model_and_a_broken_one_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.gguf");
        let made = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            made_from(&path)
        };
        let address = ("general.base_model.0.repo_url", "https://hub.example/org/name-1b");
        let (whose, name) =
            (("general.base_model.0.organization", "Some Org"), ("general.base_model.0.name", "Name 1B"));
        assert_eq!(made(&header(&[name, whose, address])).as_deref(), Some("org/name-1b"));
        assert_eq!(made(&header(&[name, whose])).as_deref(), Some("Some-Org/Name-1B"));
        assert_eq!(made(&header(&[name])).as_deref(), Some("Name 1B"));
        assert_eq!(made(&header(&[("general.name", "x")])), None);
        let whole = header(&[address]);
        assert!((0..whole.len()).all(|end| made(&whole[..end]).is_none()));
        assert_eq!(made(b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
