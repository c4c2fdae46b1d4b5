//! Tests that a stored editor is read as it was written, and that an editor that does not fit is refused.

use super::super::settings::numbers;
use super::super::toy::{family, toy_model};
use super::*;

const ADDRESS: [u8; 32] = [7; 32];

fn base() -> Digest {
    Digest::of(b"toy")
}

fn seen() -> Vec<Digest> {
    vec![Digest::of(b"one"), Digest::of(b"two")]
}

/// Returns the head and the numbers of an editor for [`toy_model`] that was trained on CounterFact.
fn parts(model: &Model, method: Method) -> (EditorHead, AnyEditor) {
    parts_on(model, method, TrainedOn::Cf)
}

fn parts_on(model: &Model, method: Method, on: TrainedOn) -> (EditorHead, AnyEditor) {
    let own: &[(&str, f64)] = match method {
        Method::Mend => &[("rank", 5.0)],
        Method::Ke => &[("lstm", 3.0), ("condition", 5.0), ("hidden", 4.0)],
    };
    let overrides = own.iter().chain(&[("layers", 2.0)]).map(|(name, number)| ((*name).to_owned(), *number)).collect();
    let numbers = numbers(method, model.spec(), false, &overrides);
    let data = Digest::of(b"data");
    let inputs = TrainingInputs::new((method, on), (base(), model), numbers, (1, false), data);
    let mut editor = inputs.editor(model, true);
    if let AnyEditor::Mend(mend) = &mut editor {
        mend.shapes[0].inputs.add(&[1.0, 2.0, 3.0, 4.0, 0.0, 2.0, -1.0, 4.0]);
    }
    let curve = vec![Validation { step: 0, edit: 2.0, divergence: 0.5, total: 0.7 }];
    let (base_name, file) = ("toy".to_owned(), "records.json".to_owned());
    (EditorHead { inputs, base_name, file, facts: 3, curve, best: 4 }, editor)
}

/// Stores the bytes of a file in a new store, and reads the editor for a model and a base.
fn read_bytes(bytes: &[u8], model: &Model, base: &Digest) -> Result<StoredEditor, EditorFileError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().to_owned());
    let address = Digest::from_bytes(ADDRESS);
    store.put(EntryKind::Editor, &address, bytes).expect("the editor is stored");
    read(&store, &address, model, base)
}

/// Stores an editor after `change`, and returns the error of reading it.
fn refused(change: impl FnOnce(&mut EditorHead, &mut Vec<(String, Dtype, Vec<u8>)>)) -> EditorFileError {
    let model = toy_model();
    let (mut head, mut editor) = parts(&model, Method::Mend);
    let mut all = tensors("", editor.state());
    all.push((SEEN.to_owned(), Dtype::U8, seen().iter().flat_map(|digest| *digest.bytes()).collect()));
    change(&mut head, &mut all);
    let bytes = file(&all, HEAD, serde_json::to_string(&head).expect("a head is JSON"));
    read_bytes(&bytes, &model, &base()).expect_err("an editor that cannot be used")
}

#[test]
fn an_editor_is_read_as_it_was_written() {
    let model = toy_model();
    let (methods, kinds) = ([Method::Mend, Method::Ke], [TrainedOn::Text, TrainedOn::Zsre, TrainedOn::Cf]);
    for (method, on) in methods.into_iter().flat_map(|method| kinds.map(|on| (method, on))) {
        let (head, mut editor) = parts_on(&model, method, on);
        let bytes = to_bytes(&head, &mut editor, &seen());
        let found = read_bytes(&bytes, &model, &base()).expect("the editor is read");
        let address = Digest::from_bytes(ADDRESS);
        assert_eq!(found, StoredEditor { address, head, editor, seen: seen().into_iter().collect() });
    }
}

