//! Amounts, times and labels as people type them.

use clap::Args;
use quotary_common::metric::Gauge;
use quotary_common::units::{Class, Resources, parse_bytes, parse_cpu_millicores};
use quotary_common::wire::Right;

/// Amounts of resources on a command line.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Amounts {
    /// CPU: millicores like 500m, or cores like 2 or 0.5
    #[arg(long, value_name = "CPU", value_parser = parse_cpu_millicores)]
    pub(crate) cpu: Option<u64>,
    /// Memory: bytes, or with K, M, G, T (powers of 1024), like 256M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
    /// Storage space: bytes, like 20G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) storage: Option<u64>,
    /// Disk traffic, each direction: bytes per second, like 10M
    #[arg(long, value_name = "BYTES/S", value_parser = parse_bytes)]
    pub(crate) disk: Option<u64>,
    /// Network traffic out: bits per second, with K, M, G (powers of 1000), like 100M
    #[arg(long, value_name = "BITS/S", value_parser = bits_per_second)]
    pub(crate) network: Option<u64>,
}

impl Amounts {
    /// As the wire has them.
    pub(crate) fn resources(&self) -> Resources {
        Resources {
            cpu_millicores: self.cpu,
            memory_bytes: self.memory,
            storage_bytes: self.storage,
            disk_bytes_per_second: self.disk,
            network_bits_per_second: self.network,
        }
    }
}

/// Reads bits per second: `1000000`, `100M`, `1Gbit` (powers of 1000, as links are sold).
pub(crate) fn bits_per_second(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a rate: use bits per second, with K, M or G (powers of 1000), like 100M");
    let trimmed = text.strip_suffix("bit").unwrap_or(text);
    let (digits, factor) = match trimmed.char_indices().last() {
        Some((at, 'K' | 'k')) => (&trimmed[..at], 1_000),
        Some((at, 'M' | 'm')) => (&trimmed[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&trimmed[..at], 1_000_000_000),
        _ => (trimmed, 1),
    };
    let amount = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad)?;
    if (1..=i64::MAX.unsigned_abs()).contains(&amount) { Ok(amount) } else { Err(bad()) }
}

/// Reads a length of time in ms: `250ms`, `30s`, `5m`, `1h`, `7d`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a length of time: use ms, s, m, h or d, like 30s");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let amount = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad)?;
    if (1..=i64::MAX.unsigned_abs()).contains(&amount) { Ok(amount) } else { Err(bad()) }
}

/// Longest wait that the agent's socket takes, ms.
const WAIT_MS_MAX: u64 = 300_000;

/// Reads how long to wait for an answer: at most five minutes.
pub(crate) fn wait_ms(text: &str) -> Result<u64, String> {
    let wait = duration_ms(text)?;
    if wait > WAIT_MS_MAX { Err("the agent waits five minutes at most: use 300s or less".to_owned()) } else { Ok(wait) }
}

/// Reads a gauge's value: a whole number in its unit.
pub(crate) fn gauge(gauge: Gauge, text: &str) -> Result<u64, String> {
    let greatest = gauge.greatest();
    let value = text.parse::<u64>().ok().filter(|value| *value <= greatest);
    value.ok_or_else(|| format!("`{text}` is no value of {}: use a whole number from 0 to {greatest}", gauge.name()))
}

/// Reads `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: use KEY=VALUE, like region=north")),
    }
}

/// Reads a class.
pub(crate) fn class(text: &str) -> Result<Class, String> {
    text.parse::<Class>().map_err(|e| e.to_string())
}

/// Reads a right that an operator token may carry.
pub(crate) fn right(text: &str) -> Result<Right, String> {
    match text {
        "read" => Ok(Right::Read),
        "audit" => Ok(Right::Audit),
        "admin" => Ok(Right::Admin),
        "change" => Ok(Right::Change),
        _ => Err(format!("`{text}` is not a right: use read, audit, admin or change")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_powers_of_1000() {
        assert_eq!(bits_per_second("100M"), Ok(100_000_000));
        assert_eq!(bits_per_second("1Gbit"), Ok(1_000_000_000));
        assert_eq!(bits_per_second("9600"), Ok(9_600));
        for bad in ["", "0", "M", "-1", "1.5M", "99999999999G", "5é"] {
            assert!(bits_per_second(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration_ms("250ms"), Ok(250));
        assert_eq!(duration_ms("30s"), Ok(30_000));
        assert_eq!(duration_ms("2m"), Ok(120_000));
        assert_eq!(duration_ms("7d"), Ok(604_800_000));
        for bad in ["", "30", "s", "0s", "-1s", "1y", "99999999999999d", "1é"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_is_at_most_five_minutes() {
        assert_eq!(wait_ms("300s"), Ok(300_000));
        assert!(wait_ms("301s").is_err());
    }

    #[test]
    fn labels_have_a_key() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("=b").is_err() && label("b").is_err());
    }

    #[test]
    fn only_an_operators_rights_can_be_given() {
        assert_eq!((right("audit"), right("change")), (Ok(Right::Audit), Ok(Right::Change)));
        for bad in ["host", "join", "peer", "Read", ""] {
            assert!(right(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_within_bounds(text in ".{0,24}|[0-9]{1,21}[a-zA-Zé]{0,4}") {
            for amount in [bits_per_second(&text), duration_ms(&text)].into_iter().flatten() {
                proptest::prop_assert!(amount >= 1 && i64::try_from(amount).is_ok(), "{text}");
            }
            if let Ok(wait) = wait_ms(&text) {
                proptest::prop_assert!(wait <= WAIT_MS_MAX);
            }
        }

        #[test]
        fn whole_amounts_read_as_they_are_written(amount in 1_u64..1_000_000) {
            proptest::prop_assert_eq!(bits_per_second(&format!("{amount}M")), Ok(amount * 1_000_000));
            proptest::prop_assert_eq!(duration_ms(&format!("{amount}h")), Ok(amount * 3_600_000));
        }
    }
}
