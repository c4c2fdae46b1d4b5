//! Records in the store which statistics (second moments of MLP keys) a project requested with the command `stats`.
//!
//! Several projects may share a store. A project uses imported statistics only if it requested them, or if its
//! `corrigenda.lock` names them. The next build names the requested statistics in `corrigenda.lock` and removes the
//! request. The key of a request is a digest of the path of the project's folder and the store key of the statistics.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::sealed::TRAILER;
use super::write::{make_parent, remove_file};
use super::{Store, StoreError, atomic, open_regular, sealed};
use crate::digest::{Digest, FieldHasher};

/// The folder of the store that contains requests for statistics, and memos (cached digests of files). `store gc --all`
/// removes all requests and memos.
const FOLDER: &str = "memo";

/// The kind in the trailer of a request for statistics. A memo (a cached digest) has a different kind in its trailer,
/// so it is never read as a request.
const KIND: &str = "asked";

/// The size of a request for statistics in bytes: a SHA-256 digest, and the trailer with checksums.
const BYTES: u64 = 32 + TRAILER as u64;

/// The content of a request for statistics that are computed from the project's corpus. A request for imported
/// statistics contains the digest of the imported file instead.
const SUMMED: [u8; 32] = [0; 32];

/// Returns which statistics the project in the folder `root` requested for the store key `address`: `Some(Some(file))`
/// for an imported file with this digest, and `Some(None)` for statistics computed from the corpus. Returns `None` if
/// there is no valid request.
pub fn requested(store: &Store, root: &Path, address: &Digest) -> Option<Option<Digest>> {
    let key = key(root, address).ok()?;
    let (file, length) = open_regular(&store.address(FOLDER, &key, "")).ok()??;
    if length != BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes).ok()?;
    sealed::check(&*bytes, bytes.len() as u64, KIND, &key).ok()?.ok()?;
    let digest = bytes.first_chunk::<32>()?;
    Some((*digest != SUMMED).then(|| Digest::from_bytes(*digest)))
}

/// Records that the project in the folder `root` requests the statistics under the store key `address`. `file` is the
/// digest of the imported file, or `None` for statistics computed from the corpus.
///
/// # Errors
/// If the store cannot be written to.
pub fn request(store: &Store, root: &Path, address: &Digest, file: Option<&Digest>) -> Result<(), StoreError> {
    let key = key(root, address)?;
    let path = store.address(FOLDER, &key, "");
    let payload = file.map_or(SUMMED, |file| *file.bytes());
    let bytes = [&payload[..], &sealed::trailer(KIND, &key, 32, &Digest::of(&payload))].concat();
    store.prepare()?;
    make_parent(&path)?;
    atomic::write(&path, &bytes)
}

/// Removes a request that is no longer needed, because a build has named the statistics in `corrigenda.lock`. Errors
/// are ignored: if the request remains, it selects the same statistics as `corrigenda.lock`.
pub fn forget(store: &Store, root: &Path, address: &Digest) {
    if let Ok(key) = key(root, address) {
        let _ = remove_file(&store.address(FOLDER, &key, ""));
    }
}

fn key(root: &Path, address: &Digest) -> Result<Digest, StoreError> {
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let path = fs::canonicalize(root).map_err(StoreError::io("reading", root))?;
    let mut canon = FieldHasher::new("asked-statistics/1");
    canon.field("project", path.as_os_str().as_encoded_bytes()).digest("address", address);
    Ok(canon.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_belongs_to_one_project() {
        let top = tempfile::tempdir().expect("a folder");
        let store = Store::open(top.path().join("store"));
        let [one, other] = ["one", "other"].map(|name| top.path().join(name));
        [&one, &other].into_iter().for_each(|folder| fs::create_dir(folder).expect("made"));
        let (address, file) = (Digest::of(b"address"), Digest::of(b"file"));
        assert_eq!(requested(&store, &one, &address), None);
        request(&store, &one, &address, Some(&file)).expect("kept");
        assert_eq!(requested(&store, &one, &address), Some(Some(file)));
        assert_eq!(requested(&store, &other, &address), None);
        assert_eq!(requested(&store, &one, &Digest::of(b"another")), None);
        request(&store, &one, &address, None).expect("kept");
        assert_eq!(requested(&store, &one, &address), Some(None));
        // A damaged request file counts as missing.
        let path = store.scan(FOLDER, "").into_iter().next().expect("one").path;
        fs::write(&path, [1; BYTES as usize]).expect("written");
        assert_eq!(requested(&store, &one, &address), None);
        forget(&store, &one, &address);
        assert!(!path.exists());
        forget(&store, &one, &address);
    }
}
