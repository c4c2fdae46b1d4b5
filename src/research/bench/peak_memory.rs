//! Measures the peak anonymous memory of this process during an operation. Only Linux reports this memory, as
//! `RssAnon`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time between two measurements. A shorter peak may be missed.
const EVERY: Duration = Duration::from_millis(10);

/// A thread that measures the anonymous memory of this process repeatedly until [`PeakMemory::stop`] is called.
pub struct PeakMemory {
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeakMemory {
    /// Starts a thread that measures the anonymous memory of this process every 10 ms. If the thread cannot be started,
    /// the memory is measured only once, by [`PeakMemory::stop`].
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

    /// Stops the thread and returns the largest measured anonymous memory (`RssAnon`) in bytes; `None` if the system
    /// does not report it.
    pub fn stop(mut self) -> Option<u64> {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let most = self.most.load(Ordering::Relaxed).max(anonymous().unwrap_or(0));
        (most > 0).then_some(most)
    }
}

/// Returns the anonymous memory of this process (`RssAnon`) in bytes; `None` if the system does not report it.
fn anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
