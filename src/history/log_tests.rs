use super::super::samples::{SampleRepository, damage, edit, lock};
use super::*;

/// Formats the log of the branch `main`: one line per commit, each followed by one line for every fact that the commit
/// changed.
fn log_text(sample: &SampleRepository) -> String {
    let repository = Repository::discover(&sample.project()).expect("a repository");
    let head = repository.resolve("main").expect("a commit");
    words(&log(&repository, &head, None).expect("a log"))
}

fn words(log: &Log) -> String {
    let mut out = String::new();
    for entry in &log.entries {
        out += &format!("{}\n", entry.commit.summary);
        for fact in &entry.facts {
            let shown = |field: &crate::project::edits::diff::FieldChange| {
                format!(" {} {}→{}", field.name, field.before.join("|"), field.after.join("|"))
            };
            let fields: String = fact.fields.iter().filter(|field| field.name != "prompt").map(shown).collect();
            out += &format!("  {} {}:{fields}\n", fact.change.sign(), fact.id);
        }
        if let Some(why) = &entry.unreadable {
            out += &format!("  ! {why}\n");
        }
        if entry.patch != entry.before {
            out += &format!("  {:?} → {:?}\n", short(&entry.before), short(&entry.patch));
        }
    }
    let ids: Vec<&str> = log.facts.edits.iter().map(|edit| edit.id.as_str()).collect();
    out + &format!("now {} {:?}\n", ids.join(" "), short(&log.patch))
}

fn short(patch: &RecordedPatch) -> String {
    patch.id().map_or_else(|| format!("{patch:?}"), Digest::short)
}

#[test]
fn the_log_lists_changes_of_facts() {
    let sample = SampleRepository::new();
    let (a, b) = (edit("a", "A", "x", ""), edit("b", "B", "x", ""));
    let mut id = sample.commit(1, "empty", &[("README.md", "a project")], &[]);
    id = sample.commit(2, "two facts", &[("edits/a.toml", &a), ("edits/b.toml", &b)], &[id]);
    id = sample.commit(3, "moved to another file", &[("edits/z.toml", &a), ("edits/b.toml", &b)], &[id]);
    let changed = edit("a", "A", "y", "reason = \"It moved.\"");
    id = sample.commit(4, "changed", &[("edits/a.toml", &changed), ("edits/b.toml", &b)], &[id]);
    let renamed = edit("a.city", "A", "y", "reason = \"It moved.\"");
    id = sample.commit(5, "renamed", &[("edits/a.toml", &renamed), ("edits/b.toml", &b)], &[id]);
    id = sample.commit(6, "removed", &[("edits/a.toml", &renamed)], &[id]);
    let other = edit("a", "Another", "z", "");
    sample.commit(7, "the old id again", &[("edits/a.toml", &renamed), ("edits/other.toml", &other)], &[id]);
    insta::assert_snapshot!(log_text(&sample));
    let repository = Repository::discover(&sample.project()).expect("a repository");
    let all = log(&repository, &repository.resolve("main").expect("a commit"), None).expect("a log");
    assert_eq!(all.ids(), BTreeSet::from(["a", "a.city", "b"]));
    insta::assert_snapshot!(words(&all.clone().follow("a.city")));
    assert_eq!(all.follow("b").entries.len(), 2);
}

#[test]
fn the_folder_of_edits_may_move() {
    let mut sample = SampleRepository::new();
    sample.prefix = "deep/project/".to_owned();
    std::fs::create_dir_all(sample.project()).expect("a folder");
    let a = edit("a", "A", "x", "");
    let mut id = sample.commit(1, "edits", &[("edits/a.toml", &a)], &[]);
    // The folder of edits is read even if the rest of the project file has errors.
    let project = "edits = \"facts\"\nmodle = 1\n[[";
    id = sample.commit(2, "facts", &[("corrigenda.toml", project), ("facts/a.toml", &a)], &[id]);
    id = sample.commit(
        3,
        "a folder that is not there",
        &[("corrigenda.toml", "edits = \"../facts\""), ("facts/a.toml", &a)],
        &[id],
    );
    sample.commit(4, "outside", &[("corrigenda.toml", "edits = \"../../../facts\"")], &[id]);
    insta::assert_snapshot!(log_text(&sample));
}

