//! Compares the decoder with Hugging Face transformers, and its results for batches, threads and instruction sets with
//! each other.

use corrigenda::behaviour::continuation::{ContinuationOptions, EndReason, generate};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;

use crate::support::{distance, golden, ids, numbers, tiny};

fn tiny_model(isa: Isa) -> (tempfile::TempDir, Model, Tokens) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    let model = Model::open(folder.path(), isa).expect("the tiny model opens");
    let tokens = Tokens::open(folder.path(), model.spec().vocabulary).expect("its tokenizer opens");
    (folder, model, tokens)
}

/// Logits, hidden states and keys are within 2e-4 of transformers in float64 (tests/reference/golden_forward.py).
#[test]
fn agrees_with_transformers() {
    let golden = golden("forward.json");
    let (_folder, model, tokens) = tiny_model(Isa::detect());
    let (width, inner) = (tiny::WIDTH, tiny::INNER);
    let mut worst = 0.0_f64;
    for case in golden["cases"].as_array().expect("cases") {
        let text = case["text"].as_str().expect("a text");
        let row = tokens.encode(text).expect("the text is tokenized").ids;
        assert_eq!(row, ids(&case["ids"]), "tokens of {text:?}");
        let last = row.len() - 1;
        let logits = model.logits(&[&row], &[row.len()]).remove(0);
        let vocabulary = tiny::VOCABULARY;
        worst = worst.max(distance(&logits[..vocabulary], &numbers(&case["logits_first"])));
        worst = worst.max(distance(&logits[last * vocabulary..], &numbers(&case["logits_last"])));
        for blocks in 0..=tiny::LAYERS {
            let hidden = model.hidden_states(&[&row], blocks);
            worst = worst.max(distance(&hidden[..width], &numbers(&case["hidden_first"][blocks])));
            worst = worst.max(distance(&hidden[last * width..], &numbers(&case["hidden_last"][blocks])));
        }
        for layer in 0..tiny::LAYERS {
            let keys = model.keys(layer, &[&row]);
            worst = worst.max(distance(&keys[last * inner..], &numbers(&case["keys_last"][layer])));
        }
    }
    assert!(worst <= 2e-4, "the greatest difference is {worst:e}");
}

/// The logits of a row do not depend on the other rows of the batch, the number of threads, the instruction set, or the
/// number of requested positions.
#[test]
fn a_row_does_not_depend_on_other_rows() {
    let (folder, model, tokens) = tiny_model(Isa::detect());
    let cut = |text: &str| tokens.encode(text).expect("the text is tokenized").ids;
    let (a, b, c) =
        (cut("The capital of France is"), cut("Rome"), cut("Ada lives in a city in the north of Spain and"));
    let alone = model.logits(&[&a], &[1]).remove(0);
    let together = model.logits(&[&c, &a, &b], &[2, 1, 1]);
    assert_eq!(alone, together[1]);
    let whole = model.logits(&[&a], &[a.len()]).remove(0);
    assert_eq!(alone, whole[whole.len() - tiny::VOCABULARY..]);
    for isa in Isa::all() {
        for threads in [1, 3] {
            let other = Model::open(folder.path(), isa).expect("the model opens");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            assert_eq!(alone, pool.install(|| other.logits(&[&a], &[1])).remove(0), "{} × {threads}", isa.name());
        }
    }
}

/// An untied head that equals the embedding gives the logits of the tied head; another untied head gives other logits.
#[test]
fn a_head_of_its_own_is_read() {
    let (_folder, model, tokens) = tiny_model(Isa::detect());
    let row = tokens.encode("The capital of France is").expect("the text is tokenized").ids;
    let want = model.logits(&[&row], &[1]).remove(0);
    for factor in [1.0, 2.0] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tiny::write_untied_model(folder.path(), factor);
        let untied = Model::open(folder.path(), Isa::detect()).expect("the model opens");
        let scaled: Vec<f32> = want.iter().map(|logit| factor * logit).collect();
        assert_eq!(untied.logits(&[&row], &[1]).remove(0), scaled);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write_model(folder.path());
    std::fs::write(
        folder.path().join("config.json"),
        tiny::CONFIG.replace("embeddings\": true", "embeddings\": false"),
    )
    .expect("config.json");
    let error = Model::open(folder.path(), Isa::detect()).expect_err("no head").to_string();
    assert!(error.contains("no tensor `lm_head.weight`"), "{error}");
}

/// Tensor names without `transformer.`, as in the Hub's gpt2, and tensors at odd addresses give the same logits.
#[test]
fn other_exports_of_the_same_model_say_the_same() {
    let (_folder, model, tokens) = tiny_model(Isa::detect());
    let row = tokens.encode("The capital of France is").expect("the text is tokenized").ids;
    let want = model.logits(&[&row], &[1]);
    let bare = tiny::weights(|name| name.trim_start_matches("transformer.").to_owned(), |_, _| ());
    // The header grows by one byte, so every tensor is unaligned.
    let length = u64::from_le_bytes(bare[..8].try_into().expect("eight bytes"));
    let mut odd = (length + 1).to_le_bytes().to_vec();
    odd.extend_from_slice(&bare[8..8 + length as usize]);
    odd.push(b' ');
    odd.extend_from_slice(&bare[8 + length as usize..]);
    for weights in [bare, odd] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tiny::write_model_with(folder.path(), &weights);
        let export = Model::open(folder.path(), Isa::detect()).expect("the model opens");
        assert_eq!(export.logits(&[&row], &[1]), want);
        assert!(export.checkpoint().edited(0).name.starts_with("h.0."));
    }
}

/// A continuation is that of full forward passes, does not depend on the other prompts of the batch, and ends at the
/// context.
#[test]
fn continuations_equal_full_passes() {
    let (_folder, model, tokens) = tiny_model(Isa::detect());
    let rows: Vec<Vec<u32>> = ["The capital of France is", "Rome", "Ada lives in a city in the north of Spain and"]
        .iter()
        .map(|text| tokens.encode(text).expect("the text is tokenized").ids)
        .collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let context = model.spec().max_positions;
    let options = ContinuationOptions { tokens: 2 * context, seed: None };
    let mut seen = vec![Vec::new(); rows.len()];
    let together =
        generate(&model, &tokens, &rows, options, &mut |text, token| seen[text].push(token)).expect("finite logits");
    for (index, (row, text)) in rows.iter().zip(&together).enumerate() {
        assert_eq!(seen[index], text.ids);
        let alone = generate(&model, &tokens, &[row], options, &mut |_, _| {}).expect("finite logits");
        assert_eq!(&alone[0], text);
        let mut whole = row.to_vec();
        for token in &text.ids {
            let logits = model.logits(&[&whole], &[1]).remove(0);
            let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
            assert_eq!(best as u32, *token);
            whole.push(*token);
        }
        if text.end == EndReason::Context {
            assert_eq!(whole.len(), context + 1, "the last token is predicted from a full context");
        }
        let few = ContinuationOptions { tokens: 3, seed: None };
        let short = generate(&model, &tokens, &[row], few, &mut |_, _| {}).expect("finite logits");
        assert_eq!(short[0].ids, text.ids[..3.min(text.ids.len())]);
    }
    assert!(together.iter().any(|text| text.end == EndReason::Context), "{together:?}");
}
