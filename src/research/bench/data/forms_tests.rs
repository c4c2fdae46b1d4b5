//! Tests the forms of datasets whose records have consequences, with short published records.

use std::io::Write;

use super::*;

fn read(dataset: Dataset, text: &str) -> (Vec<Case>, Vec<String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for_each_record(file.path(), dataset, |one| match one {
        Ok(edits) => cases.extend(edits),
        Err(why) => refused.push(why.to_string()),
    })
    .expect("a readable file");
    (cases, refused)
}

/// Returns the kind, the prompt, all answers and the number of conditions of each consequence.
fn asked(case: &Case) -> Vec<(&'static str, &str, Vec<&str>, usize)> {
    let list = case.consequences.iter();
    list.map(|one| (one.kind.as_str(), one.prompt.as_str(), one.answers().collect(), one.condition.len())).collect()
}

fn left(case: &Case) -> Vec<String> {
    case.left_out.iter().map(|one| format!("{}: {}", one.field, one.why)).collect()
}

#[test]
fn knowedit_has_answers_of_three_shapes() {
    let text = r#"[{"subject": "Leo Arons", "prompt": "The place of death of Leo Arons is", "target_new": "Berlin",
        "portability": {
            "Logical_Generalization": [{"prompt": "Is Leo Arons still alive?", "ground_truth": [["no"], ["incorrect"], ["no"]]}],
            "Reasoning": [{"prompt": "The continent of the place of death of Leo Arons is",
                "ground_truth": [["Europe", "European continent", "Europe", ""]]}],
            "Subject_Aliasing": [{"prompt": "The place of death of Martin Leo Arons is", "ground_truth": "Berlin"}],
            "Reversed": [{"prompt": "x", "ground_truth": "y"}]},
        "locality": {"Relation_Specificity": [{"prompt": "The father of Leo Arons is", "ground_truth": ["Albert Arons"]}],
            "Forgetfulness": [{"prompt": "The other place is", "ground_truth": {"a": 1}}]}},
        {"subject": "Ada", "prompt": "Ada is", "target_new": "x", "ground_truth": ["", "y"], "rephrase": "So Ada is",
            "portability": [], "locality": {}},
        {"subject": "Bo", "prompt": "He is", "target_new": "x"}]"#;
    let (cases, refused) = read(Dataset::Knowedit, text);
    let mut found = asked(&cases[0]);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("alias", "The place of death of Martin Leo Arons is", vec!["Berlin"], 0),
            ("hop", "The continent of the place of death of Leo Arons is", vec!["Europe", "European continent"], 0),
            ("logic", "Is Leo Arons still alive?", vec!["no", "incorrect"], 0),
            ("relation-specific", "The father of Leo Arons is", vec!["Albert Arons"], 0),
        ]
    );
    let mut why = left(&cases[0]);
    why.sort_unstable();
    assert_eq!(
        why,
        [
            "locality.Forgetfulness: it has no prompt, or no answer in text form",
            "portability.Logical_Generalization: it equals the answer",
            "portability.Reasoning: it equals the answer",
            "portability.Reasoning: it is blank",
            "portability.Reversed: the criterion is unknown",
        ]
    );
    assert_eq!((cases[1].was.as_deref(), cases[1].paraphrases.as_slice()), (Some("y"), &["So Ada is".to_owned()][..]));
    assert_eq!(refused, ["record 2: its subject \"Bo\" is not in its prompt \"He is\""]);
}

