//! Files that somebody else wrote, opened only where they are plain ones; and where a path leads.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

/// Opens a plain file, or a link to one, for reading.
///
/// # Errors
/// It is something else: opening a pipe would wait for its other end, and a device has none. Or the system refuses.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a plain file")),
    }
}

/// The bytes of a plain file.
///
/// # Errors
/// As [`open`], or there are more than `most`.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
    if file.metadata()?.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    // It may have grown since it was measured.
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// The path without links and without `..`, as far as it exists, and as it will be once what is missing is made.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in whole.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), whole.strip_prefix(there)) {
            let up = rest.components().any(|part| part == Component::ParentDir);
            // Behind a folder that is still to be made: what it leads back to may be a link.
            return if up { resolved(&folded(real, rest)) } else { real.join(rest) };
        }
    }
    whole
}

fn folded(mut real: PathBuf, rest: &Path) -> PathBuf {
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_path_leads_where_it_will_lead() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("there");
        fs::create_dir_all(real.join("model/sub")).expect("made");
        std::os::unix::fs::symlink("model", real.join("link")).expect("linked");
        for (path, leads) in [
            ("new/x", "new/x"),
            ("link/new", "model/new"),
            ("no/../link/new", "model/new"),
            ("no/way/../../model", "model"),
            ("link/sub/../..", ""),
            ("no/../../..", "../.."),
        ] {
            let leads = real.join(leads).canonicalize().unwrap_or(real.join(leads));
            assert_eq!(resolved(&folder.path().join(path)), leads, "{path}");
        }
    }

    #[test]
    fn plain_files_of_a_sensible_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, b"four").expect("written");
        assert_eq!(read(&path, 4).expect("small"), b"four");
        assert_eq!(read(&path, 3).expect_err("large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(open(folder.path()).expect_err("a folder").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open(&folder.path().join("b")).expect_err("nothing").kind(), io::ErrorKind::NotFound);
        #[cfg(target_os = "linux")]
        assert_eq!(read(Path::new("/dev/zero"), 4).expect_err("a device").kind(), io::ErrorKind::InvalidInput);
    }
}
