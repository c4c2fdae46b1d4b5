//! Compares editors of matrices with the layout of Conv1D and editors of matrices with the layout of Linear.

use serde_json::json;

use super::capture::{CapturedFact, SiteRows};
use super::sites::sites;
use super::toy::{FACTS, Tensors, captured_facts, captured_rows, dense, family, family_parts, judge, norm, open};
use super::toy::{outer_texts, state_bytes, toy_ke, toy_mend, wide};
use crate::model::Model;
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::{LowRank, Site};
use crate::numeric::Isa;

fn distance(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    norm(found.iter().zip(wanted).map(|(a, b)| a - b)) / norm(wanted.iter().copied())
}

/// Returns the columns `first..first + count` of a row-major matrix with `width` columns, transposed.
fn transposed(matrix: &[f32], width: usize, first: usize, count: usize) -> Vec<f32> {
    (first..first + count).flat_map(|column| matrix.iter().skip(column).step_by(width)).copied().collect()
}

/// Opens the same model twice: as a GPT-2, which has the layout of Conv1D, and as a GPT-Neo, which has the layout of
/// Linear. GPT-Neo has no attention biases and does not divide by the square root of the head width.
fn both_layouts() -> [Model; 2] {
    let (config, mut conv) = family_parts("gpt2");
    let (mut neo_config, _) = family_parts("gpt_neo");
    let (width, head) = (32, 8_f32);
    neo_config["intermediate_size"] = json!(128);
    neo_config["attention_types"] = json!([[["global"], 3]]);
    neo_config["attention_layers"] = json!(["global", "global", "global"]);
    let mut linear = Tensors::new();
    for (name, (shape, elements)) in &mut conv {
        let matrix_columns = *shape.last().expect("a shape") as usize;
        let parts = name.replace("attn.c_proj", "attn.attention.out_proj");
        if name.ends_with("attn.c_attn.bias") {
            elements.fill(0.0);
        } else if name.ends_with("attn.c_attn.weight") {
            for (index, part) in ["q", "k", "v"].into_iter().enumerate() {
                let mut own = transposed(elements, matrix_columns, index * width, width);
                if part == "q" {
                    own.iter_mut().for_each(|x| *x /= head.sqrt());
                }
                let own_name = name.replace("attn.c_attn", &format!("attn.attention.{part}_proj"));
                linear.insert(own_name, (vec![width as u64, width as u64], own));
            }
        } else if name.contains("c_") && name.ends_with(".weight") {
            let turned = vec![shape[1], shape[0]];
            linear.insert(parts, (turned, transposed(elements, matrix_columns, 0, matrix_columns)));
        } else {
            linear.insert(parts, (shape.clone(), elements.clone()));
        }
    }
    [open(&config, &conv, Isa::detect()), open(&neo_config, &linear, Isa::detect())]
}

#[test]
fn mend_is_the_same_in_both_layouts() {
    let found = both_layouts().map(|model| {
        let sites = sites(model.spec(), 2);
        let mut mend = toy_mend(&model, &sites, false);
        let rows = captured_rows(&model, &sites);
        rows.iter().for_each(|rows| mend.observe(rows));
        let edits = mend.observe_and_edit(&captured_facts(&rows));
        let (losses, by_changes) = judge(&model, &sites, &edits.changes, &outer_texts());
        let mut sums = mend.zero_gradients();
        mend.reverse(&edits, &by_changes, &mut sums);
        let mut numbers = vec![losses.iter().flat_map(|loss| [loss.edit, loss.divergence]).collect::<Vec<f64>>()];
        for change in edits.changes.iter().flatten() {
            numbers.push(wide(&change.a).collect());
            numbers.push(wide(&change.b).collect());
        }
        let layers = sums.networks.iter().flat_map(|network| &network.layers);
        numbers.extend(layers.flat_map(|layer| layer.parts()).map(|part| wide(part).collect::<Vec<f64>>()));
        numbers.push(wide(&sums.rates).collect());
        numbers
    });
    assert_eq!(found[0].len(), found[1].len());
    for (index, (conv, linear)) in found[0].iter().zip(&found[1]).enumerate() {
        let error = distance(linear, conv);
        assert!(error < 1e-3, "tensor {index}: {error:e}");
    }
}

/// Returns the factors in the other order: the change of the transposed matrix.
fn turned(change: &LowRank) -> LowRank {
    LowRank { a: change.b.clone(), b: change.a.clone() }
}

/// Rows and columns are those of the stored matrix. An up-projection with the layout of Linear has the stored shape of
/// a down-projection with the layout of Conv1D, so KE computes the transposed change from swapped rows.
#[test]
fn ke_uses_the_rows_and_columns_of_the_stored_matrix() {
    let [conv, linear] = both_layouts();
    let down = [Site { layer: 1, matrix: MlpMatrix::Down }];
    let up = [Site { layer: 1, matrix: MlpMatrix::Up }];
    let (of_conv, of_linear) = (toy_ke(&conv, &down), toy_ke(&linear, &up));
    assert_eq!(state_bytes(&of_conv), state_bytes(&of_linear));
    let rows = captured_rows(&linear, &up).remove(0);
    let swapped = [SiteRows { x: rows[0].delta.clone(), delta: rows[0].x.clone() }];
    let text = FACTS[0].0;
    let shape = up[0].shape(linear.spec());
    let (facts, facts_of_conv) = ([CapturedFact { text, rows: &rows }], [CapturedFact { text, rows: &swapped }]);
    let (edits, edits_of_conv) = (of_linear.edit(&facts), of_conv.edit(&facts_of_conv));
    let found = dense(&edits.changes[0][0], shape);
    let wanted = dense(&turned(&edits_of_conv.changes[0][0]), shape);
    assert!(distance(&found, &wanted) < 1e-6);
    // The split into column A, row A, column B, row B and the scale, written out for the stored shape [out, in].
    let part = &edits.parts[0][0];
    let gradient = |output: usize, input: usize| {
        let pairs = rows[0].x.chunks(shape.0).zip(rows[0].delta.chunks(shape.1));
        pairs.map(|(x, delta)| f64::from(x[input]) * f64::from(delta[output])).sum::<f64>()
    };
    let [column_a, row_a, column_b, row_b] =
        [&part.column_a, &part.row_a, &part.column_b, &part.row_b].map(|numbers| wide(numbers).collect::<Vec<f64>>());
    assert_eq!((row_a.len(), column_a.len()), (shape.1, shape.0));
    assert!((row_a.iter().sum::<f64>() - 1.0).abs() < 1e-5 && (row_b.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    let element = |index: usize| {
        let (input, output) = (index / shape.1, index % shape.1);
        let from_gradient = row_a[output] * column_a[input] * gradient(output, input);
        f64::from(part.scale) * (from_gradient + row_b[output] * column_b[input])
    };
    let formula: Vec<f64> = (0..found.len()).map(element).collect();
    assert!(distance(&found, &formula) < 1e-5);
}

/// Without this, the test of the layouts would compare two models that are not the same.
#[test]
fn both_layouts_give_the_same_logits() {
    let texts: [&[u32]; 1] = [FACTS[1].0];
    let [conv, linear] = both_layouts().map(|model| model.logits(&texts, &[texts[0].len()]).remove(0));
    let [conv, linear] = [conv, linear].map(|logits| wide(&logits).collect::<Vec<f64>>());
    assert!(distance(&linear, &conv) < 1e-5);
    let other: Vec<f64> = wide(&family("gpt2").logits(&texts, &[texts[0].len()]).remove(0)).collect();
    assert!(distance(&other, &conv) > 1e-3);
}