#[test]
fn an_editor_of_another_model_is_refused() {
    let model = toy_model();
    let (head, mut editor) = parts(&model, Method::Mend);
    let bytes = to_bytes(&head, &mut editor, &seen());
    let other = Digest::of(b"other");
    let error = read_bytes(&bytes, &model, &other).expect_err("another base");
    assert!(
        matches!(&error, EditorFileError::OtherBase { name, digest } if name == "toy" && *digest == base()),
        "{error}"
    );
    let gated = read_bytes(&bytes, &family("llama"), &base()).expect_err("a gated model");
    let wanted = "it edits down@1, up@1, down@2, up@2, but the model has gate@1, up@1, down@1, gate@2, up@2, down@2";
    assert_eq!(gated.to_string(), wanted);
    let wider = read_bytes(&bytes, &family("gpt2"), &base()).expect_err("a wider model");
    assert!(matches!(wider, EditorFileError::Tensor(_)), "{wider}");
}

#[test]
fn an_editor_of_another_version_is_refused() {
    let said = |error: EditorFileError| match error {
        EditorFileError::Head(why) => why,
        other => panic!("{other}"),
    };
    assert!(said(refused(|head, _| head.inputs.version = 2)).contains("version 2"));
    assert!(said(refused(|head, _| head.inputs.numerics = "portable-9".to_owned())).contains("portable-9"));
    assert!(
        said(refused(|head, _| {
            head.inputs.numbers.remove("rank");
        }))
        .contains("settings")
    );
    assert!(
        said(refused(|head, _| {
            head.inputs.numbers.insert("rings".to_owned(), 1.0);
        }))
        .contains("settings")
    );
    let model = toy_model();
    let text = |bytes: &[u8]| said(read_bytes(bytes, &model, &base()).expect_err("no editor"));
    assert_eq!(text(&file(&[], "other", String::new())), "it has no head");
    assert!(text(&file(&[], HEAD, r#"{"facts": 3}"#.to_owned())).contains("missing field"));
    let store = Store::open(tempfile::tempdir().expect("a temporary folder").path().to_owned());
    let missing = read(&store, &Digest::from_bytes(ADDRESS), &model, &base());
    assert_eq!(said(missing.expect_err("nothing is stored")), "it is missing");
}

#[test]
fn a_changed_tensor_is_refused() {
    type Tensors = Vec<(String, Dtype, Vec<u8>)>;
    type Change = fn(&mut (String, Dtype, Vec<u8>));
    let of = |name: &'static str, change: Change| {
        refused(move |_, all: &mut Tensors| {
            change(all.iter_mut().find(|(found, ..)| found == name).expect("the tensor exists"));
        })
    };
    let renamed: Change = |tensor| tensor.0 = "other".to_owned();
    let shorter: Change = |tensor| tensor.2.truncate(tensor.2.len() - tensor.1.size());
    let other_type: Change = |tensor| tensor.1 = if tensor.1 == Dtype::F32 { Dtype::U32 } else { Dtype::I8 };
    for name in ["rates", "up.V.0", "down.scale.1", "down.delta.mean", "up.x.count", "seen"] {
        for change in [renamed, shorter, other_type] {
            let error = of(name, change);
            assert!(matches!(&error, EditorFileError::Tensor(found) if found == name), "{name}: {error}");
        }
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let model = toy_model();
    let (head, mut editor) = parts(&model, Method::Mend);
    let bytes = to_bytes(&head, &mut editor, &seen());
    let short = read_bytes(&bytes[..bytes.len() - 4], &model, &base()).expect_err("a short file");
    assert!(matches!(short, EditorFileError::Head(_)), "{short}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().to_owned());
    let address = Digest::from_bytes(ADDRESS);
    store.put(EntryKind::Editor, &address, &bytes).expect("the editor is stored");
    let path = store.path(EntryKind::Editor, &address);
    let mut stored = std::fs::read(&path).expect("the file exists");
    stored[bytes.len() - 1] ^= 1;
    std::fs::write(&path, stored).expect("the file is written");
    let damaged = read(&store, &address, &model, &base()).expect_err("a damaged file");
    assert!(matches!(damaged, EditorFileError::Store(StoreError::Damaged { .. })), "{damaged}");
}
