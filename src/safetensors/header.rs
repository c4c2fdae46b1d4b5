//! Parses and verifies safetensors headers. A header is accepted only if every byte after it belongs to exactly one
//! tensor.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::Dtype;

/// Maximum length of a header, in bytes: the limit of the reference implementation.
pub const MAX_HEADER: u64 = 100_000_000;

/// Type, shape and byte range of one tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Offset of the tensor's first byte, from the start of the file.
    pub start: u64,
    /// Offset after the tensor's last byte, from the start of the file.
    pub end: u64,
}

/// A verified header: every byte of the file's data belongs to exactly one tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The type, the shape and the byte range of each tensor, by the name of the tensor.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The texts under `__metadata__`, by key; empty if the header has none.
    pub metadata: BTreeMap<String, String>,
}

/// The reason why a header is rejected. The message does not contain the path of the file.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the file is empty, not safetensors")]
    Empty,
    #[error("the file has {0} bytes; a safetensors file starts with an 8-byte header length")]
    TooShort(u64),
    #[error("the header claims {0} bytes; more than {MAX_HEADER} is refused (is this a safetensors file?)")]
    TooLong(u64),
    #[error("the header claims {header} bytes, but only {left} follow its length: the file is truncated")]
    PastEnd {
        /// Length of the header in bytes, as the file states it. The 8 bytes of the length itself are not counted.
        header: u64,
        left: u64,
    },
    /// The caller passed only a part of the file, which ends inside the header.
    #[error("reading the header needs the first {needed} bytes of the file, but {given} were given")]
    NotGiven {
        /// Number of bytes from the start of the file to the end of the header.
        needed: u64,
        given: u64,
    },
    #[error("the header is not UTF-8 from byte {offset} of the file on")]
    NotUtf8 {
        /// Offset of the first invalid byte, from the start of the file.
        offset: u64,
    },
    #[error("the header is not a JSON object: {0}")]
    NotJson(String),
    #[error("the header does not describe tensors: {0}")]
    Malformed(String),
    #[error("the header names `{0}` twice")]
    Duplicate(String),
    #[error("tensor `{tensor}` has the unknown dtype `{dtype}`")]
    UnknownDtype {
        tensor: String,
        /// Name of the element type, as the header states it.
        dtype: String,
    },
    /// The size of a tensor overflows 64 bits, or is not a whole number of bytes.
    #[error("tensor `{tensor}`: {dtype} of shape {shape:?} has no length in whole bytes below 2^64")]
    ShapeOverflow {
        tensor: String,
        dtype: Dtype,
        /// Dimensions of the tensor, as the header states them.
        shape: Vec<u64>,
    },
    #[error("tensor `{tensor}` ends at data offset {end}, before it starts at {start}")]
    Reversed {
        tensor: String,
        /// Offset of the tensor's first byte, counted from the end of the header.
        start: u64,
        /// Offset after the tensor's last byte, counted from the end of the header.
        end: u64,
    },
    #[error("tensor `{tensor}`: {dtype} of shape {shape:?} is {expected} bytes, its offsets hold {found}")]
    WrongLength {
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
        /// Size of the tensor in bytes, according to its shape.
        expected: u64,
        /// Size of the tensor in bytes, according to its offsets.
        found: u64,
    },
    /// Two tensors share at least one byte.
    #[error("tensor `{tensor}` starts at data offset {found}, inside the tensor before it, which ends at {expected}")]
    Overlap {
        /// Name of the tensor that starts inside another tensor.
        tensor: String,
        /// Offset after the last byte of the tensor inside which `tensor` starts, counted from the end of the header.
        expected: u64,
        /// Offset of the first byte of `tensor`, counted from the end of the header.
        found: u64,
    },
    #[error("tensor `{tensor}` starts at data offset {found}; the bytes from {expected} on belong to no tensor")]
    Gap {
        /// Name of the first tensor after the bytes that belong to no tensor.
        tensor: String,
        /// Offset of the first byte that belongs to no tensor, counted from the end of the header.
        expected: u64,
        /// Offset of the first byte of `tensor`, counted from the end of the header.
        found: u64,
    },
    #[error("the file is truncated: the tensors need {expected} bytes after the header, but it has {found}")]
    Truncated {
        /// Number of bytes that the tensors need after the header.
        expected: u64,
        found: u64,
    },
    #[error("{} bytes after the last tensor belong to no tensor", found - expected)]
    Trailing {
        /// Number of bytes that the tensors need after the header.
        expected: u64,
        found: u64,
    },
}

