//! Decides whether a project without edits is an error. Such a project is valid if its edits were withdrawn, that is,
//! removed after a build. The next build then makes a patch that changes nothing.
//!
//! A lock file shows that the project was built before. A missing folder of edits is treated as an empty folder,
//! because git does not store empty folders. But if the missing folder has a sibling folder with edits,
//! `corrigenda.toml` probably names the wrong folder.

use std::path::{Path, PathBuf};

use super::Empty;
use crate::diagnostics::{Code, Diagnostic};
use crate::project::lock::LOCK_FILE;
use crate::project::read::files::{declares, display_path};
use crate::project::{LockFile, PROJECT_FILE};

/// Decides whether the folder `edits` may be empty. It may be empty if the folder `root` has a lock file, unless
/// `edits` is missing and a sibling folder contains edits. If `corrigenda.lock` lists edits, also returns the warning
/// that they were removed.
pub(crate) fn of(root: &Path, edits: &Path) -> (Empty, Option<Diagnostic>) {
    // A lock file that cannot be read also shows that the project was built. The code that uses the lock reports the
    // error.
    if !root.join(LOCK_FILE).is_file() || mistaken(root, &root.join(edits)).is_some() {
        return (Empty::Refused, None);
    }
    let locks = LockFile::load(root).ok().flatten().unwrap_or_default();
    let ids: std::collections::BTreeSet<&str> =
        locks.entries.values().flat_map(|lock| &lock.edits).map(|edit| edit.id.as_str()).collect();
    let finding = || {
        let shown = display_path(&root.join(edits), root);
        let names = if ids.len() == 1 { "1 fact".to_owned() } else { format!("{} facts", ids.len()) };
        let message = format!("there is no fact in `{shown}`, but {LOCK_FILE} lists {names}");
        Diagnostic::new(Code::FactsWithdrawn, message).help(format!(
            "run `corrigenda build` to withdraw what was built; if the facts are in another folder, name it with \
             `edits = \"…\"` in {PROJECT_FILE}"
        ))
    };
    (Empty::Allowed, (!ids.is_empty()).then(finding))
}

/// If the folder `edits` does not exist, returns a folder in the same parent folder that contains edits. Returns `None`
/// if there is no such folder, or if `edits` exists.
pub(crate) fn mistaken(root: &Path, edits: &Path) -> Option<PathBuf> {
    if edits.exists() {
        return None;
    }
    let parent = edits.parent().filter(|parent| parent.is_dir()).unwrap_or(root);
    let mut siblings: Vec<PathBuf> = std::fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path()).collect();
    siblings.sort();
    siblings.into_iter().find(|path| holds_facts(path))
}

/// Returns whether a folder contains a `.toml` file with an `[[edit]]` line. Subfolders are not searched, and for a
/// symbolic link to a folder the result is false.
fn holds_facts(folder: &Path) -> bool {
    let named = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let real = folder.is_dir() && !folder.is_symlink();
    let files = real.then(|| std::fs::read_dir(folder).ok()).flatten();
    files.into_iter().flatten().flatten().map(|entry| entry.path()).any(|path| named(&path) && declares(&path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::diagnostics::RenderStyle;
    use crate::diagnostics::render;
    use crate::project::Project;

    const EDIT: &str = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"A\"\nprompt = \"{} is\"\ntarget = \"b\"\n";

    fn shown(root: &Path) -> String {
        let (findings, sources) = match Project::load(root) {
            Ok(project) => (project.warnings, project.edits.sources),
            Err(findings) => (findings.diagnostics, findings.sources),
        };
        let drawn = findings.iter().map(|one| render(one, &sources, RenderStyle::default()));
        drawn.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_lock_allows_an_empty_folder_of_edits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::write(root.join(PROJECT_FILE), "format = 1\nmodel.path = \"m\"\n").expect("the file is written");
        assert!(shown(root).contains("there is no folder `edits`"), "{}", shown(root));
        fs::create_dir(root.join("edits")).expect("the folder is created");
        assert!(shown(root).contains("there is no edit in `edits`"), "{}", shown(root));
        // A lock file shows that the project was built before.
        fs::write(root.join(LOCK_FILE), crate::project::lock::text::tests::sample().render()).expect("written");
        let withdrawn = shown(root);
        assert!(withdrawn.starts_with("warning[facts-withdrawn]") && withdrawn.contains("corrigenda.lock lists"));
        assert!(Project::load(root).expect("it can be built").edits.edits.is_empty());
        fs::remove_dir(root.join("edits")).expect("the folder is removed");
        assert_eq!(shown(root), withdrawn, "git does not store an empty folder");
        // A sibling folder without edits does not change the warning. A sibling folder with edits gives an error
        // instead, because `corrigenda.toml` then probably names the wrong folder.
        fs::create_dir(root.join("facts")).expect("the folder is created");
        assert_eq!(shown(root), withdrawn);
        fs::write(root.join("facts/a.toml"), EDIT).expect("the file is written");
        let text = shown(root);
        assert!(text.contains("there is no folder `edits`") && text.contains("`facts` contains facts"), "{text}");
        fs::create_dir(root.join("edits")).expect("the folder is created");
        assert!(shown(root).starts_with("warning[facts-withdrawn]"), "{}", shown(root));
        fs::write(root.join("edits/a.toml"), EDIT).expect("the file is written");
        assert_eq!(shown(root), "");
    }
}
