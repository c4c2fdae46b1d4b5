//! Finds the folder of the project: the folder of `-C`, or else the nearest folder with a project file, from the
//! current folder upward.

use std::path::{Path, PathBuf};

use crate::project::PROJECT_FILE;

/// Returns the folder of the project, relative to the current folder. `named` is the folder of `-C`, which is returned
/// unchanged, even if it has no project file. If no project is found, the current folder is returned.
pub(super) fn find(named: Option<&Path>) -> PathBuf {
    let here = PathBuf::from(".");
    match named {
        Some(named) => named.to_owned(),
        None => std::env::current_dir().ok().and_then(|whole| above(&whole)).unwrap_or(here),
    }
}

/// Returns the relative path from the folder `whole` to the nearest folder above it that has a project file, such as
/// `../..`. Returns `None` if `whole` itself has a project file, or if no folder above it has one.
fn above(whole: &Path) -> Option<PathBuf> {
    let holds = |folder: &Path| folder.join(PROJECT_FILE).symlink_metadata().is_ok();
    let steps = whole.ancestors().position(holds).filter(|steps| *steps > 0)?;
    Some(vec![".."; steps].iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_project_above() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b/c")).expect("made");
        std::fs::write(root.join(PROJECT_FILE), "").expect("written");
        assert_eq!(above(root), None);
        assert_eq!(above(&root.join("a/b/c")), Some(PathBuf::from("../../..")));
        std::fs::write(root.join("a").join(PROJECT_FILE), "").expect("written");
        assert_eq!(above(&root.join("a/b/c")), Some(PathBuf::from("../..")));
        assert_eq!(find(Some(Path::new("x"))), PathBuf::from("x"));
    }
}
