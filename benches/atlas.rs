//! Measures edits of the bundled model, sampled by a seed: `cargo bench --bench atlas -- [--edits N] [--seed S]
//! [--layer L | --sweep] [--together] [--aliases asked|keys]`. The prompt templates and settings are those of the
//! project at the repository root.
//!
//! An edit replaces the object of a fact that the model knows by a different object of the same relation.
//!
//! - Efficacy: the edited model predicts the new object after the edited phrasing, every token as the arg-max.
//! - Other phrasings: of the relation's remaining phrasings after which the base predicts the old object, the share
//!   after which the edited model predicts the new one.
//! - Neighbours: of up to ten facts about different subjects with the same relation and object that the base knows, the
//!   share that the edited model still knows.
//!
//! `--sweep` measures every layer. `--together` links all edits into one model instead of one model per edit.
//! `--aliases` uses only subjects of several words, and also asks for the new object by the last word of the subject:
//! without a key for this word (`asked`) or with one (`keys`).
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

use arguments::{argument, option};
use corrigenda::behaviour::{Question, scores};
use corrigenda::compile;
use corrigenda::diagnostics::Failure;
use corrigenda::digest::Digest;
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::pipeline::setup::CorpusDigest;
use corrigenda::pipeline::{Base, Setup};
use corrigenda::project::EndMark;
use corrigenda::project::Project;
use corrigenda::store::Store;
use editor::{Editor, Share};
use seed::Draw;
use world::{Fact, World};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The maximum number of neighbour facts that are measured per edit.
const NEIGHBOURS: usize = 10;

struct Edit<'w> {
    fact: &'w Fact,
    target: &'w str,
    /// A second name of the subject: its last word. `None` if the subject has only one word.
    alias: Option<&'w str>,
}

/// Whether the last word of a subject is used as its second name, an alias.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aliases {
    /// The subject has no second name.
    None,
    /// The last word is used in questions after the edit, but has no MLP key in the patch.
    Asked,
    /// The last word is used in questions and has its own MLP key in the patch.
    Keys,
}

impl Aliases {
    fn given() -> Fallible<Self> {
        match argument("--aliases").as_deref() {
            None => Ok(Self::None),
            Some("asked") => Ok(Self::Asked),
            Some("keys") => Ok(Self::Keys),
            Some(other) => Err(format!("--aliases wants asked or keys, not {other:?}").into()),
        }
    }
}

/// Returns for each pair of prompt and answer whether every token of the answer is the arg-max.
fn hold(model: &Model, tokens: &Tokens, asked: &[(String, &str)]) -> Fallible<Vec<bool>> {
    let limit = model.spec().max_positions;
    let questions: Result<Vec<_>, _> =
        asked.iter().map(|(prompt, answer)| Question::new(tokens, prompt.as_str().into(), answer, limit)).collect();
    Ok(scores(model, &questions?).into_iter().map(|score| score.holds).collect())
}

/// Keeps only the pairs of prompt and answer for which the base model predicts the answer.
fn known<'a>(editor: &Editor, asked: Vec<(String, &'a str)>) -> Fallible<Vec<(String, &'a str)>> {
    let known = hold(&editor.model, &editor.tokens, &asked)?;
    Ok(asked.into_iter().zip(known).filter_map(|(asked, known)| known.then_some(asked)).collect())
}

/// Samples `count` facts that the model knows. The target of each edit is a different object of the same relation.
fn edits<'w>(
    world: &'w World,
    (model, tokens): (&Model, &Tokens),
    count: usize,
    seed: u64,
    aliases: Aliases,
) -> Fallible<Vec<Edit<'w>>> {
    let mut draw = Draw::new(seed);
    let mut facts: Vec<&Fact> = world.facts.iter().collect();
    draw.shuffle(&mut facts);
    let mut edits = Vec::new();
    for fact in facts {
        let same = world.facts.iter().filter(|other| other.relation == fact.relation && other.object != fact.object);
        let objects: BTreeSet<&str> = same.map(|other| other.object.as_str()).collect();
        let objects: Vec<&str> = objects.into_iter().collect();
        let target = objects[draw.below(objects.len())];
        let alias = fact.subject.rsplit_once(' ').map(|(_, last)| last);
        if aliases != Aliases::None && alias.is_none() {
            continue;
        }
        if hold(model, tokens, &[(world.prompt(fact, 0), fact.object.as_str())])?[0] {
            edits.push(Edit { fact, target, alias });
        }
        if edits.len() == count {
            break;
        }
    }
    Ok(edits)
}

/// The numbers of answers, summed over all edits at one layer, that the table shows.
struct Tally {
    aliases: Aliases,
    diverged: usize,
    /// For prompts with the second names: the share after which the base predicts the old object, and the share after
    /// which the edited model predicts the new object.
    by_alias: [Share; 2],
    efficacy: Share,
    others: Share,
    neighbours: Share,
}

impl Tally {
    /// Measures one edit in a model that contains no other edit.
    fn alone(&mut self, world: &World, editor: &Editor, edit: &Edit) -> Fallible<()> {
        let sides = self.sides(world, editor, edit)?;
        let edited = editor.linked(&sides.iter().map(|(name, side)| (*name, side)).collect::<Vec<_>>())?;
        self.ask(world, editor, edit, &edited)
    }

