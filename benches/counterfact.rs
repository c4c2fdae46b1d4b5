//! Measures edits of CounterFact records on the shared model `counterfact-gpt2`, each linked alone, and the first ten
//! also linked together: `cargo bench --bench counterfact -- [--limit N] [--layer L] [--corpus clean|all] [--torch
//! FOLDER]`.
//!
//! By default, no sentence of the statistics corpus names a record's subject. With `--corpus all`, the corpus has the
//! true sentences of the records, including the tested prompts with their old answers. `--torch` also writes
//! `FOLDER/edits.json` and `FOLDER/corpus.txt`, the same edits as input for `benches/compare/rome.py`.
//!
//! A record is used if the base predicts the true answer after its rewrite prompt. Efficacy is the share of records for
//! which every token of the new answer is the arg-max after the prompt; the same applies to paraphrases. A neighbour
//! counts if the base predicts its true answer, and succeeds if the edited model still does. The figures in brackets
//! compare likelihoods, as in the paper.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(unreachable_pub, reason = "a bench has no outside")]

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/counterfact.rs"]
mod counterfact;
#[path = "support/editor.rs"]
mod editor;

use std::path::Path;
use std::time::Instant;

use arguments::{argument, option};
use corrigenda::compile::{Compiled, Fact, Settings};
use corrigenda::digest::Digest;
use corrigenda::model::Model;
use corrigenda::project::EndMark;
use corrigenda::project::edits::writer::edit_file;
use corrigenda::project::parse_files;
use counterfact::{Failure, MODEL, RECORDS, Record, World, absent, corpus, records, shared, subjects};
use editor::{Editor, Share};
use serde_json::{Value, json};

/// The maximum number of sentences in the corpus with `--corpus all`.
const DOCUMENTS: usize = 4000;
/// The number of edits that are also measured in one model that contains all of them.
const TOGETHER: usize = 10;

/// A record with its compiled edit, and the digest by which edits are sorted before they are linked.
struct Edit<'a> {
    record: &'a Record,
    meaning: Digest,
    compiled: Compiled,
}

struct Bench {
    world: World,
    editor: Editor,
}

impl Bench {
    fn new(world: World, layer: usize, documents: &[String]) -> Result<Self, Failure> {
        let editor = Editor::new(world.model.clone(), world.tokens.clone(), layer, documents)?;
        println!("C over {} documents", documents.len());
        Ok(Self { world, editor })
    }

    fn compile<'a>(&self, record: &'a Record) -> Result<Edit<'a>, Failure> {
        let rewrite = &record.requested_rewrite;
        let fact = Fact {
            subject: &rewrite.subject,
            prompt: &rewrite.prompt,
            target: rewrite.target(),
            chat: false,
            end: EndMark::None,
        };
        Ok(Edit { record, meaning: meaning(record)?, compiled: self.editor.compile(fact)? })
    }

    fn linked(&self, edits: &[&Edit]) -> Result<Model, Failure> {
        self.editor.linked(&edits.iter().map(|edit| (edit.meaning, &edit.compiled)).collect::<Vec<_>>())
    }

    fn holds(&self, edited: &Model, record: &Record) -> Result<bool, Failure> {
        let rewrite = &record.requested_rewrite;
        Ok(self.world.score(edited, &rewrite.filled()?, rewrite.target())?.0)
    }

    /// Links the edits into one model, and prints how many of them succeed there.
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

/// Returns the digest by which a build sorts the record's edit: that of subject, prompt, target and `chat`.
fn meaning(record: &Record) -> Result<Digest, Failure> {
    let file = edit_file(&[record.draft()]).into_bytes();
    match parse_files(vec![("edit.toml".to_owned(), file)]) {
        Ok((set, _)) => Ok(set.edits[0].meaning()),
        Err(findings) => Err(format!("record {}: {:?}", record.case_id, findings.diagnostics).into()),
    }
}

/// The results of the edits, each measured in a model that contains no other edit.
#[derive(Default)]
struct Tally {
    diverged: usize,
    seconds: Vec<f64>,
    /// The share of prompts after which every token of the new answer is the arg-max.
    efficacy: Share,
    paraphrases: Share,
    neighbours: Share,
    /// The efficacy score of the paper: the share of prompts after which the new answer is more likely than the old
    /// one. For neighbours, the old answer must be more likely.
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
        let (rewritten, original) = both(&rewrite.filled()?)?;
        self.efficacy.add(rewritten.0);
        self.es.add(rewritten.1 < original.1);
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

/// Returns the true sentences of the records, including the tested prompts with their old answers, up to [`DOCUMENTS`].
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

/// Returns the edit of a record in the input format of `benches/compare/rome.py`.
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

/// Writes the edits, the corpus and the settings as input for `benches/compare/rome.py`.
fn write_for_torch(bench: &Bench, folder: &Path, documents: &[String], taken: &[&Record]) -> Result<(), Failure> {
    let settings = Settings::default();
    let schedule: Vec<Value> =
        settings.schedule.iter().map(|stage| json!({ "rate": stage.rate, "steps": stage.steps })).collect();
    let corpus = folder.join("corpus.txt");
    std::fs::create_dir_all(folder)?;
    std::fs::write(&corpus, documents.join("\n"))?;
    let whole = json!({
        "model": shared(MODEL),
        "layer": bench.editor.layer,
        "corpus": corpus,
        "max_tokens": bench.world.model.spec().max_positions,
        "templates": bench.editor.templates,
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

/// Measures each edit in a model that contains no other edit. Returns the first [`TOGETHER`] edits, which are also
/// linked together.
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
    tally.print(bench.editor.layer);
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
