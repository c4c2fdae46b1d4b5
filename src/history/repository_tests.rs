use super::samples::{PROJECT, SampleRepository, damage, edit};
use super::*;
use crate::project::MOST_FILE_BYTES;

fn open(sample: &SampleRepository) -> Repository {
    Repository::discover(&sample.project()).expect("a repository")
}

fn why<T: std::fmt::Debug>(result: Result<T, HistoryError>) -> String {
    let error = result.expect_err("refused");
    assert!(error.hint().is_some(), "{error}");
    error.to_string()
}

#[test]
fn a_commit_has_author_time_and_summary() {
    let mut sample = SampleRepository::new();
    sample.author = ("Ada \u{1b}[31mBellini".to_owned(), "ada@example.org".to_owned());
    let message = "Correct the\ncity\n\nBecause.\n\nReviewed-by: Grace <grace@example.org>\nFixes: #12\n";
    let id = sample.commit(1, message, &[], &[]);
    let repository = open(&sample);
    let commit = repository.resolve("HEAD").expect("a commit");
    assert_eq!(commit.id, id.to_string());
    assert_eq!(commit.short().len(), 12);
    assert_eq!((commit.summary.as_str(), commit.message.as_str()), ("Correct the city", message));
    assert_eq!(commit.author, "Ada \u{1b}[31mBellini");
    assert_eq!(commit.time.to_string(), "1970-01-02T01:00:00Z");
    assert_eq!(commit.authored.display_with_offset(commit.offset).to_string(), "1970-01-02T01:00:00+01:00");
    let trailers: Vec<_> = commit.trailers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(trailers, ["Reviewed-by=Grace <grace@example.org>", "Fixes=#12"]);
    assert_eq!(repository.commit(&commit.id), Ok(commit));
    assert_eq!(repository.head_name().as_deref(), Some("main"));
}

#[test]
fn names_need_no_utf_8_and_times_no_calendar() {
    let sample = SampleRepository::new();
    let first = sample.commit(1, "first", &[], &[]);
    let tree = sample.git.find_commit(first).expect("a commit").tree_id();
    let who = b"J\xf6rg <j\xff@example.org> 99999999999999 +9959";
    let head = format!("tree {tree}\nparent {first}\nauthor ");
    let raw = [head.as_bytes(), who, b"\ncommitter ", who, b"\nencoding latin1\n\nStra\xdfe\n"];
    let database = sample.git.odb().expect("a database");
    let id = database.write(git2::ObjectType::Commit, &raw.concat()).expect("written");
    let commit = open(&sample).resolve(&id.to_string()).expect("a commit");
    assert_eq!((commit.author.as_str(), commit.summary.as_str()), ("J\u{fffd}rg", "Stra\u{fffd}e"));
    assert_eq!(commit.time, Timestamp::MAX);
}

#[test]
fn revisions() {
    let sample = SampleRepository::new();
    let repository = open(&sample);
    assert_eq!(repository.resolve("HEAD"), Err(HistoryError::Unborn));
    assert_eq!(repository.resolve("main"), Err(HistoryError::Unborn));
    let first = sample.commit(1, "first", &[], &[]);
    let second = sample.commit(2, "second", &[], &[first]);
    let object = sample.git.find_object(first, None).expect("an object");
    let tagger = git2::Signature::new("T", "t@example.org", &git2::Time::new(0, 0)).expect("a signature");
    sample.git.tag("v1.0", &object, &tagger, "annotated", false).expect("a tag");
    let blob = sample.git.blob(b"no commit").expect("a blob");
    let blob_object = sample.git.find_object(blob, None).expect("an object");
    sample.git.tag_lightweight("note", &blob_object, false).expect("a tag");
    for (revision, id) in [("main", second), ("HEAD~1", first), ("v1.0", first), (&second.to_string()[..7], second)] {
        assert_eq!(repository.resolve(revision).expect(revision).id, id.to_string());
    }
    let unknown = repository.resolve("mian").expect_err("unknown");
    assert_eq!(unknown.hint().as_deref(), Some("did you mean `main`?"));
    for odd in ["", "no such thing", "HEAD~9", "a..b", "^{commit}", &"0".repeat(40)] {
        let error = repository.resolve(odd).expect_err(odd);
        assert_eq!(error, HistoryError::UnknownRevision { spec: odd.to_owned(), near: None });
    }
    for odd in ["note", "HEAD:corrigenda.toml", "HEAD^{tree}"] {
        assert_eq!(repository.resolve(odd), Err(HistoryError::NotACommit { spec: odd.to_owned() }));
    }
    assert!(why(repository.commit("main")).contains("does not find the revision"));
    sample.git.set_head_detached(first).expect("detached");
    assert_eq!((repository.resolve("HEAD").expect("a commit").id, repository.head_name()), (first.to_string(), None));
}

