//! A process, watched to its end.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub type Failure = Box<dyn std::error::Error>;

/// What a process needed.
#[derive(Clone)]
pub struct Seen {
    pub seconds: f64,
    /// Seconds of processors, all threads together: what a machine that lends its processors away changes least.
    pub processors: f64,
    /// VmHWM, in bytes.
    pub resident: u64,
    /// The greatest RssAnon that was seen, in bytes.
    pub anonymous: u64,
    /// What it printed.
    pub output: Vec<u8>,
}

impl Seen {
    /// The same without the time that something else takes which it does too; nothing where that is all.
    pub fn less(self, other: &Self) -> Option<Self> {
        let (seconds, processors) = (self.seconds - other.seconds, self.processors - other.processors);
        (seconds > 0.0 && processors > 0.0).then_some(Self { seconds, processors, ..self })
    }

    /// The least of every figure, of this and of an earlier round.
    pub fn or_less(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        Self {
            seconds: self.seconds.min(earlier.seconds),
            processors: self.processors.min(earlier.processors),
            resident: self.resident.min(earlier.resident),
            anonymous: self.anonymous.min(earlier.anonymous),
            output: self.output,
        }
    }
}

/// Runs a command to its end and looks at its memory meanwhile.
pub fn watched(command: &mut Command) -> Result<Seen, Failure> {
    let start = Instant::now();
    // Into files: a pipe that nobody reads would stop whoever says much.
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command.stdout(output.try_clone()?).stderr(errors.try_clone()?).spawn()?;
    let (mut resident, mut anonymous, mut processors) = (0, 0, 0.0);
    while child.try_wait()?.is_none() {
        let (all, own) = memory(&child);
        (resident, anonymous) = (resident.max(all), anonymous.max(own));
        processors = taken(&child).unwrap_or(processors);
        std::thread::sleep(Duration::from_millis(10));
    }
    let seconds = start.elapsed().as_secs_f64();
    match child.wait()?.success() {
        true => Ok(Seen { seconds, processors, resident, anonymous, output: whole(&mut output)? }),
        false => Err(String::from_utf8_lossy(&whole(&mut errors)?).trim().to_owned().into()),
    }
}

fn whole(file: &mut File) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut out)?;
    Ok(out)
}

/// Processor time of a process so far, in seconds: user and system, in hundredths.
fn taken(child: &Child) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // Behind the name, which may hold anything: fields 14 and 15, the first behind it being the third.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
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
