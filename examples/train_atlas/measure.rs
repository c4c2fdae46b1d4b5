//! Measures the recall of a written model with the library's decoder.

use std::collections::BTreeMap;
use std::path::Path;

use corrigenda::model::{Model, Spec, Tokens};
use corrigenda::numeric::Isa;
use safetensors::SafeTensors;

use crate::Fallible;
use crate::network::{Network, Shape};
use crate::work::floats;
use crate::world::{Fact, World};

/// A number of questions (`asked`) and how many of them were answered correctly (`right`).
#[derive(Clone, Copy, Default)]
struct Share {
    right: usize,
    asked: usize,
}

impl Share {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.asked += 1;
    }

    fn join(&mut self, other: Self) {
        self.right += other.right;
        self.asked += other.asked;
    }

    fn text(self) -> String {
        format!("{:.3}", self.right as f64 / self.asked.max(1) as f64)
    }
}

/// The recall of the facts of one relation: in the phrasing for edits, in all trained phrasings, and in the held-out
/// phrasing.
#[derive(Clone, Copy, Default)]
struct Recall {
    edits: Share,
    trained: Share,
    held_out: Share,
}

/// The maximum absolute difference between the library's logits and candle's that is accepted.
const TOLERANCE: f32 = 1e-3;

/// Compares the library's logits with candle's, and prints the table of the recall per relation.
pub(crate) fn measure(world: &World, folder: &Path) -> Fallible<()> {
    let model = Model::open(folder, Isa::detect())?;
    let tokens = Tokens::open(folder, model.spec().vocabulary)?;
    let distance = distance(folder, &model, &tokens)?;
    println!("logits here and in candle differ by {distance:.1e} at most\n");
    if distance.is_nan() || distance >= TOLERANCE {
        return Err(format!("more than {TOLERANCE:e}").into());
    }
    print(&table(world, &model, &tokens)?);
    Ok(())
}

/// Returns the recall of each relation, measured on every fact in every phrasing of its relation.
fn table<'a>(world: &'a World, model: &Model, tokens: &Tokens) -> Fallible<BTreeMap<&'a str, Recall>> {
    let mut table: BTreeMap<&str, Recall> = BTreeMap::new();
    for facts in world.facts.chunks(64) {
        let asked: Vec<(&Fact, usize)> = facts
            .iter()
            .flat_map(|fact| (0..world.phrasings(fact).len()).map(move |phrasing| (fact, phrasing)))
            .collect();
        let cut = |&(fact, phrasing): &(&Fact, usize)| -> Fallible<_> {
            let prompt = tokens.encode(&world.prompt(fact, phrasing))?.ids;
            Ok((prompt, tokens.continuation(&format!(" {}", fact.object))?))
        };
        let rows = asked.iter().map(cut).collect::<Fallible<Vec<_>>>()?;
        for (&(fact, phrasing), right) in asked.iter().zip(recalled(model, &rows)) {
            let recall = table.entry(&fact.relation).or_default();
            let share = if phrasing == world.held_out(fact) { &mut recall.held_out } else { &mut recall.trained };
            share.add(right);
            if phrasing == 0 {
                recall.edits.add(right);
            }
        }
    }
    Ok(table)
}

fn print(table: &BTreeMap<&str, Recall>) {
    println!("| relation | facts | phrasing for edits | trained phrasings | held-out phrasing |");
    println!("|---|---:|---:|---:|---:|");
    let mut all = Recall::default();
    let line = |name: &str, recall: &Recall| {
        let Recall { edits, trained, held_out } = recall;
        println!("| {name} | {} | {} | {} | {} |", edits.asked, edits.text(), trained.text(), held_out.text());
    };
    for (name, recall) in table {
        line(name, recall);
        all.edits.join(recall.edits);
        all.trained.join(recall.trained);
        all.held_out.join(recall.held_out);
    }
    line("**all**", &all);
}

/// Returns, for each pair of prompt and answer in `rows`, whether every token of the answer is the arg-max.
fn recalled(model: &Model, rows: &[(Vec<u32>, Vec<u32>)]) -> Vec<bool> {
    let vocabulary = model.spec().vocabulary;
    let inputs: Vec<Vec<u32>> =
        rows.iter().map(|(prompt, answer)| [prompt, &answer[..answer.len() - 1]].concat()).collect();
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let tails: Vec<usize> = rows.iter().map(|(_, answer)| answer.len()).collect();
    let right = |(logits, (_, answer)): (Vec<f32>, &(Vec<u32>, Vec<u32>))| {
        logits.chunks(vocabulary).zip(answer).all(|(row, &want)| {
            let best = row[want as usize];
            row.iter().enumerate().all(|(id, &logit)| id == want as usize || logit < best)
        })
    };
    model.logits(&inputs, &tails).into_iter().zip(rows).map(right).collect()
}

/// Returns the largest difference between the library's logits and candle's over one sequence.
pub(crate) fn distance(folder: &Path, model: &Model, tokens: &Tokens) -> Fallible<f32> {
    let shape = shape(model.spec());
    let file = std::fs::read(folder.join("model.safetensors"))?;
    let file = SafeTensors::deserialize(&file)?;
    let mut flat = Vec::new();
    for parameter in shape.parameters() {
        flat.extend(floats(file.tensor(&parameter.name)?.data()));
    }
    let text = "The capital of France is Paris. Kevin Durant plays the sport of basketball. The soup was hot.";
    let mut row = tokens.encode(text)?.ids;
    row.truncate(shape.context);
    let theirs = Network::new(&shape, &flat)?.logits(&[&row])?.flatten_all()?.to_vec1::<f32>()?;
    let ours = model.logits(&[&row], &[row.len()]).remove(0);
    Ok(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

fn shape(spec: &Spec) -> Shape {
    let &Spec { layers, hidden_size: width, heads, max_positions: context, vocabulary, .. } = spec;
    Shape { layers, width, heads, context, vocabulary }
}
