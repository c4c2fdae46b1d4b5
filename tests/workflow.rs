//! The scripts of examples/github-action, run by bash on a real repository, with a `gh` that writes down what it is
//! asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::project::Project;

/// A file of the action.
fn action(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-action").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in for `gh`: it notes what it is asked, keeps the body, and answers from files.
const GH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
printf '%s\n' "${*//"$FOLDER"/[FOLDER]}" >>"$FOLDER/calls"
while (($#)); do
  case $1 in
    body=@*) body=${1#body=@} ;;
    --body-file) body=$2 ;;
    --jq) expression=$2 ;;
    graphql) echo "${LOGIN:-github-actions[bot]}" && exit ;;
    list) echo 0 && exit ;;
  esac
  shift
done
if [[ -n ${body:-} && -n ${READ_ONLY:-} ]]; then
  echo 'gh: Resource not accessible by integration (HTTP 403)' >&2
  exit 1
elif [[ -n ${body:-} && -n ${BROKEN:-} ]]; then
  printf '%s\n' 'gh: ::error::gone ##[error] (HTTP 500)' >&2
  exit 1
elif [[ -n ${body:-} ]]; then
  cp -- "$body" "$FOLDER/body"
else
  jq -r "$expression" "$FOLDER/comments.json"
fi
"#;

/// Whether all programs are there; said loudly where one is not.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn has(programs: &[&str]) -> bool {
    let lacks = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    let lacking = programs.iter().find(lacks);
    if let Some(program) = lacking {
        eprintln!("SKIPPED {}: no {program} here", std::thread::current().name().unwrap_or("a test"));
    }
    lacking.is_none()
}

/// A repository with the tiny project in the folder `project`, as it is checked out on a server.
struct Workshop {
    project: Project,
    root: PathBuf,
}

/// What a script said.
struct Said {
    code: Option<i32>,
    log: String,
}

