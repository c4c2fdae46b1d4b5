//! Finds and reads the files of a project, and returns a finding for every rejected file.
//!
//! Symbolic links, special files, files that are not UTF-8 and files over the size limit are rejected.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Diagnostic, FileId, Sources};
use crate::regular_file;

/// The maximum size of a project file that people write, in bytes.
pub const MOST_FILE_BYTES: u64 = 1 << 20;

/// The maximum depth of nested folders below the folder of edits.
const MOST_DEPTH: usize = 32;

/// Returns the path relative to `root`, for messages. The separator is `/` on every system.
pub(crate) fn display_path(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/").replacen("//", "/", 1)
}

/// Returns the finding for a file that is rejected before it is read. The finding names the file, without a place in
/// its text.
pub(crate) fn refusal(sources: &mut Sources, path: &str, code: Code, message: impl Into<String>) -> Diagnostic {
    let file = sources.add(path, "");
    Diagnostic::new(code, message).at(file, &(0..0), "")
}

/// Finds every `*.toml` file in `folder` and its subfolders. Returns each file's path together with its path relative
/// to `root`, sorted by the relative path. Adds a finding for every rejected file.
pub(crate) fn toml_files(
    folder: &Path,
    root: &Path,
    sources: &mut Sources,
    findings: &mut Vec<Diagnostic>,
) -> Vec<(PathBuf, String)> {
    // A symbolic link could lead to a folder outside the project, so it is rejected.
    if let Some(found) = folder.ancestors().take_while(|above| *above != root).find(|above| above.is_symlink()) {
        findings.push(link(sources, &display_path(found, root)));
        return Vec::new();
    }
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((current, depth)) = folders.pop() {
        let paths = listing(&current).unwrap_or_else(|error| {
            let message = format!("the folder cannot be read: {error}");
            findings.push(refusal(sources, &display_path(&current, root), Code::FileUnreadable, message));
            Vec::new()
        });
        for path in paths {
            let shown = display_path(&path, root);
            match kind(&path) {
                PathKind::Folder if depth < MOST_DEPTH => folders.push((path, depth + 1)),
                PathKind::Folder => {
                    let message = format!("folders are nested more than {MOST_DEPTH} deep");
                    findings.push(refusal(sources, &shown, Code::FileIrregular, message));
                }
                // In a shown path, bytes that are not UTF-8 are replaced, so two files could have the same shown path.
                // A map by shown path would then contain only one of them.
                PathKind::Toml if path.strip_prefix(root).unwrap_or(&path).to_str().is_none() => {
                    let finding = refusal(sources, &shown, Code::FileIrregular, "the name of this file is not UTF-8");
                    findings.push(finding.help("rename the file: reports name the file of every fact"));
                }
                PathKind::Toml => files.push((path, shown)),
                PathKind::Link if is_backup(&path, &shown_name(&path)) => {}
                PathKind::Link => findings.push(link(sources, &shown)),
                PathKind::Other if seems_facts(&path) => findings.push(ignored(sources, &path, &shown)),
                PathKind::Other => {}
            }
        }
    }
    files.sort_by(|a, b| a.1.as_bytes().cmp(b.1.as_bytes()));
    files
}

enum PathKind {
    Folder,
    Toml,
    Link,
    Other,
}

/// Classifies a path. A symbolic link is returned as `Link` only if its name ends in `.toml` or its target is a folder.
/// No other link can lead to edits.
fn kind(path: &Path) -> PathKind {
    let named_toml = path.extension().is_some_and(|extension| extension == "toml");
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => PathKind::Folder,
        Ok(found) if found.is_symlink() && (named_toml || path.is_dir()) => PathKind::Link,
        _ if named_toml => PathKind::Toml,
        _ => PathKind::Other,
    }
}

/// The extensions of data files that may contain facts, although only `.toml` files are read.
const DATA_EXTENSIONS: &[&str] = &["yaml", "yml", "json", "jsonl", "json5", "csv", "tsv"];

/// The suffixes of backup and temporary files that editors and merge tools write.
const BACKUP_ENDINGS: &[&str] = &["~", ".bak", ".orig", ".swp", ".swo", ".tmp", "#"];