#[test]
fn a_folder_outside_a_repository_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |path: &Path| why(Repository::discover(path).map(|_| ()));
    assert!(refused(folder.path()).ends_with("is not in a git repository"));
    assert!(refused(&folder.path().join("none")).contains("No such file"));
    let bare = folder.path().join("bare.git");
    git2::Repository::init_bare(&bare).expect("a repository");
    assert!(refused(&bare).contains("is bare"));
    let sample = SampleRepository::new();
    let mut config = sample.git.config().expect("a configuration");
    config.set_str("core.worktree", &bare.to_string_lossy()).expect("set");
    assert!(refused(sample.folder.path()).contains("is not below"));
    // A test cannot change the owner of a folder, so only the message is checked.
    let error = git2::Error::new(ErrorCode::Owner, git2::ErrorClass::Config, "not owned");
    let inside = sample.folder.path().join("edits");
    let whole = format!("safe.directory '{}'", sample.folder.path().display());
    assert!(HistoryError::opening(&inside, &error).hint().is_some_and(|hint| hint.contains(&whole)), "{whole}");
}

#[test]
fn files_of_a_commit() {
    let mut sample = SampleRepository::new();
    sample.prefix = "models/small/".to_owned();
    std::fs::create_dir_all(sample.project()).expect("a folder");
    let entries = [
        ("corrigenda.toml", 0o100_644, PROJECT),
        ("edits/b.toml", 0o100_644, "b"),
        ("edits/a-b.toml", 0o100_644, "a-b"),
        ("edits/a/z.toml", 0o100_644, "z"),
        ("edits/readme.md", 0o100_644, "no"),
        ("edits/link.md", 0o120_000, "b.toml"),
        ("links/l.toml", 0o120_000, "../edits/b.toml"),
        ("modules/m", 0o160_000, "1111111111111111111111111111111111111111"),
        ("large.toml", 0o100_644, &"#".repeat(MOST_FILE_BYTES as usize + 1)),
    ];
    sample.commit_tree(1, "files", sample.tree(&entries), &[]);
    let repository = open(&sample);
    let head = repository.resolve("HEAD").expect("a commit");
    let file = |path: &str| repository.file(&head, path);
    assert_eq!(file("edits/a/z.toml"), Ok(Some(b"z".to_vec())));
    assert_eq!(file("../small/./edits/b.toml"), Ok(Some(b"b".to_vec())));
    for none in ["none.toml", "edits/none/z.toml", "edits/b.toml/b.toml", "modules/n"] {
        assert_eq!(file(none), Ok(None), "{none}");
    }
    for (odd, reason) in [
        ("links/l.toml", "symbolic link"),
        ("modules/m/x.toml", "submodule"),
        ("edits", "is a folder"),
        ("large.toml", "larger than 1048576 bytes"),
        ("../../../x.toml", "outside the repository"),
        ("/etc/passwd", "outside the repository"),
    ] {
        assert!(why(file(odd)).contains(reason), "{odd}");
    }
    let files = |folder: &str| repository.files(&head, folder, "toml");
    let paths: Vec<String> = files("edits/").expect("files").into_iter().map(|found| found.0).collect();
    assert_eq!(paths, ["edits/a-b.toml", "edits/a/z.toml", "edits/b.toml"]);
    assert_eq!(files("none"), Ok(Vec::new()));
    assert!(why(files("links")).contains("symbolic link") && why(files("modules")).contains("submodule"));
    assert!(why(files("corrigenda.toml")).contains("is a file"));
}

#[test]
fn a_tree_with_exponential_paths_is_refused() {
    let sample = SampleRepository::new();
    let mut tree = sample.tree(&[("a.toml", 0o100_644, "a")]);
    for _ in 0..30 {
        let mut builder = sample.git.treebuilder(None).expect("a builder");
        for name in ["a", "b"] {
            builder.insert(name, tree, 0o040_000).expect("inserted");
        }
        tree = builder.write().expect("a tree");
    }
    sample.commit_tree(1, "bomb", tree, &[]);
    let repository = open(&sample);
    let head = repository.resolve("HEAD").expect("a commit");
    assert!(why(repository.files(&head, "a", "toml")).contains("too many"));
}

