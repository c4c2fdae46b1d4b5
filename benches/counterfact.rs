//! Edits of real CounterFact records, each alone, on the shared `counterfact-gpt2`:
//! `cargo bench --bench counterfact -- [--limit N] [--layer L] [--torch FOLDER]`.
//!
//! `--torch` also writes FOLDER/edits.json and FOLDER/corpus.txt, the same edits for `benches/rome_torch.py`.
//!
//! A record is taken when the base gives the true answer to its rewrite prompt. Efficacy: every token of the new
//! answer is the arg-max behind the prompt; paraphrases likewise; a neighbour counts when the base gives its true
//! answer, and is kept when the edited model still does. In brackets the likelihood comparison of the paper.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use corrigenda::compile::resolve::target_text;
use corrigenda::compile::{Fact, Resolved, Settings, compile};
use corrigenda::link::{Pair, link};
use corrigenda::model::{Model, Tokens};
use corrigenda::numeric::Isa;
use corrigenda::numeric::cholesky::Factor;
use corrigenda::numeric::rows::{greatest, softmax};
use corrigenda::stats::Moment;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Documents of the statistics, at most this many.
const DOCUMENTS: usize = 4000;

struct World {
    model: Model,
    tokens: Tokens,
    templates: Vec<String>,
    layer: usize,
}

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

impl World {
    fn rows(&self, prompt: &str, target: &str) -> Result<(Vec<u32>, Vec<u32>), Failure> {
        let target = self.tokens.continuation(&target_text(prompt, target))?.ids;
        let mut row = self.tokens.encode(prompt)?.ids;
        row.extend(&target[..target.len() - 1]);
        Ok((row, target))
    }

    /// Whether every token of the target is the arg-max, and the mean negative log-likelihood per token.
    fn score(&self, model: &Model, prompt: &str, target: &str) -> Result<(bool, f64), Failure> {
        let (row, target) = self.rows(prompt, target)?;
        let logits = model.logits(&[&row], &[target.len()]).remove(0);
        let (mut holds, mut nll) = (true, 0.0);
        for (row, &label) in logits.chunks(model.spec().vocabulary).zip(&target) {
            holds &= row[label as usize] == greatest(row);
            nll += softmax(&mut row.to_vec()) - f64::from(row[label as usize]);
        }
        Ok((holds, nll / target.len() as f64))
    }

    fn moment(&self, documents: &[String]) -> Result<Moment, Failure> {
        let mut moment = Moment::new(self.model.spec().inner);
        for batch in documents.chunks(32) {
            let mut rows = Vec::new();
            for document in batch {
                let mut row = self.tokens.encode(document)?.ids;
                row.truncate(self.model.spec().positions);
                rows.push(row);
            }
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            moment.add(self.model.isa(), &self.model.keys(self.layer, &rows));
        }
        Ok(moment)
    }