#[test]
fn an_unreadable_commit_is_reported_once() {
    let sample = SampleRepository::new();
    let (a, b) = (edit("a", "A", "x", ""), edit("b", "B", "x", ""));
    let mut id = sample.commit(1, "good", &[("edits/a.toml", &a)], &[]);
    id = sample.commit(2, "broken", &[("edits/a.toml", "format = 1\n[[edit]]\nid = \nsubjct = 1\n")], &[id]);
    id = sample.commit(3, "still", &[("edits/a.toml", "format = 1\n[[edit]]\nid = \nsubjct = 1\n")], &[id]);
    id = sample.commit(4, "mended", &[("edits/a.toml", &a), ("edits/b.toml", &b)], &[id]);
    let tree = sample.tree(&[("corrigenda.toml", 0o100_644, ""), ("edits/a.toml", 0o120_000, "/etc/passwd")]);
    id = sample.commit_tree(5, "a link", tree, &[id]);
    let c = edit("c", "C", "x", "");
    id = sample.commit(6, "damaged", &[("edits/c.toml", &c)], &[id]);
    damage(&sample, sample.git.blob(c.as_bytes()).expect("a blob"));
    let projectless = sample.tree(&[("corrigenda.toml", 0o120_000, "x")]);
    sample.commit_tree(7, "no project file", projectless, &[id]);
    insta::assert_snapshot!(log_text(&sample));
}

#[test]
fn merges() {
    let sample = SampleRepository::new();
    let (a, b) = (edit("a", "A", "x", ""), edit("b", "B", "x", ""));
    let root = sample.commit(1, "root", &[("edits/a.toml", &a)], &[]);
    let changed = edit("a", "A", "y", "");
    let ours = sample.commit(2, "ours", &[("edits/a.toml", &changed)], &[root]);
    let theirs = sample.commit(3, "theirs", &[("edits/a.toml", &a), ("edits/b.toml", &b)], &[root]);
    let clean = [("edits/a.toml", changed.as_str()), ("edits/b.toml", &b)];
    let merge = sample.commit(4, "clean merge", &clean, &[ours, theirs]);
    let same = sample.commit(5, "merge of ours", &clean, &[merge, theirs]);
    let evil = edit("a", "A", "z", "");
    sample.commit(6, "evil merge", &[("edits/a.toml", &evil), ("edits/b.toml", &b)], &[same, theirs]);
    insta::assert_snapshot!(log_text(&sample));
}

#[test]
fn the_log_lists_the_patches_of_the_locks() {
    let sample = SampleRepository::new();
    let a = edit("a", "A", "x", "");
    let file = ("edits/a.toml", a.as_str());
    let mut id = sample.commit(1, "no lock", &[file], &[]);
    id = sample.commit(2, "built", &[file, ("corrigenda.lock", &lock("1a"))], &[id]);
    id = sample.commit(3, "a word", &[file, ("corrigenda.lock", &lock("1a")), ("README.md", "x")], &[id]);
    let theirs = sample.commit(4, "built anew", &[file, ("corrigenda.lock", &lock("2b"))], &[id]);
    id = sample.commit(5, "conflict", &[file, ("corrigenda.lock", "<<<<<<< ours\n")], &[id]);
    id = sample.commit(6, "taken", &[file, ("corrigenda.lock", &lock("2b"))], &[id, theirs]);
    sample.commit(7, "lock removed", &[file], &[id]);
    insta::assert_snapshot!(log_text(&sample));
}

#[test]
fn as_of_returns_the_last_commit_before_a_time() {
    let sample = SampleRepository::new();
    let first = sample.commit(1, "first", &[], &[]);
    let side = sample.commit(2, "side", &[], &[first]);
    let second = sample.commit(4, "second", &[], &[first]);
    sample.commit(6, "merge", &[], &[second, side]);
    let repository = Repository::discover(&sample.project()).expect("a repository");
    let head = repository.resolve("main").expect("a commit");
    let at = |day: i64| {
        let instant = Timestamp::from_second(day * 86_400 + 86_399).expect("a time");
        as_of(&repository, &head, instant).expect("readable").map(|commit| commit.summary)
    };
    let days = [0, 1, 2, 3, 4, 5, 6, 99].map(at);
    let shown = days.iter().map(|day| day.as_deref().unwrap_or("none")).collect::<Vec<_>>();
    assert_eq!(shown, ["none", "first", "first", "first", "second", "second", "merge", "merge"]);
}