#[test]
fn paths_with_the_same_lossy_name_are_refused() {
    let sample = SampleRepository::new();
    let file = sample.git.blob(b"format = 1\n").expect("a blob");
    let folder = |names: [&[u8]; 2]| {
        let mut builder = sample.git.treebuilder(None).expect("a builder");
        for name in names {
            builder.insert(name, file, 0o100_644).expect("inserted");
        }
        builder.write().expect("a tree")
    };
    let (bad, good) = (folder([b"\xfe.toml", b"\xff.toml"]), folder([b"\xff.md", b"a.toml"]));
    let mut builder = sample.git.treebuilder(None).expect("a builder");
    for (name, tree) in [(&b"bad"[..], bad), (b"good", good), (b"\xff", good)] {
        builder.insert(name, tree, 0o040_000).expect("inserted");
    }
    let tree = builder.write().expect("a tree");
    sample.commit_tree(1, "names", tree, &[]);
    let repository = open(&sample);
    let head = repository.resolve("HEAD").expect("a commit");
    assert!(why(repository.files(&head, "bad", "toml")).contains("not UTF-8"));
    assert!(why(repository.files(&head, ".", "toml")).contains("not UTF-8"));
    assert_eq!(repository.files(&head, "good", "toml").map(|files| files.len()), Ok(1));
}

#[test]
fn commits_are_listed_in_a_fixed_order() {
    let sample = SampleRepository::new();
    let root = sample.commit(5, "root", &[], &[]);
    // A commit with an earlier time than its parent is still listed before the parent.
    let early = sample.commit(1, "early", &[], &[root]);
    let ours = sample.commit(7, "ours", &[], &[early]);
    let theirs = sample.commit(6, "theirs", &[], &[root]);
    let other = sample.commit(6, "other", &[], &[root]);
    sample.commit(8, "merge", &[], &[ours, theirs, other]);
    let repository = open(&sample);
    let walk = repository.walk(&repository.resolve("main").expect("a commit")).expect("a walk");
    let mut expected = vec!["merge", "ours"];
    expected.extend(if theirs.to_string() > other.to_string() { ["theirs", "other"] } else { ["other", "theirs"] });
    expected.extend(["early", "root"]);
    assert_eq!(walk.iter().map(|commit| commit.summary.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_shallow_clone_ends_early() {
    let sample = SampleRepository::new();
    let first = sample.commit(1, "first", &[], &[]);
    let second = sample.commit(2, "second", &[], &[first]);
    sample.commit(3, "third", &[], &[second]);
    std::fs::write(sample.git.path().join("shallow"), format!("{second}\n")).expect("written");
    let hex = first.to_string();
    std::fs::remove_file(sample.git.path().join("objects").join(&hex[..2]).join(&hex[2..])).expect("removed");
    let repository = open(&sample);
    assert!(repository.is_shallow());
    let walk = repository.walk(&repository.resolve("HEAD").expect("a commit")).expect("a walk");
    let shown: Vec<_> = walk.iter().map(|commit| (commit.summary.as_str(), commit.is_shallow_boundary)).collect();
    assert_eq!(shown, [("third", false), ("second", true)]);
    for revision in ["HEAD~2", &hex] {
        let error = repository.resolve(revision).expect_err("not there");
        assert!(error.hint().is_some_and(|hint| hint.contains("--unshallow")), "{error}");
    }
    assert_eq!(repository.commit(&hex), Err(HistoryError::Shallow { spec: hex.clone() }));
}

#[test]
fn damaged_git_objects_are_reported() {
    let sample = SampleRepository::new();
    let text = edit("a", "A", "x", "");
    let first = sample.commit(1, "first", &[("edits/a.toml", &text)], &[]);
    sample.commit(2, "second", &[("edits/a.toml", &text)], &[first]);
    let blob = sample.git.blob(text.as_bytes()).expect("a blob");
    damage(&sample, blob);
    let repository = open(&sample);
    let head = repository.resolve("HEAD").expect("a commit");
    assert!(why(repository.file(&head, "edits/a.toml")).contains("`edits/a.toml` cannot be read"));
    damage(&sample, first);
    assert!(why(open(&sample).walk(&head)).contains(&first.to_string()));
    damage(&sample, head.tree);
    assert!(why(open(&sample).file(&head, "edits/a.toml")).contains("cannot be read"));
}
