//! Computes SHA-256 digests of bytes and of structured values. Structured values are hashed only with [`FieldHasher`].

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Its text form is `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the SHA-256 of all bytes that `reader` returns, and the number of these bytes.
    ///
    /// # Errors
    /// If reading fails.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), total)),
                Ok(count) => {
                    hasher.write_all(&buffer[..count])?;
                    total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns all 64 hexadecimal digits of the digest in lower case, without the `sha256:` prefix.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Returns the first 12 hexadecimal digits of the digest, for messages to users.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses a digest that is written as 64 lower-case hexadecimal digits without a prefix. Returns `None` for any
    /// other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// A SHA-256 hasher of raw bytes. For structured values, use [`FieldHasher`].
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Returns the digest of all bytes written so far. More bytes can be written afterwards.
    pub fn finish(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader or writer that hashes and counts the bytes that pass through it.
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    length: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::default(), length: 0 }
    }

    pub fn digest(&self) -> Digest {
        self.hasher.finish()
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.write_all(&bytes[..written])?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.write_all(&buffer[..read])?;
        self.length += read as u64;
        Ok(read)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest (`sha256:` and 64 lower-case hexadecimal digits)")]
pub struct NotADigest(String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| NotADigest(text.to_owned()))
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256 hasher for structured values. It hashes the name of the value's type (the domain), and then named fields
/// in the order in which they are added.
///
/// Every name and every value is preceded by its length (u64, little endian), so adjacent fields cannot be confused.
/// Because of the domain, values of different types, such as an edit and a configuration, never have the same digest.
#[derive(Clone)]
pub struct FieldHasher(Sha256);

impl FieldHasher {
    /// Creates a hasher for values of one type. `domain` names the type, for example `"edit-meaning/1"`.
    pub fn new(domain: &str) -> Self {
        let mut canon = Self(Sha256::new());
        canon.framed(domain.as_bytes());
        canon
    }

    fn framed(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub fn field(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.framed(name.as_bytes());
        self.framed(value);
        self
    }

    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.field(name, value.as_bytes())
    }

    /// Adds a list of texts as one field. The number of texts is hashed before the texts.
    pub fn texts<'a>(&mut self, name: &str, values: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.field(name, &(values.len() as u64).to_le_bytes());
        for value in values {
            self.framed(value.as_bytes());
        }
        self
    }

    /// Adds an integer field as 8 little-endian bytes.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.field(name, &value.to_le_bytes())
    }

    /// Adds a floating-point field as the 8 little-endian bytes of its bit pattern.
    pub fn float(&mut self, name: &str, value: f64) -> &mut Self {
        self.field(name, &value.to_bits().to_le_bytes())
    }

    /// Adds a field with the 32 raw bytes of a digest.
    pub fn digest(&mut self, name: &str, value: &Digest) -> &mut Self {
        self.field(name, value.bytes())
    }

    /// Returns the digest of the domain and of all fields added so far. More fields can be added afterwards.
    pub fn finish(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse::<Digest>().expect("just printed"), digest);
        assert!("sha256:BA".parse::<Digest>().is_err());
    }

    #[test]
    fn a_reader_has_the_digest_of_its_bytes() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|x| x as u8).collect();
        let (digest, count) = Digest::of_reader(&*bytes).expect("memory");
        assert_eq!((digest, count), (Digest::of(&bytes), 200_000));
        assert_eq!(Digest::from_bytes(*digest.bytes()), digest);
    }

    #[test]
    fn adjacent_fields_give_different_digests() {
        let one = FieldHasher::new("d").text("a", "bc").finish();
        let two = FieldHasher::new("d").text("ab", "c").finish();
        let three = FieldHasher::new("d").texts("a", ["b", "c"].into_iter()).finish();
        assert!(one != two && two != three && one != three);
    }
}
