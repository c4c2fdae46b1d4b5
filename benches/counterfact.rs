//! Edits of real CounterFact records on the shared `counterfact-gpt2`, each alone, and the first ten together:
//! `cargo bench --bench counterfact -- [--limit N] [--layer L] [--corpus clean|all] [--torch FOLDER]`.
//!
//! The statistics are taken over sentences that name no record's subject; `--corpus all` takes all true sentences of
//! the records, tested prompts with their old answers among them. `--torch` also writes FOLDER/edits.json and
//! FOLDER/corpus.txt, the same edits for `benches/rome_torch.py`.
//!
//! A record is taken when the base gives the true answer to its rewrite prompt. Efficacy: every token of the new
//! answer is the arg-max behind the prompt; paraphrases likewise; a neighbour counts when the base gives its true
//! answer, and is kept when the edited model still does. In brackets the likelihood comparison of the paper.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/counterfact.rs"]
mod counterfact;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use arguments::{argument, option};
use corrigenda::compile::{Compiled, Fact, Resolved, Settings, compile, known};
use corrigenda::digest::Digest;
use corrigenda::link::{Linked, Pair, link};
use corrigenda::model::Model;
use corrigenda::numeric::cholesky::Factor;
use corrigenda::patch::{Patch, Target, materialise};
use corrigenda::project::parse_files;
use corrigenda::safetensors::Dtype;
use corrigenda::stats::Moment;
use counterfact::{Failure, MODEL, RECORDS, Record, World, absent, corpus, records, shared, subjects};
use serde_json::{Value, json};

/// Documents of `--corpus all`, at most this many.
const DOCUMENTS: usize = 4000;
/// Edits that are linked together.
const TOGETHER: usize = 10;

/// Share of tries that succeeded.
#[derive(Default)]
struct Share {
    yes: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, yes: bool) {
        self.yes += usize::from(yes);
        self.all += 1;
    }

    fn value(&self) -> f64 {
        self.yes as f64 / self.all.max(1) as f64
    }
}

/// An edit ready to be linked.
struct Edit<'a> {
    record: &'a Record,
    meaning: Digest,
    compiled: Compiled,
}

/// What every edit is compiled and linked against.
struct Bench {
    world: World,
    templates: Vec<String>,
    layer: usize,
    factor: Factor,
    /// Digest of the edited weight in the base.
    base: Digest,
}

impl Bench {
    fn new(world: World, layer: usize, documents: &[String]) -> Result<Self, Failure> {
        world.model.spec().check_layer(layer)?;
        let templates = known::lines(known::TEMPLATES);
        let moment = moment(&world, layer, documents)?;
        let (factor, ridge) = moment.factor()?;
        println!("C over {} documents, {} keys, ridge {ridge:e}", documents.len(), moment.count());
        let weight = world.model.checkpoint().edited(layer).0;
        let bytes: Vec<u8> = weight.data().iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(Self { layer, templates, factor, base: Digest::of(&bytes), world })
    }

