//! Tests the training of MEND and KE on a small model with fixed weights.

use super::super::ke::{Ke, KeSizes};
use super::super::mend::Mend;
use super::super::toy::{toy_data, toy_model, toy_sites};
use super::*;

fn settings() -> TrainingSettings {
    TrainingSettings { batch: 3, weights: LossWeights { edit: 1.0, locality: 1.0 }, ..TrainingSettings::default() }
}

fn mend() -> Mend {
    let model = toy_model();
    let mut mend = Mend::new(model.spec(), model.isa(), toy_sites(), 5, &mut NumpyRandomState::new(1));
    mend.learning.rates = 1e-2;
    mend
}

fn ke() -> Ke {
    let mut ke = Ke::zeros(&toy_model(), toy_sites(), KeSizes { cells: 3, condition: 5, hidden: 4 });
    ke.draw(&mut NumpyRandomState::new(1));
    ke.learning_rate = 1e-2;
    ke
}

/// Trains `learner` for 60 steps, and returns the validation loss before the first and after the last step.
fn losses<L: Learner>(learner: L) -> (f64, f64) {
    let (model, data) = (toy_model(), toy_data());
    let mut training = Training::new(&model, &data, settings(), learner).expect("valid data");
    let before = training.validate().expect("finite").total(settings().weights);
    for _ in 0..60 {
        training.step().expect("finite");
    }
    (before, training.validate().expect("finite").total(settings().weights))
}

#[test]
fn training_lowers_the_loss() {
    for (name, (before, after)) in [("MEND", losses(mend())), ("KE", losses(ke()))] {
        assert!(after < 0.9 * before, "{name}: {before} {after}");
    }
}

#[test]
fn every_thread_count_trains_the_same_parameters() {
    let trained = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let (model, data) = (toy_model(), toy_data());
            let mut training = Training::new(&model, &data, settings(), mend()).expect("valid data");
            for _ in 0..5 {
                training.step().expect("finite");
            }
            training.learner
        })
    };
    assert_eq!(trained(1), trained(3));
}

#[test]
fn validation_changes_nothing() {
    let (model, data) = (toy_model(), toy_data());
    let mut training = Training::new(&model, &data, settings(), mend()).expect("valid data");
    training.step().expect("finite");
    let before = training.learner.clone();
    let (one, other) = (training.validate(), training.validate());
    assert_eq!((one, training.learner), (other, before));
}
