//! Runs the scripts of examples/github-action with bash on a real repository, with a replacement for `gh` that records
//! its calls.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::project::Project;

mod files;
mod merges;
mod own;
mod review;

/// Returns the path of a file in examples/github-action.
fn action(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-action").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The replacement for `gh`: it records the arguments, stores the body, and answers from files.
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

/// Returns whether all programs exist; reports a missing program as the reason for a skipped test.
#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
fn has(programs: &[&str]) -> bool {
    let lacks = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    let lacking = programs.iter().find(lacks);
    if let Some(program) = lacking {
        eprintln!("SKIPPED {}: no {program} here", std::thread::current().name().unwrap_or("a test"));
    }
    lacking.is_none()
}

/// A repository with the tiny project in the folder `project`, as a CI runner checks it out.
struct Workshop {
    project: Project,
    root: PathBuf,
}

/// The exit code and the log of a script.
struct Said {
    code: Option<i32>,
    log: String,
}

impl Workshop {
    /// Returns a built and committed project that passes its test, or `None` if a program is missing.
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
        std::fs::write(root.join("bin/gh"), GH).expect("the file is written");
        std::fs::write(root.join("comments.json"), "[]").expect("the file is written");
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

    /// Runs the script `review` as the action does, with additional environment variables.
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

    /// Runs the script `comment` as the action does, with additional environment variables.
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

    /// Returns the recorded calls of `gh` and the body of the last comment, and deletes both records.
    fn posted(&self) -> (String, String) {
        let posted = (text(&self.root.join("calls")), text(&self.root.join("body")));
        self.bash("rm -f calls body");
        posted
    }

    /// Creates a branch from main with one commit.
    fn branch(&self, name: &str, change: impl FnOnce()) -> String {
        self.git(&format!("switch --quiet --create {name} main"));
        change();
        assert_eq!(self.project.run(&["build"]).code(), Some(0));
        self.commit(name)
    }
}

/// Returns the lines that a workflow runner would interpret as commands.
fn commands(log: &str) -> Vec<&str> {
    let acted_on = |line: &&str| line.trim_start().starts_with("::") || line.contains("##[");
    log.split(['\n', '\r']).filter(acted_on).collect()
}
