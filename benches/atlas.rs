//! Seeded single edits of the bundled model: `cargo bench --bench atlas -- [--edits N] [--seed S] [--layer L | --sweep] [--together]`,
//! with the templates and the settings of the project at the repository's root.
//!
//! A fact is taken when the model knows it in the phrasing for edits; its new answer is another object of the relation.
//! Efficacy: the phrasing for edits gives it, every token the arg-max. Other phrasings: all others of the relation, in
//! which the model knew the old answer. Neighbours: other subjects of the relation with the same true answer that the
//! model knows, ten at most; kept when they still give it. `--sweep` does so at every
//! layer; `--together` links all of the edits instead of making each alone.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]
#![expect(dead_code, reason = "the trainer uses all of its world, the bench a part")]

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/editor.rs"]
mod editor;
#[path = "../examples/train_atlas/seed.rs"]
mod seed;
#[path = "../examples/train_atlas/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use arguments::option;
use corrigenda::behaviour::{Question, scores};
use corrigenda::build::setup::Corpus;
use corrigenda::build::{Base, Setup, Stop};
use corrigenda::compile;
use corrigenda::digest::Digest;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::project::Project;
use corrigenda::store::Store;
use editor::{Editor, Share};
use seed::Draw;
use world::{Fact, World};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Neighbours of one edit, at most.
const NEIGHBOURS: usize = 10;

/// An edit to be made.
struct Edit<'w> {
    fact: &'w Fact,
    target: &'w str,
}

/// Whether the answers hold.
fn hold(model: &Model, tokens: &Tokens, asked: &[(String, &str)]) -> Fallible<Vec<bool>> {
    let limit = model.spec().positions;
    let questions: Result<Vec<_>, _> =
        asked.iter().map(|(prompt, answer)| Question::new(tokens, prompt, answer, limit)).collect();
    Ok(scores(model, &questions?).into_iter().map(|score| score.holds).collect())
}

/// Prompts of which the model knows the answer.
fn known<'a>(editor: &Editor, asked: Vec<(String, &'a str)>) -> Fallible<Vec<(String, &'a str)>> {
    let known = hold(&editor.model, &editor.tokens, &asked)?;
    Ok(asked.into_iter().zip(known).filter_map(|(asked, known)| known.then_some(asked)).collect())
}

/// The edits of a seed: known facts in a drawn order, each with another object of its relation.
fn edits<'w>(world: &'w World, model: &Model, tokens: &Tokens, count: usize, seed: u64) -> Fallible<Vec<Edit<'w>>> {
    let mut draw = Draw::new(seed);
    let mut facts: Vec<&Fact> = world.facts.iter().collect();
    draw.shuffle(&mut facts);
    let mut edits = Vec::new();
    for fact in facts {
        let same = world.facts.iter().filter(|other| other.relation == fact.relation && other.object != fact.object);
        let objects: BTreeSet<&str> = same.map(|other| other.object.as_str()).collect();
        let objects: Vec<&str> = objects.into_iter().collect();
        let target = objects[draw.below(objects.len())];
        if hold(model, tokens, &[(world.prompt(fact, 0), fact.object.as_str())])?[0] {
            edits.push(Edit { fact, target });
        }
        if edits.len() == count {
            break;
        }
    }
    Ok(edits)
}

/// Figures of one layer.
#[derive(Default)]
struct Tally {
    diverged: usize,
    efficacy: Share,
    others: Share,
    neighbours: Share,
}

impl Tally {
    /// One edit alone.
    fn alone(&mut self, world: &World, editor: &Editor, edit: &Edit) -> Fallible<()> {
        let compiled = self.compile(world, editor, edit)?;
        let edited = editor.linked(&[(Digest::of(b"one edit"), &compiled)])?;
        self.ask(world, editor, edit, &edited)
    }

