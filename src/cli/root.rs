//! The folder of the project: the one that `-C` names, else this one or the nearest above it that holds a project.

use std::path::{Path, PathBuf};

use crate::project::PROJECT_FILE;

/// The folder of the project, from where the program runs. A folder that is named is the one that is meant, whatever
/// is in it or above it.
pub(super) fn find(named: Option<&Path>) -> PathBuf {
    let here = PathBuf::from(".");
    match named {
        Some(named) => named.to_owned(),
        None => std::env::current_dir().ok().and_then(|whole| above(&whole)).unwrap_or(here),
    }
}

/// The way up from `whole` to a project; none where that is its own, or where there is none.
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
