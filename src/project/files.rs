//! Finding and reading the files of a project, with every refusal as a diagnostic.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::diagnostic::{Code, Diagnostic};
use super::sources::{FileId, Sources};
use crate::plain;

/// The size above which no declarative file is read.
pub const MOST_FILE_BYTES: u64 = 1 << 20;

/// Folders inside folders, at most.
const MOST_DEPTH: usize = 32;

/// The path below `root`, with `/` on every system.
pub(super) fn display_path(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/").replacen("//", "/", 1)
}

/// A refusal that points at a file as a whole.
pub(super) fn refusal(sources: &mut Sources, path: &str, code: Code, message: impl Into<String>) -> Diagnostic {
    let file = sources.add(path, "");
    Diagnostic::new(code, message).at(file, &(0..0), "")
}

/// Every `*.toml` under `folder`, in the order of the bytes of their paths.
pub(super) fn toml_files(
    folder: &Path,
    root: &Path,
    sources: &mut Sources,
    findings: &mut Vec<Diagnostic>,
) -> Vec<(PathBuf, String)> {
    // Behind a link could be any folder of the machine.
    if let Some(found) = folder.ancestors().take_while(|above| *above != root).find(|above| above.is_symlink()) {
        findings.push(link(sources, &display_path(found, root)));
        return Vec::new();
    }
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let paths = listing(&folder).unwrap_or_else(|error| {
            let message = format!("the folder cannot be read: {error}");
            findings.push(refusal(sources, &display_path(&folder, root), Code::FileUnreadable, message));
            Vec::new()
        });
        for path in paths {
            let shown = display_path(&path, root);
            match kind(&path) {
                Kind::Folder if depth < MOST_DEPTH => folders.push((path, depth + 1)),
                Kind::Folder => {
                    let message = format!("folders are nested more than {MOST_DEPTH} deep");
                    findings.push(refusal(sources, &shown, Code::FileIrregular, message));
                }
                // Two such names are shown as one, and one of their files would take the place of the other.
                Kind::Toml if path.strip_prefix(root).unwrap_or(&path).to_str().is_none() => {
                    let finding = refusal(sources, &shown, Code::FileIrregular, "the name of this file is not UTF-8");
                    findings.push(finding.help("give it another: where a fact stands is said to people"));
                }
                Kind::Toml => files.push((path, shown)),
                Kind::Link => findings.push(link(sources, &shown)),
                Kind::Other => {}
            }
        }
    }
    files.sort_by(|a, b| a.1.as_bytes().cmp(b.1.as_bytes()));
    files
}

enum Kind {
    Folder,
    Toml,
    Link,
    Other,
}

/// What a path is to us. A link counts when it names a TOML file or a folder: what lies behind it would be missed.
fn kind(path: &Path) -> Kind {
    let named_toml = path.extension().is_some_and(|extension| extension == "toml");
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Kind::Folder,
        Ok(found) if found.is_symlink() && (named_toml || path.is_dir()) => Kind::Link,
        _ if named_toml => Kind::Toml,
        _ => Kind::Other,
    }
}

fn link(sources: &mut Sources, shown: &str) -> Diagnostic {
    refusal(sources, shown, Code::FileIrregular, "a symbolic link is not followed")
        .help("put the file or the folder itself here: a fact must be readable where it is reviewed")
}

fn listing(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// The bytes of a plain file of a sensible size.
pub(super) fn read(path: &Path, shown: &str, sources: &mut Sources) -> Result<Vec<u8>, Diagnostic> {
    read_up_to(MOST_FILE_BYTES, path, shown, sources)
}

/// The bytes of a plain file of at most `most` bytes.
pub(super) fn read_up_to(most: u64, path: &Path, shown: &str, sources: &mut Sources) -> Result<Vec<u8>, Diagnostic> {
    let unreadable = |sources: &mut Sources, error: std::io::Error| {
        refusal(sources, shown, Code::FileUnreadable, format!("the file cannot be read: {error}"))
    };
    let found = fs::symlink_metadata(path).map_err(|error| unreadable(sources, error))?;
    if found.is_symlink() {
        return Err(link(sources, shown));
    }
    plain::read(path, most).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => refusal(sources, shown, Code::FileIrregular, "this is not a plain file"),
        ErrorKind::FileTooLarge => {
            refusal(sources, shown, Code::FileTooLarge, format!("the file is larger than {most} bytes"))
        }
        _ => unreadable(sources, error),
    })
}

