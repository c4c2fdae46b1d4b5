//! Tests the scripts `review` and `comment`: the content of the comment, and the pull requests that get a comment.

use super::{Said, Workshop, action, commands};

#[test]
fn a_pull_request_that_passes() {
    let Some(workshop) = Workshop::new() else { return };
    workshop.branch("vienna", || {
        workshop.project.replace("edits/people.toml", "target = \"Paris\"", "target = \"Vienna\"");
    });
    workshop.git("switch --quiet main");
    std::fs::write(workshop.root.join("README"), "Facts.\n").expect("the file is written");
    let main = workshop.commit("a file that is no fact");
    // GitHub checks out the merge of both branches; the base SHA of the event may be older than the merged base commit.
    workshop.git("switch --quiet --detach && git merge --quiet --no-edit vienna");
    let merge = workshop.git("rev-parse HEAD").trim().to_owned();
    let github = [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_SHA", &*merge), ("BASE_SHA", "main~1")];
    let said = workshop.review(&github);
    assert_eq!(said.code, Some(0), "{}", said.log);
    let plain = |text: &str| text.replace(&main, "[MAIN]").replace(&main[..12], "[MAIN]");
    let own: Vec<&str> = said.log.lines().filter(|line| !line.starts_with("  | ")).collect();
    assert_eq!(own, ["corrigenda check", "corrigenda build --locked", "corrigenda test", "corrigenda diff"]);
    insta::assert_snapshot!("workflow_output", workshop.out("output"));
    assert_eq!(workshop.out("summary"), workshop.out("reports/summary.md"));
    assert_eq!(workshop.comment(&[]).code, Some(0));
    let (calls, body) = workshop.posted();
    let (head, _) = body.split_once("<details>").expect("the rest is folded away");
    insta::assert_snapshot!("workflow_comment", plain(head));
    assert_eq!(calls.lines().count(), 3, "{calls}");
    assert!(calls.contains("--method POST repos/ada/facts/issues/7/comments -F body=@"), "{calls}");
    for name in ["check.html", "test.html", "diff.html", "test.junit.xml", "check.sarif", "diff.json"] {
        assert!(!workshop.out(&format!("reports/{name}")).is_empty(), "{name}");
    }
}

#[test]
fn a_failed_test_is_commented() {
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
fn failures_come_first_in_a_short_comment() {
    let Some(workshop) = Workshop::new() else { return };
    // A stub of the program writes reports of the maximum length, and its `test` fails.
    let program = r#"for word; do case $word in
        markdown=*) printf '<!-- x -->\n\n**said**\n%s\n' "$verb $(printf 'é%.0s' {1..29000})" >"${word#*=}" ;;
        check | build | test | diff) verb=$word ;;
      esac; done; echo ' ::error::owned'; echo 'a ##[error]owned'; [[ $verb != test ]]"#;
    std::fs::write(workshop.root.join("bin/long"), format!("#!/usr/bin/env bash\n{program}\n")).expect("written");
    workshop.bash("chmod +x bin/long");
    let said = workshop.review(&[("CORRIGENDA", "long")]);
    assert_eq!(said.code, Some(1), "{}", said.log);
    assert_eq!(commands(&said.log), ["::error title=corrigenda test::a ##[error]owned"], "{}", said.log);
    let comment = workshop.out("reports/comment.md");
    assert!(comment.len() < 65_536 && comment.contains("\ntest éé") && !comment.contains("\ndiff éé"));
    assert!(comment.contains("<code>diff</code> says more than fits here"), "{comment}");
    assert!(workshop.out("summary").contains("\ndiff éé"));
}

#[test]
fn there_is_one_comment_per_pull_request() {
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
    std::fs::write(workshop.root.join("comments.json"), comments.to_string()).expect("the file is written");
    assert_eq!(workshop.comment(&[]).log, "comment 5 is replaced\n");
    let (calls, body) = workshop.posted();
    assert!(calls.contains("--method PATCH repos/ada/facts/issues/comments/5 -F body=@"), "{calls}");
    assert!(!calls.contains("POST") && calls.contains("--paginate"), "{calls}");
    assert!(body.starts_with(&format!("{mark}\n")) && body.len() < 65_536, "{body}");
    // The user of another token has no comment yet, so a new comment is written.
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
    std::fs::write(workshop.root.join("out/reports/comment.md"), "a".repeat(65_536)).expect("the file is written");
    assert_eq!(workshop.comment(&[]).code, Some(2), "a comment that is too long");
}

#[test]
fn facts_are_never_run_as_commands() {
    let Some(workshop) = Workshop::new() else { return };
    let text = "::error::owned ##[error]owned ::set-output name=code::0 | <img src=x> @ada <!-- --> </pre> `";
    let short = "::error::owned ##[error]owned | <img> @ada `";
    // `check` refuses line breaks, and `build` refuses texts that exceed the context; a short attack is run as a
    // prompt.
    for (attack, code) in [(text.replace(" :", "\\r\\n:"), 2), (text.to_owned(), 2), (short.to_owned(), 1)] {
        let before = workshop.project.read("edits/people.toml");
        let expect = format!("unchanged = [\"{attack}\"]\nparaphrase = [\"{attack} Ada Bellini\"]");
        workshop.project.replace("edits/people.toml", "unchanged = []", &expect);
        workshop.project.replace("edits/people.toml", "reason = \"A test.\"", &format!("reason = \"{attack}\""));
        let said = workshop.review(&[("AGAINST", "main"), ("LOCKED", "false")]);
        assert_eq!(said.code, Some(code), "{}", said.log);
        assert!(
            said.log.contains("::error::owned") && said.log.contains("#[error]owned"),
            "the attack is shown: {}",
            said.log
        );
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
    let cleaned = workshop.review(&[("AGAINST", "\n::error::owned ##[error] | @ada"), ("LOCKED", "false")]);
    assert!(cleaned.code == Some(2) && workshop.out("output").contains("code=2\n"), "{}", cleaned.log);
    check_inert(&workshop, &cleaned);
}

/// Asserts that the log contains only workflow commands of the action, and documents no active Markdown or HTML.
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