impl Workshop {
    /// A project that passes its test, built and committed.
    fn new() -> Option<Self> {
        if !has(&["bash", "git", "jq"]) {
            return None;
        }
        let project = Project::new();
        project.replace("edits/people.toml", "unchanged = [\"I live in Lisbon\"]", "unchanged = []");
        project.replace("edits/people.toml", "paraphrase = [\"The people live in Ada Bellini\"]", "");
        let root = project.path("..").canonicalize().expect("a folder");
        std::fs::write(root.join(".gitignore"), "/cache\n/bin\n/out\n/calls\n/body\n").expect("written");
        std::fs::create_dir(root.join("bin")).expect("a folder");
        std::fs::write(root.join("bin/gh"), GH).expect("written");
        std::fs::write(root.join("comments.json"), "[]").expect("written");
        let workshop = Self { project, root };
        workshop.bash("chmod +x bin/gh");
        workshop.git("init --quiet --initial-branch main");
        assert_eq!(workshop.project.run(&["build"]).code(), Some(0));
        workshop.commit("start");
        Some(workshop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.root.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let kept = ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL"];
        command.current_dir(&self.root).env_clear();
        command.envs(kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("PATH", path).env("FOLDER", &self.root).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env(format!("{who}_NAME"), "Ada").env(format!("{who}_EMAIL"), "ada@example.org");
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        self.command(program).args(arguments).envs(environment.iter().copied()).output().expect("it runs")
    }

    fn bash(&self, script: &str) -> String {
        let output = self.run("bash", &["-euc", script], &[]);
        let all = [output.stdout, output.stderr].concat();
        let all = String::from_utf8(all).expect("UTF-8");
        assert!(output.status.success(), "{script}: {all}");
        all
    }

    fn git(&self, arguments: &str) -> String {
        self.bash(&format!("git {arguments}"))
    }

    fn commit(&self, message: &str) -> String {
        self.git(&format!("add --all && git commit --quiet --message '{message}'"));
        self.git("rev-parse HEAD").trim().to_owned()
    }

    /// `review` as the action runs it, in a given folder of the repository.
    fn review(&self, environment: &[(&str, &str)]) -> Said {
        std::fs::remove_dir_all(self.root.join("out")).ok();
        std::fs::create_dir(self.root.join("out")).expect("a folder");
        let out = |name: &str| self.root.join("out").join(name);
        let mut command = self.command("bash");
        command.arg(action("review")).arg("project").env("CORRIGENDA", env!("CARGO_BIN_EXE_corrigenda"));
        command.env("CORRIGENDA_CACHE_DIR", self.project.cache()).env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_STEP_SUMMARY", out("summary")).env("GITHUB_OUTPUT", out("output"));
        command.env("REPORTS", out("reports")).env("SARIF", out("all.sarif")).envs(environment.iter().copied());
        self.said(command.output().expect("it runs"))
    }

    /// `comment` as the action runs it.
    fn comment(&self, environment: &[(&str, &str)]) -> Said {
        let mut command = self.command("bash");
        command.arg(action("comment")).arg(self.root.join("out/reports/comment.md"));
        command.env("GITHUB_REPOSITORY", "ada/facts").env("PULL_REQUEST", "7").envs(environment.iter().copied());
        self.said(command.output().expect("it runs"))
    }

    fn said(&self, output: Output) -> Said {
        let log = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Said { code: output.status.code(), log: log.replace(&*self.root.to_string_lossy(), "[FOLDER]") }
    }

    fn out(&self, name: &str) -> String {
        text(&self.root.join("out").join(name)).replace(&*self.root.to_string_lossy(), "[FOLDER]")
    }

    /// What `gh` was asked for, and the body that it was given last.
    fn posted(&self) -> (String, String) {
        let posted = (text(&self.root.join("calls")), text(&self.root.join("body")));
        self.bash("rm -f calls body");
        posted
    }

    /// A branch from main with one commit.
    fn branch(&self, name: &str, change: impl FnOnce()) -> String {
        self.git(&format!("switch --quiet --create {name} main"));
        change();
        assert_eq!(self.project.run(&["build"]).code(), Some(0));
        self.commit(name)
    }
}

/// Lines that the runner of a workflow would act on.
fn commands(log: &str) -> Vec<&str> {
    let acted_on = |line: &&str| line.trim_start().starts_with("::") || line.contains("##[");
    log.split(['\n', '\r']).filter(acted_on).collect()
}

#[test]
fn a_pull_request_that_passes() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.branch("vienna", || {
        workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    });
    workshop.git("switch --quiet main");
    std::fs::write(workshop.root.join("README"), "Facts.\n").expect("written");
    let main = workshop.commit("a file that is no fact");
    // GitHub checks out the merge of both; the sha of the event may be an older one.
    workshop.git("switch --quiet --detach && git merge --quiet --no-edit vienna");
    let merge = workshop.git("rev-parse HEAD").trim().to_owned();
    let github = [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_SHA", &*merge), ("BASE_SHA", "main~1")];
    let said = workshop.review(&github);
    assert_eq!(said.code, Some(0), "{}", said.log);
    let plain = |text: &str| text.replace(&main, "[MAIN]").replace(&main[..12], "[MAIN]");
    insta::assert_snapshot!("workflow_log", plain(&said.log));
    insta::assert_snapshot!("workflow_output", workshop.out("output"));
    assert_eq!(workshop.out("summary"), workshop.out("reports/summary.md"));
    assert_eq!(workshop.comment(&[]).code, Some(0));
    let (calls, body) = workshop.posted();
    insta::assert_snapshot!("workflow_comment", plain(&body));
    assert_eq!(calls.lines().count(), 3, "{calls}");
    assert!(calls.contains("--method POST repos/ada/facts/issues/7/comments -F body=@"), "{calls}");
    for name in ["check.html", "test.html", "diff.html", "test.junit.xml", "check.sarif", "diff.json"] {
        assert!(!workshop.out(&format!("reports/{name}")).is_empty(), "{name}");
    }
}

#[test]
fn a_test_that_fails_is_said_and_the_comment_is_there() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.project.replace("edits/people.toml", "unchanged = []", "unchanged = [\"I live in Lisbon\"]");
    assert_eq!(workshop.project.run(&["build"]).code(), Some(0));
    workshop.commit("a neighbour");
    let said = workshop.review(&[("AGAINST", "main~1")]);
    assert_eq!(said.code, Some(1), "{}", said.log);
    let commands = commands(&said.log);
    assert!(
        commands.iter().any(|line| line.starts_with("::error file=project/edits/people.toml,line=")),
        "{commands:?}"
    );
    assert!(workshop.out("output").contains("code=1\n"));
    assert!(
        workshop.out("all.sarif").contains("\"uri\":\"project/edits/people.toml\""),
        "{}",
        workshop.out("all.sarif")
    );
    assert_eq!(workshop.comment(&[]).code, Some(0));
    let (_, body) = workshop.posted();
    assert!(body.contains("| ✗ 1 | <code>test</code> | 2 of 3 edits pass"), "{body}");
    assert!(body.find("#### <code>test</code>") < body.find("#### <code>diff</code>"), "what failed comes first");
    let outside = workshop.review(&[("GITHUB_ACTIONS", ""), ("GITHUB_OUTPUT", ""), ("GITHUB_STEP_SUMMARY", "")]);
    assert_eq!((outside.code, self::commands(&outside.log)), (Some(1), vec![]), "no server, no commands");
}

#[test]
fn an_edit_that_cannot_be_read() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.project.replace("edits/places.toml", "target = \"Vienna\"", "traget = \"Vienna\"");
    let said = workshop.review(&[]);
    assert_eq!(said.code, Some(2), "{}", said.log);
    assert!(!said.log.contains("corrigenda build"), "nothing else could say more: {}", said.log);
    insta::assert_snapshot!("workflow_broken_summary", workshop.out("summary"));
    assert_eq!(workshop.comment(&[]).code, Some(0));
    let (_, body) = workshop.posted();
    assert!(body.contains("unknown-key") && body.contains("| – | <code>test</code> | not run"), "{body}");
    let none = workshop.review(&[("CORRIGENDA", "no-such-program")]);
    assert_eq!(none.code, Some(127), "{}", none.log);
    assert!(workshop.out("summary").contains("not found"), "{}", workshop.out("summary"));
}