const RIPPLE: &str = r#"{"example_type": "popular",
    "edit": {"prompt": "The name of the country of citizenship of Leonardo DiCaprio is Syria.", "subject_id": "Q38111",
        "relation": "COUNTRY_OF_CITIZENSHIP", "target_id": "Q858",
        "original_fact": {"prompt": "The name of the country of citizenship of Leonardo DiCaprio is United States of America.",
            "subject_id": "Q38111", "relation": "COUNTRY_OF_CITIZENSHIP", "target_id": "Q30"}},
    "Relation_Specificity": [{"test_queries": [{"prompt": "The name of the mother of Leonardo DiCaprio is",
        "answers": [{"value": "Irmelin DiCaprio", "aliases": []}], "query_type": "regular", "phrase": null}],
        "test_condition": "OR", "condition_queries": []}],
    "Compositionality_I": [{"test_queries": [{"prompt": "The name of the currency in the country of Leonardo DiCaprio is",
        "answers": [{"value": "Syrian pound", "aliases": ["SYP", "Syrian pound"]}]}],
        "test_condition": "OR", "condition_queries": [{"prompt": "The name of the currency in Syria is",
            "answers": [{"value": "Syrian pound", "aliases": []}]}]},
        {"test_queries": [{"prompt": "a", "answers": [{"value": "b", "aliases": []}]}],
         "test_condition": "OR", "condition_queries": [{"prompt": "c", "answers": []}]}],
    "Subject_Aliasing": [{"test_queries": [
        {"phrase": "The name of the country of citizenship of Leo DiCaprio is", "answers": [{"value": "Syria", "aliases": []}]},
        {"prompt": "The country of Leo is", "answers": [{"value": "Syria", "aliases": []}]}], "test_condition": "OR"}],
    "Forgetfulness": [{"test_queries": [
        {"prompt": "Another country of DiCaprio is", "answers": [{"value": "Italy", "aliases": []}]},
        {"prompt": "One more is", "answers": [{"value": "Peru", "aliases": []}]}], "test_condition": "AND"}]}"#;

#[test]
fn rippleedits_names_subject_and_answer_in_a_sentence() {
    let (cases, refused) = read(Dataset::Rippleedits, &format!("[{RIPPLE}]"));
    assert!(refused.is_empty(), "{refused:?}");
    let case = &cases[0];
    assert_eq!((case.subject.as_str(), case.target.as_str()), ("Leonardo DiCaprio", "Syria"));
    assert_eq!(case.prompt, "The name of the country of citizenship of {} is");
    assert_eq!(case.was.as_deref(), Some("United States of America"));
    let kinds: Vec<_> = case.consequences.iter().map(|one| (one.kind.as_str(), one.answer.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("alias", "Syria"),
            ("hop", "Syrian pound"),
            ("relation-specific", "Irmelin DiCaprio"),
            ("forgetting", "Italy"),
            ("forgetting", "Peru"),
        ]
    );
    let hop = &case.consequences[1];
    assert_eq!((hop.accept.as_slice(), hop.condition[0].answer.as_str()), (&["SYP".to_owned()][..], "Syrian pound"));
    assert_eq!(
        left(case),
        [
            "Subject_Aliasing: only the first of several queries of one test is used",
            "Compositionality_I: it equals the answer",
            "Compositionality_I: the prompt has no answer",
            "Compositionality_I: a condition of its test cannot be asked",
        ]
    );
}

