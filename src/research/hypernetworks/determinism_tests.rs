//! Tests that a training gives the same bits with every number of threads and on every instruction set.
//!
//! The model is so wide that the parameters of the editors, the rows of a step and the products are divided among
//! several threads.

use serde_json::json;

use super::ke::{Ke, KeSizes};
use super::learner::Learner;
use super::mend::Mend;
use super::sites::{BLOCKS, sites};
use super::toy::{family_parts, generated::family_tensors, open, state_bytes};
use super::train::{FactText, Training, TrainingData, TrainingFact, TrainingSettings};
use crate::model::Model;
use crate::numeric::Isa;
use crate::numeric::random::NumpyRandomState;

const VOCABULARY: usize = 300;
/// More elements than this are divided among threads.
const GRAIN: usize = 1 << 14;

/// Opens a GPT-2 with twice the width of the one in golden/families.json.
fn wide_model(isa: Isa) -> Model {
    let (mut config, tensors) = family_parts("gpt2");
    for (key, number) in
        [("n_embd", 64), ("n_positions", VOCABULARY), ("n_ctx", VOCABULARY), ("vocab_size", VOCABULARY)]
    {
        config[key] = json!(number);
    }
    let side = |side: &u64| if *side == 64 { VOCABULARY as u64 } else { 2 * side };
    let shapes =
        tensors.iter().map(|(name, (shape, _))| (name.clone(), json!(shape.iter().map(side).collect::<Vec<_>>())));
    open(&config, &family_tensors(&serde_json::Value::Object(shapes.collect())), isa)
}

fn data() -> TrainingData {
    let text = |start: usize, length: usize| (0..length).map(|k| ((start + 13 * k) % VOCABULARY) as u32).collect();
    let fact = |index: usize| TrainingFact {
        stated: FactText { tokens: text(37 * index, 10), labels: 2 },
        rephrased: vec![FactText { tokens: text(37 * index + 130, 7), labels: 2 }],
    };
    let facts: Vec<TrainingFact> = (0..4).map(fact).collect();
    let unrelated = (0..3).map(|index| text(61 * index, 9)).collect();
    TrainingData { validation_unrelated: vec![text(5, 8)], validation: vec![fact(9)], facts, unrelated }
}

fn mend(model: &Model) -> Mend {
    let sites = sites(model.spec(), BLOCKS);
    let mend = Mend::new(model.spec(), model.isa(), sites, 64, &mut NumpyRandomState::new(1));
    assert!(mend.shapes.iter().flat_map(|shape| &shape.network.layers).all(|layer| layer.v.len() > GRAIN));
    mend
}

fn ke(model: &Model) -> Ke {
    let sizes = KeSizes { cells: 16, condition: 24, hidden: 32 };
    let mut ke = Ke::zeros(model, sites(model.spec(), BLOCKS), sizes);
    ke.draw(&mut NumpyRandomState::new(1));
    ke.learning_rate = 1e-3;
    assert!(ke.embedding.len() > GRAIN && ke.heads.iter().all(|head| head.second.v.len() > GRAIN));
    ke
}

/// Trains an editor for two steps with `threads` threads. Returns all numbers of the editor and the validation loss.
fn trained<L: Learner>(editor: impl Fn(&Model) -> L + Sync, threads: usize, isa: Isa) -> impl PartialEq {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        let (model, data) = (wide_model(isa), data());
        let settings = TrainingSettings { batch: 3, ..TrainingSettings::default() };
        let mut training = Training::new(&model, &data, settings, editor(&model)).expect("valid data");
        for _ in 0..2 {
            training.step().expect("finite");
        }
        let loss = training.validate().expect("finite");
        (state_bytes(&training.learner), loss.edit.to_bits(), loss.divergence.to_bits())
    })
}

fn compare<L: Learner>(editor: impl Fn(&Model) -> L + Sync) {
    let wanted = trained(&editor, 1, Isa::detect());
    for threads in [2, 8] {
        assert!(trained(&editor, threads, Isa::detect()) == wanted, "{threads} threads");
    }
    for isa in Isa::all().into_iter().filter(|isa| *isa != Isa::detect()) {
        assert!(trained(&editor, 1, isa) == wanted, "{}", isa.name());
    }
}

#[test]
fn mend_trains_the_same_bits_everywhere() {
    compare(mend);
}

#[test]
fn ke_trains_the_same_bits_everywhere() {
    compare(ke);
}