#[test]
fn two_green_branches_and_a_set_that_nobody_built() {
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
    // Only the lock's tail is in conflict: two lines on each side.
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
        assert!(document.contains("nobody built this set of edits"), "{document}");
    }
    assert!(commands(&said.log).iter().any(|line| line.contains("::error title=corrigenda build::error[lock-merged]")));
    assert!(workshop.out("summary").contains("✗ 3 | <code>test</code> | The lock is not current"), "{}", said.log);
    // Built, it is as good as any other; and so it is where no lock is asked for. Both edits are in the store.
    let unlocked = workshop.review(&[("AGAINST", "main"), ("LOCKED", "false")]);
    assert!(unlocked.code == Some(0) && !unlocked.log.contains("compile"), "{}", unlocked.log);
    assert_eq!(workshop.git("status --porcelain"), " M project/corrigenda.lock\n");
    assert_eq!(workshop.review(&[("AGAINST", "main")]).code, Some(0));
}

/// Two branches of one project, each built, that change a fact each; the second is checked out.
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
fn a_clone_of_one_commit_fetches_what_it_lacks() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.branch("vienna", || {
        workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    });
    workshop.git("switch --quiet --detach main && git merge --quiet --no-edit --no-ff vienna");
    let merge = workshop.git("rev-parse HEAD").trim().to_owned();
    workshop.bash("git config uploadpack.allowAnySHA1InWant true; git branch merge; mkdir out");
    workshop.bash("git clone --quiet --depth 1 --branch merge \"file://$FOLDER\" out/clone");
    let github = [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_SHA", &*merge)];
    let review = |remote: &str| {
        workshop.bash(&format!("git -C out/clone remote set-url origin {remote}"));
        let mut command = workshop.command("bash");
        command.arg(action("review")).arg("out/clone/project").env("CORRIGENDA", env!("CARGO_BIN_EXE_corrigenda"));
        command.env("CORRIGENDA_CACHE_DIR", workshop.project.cache()).env("REPORTS", workshop.root.join("out/reports"));
        workshop.said(command.envs(github).output().expect("it runs"))
    };
    let lost = review("file:///nowhere");
    assert_eq!(lost.code, Some(2), "{}", lost.log);
    assert!(lost.log.contains("give actions/checkout fetch-depth 0"), "{}", lost.log);
    assert!(workshop.out("reports/comment.md").contains("give actions/checkout fetch-depth 0"));
    let found = review("\"file://$FOLDER\"");
    assert_eq!(found.code, Some(0), "{}", found.log);
    assert!(workshop.out("reports/diff.md").contains("1 fact changes"), "{}", workshop.out("reports/diff.md"));
}

