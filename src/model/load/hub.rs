//! Resolves names of models on the Hugging Face Hub to folders of the local cache. Nothing is downloaded.
//!
//! The cache contains a folder `models--ORG--NAME` per model, with `refs/REVISION` (a file that contains a commit
//! hash), `snapshots/COMMIT` (a folder of links) and `blobs` (the targets of the links). The links of a snapshot may
//! lead to any place in its `models--*` folder. The links of every other model folder must stay inside that folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The prefix that distinguishes the name of a model on the Hub from a local path.
const PREFIX: &str = "hf:";
/// The revision that is used for a name without `@REVISION`.
const MAIN: &str = "main";
/// Minimum length of an abbreviated commit hash, in hexadecimal digits.
const SHORTEST: usize = 7;
/// Maximum size of a file in `refs`, in bytes. The file contains only a commit hash.
const LONGEST_REF: u64 = 256;

/// The name of a model on the Hub: `hf:ORG/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/NAME`, or `NAME` for a model without an organisation.
    repository: String,
    revision: String,
}

/// A folder of the Hugging Face cache with the files of a model at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The path of the snapshot, which ends in `models--ORG--NAME/snapshots/COMMIT`.
    pub folder: PathBuf,
    /// The commit hash, which is also the name of the folder.
    pub commit: String,
}

/// The reason why the name of a model on the Hub cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error messages describe the variants")]
pub enum HubError {
    #[error("`{text}` is not the name of a model: {problem}")]
    Name { text: String, problem: &'static str },
    #[error("the Hugging Face cache cannot be found: neither HOME nor HF_HOME is set")]
    NoCache,
    #[error("{name} is not in the Hugging Face cache at {}", cache.display())]
    NoModel { name: HubName, cache: PathBuf },
    #[error("the Hugging Face cache has {repository}, but not its revision `{revision}`", repository = name.repository, revision = name.revision)]
    NoRevision { name: HubName },
    #[error("`{}` is the beginning of more than one commit of {}", name.revision, name.repository)]
    Ambiguous { name: HubName },
}

impl HubError {
    /// Returns the command that downloads the missing model or revision; `None` for other errors.
    pub fn command(&self) -> Option<String> {
        match self {
            Self::NoModel { name, .. } | Self::NoRevision { name } => Some(name.command()),
            _ => None,
        }
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}@{}", self.repository, self.revision)
    }
}

impl FromStr for HubName {
    type Err = HubError;

    /// Parses `hf:ORG/NAME@REVISION`. Without `@REVISION`, the revision is `main`.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = |problem| HubError::Name { text: text.to_owned(), problem };
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not start with `hf:`"))?;
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_part(part) && !part.contains("--")) {
            return Err(wrong("a name is `ORG/NAME` or `NAME`, of letters, digits, `-`, `_` and `.`"));
        }
        if !revision.split('/').all(is_part) {
            return Err(wrong("a revision is a branch, a tag or a commit"));
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

/// Whether `part`, a segment of a name or of a revision, is safe as a folder name and on a command line. It must have
/// only ASCII letters, digits, `-`, `_` and `.`, must not start with `-` or `.`, and must not contain `..`.
fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty() && part.chars().all(plain) && !part.starts_with(['-', '.']) && !part.contains("..")
}

impl HubName {
    /// Whether a model path starts with `hf:`, and is therefore a name on the Hub and not a local path.
    pub fn is(path: &Path) -> bool {
        path.to_str().is_some_and(|text| text.starts_with(PREFIX))
    }

    /// Guesses which name on the Hub the user meant by a path without `hf:`, for an error message. Accepts `ORG/NAME`
    /// and the URL of a model. Returns `None` for every other path.
    pub fn meant(written: &Path) -> Option<Self> {
        let text = written.to_str()?;
        let name = if text.contains("://") { repository(text)? } else { text.to_owned() };
        let is_pair = name.split('/').count() == 2;
        is_pair.then(|| format!("{PREFIX}{name}").parse().ok()).flatten()
    }

    /// Formats the name as in corrigenda.toml: `hf:ORG/NAME@REVISION`, without `@REVISION` if the revision is `main`.
    pub fn written(&self) -> String {
        if self.revision == MAIN { format!("{PREFIX}{}", self.repository) } else { self.to_string() }
    }

    /// Returns the name of the model whose snapshot folder is `folder`, `models--ORG--NAME/snapshots/COMMIT`. The
    /// returned name has the commit as its revision. Returns `None` for every other folder.
    pub fn of_snapshot(folder: &Path) -> Option<Self> {
        let commit = folder.file_name()?.to_str()?;
        let snapshots = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
        let model = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
        format!("{PREFIX}{}@{commit}", model.replacen("--", "/", 1)).parse().ok()
    }

