//! The interfaces that traffic leaves by, as sysfs shows them (kernel documentation, ABI/testing/sysfs-class-net).

use std::fs;
use std::path::Path;

use super::form::{INTERFACES_MAX, is_interface};

/// What a link counts as where the kernel does not know its rate (virtual ones), bits per second.
const RATE_UNKNOWN_BITS: u64 = 10_000_000_000;

/// Those that have hardware behind them: what leaves the host leaves by one of them, through whatever bonds, bridges and
/// VLANs stand on top.
pub(super) fn with_hardware(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/net")) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_interface(name))
        .collect();
    names.sort();
    names.truncate(INTERFACES_MAX);
    names
}

/// Whether there is one of that name.
pub(super) fn is_there(root: &Path, name: &str) -> bool {
    root.join("sys/class/net").join(name).exists()
}

fn number(root: &Path, name: &str, file: &str) -> Option<i64> {
    let text = fs::read_to_string(root.join("sys/class/net").join(name).join(file)).ok()?;
    text.trim().parse().ok()
}

/// Bytes that all of them have sent.
pub(super) fn sent_bytes(root: &Path, names: &[String]) -> u64 {
    let sent = names.iter().filter_map(|name| number(root, name, "statistics/tx_bytes"));
    sent.filter_map(|bytes| u64::try_from(bytes).ok()).fold(0, u64::saturating_add)
}

/// The rate of the fastest of them, bits per second.
pub(super) fn rate_bits(root: &Path, names: &[String]) -> u64 {
    let of = |name: &String| {
        let megabits =
            number(root, name, "speed").and_then(|speed| u64::try_from(speed).ok()).filter(|speed| *speed > 0);
        megabits.map_or(RATE_UNKNOWN_BITS, |megabits| megabits.saturating_mul(1_000_000))
    };
    names.iter().map(of).max().unwrap_or(RATE_UNKNOWN_BITS)
}
