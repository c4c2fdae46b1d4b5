//! Generates the hostile corpus: the content that replaces a file, and the verb that reads the file.

use serde_json::{Value, json};

use crate::support::project::Project;

/// One hostile input.
pub(super) struct Case {
    /// The kind of file, used to group the results.
    pub class: &'static str,
    /// The file and the change, for messages.
    pub name: String,
    /// The path of the replaced file, relative to the project.
    pub file: &'static str,
    /// The hostile content.
    pub bytes: Vec<u8>,
    /// The arguments of the verb that reads the file.
    pub verb: &'static [&'static str],
}

/// A file that the program reads, its format, and the verb that reads it.
struct Source {
    class: &'static str,
    file: &'static str,
    form: Form,
    verb: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Toml,
    Json,
    Safetensors,
    Npz,
    Text,
}

const SOURCES: [Source; 13] = [
    Source { class: "project", file: "corrigenda.toml", form: Form::Toml, verb: &["check"] },
    Source { class: "edits", file: "edits/people.toml", form: Form::Toml, verb: &["check"] },
    Source { class: "lock", file: "corrigenda.lock", form: Form::Toml, verb: &["build", "--locked"] },
    Source { class: "config", file: "model/config.json", form: Form::Json, verb: &["plan"] },
    Source { class: "tokenizer", file: "model/tokenizer.json", form: Form::Json, verb: &["plan"] },
    Source { class: "weights", file: "model/model.safetensors", form: Form::Safetensors, verb: &["plan"] },
    Source { class: "index", file: "sharded/model.safetensors.index.json", form: Form::Json, verb: SHARDED },
    Source { class: "patch", file: "a.patch", form: Form::Safetensors, verb: &["verify", "a.patch"] },
    Source { class: "counterfact", file: "counterfact.json", form: Form::Json, verb: COUNTERFACT },
    Source { class: "zsre", file: "zsre.json", form: Form::Json, verb: ZSRE },
    Source { class: "easyedit", file: "easyedit.json", form: Form::Json, verb: EASYEDIT },
    Source { class: "npz", file: "a.npz", form: Form::Npz, verb: &["stats", "import", "a.npz", "--replace"] },
    Source { class: "templates", file: "templates.txt", form: Form::Text, verb: &["plan"] },
];

const SHARDED: &[&str] = &["patch", "apply", "a.patch", "--base", "sharded", "--out", "never"];
const COUNTERFACT: &[&str] = &["import", "counterfact", "counterfact.json", "--into", "imported"];
const ZSRE: &[&str] = &["import", "zsre", "zsre.json", "--into", "imported"];
const EASYEDIT: &[&str] = &["import", "easyedit", "easyedit.json", "--into", "imported"];

/// Returns every file of the corpus with a verb that reads it.
pub(super) fn readers() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    SOURCES.iter().map(|source| (source.file, source.verb))
}

/// Writes the files that a new project does not have.
pub(super) fn prepare(project: &Project) {
    let patches = Project::files(&project.cache().join("v1/patches"));
    let (_, patch) = patches.first().expect("a patch was built");
    std::fs::write(project.path("a.patch"), patch).expect("the file is written");
    std::fs::create_dir_all(project.path("sharded")).expect("a folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(project.path("model").join(name), project.path("sharded").join(name)).expect("copied");
    }
    let weights = std::fs::read(project.path("model/model.safetensors")).expect("weights");
    let map: serde_json::Map<String, Value> =
        names(&weights).into_iter().map(|name| (name, json!("model-00001-of-00001.safetensors"))).collect();
    std::fs::write(project.path("sharded/model-00001-of-00001.safetensors"), weights).expect("the file is written");
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    project.write("sharded/model.safetensors.index.json", &index.to_string());
    std::fs::write(project.path("a.npz"), crate::stats_import::published()).expect("the file is written");
    project.write("counterfact.json", &json!([counterfact()]).to_string());
    project.write("zsre.json", &json!([zsre()]).to_string());
    project.write("easyedit.json", &json!([easyedit()]).to_string());
}