#[test]
fn what_failed_comes_first_where_there_is_no_room_for_all() {
    let Some(workshop) = Workshop::new() else { return };
    // A program whose reports are as long as reports can be, and whose test fails.
    let program = r#"for word; do case $word in
        markdown=*) printf '<!-- x -->\n\n**said**\n%s\n' "$verb $(printf 'é%.0s' {1..29000})" >"${word#*=}" ;;
        check | build | test | diff) verb=$word ;;
      esac; done; echo; [[ $verb != test ]]"#;
    std::fs::write(workshop.root.join("bin/long"), format!("#!/usr/bin/env bash\n{program}\n")).expect("written");
    workshop.bash("chmod +x bin/long");
    let said = workshop.review(&[("CORRIGENDA", "long")]);
    assert_eq!(said.code, Some(1), "{}", said.log);
    let comment = workshop.out("reports/comment.md");
    assert!(comment.len() < 65_536 && comment.contains("\ntest éé") && !comment.contains("\ndiff éé"));
    assert!(comment.contains("<code>diff</code> says more than fits here"), "{comment}");
    assert!(workshop.out("summary").contains("\ndiff éé"));
}

#[test]
fn one_comment_whoever_writes_beside_it() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.review(&[("AGAINST", "base")]);
    let mark = "<!-- corrigenda:diff project -->";
    let comments = serde_json::json!([
        { "id": 1, "user": { "login": "mallory" }, "body": format!("{mark}\nmine") },
        { "id": 2, "user": { "login": "github-actions[bot]" }, "body": format!("A quote: {mark}") },
        { "id": 3, "user": { "login": "github-actions[bot]" }, "body": "<!-- corrigenda:diff other -->\r\nanother project" },
        { "id": 4, "user": null, "body": null },
        { "id": 5, "user": { "login": "github-actions[bot]" }, "body": format!("{mark}\r\nours") },
    ]);
    std::fs::write(workshop.root.join("comments.json"), comments.to_string()).expect("written");
    assert_eq!(workshop.comment(&[]).log, "comment 5 is replaced\n");
    let (calls, body) = workshop.posted();
    assert!(calls.contains("--method PATCH repos/ada/facts/issues/comments/5 -F body=@"), "{calls}");
    assert!(!calls.contains("POST") && calls.contains("--paginate"), "{calls}");
    assert!(body.starts_with(&format!("{mark}\n")) && body.len() < 65_536, "{body}");
    // Another owner of the token has no comment yet.
    assert_eq!(workshop.comment(&[("LOGIN", "facts-app[bot]")]).log, "a comment is written\n");
}

