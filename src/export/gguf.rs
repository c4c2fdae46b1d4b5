//! Reads and writes the subset of GGUF version 3 that adapters need: text and float metadata, and F32 matrices.
//!
//! Numbers are little-endian. The data of every tensor starts at a multiple of 32 bytes and is padded to a multiple of
//! 32 bytes. Key-value pairs and tensors are sorted by name, so equal content has equal bytes. The reader rejects all
//! encodings except this canonical one.

use std::collections::BTreeMap;

use crate::numeric::{Elements, WeightDtype};

/// The first four bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
const FLOAT: u32 = 6;
const TEXT: u32 = 8;
/// The GGML type id of an F32 tensor.
const F32: u32 = 0;

#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    Float(f32),
    Text(String),
}

/// An F32 matrix of a GGUF file, for example the factor A of a LoRA module.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// The shape `[rows, columns]`. The file stores the number of columns first.
    pub shape: [usize; 2],
    /// The elements, row-major.
    pub data: Vec<f32>,
}

/// The metadata and the matrices of a GGUF file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gguf {
    /// The metadata values by key, such as `general.architecture`.
    pub pairs: BTreeMap<String, MetadataValue>,
    /// The tensors by name, such as `blk.0.ffn_down.weight.lora_a`.
    pub tensors: BTreeMap<String, Matrix>,
}

/// The reason why bytes cannot be read as a GGUF file: they are incomplete, contain an unsupported version or type, or
/// are not in the canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    #[error("it does not begin with `GGUF`")]
    Magic,
    #[error("it is GGUF version {0}; expected version {VERSION}")]
    Version(u32),
    #[error("it is truncated: the value at byte {0} is incomplete")]
    Short(usize),
    #[error("the value at byte {0} has a type that `export` does not write")]
    Kind(usize),
    #[error("from byte {0} on, its bytes differ from those that `export` writes for the same content")]
    NotCanonical(usize),
}

