//! Compares tokenization with the Python tokenizers library, and chat templates with transformers.

use std::path::Path;

use corrigenda::compile::{Fact, Resolved};
use corrigenda::model::{Prompt, Tokens};
use corrigenda::project::EndMark;
use serde_json::{Value, json};

use crate::support::{golden, ids, reference};

/// Opens a tokenizer file of tests/reference with `settings` as `tokenizer_config.json`.
fn open(folder: &Path, file: &str, settings: &Value) -> Tokens {
    std::fs::copy(reference(file), folder.join("tokenizer.json")).expect("the tokenizer");
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).expect("the settings");
    Tokens::open(folder, 1 << 20).expect("it opens")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn ids_and_places_as_in_python() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in list(&golden("tokenizers.json")["files"]) {
        let tokens = open(folder.path(), text(&file["file"]), &Value::Null);
        for case in list(&file["cases"]) {
            let encoded = tokens.encode(text(&case["text"])).expect("the text is tokenized");
            assert_eq!(encoded.ids, ids(&case["ids"]), "{case}");
            // The offsets of special tokens have no meaning.
            let special = case["special"].as_u64().expect("a number") as usize;
            let offsets = ids(&case["offsets"]);
            let (pairs, _) = offsets.as_chunks::<2>();
            let places: Vec<_> = pairs.iter().map(|[start, end]| *start as usize..*end as usize).collect();
            assert_eq!(encoded.spans[special..], places[special..], "{case}");
            assert!(encoded.spans[..special].iter().all(std::ops::Range::is_empty));
        }
    }
}

/// Finds the subject's last token in texts of several scripts, also after special tokens.
#[test]
fn the_last_subject_token_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["tiny_tokenizer.json", "llama_tokenizer.json", "metaspace_tokenizer.json"] {
        let tokens = open(folder.path(), file, &Value::Null);
        for (prompt, subject) in [
            ("The capital of {} is", "France"),
            ("{} was born in", "Élodie Garnier"),
            ("{}的首都是", "法国"),
            ("{}は日本の古い都です。", "京都"),
            ("{}은 한국의 수도이다.", "서울"),
            ("I like {}", "🏛️"),
        ] {
            let fact = Fact { subject, prompt, target: "Rome", chat: false, end: EndMark::None };
            let templates = ["{}".to_owned(), "It rained. {}".to_owned()];
            let resolved = Resolved::new(&tokens, &templates, fact, 1000).expect("resolved");
            for row in resolved.rows {
                let upto = tokens.decode(&row.ids[..=row.position]);
                let end = row.text.find(subject).expect("the subject") + subject.len();
                // A token may end after the subject's last character, but not before it.
                assert!(upto.trim_start().starts_with(row.text[..end].trim_start()), "{file}: {upto:?} {:?}", row.text);
                let before = tokens.decode(&row.ids[..row.position]);
                assert!(!before.trim_start().starts_with(row.text[..end].trim_start()), "{file}: {before:?}");
            }
        }
    }
}

#[test]
fn chats_and_answers_as_in_transformers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen = 0;
    for chat in list(&golden("chat.json")["chats"]) {
        let mut settings = chat["special"].clone();
        settings["chat_template"] = chat["template"].clone();
        let tokens = open(folder.path(), text(&chat["file"]), &settings);
        for case in list(&chat["cases"]) {
            let (message, subject) = (text(&case["message"]), text(&case["subject"]));
            let framed = tokens.encode_prompt(Prompt { text: message, chat: true }).expect("framed");
            assert_eq!(framed.text, text(&case["text"]));
            assert_eq!(framed.encoded.ids, ids(&case["ids"]), "{case}");
            let prompt = message.replacen(subject, "{}", 1);
            let fact = Fact { subject, prompt: &prompt, target: text(&case["target"]), chat: true, end: EndMark::None };
            let resolved = Resolved::new(&tokens, &["{}".to_owned()], fact, 1000).expect("resolved");
            assert_eq!(resolved.rows[0].position as u64, case["position"].as_u64().expect("a number"), "{case}");
            assert_eq!(resolved.target, ids(&case["answer"]), "{case}");
            seen += 1;
        }
    }
    assert_eq!(seen, 39);
}

