//! Compares ROME with the independent PyTorch implementation in tests/reference/rome.py, which computes in float64.

use std::path::Path;

use corrigenda::compile::value::{Hook, Objective};
use corrigenda::compile::{Compiled, Fact, Resolved, Settings, Stage, Step, compile, compile_all, keys};
use corrigenda::link::{LinkPair, link};
use corrigenda::model::run::suffix_pass::SuffixPass;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::cholesky::Factor;
use corrigenda::project::EndMark;
use corrigenda::stats::SecondMoment;
use serde_json::Value;

use crate::support::{counterfact_model, golden, ids, numbers, reference, relative, shared, tiny, wide};

/// A golden file with its model and settings.
struct Parity {
    golden: Value,
    model: Model,
    tokens: Tokens,
    layer: usize,
    templates: Vec<String>,
}

impl Parity {
    fn new(file: &str, folder: &Path) -> Self {
        let golden = golden(file);
        let model = Model::open(folder, Isa::detect()).expect("the model opens");
        let tokens = Tokens::open(folder, model.spec().vocabulary).expect("its tokenizer opens");
        let layer = golden["layer"].as_u64().expect("a layer") as usize;
        let text = |value: &Value| value.as_str().expect("a template").to_owned();
        let templates = golden["templates"].as_array().expect("templates").iter().map(text).collect();
        Self { golden, model, tokens, layer, templates }
    }

    fn edits(&self) -> &[Value] {
        self.golden["edits"].as_array().expect("edits")
    }

    fn resolve(&self, edit: &Value) -> Resolved {
        let text = |key: &str| edit[key].as_str().expect("a text");
        let fact = Fact {
            subject: text("subject"),
            prompt: text("prompt"),
            target: text("target"),
            chat: false,
            end: EndMark::None,
        };
        let limit = self.model.spec().max_positions;
        Resolved::new(&self.tokens, &self.templates, fact, limit).expect("the edit resolves")
    }

    /// Computes the Cholesky factor of C over the corpus of the golden file.
    fn factor(&self, corpus: &Path) -> Factor {
        let statistics = &self.golden["statistics"];
        let whole = |key: &str| statistics[key].as_u64().expect("a number") as usize;
        let text = std::fs::read_to_string(corpus).expect("the corpus");
        let mut moment = SecondMoment::new(self.model.spec().intermediate_size);
        for line in text.lines().filter(|line| !line.trim().is_empty()).take(whole("lines")) {
            let mut row = self.tokens.encode(line).expect("the text is tokenized").ids;
            row.truncate(whole("max_tokens"));
            moment.add(self.model.isa(), &self.model.keys(self.layer, &[&row]));
        }
        assert_eq!(moment.count(), statistics["count"].as_u64().expect("a count"));
        let (matrix, inner) = (moment.matrix(), self.model.spec().intermediate_size);
        let diagonal: Vec<f64> = (0..inner).map(|i| matrix[i * inner + i]).collect();
        assert!(relative(&diagonal, &numbers(&statistics["diagonal"])) < 1e-5);
        let (factor, ridge) = moment.factor().expect("C has full rank");
        assert_eq!(ridge, 0.0);
        factor
    }

