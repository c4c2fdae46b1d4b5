//! Tests whole trainings: resumed trainings, and trainings that do not give an editor.

use std::cell::RefCell;

use super::super::data::digest_of;
use super::super::settings::{Method, TrainedOn, TrainingNumbers, numbers};
use super::super::toy::{toy_data, toy_model};
use super::*;

/// A receiver of progress that keeps the printed lines, and the stored state of the training at one position.
struct Recorder<'s> {
    store: &'s Store,
    address: Digest,
    position: u64,
    state: RefCell<Option<Vec<u8>>>,
    lines: RefCell<Vec<String>>,
}

impl<'s> Recorder<'s> {
    fn new(store: &'s Store, inputs: &TrainingInputs, position: u64) -> Self {
        let address = partial_address(&inputs.address());
        Self { store, address, position, state: RefCell::default(), lines: RefCell::default() }
    }
}

impl Progress for Recorder<'_> {
    fn begin(&self, _: &str, _: u64) {}
    fn set_position(&self, position: u64) {
        if position == self.position {
            *self.state.borrow_mut() = self.store.get(EntryKind::Partial, &self.address).expect("readable");
        }
    }
    fn line(&self, text: &str) {
        self.lines.borrow_mut().push(text.to_owned());
    }
    fn end(&self) {}
}

/// Returns the inputs of a training of 12 steps with a validation every 4 steps.
fn inputs(model: &Model, method: Method, changes: &[(&str, f64)]) -> TrainingInputs {
    let common =
        [("steps", 12.0), ("every", 4.0), ("batch", 3.0), ("layers", 2.0), ("edit-weight", 1.0), ("rate", 1e-2)];
    let own: &[(&str, f64)] = match method {
        Method::Mend => &[("rank", 5.0), ("scalar-rate", 1e-2)],
        Method::Ke => &[("lstm", 3.0), ("condition", 5.0), ("hidden", 4.0)],
    };
    let all = common.iter().chain(own).chain(changes).map(|(name, number)| ((*name).to_owned(), *number));
    let numbers = numbers(method, model.spec(), false, &all.collect::<TrainingNumbers>());
    let base = (Digest::of(b"toy"), model);
    TrainingInputs::new((method, TrainedOn::Cf), base, numbers, (1, false), digest_of(&toy_data()))
}

fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().to_owned());
    (folder, store)
}

fn stored_state(store: &Store, inputs: &TrainingInputs) -> Option<Vec<u8>> {
    store.get(EntryKind::Partial, &partial_address(&inputs.address())).expect("readable")
}

#[test]
fn a_resumed_training_gives_the_same_bits() {
    let (model, data) = (toy_model(), toy_data());
    for method in [Method::Mend, Method::Ke] {
        let inputs = inputs(&model, method, &[]);
        let (_folder, store) = new_store();
        // The state after step 8 is the newest one when step 9 has ended.
        let recorder = Recorder::new(&store, &inputs, 9);
        let wanted = train(&model, &data, &inputs, &store, &recorder).expect("a trained editor");
        let state = recorder.state.take().expect("a stored state");
        let (_other_folder, other) = new_store();
        other.put(EntryKind::Partial, &partial_address(&inputs.address()), &state).expect("the state is stored");
        let resumed = Recorder::new(&other, &inputs, 0);
        let found = train(&model, &data, &inputs, &other, &resumed).expect("a trained editor");
        assert_eq!(resumed.lines.borrow()[0], "continued after step 8", "{method:?}");
        assert_eq!(resumed.lines.borrow()[1..], recorder.lines.borrow()[3..], "{method:?}");
        assert_eq!((found.editor, found.curve, found.best), (wanted.editor, wanted.curve, wanted.best));
        assert!(stored_state(&other, &inputs) == stored_state(&store, &inputs), "{method:?}: the moments");
    }
}

#[test]
fn a_state_that_does_not_fit_is_not_resumed() {
    let (model, data) = (toy_model(), toy_data());
    let inputs = inputs(&model, Method::Mend, &[]);
    let (_folder, store) = new_store();
    let wanted = train(&model, &data, &inputs, &store, &Recorder::new(&store, &inputs, 0)).expect("a trained editor");
    let whole = stored_state(&store, &inputs).expect("a stored state");
    let position = r#"{"steps":4,"curve":[],"best":0}"#.to_owned();
    for state in [b"no state".to_vec(), whole[..whole.len() - 4].to_vec(), file(&[], PROGRESS, position)] {
        let (_other_folder, other) = new_store();
        other.put(EntryKind::Partial, &partial_address(&inputs.address()), &state).expect("the state is stored");
        let recorder = Recorder::new(&other, &inputs, 0);
        let found = train(&model, &data, &inputs, &other, &recorder).expect("a trained editor");
        assert!(recorder.lines.borrow()[0].starts_with("step 0:"), "{:?}", recorder.lines);
        assert_eq!((found.editor, found.curve), (wanted.editor.clone(), wanted.curve.clone()));
    }
}

/// Runs a training that must fail. Checks that the store has no editor, and returns the error.
fn failed(method: Method, changes: &[(&str, f64)]) -> RunError {
    let (model, data) = (toy_model(), toy_data());
    let inputs = inputs(&model, method, changes);
    let (_folder, store) = new_store();
    let recorder = Recorder::new(&store, &inputs, 0);
    let error = train(&model, &data, &inputs, &store, &recorder).expect_err("no editor");
    assert!(store.ls().expect("readable").iter().all(|entry| entry.kind != EntryKind::Editor));
    error
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training() {
    for (method, rate) in [(Method::Mend, 1e30), (Method::Ke, 1e39)] {
        for (every, wanted) in [(1.0, 1), (4.0, 2)] {
            let error = failed(method, &[("rate", rate), ("every", every)]);
            let step = match error {
                RunError::Training(TrainingError::Diverged { step }) => step,
                other => panic!("{method:?}: {other}"),
            };
            assert_eq!(step, wanted, "{method:?}");
        }
    }
}

#[test]
fn a_loss_that_does_not_fall_gives_no_editor() {
    for (method, changes) in
        [(Method::Mend, &[("rate", 0.0), ("scalar-rate", 0.0), ("start", 0.0)][..]), (Method::Ke, &[("rate", 0.0)][..])]
    {
        let error = failed(method, changes);
        assert!(matches!(error, RunError::NotLearned { start, lowest } if start <= lowest), "{method:?}: {error}");
    }
}

#[test]
fn data_that_is_not_sufficient_is_refused() {
    let model = toy_model();
    let inputs = inputs(&model, Method::Mend, &[]);
    let (_folder, store) = new_store();
    let error = |change: fn(&mut TrainingData)| {
        let mut data = toy_data();
        change(&mut data);
        let found = train(&model, &data, &inputs, &store, &Recorder::new(&store, &inputs, 0));
        match found.expect_err("no editor") {
            RunError::Training(error) => error,
            other => panic!("{other}"),
        }
    };
    assert_eq!(error(|data| data.facts.clear()), TrainingError::NoFacts);
    assert_eq!(error(|data| data.unrelated.clear()), TrainingError::NoUnrelated);
    assert_eq!(error(|data| data.facts[1].stated.labels = 0), TrainingError::Incomplete { fact: 1 });
    assert_eq!(error(|data| data.facts[2].rephrased.clear()), TrainingError::Incomplete { fact: 2 });
    assert!(store.ls().expect("readable").is_empty());
}
