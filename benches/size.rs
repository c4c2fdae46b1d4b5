//! Memory and time of one edit on models of true size, beside PyTorch where it fits.
//!
//!     cargo run --release --example random_checkpoint -- gpt2-xl /tmp/gpt2-xl TOKENIZER.json
//!     cargo bench --bench size -- /tmp/gpt2-xl [MORE …] [--layer N] [--documents N] [--python PYTHON]
//!
//! Each verb runs as a process of its own, which is watched: VmHWM is all that was ever resident, pages of the mapped
//! weights included; RssAnon is what the process holds for itself, at its peak as seen every ten milliseconds. The
//! schedule is the published one (twenty steps), and a value of a random model counts as converged wherever it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/tiny_corpus.txt");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/size_torch.py");

/// What a process needed.
struct Seen {
    time: Duration,
    resident: u64,
    anonymous: u64,
}

struct Arguments {
    models: Vec<PathBuf>,
    layer: usize,
    documents: usize,
    python: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    println!("| model | on disk | what | time | VmHWM | RssAnon |\n|---|---|---|---|---|---|");
    for model in &arguments.models {
        let name = model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let size = on_disk(model)?;
        let row = |what: &str, seen: Result<Seen, Failure>| {
            let cells = match seen {
                Ok(Seen { time, resident, anonymous }) => {
                    format!("{:.1} s | {} | {}", time.as_secs_f64(), gib(resident), gib(anonymous))
                }
                Err(error) => format!("{} | | ", error.to_string().lines().last().unwrap_or_default()),
            };
            println!("| {name} | {} | {what} | {cells} |", gib(size));
        };
        let folder = project(model, &arguments)?;
        let run = |verb: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_corrigenda"));
            command.arg("-C").arg(folder.path()).args(verb).arg("--cache-dir").arg(folder.path().join("cache"));
            watched(&mut command)
        };
        row("second moment of the keys", run(&["stats", "build"]));
        row("one edit: value, link, patch, scores", run(&["build"]));
        row("the same again, relinked only", relinked(folder.path(), &run));
        if let Some(python) = &arguments.python {
            let mut command = Command::new(python);
            command.arg(SCRIPT).arg(model).arg(arguments.layer.to_string());
            row("PyTorch: the value of one edit", watched(&mut command));
        }
    }
    Ok(())
}

/// Another ridge makes another link of the same object.
fn relinked(folder: &Path, run: &dyn Fn(&[&str]) -> Result<Seen, Failure>) -> Result<Seen, Failure> {
    let path = folder.join("corrigenda.toml");
    let settings = std::fs::read_to_string(&path)?;
    std::fs::write(&path, settings + "[link]\nridge = 1e-6\n")?;
    run(&["build"])
}

fn arguments() -> Result<Arguments, Failure> {
    let mut out = Arguments { models: Vec::new(), layer: 5, documents: 64, python: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            // Given by cargo.
            "--bench" => {}
            "--layer" => out.layer = value()?.parse()?,
            "--documents" => out.documents = value()?.parse()?,
            "--python" => out.python = Some(value()?.into()),
            model => out.models.push(model.into()),
        }
    }
    Ok(out)
}

fn project(model: &Path, arguments: &Arguments) -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::tempdir()?;
    let Arguments { layer, documents, .. } = arguments;
    let model = std::path::absolute(model)?;
    let settings = format!(
        "format = 1\n[model]\npath = {model:?}\n[rome]\nlayer = {layer}\nschedule = [{{ rate = 0.5, steps = 20 }}]\n\
         stop-loss = 1e-9\nconverged-nll = 1000.0\n[statistics]\ncorpus = {CORPUS:?}\nmax-documents = {documents}\n"
    );
    std::fs::write(folder.path().join("corrigenda.toml"), settings)?;
    std::fs::create_dir(folder.path().join("edits"))?;
    let edit = "format = 1\n[[edit]]\nid = \"a\"\nsubject = \"The Eiffel Tower\"\n\
                prompt = \"{} is located in the city of\"\ntarget = \"London\"\n";
    std::fs::write(folder.path().join("edits/a.toml"), edit)?;
    Ok(folder)
}

/// Runs a command to its end and looks at its memory meanwhile.
fn watched(command: &mut Command) -> Result<Seen, Failure> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (mut resident, mut anonymous) = (0, 0);
    while child.try_wait()?.is_none() {
        let (all, own) = memory(&child);
        (resident, anonymous) = (resident.max(all), anonymous.max(own));
        std::thread::sleep(Duration::from_millis(10));
    }
    let time = start.elapsed();
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(Seen { time, resident, anonymous }),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into()),
    }
}

/// VmHWM and RssAnon of a process, in bytes; nothing where it has just ended.
fn memory(child: &Child) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("VmHWM:"), field("RssAnon:"))
}

fn on_disk(folder: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        total += entry?.metadata()?.len();
    }
    Ok(total)
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / (1_u64 << 30) as f64)
}