#[test]
fn a_subject_with_the_verb_is_found_with_the_old_fact() {
    let edit = |prompt: &str, relation: &str, old: &str| {
        format!(r#"{{"edit": {{"prompt": "{prompt}", "relation": "{relation}"{old}}}}}"#)
    };
    let old = r#", "previous_fact": {"prompt": "The name of the author of This is Rome is Ada."}"#;
    let text = [
        edit("The name of the author of This is Rome is Bo.", "AUTHOR", old),
        edit("Nashville follows Memphis.", "FOLLOWS", ""),
        edit("The gender of Washington, D.C. is male.", "SEX_OR_GENDER", ""),
        edit("The father of Ada is Bo.", "FATHER", ""),
        edit("The name of the father of Ada is .", "FATHER", ""),
        edit("Ada dances.", "DANCE", ""),
    ];
    let (cases, refused) = read(Dataset::Rippleedits, &format!("[{}]", text.join(",")));
    let found: Vec<_> =
        cases.iter().map(|case| (case.subject.as_str(), case.target.as_str(), case.was.as_deref())).collect();
    // Without an old fact, the subject ends at the first place that is possible.
    assert_eq!(
        found,
        [("This is Rome", "Bo", Some("Ada")), ("Nashville", "Memphis", None), ("Washington, D.C.", "male", None)]
    );
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(
        refused[0].contains("does not have the form") && refused[2].contains("\"DANCE\" is unknown"),
        "{refused:?}"
    );
}

#[test]
fn a_case_of_mquake_is_several_edits_and_one_consequence() {
    let text = r#"[{"case_id": 9, "requested_rewrite": [
        {"prompt": "{} is associated with the sport of", "relation_id": "P641", "target_new": {"str": "cricket", "id": "Q1"},
         "target_true": {"str": "association football", "id": "Q2"}, "subject": "Dudley Town F.C.",
         "question": "Which sport is Dudley Town F.C. associated with?"},
        {"prompt": "The capital of {} is", "relation_id": "P36", "target_new": {"str": "Oderzo"},
         "target_true": {"str": "London"}, "subject": "England", "question": "What is the capital of England?"}],
        "questions": ["What is the capital of the country where Dudley Town F.C.'s sport originated?", "Second?", "Third?"],
        "answer": "London", "answer_alias": [], "new_answer": "Oderzo", "new_answer_alias": ["Opitergium", "Oderzo"],
        "single_hops": [], "new_single_hops": [
            {"question": "Which sport is Dudley Town F.C. associated with?", "cloze": "x", "answer": "cricket", "answer_alias": []},
            {"question": "Where was cricket created?", "cloze": "Cricket was created in the country of", "answer": "England",
             "answer_alias": ["ENG"]},
            {"question": "y", "cloze": "The capital of England is", "answer": "Oderzo", "answer_alias": []}], "orig": {}},
        {"case_id": 10, "requested_rewrite": [], "questions": ["x"], "new_answer": "y"},
        {"case_id": 11, "requested_rewrite": [{"prompt": "no place", "subject": "a", "target_new": {"str": "b"},
         "target_true": {"str": "c"}}], "questions": ["x"], "new_answer": "y"}]"#;
    let (cases, refused) = read(Dataset::Mquake, text);
    let edits: Vec<_> = cases.iter().map(|case| (case.id, case.part, case.filled(), case.target.as_str())).collect();
    assert_eq!(
        edits,
        [
            (9, 0, "Dudley Town F.C. is associated with the sport of".to_owned(), "cricket"),
            (9, 1, "The capital of England is".to_owned(), "Oderzo"),
        ]
    );
    let question = "What is the capital of the country where Dudley Town F.C.'s sport originated?";
    assert_eq!(asked(&cases[0]), [("hop", question, vec!["Oderzo", "Opitergium"], 1)]);
    let condition = &cases[0].consequences[0].condition[0];
    assert_eq!(condition.answers().collect::<Vec<_>>(), ["England", "ENG"]);
    assert_eq!((cases[1].consequences.len(), cases[1].left_out.len()), (0, 0));
    assert_eq!(left(&cases[0]).len(), 3, "an alias that equals the answer, and two questions: {:?}", left(&cases[0]));
    assert_eq!((refused.len(), refused[0].as_str()), (2, "record 1 (case 10): it has no rewrite"));
}

#[test]
fn a_benchmark_reads_one_edit_per_record() {
    let rewrite = |subject: &str| {
        format!(
            r#"{{"prompt": "{{}} is in", "subject": "{subject}", "target_new": {{"str": "b"}}, "target_true": {{"str": "c"}}}}"#
        )
    };
    let text = format!(
        r#"[{{"case_id": 1, "requested_rewrite": [{}, {}], "questions": ["x"], "new_answer": "y"}}]"#,
        rewrite("Ada"),
        rewrite("Bo")
    );
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let (cases, refused) = read_all(file.path(), Dataset::Mquake).expect("records");
    assert_eq!((cases.len(), cases[0].subject.as_str(), refused.len()), (1, "Ada", 1));
}