    /// Links all edits into one model, and measures each edit in this model.
    fn together(&mut self, world: &World, editor: &Editor, edits: &[Edit]) -> Fallible<()> {
        let mut sides = Vec::new();
        for edit in edits {
            sides.extend(self.sides(world, editor, edit)?);
        }
        sides.sort_by_key(|(name, _)| *name);
        // Two subjects may have the same last word and the same new object. Both edits then have the same MLP key for
        // this word, so only one of them is linked.
        sides.dedup_by_key(|(name, _)| *name);
        let edited = editor.linked(&sides.iter().map(|(name, side)| (*name, side)).collect::<Vec<_>>())?;
        edits.iter().try_for_each(|edit| self.ask(world, editor, edit, &edited))
    }

    /// Compiles the edit for each of its names, and sorts the results by the digest of subject, prompt and target.
    fn sides(&mut self, world: &World, editor: &Editor, edit: &Edit) -> Fallible<Vec<(Digest, compile::Compiled)>> {
        let alias = edit.alias.filter(|_| self.aliases == Aliases::Keys);
        let mut sides = Vec::new();
        for name in [Some(edit.fact.subject.as_str()), alias].into_iter().flatten() {
            let meaning = format!("{}\0{name}\0{}", edit.fact.relation, edit.target);
            sides.push((Digest::of(meaning.as_bytes()), self.compile(world, editor, edit, name)?));
        }
        sides.sort_by_key(|(meaning, _)| *meaning);
        Ok(sides)
    }

    fn compile(&mut self, world: &World, editor: &Editor, edit: &Edit, name: &str) -> Fallible<compile::Compiled> {
        let prompt = &world.phrasings(edit.fact)[0];
        let asked = compile::Fact { subject: name, prompt, target: edit.target, chat: false, end: EndMark::None };
        let compiled = editor.compile(asked)?;
        self.diverged += usize::from(!compiled.converged);
        Ok(compiled)
    }

    fn ask(&mut self, world: &World, editor: &Editor, edit: &Edit, edited: &Model) -> Fallible<()> {
        let fact = edit.fact;
        let holds = |asked: &[(String, &str)]| hold(edited, &editor.tokens, asked);
        self.efficacy.add(holds(&[(world.prompt(fact, 0), edit.target)])?[0]);
        if let Some(alias) = edit.alias.filter(|_| self.aliases != Aliases::None) {
            let prompt = world.phrasings(fact)[0].replacen("{}", alias, 1);
            self.by_alias[0].add(hold(&editor.model, &editor.tokens, &[(prompt.clone(), fact.object.as_str())])?[0]);
            self.by_alias[1].add(holds(&[(prompt, edit.target)])?[0]);
        }
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
        let Self { diverged, efficacy, others, neighbours, .. } = self;
        println!(
            "{layer:>5}  {:>8.3}  {:>15.3}  {:>28.3}  {diverged:>8}",
            efficacy.value(),
            others.value(),
            neighbours.value()
        );
        if self.aliases != Aliases::None {
            let [before, after] = &self.by_alias;
            println!("by the last word: old answer in the base {:.3}, new answer {:.3}", before.value(), after.value());
        }
    }
}

/// Opens the base and the settings of the project at the repository root, as `build` does.
fn configured(root: &Path) -> Fallible<(Base, Setup)> {
    let project = Project::load(root)?;
    let store = Store::open(std::env::temp_dir().join("corrigenda-bench")).for_reading();
    let stop = |stop: Failure| format!("{:?}", stop.findings);
    let base = Base::open(&project, &store, Isa::detect(), false).map_err(stop)?;
    let setup = Setup::new(&project, &base, &store, CorpusDigest::Remembered).map_err(stop)?;
    Ok((base, setup))
}

fn main() -> Fallible<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = World::read(&root.join("examples/atlas"))?;
    let (base, setup) = configured(root)?;
    let documents: Vec<String> = std::fs::read_to_string(&setup.corpus)?.lines().map(str::to_owned).collect();
    let (count, seed) = (option("--edits", 200)?, option("--seed", 1)?);
    let aliases = Aliases::given()?;
    let edits = edits(&world, (&base.model, &base.tokens), count, seed as u64, aliases)?;
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let chosen_layer = option("--layer", setup.layer)?;
    let layers = if given("--sweep") { 0..base.model.spec().layers } else { chosen_layer..chosen_layer + 1 };
    let how = if given("--together") { "linked together" } else { "each alone" };
    println!("{} edits of known facts, {how}, seed {seed}", edits.len());
    println!("layer  efficacy  other phrasings  neighbours keep their answer  diverged");
    for layer in layers {
        let mut editor = Editor::new(base.model.clone(), base.tokens.clone(), layer, &documents)?;
        (editor.templates, editor.settings) = (setup.templates.clone(), setup.settings.clone());
        let mut tally = Tally {
            aliases,
            diverged: 0,
            by_alias: Default::default(),
            efficacy: Share::default(),
            others: Share::default(),
            neighbours: Share::default(),
        };
        if given("--together") {
            tally.together(&world, &editor, &edits)?;
        } else {
            edits.iter().try_for_each(|edit| tally.alone(&world, &editor, edit))?;
        }
        tally.print(layer);
    }
    Ok(())
}
