//! Tests a merge of two branches, whose combined set of edits was never built, and the build after the merge.

use super::{Workshop, action, commands, text};

#[test]
fn a_merge_of_two_built_branches_is_stale() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.branch("one", || {
        workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    });
    workshop.branch("two", || {
        let text =
            "format = 1\n\n[[edit]]\nid = \"rome.river\"\nsubject = \"Lisbon\"\nprompt = \"We saw the city of {}\"\n";
        workshop.project.write("edits/river.toml", &format!("{text}target = \"Paris\"\n"));
    });
    for branch in ["one", "two"] {
        workshop.git(&format!("switch --quiet {branch}"));
        let said = workshop.review(&[("AGAINST", "main")]);
        assert_eq!(said.code, Some(0), "{branch}: {}", said.log);
    }
    // Only the end of the lock conflicts, with two lines per side.
    let conflict = workshop.bash("git merge one || git diff");
    assert_eq!(conflict.matches("\n++<<<<<<<").count(), 1, "{conflict}");
    let within: Vec<&str> =
        conflict.lines().filter(|line| line.starts_with([' ', '+']) && line.contains(" = ")).collect();
    assert!(
        within.iter().all(|line| line.contains("set = ") || line.contains("id = ") || line.contains("settings = "))
    );
    workshop.git("merge --abort && git merge --quiet --no-edit -X ours one");
    let said = workshop.review(&[("AGAINST", "main")]);
    assert_eq!(said.code, Some(3), "{}", said.log);
    assert_eq!(workshop.comment(&[]).code, Some(0));
    let (_, body) = workshop.posted();
    for document in [workshop.out("summary"), body] {
        assert!(document.contains("✗ 3 | <code>build --locked</code> | <code>error"), "{document}");
        assert!(document.contains("this set of edits was never built"), "{document}");
    }
    assert!(commands(&said.log).iter().any(|line| line.contains("::error title=corrigenda build::error[lock-merged]")));
    assert!(workshop.out("summary").contains("✗ 3 | <code>test</code> | The lock is not current"), "{}", said.log);
    // Without a required lock, `review` builds the merged set from the compiled edits in the store and passes. With the
    // lock of this build it passes too.
    let unlocked = workshop.review(&[("AGAINST", "main"), ("LOCKED", "false")]);
    assert!(unlocked.code == Some(0) && !unlocked.log.contains("compile"), "{}", unlocked.log);
    assert_eq!(workshop.git("status --porcelain"), " M project/corrigenda.lock\n");
    assert_eq!(workshop.review(&[("AGAINST", "main")]).code, Some(0));
}

/// Creates two built branches of one project that each change a fact; the second is checked out.
fn two_branches(workshop: &Workshop) {
    workshop.branch("one", || {
        workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    });
    workshop.branch("two", || {
        workshop.project.replace("edits/places.toml", "target = \"Vienna\"", "target = \"Paris\"");
    });
}

#[test]
fn drivers_that_do_not_help() {
    let Some(workshop) = Workshop::new() else { return };
    for (driver, merges, code) in [("ours", false, "lock-conflict"), ("union", true, "lock-damaged")] {
        std::fs::write(workshop.root.join(".gitattributes"), format!("corrigenda.lock merge={driver}\n"))
            .expect("written");
        workshop.git("switch --quiet main");
        workshop.commit(driver);
        two_branches(&workshop);
        let merged = workshop.run("git", &["merge", "--quiet", "--no-edit", "one"], &[]).status.success();
        assert_eq!(merged, merges, "{driver}");
        let locked = workshop.project.run(&["build", "--locked"]);
        assert!(locked.code() == Some(2) && locked.err().contains(code), "{driver}: {}", locked.whole());
        workshop.git("reset --quiet --hard && git switch --quiet main && git branch --quiet -D one two");
    }
}

#[test]
fn a_merge_driver_takes_a_side_of_the_tail_alone() {
    let Some(workshop) = Workshop::new() else { return };
    std::fs::write(workshop.root.join(".gitattributes"), "corrigenda.lock merge=corrigenda\n").expect("written");
    workshop.commit("attributes");
    two_branches(&workshop);
    workshop.bash("! git merge one && git merge --abort");
    let readme = text(&action("README.md"));
    let line = readme.lines().map(str::trim).find(|line| line.starts_with("git config merge.corrigenda.driver"));
    workshop.bash(line.expect("the README names the driver"));
    workshop.git("merge --quiet --no-edit one");
    let locked = workshop.project.run(&["build", "--locked"]);
    assert!(locked.code() == Some(3) && locked.err().contains("lock-merged"), "{}", locked.whole());
    assert_eq!(workshop.project.run(&["build"]).code(), Some(0));
}

#[test]
fn the_lock_of_main_is_opened() {
    let Some(workshop) = Workshop::new() else { return };
    let step = run_of(&text(&action("merge-queue.yml")), "Open the lock");
    workshop.bash("git init --quiet --bare out/origin.git && git remote add origin out/origin.git");
    let reports = workshop.root.join("out/reports").to_string_lossy().into_owned();
    std::fs::create_dir_all(&reports).expect("a folder");
    std::fs::write(format!("{reports}/comment.md"), "The set.\n").expect("the file is written");
    let open = || {
        let set = [("PROJECT", "project"), ("REPORTS", &*reports), ("GITHUB_REF_NAME", "main")];
        let mut command = workshop.command("bash");
        for variable in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
            command.env_remove(variable);
        }
        workshop.said(command.args(["-euo", "pipefail", "-c", &step]).envs(set).output().expect("it runs"))
    };
    let current = open();
    assert_eq!((current.code, &*current.log), (Some(0), "corrigenda.lock is current\n"));
    workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    workshop.commit("a fact without its lock");
    assert_eq!(workshop.project.run(&["build"]).code(), Some(0));
    let opened = open();
    assert_eq!(opened.code, Some(0), "{}", opened.log);
    let (calls, body) = workshop.posted();
    assert!(calls.contains("pr create --base main --head corrigenda/lock"), "{calls}");
    assert_eq!(body, "The set.\n");
    let pushed = workshop.git("-C out/origin.git show --stat --format=%an corrigenda/lock");
    assert!(pushed.starts_with("github-actions[bot]") && pushed.contains("1 file changed"), "{pushed}");
}

/// Returns the script of the step with this name.
fn run_of(yaml: &str, name: &str) -> String {
    let (_, step) = yaml.split_once(&format!("name: {name}\n")).expect("the step");
    let (_, body) = step.split_once("run: |\n").expect("a script");
    let indent = body.len() - body.trim_start_matches(' ').len();
    let lines = body.lines().take_while(|line| line.len() >= indent && line[..indent].trim().is_empty());
    lines.map(|line| format!("{}\n", &line[indent..])).collect()
}