    /// Compares tokens and positions; key and v₀ within 1e-4; loss terms at δ = 0 and at a probe within 1e-4; the
    /// gradient; δ after one, two and three updates within 1e-3; the last loss of the published run within 1e-2.
    fn check_value(&self, edit: &Value) {
        let name = &edit["id"];
        let resolved = self.resolve(edit);
        assert_eq!(resolved.target, ids(&edit["target_ids"]), "{name}");
        for (row, want) in resolved.rows.iter().zip(edit["key_rows"].as_array().expect("rows")) {
            assert_eq!((&row.ids, row.position as u64), (&ids(&want["ids"]), want["position"].as_u64().expect("one")));
        }
        let settings = Settings::published();
        let objective = Objective::new(&self.model, self.layer, &resolved, &settings);
        assert!(relative(&wide(&objective.key), &numbers(&edit["key"])) < 1e-4, "{name}: key");
        assert!(relative(&wide(&objective.value_before), &numbers(&edit["value0"])) < 1e-4, "{name}: v₀");
        let width = self.model.spec().hidden_size;
        let terms = |delta: &[f64], want: &Value| {
            let (loss, gradient) = objective.at(delta);
            for (ours, theirs) in [loss.nll, loss.kl, loss.decay, loss.total()].iter().zip(numbers(want)) {
                assert!((ours - theirs).abs() <= 1e-4 * theirs.abs().max(1e-2), "{name}: {ours} {theirs}");
            }
            gradient
        };
        terms(&vec![0.0; width], &edit["first"]["terms"]);
        let gradient = terms(&numbers(&edit["probe"]["delta"]), &edit["probe"]["terms"]);
        assert!(relative(&gradient, &numbers(&edit["probe"]["gradient"])) < 1e-3, "{name}: gradient");
        let mut seen = Vec::new();
        objective.descend(Stage { rate: 0.5, steps: 20 }, |delta, loss| seen.push((delta.to_vec(), loss)));
        for (step, want) in edit["delta_after"].as_array().expect("deltas").iter().enumerate() {
            let error = relative(&seen[step + 1].0, &numbers(want));
            assert!(error < 1e-3, "{name}: δ after {} updates is off by {error:e}", step + 1);
        }
        let losses = edit["published"]["losses"].as_array().expect("losses");
        let (last, want) = (seen[seen.len() - 1].1.total(), numbers(&losses[losses.len() - 1])[3]);
        assert!((last - want).abs() <= 1e-2 * want.abs().max(1.0), "{name}: final loss {last} {want}");
    }

    /// Compares the direction of C⁻¹k by cosine, and Δ with the reference's v* injected, applied to vectors, within
    /// 1e-3.
    fn check_update(&self, edit: &Value, factor: &Factor) {
        let name = &edit["id"];
        let key: Vec<f32> = numbers(&edit["key"]).iter().map(|&x| x as f32).collect();
        let value: Vec<f32> = numbers(&edit["link"]["value"]).iter().map(|&x| x as f32).collect();
        let linked = link(factor, &[LinkPair { key: &key, value: &value }], 0.0, |key| {
            self.model.mlp_output_f64(self.layer, key)
        })
        .expect("one key");
        let direction = numbers(&edit["direction"]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine =
            dot(&linked.v[0], &direction) / (dot(&linked.v[0], &linked.v[0]) * dot(&direction, &direction)).sqrt();
        assert!(cosine > 0.9999, "{name}: cosine {cosine}");
        let norm = (dot(&linked.u[0], &linked.u[0]) * dot(&linked.v[0], &linked.v[0])).sqrt();
        let want = edit["link"]["frobenius"].as_f64().expect("a norm");
        assert!((norm - want).abs() < 1e-3 * want, "{name}: ‖Δ‖ {norm} {want}");
        if !edit["link"]["update"].is_null() {
            let update: Vec<f64> = linked.u[0].iter().flat_map(|u| linked.v[0].iter().map(move |v| u * v)).collect();
            let error = relative(&update, &numbers(&edit["link"]["update"]));
            assert!(error < 1e-3, "{name}: Δ is off by {error:e}");
        }
    }
}

#[test]
fn the_tiny_model_agrees_with_pytorch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let parity = Parity::new("rome.json", folder.path());
    let factor = parity.factor(&reference("tiny_corpus.txt"));
    for edit in parity.edits() {
        parity.check_value(edit);
        parity.check_update(edit, &factor);
    }
    // Links all three edits with the values of the reference.
    let list = |edit: &Value, key: &Value| -> (Vec<f32>, Vec<f32>) {
        let narrow = |value: &Value| numbers(value).iter().map(|&x| x as f32).collect();
        (narrow(&edit["key"]), narrow(key))
    };
    let pairs: Vec<_> = parity.edits().iter().map(|edit| list(edit, &edit["link"]["value"])).collect();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| LinkPair { key, value }).collect();
    let linked = link(&factor, &pairs, 0.0, |key| parity.model.mlp_output_f64(parity.layer, key)).expect("three keys");
    let mut update = vec![0.0; tiny::WIDTH * tiny::INNER];
    for (u, v) in linked.u.iter().zip(&linked.v) {
        for (row, scale) in update.chunks_mut(tiny::INNER).zip(u) {
            row.iter_mut().zip(v).for_each(|(x, v)| *x += scale * v);
        }
    }
    let error = relative(&update, &numbers(&parity.golden["joint"]["update"]));
    assert!(error < 1e-3, "the joint Δ is off by {error:e}");
}