impl Header {
    /// Returns the end of the header, which is the start of the tensors' data, in bytes from the start of the file.
    ///
    /// `first` contains at least the file's first 8 bytes, and `file_len` is the file's length in bytes. The result is
    /// the number of bytes that [`Header::parse`] needs.
    ///
    /// # Errors
    /// If the file is empty or shorter than 8 bytes, or if the stated header length exceeds [`MAX_HEADER`] or the file.
    pub fn end(file_len: u64, first: &[u8]) -> Result<u64, HeaderError> {
        if file_len == 0 {
            return Err(HeaderError::Empty);
        }
        let Some(length) = first.first_chunk::<8>().filter(|_| file_len >= 8) else {
            return Err(HeaderError::TooShort(file_len.min(first.len() as u64)));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER {
            return Err(HeaderError::TooLong(length));
        }
        if length > file_len - 8 {
            return Err(HeaderError::PastEnd { header: length, left: file_len - 8 });
        }
        Ok(8 + length)
    }

    /// Parses and verifies a header. `bytes` is the start of the file, which must contain at least the whole header.
    /// `file_len` is the length of the whole file in bytes.
    ///
    /// # Errors
    /// If `bytes` ends before the header does, or if the file violates the format. The first violation is reported.
    pub fn parse(file_len: u64, bytes: &[u8]) -> Result<Self, HeaderError> {
        let end = Self::end(file_len, bytes)?;
        let given = bytes.len() as u64;
        let text = usize::try_from(end).ok().and_then(|end| bytes.get(8..end));
        let text = text.ok_or(HeaderError::NotGiven { needed: end, given })?;
        let text = std::str::from_utf8(text)
            .map_err(|error| HeaderError::NotUtf8 { offset: 8 + error.valid_up_to() as u64 })?;
        let mut header = Self::default();
        for (name, entry) in read_json(text)?.0 {
            match entry {
                Entry::Metadata(texts) => {
                    for (key, value) in texts.0 {
                        insert_once(&mut header.metadata, key, value)?;
                    }
                }
                Entry::Tensor(raw) => {
                    let info = raw.verify(&name, end)?;
                    insert_once(&mut header.tensors, name, info)?;
                }
            }
        }
        header.cover(end, file_len)?;
        Ok(header)
    }

    /// Checks that the tensors are contiguous and fill the file from the end of the header, `data`, to the end of the
    /// file.
    fn cover(&self, data: u64, file_len: u64) -> Result<(), HeaderError> {
        let mut ranges: Vec<_> = self.tensors.iter().map(|(name, info)| (info.start, info.end, name)).collect();
        // Empty tensors sort before a tensor that starts at the same offset. The sort is stable, so they stay in the
        // order of their names.
        ranges.sort_by_key(|(start, end, _)| (*start, *end));
        let mut reached = data;
        for (start, end, tensor) in ranges {
            if start != reached {
                let (tensor, expected, found) = (tensor.clone(), reached - data, start - data);
                return Err(if start < reached {
                    HeaderError::Overlap { tensor, expected, found }
                } else {
                    HeaderError::Gap { tensor, expected, found }
                });
            }
            reached = end;
        }
        let (expected, found) = (reached - data, file_len - data);
        match reached.cmp(&file_len) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(HeaderError::Truncated { expected, found }),
            std::cmp::Ordering::Less => Err(HeaderError::Trailing { expected, found }),
        }
    }
}