fn counterfact() -> Value {
    json!({
        "case_id": 1, "pararel_idx": 2,
        "requested_rewrite": {
            "prompt": "I live in {}", "relation_id": "P1", "subject": "Ada Bellini",
            "target_new": { "str": "Paris", "id": "Q1" }, "target_true": { "str": "Rome", "id": "Q2" }
        },
        "paraphrase_prompts": ["The people live in Ada Bellini"], "neighborhood_prompts": ["I live in Lisbon"],
        "attribute_prompts": ["I live in Vienna"], "generation_prompts": ["Ada Bellini lives"]
    })
}

fn zsre() -> Value {
    json!({
        "subject": "Ada Bellini", "src": "Where does Ada Bellini live?", "pred": "Rome", "rephrase": "Where is Ada Bellini?",
        "alt": "Paris", "answers": ["Rome"], "loc": "nq question: who wrote it", "loc_ans": "nobody",
        "cond": "Rome >> Paris || Where does Ada Bellini live?"
    })
}

fn easyedit() -> Value {
    json!({
        "case_id": 1, "prompt": "Ada Bellini lives in", "subject": "Ada Bellini", "target_new": "Paris",
        "ground_truth": "Rome", "rephrase_prompt": "The home of Ada Bellini is", "locality_prompt": "Lisbon is in",
        "locality_ground_truth": "Portugal"
    })
}

/// Returns all cases in a fixed order.
pub(super) fn cases(project: &Project) -> Vec<Case> {
    let mut out = Vec::new();
    for source in &SOURCES {
        let sound = std::fs::read(project.path(source.file)).expect("a file to spoil");
        let mut add = |name: String, bytes: Vec<u8>| {
            let Source { class, file, verb, .. } = *source;
            out.push(Case { class, name: format!("{file}: {name}"), file, bytes, verb });
        };
        any(&sound, &mut add);
        match source.form {
            Form::Toml => toml(&sound, &mut add),
            Form::Json => json_of(source.class, &sound, &mut add),
            Form::Safetensors => safetensors(&sound, &mut add),
            Form::Npz => npz(&mut add),
            Form::Text => text(&mut add),
        }
    }
    out
}

type Add<'a> = dyn FnMut(String, Vec<u8>) + 'a;

/// Adds changes that are possible in any file format.
fn any(sound: &[u8], add: &mut Add<'_>) {
    for part in 0..8 {
        let length = sound.len() * part / 8;
        add(format!("cut off at {length}"), sound[..length].to_vec());
    }
    add("cut off by one byte".into(), sound[..sound.len() - 1].to_vec());
    add("a byte too many".into(), [sound, b"x"].concat());
    add("twice".into(), [sound, sound].concat());
    add("NUL in front".into(), [b"\0", sound].concat());
    add("a byte order mark".into(), [b"\xef\xbb\xbf", sound].concat());
    add("UTF-16".into(), sound.iter().flat_map(|byte| [*byte, 0]).collect());
    add("nothing but NUL".into(), vec![0; 4096]);
    add("nothing but 0xff".into(), vec![0xff; 4096]);
    add("an escape sequence".into(), b"\x1b]0;title\x07\x1b[2J".to_vec());
    add("a pickle".into(), b"\x80\x02}q\x00.".to_vec());
    add("a zip".into(), b"PK\x03\x04\x14\0\0\0\x08\0".to_vec());
    add("deep brackets".into(), vec![b'['; 100_000]);
    add("deep braces".into(), b"{\"a\":".repeat(100_000));
    add("two mebibytes of spaces".into(), vec![b' '; 2 << 20]);
    add("one long line".into(), vec![b'a'; 1 << 20]);
}