/// Adds a file's bytes to the sources as text.
pub(super) fn add(path: &str, bytes: Vec<u8>, sources: &mut Sources) -> Result<FileId, Diagnostic> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(sources.add(path, text)),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let file = sources.add(path, String::from_utf8_lossy(error.as_bytes()));
            // Up to the first bad byte the lossy text equals the file, but for a byte order mark.
            let mark = if error.as_bytes().starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let at = offset.saturating_sub(mark);
            let message = match plain::is_utf16(error.as_bytes()) {
                true => "the file is UTF-16 text".to_owned(),
                false => format!("the file is not UTF-8 at byte {offset}"),
            };
            Err(Diagnostic::new(Code::InvalidUtf8, message)
                .at(file, &(at..at + 1), "the first bad byte")
                .help("save the file as UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_with_slashes_below_the_root() {
        assert_eq!(display_path(Path::new("/p/edits/a/b.toml"), Path::new("/p")), "edits/a/b.toml");
        assert_eq!(display_path(Path::new("/q/x.toml"), Path::new("/p")), "/q/x.toml");
    }

    #[test]
    fn the_first_bad_byte_is_named() {
        let mut sources = Sources::default();
        let finding = add("a.toml", b"\xef\xbb\xbfid = \"\xff\"".to_vec(), &mut sources).expect_err("not UTF-8");
        assert_eq!(finding.message, "the file is not UTF-8 at byte 9");
        assert_eq!(finding.labels[0].span, 6..7);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_cannot_be_said_are_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let odd = |name: &[u8]| root.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(odd(b"\xff")).expect("made");
        for name in [&b"\xfe.toml"[..], b"\xff.toml", b"\xff/a.toml", b"\xff.md", b"a.toml"] {
            fs::write(odd(name), "").expect("written");
        }
        let (mut sources, mut findings) = (Sources::default(), Vec::new());
        let files = toml_files(root, root, &mut sources, &mut findings);
        assert_eq!(files.iter().map(|file| file.1.as_str()).collect::<Vec<_>>(), ["a.toml"]);
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().all(|one| one.message == "the name of this file is not UTF-8"), "{findings:?}");
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_giants_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::write(root.join("giant.toml"), vec![b'#'; MOST_FILE_BYTES as usize + 1]).expect("written");
        fs::write(root.join("notes.md"), "no").expect("written");
        std::os::unix::fs::symlink(root.join("giant.toml"), root.join("link.toml")).expect("linked");
        std::os::unix::fs::symlink("/", root.join("deep")).expect("linked");
        let (mut sources, mut findings) = (Sources::default(), Vec::new());
        let files = toml_files(root, root, &mut sources, &mut findings);
        assert_eq!(files.iter().map(|file| file.1.as_str()).collect::<Vec<_>>(), ["giant.toml"]);
        assert_eq!(findings.len(), 2);
        let behind = toml_files(&root.join("deep/etc"), root, &mut sources, &mut findings);
        assert!(behind.is_empty() && findings[2].message == "a symbolic link is not followed", "{findings:?}");
        let giant = read(&files[0].0, "giant.toml", &mut sources).expect_err("too large");
        assert_eq!(giant.code, Code::FileTooLarge);
        let folder = read(root, ".", &mut sources).expect_err("a folder");
        assert_eq!(folder.code, Code::FileIrregular);
        let missing = read(&root.join("none"), "none", &mut sources).expect_err("not there");
        assert_eq!(missing.code, Code::FileUnreadable);
    }
}
