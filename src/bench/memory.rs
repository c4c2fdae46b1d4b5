//! The most anonymous memory of this process while something runs, as Linux tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the system is asked.
const EVERY: Duration = Duration::from_millis(10);

/// Someone who looks until told to stop.
pub struct Watch {
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to look.
    pub fn start() -> Self {
        let (most, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (Arc::clone(&most), Arc::clone(&done));
        let look = move || {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(look).ok();
        Self { most, done, thread }
    }

    /// Ends; the most that was seen, in bytes. None where the system does not tell.
    pub fn stop(mut self) -> Option<u64> {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let most = self.most.load(Ordering::Relaxed).max(anonymous().unwrap_or(0));
        (most > 0).then_some(most)
    }
}

/// `RssAnon` of this process.
fn anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