/// Adds changes of a TOML file: every value replaced by each of `VALUES`, every line removed, every line repeated.
fn toml(sound: &[u8], add: &mut Add<'_>) {
    const VALUES: [&str; 13] = [
        "-1",
        "0",
        "1e400",
        "nan",
        "99999999999999999999",
        "\"\"",
        "\"\\u0000\\u001b[2J\\u202e\"",
        "\"/\"",
        "\"../../..\"",
        "[]",
        "{}",
        "[[[[[[[[1]]]]]]]]",
        "1979-05-27",
    ];
    let text = String::from_utf8_lossy(sound).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number] = line;
        (lines.join("\n") + "\n").into_bytes()
    };
    // The first 40 lines are enough, because the lines of long files are similar.
    for (number, line) in lines.iter().enumerate().take(40) {
        let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.trim_start().starts_with(['#', '"', '{']))
        else {
            continue;
        };
        for value in VALUES {
            add(format!("line {}: {} = {value:?}", number + 1, key.trim()), with(number, &format!("{key} = {value}")));
        }
        add(format!("line {} left out", number + 1), with(number, ""));
        add(format!("line {} twice", number + 1), with(number, &format!("{line}\n{line}")));
    }
    add("a conflict".into(), format!("<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n").into_bytes());
    add("an unknown key".into(), format!("unknown = 1\n{text}").into_bytes());
    add("an unknown table".into(), format!("{text}\n[unknown]\na = 1\n").into_bytes());
    add("ten thousand tables".into(), format!("{text}\n{}", "[[edit]]\n".repeat(10_000)).into_bytes());
    add("a long key".into(), format!("{} = 1\n{text}", "k".repeat(100_000)).into_bytes());
    add("carriage returns".into(), text.replace('\n', "\r").into_bytes());
}

/// Adds changes of a JSON file: every value replaced by each of `values`, and every key removed.
fn json_of(class: &str, sound: &[u8], add: &mut Add<'_>) {
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("../../etc/passwd"),
        json!("/etc/passwd\0\u{1b}[2J"),
        json!([]),
        json!({}),
        json!(true),
        json!([[[[[[[[]]]]]]]]),
    ];
    let whole: Value = serde_json::from_slice(sound).expect("JSON");
    let mut pointers = Vec::new();
    collect(&whole, String::new(), &mut pointers);
    // Of a long file, such as a vocabulary, about 24 entries are enough.
    let step = pointers.len().div_ceil(24).max(1);
    for pointer in pointers.iter().step_by(step) {
        for value in &values {
            let mut changed = whole.clone();
            if let Some(place) = changed.pointer_mut(pointer) {
                *place = value.clone();
                add(format!("{pointer} = {value}"), changed.to_string().into_bytes());
            }
        }
        let mut changed = whole.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", ""));
        let key = key.replace("~1", "/").replace("~0", "~");
        if let Some(Value::Object(fields)) = changed.pointer_mut(parent) {
            fields.remove(&key);
            add(format!("{pointer} left out"), changed.to_string().into_bytes());
        }
    }
    let text = String::from_utf8_lossy(sound);
    if let Some(rest) = text.trim_start().strip_prefix('{') {
        add("a key twice".into(), format!("{{\"weight_map\":{{}},\"n_layer\":1,\"model\":{{}},{rest}").into_bytes());
    }
    match class {
        "tokenizer" => tokenizers(&whole, add),
        "index" => shards(add),
        "counterfact" | "zsre" | "easyedit" => records(&whole, add),
        _ => {}
    }
}