#[test]
fn a_real_model_agrees_with_pytorch() {
    let (Some(folder), Some(corpus)) = (counterfact_model(), shared("data/wiki_8mb.txt")) else { return };
    let parity = Parity::new("rome-counterfact.json", &folder);
    let factor = parity.factor(&corpus);
    for edit in parity.edits() {
        parity.check_value(edit);
        parity.check_update(edit, &factor);
    }
}

#[test]
fn compiled_edits_ignore_threads_and_isa() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let parity = Parity::new("rome.json", folder.path());
    let resolved = parity.resolve(&parity.edits()[1]);
    let settings = Settings { schedule: vec![Stage { rate: 0.5, steps: 6 }], ..Settings::published() };
    let want = compile(&parity.model, 1, &resolved, &settings);
    for isa in Isa::all() {
        let model = Model::open(folder.path(), isa).expect("the model opens");
        for threads in [1, 2, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let got = pool.install(|| compile(&model, 1, &resolved, &settings));
            assert_eq!((&got.key, &got.value), (&want.key, &want.value), "{} × {threads}", isa.name());
        }
    }
}

#[test]
fn parallel_edits_equal_single_edits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let parity = Parity::new("rome.json", folder.path());
    let resolved: Vec<Resolved> = parity.edits().iter().map(|edit| parity.resolve(edit)).collect();
    // The searches of the edits end at different steps and stages, and each edit occurs twice.
    let stages = [(0.5, 6), (0.1, 3), (0.5, 9)].map(|(rate, steps)| Stage { rate, steps });
    let settings = Settings { schedule: stages.into(), converged_nll: 1.0, ..Settings::published() };
    let edits: Vec<&Resolved> = resolved.iter().chain(&resolved).collect();
    let mut found: Vec<Option<Compiled>> = vec![None; edits.len()];
    let done = |index: usize, step| {
        if let Step::Ended(compiled) = step {
            assert!(found[index].replace(compiled).is_none(), "once each");
        }
        Ok::<_, ()>(())
    };
    compile_all(&parity.model, 1, &edits, (&settings, Hook::Mlp), done).expect("nothing fails");
    for (edit, got) in edits.iter().zip(found) {
        let (got, want) = (got.expect("every edit comes to an end"), compile(&parity.model, 1, edit, &settings));
        assert_eq!((&got.key, &got.value, &got.value_before), (&want.key, &want.value, &want.value_before));
        let how = |one: &Compiled| (one.loss, one.stage, one.evaluations, one.converged);
        assert_eq!(how(&got), how(&want));
    }
    let alone = |edit: &&Resolved| compile(&parity.model, 1, edit, &settings).key;
    let together: Vec<Vec<f32>> = keys(&parity.model, 1, &edits, settings.bare_weight).collect();
    assert_eq!(together, edits.iter().map(alone).collect::<Vec<_>>(), "keys by themselves");
}

/// Caching (of the layers below, and of the positions before the subject's last token) and skipping (of positions
/// without a label after the last block) do not change a bit: with δ = 0 the logits equal those of a forward pass over
/// whole rows. For δ ≠ 0, the tests above compare with PyTorch.
#[test]
fn shared_prefixes_change_no_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let parity = Parity::new("rome.json", folder.path());
    for edit in parity.edits() {
        let resolved = parity.resolve(edit);
        let label = resolved.target.len();
        let rows: Vec<Vec<u32>> =
            resolved.rows.iter().map(|row| [&row.ids[..], &resolved.target[..label - 1]].concat()).collect();
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let moving: Vec<usize> = resolved.rows.iter().map(|row| row.position).collect();
        let tails = vec![label; rows.len()];
        let want = parity.model.logits(&tokens, &tails).concat();
        for layer in 0..tiny::LAYERS {
            let hooked = parity.model.run_hook(layer, &tokens, &moving);
            let above = SuffixPass::new(&parity.model, layer, &hooked, &moving, &tails);
            assert_eq!(above.evaluate(&[0.0; tiny::WIDTH]).logits, want, "layer {layer}");
        }
    }
}