/// Returns whether a file whose name does not end in `.toml` seems to contain facts. The result depends on the
/// extension, such as `yaml`. Only a file without an extension or with the extension `txt` is opened, to search it for
/// an `[[edit]]` line.
fn seems_facts(path: &Path) -> bool {
    let name = shown_name(path).to_lowercase();
    if is_backup(path, &name) {
        return false;
    }
    let name = name.trim_end();
    match name.trim_start_matches('.').rsplit_once('.') {
        None | Some((_, "txt")) if !name.contains(".toml") => declares(path),
        None => true,
        Some((_, ending)) => {
            let near = strsim::damerau_levenshtein(ending, "toml") <= 1;
            near || name.contains(".toml") || DATA_EXTENSIONS.contains(&ending)
        }
    }
}

/// Returns the file name as text; bytes that are not UTF-8 are replaced.
fn shown_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns whether a file is a backup or temporary copy of an existing `.toml` file, such as `.a.toml.swp` of `a.toml`.
fn is_backup(path: &Path, name: &str) -> bool {
    let start = name.trim_start_matches(['.', '#']);
    let Some(end) = start.find(".toml").map(|at| at + ".toml".len()) else { return false };
    let (whole, rest) = start.split_at(end);
    let original = path.parent().unwrap_or(Path::new("")).join(whole);
    // An Emacs lock file, such as `.#a.toml`, ends in `.toml` and is only recognised by its prefix.
    let marked = if rest.is_empty() { start.len() < name.len() } else { BACKUP_ENDINGS.contains(&rest) };
    marked && original.is_file()
}

/// Returns whether the first 64 KiB of a file contain an `[[edit]]` line.
pub(crate) fn declares(path: &Path) -> bool {
    const FIRST: u64 = 1 << 16;
    let mut first = Vec::new();
    let read = regular_file::open(path).and_then(|file| file.take(FIRST).read_to_end(&mut first));
    read.is_ok() && first.split(|byte| *byte == b'\n').any(|line| line.trim_ascii().starts_with(b"[[edit]]"))
}

/// Returns the warning that a file seems to contain facts but is not read.
fn ignored(sources: &mut Sources, path: &Path, shown: &str) -> Diagnostic {
    let finding =
        refusal(sources, shown, Code::FileIgnored, format!("`{shown}` is not read: its name does not end in `.toml`"));
    let stem = shown_name(path);
    let stem = stem.trim().trim_start_matches('.').split('.').next().unwrap_or_default();
    finding
        .help(format!("if it holds facts, write them as TOML into `{stem}.toml`; if not, move it out of this folder"))
}

fn link(sources: &mut Sources, shown: &str) -> Diagnostic {
    refusal(sources, shown, Code::FileIrregular, "a symbolic link is not followed")
        .help("replace the link by the file or the folder: a fact must be readable where it is reviewed")
}

fn listing(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Reads a regular file of at most [`MOST_FILE_BYTES`] bytes. Error messages show the path `shown`.
pub(crate) fn read(path: &Path, shown: &str, sources: &mut Sources) -> Result<Vec<u8>, Diagnostic> {
    read_up_to(MOST_FILE_BYTES, path, shown, sources)
}

/// Reads a regular file of at most `most` bytes. Error messages show the path `shown`. Symbolic links are rejected.
pub(crate) fn read_up_to(most: u64, path: &Path, shown: &str, sources: &mut Sources) -> Result<Vec<u8>, Diagnostic> {
    let unreadable = |all_sources: &mut Sources, error: std::io::Error| {
        refusal(all_sources, shown, Code::FileUnreadable, format!("the file cannot be read: {error}"))
    };
    let found = fs::symlink_metadata(path).map_err(|error| unreadable(sources, error))?;
    if found.is_symlink() {
        return Err(link(sources, shown));
    }
    regular_file::read(path, most).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => refusal(sources, shown, Code::FileIrregular, "this is not a regular file"),
        ErrorKind::FileTooLarge => {
            refusal(sources, shown, Code::FileTooLarge, format!("the file is larger than {most} bytes"))
        }
        _ => unreadable(sources, error),
    })
}

