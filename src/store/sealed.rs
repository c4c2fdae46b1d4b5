//! Writes and checks the seals of store entries. A seal is a trailer at the end of an entry's file. It shows that the
//! file is complete and has the requested kind and key.
//!
//! The payload comes first, so that numbers in a memory map are aligned. The seal contains the kind and the key of the
//! entry, the length and the SHA-256 of the payload, and a SHA-256 of these fields.

use std::io::{self, Read};

use crate::digest::Digest;

const MAGIC: &[u8; 16] = b"corrigenda seal\x01";

/// The size of a seal in bytes. The fields are a magic number (16 bytes), the kind (16), the length of the payload (8),
/// the key (32), the digest of the payload (32), and a digest of the fields before it (32).
pub(super) const TRAILER: usize = 136;

/// Returns the seal (the trailer with checksums) for a payload of `length` bytes with the digest `payload`.
pub(super) fn trailer(kind: &str, key: &Digest, length: u64, payload: &Digest) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..16].copy_from_slice(MAGIC);
    trailer[16..16 + kind.len()].copy_from_slice(kind.as_bytes());
    trailer[32..40].copy_from_slice(&length.to_le_bytes());
    trailer[40..72].copy_from_slice(key.bytes());
    trailer[72..104].copy_from_slice(payload.bytes());
    let check = Digest::of(&trailer[..104]);
    trailer[104..].copy_from_slice(check.bytes());
    trailer
}

/// Checks the seal (the trailer with checksums) of a file against the expected kind, key and payload length. Returns
/// the payload digest that is in the seal, or a description of the damage.
pub(super) fn read_trailer(trailer: &[u8; TRAILER], kind: &str, key: &Digest, length: u64) -> Result<Digest, String> {
    let digest = |at: usize| Digest::from_bytes(trailer[at..at + 32].try_into().expect("32 bytes"));
    let payload = digest(72);
    if *trailer == self::trailer(kind, key, length, &payload) {
        return Ok(payload);
    }
    if trailer[..16] != *MAGIC {
        return Err("it does not end in a seal: it is truncated, or is not an entry of a store".to_owned());
    }
    if Digest::of(&trailer[..104]) != digest(104) {
        return Err("its seal is damaged".to_owned());
    }
    let found = String::from_utf8_lossy(&trailer[16..32]);
    let found = found.trim_end_matches('\0');
    if found != kind {
        return Err(format!("it belongs in the folder {found}, not in {kind}"));
    }
    if digest(40) != *key {
        return Err(format!("it was sealed as {}, which is not its name", digest(40)));
    }
    Err(format!("its payload has {length} bytes, which is not the sealed number"))
}

/// Checks a file of `length` bytes that ends with a seal (a trailer with checksums). Returns the digest of the payload,
/// or a description of the damage.
pub(super) fn check(
    mut reader: impl Read,
    length: u64,
    kind: &str,
    key: &Digest,
) -> io::Result<Result<Digest, String>> {
    let Some(payload) = length.checked_sub(TRAILER as u64) else {
        return Ok(Err(too_short(length)));
    };
    let (found, read) = Digest::of_reader(reader.by_ref().take(payload))?;
    if read != payload {
        return Ok(Err("it became shorter while it was read".to_owned()));
    }
    let mut trailer = [0; TRAILER];
    reader.read_exact(&mut trailer)?;
    Ok(read_trailer(&trailer, kind, key, payload).and_then(|stated| {
        if stated == found {
            Ok(found)
        } else {
            Err(format!("its content has the digest {found}, but it was sealed with {stated}"))
        }
    }))
}

/// Describes the damage of a file that is too short to contain the trailer with checksums.
pub(super) fn too_short(length: u64) -> String {
    match length {
        0 => "it is empty".to_owned(),
        _ => format!("it is truncated to {length} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let seal = trailer("objects", &Digest::of(b"key"), payload.len() as u64, &Digest::of(payload));
        [payload, &seal].concat()
    }

    fn verdict(bytes: &[u8], kind: &str, key: &[u8]) -> Result<Digest, String> {
        check(bytes, bytes.len() as u64, kind, &Digest::of(key)).expect("memory")
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = sealed(b"payload");
        assert_eq!(verdict(&bytes, "objects", b"key"), Ok(Digest::of(b"payload")));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verdict(&flipped, "objects", b"key").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_detected() {
        let bytes = sealed(b"payload");
        for end in 0..bytes.len() {
            assert!(verdict(&bytes[..end], "objects", b"key").is_err(), "{end} bytes");
        }
        assert!(verdict(&[&bytes[..], &[0]].concat(), "objects", b"key").is_err());
        assert!(verdict(&bytes[1..], "objects", b"key").expect_err("shortened").contains("6 bytes"));
        assert_eq!(verdict(b"", "objects", b"key"), Err("it is empty".to_owned()));
    }

    #[test]
    fn a_wrong_key_or_kind_is_detected() {
        let bytes = sealed(b"");
        assert!(verdict(&bytes, "objects", b"other").expect_err("renamed").contains("sealed as sha256:"));
        assert!(verdict(&bytes, "factors", b"key").expect_err("moved").contains("in the folder objects"));
    }
}
