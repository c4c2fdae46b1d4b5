//! Tests the refinement of linked sets: the gradient against finite differences, and the reproducibility of the patch.

use corrigenda::compile::{Fact, Resolved};
use corrigenda::link::refine::{RefineLoss, RefinementRun};
use corrigenda::link::{LayerUpdate, Refinement};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::random::NumpyRandomState;
use corrigenda::project::EndMark;

use crate::support::project::{PROJECT, Project};
use crate::support::tiny;

/// Runs `check` on a refinement of two edits with one context each, at two layers, from non-zero columns.
fn refining(check: impl Fn(&RefinementRun<'_>, &Refinement, &[f64])) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_editable_model(folder.path());
    let model = Model::open(folder.path(), Isa::detect()).expect("the model opens");
    let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
    let templates = ["{}", "We say that. {}"].map(str::to_owned);
    let fact = |subject, target| {
        let fact = Fact { subject, prompt: "{} lives in", target, chat: false, end: EndMark::None };
        Resolved::new(&tokens, &templates, fact, model.spec().max_positions).expect("it is read")
    };
    let edits = [fact("Ada Bellini", "Oslo"), fact("Rome", "Vienna")];
    let (width, inner) = (model.spec().hidden_size, model.spec().intermediate_size);
    let mut random = NumpyRandomState::new(3);
    let mut numbers = |count, scale: f64| (0..count).map(|_| scale * random.normal()).collect::<Vec<f64>>();
    let sites: Vec<LayerUpdate> = [0, 1]
        .map(|layer| LayerUpdate {
            layer,
            columns: vec![numbers(width, 0.1), numbers(width, 0.1)],
            rows: vec![numbers(inner, 0.1), numbers(inner, 0.1)],
        })
        .into();
    let sentences = ["I live in Lisbon.", "The people live in Rome"].map(|text| tokens.encode(text).expect("cut").ids);
    let settings = Refinement { contexts: 1, drift: 2.0, size: 0.5, ..Refinement::default() };
    let start: Vec<f64> = sites.iter().flat_map(|site| site.columns.iter().flatten().copied()).collect();
    let edits: Vec<&Resolved> = edits.iter().collect();
    check(&RefinementRun::new(&model, sites, &edits, &sentences, &settings), &settings, &start);
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    refining(|refining, settings, start| {
        let total = |loss: RefineLoss| loss.nll + settings.drift * loss.drift + settings.size * loss.size;
        let (_, gradient) = refining.at(start).expect("finite");
        let mut random = NumpyRandomState::new(5);
        // Uses random directions, because a single component changes f32 logits too little.
        for _ in 0..4 {
            let direction: Vec<f64> = start.iter().map(|_| random.normal()).collect();
            let moved = |by: f64| {
                let x: Vec<f64> = start.iter().zip(&direction).map(|(x, d)| x + by * d).collect();
                total(refining.at(&x).expect("finite").0)
            };
            let by = 1e-3;
            let found = (moved(by) - moved(-by)) / (2.0 * by);
            let want: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            assert!((found - want).abs() < 2e-3 * want.abs().max(0.1), "{found} {want}");
        }
    });
}

#[test]
fn an_unchanged_model_has_no_drift() {
    refining(|refining, _, start| {
        let (loss, _) = refining.at(&vec![0.0; start.len()]).expect("finite");
        assert_eq!((loss.drift, loss.size), (0.0, 0.0));
        assert!(loss.nll > 0.0);
    });
}

/// The patch id of the tiny project's three edits, refined with `portable-1`.
const PATCH: &str = "sha256:24843a4b6a161492cc1724801268215345f33d67ead3d9467617ac34f1b52ba7";

fn refined() -> Project {
    let project = Project::new();
    project.write("corrigenda.toml", &format!("{PROJECT}\n[link]\nrefine-steps = 4\n"));
    project
}

#[test]
fn a_refined_set_has_the_same_bytes_on_every_machine() {
    let project = refined();
    for isa in Isa::all() {
        for threads in ["1", "2", "8"] {
            let cache = format!("../cache-{}-{threads}", isa.name());
            let run = project.run(&["build", "--isa", isa.name(), "--threads", threads, "--cache-dir", &cache]);
            assert!(run.out().contains(PATCH), "{} with {threads} threads: {}", isa.name(), run.whole());
        }
    }
    // The file and the order of the edits do not change the patch.
    let (people, places) = (project.read("edits/people.toml"), project.read("edits/places.toml"));
    let places = places.trim_start_matches("format = 1").to_owned();
    std::fs::remove_file(project.path("edits/places.toml")).expect("the file is removed");
    let (one, two) = places.rsplit_once("[[edit]]").expect("two edits");
    project.write("edits/people.toml", &format!("format = 1\n\n[[edit]]{two}\n{one}"));
    project.write("edits/zzz.toml", &people);
    let run = project.run(&["build", "--cache-dir", "../shuffled"]);
    assert!(run.out().contains(PATCH), "{}", run.whole());
}

#[test]
fn a_refined_set_is_a_build_like_any_other() {
    let project = refined();
    let planned = project.run(&["plan"]);
    assert!(planned.out().contains("refined in 4 steps over layers 1, 2"), "{}", planned.out());
    let built = project.run(&["build"]);
    assert_eq!(built.code(), Some(0), "{}", built.whole());
    assert!(built.err().contains("step 4: NLL"), "{}", built.err());
    for layer in ["h.1.mlp", "h.2.mlp"] {
        assert!(built.out().contains(layer), "{}", built.out());
    }
    let again = project.run(&["build", "--locked"]);
    assert_eq!(again.code(), Some(0), "{}", again.whole());
    assert!(!again.err().contains("step 1"), "nothing is computed twice: {}", again.err());
    for verb in [&["verify"][..], &["verify", "--rebuild"], &["export", "checkpoint", "out"], &["verify", "out"]] {
        let run = project.run(verb);
        assert_eq!(run.code(), Some(0), "{verb:?}: {}", run.whole());
    }
    // The lock is stale if the number of refinement steps changes, and a build gives another patch.
    project.replace("corrigenda.toml", "refine-steps = 4", "refine-steps = 5");
    let stale = project.run(&["build", "--locked"]);
    assert_eq!(stale.code(), Some(3), "{}", stale.whole());
    project.replace("corrigenda.toml", "refine-steps = 5", "refine-steps = 0");
    let closed = project.run(&["build"]);
    assert!(closed.out().contains("h.1.mlp") && !closed.out().contains("h.2.mlp"), "{}", closed.out());
}
