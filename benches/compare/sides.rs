//! Runs one job in both programs: corrigenda, which gets it as a project, and PyTorch, which gets it as the input of
//! `rome.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use corrigenda::compile::presets;
use corrigenda::model::Model;
use corrigenda::numeric::Isa;
use corrigenda::project::edits::writer::{DraftEdit, DraftExpectations, edit_file};
use corrigenda::research::bench::data::Case;
use corrigenda::research::bench::draft::draft_of;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::watch::{Failure, Seen, watched};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/rome.py");

/// The model, corpus and records that both programs process.
pub struct Job {
    pub model: PathBuf,
    pub layer: usize,
    /// The number of evaluations of the loss in the search for each value.
    pub steps: usize,
    pub corpus: PathBuf,
    pub documents: usize,
    pub cases: Vec<Case>,
}

/// The job as a corrigenda project in a temporary folder, with its own store.
pub struct Corrigenda<'a> {
    job: &'a Job,
    folder: TempDir,
}

impl<'a> Corrigenda<'a> {
    pub fn new(job: &'a Job) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("edits"))?;
        let out = Self { job, folder };
        for (number, case) in job.cases.iter().enumerate() {
            // The edits have no expectations to test, because `rome.py` does not test any either.
            let draft = DraftEdit { expect: DraftExpectations::default(), ..draft_of(case).edit };
            std::fs::write(out.folder.path().join(format!("edits/{number}.toml")), edit_file(&[draft]))?;
        }
        Ok(out)
    }

    /// Writes the project file; `more` is added to it. Every search for a value runs all steps and counts as converged
    /// at any loss, because a model with random weights knows no facts.
    fn settings(&self, documents: usize, more: &str) -> Result<(), Failure> {
        let Job { model, layer, steps, corpus, .. } = self.job;
        let text = format!(
            "format = 1\n[model]\npath = {model:?}\n[rome]\nlayer = {layer}\n\
             schedule = [{{ rate = 0.5, steps = {steps} }}]\nstop-loss = 1e-9\nconverged-nll = 1000.0\n\
             weight-decay = 0.5\nclamp = 4.0\nkl-factor = 0.0625\n[link]\nrefine-steps = 0\n{more}\
             [statistics]\ncorpus = {corpus:?}\nmax-documents = {documents}\n"
        );
        Ok(std::fs::write(self.folder.path().join("corrigenda.toml"), text)?)
    }

    fn run(&self, words: &[&str]) -> Result<Seen, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
        command.arg("-C").arg(self.folder.path()).args(words).arg("--cache-dir").arg(self.folder.path().join("cache"));
        watched(command.env("RAYON_NUM_THREADS", "2"))
    }

    fn moment(&self, documents: usize) -> Result<(u64, Seen), Failure> {
        self.settings(documents, "")?;
        let seen = self.run(&["stats", "build", "--format", "json"])?;
        let whole: Value = serde_json::from_slice(&seen.output)?;
        Ok((whole["keys"].as_u64().ok_or("stats build says no number of keys")?, seen))
    }

    /// Returns the number of MLP keys in the second moment, and the time to sum them, without the costs that do not
    /// depend on this number.
    pub fn statistics(&self) -> Result<(u64, Seen), Failure> {
        // The difference of two runs removes costs that do not depend on the number of MLP keys, mainly the Cholesky
        // factor. A run before these two removes costs that occur only once, such as hashing the base.
        self.moment(1)?;
        let (few, short) = self.moment(self.job.documents / 4)?;
        let (keys, long) = self.moment(self.job.documents)?;
        if keys <= few {
            return Err("too few documents to tell what a key takes".into());
        }
        let share = keys as f64 / (keys - few) as f64;
        let (seconds, processors) = (long.seconds - short.seconds, long.processors - short.processors);
        Ok((keys, Seen { seconds: share * seconds, processors: share * processors, ..long }))
    }

    /// Measures a build of all edits. The second moments and their factor are in the store, but no compiled edits.
    pub fn edits(&self) -> Result<Seen, Failure> {
        for known in ["objects", "reports", "patches"] {
            let folder = self.folder.path().join("cache/v1").join(known);
            if folder.exists() {
                std::fs::remove_dir_all(folder)?;
            }
        }
        self.settings(self.job.documents, "")?;
        self.run(&["build"])
    }

    /// Measures a build with another ridge, which links values that are already in the store.
    pub fn relinked(&self) -> Result<Seen, Failure> {
        self.settings(self.job.documents, "ridge = 1e-6\n")?;
        self.run(&["build"])
    }
}

/// The job as input files of `rome.py` in a temporary folder.
pub struct Torch<'a> {
    python: &'a Path,
    folder: TempDir,
}

impl<'a> Torch<'a> {
    pub fn new(job: &Job, python: &'a Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let Job { model, layer, steps, corpus, documents, cases } = job;
        let checkpoint = Model::open(model, Isa::detect())?;
        let edit = |case: &Case| json!({ "id": case.id.to_string(), "subject": case.subject, "prompt": case.prompt, "target": case.target });
        let whole = json!({
            "model": model, "layer": layer, "corpus": corpus, "lines": documents,
            "max_tokens": checkpoint.spec().max_positions.min(1024),
            "templates": presets::lines(presets::TEMPLATES),
            "settings": {
                "schedule": [{ "rate": 0.5, "steps": steps }], "weight-decay": 0.5, "clamp": 4, "kl-factor": 0.0625,
                "stop-loss": 1e-9, "converged-nll": 1000.0, "keep": "last", "keys": "released",
            },
            "edits": cases.iter().map(edit).collect::<Vec<_>>(),
        });
        std::fs::write(folder.path().join("edits.json"), whole.to_string())?;
        Ok(Self { python, folder })
    }

    fn run(&self, words: &[&str]) -> Result<(Value, Seen), Failure> {
        let file = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(self.python);
        command.arg(SCRIPT).arg(file("edits.json")).args(words).args(["--threads", "2"]);
        command.arg("--moment").arg(file("moment.pt")).arg("--json").arg(file("out.json"));
        let seen = watched(command.env("OMP_NUM_THREADS", "2"))?;
        Ok((serde_json::from_slice(&std::fs::read(file("out.json"))?)?, seen))
    }

    /// Measures the sum of the second moment, and checks that it contains as many MLP keys as that of corrigenda.
    pub fn statistics(&self, keys: u64) -> Result<Seen, Failure> {
        let (found, seen) = self.run(&["--limit", "0"])?;
        if found["positions"] != json!(keys) {
            return Err(format!("PyTorch summed {} keys, corrigenda {keys}", found["positions"]).into());
        }
        timed(&found, ["statistics_seconds", "statistics_processors"], seen)
    }

    /// Measures the computation of all MLP keys and values, and of the update that applies them.
    pub fn edits(&self) -> Result<Seen, Failure> {
        let (found, seen) = self.run(&[])?;
        timed(&found, ["total_seconds", "total_processors"], seen)
    }
}

/// Replaces the times of the whole process by the times that `rome.py` measured for the procedure alone. `names` are
/// their keys in its output.
fn timed(found: &Value, names: [&str; 2], seen: Seen) -> Result<Seen, Failure> {
    let number = |name: &str| found[name].as_f64().ok_or(format!("PyTorch gave no {name}"));
    Ok(Seen { seconds: number(names[0])?, processors: number(names[1])?, ..seen })
}