/// A tokenizer that adds a special token or a space at the beginning of a text does not add it to an answer.
#[test]
fn an_answer_continues_its_prompt() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["llama_tokenizer.json", "metaspace_tokenizer.json"] {
        let tokens = open(folder.path(), file, &Value::Null);
        for (before, answer) in
            [("He lives in", " Paris"), ("法国的首都是", "巴黎"), ("It is", " 🙂"), ("So", "\n\nYes")]
        {
            let whole = tokens.encode(&[before, answer].concat()).expect("the text is tokenized").ids;
            let parts = [tokens.encode(before).expect("cut").ids, tokens.continuation(answer).expect("cut")].concat();
            assert_eq!(parts, whole, "{file}: {answer:?}");
            // Decoding an answer after other text keeps its leading space.
            let ids = tokens.continuation(answer).expect("the text is tokenized");
            assert_eq!(tokens.decode_after(&ids), answer, "{file}");
            let first = tokens.decode_after(&ids[..1]);
            let again = tokens.continuation(&first).expect("the text is tokenized");
            assert!(again[0] == ids[0] || first.contains('\u{fffd}'), "{file}: {answer:?}: a part of a character");
        }
        assert!(tokens.continuation("").expect("the text is tokenized").is_empty());
    }
}

/// With a tokenizer that makes every text one token, an answer cannot be separated from its prompt and is refused.
#[test]
fn an_answer_that_merges_with_its_prompt_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": { "type": "Prepend", "prepend": "_" },
        "model": { "type": "WordLevel", "vocab": { "all": 0 }, "unk_token": "all" }
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).expect("the tokenizer");
    let tokens = Tokens::open(folder.path(), 10).expect("it opens");
    let refused = tokens.continuation("Rome").expect_err("refused").to_string();
    assert!(refused.contains("merged with the text before it"), "{refused}");
}

/// If the tokenizer adds a special token to the end of every text (`add_eos_token`), the token is removed from prompts,
/// but not from documents.
#[test]
fn prompts_omit_the_tokenizers_end_tokens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let special = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let with = |single: Value| {
        let file = std::fs::read(reference("metaspace_tokenizer.json")).expect("the tokenizer");
        let mut file: Value = serde_json::from_slice(&file).expect("JSON");
        let known = |id: u32, name: &str| json!({ "id": name, "ids": [id], "tokens": [name] });
        file["post_processor"]["special_tokens"] = json!({ "<s>": known(1, "<s>"), "</s>": known(2, "</s>") });
        file["post_processor"]["single"] = single;
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).expect("the file is written");
        Tokens::open(folder.path(), 1 << 20).expect("it opens")
    };
    let plain = with(json!([special("<s>"), text]));
    let ended = with(json!([special("<s>"), text, special("</s>"), special("</s>")]));
    let read = |tokens: &Tokens, prompt: &str| tokens.encode_prompt(prompt.into()).expect("it can be cut").encoded;
    for prompt in ["The capital of France is", "", "ends in </s>", "</s>"] {
        assert_eq!(read(&ended, prompt), read(&plain, prompt), "{prompt:?}");
        let whole = [&read(&plain, prompt).ids[..], &[2, 2]].concat();
        assert_eq!(ended.encode(prompt).expect("a document").ids, whole, "{prompt:?}");
    }
    assert!(plain.remark().is_none() && plain.reading(false).expect("no chat").is_none());
    let remark = ended.remark().expect("a remark");
    assert!(remark.message.contains("\"</s></s>\" after every text"), "{}", remark.message);
    assert!(ended.reading(false).expect("no chat").is_some());
    let alone = with(json!([text, special("</s>")]));
    assert!(read(&alone, "").ids.is_empty() && alone.remark().is_some());
}