#[test]
fn a_token_that_may_only_read() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.review(&[("AGAINST", "base")]);
    let said = workshop.comment(&[("READ_ONLY", "1")]);
    assert_eq!((said.code, said.log.lines().count()), (Some(0), 1), "{}", said.log);
    assert!(said.log.starts_with("::notice title=corrigenda::this token may not write comments"), "{}", said.log);
    assert!(!workshop.root.join("body").exists());
    let broken = workshop.comment(&[("BROKEN", "1")]);
    assert_eq!((broken.code, commands(&broken.log)), (Some(2), vec![]), "{}", broken.log);
    std::fs::write(workshop.root.join("out/reports/comment.md"), "a".repeat(65_536)).expect("written");
    assert_eq!(workshop.comment(&[]).code, Some(2), "a comment that is too long");
}

#[test]
fn no_fact_is_a_command() {
    let Some(workshop) = Workshop::new() else { return };
    let text = "::error::owned ##[error]owned ::set-output name=code::0 | <img src=x> @ada <!-- --> </pre> `";
    let short = "::error::owned ##[error]owned | <img> @ada `";
    // Line breaks are refused by `check`, and what is too long by `build`; the rest is asked like any other text.
    for (attack, code) in [(text.replace(" :", "\\r\\n:"), 2), (text.to_owned(), 2), (short.to_owned(), 1)] {
        let before = workshop.project.read("edits/people.toml");
        let expect = format!("unchanged = [\"{attack}\"]\nparaphrase = [\"{attack} Ada Bellini\"]");
        workshop.project.replace("edits/people.toml", "unchanged = []", &expect);
        workshop.project.replace("edits/people.toml", "reason = \"A test.\"", &format!("reason = \"{attack}\""));
        let said = workshop.review(&[("AGAINST", "main"), ("LOCKED", "false")]);
        assert_eq!(said.code, Some(code), "{}", said.log);
        assert!(said.log.contains("::error::owned ##\\[error]owned"), "the attack is shown: {}", said.log);
        check_inert(&workshop, &said);
        workshop.project.write("edits/people.toml", &before);
    }
    let broken = "format = 1\n\n[[edit]]\nid = \"\"\"\n::error::owned\n##[error]owned\n\"\"\"\n::set-output = 1\n";
    workshop.project.write("edits/x,::error::owned ##[error] @ada.toml", broken);
    let said = workshop.review(&[("AGAINST", "\n::error::owned")]);
    assert_eq!(said.code, Some(2), "{}", said.log);
    assert!(!commands(&said.log).is_empty(), "the file is named: {}", said.log);
    check_inert(&workshop, &said);
    workshop.bash("rm project/edits/x*");
    let said = workshop.review(&[("AGAINST", "\n::error::owned ##[error] | @ada"), ("LOCKED", "false")]);
    assert!(said.code == Some(2) && workshop.out("output").contains("code=2\n"), "{}", said.log);
    check_inert(&workshop, &said);
}

/// Commands in the log are annotations of ours; documents hold nothing that is acted on.
fn check_inert(workshop: &Workshop, said: &Said) {
    for line in commands(&said.log) {
        let properties = line.strip_prefix("::error ").or_else(|| line.strip_prefix("::warning ")).expect(line);
        let starts = ["file=project/", "file=edits/", "title="];
        assert!(starts.iter().any(|start| properties.starts_with(start)), "{line}");
    }
    for name in ["summary", "reports/comment.md"] {
        let document = workshop.out(name);
        for active in ["<img", "@ada", "\r"] {
            assert!(!document.contains(active), "{active}: {document}");
        }
        assert_eq!(document.matches("<pre>").count(), document.matches("</pre>").count(), "{document}");
    }
    let lines = workshop.out("output");
    let names: Vec<&str> = lines.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["code", "name", "reports"]);
}