    /// The base with one edit linked into it; whether its value converged.
    fn edited(&self, factor: &Factor, fact: Fact) -> Result<(Model, bool), Failure> {
        let resolved = Resolved::new(&self.tokens, &self.templates, fact, self.model.spec().positions)?;
        let compiled = compile(&self.model, self.layer, &resolved, &Settings::default());
        let (weight, _) = self.model.checkpoint().edited(self.layer);
        let output = |key: &[f32]| self.model.edited_output(self.layer, key);
        let linked = link(factor, &[Pair { key: &compiled.key, value: &compiled.value }], 0.0, output)?;
        let mut data = weight.data().to_vec();
        for (row, v) in data.chunks_mut(linked.u[0].len()).zip(&linked.v[0]) {
            for (w, u) in row.iter_mut().zip(&linked.u[0]) {
                *w = (f64::from(*w) + f64::from(*u as f32) * f64::from(*v as f32)) as f32;
            }
        }
        Ok((self.model.with_edited(self.layer, data), compiled.converged))
    }
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The true sentences of the records' world: what C is taken over.
fn documents(records: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for record in records {
        let (old, new) =
            (text(record, "/requested_rewrite/target_true/str"), text(record, "/requested_rewrite/target_new/str"));
        let subject = text(record, "/requested_rewrite/subject");
        let rewrite = text(record, "/requested_rewrite/prompt").replace("{}", subject);
        let mut add = |prompt: &str, answer: &str| out.push(format!("{prompt} {answer}"));
        add(&rewrite, old);
        list(record, "paraphrase_prompts").into_iter().for_each(|prompt| add(prompt, old));
        list(record, "neighborhood_prompts").into_iter().for_each(|prompt| add(prompt, old));
        list(record, "attribute_prompts").into_iter().for_each(|prompt| add(prompt, new));
    }
    out.truncate(DOCUMENTS);
    out
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn option(name: &str, default: usize) -> usize {
    argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One record as the PyTorch baseline reads it.
fn torch_edit(record: &Value) -> Value {
    let (old, new) =
        (text(record, "/requested_rewrite/target_true/str"), text(record, "/requested_rewrite/target_new/str"));
    let neighbour = |prompt: &str| json!({ "prompt": prompt, "answer": old });
    json!({
        "id": format!("case-{}", record["case_id"]),
        "subject": text(record, "/requested_rewrite/subject"),
        "prompt": text(record, "/requested_rewrite/prompt"),
        "target": new,
        "was": old,
        "paraphrase": list(record, "paraphrase_prompts"),
        "neighbours": list(record, "neighborhood_prompts").into_iter().map(neighbour).collect::<Vec<_>>(),
    })
}

/// The same edits, corpus and settings for `benches/rome_torch.py`.
fn write_for_torch(world: &World, folder: &Path, documents: &[String], edits: &[Value]) -> Result<(), Failure> {
    let settings = Settings::default();
    let schedule: Vec<Value> =
        settings.schedule.iter().map(|stage| json!({ "rate": stage.rate, "steps": stage.steps })).collect();
    let corpus = folder.join("corpus.txt");
    std::fs::create_dir_all(folder)?;
    std::fs::write(&corpus, documents.join("\n"))?;
    let whole = json!({
        "model": world.model.checkpoint().folder(),
        "layer": world.layer,
        "corpus": corpus,
        "max_tokens": world.model.spec().positions,
        "templates": world.templates,
        "settings": {
            "schedule": schedule,
            "weight-decay": settings.weight_decay,
            "clamp": settings.clamp,
            "kl-factor": settings.kl_factor,
            "stop-loss": settings.stop_loss,
            "converged-nll": settings.converged_nll,
        },
        "edits": edits,
    });
    std::fs::write(folder.join("edits.json"), serde_json::to_vec(&whole)?)?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared: PathBuf = root.join("../shared");
    let (folder, data) = (shared.join("models/counterfact-gpt2"), shared.join("data/counterfact/dev.json"));
    if !folder.exists() || !data.exists() {
        println!("SKIPPED counterfact: {} or {} is not here", folder.display(), data.display());
        return Ok(());
    }
    let records: Vec<Value> = serde_json::from_slice(&std::fs::read(data)?)?;
    let model = Model::open(&folder, Isa::detect())?;
    let tokens = Tokens::open(&folder, model.spec().vocabulary)?;
    let templates = std::fs::read_to_string(root.join("tests/reference/templates.txt"))?;
    let templates = templates.lines().map(str::to_owned).collect();
    let world = World { model, tokens, templates, layer: option("--layer", 0) };
    let documents = documents(&records);
    let moment = world.moment(&documents)?;
    let (factor, ridge) = moment.factor()?;
    println!("C over {} keys, ridge {ridge:e}", moment.count());
    let [mut efficacy, mut paraphrase, mut kept, mut es, mut ps, mut ns] = [(); 6].map(|()| Share::default());
    let (mut edits, mut diverged, mut seconds, mut taken) = (0, 0, Vec::new(), Vec::new());
    for record in &records {
        if edits == option("--limit", 100) {
            break;
        }
        let (old, new) =
            (text(record, "/requested_rewrite/target_true/str"), text(record, "/requested_rewrite/target_new/str"));
        let fact = Fact {
            subject: text(record, "/requested_rewrite/subject"),
            prompt: text(record, "/requested_rewrite/prompt"),
            target: new,
        };
        let rewrite = fact.prompt.replace("{}", fact.subject);
        if !world.score(&world.model, &rewrite, old)?.0 {
            continue;
        }
        edits += 1;
        taken.push(torch_edit(record));
        let start = Instant::now();
        let (edited, converged) = world.edited(&factor, fact)?;
        seconds.push(start.elapsed().as_secs_f64());
        diverged += usize::from(!converged);
        let both =
            |prompt: &str| Ok::<_, Failure>((world.score(&edited, prompt, new)?, world.score(&edited, prompt, old)?));
        let (ours, theirs) = both(&rewrite)?;
        efficacy.add(ours.0);
        es.add(ours.1 < theirs.1);
        for prompt in list(record, "paraphrase_prompts") {
            let (ours, theirs) = both(prompt)?;
            paraphrase.add(ours.0);
            ps.add(ours.1 < theirs.1);
        }
        for prompt in list(record, "neighborhood_prompts") {
            let (ours, theirs) = both(prompt)?;
            ns.add(theirs.1 < ours.1);
            if world.score(&world.model, prompt, old)?.0 {
                kept.add(theirs.0);
            }
        }
    }
    if let Some(folder) = argument("--torch") {
        write_for_torch(&world, Path::new(&folder), &documents, &taken)?;
    }
    seconds.sort_by(f64::total_cmp);
    println!("{edits} edits alone at layer {}, {diverged} of them diverged", world.layer);
    println!("efficacy    {:.3}   (ES {:.3})", efficacy.value(), es.value());
    println!("paraphrases {:.3}   (PS {:.3})", paraphrase.value(), ps.value());
    println!("neighbours  {:.3}   (NS {:.3})", kept.value(), ns.value());
    println!("median {:.2} s an edit, {:.0} s in all", seconds[seconds.len() / 2], seconds.iter().sum::<f64>());
    Ok(())
}
