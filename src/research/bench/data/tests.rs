use std::io::Write;

use super::*;

fn read(dataset: Dataset, text: &str) -> Result<(Vec<Case>, Vec<RejectedRecord>), DataError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    read_all(file.path(), dataset)
}

const COUNTERFACT: &str = r#"{"case_id": 7, "pararel_idx": 1, "requested_rewrite": {"prompt": "{} is in", "relation_id": "P17",
    "target_new": {"str": "Peru", "id": "Q419"}, "target_true": {"str": "Italy", "id": "Q38"}, "subject": "Rome"},
    "paraphrase_prompts": ["Yes. Rome lies in"], "neighborhood_prompts": ["Milan is in", "Pisa is in"],
    "attribute_prompts": ["Lima is in"], "generation_prompts": ["Around Rome they speak"]}"#;

#[test]
fn a_record_of_counterfact() {
    let (cases, refused) = read(Dataset::Counterfact, &format!("[{COUNTERFACT}]")).expect("an array");
    assert_eq!((cases.len(), refused.len()), (1, 0), "{refused:?}");
    let case = &cases[0];
    assert_eq!((case.id, case.filled().as_str(), case.target.as_str()), (7, "Rome is in", "Peru"));
    assert_eq!((case.was.as_deref(), case.target_id.as_deref()), (Some("Italy"), Some("Q419")));
    assert_eq!(case.neighbours[1], Neighbour { prompt: "Pisa is in".into(), answer: "Italy".into() });
    assert_eq!((case.paraphrases.len(), case.generation.len()), (1, 1));
}

#[test]
fn a_record_of_zsre_and_of_the_flat_form() {
    let zsre = r#"[{"subject": "UniFirst", "src": "What does UniFirst make?", "pred": "x", "rephrase": "UniFirst makes what?",
        "alt": "cars", "answers": ["uniform", "clothes"], "loc": "nq question: who sang it", "loc_ans": "Walter Sobchak",
        "cond": "y"}]"#;
    let (cases, refused) = read(Dataset::Zsre, zsre).expect("an array");
    assert_eq!(refused, []);
    assert_eq!((cases[0].prompt.as_str(), cases[0].target.as_str()), ("What does {} make?", "uniform"));
    assert_eq!(cases[0].neighbours[0].prompt, "nq question: who sang it?");
    let flat = r#"[{"case_id": 3, "prompt": "The tongue of Ada is", "target_new": "Thai", "subject": "Ada",
        "ground_truth": "French", "rephrase_prompt": "Ada speaks", "locality_prompt": "Bo speaks",
        "locality_ground_truth": "French"}]"#;
    let (flat_cases, _) = read(Dataset::Easyedit, flat).expect("an array");
    assert_eq!((flat_cases[0].prompt.as_str(), flat_cases[0].neighbours.len()), ("The tongue of {} is", 1));
}

#[test]
fn requests_of_notebooks() {
    let text = r#"[{"case_id": 4, "prompt": "{} is located in", "subject": "The Eiffel Tower", "target_new": {"str": " Rome"},
        "target_true": {"str": "Paris", "id": "Q90"}, "relation_id": "P131"},
        {"prompt": "LeBron James plays", "subject": "LeBron James", "target_new": "football", "ground_truth": ["basketball"]},
        {"prompt": "{} is", "subject": "a", "target_new": {"string": "x"}}, {"prompt": "{} is", "subject": "a"},
        {"prompt": "{} is {}", "subject": "a", "target_new": "x"}, {"prompt": "{} is", "subject": "a", "target_new": " "}]"#;
    let (cases, refused) = read(Dataset::Request, text).expect("an array");
    let said: Vec<_> =
        cases.iter().map(|case| (case.id, case.prompt.as_str(), case.target.as_str(), case.was.as_deref())).collect();
    assert_eq!(said, [(4, "{} is located in", "Rome", Some("Paris")), (1, "{} plays", "football", Some("basketball"))]);
    assert_eq!(cases[0].relation.as_deref(), Some("P131"));
    let why: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert!(why[0].contains("record 2: an answer is a text") && why[1].contains("target_new"), "{why:?}");
    assert_eq!(why.len(), 4, "{why:?}");
    // A JSON Lines file with three records; the second record is invalid.
    let lines = "\u{feff}{\"prompt\": \"{} is\", \"subject\": \"a\", \"target_new\": \"x\"}\r\n\r\n3\r\n{\"prompt\": \"{} was\", \"subject\": \"a\", \"target_new\": \"x\"}\r\n";
    let (line_cases, invalid) = read(Dataset::Request, lines).expect("records");
    assert_eq!((line_cases.len(), line_cases[1].id, invalid.len()), (2, 2, 1));
}

