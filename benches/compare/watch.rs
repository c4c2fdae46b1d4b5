//! Runs a process and measures its time and memory.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub type Failure = Box<dyn std::error::Error>;

/// The output of a process, and the time and memory that it used.
#[derive(Clone)]
pub struct Seen {
    pub seconds: f64,
    /// The processor time of all threads, in seconds; depends less on the load of a shared machine than the elapsed
    /// time.
    pub processors: f64,
    /// The peak resident memory (VmHWM), in bytes.
    pub resident: u64,
    /// The largest sample of the anonymous memory (RssAnon), in bytes.
    pub anonymous: u64,
    pub output: Vec<u8>,
}

impl Seen {
    /// Subtracts the times of `other` from the times of this process; `None` if one of the differences is not positive.
    pub fn less(self, other: &Self) -> Option<Self> {
        let (seconds, processors) = (self.seconds - other.seconds, self.processors - other.processors);
        (seconds > 0.0 && processors > 0.0).then_some(Self { seconds, processors, ..self })
    }

    /// Returns the minimum of each figure over this round and the earlier rounds.
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

/// Runs a command to its end and samples its memory every ten milliseconds. Returns an error if the command fails.
pub fn watched(command: &mut Command) -> Result<Seen, Failure> {
    let start = Instant::now();
    // The output goes to files, because a full pipe would block the process.
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
    if child.wait()?.success() {
        Ok(Seen { seconds, processors, resident, anonymous, output: whole(&mut output)? })
    } else {
        Err(String::from_utf8_lossy(&whole(&mut errors)?).trim().to_owned().into())
    }
}

fn whole(file: &mut File) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut out)?;
    Ok(out)
}

/// Returns the processor time of a process so far, in seconds: user and system time, which Linux reports in units of 10
/// ms.
fn taken(child: &Child) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // The second field is the program name in parentheses, which may contain spaces. The first field after it has
    // number 3; fields 14 and 15 are user and system time.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

/// Returns VmHWM and RssAnon of a process in bytes; 0 if the process has already ended.
fn memory(child: &Child) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("VmHWM:"), field("RssAnon:"))
}