fn insert_once<V>(map: &mut BTreeMap<String, V>, key: String, value: V) -> Result<(), HeaderError> {
    match map.entry(key) {
        btree_map::Entry::Occupied(there) => Err(HeaderError::Duplicate(there.key().clone())),
        btree_map::Entry::Vacant(free) => {
            free.insert(value);
            Ok(())
        }
    }
}

/// The entry of one tensor as the header states it, not yet verified.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor<'t> {
    #[serde(borrow)]
    dtype: Cow<'t, str>,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor<'_> {
    /// Verifies the entry without regard to the other tensors. `data` is the file offset of the first byte after the
    /// header.
    fn verify(self, name: &str, data: u64) -> Result<TensorInfo, HeaderError> {
        let tensor = || name.to_owned();
        let (shape, (start, end)) = (self.shape, self.data_offsets);
        let Some(dtype) = Dtype::from_name(&self.dtype) else {
            return Err(HeaderError::UnknownDtype { tensor: tensor(), dtype: self.dtype.into_owned() });
        };
        let Some(found) = end.checked_sub(start) else {
            return Err(HeaderError::Reversed { tensor: tensor(), start, end });
        };
        let (Some(expected), Some(end)) = (dtype.byte_len(&shape), end.checked_add(data)) else {
            return Err(HeaderError::ShapeOverflow { tensor: tensor(), dtype, shape });
        };
        if expected != found {
            return Err(HeaderError::WrongLength { tensor: tensor(), dtype, shape, expected, found });
        }
        Ok(TensorInfo { dtype, shape, start: start + data, end })
    }
}

enum Entry<'t> {
    Metadata(Pairs<String>),
    Tensor(RawTensor<'t>),
}

/// The key-value pairs of a JSON object in file order. A map type would contain only the last of two equal keys, which
/// would hide the duplicate.
struct Pairs<V>(Vec<(String, V)>);

fn read_json(text: &str) -> Result<Pairs<Entry<'_>>, HeaderError> {
    // The format requires `{` as the first byte; JSON would allow white space before it.
    if !text.starts_with('{') {
        return Err(HeaderError::NotJson("it does not start with `{`".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let pairs = reader.deserialize_map(Entries).and_then(|pairs| reader.end().map(|()| pairs));
    let pairs = pairs.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => HeaderError::Malformed(error.to_string()),
        _ => HeaderError::NotJson(error.to_string()),
    })?;
    // The caller merges all metadata into one map, which would hide a second `__metadata__`.
    let mut metadata = pairs.0.iter().filter(|(_, entry)| matches!(entry, Entry::Metadata(_)));
    if metadata.next().is_some() && metadata.next().is_some() {
        return Err(HeaderError::Duplicate("__metadata__".to_owned()));
    }
    Ok(pairs)
}

/// Maximum number of tensors in a header, and of metadata pairs. The largest models have a few thousand tensors per
/// file.
const MOST_ENTRIES: usize = 40_000;

/// Returns an error if `pairs` already has [`MOST_ENTRIES`] entries. The limit protects against a header that
/// needs too much memory: an entry takes several times as many bytes in memory as in the file.
fn room<V, E: serde::de::Error>(pairs: &[(String, V)]) -> Result<(), E> {
    if pairs.len() < MOST_ENTRIES { Ok(()) } else { Err(E::custom(format!("it has more than {MOST_ENTRIES} entries"))) }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Pairs<Entry<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            room(&pairs)?;
            let entry = if name == "__metadata__" {
                Entry::Metadata(map.next_value()?)
            } else {
                Entry::Tensor(map.next_value()?)
            };
            pairs.push((name, entry));
        }
        Ok(Pairs(pairs))
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Pairs<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            room(&pairs)?;
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

impl<'de> Deserialize<'de> for Pairs<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Texts)
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