    /// Whether a text is a valid `ORG/NAME` on the Hub, without `hf:` and without a revision.
    pub fn is_repository(text: &str) -> bool {
        text.contains('/') && !text.contains('@') && format!("{PREFIX}{text}").parse::<Self>().is_ok()
    }

    /// Returns the name without the prefix `hf:` and without the revision: `ORG/NAME`, or `NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the shell command that downloads the model into the Hugging Face cache.
    pub fn command(&self) -> String {
        let revision = if self.revision == MAIN { String::new() } else { format!(" --revision {}", self.revision) };
        format!("hf download {}{revision}", self.repository)
    }

    /// Finds the snapshot of the model in `cache`, the Hugging Face cache.
    ///
    /// # Errors
    /// If the cache does not contain the model or the revision, or if an abbreviated commit is ambiguous.
    pub fn locate(&self, cache: &Path) -> Result<Snapshot, HubError> {
        let model = cache.join(format!("models--{}", self.repository.replace('/', "--")));
        if !model.is_dir() {
            return Err(HubError::NoModel { name: self.clone(), cache: cache.to_owned() });
        }
        let commit = self.commit(&model)?;
        let folder = model.join("snapshots").join(&commit);
        if folder.is_dir() { Ok(Snapshot { folder, commit }) } else { Err(HubError::NoRevision { name: self.clone() }) }
    }

    /// Resolves the revision to a commit hash. A branch or tag is a file in `refs`, which contains the hash. A hash,
    /// full or abbreviated, is the name of a folder in `snapshots`.
    fn commit(&self, model: &Path) -> Result<String, HubError> {
        let place = model.join("refs").join(&self.revision);
        let short = fs::metadata(&place).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LONGEST_REF);
        let said = short.then(|| fs::read_to_string(&place).ok()).flatten();
        if let Some(commit) = said.map(|said| said.trim().to_owned()).filter(|said| is_part(said)) {
            return Ok(commit);
        }
        let hexadecimal = self.revision.chars().all(|c| c.is_ascii_hexdigit());
        if self.revision.len() < SHORTEST || !hexadecimal {
            return Err(HubError::NoRevision { name: self.clone() });
        }
        let entries = fs::read_dir(model.join("snapshots")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_part(name) && name.starts_with(&self.revision)).collect();
        names.sort();
        match &names[..] {
            [] => Err(HubError::NoRevision { name: self.clone() }),
            [one] => Ok(one.clone()),
            [..] if names.contains(&self.revision) => Ok(self.revision.clone()),
            _ => Err(HubError::Ambiguous { name: self.clone() }),
        }
    }
}

/// Returns `ORG/NAME` from the first two segments of the path of `address`, a URL. Returns `None` if `address` has no
/// scheme, or if one of the two segments is missing or empty.
pub(crate) fn repository(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let mut parts = rest.split('/').skip(1);
    let (organization, name) = (parts.next()?, parts.next()?);
    let name = name.split(['?', '#']).next().unwrap_or(name);
    (!organization.is_empty() && !name.is_empty()).then(|| format!("{organization}/{name}"))
}

/// Returns the path of the Hugging Face cache. The path is read from variables of `huggingface_hub`, such as
/// `HF_HUB_CACHE` and `HF_HOME`. If none is set, the cache is in the home directory. Returns `None` if the home
/// directory is unknown too. `env` returns the value of an environment variable.
pub fn cache(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(hub) = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        return Some(hub);
    }
    let home = variable("HF_HOME").or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")));
    let home = home.or_else(|| {
        let user = variable("HOME").or_else(|| variable("USERPROFILE"))?;
        Some(user.join(".cache").join("huggingface"))
    });
    home.map(|home| home.join("hub"))
}

/// Returns the folder that must contain the targets of all links in the model folder `folder`. For a snapshot of the
/// Hugging Face cache, this is its `models--*` folder; otherwise, it is the model folder itself.
///
/// # Errors
/// If the path of `folder` cannot be resolved.
pub fn root(folder: &Path) -> std::io::Result<PathBuf> {
    let real = folder.canonicalize()?;
    let model = HubName::of_snapshot(&real).and(real.ancestors().nth(2));
    Ok(model.unwrap_or(&real).to_owned())
}