fn collect(value: &Value, here: String, out: &mut Vec<String>) {
    if !here.is_empty() {
        out.push(here.clone());
    }
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                collect(field, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        Value::Array(values) => {
            for (index, element) in values.iter().enumerate() {
                collect(element, format!("{here}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// Adds values that make the tokenizers library panic, allocate without limit or run without end.
fn tokenizers(whole: &Value, add: &mut Add<'_>) {
    let mut with = |name: &str, pointer: &str, value: Value| {
        let mut changed = whole.clone();
        if let Some(place) = changed.pointer_mut(pointer) {
            *place = value;
            add(name.to_owned(), changed.to_string().into_bytes());
        }
    };
    with("a merge of tokens that are not there", "/model/merges", json!([["zz", "qq"]]));
    with("a merge as one word", "/model/merges", json!(["ab"]));
    with("a merge of three", "/model/merges", json!(["a b c"]));
    with("a merge of nothing", "/model/merges", json!([["", ""]]));
    with("an id behind the last", "/model/vocab", json!({ "a": 4_294_967_295_u32 }));
    with("one id for two tokens", "/model/vocab", json!({ "a": 1, "b": 1 }));
    with("no vocabulary", "/model/vocab", json!({}));
    with("another kind of model", "/model/type", json!("Unigram"));
    with(
        "a truncation whose stride is its length",
        "/truncation",
        json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 4 }),
    );
    with(
        "a truncation to nothing",
        "/truncation",
        json!({ "direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0 }),
    );
    with(
        "a padding without end",
        "/padding",
        json!({
        "strategy": { "Fixed": u64::MAX }, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "x" }),
    );
    with(
        "a padding to multiples of zero",
        "/padding",
        json!({
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "x" }),
    );
    with(
        "a template of tokens that are not there",
        "/post_processor",
        json!({
        "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "[NO]", "type_id": 0 } }], "pair": [],
        "special_tokens": {} }),
    );
    with(
        "a pattern without end",
        "/pre_tokenizer",
        json!({
        "type": "Split", "pattern": { "Regex": "(a*)*(a*)*(a*)*b" }, "behavior": "Isolated", "invert": false }),
    );
    with(
        "a pattern that is none",
        "/pre_tokenizer",
        json!({
        "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false }),
    );
    with("a map that is none", "/normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA/////w==" }));
    with(
        "a map without end in a sequence",
        "/normalizer",
        json!({ "type": "Sequence", "normalizers": [
            { "type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAA" }
        ] }),
    );
    with("an empty map", "/normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "" }));
    with(
        "a replacement of nothing",
        "/normalizer",
        json!({ "type": "Replace", "pattern": { "String": "" }, "content": "x" }),
    );
    with(
        "an added token behind the last",
        "/added_tokens",
        json!([{ "id": 4_294_967_295_u32, "content": "x",
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }]),
    );
    with(
        "an added token of nothing",
        "/added_tokens",
        json!([{ "id": 0, "content": "",
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false }]),
    );
    let decoders = json!([
        { "type": "Replace", "pattern": { "Regex": ".+" }, "content": "" },
        { "type": "Strip", "content": "a", "start": 0, "stop": 1 }
    ]);
    with("a decoder that strips nothing", "/decoder", json!({ "type": "Sequence", "decoders": decoders }));
    with("a sequence in a sequence", "/normalizer", nested());
}

fn nested() -> Value {
    (0..60).fold(json!({ "type": "NFC" }), |inner, _| json!({ "type": "Sequence", "normalizers": [inner] }))
}

/// Adds indices in which the path of a shard is invalid or leads out of the model folder.
fn shards(add: &mut Add<'_>) {
    let places = [
        "../model/model.safetensors",
        "/etc/passwd",
        "C:\\x",
        "\\\\host\\share\\x",
        "a/../../x",
        "",
        ".",
        "..",
        "model-00001-of-00001.safetensors/",
        "con",
        "x\u{0}y",
        "nowhere.safetensors",
        "config.json",
    ];
    for place in places {
        let index = json!({ "metadata": {}, "weight_map": { "transformer.wte.weight": place } });
        add(format!("a shard at {place:?}"), index.to_string().into_bytes());
    }
    add("no shard".into(), json!({ "weight_map": {} }).to_string().into_bytes());
}

/// Adds benchmark records that are not valid facts.
fn records(whole: &Value, add: &mut Add<'_>) {
    let record = whole[0].clone();
    let many: Vec<Value> = (0..2000).map(|_| record.clone()).collect();
    add("one record two thousand times".into(), json!(many).to_string().into_bytes());
    add("a record alone".into(), record.to_string().into_bytes());
    add("records in records".into(), json!([[record]]).to_string().into_bytes());
    add("lines of records".into(), format!("{record}\n{record}\n").into_bytes());
    add("a comma too many".into(), format!("[{record},]").into_bytes());
    for text in ["{}{}", "{", "}", "\u{202e}", "\u{0}", "\n\n\n", "\u{1b}[31m", "$(reboot)", "../../x"] {
        let swapped =
            record.to_string().replace("Ada Bellini", &text.escape_default().to_string().replace("\\u{", "\\\\u{"));
        add(format!("a subject {text:?}"), format!("[{swapped}]").into_bytes());
    }
}

/// Adds safetensors headers that contradict the data.
fn safetensors(sound: &[u8], add: &mut Add<'_>) {
    let (header, data) = split(sound);
    let header: Value = serde_json::from_slice(header).expect("a header");
    let mut with = |name: String, edited: &Value| add(name, joined(edited.to_string().as_bytes(), data));
    let fields = header.as_object().expect("an object");
    let (name, entry) = fields.iter().find(|(name, _)| *name != "__metadata__").expect("a tensor");
    let values = [
        ("dtype", json!("F8_E4M3")),
        ("dtype", json!("I64")),
        ("dtype", json!("")),
        ("dtype", json!(7)),
        ("dtype", json!("BOOL")),
        ("shape", json!([])),
        ("shape", json!([0])),
        ("shape", json!([u64::MAX, 2])),
        ("shape", json!([-1])),
        ("shape", json!([1.5])),
        ("shape", json!("x")),
        ("shape", json!([1, 1, 1, 1, 1, 1, 1])),
        ("data_offsets", json!([0])),
        ("data_offsets", json!([8, 0])),
        ("data_offsets", json!([0, u64::MAX])),
        ("data_offsets", json!([u64::MAX, u64::MAX])),
        ("data_offsets", json!([-1, 4])),
        ("data_offsets", json!([0, 0])),
        ("data_offsets", json!([1, 5])),
        ("data_offsets", json!(["0", "4"])),
        ("extra", json!(1)),
    ];
    for (field, value) in values {
        let mut changed = header.clone();
        changed[name][field] = value.clone();
        with(format!("{name}.{field} = {value}"), &changed);
    }
    for field in ["dtype", "shape", "data_offsets"] {
        let mut changed = header.clone();
        changed[name].as_object_mut().expect("an entry").remove(field);
        with(format!("{name} without {field}"), &changed);
    }
    for value in [
        json!(1),
        json!({ "a": 1 }),
        json!({ "corrigenda": "{" }),
        json!({ "corrigenda": "{\"format\":99}" }),
        json!([]),
    ] {
        let mut changed = header.clone();
        changed["__metadata__"] = value.clone();
        with(format!("metadata {value}"), &changed);
    }
    let mut changed = header.clone();
    changed.as_object_mut().expect("an object").remove(name);
    with(format!("without {name}"), &changed);
    let mut doubled = header.clone();
    doubled["a stranger"] = entry.clone();
    with("two tensors in one place".into(), &doubled);
    let mut path_named = header.clone();
    path_named["../../x"] = entry.clone();
    with("a tensor with the name of a path".into(), &path_named);
    // The reader rejects files of more than 40,000 entries: one case is below that limit and one above it.
    for (many, said) in [(39_999, "forty thousand, less one,"), (50_000, "fifty thousand")] {
        let empty = |n: usize| (format!("t{n}"), json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] }));
        with(format!("{said} empty tensors"), &Value::Object((0..many).map(empty).collect()));
    }
    let text = header.to_string();
    add("a tensor twice".into(), joined(text.replacen('{', &format!("{{\"{name}\":{entry},"), 1).as_bytes(), data));
    for length in [0, 1, 7, u64::MAX, 1 << 63, (100 << 20) + 1, sound.len() as u64, sound.len() as u64 - 7] {
        add(format!("a header of {length} bytes"), [&length.to_le_bytes()[..], &sound[8..]].concat());
    }
    add("a header of spaces".into(), joined(&vec![b' '; 1 << 20], data));
    add("a header that is a list".into(), joined(b"[]", data));
    add("a header without end".into(), joined(&b"{\"a\":".repeat(10_000), data));
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    bytes[8..].split_at(length)
}

fn joined(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

fn names(bytes: &[u8]) -> Vec<String> {
    let header: Value = serde_json::from_slice(split(bytes).0).expect("a header");
    header.as_object().expect("an object").keys().filter(|name| *name != "__metadata__").cloned().collect()
}

/// Adds files that are not valid archives of second moments, and archives that expand to a large size.
fn npz(add: &mut Add<'_>) {
    for (name, bytes) in crate::stats_import::hostile() {
        add(name.to_owned(), bytes);
    }
}

/// Adds files that are not valid context templates.
fn text(add: &mut Add<'_>) {
    for text in ["", "\n", "{}", "no place", "{} and {}", "{", "{0}", "{}\0", "\u{202e}{}", "\u{1b}[2J{}"] {
        add(format!("{text:?}"), text.as_bytes().to_vec());
    }
    add("a hundred thousand templates".into(), "{} is\n".repeat(100_000).into_bytes());
    add("one template of a mebibyte".into(), [b"{} ", "word ".repeat(200_000).as_bytes()].concat());
}
