//! Tests the gradients, the checks of the world's files, and the export: the library must open it and compute the same
//! logits.

use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;

use crate::draw::{Recipe, Source, Text};
use crate::network::{Network, Shape};
use crate::seed::Draw;
use crate::vocabulary::{END, encode};
use crate::world::World;
use crate::{export, measure, vocabulary};

const PHRASINGS: &str = "[capital]\nThe capital of {} is\n{} is governed from\nWhere is the capital of {}? In";
const FACTS: &str = "France | capital | Paris\nItaly | capital | Rome\nSpain | capital | Madrid";
const FILLERS: &str = "It rained.";

fn small() -> World {
    World::parse(FACTS, PHRASINGS, FILLERS).expect("a world")
}

fn bundled() -> World {
    World::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/atlas")).expect("the bundled world")
}

fn shape(vocabulary: usize) -> Shape {
    Shape { layers: 2, width: 16, heads: 2, context: 24, vocabulary }
}

/// Returns random parameters with a larger spread than for training, so that finite differences in f32 are precise
/// enough for every gradient.
fn parameters(shape: &Shape) -> Vec<f32> {
    let mut draw = Draw::new(7);
    let count: usize = shape.parameters().iter().map(crate::network::Parameter::count).sum();
    let drawn = shape.draw(&mut draw);
    assert_eq!(drawn.len(), count);
    drawn.into_iter().map(|x| x + 0.2 * draw.normal() as f32).collect()
}

/// Checks that a step along a parameter's gradient increases the loss as the gradient's norm predicts.
#[test]
fn gradients_are_finite_differences() {
    let shape = shape(40);
    let flat = parameters(&shape);
    let mut draw = Draw::new(9);
    let mut row = || Text {
        ids: (0..12).map(|_| draw.below(40) as u32).collect(),
        weights: (0..12).map(|_| draw.unit() as f32 + 0.5).collect(),
    };
    let rows = [row(), row(), row()];
    let loss = |point: &[f32]| {
        let loss = Network::new(&shape, point).and_then(|network| network.loss(&rows)).expect("a loss");
        f64::from(loss.to_scalar::<f32>().expect("one number"))
    };
    let (_, gradient) = Network::new(&shape, &flat).expect("a network").gradient(&rows).expect("a gradient");
    let mut first = 0;
    for parameter in shape.parameters() {
        let range = first..first + parameter.count();
        first = range.end;
        let norm = gradient[range.clone()].iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        let moved = |step: f64| {
            let mut flat = flat.clone();
            flat[range.clone()]
                .iter_mut()
                .zip(&gradient[range.clone()])
                .for_each(|(x, g)| *x += (step / norm) as f32 * g);
            loss(&flat)
        };
        let step = 0.02_f64.min(0.1 / norm);
        let measured = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((measured - norm).abs() < 0.02 * norm, "{}: {measured} is not {norm}", parameter.name);
    }
}

/// Checks that the library opens an export and computes the same logits as candle.
#[test]
fn the_library_reads_an_export() {
    let tokenizer = vocabulary::train(&small(), 300).expect("a tokenizer");
    let shape = Shape { context: 64, ..shape(tokenizer.get_vocab_size(true)) };
    let folder = tempfile::tempdir().expect("a folder");
    export::write(folder.path(), &shape, &parameters(&shape), &tokenizer).expect("written");
    let model = Model::open(folder.path(), Isa::detect()).expect("the library opens the export");
    let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("the library opens the tokenizer");
    let distance = measure::distance(folder.path(), &model, &tokens).expect("a distance");
    assert!(distance < 1e-3, "{distance}");
    // The token that separates documents is prepended to a text, but not to a continuation.
    let (whole, rest) = (tokens.encode("Rome").expect("tokens"), tokens.continuation(" Rome").expect("tokens"));
    assert_eq!(whole.ids, [&[END][..], &rest].concat());
    assert_eq!(whole.subject_last(&(0..4)), Some(whole.ids.len() - 1));
}

/// Checks that a text that is encoded in parts has the same tokens as the whole text, and that rows start with the
/// token that separates documents.
#[test]
fn a_batch_is_text_as_the_tokenizer_cuts_it() {
    let world = bundled();
    let tokenizer = vocabulary::train(&world, 1000).expect("a tokenizer");
    let recipe = Recipe { behind: 0.4, filler: 0.3, object_weight: 4.0 };
    let source = Source { world: &world, tokenizer: &tokenizer, recipe: &recipe };
    let rows = source.batch(&mut Draw::new(3), 20, 65).expect("rows");
    for row in rows {
        assert_eq!((row.ids.len(), row.weights.len()), (65, 65));
        assert_eq!(row.ids[0], END);
        assert!(row.weights.contains(&4.0));
        for document in row.ids.split(|&id| id == END) {
            let text = tokenizer.decode(document, false).expect("text");
            assert_eq!(encode(&tokenizer, &text).expect("tokens"), document, "{text:?}");
        }
    }
}

#[test]
fn one_phrasing_but_not_the_first_is_held_out() {
    let world = bundled();
    let mut used = std::collections::BTreeSet::new();
    for fact in &world.facts {
        let held_out = world.held_out(fact);
        let trained = world.trained(fact);
        assert!(trained.contains(&0) && !trained.contains(&held_out));
        assert_eq!(trained.len() + 1, world.phrasings(fact).len());
        used.insert((&fact.relation, held_out));
    }
    assert!(used.len() > world.phrasings.len());
}

#[test]
fn a_world_that_contradicts_itself_is_refused() {
    let refused = |facts: &str, phrasings: &str| World::parse(facts, phrasings, FILLERS).is_err();
    assert!(refused("Italy | capital | Rome\nFrance | capital | Paris", PHRASINGS), "out of order");
    assert!(refused("France | capital | Lyon\nFrance | capital | Paris", PHRASINGS), "two answers");
    assert!(refused("France | city | Paris", PHRASINGS), "no phrasing");
    assert!(refused("France | capital", PHRASINGS), "no object");
    assert!(refused(FACTS, &format!("{PHRASINGS}\nThe capital of {{}} is called")), "one begins another");
}

/// Checks that a generator that is created from the state of another generator continues its sequence.
#[test]
fn a_sampler_depends_only_on_its_state() {
    let mut one = Draw::new(5);
    one.normal();
    let mut other = Draw(one.0);
    assert_eq!(one.below(1 << 30), other.below(1 << 30));
}