impl Gguf {
    /// Returns the only encoding that [`Gguf::from_bytes`] accepts: metadata keys and tensors sorted by name, and
    /// tensor data aligned to 32 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            text(&mut out, key);
            match value {
                MetadataValue::Float(number) => out.extend([FLOAT.to_le_bytes(), number.to_le_bytes()].concat()),
                MetadataValue::Text(value) => {
                    out.extend(TEXT.to_le_bytes());
                    text(&mut out, value);
                }
            }
        }
        let mut offset = 0_u64;
        for (name, Matrix { shape: [rows, columns], data }) in &self.tensors {
            text(&mut out, name);
            out.extend(2_u32.to_le_bytes());
            out.extend([*columns, *rows].into_iter().flat_map(|side| (side as u64).to_le_bytes()));
            out.extend(F32.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (4 * data.len()).next_multiple_of(ALIGNMENT) as u64;
        }
        pad(&mut out);
        self.data(&mut out);
        out
    }

    /// Appends the data of all tensors to `out`, sorted by tensor name and each padded to a multiple of 32 bytes.
    pub fn data(&self, out: &mut Vec<u8>) {
        for matrix in self.tensors.values() {
            out.extend(matrix.data.iter().flat_map(|number| number.to_le_bytes()));
            pad(out);
        }
    }

    /// Parses the bytes of a GGUF file from an untrusted source.
    ///
    /// # Errors
    /// If the bytes are incomplete, contain an unsupported version or type, or are not in the canonical encoding (see
    /// [`Gguf::to_bytes`]).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GgufError> {
        let mut reader = GgufReader { bytes, at: 0 };
        if bytes.get(..4) != Some(MAGIC) {
            return Err(GgufError::Magic);
        }
        reader.at = 4;
        match reader.word()? {
            VERSION => {}
            other => return Err(GgufError::Version(other)),
        }
        let (tensors, pairs) = (reader.long()?, reader.long()?);
        let mut file = Self::default();
        // The counts are untrusted, so no memory is allocated for them in advance. A missing item ends the loop with an
        // error.
        for _ in 0..pairs {
            let (key, value) = (reader.text()?, reader.value()?);
            file.pairs.insert(key, value);
        }
        let mut shapes = Vec::new();
        for _ in 0..tensors {
            shapes.push((reader.text()?, reader.shape()?));
        }
        reader.align()?;
        for (name, shape) in shapes {
            let data = reader.floats(shape)?;
            reader.align()?;
            file.tensors.insert(name, Matrix { shape, data });
        }
        // A comparison with the canonical encoding detects a wrong order, wrong offsets or padding, duplicate names,
        // and trailing bytes.
        let canonical = file.to_bytes();
        if canonical == bytes {
            Ok(file)
        } else {
            Err(GgufError::NotCanonical(canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count()))
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// A cursor over bytes that returns an error instead of reading past the end.
struct GgufReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl GgufReader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], GgufError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count)).ok_or(GgufError::Short(self.at))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes as were asked for"))
    }

    fn word(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a 64-bit count, which must fit in `usize`.
    fn size(&mut self) -> Result<usize, GgufError> {
        let at = self.at;
        self.long().and_then(|size| usize::try_from(size).map_err(|_| GgufError::Short(at)))
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let (at, length) = (self.at, self.size()?);
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| GgufError::Kind(at))
    }

    fn value(&mut self) -> Result<MetadataValue, GgufError> {
        let at = self.at;
        match self.word()? {
            FLOAT => self.array().map(f32::from_le_bytes).map(MetadataValue::Float),
            TEXT => self.text().map(MetadataValue::Text),
            _ => Err(GgufError::Kind(at)),
        }
    }

    /// Reads the dimensions and the type of an F32 matrix. The data offset is not checked here: [`Gguf::from_bytes`]
    /// compares the whole file with its canonical encoding.
    fn shape(&mut self) -> Result<[usize; 2], GgufError> {
        let at = self.at;
        let sides = self.word()?;
        let (columns, rows) = (self.size()?, self.size()?);
        let (kind, _offset) = (self.word()?, self.long()?);
        if (sides, kind) == (2, F32) { Ok([rows, columns]) } else { Err(GgufError::Kind(at)) }
    }

    fn floats(&mut self, [rows, columns]: [usize; 2]) -> Result<Vec<f32>, GgufError> {
        let length = rows.checked_mul(columns).and_then(|count| count.checked_mul(4));
        let length = length.ok_or(GgufError::Short(self.at))?;
        self.take(length).map(|bytes| Elements::of_bytes(WeightDtype::F32, bytes).to_f32().into_owned())
    }

    fn align(&mut self) -> Result<(), GgufError> {
        self.take(self.at.next_multiple_of(ALIGNMENT) - self.at).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Gguf {
        let matrix = |rows: usize, columns: usize| Matrix {
            shape: [rows, columns],
            data: (0..rows * columns).map(|x| x as f32 - 1.5).collect(),
        };
        Gguf {
            pairs: [("a.x", MetadataValue::Float(3.0)), ("a.y", MetadataValue::Text("München".to_owned()))]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            tensors: [("t.0", matrix(3, 5)), ("t.1", matrix(1, 8))].map(|(name, one)| (name.to_owned(), one)).into(),
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = sample().to_bytes();
        assert_eq!(bytes[..24], [b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".as_slice()].concat());
        assert_eq!(bytes[24..43], *b"\x03\0\0\0\0\0\0\0a.x\x06\0\0\0\0\0\x40\x40");
        // The file stores the shape with the number of columns first, then the F32 type and the offset of the data.
        let first = bytes.windows(3).position(|some| some == b"t.0").expect("its name") + 3;
        assert_eq!(bytes[first..first + 8], *b"\x02\0\0\0\x05\0\0\0");
        assert_eq!(bytes[first + 12..first + 16], *b"\x03\0\0\0");
        let second = bytes.windows(3).position(|some| some == b"t.1").expect("its name") + 3;
        assert_eq!(bytes[second + 24..second + 32], 64_u64.to_le_bytes());
        // The data of the two tensors has 60 and 32 bytes, padded to 64 and 32 bytes.
        let header = bytes.len() - 64 - 32;
        assert_eq!((header % 32, bytes.len() % 32), (0, 0));
        assert_eq!(bytes[header..header + 4], (-1.5_f32).to_le_bytes());
        assert_eq!(Gguf::from_bytes(&bytes), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert_ne!(Gguf::from_bytes(&other).ok(), Some(sample()), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let bytes = sample().to_bytes();
        for end in 0..bytes.len() {
            assert!(Gguf::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes.as_slice(), &[0; 32]].concat();
        assert_eq!(Gguf::from_bytes(&longer), Err(GgufError::NotCanonical(bytes.len())));
        // Counts and lengths that exceed the memory of any computer are rejected before memory is allocated for them.
        for at in [8, 16, 24] {
            let mut other = bytes.clone();
            other[at..at + 8].fill(0xff);
            assert!(matches!(Gguf::from_bytes(&other), Err(GgufError::Short(_) | GgufError::Kind(_))), "{at}");
        }
        let sides = bytes.windows(3).position(|some| some == b"t.0").expect("its name") + 7;
        let mut huge = bytes.clone();
        huge[sides..sides + 16].fill(0xff);
        assert!(matches!(Gguf::from_bytes(&huge), Err(GgufError::Short(_))));
        let mut other = bytes;
        other[4] = 2;
        assert_eq!(Gguf::from_bytes(&other), Err(GgufError::Version(2)));
    }
}
