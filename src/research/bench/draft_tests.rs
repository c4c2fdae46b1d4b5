use super::*;
use crate::project::edits::consequence::ConsequenceKind;
use crate::project::edits::writer::edit_file;
use crate::project::parse_files;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn case() -> Case {
    Case { subject: "Rome".into(), prompt: "{} is in".into(), target: "Peru".into(), ..Case::default() }
}

fn consequence(prompt: &str, answer: &str, accept: &[&str], condition: Vec<Condition>) -> Consequence {
    let (prompt, answer) = (prompt.to_owned(), answer.to_owned());
    Consequence { prompt, answer, accept: texts(accept), kind: ConsequenceKind::Hop, condition }
}

fn left(draft: &Draft) -> Vec<String> {
    draft.left_out.iter().map(|one| format!("{}: {:?}: {}", one.field, one.text, one.why)).collect()
}

#[test]
fn ids_are_plain() {
    assert_eq!(id(3, 0, "Côte d'Ivoire"), "case-3-cote-d-ivoire");
    assert_eq!(id(4, 0, "東京"), "case-4");
    assert_eq!(id(4, 1, "Oslo"), "case-4.2-oslo");
    assert!(crate::project::is_id(&id(u64::MAX, u64::MAX - 1, &"long ".repeat(99))));
    assert!(crate::project::is_id(&id(1, 0, &"x".repeat(500))));
}

#[test]
fn noise_at_the_ends_of_an_answer_is_found() {
    for noisy in [")", "Wilt Chamberlain *", "`` Heroes and Villains ''", "~ 3.5 million", "Rollins Jr ."] {
        assert!(noise(noisy).is_some(), "{noisy}");
    }
    for fine in ["THALLIUM.", "M*A*S*H", "1990 – present", "Washington, D.C.", "(Brain)", "東京"] {
        assert_eq!(noise(fine), None, "{fine}");
    }
}

#[test]
fn unusable_prompts_are_listed() {
    let long = format!("Rome {}", "x".repeat(MOST_TEXT_BYTES));
    let draft = draft_of(&Case {
        paraphrases: texts(&[
            "Where\nis Rome?",
            "Where is rome?",
            "Where\nis Rome?",
            "Where is it?",
            "Rome \u{7}",
            &long,
        ]),
        watched: texts(&["Oslo is in", "Where is rome?"]),
        ..case()
    });
    assert_eq!(draft.edit.expect.paraphrase, ["Where is Rome?", "Where is rome?"]);
    assert_eq!(draft.edit.expect.unchanged, ["Oslo is in"]);
    let mut said = left(&draft);
    let too_long = said.remove(2);
    assert!(too_long.ends_with("it is longer than 4096 bytes"), "{too_long}");
    assert_eq!(
        said,
        [
            "expect.paraphrase: \"Where\\nis Rome?\": it is repeated",
            "expect.paraphrase: \"Rome \\u{7}\": it contains a control character",
            "expect.paraphrase: \"Where is it?\": it does not contain the subject",
            "expect.unchanged: \"Where is rome?\": it is a paraphrase",
        ]
    );
}

#[test]
fn unusable_consequences_are_listed() {
    let condition = |answer: &str| Condition { prompt: "Peru is in".into(), answer: answer.into(), accept: Vec::new() };
    let consequences = vec![
        consequence(
            "The river of\nRome is the",
            "Rímac",
            &["Rímac", "", "Rimac", "Rimac ", "*"],
            vec![condition("America")],
        ),
        consequence("Rome is in", "Italy", &[], Vec::new()),
        consequence("The river of Rome is the", "Tiber", &[], Vec::new()),
        consequence("The mayor of Rome is", ")", &[], Vec::new()),
        consequence("The sea of Rome is", "Pacific", &[], vec![condition(" ")]),
    ];
    let draft = draft_of(&Case { consequences, ..case() });
    let kept = &draft.edit.expect.consequence;
    assert_eq!(
        (kept.len(), kept[0].prompt.as_str(), kept[0].accept.as_slice()),
        (1, "The river of Rome is the", &texts(&["Rimac"])[..])
    );
    assert_eq!(
        left(&draft),
        [
            "expect.consequence.accept: \"Rímac\": it equals the answer",
            "expect.consequence.accept: \"\": it is blank",
            "expect.consequence.accept: \"Rimac \": it repeats an accepted answer",
            "expect.consequence.accept: \"*\": its last word \"*\" has no letter or digit",
            "expect.consequence: \"Rome is in\": it is the prompt of the edit",
            "expect.consequence: \"The river of Rome is the\": an earlier consequence has the same prompt",
            "expect.consequence: \"The mayor of Rome is\": its answer \")\": its last word \")\" has no letter or digit",
            "expect.consequence: \"The sea of Rome is\": its condition \"Peru is in\": its answer \" \": it is blank",
        ]
    );
    let written = edit_file(std::slice::from_ref(&draft.edit)).into_bytes();
    let (set, findings) = parse_files(vec![("a.toml".to_owned(), written)]).expect("it is valid");
    assert_eq!((&set.edits[0].expect.consequence, findings.len()), (kept, 0));
}