/// Resolves all links in `path`, the path of a file in a model folder. Returns `None` if the result is outside `root`.
///
/// # Errors
/// If the path cannot be resolved, for example because the target of a link is missing.
pub fn contained(root: &Path, path: &Path) -> std::io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    Ok(real.starts_with(root).then_some(real))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let name: HubName = "hf:openai-community/gpt2".parse().expect("a name");
        assert_eq!(name.to_string(), "hf:openai-community/gpt2@main");
        assert_eq!(name.repository(), "openai-community/gpt2");
        assert_eq!(name.command(), "hf download openai-community/gpt2");
        let pinned: HubName = "hf:gpt2@refs/pr/1".parse().expect("a name");
        assert_eq!(pinned.command(), "hf download gpt2 --revision refs/pr/1");
        for wrong in [
            "gpt2",
            "hf:",
            "hf:/",
            "hf:a/",
            "hf:/a",
            "hf:a/b/c",
            "hf:../x",
            "hf:a/..",
            "hf:a\\b",
            "hf:-x/y",
            "hf:a@",
            "hf:a@-x",
            "hf:a@../x",
            "hf:a@x/../y",
            "hf:a@/x",
            "hf:a b",
            "hf:a\n",
            "hf:a--b/c",
            "hf:a@b@c",
        ] {
            assert!(matches!(wrong.parse::<HubName>(), Err(HubError::Name { .. })), "{wrong}");
        }
    }

    #[test]
    fn names_that_are_meant() {
        let meant = |text: &str| HubName::meant(Path::new(text)).map(|name| name.written());
        for (text, name) in [
            ("org/Name-1b", Some("hf:org/Name-1b")),
            ("org/name@v2", Some("hf:org/name@v2")),
            ("https://hub.example/org/name", Some("hf:org/name")),
            ("https://hub.example/org/name/tree/main", Some("hf:org/name")),
            ("https://hub.example/org/name?x=1", Some("hf:org/name")),
            ("https://hub.example", None),
            ("https://hub.example//", None),
            ("name", None),
            ("../name", None),
            ("./name", None),
            ("/org/name", None),
            ("a/b/c", None),
            ("org/a name", None),
        ] {
            assert_eq!(meant(text).as_deref(), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_cache(text in "hf:[a-z./\\\\@:~ -]{0,24}") {
            if let Ok(name) = text.parse::<HubName>() {
                let cache = Path::new("/cache");
                let inside = cache.join(format!("models--{}", name.repository.replace('/', "--"))).join(&name.revision);
                prop_assert!(inside.components().all(|part| !matches!(part, std::path::Component::ParentDir)));
                prop_assert!(inside.starts_with(cache) && !name.command().contains(" -") | name.command().contains(" --r"));
            }
        }
    }

    #[test]
    fn the_cache_is_where_its_library_finds_it() {
        let at = |variables: &[(&str, &str)]| {
            cache(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.cache/huggingface/hub".into()));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/huggingface/hub".into()));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")]), Some("/f/hub".into()));
        assert_eq!(at(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Some("/c".into()));
        assert_eq!(at(&[("HOME", "")]), None);
    }

    #[test]
    fn snapshots_by_branch_by_commit_and_by_its_beginning() {
        let cache = tempfile::tempdir().expect("a folder");
        let model = cache.path().join("models--a--b");
        let (one, two) = ("a".repeat(40), format!("{}b", "a".repeat(39)));
        for commit in [&one, &two] {
            fs::create_dir_all(model.join("snapshots").join(commit)).expect("made");
        }
        fs::create_dir_all(model.join("refs/pr")).expect("made");
        fs::write(model.join("refs/main"), format!("{two}\n")).expect("written");
        fs::write(model.join("refs/pr/1"), &one).expect("written");
        fs::write(model.join("refs/evil"), "../../..").expect("written");
        fs::write(model.join("refs/gone"), "c".repeat(40)).expect("written");
        let locate = |text: &str| text.parse::<HubName>().expect("a name").locate(cache.path());
        let commit = |text: &str| locate(text).expect("a snapshot").commit;
        assert_eq!(commit("hf:a/b"), two);
        assert_eq!(commit("hf:a/b@pr/1"), one);
        assert_eq!(commit(&format!("hf:a/b@{one}")), one);
        assert_eq!(commit(&format!("hf:a/b@{two}")), two);
        assert!(matches!(locate("hf:a/b@aaaaaaaa"), Err(HubError::Ambiguous { .. })));
        for gone in ["hf:a/b@aaa", "hf:a/b@v2", "hf:a/b@evil", "hf:a/b@gone", "hf:a/b@ffffffff"] {
            let error = locate(gone).expect_err(gone);
            assert!(matches!(error, HubError::NoRevision { .. }), "{gone}: {error}");
            assert!(error.command().expect("a command").starts_with("hf download a/b --revision"));
        }
        assert!(matches!(locate("hf:a/c"), Err(HubError::NoModel { .. })));
        let folder = locate("hf:a/b").expect("a snapshot").folder;
        assert_eq!(HubName::of_snapshot(&folder).expect("a name").to_string(), format!("hf:a/b@{two}"));
        assert_eq!(HubName::of_snapshot(cache.path()), None);
    }
}