#[test]
fn qaedit_and_wikibigedit_have_no_old_answer() {
    let qaedit = r#"[{"id": 3820, "source": "SQA", "prompt": "What day, month, and year was Giulio Carlo Argan born?",
        "target": " 17 May 1909", "subject": "Giulio Carlo Argan", "rephrase": "On which date was Giulio Carlo Argan born?",
        "locality": [{"loc": "where do they film lord of the rings", "loc_ans": "New Zealand"}]},
        {"id": 1, "prompt": "Who is it?", "target": "x", "subject": "Ada"}]"#;
    let (cases, refused) = read(Dataset::Qaedit, qaedit);
    let case = &cases[0];
    assert_eq!((case.id, case.target.as_str(), case.was.as_deref()), (3820, "17 May 1909", None));
    assert_eq!((case.paraphrases.len(), case.neighbours[0].answer.as_str()), (1, "New Zealand"));
    assert_eq!(refused, ["record 1 (case 1): its subject \"Ada\" is not in its prompt \"Who is it?\""]);
    let slice = r#"{"prompt": "What position does Stefan Mair hold within the organization?", "target_new": "head coach",
        "subject": "Stefan Mair", "rephrase_prompt": "What role does Stefan Mair fulfill in the organization?",
        "locality_prompt": "What role did Stefan Mautner have?", "locality_ground_truth": "Holocaust victim"}"#;
    let whole = r#"{"subject": "Ada", "update": "Where is Ada?", "rephrase": "Ada is where?", "ans": "Peru", "loc": "Where is Bo?",
        "loc_ans": "Chile", "mhop": "On which continent is Ada?", "mhop_ans": ["America", "South America"],
        "personas": "Hey, where is Ada?"}"#;
    let half = r#"{"subject": "Ada", "update": "Where is Ada?", "ans": "Peru", "loc": "Where is Bo?"}"#;
    let (big, big_refused) = read(Dataset::Wikibigedit, &format!("{slice}\n{whole}\n{half}\n"));
    assert_eq!((big[0].was.as_deref(), big[0].neighbours.len(), big[0].consequences.len()), (None, 1, 0));
    assert_eq!(big[1].paraphrases, ["Ada is where?", "Hey, where is Ada?"]);
    assert_eq!(asked(&big[1]), [("hop", "On which continent is Ada?", vec!["America", "South America"], 0)]);
    assert_eq!(big_refused, ["record 2: either the locality prompt or its answer is missing"]);
}

#[test]
fn rows_of_halluedit_are_read() {
    let head = "topic,subject,relation,object,question,output_m,eval_m,multiple_choices,paraphrased_question,yes_question,\
        no_question,locality_question,reversed_relation_question,question_2hop,answer_2hop,question_3hop,answer_3hop";
    let lima = "places_city,Lima,climate,\"desert, dry\",What is the climate of Lima?,BWh,0.0,\"['a', 'b']\",How is Lima classified?,\
        Is the climate of Lima dry?,Is the climate of Lima BWh?,What is the capital of Peru?,Which city has a desert climate?,\
        What is the \"\"average\"\" of Lima?,18.5°C,,";
    let text =
        format!("\u{feff}{head}\r\n{lima}\r\nplaces_city,Oslo\r\nplaces_city,Rome,x,y,Where is it?,,,,,,,,,,,,\r\n");
    let (cases, refused) = read(Dataset::Halluedit, &text.replace("\"\"", "'"));
    let case = &cases[0];
    assert_eq!((case.prompt.as_str(), case.target.as_str()), ("What is the climate of {}?", "desert, dry"));
    assert_eq!(
        (case.was.as_deref(), case.watched.as_slice()),
        (None, &["What is the capital of Peru?".to_owned()][..])
    );
    assert_eq!(
        asked(case),
        [
            ("logic", "Is the climate of Lima dry?", vec!["Yes", "yes"], 0),
            ("logic", "Is the climate of Lima BWh?", vec!["No", "no"], 0),
            ("reversal", "Which city has a desert climate?", vec!["Lima"], 0),
            ("hop", "What is the 'average' of Lima?", vec!["18.5°C"], 0),
        ]
    );
    assert_eq!(
        refused,
        [
            "record 1: its row has 2 columns, but the header has 17",
            "record 2: its subject \"Rome\" is not in its prompt \"Where is it?\""
        ]
    );
    let (none, missing) = read(Dataset::Halluedit, "topic,subject\nplaces_city,Lima\n");
    assert_eq!((none.len(), missing.len()), (0, 1));
    assert!(missing[0].contains("missing field `object`"), "{missing:?}");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"subject,object\n\xff,x\n").expect("written");
    assert!(matches!(read_all(file.path(), Dataset::Halluedit), Err(DataError::Csv { .. })));
}

#[test]
fn every_record_of_unke_is_left_out_with_the_reason() {
    let text = r#"[{"id": 0, "question": "What is George Rankin's occupation?", "para_question": "What does George Rankin do?",
        "answer": "George Rankin has been in politics. He is.", "sub_question": ["How long?"], "sub_answer": ["A decade."]},
        {"id": 1, "question": "x"}]"#;
    let (cases, refused) = read(Dataset::Unke, text);
    assert_eq!(cases, []);
    assert!(refused[0].starts_with("record 0 (case 0): it has no subject"), "{refused:?}");
    assert!(refused[1].contains("missing field `para_question`"), "{refused:?}");
}
