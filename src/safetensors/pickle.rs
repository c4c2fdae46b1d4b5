//! Rejects pickles before their content is read, because reading a pickle can run code.

use std::path::{Path, PathBuf};

/// The error for a file that is a pickle or is named like one.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    /// The file was rejected because of its first bytes, which are those of a pickle or a zip archive.
    #[error(
        "`{}` holds a {what}, not safetensors. Pickles can run code when they are read, so this program never \
         reads them: convert it to safetensors (`AutoModelForCausalLM.from_pretrained(A).save_pretrained(B)`)",
        path.display()
    )]
    Magic {
        path: PathBuf,
        /// The format that the first bytes identify, for example a zip archive.
        what: &'static str,
    },
    /// The file was rejected because its name has a usual extension of pickle files.
    #[error(
        "`{}` is named like a pickle (.{extension}). Pickles can run code when they are read, so this program \
         never reads them: convert it to safetensors (`AutoModelForCausalLM.from_pretrained(A).save_pretrained(B)`)",
        path.display()
    )]
    Name {
        path: PathBuf,
        /// The extension of the file name, in lower case.
        extension: String,
    },
}

/// The usual extensions of pickle files, in lower case.
const EXTENSIONS: [&str; 6] = ["bin", "ckpt", "pickle", "pkl", "pt", "pth"];

/// Returns an error if the first bytes or the name of a file are those of a pickle; `None` if the file may be read.
/// `first_bytes` is the beginning of the file at `path`; 16 bytes are enough.
pub fn refuse_pickle(path: &Path, first_bytes: &[u8]) -> Option<PickleError> {
    if let Some(what) = magic(first_bytes) {
        return Some(PickleError::Magic { path: path.to_owned(), what });
    }
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let known = EXTENSIONS.contains(&extension.as_str());
    known.then(|| PickleError::Name { path: path.to_owned(), extension })
}

fn magic(bytes: &[u8]) -> Option<&'static str> {
    // A safetensors file with a header of 640, 896, 1152 or 1408 bytes starts with the same two bytes as a pickle.
    // Only in the safetensors file, bytes 4 to 7 are 0 (the upper half of the header length), and byte 8 is `{`.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    match bytes {
        [0x80, 2..=5, ..] => Some("Python pickle"),
        [b'P', b'K', 3, 4, ..] => Some("zip archive (as `torch.save` and `numpy.savez` write)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_magic_and_by_name() {
        let refused = |name: &str, bytes: &[u8]| refuse_pickle(Path::new(name), bytes).map(|error| error.to_string());
        let pickle = refused("model.safetensors", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9").expect("a pickle");
        assert!(pickle.contains("convert it to safetensors") && pickle.contains("model.safetensors"));
        assert!(refused("m", b"\x80\x04\x95\x10\0\0\0\0\0").is_some());
        assert!(refused("m", b"PK\x03\x04\x14\0\0\0\x08").is_some());
        assert!(refused("pytorch_model.BIN", b"").expect("by name").contains(".bin"));
        assert!(refused("model.safetensors", b"\x10\0\0\0\0\0\0\0{").is_none());
        assert!(refused("m", b"").is_none());
    }

    #[test]
    fn a_header_of_640_bytes_is_no_pickle() {
        for length in [640_u64, 896, 1152, 1408] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.push(b'{');
            assert!(refuse_pickle(Path::new("model.safetensors"), &bytes).is_none());
        }
    }
}
