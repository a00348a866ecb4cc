//! Boot logs of real machines, parsed and replayed into every bank; and judged.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quotary_decide::eventlog::{Bank, EventLog, boot_stages, secure_boot};
use serde::Serialize;

use super::super::report::{Line, median, progress, short};
use super::super::{ROUNDS, cpu};

/// The size that figures are told for, in bytes.
const SIZE: f64 = 50_000.0;
/// Logs between two readings of the clock.
const TURN: u32 = 8;

macro_rules! vector {
    ($path:literal) => {
        include_bytes!(concat!("../../../data/attestation/", $path))
    };
}

/// The largest logs of each form; PCR 0 of each machine's SHA-1 bank, which the replay must give.
const LOGS: [(&str, &[u8], &str); 2] = [
    (
        "ubuntu-2104-no-secure-boot",
        vector!("eventlogs/ubuntu-2104-no-secure-boot.bin"),
        "0f2d3a2a1adaa479aeeca8f5df76aadc41b862ea",
    ),
    ("option_rom (Windows)", vector!("eventlogs-odd/option_rom_eventlog"), "01518aedc87a0ef505d27261ef835809e7da0086"),
];

/// One log.
#[derive(Debug, Clone, Serialize)]
pub struct BootLog {
    /// Its name in tests/data.
    pub log: &'static str,
    /// Its size.
    pub bytes: usize,
    /// Its events.
    pub events: usize,
    /// The banks that are replayed.
    pub banks: Vec<&'static str>,
    /// Median over the rounds: CPU time of parsing and replaying, in milliseconds.
    pub milliseconds: f64,
    /// The same for as much of such a log as makes 50,000 bytes.
    pub milliseconds_per_50_kb: f64,
    /// With Secure Boot and boot stages judged too.
    pub judged_milliseconds: f64,
}

impl BootLog {
    pub(super) fn line(&self) -> Line {
        let value = format!(
            "{} ms parsed and replayed ({} ms for 50 KB); {} ms with Secure Boot and stages",
            short(self.milliseconds),
            short(self.milliseconds_per_50_kb),
            short(self.judged_milliseconds)
        );
        let what =
            format!("boot log {}, {} bytes, {} events, {}", self.log, self.bytes, self.events, self.banks.join(" "));
        Line::new(what, value)
    }
}

pub(super) fn measure(round: Duration) -> anyhow::Result<Vec<BootLog>> {
    LOGS.into_iter().map(|(name, bytes, pcr_0)| measure_log(name, bytes, pcr_0, round)).collect()
}

fn measure_log(name: &'static str, bytes: &'static [u8], pcr_0: &str, round: Duration) -> anyhow::Result<BootLog> {
    let log = EventLog::parse(bytes).with_context(|| format!("the log {name}"))?;
    let replayed = log.replay().value(Bank::Sha1, 0).map(|value| value.to_hex());
    ensure!(replayed.as_deref() == Some(pcr_0), "the log {name} replays to {replayed:?}, not to its machine's PCR 0");
    progress(&format!("boot log {name}"));
    run(bytes, Duration::from_millis(200))?;
    let rounds = (0..ROUNDS).map(|_| run(bytes, round)).collect::<anyhow::Result<Vec<_>>>()?;
    let milliseconds = median(rounds.iter().map(|(replayed, _)| replayed * 1e3));
    Ok(BootLog {
        log: name,
        bytes: bytes.len(),
        events: log.events().len(),
        banks: log.banks().into_iter().map(Bank::name).collect(),
        milliseconds,
        milliseconds_per_50_kb: milliseconds * SIZE / bytes.len() as f64,
        judged_milliseconds: median(rounds.iter().map(|(replayed, judged)| (replayed + judged) * 1e3)),
    })
}

/// Seconds of one log: parsed and replayed, and judged.
fn run(bytes: &[u8], for_so_long: Duration) -> anyhow::Result<(f64, f64)> {
    let (mut replayed, mut judged, mut turns) = (Duration::ZERO, Duration::ZERO, 0_u32);
    let started = Instant::now();
    while started.elapsed() < for_so_long {
        let begin = cpu::of_this_thread();
        for _ in 0..TURN {
            black_box(EventLog::parse(black_box(bytes))?.replay());
        }
        let middle = cpu::of_this_thread();
        let log = EventLog::parse(bytes)?;
        let before = cpu::of_this_thread();
        for _ in 0..TURN {
            black_box((secure_boot(black_box(&log)), boot_stages(black_box(&log))));
        }
        let end = cpu::of_this_thread();
        replayed += middle.saturating_sub(begin);
        judged += end.saturating_sub(before);
        turns += TURN;
    }
    ensure!(replayed > Duration::ZERO, "the round was too short to measure");
    Ok((replayed.as_secs_f64() / f64::from(turns), judged.as_secs_f64() / f64::from(turns)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_logs_are_those_of_their_machines_and_another_pcr_is_no_figure() {
        for (name, bytes, pcr_0) in LOGS {
            let measured = measure_log(name, bytes, pcr_0, Duration::from_millis(1)).unwrap();
            assert!(measured.milliseconds > 0.0 && measured.bytes > 35_000);
            assert!(measure_log(name, bytes, "00", Duration::from_millis(1)).is_err());
        }
    }
}