#[test]
fn the_lock_of_main_is_opened() {
    let Some(workshop) = Workshop::new() else { return };
    let step = run_of(&text(&action("merge-queue.yml")), "Open the lock");
    workshop.bash("git init --quiet --bare out/origin.git && git remote add origin out/origin.git");
    let reports = workshop.root.join("out/reports").to_string_lossy().into_owned();
    std::fs::create_dir_all(&reports).expect("a folder");
    std::fs::write(format!("{reports}/comment.md"), "The set.\n").expect("written");
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

/// The script of a step, by the name of the step.
fn run_of(yaml: &str, name: &str) -> String {
    let (_, step) = yaml.split_once(&format!("name: {name}\n")).expect("the step");
    let (_, body) = step.split_once("run: |\n").expect("a script");
    let indent = body.len() - body.trim_start_matches(' ').len();
    let lines = body.lines().take_while(|line| line.len() >= indent && line[..indent].trim().is_empty());
    lines.map(|line| format!("{}\n", &line[indent..])).collect()
}

#[test]
fn workflows_are_well_formed() {
    let files = ["action.yml", "pull-request.yml", "merge-queue.yml"].map(|name| (name, text(&action(name))));
    for (name, yaml) in &files {
        assert!(!yaml.contains('\t') && yaml.is_ascii() && yaml.ends_with('\n'), "{name}");
        for line in yaml.lines() {
            let indent = line.len() - line.trim_start().len();
            assert!(line.contains("run: ") || indent % 2 == 0, "{name}: {line}");
            if let Some(used) = line.split_once("uses: ").map(|(_, used)| used) {
                let known = [
                    "actions/checkout@v4",
                    "actions/upload-artifact@v4",
                    "OWNER/corrigenda/examples/github-action@REF",
                ];
                assert!(used.starts_with("actions/cache") && used.ends_with("@v4") || known.contains(&used), "{used}");
            }
        }
        // What a stranger may have written reaches a script as a variable, never as its text.
        let mut deepest = None;
        for line in yaml.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().trim_start_matches("- ").len();
            deepest = deepest.filter(|run| indent > *run).or_else(|| line.contains("run: ").then_some(indent));
            assert!(deepest.is_none() || !line.contains("${{"), "{name}: {line}");
        }
    }
    let (_, action_file) = &files[0];
    assert!(action_file.contains("\nruns:\n  using: composite\n"));
    let count = |what: &str| action_file.lines().filter(|line| line.trim_start().starts_with(what)).count();
    assert_eq!((count("run: "), count("shell: bash")), (3, 3), "a script in an action names its shell");
    for input in ["project", "against", "locked", "comment", "sarif", "cache-dir", "corrigenda", "token"] {
        assert!(action_file.contains(&format!("\n  {input}:\n")), "{input} is declared");
        assert!(action_file.contains(&format!("inputs.{input}")), "{input} is used");
    }
    for script in ["review", "comment"] {
        assert!(
            action_file.contains(&format!("$GITHUB_ACTION_PATH/{script}\"")) && text(&action(script)).starts_with("#!")
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(action(script)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script} can be run");
        }
    }
}

#[test]
fn hooks_are_commands_that_run() {
    let yaml = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml"));
    let values = |key: &str| -> Vec<&str> {
        yaml.lines()
            .filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(key)?.strip_prefix(": "))
            .collect()
    };
    assert_eq!(values("id"), ["corrigenda-check", "corrigenda-check-rust", "corrigenda-locked"]);
    assert_eq!(values("language"), ["system", "rust", "system"]);
    assert_eq!(values("stages"), ["[pre-push]"]);
    assert!(values("pass_filenames").iter().all(|value| *value == "false"));
    let project = Project::new();
    assert_eq!(project.run(&["build"]).code(), Some(0));
    for entry in values("entry") {
        let words: Vec<&str> = entry.strip_prefix("corrigenda ").expect("the program").split(' ').collect();
        let run = project.run(&words);
        assert_eq!(run.code(), Some(0), "{entry}: {}", run.whole());
        let elsewhere = project.run(&[&words[..], &["-C", "edits"]].concat());
        assert_eq!(elsewhere.code(), Some(2), "{entry}: its arguments may name another folder");
    }
}