    /// All of them in one link.
    fn together(&mut self, world: &World, editor: &Editor, edits: &[Edit]) -> Fallible<()> {
        let mut sides = Vec::new();
        for edit in edits {
            let name = format!("{}\0{}\0{}", edit.fact.relation, edit.fact.subject, edit.target);
            sides.push((Digest::of(name.as_bytes()), self.compile(world, editor, edit)?));
        }
        sides.sort_by_key(|(name, _)| *name);
        let edited = editor.linked(&sides.iter().map(|(name, side)| (*name, side)).collect::<Vec<_>>())?;
        edits.iter().try_for_each(|edit| self.ask(world, editor, edit, &edited))
    }

    fn compile(&mut self, world: &World, editor: &Editor, edit: &Edit) -> Fallible<compile::Compiled> {
        let prompt = &world.phrasings(edit.fact)[0];
        let asked = compile::Fact { subject: &edit.fact.subject, prompt, target: edit.target };
        let compiled = editor.compile(asked)?;
        self.diverged += usize::from(!compiled.converged);
        Ok(compiled)
    }

    fn ask(&mut self, world: &World, editor: &Editor, edit: &Edit, edited: &Model) -> Fallible<()> {
        let fact = edit.fact;
        let holds = |asked: &[(String, &str)]| hold(edited, &editor.tokens, asked);
        self.efficacy.add(holds(&[(world.prompt(fact, 0), edit.target)])?[0]);
        let phrasings = (1..world.phrasings(fact).len()).map(|other| (world.prompt(fact, other), fact.object.as_str()));
        let mut others = known(editor, phrasings.collect())?;
        others.iter_mut().for_each(|(_, answer)| *answer = edit.target);
        holds(&others)?.into_iter().for_each(|yes| self.others.add(yes));
        let same = |other: &&Fact| {
            other.relation == fact.relation && other.object == fact.object && other.subject != fact.subject
        };
        let neighbours = world.facts.iter().filter(same).map(|other| (world.prompt(other, 0), other.object.as_str()));
        let mut neighbours = known(editor, neighbours.collect())?;
        neighbours.truncate(NEIGHBOURS);
        holds(&neighbours)?.into_iter().for_each(|yes| self.neighbours.add(yes));
        Ok(())
    }

    fn print(&self, layer: usize) {
        let Self { diverged, efficacy, others, neighbours } = self;
        println!(
            "{layer:>5}  {:>8.3}  {:>15.3}  {:>28.3}  {diverged:>8}",
            efficacy.value(),
            others.value(),
            neighbours.value()
        );
    }
}

/// The project at the repository's root, as `build` sees it.
fn configured(root: &Path) -> Fallible<(Base, Setup)> {
    let project = Project::load(root)?;
    let store = Store::open(std::env::temp_dir().join("corrigenda-bench")).for_reading();
    let stop = |stop: Stop| format!("{:?}", stop.findings);
    let base = Base::open(&project, &store, Isa::detect(), false).map_err(stop)?;
    let setup = Setup::new(&project, &base, &store, Corpus::Remembered).map_err(stop)?;
    Ok((base, setup))
}

fn main() -> Fallible<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = World::read(&root.join("examples/atlas"))?;
    let (base, setup) = configured(root)?;
    let documents: Vec<String> = std::fs::read_to_string(&setup.corpus)?.lines().map(str::to_owned).collect();
    let (count, seed) = (option("--edits", 200)?, option("--seed", 1)?);
    let edits = edits(&world, &base.model, &base.tokens, count, seed as u64)?;
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let layer = option("--layer", setup.layer)?;
    let layers = if given("--sweep") { 0..base.model.spec().layers } else { layer..layer + 1 };
    let how = if given("--together") { "linked together" } else { "each alone" };
    println!("{} edits of known facts, {how}, seed {seed}", edits.len());
    println!("layer  efficacy  other phrasings  neighbours keep their answer  diverged");
    for layer in layers {
        let mut editor = Editor::new(base.model.clone(), base.tokens.clone(), layer, &documents)?;
        (editor.templates, editor.settings) = (setup.templates.clone(), setup.settings.clone());
        let mut tally = Tally::default();
        if given("--together") {
            tally.together(&world, &editor, &edits)?;
        } else {
            edits.iter().try_for_each(|edit| tally.alone(&world, &editor, edit))?;
        }
        tally.print(layer);
    }
    Ok(())
}
