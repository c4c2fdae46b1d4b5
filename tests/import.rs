//! Tests `import`, which converts published benchmark records to edit files.

use crate::support::project::Project;

const RECORDS: &str = r#"[
{"case_id": 1, "requested_rewrite": {"prompt": "{} lives in", "relation_id": "P1", "subject": "Ada Bellini",
 "target_new": {"str": "Oslo", "id": "Q1"}, "target_true": {"str": "Rome", "id": "Q2"}},
 "paraphrase_prompts": ["Yes. Ada Bellini lives in"], "neighborhood_prompts": ["Bo lives in", "Lisbon is in"],
 "generation_prompts": ["Ada says"]},
{"case_id": 2, "requested_rewrite": {"prompt": "{} lives in", "subject": "Ada Bellini",
 "target_new": {"str": "Vienna"}, "target_true": {"str": "Rome"}}, "paraphrase_prompts": [], "neighborhood_prompts": []},
{"case_id": 3, "requested_rewrite": {"prompt": "{} lives in", "subject": "Lisbon",
 "target_new": {"str": "Vienna"}, "target_true": {"str": "Rome"}}, "paraphrase_prompts": [], "neighborhood_prompts": []},
{"case_id": 4, "requested_rewrite": {"prompt": "no place", "subject": "Lisbon",
 "target_new": {"str": "Vienna"}, "target_true": {"str": "Rome"}}, "paraphrase_prompts": [], "neighborhood_prompts": []}
]"#;

#[test]
fn records_become_facts_of_the_project() {
    let project = Project::new();
    project.write("records.json", RECORDS);
    let run = project.run(&["import", "counterfact", "records.json"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    insta::assert_snapshot!(run.out());
    insta::assert_snapshot!("imported_file", project.read("edits/counterfact/00000/00000001-ada-bellini.toml"));
    insta::assert_snapshot!("rejected_records", project.read("rejected-counterfact.json"));
    let check = project.run(&["check"]);
    assert_eq!(check.code(), Some(0), "{}", check.whole());
    // A second import of the same records gives the same edits, and existing files are never overwritten.
    let again = project.run(&["import", "counterfact", "records.json", "--into", "again", "--format", "json"]);
    assert_eq!(again.code(), Some(2), "all of them are there already: {}", again.whole());
    let taken = project.run(&["import", "counterfact", "records.json"]);
    assert!(taken.err().contains("already exists"), "{}", taken.whole());
}

#[test]
fn part_of_a_file_is_imported_with_a_json_answer() {
    let project = Project::new();
    project.write("records.json", RECORDS);
    let run =
        project.run(&["import", "counterfact", "records.json", "--skip", "1", "--limit", "2", "--format", "json"]);
    let json = run.json();
    assert_eq!((run.code(), &json["edits"], &json["rejected"]), (Some(0), &2.into(), &serde_json::json!([])));
    assert!(!project.path("rejected-counterfact.json").exists());
}

#[test]
fn refused_imports_write_nothing() {
    let project = Project::new();
    project.write("records.json", RECORDS);
    project.write("object.json", "{}");
    project.write("none.json", "[{\"case_id\": 9}, 3]");
    let before = Project::files(&project.path("."));
    let cases: [(&[&str], &str); 6] = [
        (&["counterfact", "nowhere.json"], "nowhere.json"),
        (&["counterfact", "object.json"], "record 0: missing field"),
        (&["counterfact", "none.json"], "record 0 (case 9): missing field `requested_rewrite`"),
        (&["zsre", "records.json"], "missing field `subject`"),
        (&["counterfact", "records.json", "--into", "../x"], "is not a valid name for a folder"),
        (&["counterfact", "records.json", "--skip", "9"], "no record can be declared"),
    ];
    for (arguments, why) in cases {
        let run = project.run(&[&["import"], arguments].concat());
        assert_eq!((run.code(), run.out().as_str()), (Some(2), ""), "{arguments:?}: {}", run.whole());
        assert!(run.err().contains(why), "{arguments:?}: {}", run.err());
    }
    assert_eq!(Project::files(&project.path(".")), before);
}

#[test]
fn texts_that_are_left_out_are_listed_with_their_field() {
    let project = Project::new();
    project.write(
        "records.json",
        r#"[{"id": 4, "prompt": "Who led Oslo?", "target": "Ada", "subject": "Oslo", "rephrase": "Who was its leader?",
            "locality": [{"loc": "who leads oslo", "loc_ans": "Bo"}, {"loc": "who leads Oslo", "loc_ans": "Bo"}]},
           {"id": 5, "prompt": "Who led Rome?", "target": ")", "subject": "Rome", "locality": []}]"#,
    );
    let run = project.run(&["import", "qaedit", "records.json"]);
    assert_eq!(run.code(), Some(0), "{}", run.whole());
    assert!(
        run.out().contains("1 noise") && run.out().contains("1 expect.paraphrase, 1 expect.unchanged"),
        "{}",
        run.out()
    );
    insta::assert_snapshot!("left_out_texts", project.read("rejected-qaedit.json"));
    let json = project.run(&["import", "qaedit", "records.json", "--into", "again", "--skip", "1", "--format", "json"]);
    assert_eq!(json.code(), Some(2), "nothing can be declared: {}", json.whole());
}

#[test]
fn a_case_of_several_edits_is_checked_as_a_project() {
    let project = Project::new();
    let rewrite = |subject: &str, target: &str| {
        format!(
            r#"{{"prompt": "{{}} is in", "subject": "{subject}", "target_new": {{"str": "{target}"}},
                "target_true": {{"str": "Rome"}}, "question": "Where is {subject}?"}}"#
        )
    };
    project.write(
        "cases.json",
        &format!(
            r#"[{{"case_id": 3, "requested_rewrite": [{}, {}], "questions": ["Where is the sea of Norway?"],
                "new_answer": "Oslo", "new_answer_alias": ["Christiania"], "new_single_hops": [{{"question": "x",
                "cloze": "The sea of Norway is in", "answer": "Norway", "answer_alias": []}}]}}]"#,
            rewrite("Norway", "Oslo"),
            rewrite("Lisbon", "Vienna")
        ),
    );
    let run = project.run(&["import", "mquake", "cases.json", "--format", "json"]);
    assert_eq!((run.code(), &run.json()["edits"]), (Some(0), &2.into()), "{}", run.whole());
    insta::assert_snapshot!("imported_case", project.read("edits/mquake/00000/00000003-norway.toml"));
    assert!(project.path("edits/mquake/00000/00000003.2-lisbon.toml").exists());
    let check = project.run(&["check"]);
    assert_eq!(check.code(), Some(0), "{}", check.whole());
}