    fn compile<'a>(&self, record: &'a Record) -> Result<Edit<'a>, Failure> {
        let (model, rewrite) = (&self.world.model, &record.requested_rewrite);
        let fact = Fact { subject: &rewrite.subject, prompt: &rewrite.prompt, target: rewrite.target() };
        let resolved = Resolved::new(&self.world.tokens, &self.templates, fact, model.spec().positions)?;
        let compiled = compile(model, self.layer, &resolved, &Settings::default());
        Ok(Edit { record, meaning: meaning(record)?, compiled })
    }

    /// The base with these edits linked together, which are in the order of their meaning digests.
    fn linked(&self, edits: &[&Edit]) -> Result<Model, Failure> {
        let model = &self.world.model;
        let sides = edits.iter().map(|edit| &edit.compiled);
        let pairs: Vec<Pair> = sides.map(|side| Pair { key: &side.key, value: &side.value }).collect();
        let linked = link(&self.factor, &pairs, 0.0, |key| model.edited_output(self.layer, key))?;
        let target = self.target(edits.iter().map(|edit| edit.meaning).collect(), &linked);
        let weight = model.checkpoint().edited(self.layer).0;
        let patch = Patch::new(BTreeMap::from([(weight.name.clone(), target)]))?;
        let data = materialise(&weight.name, &patch.targets()[&weight.name], weight.data())?;
        Ok(model.with_edited(self.layer, data))
    }

    fn target(&self, edits: Vec<Digest>, linked: &Linked) -> Target {
        let spec = self.world.model.spec();
        let columns = &linked.u;
        Target {
            base: self.base,
            dtype: Dtype::F32,
            layout: spec.family.layout,
            out: spec.width,
            inner: spec.inner,
            edits,
            u: (0..spec.width).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect(),
            v: linked.v.iter().flatten().map(|&x| x as f32).collect(),
        }
    }

    fn holds(&self, edited: &Model, record: &Record) -> Result<bool, Failure> {
        let rewrite = &record.requested_rewrite;
        Ok(self.world.score(edited, &rewrite.filled()?, rewrite.target())?.0)
    }

    /// The edits in one link, and how many of them hold.
    fn together(&self, mut edits: Vec<Edit>) -> Result<(), Failure> {
        edits.sort_by_key(|edit| edit.meaning);
        let edited = self.linked(&edits.iter().collect::<Vec<_>>())?;
        let mut held = 0;
        for edit in &edits {
            held += usize::from(self.holds(&edited, edit.record)?);
        }
        println!("the first {} linked together: {held} hold", edits.len());
        Ok(())
    }
}

fn moment(world: &World, layer: usize, documents: &[String]) -> Result<Moment, Failure> {
    let (model, spec) = (&world.model, world.model.spec());
    let mut moment = Moment::new(spec.inner);
    for batch in documents.chunks(32) {
        let mut rows = Vec::new();
        for document in batch {
            let mut row = world.tokens.encode(document)?.ids;
            row.truncate(spec.positions);
            rows.push(row);
        }
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        moment.add(model.isa(), &model.keys(layer, &rows));
    }
    Ok(moment)
}

/// The meaning digest of the record's edit, as a project that states it has it.
fn meaning(record: &Record) -> Result<Digest, Failure> {
    let file = record.draft().file()?.into_bytes();
    match parse_files(vec![("edit.toml".to_owned(), file)]) {
        Ok((set, _)) => Ok(set.edits[0].meaning()),
        Err(findings) => Err(format!("record {}: {:?}", record.case_id, findings.diagnostics).into()),
    }
}

/// What became of edits that were each made alone.
#[derive(Default)]
struct Tally {
    diverged: usize,
    seconds: Vec<f64>,
    /// Every token the arg-max.
    efficacy: Share,
    paraphrases: Share,
    neighbours: Share,
    /// The new answer likelier than the old one; for neighbours the old one.
    es: Share,
    ps: Share,
    ns: Share,
}

impl Tally {
    fn add(&mut self, world: &World, edited: &Model, record: &Record) -> Result<(), Failure> {
        let rewrite = &record.requested_rewrite;
        let both = |prompt: &str| {
            let (new, old) =
                (world.score(edited, prompt, rewrite.target())?, world.score(edited, prompt, rewrite.was())?);
            Ok::<_, Failure>((new, old))
        };
        let (new, old) = both(&rewrite.filled()?)?;
        self.efficacy.add(new.0);
        self.es.add(new.1 < old.1);
        for prompt in &record.paraphrase_prompts {
            let (new, old) = both(prompt)?;
            self.paraphrases.add(new.0);
            self.ps.add(new.1 < old.1);
        }
        for prompt in &record.neighborhood_prompts {
            let (new, old) = both(prompt)?;
            self.ns.add(old.1 < new.1);
            if world.knows(prompt, rewrite.was())? {
                self.neighbours.add(old.0);
            }
        }
        Ok(())
    }

    fn print(&mut self, layer: usize) {
        self.seconds.sort_by(f64::total_cmp);
        let (edits, total) = (self.seconds.len(), self.seconds.iter().sum::<f64>());
        println!("{edits} edits alone at layer {layer}, {} of them diverged", self.diverged);
        println!("efficacy    {:.3}   (ES {:.3})", self.efficacy.value(), self.es.value());
        println!("paraphrases {:.3}   (PS {:.3})", self.paraphrases.value(), self.ps.value());
        println!("neighbours  {:.3}   (NS {:.3})", self.neighbours.value(), self.ns.value());
        println!("median {:.2} s an edit, {total:.0} s in all", self.seconds[edits / 2]);
    }
}

