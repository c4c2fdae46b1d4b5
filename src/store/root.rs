//! Determines the directory of the cache from a command-line option and environment variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Returns the directory of the cache. The first of these settings determines it:
///
/// - `flag`, the value of `--cache-dir`
/// - `CORRIGENDA_CACHE_DIR`
/// - `XDG_CACHE_HOME`, with the subfolder `corrigenda`
/// - on Windows: `LOCALAPPDATA`, with the subfolder `corrigenda\cache`
/// - on other systems: `HOME`, with the subfolder `.cache/corrigenda`
///
/// `env` returns the value of an environment variable. An empty variable counts as not set. A relative
/// `XDG_CACHE_HOME` is ignored, as the XDG specification requires. Returns `None` if none of the settings is set.
pub fn cache_root(flag: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(flag) = flag {
        return Some(flag.to_owned());
    }
    if let Some(own) = variable("CORRIGENDA_CACHE_DIR") {
        return Some(own);
    }
    if let Some(xdg) = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Some(xdg.join("corrigenda"));
    }
    if cfg!(windows) {
        return variable("LOCALAPPDATA").map(|local| local.join("corrigenda").join("cache"));
    }
    variable("HOME").map(|home| home.join(".cache").join("corrigenda"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<PathBuf> {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        cache_root(flag.map(Path::new), env)
    }

    #[cfg(unix)]
    #[test]
    fn an_option_precedes_environment_variables() {
        let mut variables = vec![("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("CORRIGENDA_CACHE_DIR", "c")];
        assert_eq!(root(Some("f"), &variables), Some("f".into()));
        assert_eq!(root(None, &variables), Some("c".into()));
        variables.pop();
        assert_eq!(root(None, &variables), Some("/x/corrigenda".into()));
        variables[1].1 = "relative";
        assert_eq!(root(None, &variables), Some("/h/.cache/corrigenda".into()));
        assert_eq!(root(None, &[("HOME", "")]), None);
    }
}