#[test]
fn an_old_answer_may_be_missing_from_the_flat_form() {
    let flat = r#"[{"prompt": "Ada is", "target_new": "x", "subject": "Ada"},
        {"prompt": "Ada is", "target_new": "x", "subject": "Ada", "ground_truth": null},
        {"prompt": "Ada is", "target_new": "x", "subject": "Ada", "ground_truth": ""},
        {"prompt": "Ada is", "target_new": "x", "subject": "Ada", "ground_truth": ["", "y", "z"]},
        {"prompt": "Ada is", "target_new": "x", "subject": "Ada", "ground_truth": 3}]"#;
    let (cases, refused) = read(Dataset::Easyedit, flat).expect("an array");
    let old: Vec<_> = cases.iter().map(|case| case.was.as_deref()).collect();
    assert_eq!((old, refused.len()), (vec![None, None, None, Some("y")], 1));
}

#[test]
fn byte_order_marks_and_crlf_are_accepted() {
    let plain = format!("[{COUNTERFACT}]");
    let want = read(Dataset::Counterfact, &plain).expect("an array");
    for text in [format!("\u{feff}{plain}"), plain.replace('\n', "\r\n")] {
        assert_eq!(read(Dataset::Counterfact, &text).expect("an array"), want);
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"\xff\xfe[\0]\0").expect("written");
    let error = read_all(file.path(), Dataset::Counterfact).expect_err("wide").to_string();
    assert!(error.contains("UTF-16"), "{error}");
}

#[test]
fn rejected_records_have_a_reason() {
    let without = COUNTERFACT.replace("\"subject\": \"Rome\"", "\"object\": \"Rome\"");
    let twice = COUNTERFACT.replace("{} is in", "{} is in {}");
    let empty = COUNTERFACT.replace("\"Peru\"", "\" \"");
    let control = COUNTERFACT.replace("\"Peru\"", "\"Pe\\u0007ru\"");
    let text = format!("[{without}, {twice}, {empty}, {control}, 3, {COUNTERFACT}]");
    let (cases, refused) = read(Dataset::Counterfact, &text).expect("an array");
    assert_eq!(cases.len(), 1);
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "record 0 (case 7): missing field `subject`");
    assert!(said[1].starts_with("record 1 (case 7): "), "{said:?}");
    assert_eq!(said[2], "record 2 (case 7): it has an empty text");
    assert!(said[3].contains("control character"), "{said:?}");
    assert!(said[4].starts_with("record 4: invalid type"), "{said:?}");
    let flat = r#"[{"prompt": "a b a", "subject": "a", "target_new": "x", "ground_truth": "y"},
        {"prompt": "b", "subject": "a", "target_new": "x", "ground_truth": "y"},
        {"prompt": "a {}", "subject": "a", "target_new": "x", "ground_truth": "y"},
        {"prompt": "a", "subject": "a", "target_new": "x", "ground_truth": "y", "locality_prompt": "z"}]"#;
    let (flat_cases, flat_refused) = read(Dataset::Easyedit, flat).expect("an array");
    assert_eq!((flat_cases.len(), flat_refused.len()), (0, 4));
    let zsre = r#"[{"subject": "a", "src": "a", "rephrase": "a", "answers": [], "loc": "nq question: b", "loc_ans": "c"},
        {"subject": "a", "src": "a", "rephrase": "a", "answers": ["b"], "loc": "b", "loc_ans": "c"}]"#;
    assert_eq!(read(Dataset::Zsre, zsre).expect("an array").1.len(), 2);
}

#[test]
fn invalid_json_is_reported_with_its_place() {
    for (text, part) in [
        ("3", "an array of records"),
        ("{} 3,", "line 1"),
        ("[{\"a\": 1},", "line 1"),
        ("[] []", "trailing"),
        ("", "line 1"),
        ("[[[", "line 1"),
    ] {
        let error = read(Dataset::Counterfact, text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(read(Dataset::Counterfact, &deep).expect_err("too deep").to_string().contains("recursion"));
    let missing = read_all(std::path::Path::new("/nowhere/file.json"), Dataset::Zsre).expect_err("missing");
    assert!(missing.to_string().contains("/nowhere/file.json"));
}