/// All true sentences of the records' world, the tested prompts with their old answers among them.
fn all_sentences(records: &[Record]) -> Result<Vec<String>, Failure> {
    let mut out = Vec::new();
    for record in records {
        let (old, new) = (record.requested_rewrite.was(), record.requested_rewrite.target());
        let mut add = |prompt: &String, answer: &str| out.push(format!("{prompt} {answer}"));
        add(&record.requested_rewrite.filled()?, old);
        record.paraphrase_prompts.iter().for_each(|prompt| add(prompt, old));
        record.neighborhood_prompts.iter().for_each(|prompt| add(prompt, old));
        record.attribute_prompts.iter().for_each(|prompt| add(prompt, new));
    }
    out.truncate(DOCUMENTS);
    Ok(out)
}

/// One record as the PyTorch baseline reads it.
fn torch_edit(record: &Record) -> Value {
    let rewrite = &record.requested_rewrite;
    let neighbour = |prompt: &String| json!({ "prompt": prompt, "answer": rewrite.was() });
    json!({
        "id": format!("case-{}", record.case_id),
        "subject": rewrite.subject,
        "prompt": rewrite.prompt,
        "target": rewrite.target(),
        "was": rewrite.was(),
        "paraphrase": record.paraphrase_prompts,
        "neighbours": record.neighborhood_prompts.iter().map(neighbour).collect::<Vec<_>>(),
    })
}

/// The same edits, corpus and settings for `benches/rome_torch.py`.
fn write_for_torch(bench: &Bench, folder: &Path, documents: &[String], taken: &[&Record]) -> Result<(), Failure> {
    let settings = Settings::default();
    let schedule: Vec<Value> =
        settings.schedule.iter().map(|stage| json!({ "rate": stage.rate, "steps": stage.steps })).collect();
    let corpus = folder.join("corpus.txt");
    std::fs::create_dir_all(folder)?;
    std::fs::write(&corpus, documents.join("\n"))?;
    let whole = json!({
        "model": shared(MODEL),
        "layer": bench.layer,
        "corpus": corpus,
        "max_tokens": bench.world.model.spec().positions,
        "templates": bench.templates,
        "settings": {
            "schedule": schedule,
            "weight-decay": settings.weight_decay,
            "clamp": settings.clamp,
            "kl-factor": settings.kl_factor,
            "stop-loss": settings.stop_loss,
            "converged-nll": settings.converged_nll,
        },
        "edits": taken.iter().map(|record| torch_edit(record)).collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("edits.json"), serde_json::to_vec(&whole)?)?;
    Ok(())
}

/// Every edit alone; the first of them, for the link.
fn alone<'a>(bench: &Bench, taken: &[&'a Record]) -> Result<Vec<Edit<'a>>, Failure> {
    let (mut tally, mut first) = (Tally::default(), Vec::new());
    for record in taken {
        let start = Instant::now();
        let edit = bench.compile(record)?;
        let edited = bench.linked(&[&edit])?;
        tally.seconds.push(start.elapsed().as_secs_f64());
        tally.diverged += usize::from(!edit.compiled.converged);
        tally.add(&bench.world, &edited, record)?;
        if first.len() < TOGETHER {
            first.push(edit);
        }
    }
    tally.print(bench.layer);
    Ok(first)
}

fn main() -> Result<(), Failure> {
    if let Some(path) = absent(&[MODEL, RECORDS]) {
        println!("SKIPPED counterfact: {} is not here", path.display());
        return Ok(());
    }
    let records = records()?;
    let documents = match argument("--corpus").as_deref() {
        None | Some("clean") => corpus(&records, &subjects(&records)),
        Some("all") => all_sentences(&records)?,
        Some(other) => return Err(format!("--corpus wants clean or all, not {other:?}").into()),
    };
    let bench = Bench::new(World::open()?, option("--layer", 0)?, &documents)?;
    let taken = bench.world.known(&records, 0, option("--limit", 100)?)?;
    if let Some(folder) = argument("--torch") {
        write_for_torch(&bench, Path::new(&folder), &documents, &taken)?;
    }
    let first = alone(&bench, &taken)?;
    bench.together(first)
}
