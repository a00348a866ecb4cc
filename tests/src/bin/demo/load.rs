//! A load generator: threads that burn CPU, and memory that is really used.

use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::Args;
use quotary_common::units::parse_bytes;
use rustix::process::getppid;

const PAGE_BYTES: usize = 4096;
const TOUCH_EVERY: Duration = Duration::from_millis(500);

/// What to use up.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Threads that burn CPU
    #[arg(long, default_value_t = 1)]
    cpu_threads: usize,
    /// Memory that is written to again and again
    #[arg(long, value_parser = parse_bytes)]
    memory: Option<u64>,
    /// How long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Uses it up, for so long, or until a signal, or until whoever started it is gone.
pub(crate) fn run(load: &Load) {
    let parent = getppid();
    let end = Instant::now() + Duration::from_secs(load.seconds);
    let burners: Vec<_> = (0..load.cpu_threads).map(|_| std::thread::spawn(move || burn(end))).collect();
    let bytes = load.memory.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let mut memory = vec![0_u8; bytes];
    let mut round = 0_u8;
    while Instant::now() < end {
        if getppid() != parent {
            // The burners end with the process.
            return;
        }
        round = round.wrapping_add(1);
        for page in memory.chunks_mut(PAGE_BYTES) {
            page[0] = round;
        }
        black_box(&memory);
        std::thread::sleep(TOUCH_EVERY.min(end.saturating_duration_since(Instant::now())));
    }
    for burner in burners {
        // A burner does nothing that can fail.
        let _ = burner.join();
    }
}

fn burn(end: Instant) {
    let mut value = 1_u64;
    while Instant::now() < end {
        for _ in 0..100_000 {
            value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
