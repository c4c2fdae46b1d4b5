//! Replaces a leading `~` by the home folder in paths that a shell does not expand: paths in project files, and
//! command-line arguments such as `--out=~/patched`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Command-line options whose value is text or a date. A `~` at the beginning of the value is kept, although in other
/// options it stands for the home folder.
const TEXT_OPTIONS: [&str; 5] = ["--prompt", "--subject", "--answer", "--builder", "--as-of"];

/// Returns the path with a leading `~` replaced by the home folder. A folder that is really named `~` can be given as
/// `./~`.
pub(crate) fn expand(path: &Path) -> PathBuf {
    in_home(path, folder().as_deref()).unwrap_or_else(|| path.to_owned())
}

/// Replaces a leading `~` by the home folder in every argument that is a path or contains one, such as
/// `--out=~/patched`. All other arguments are unchanged.
pub(crate) fn expand_arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    expand_arguments_in(given, folder().as_deref())
}

fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HOME").or_else(|| set("USERPROFILE"))
}

fn in_home(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let rest = path.strip_prefix("~").ok()?;
    // `join` with an empty path would add a trailing slash.
    home.map(|home| if rest.as_os_str().is_empty() { home.to_owned() } else { home.join(rest) })
}

fn expand_arguments_in(given: impl Iterator<Item = OsString>, home: Option<&Path>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    for argument in given {
        let is_text = out.last().is_some_and(|last| TEXT_OPTIONS.iter().any(|text| *last == **text));
        let found = if is_text { None } else { expand_argument(&argument, home) };
        out.push(found.unwrap_or(argument));
    }
    out
}

/// Replaces the `~` at the beginning of the path in an argument of the form `PATH`, `NAME=PATH` or
/// `--report=FORM=PATH`. Returns `None` if nothing is replaced.
fn expand_argument(argument: &OsStr, home: Option<&Path>) -> Option<OsString> {
    if let Some(whole) = in_home(Path::new(argument), home) {
        return Some(whole.into_os_string());
    }
    let text = argument.to_str()?;
    let (names, path) = text.split_at(text.find("=~")? + 1);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'=');
    let is_text = names.split('=').next().is_some_and(|name| TEXT_OPTIONS.contains(&name));
    let path = in_home(Path::new(path), home).filter(|_| names.bytes().all(plain) && !is_text)?;
    let mut out = OsString::from(names);
    out.push(path);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_from_the_home_folder() {
        let home = Some(Path::new("/home/ada"));
        let of = |path: &str| in_home(Path::new(path), home).map(|path| path.display().to_string());
        assert_eq!((of("~").as_deref(), of("~/models/a").as_deref()), (Some("/home/ada"), Some("/home/ada/models/a")));
        for other in ["./~", "~ada/x", "a/~", "/~", "", "~~"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(in_home(Path::new("~/x"), None), None);
    }

    #[test]
    fn arguments_that_are_paths() {
        let given =
            ["x", "~/a", "--out=~/b", "--report=html=~/c", "--prompt", "~/d", "--prompt=~/e", "a b=~/f", "a=~b"];
        let found = expand_arguments_in(given.iter().map(OsString::from), Some(Path::new("/h")));
        let want =
            ["x", "/h/a", "--out=/h/b", "--report=html=/h/c", "--prompt", "~/d", "--prompt=~/e", "a b=~/f", "a=~b"];
        assert_eq!(found, want.map(OsString::from));
        let unset = expand_arguments_in(given.iter().map(OsString::from), None);
        assert_eq!(unset, given.map(OsString::from));
    }
}