/// Decodes the bytes of a file as UTF-8 and adds the text to `sources`. If the bytes are not UTF-8, the finding marks
/// the first invalid byte.
pub(crate) fn add(path: &str, bytes: Vec<u8>, sources: &mut Sources) -> Result<FileId, Diagnostic> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(sources.add(path, text)),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let file = sources.add(path, String::from_utf8_lossy(error.as_bytes()));
            // `offset` counts bytes of the file, but `Sources` has removed a byte order mark from the text.
            let mark = if error.as_bytes().starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let at = offset.saturating_sub(mark);
            let message = if regular_file::is_utf16(error.as_bytes()) {
                "the file is UTF-16 text".to_owned()
            } else {
                format!("the file is not UTF-8 at byte {offset}")
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
    fn file_names_that_are_not_utf_8_are_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let odd = |name: &[u8]| root.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(odd(b"\xff")).expect("the folder is created");
        for name in [&b"\xfe.toml"[..], b"\xff.toml", b"\xff/a.toml", b"\xff.md", b"a.toml"] {
            fs::write(odd(name), "").expect("the file is written");
        }
        let (mut sources, mut findings) = (Sources::default(), Vec::new());
        let files = toml_files(root, root, &mut sources, &mut findings);
        assert_eq!(files.iter().map(|file| file.1.as_str()).collect::<Vec<_>>(), ["a.toml"]);
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().all(|one| one.message == "the name of this file is not UTF-8"), "{findings:?}");
    }

    #[test]
    fn ignored_files_with_facts_are_reported() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("the file is written");
        let named = [
            "a.TOML",
            "b.toml.txt",
            "c.yaml",
            "d.yml",
            "e.JSON",
            "f.tml",
            "g.toml~",
            "h.toml.bak",
            "i",
            "j.txt",
            "a.toml.old",
        ];
        named.into_iter().for_each(|name| write(name, "# a fact\n  [[edit]]\r\nid = \"a\"\n"));
        write("z.toml", "");
        let others = [
            "README.md",
            ".gitkeep",
            "LICENSE",
            "notes.txt",
            "z.toml~",
            ".z.toml.swp",
            "z.toml.orig",
            "#z.toml#",
            "map.png",
        ];
        others.into_iter().for_each(|name| write(name, "nothing"));
        let (mut sources, mut findings) = (Sources::default(), Vec::new());
        let files = toml_files(root, root, &mut sources, &mut findings);
        assert_eq!(files.len(), 1);
        let mut paths: Vec<&str> = findings.iter().map(|one| sources.path(one.labels[0].file)).collect();
        paths.sort_unstable();
        let mut wanted = named.to_vec();
        wanted.sort_unstable();
        assert_eq!(paths, wanted);
        assert!(findings.iter().all(|one| one.code == Code::FileIgnored && !one.is_error()), "{findings:?}");
        let help = |name: &str| {
            &findings.iter().find(|one| sources.path(one.labels[0].file) == name).expect("a finding of the file").help
                [0]
        };
        assert!(help("b.toml.txt").contains("`b.toml`"), "{}", help("b.toml.txt"));
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_giants_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::write(root.join("giant.toml"), vec![b'#'; MOST_FILE_BYTES as usize + 1]).expect("the file is written");
        fs::write(root.join("notes.md"), "no").expect("the file is written");
        std::os::unix::fs::symlink(root.join("giant.toml"), root.join("link.toml")).expect("the link is created");
        std::os::unix::fs::symlink("/", root.join("deep")).expect("the link is created");
        let (mut sources, mut findings) = (Sources::default(), Vec::new());
        let files = toml_files(root, root, &mut sources, &mut findings);
        assert_eq!(files.iter().map(|file| file.1.as_str()).collect::<Vec<_>>(), ["giant.toml"]);
        assert_eq!(findings.len(), 2);
        let behind = toml_files(&root.join("deep/etc"), root, &mut sources, &mut findings);
        assert!(behind.is_empty() && findings[2].message == "a symbolic link is not followed", "{findings:?}");
        let giant = read(&files[0].0, "giant.toml", &mut sources).expect_err("too large");
        assert_eq!(giant.code, Code::FileTooLarge);
        let irregular = read(root, ".", &mut sources).expect_err("a folder");
        assert_eq!(irregular.code, Code::FileIrregular);
        let missing = read(&root.join("none"), "none", &mut sources).expect_err("not there");
        assert_eq!(missing.code, Code::FileUnreadable);
    }
}
