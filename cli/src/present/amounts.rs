//! Amounts and times as people read them.

use quotary_common::instant::rfc3339;
use quotary_common::units::Resources;

/// An amount in units of 1024, with one decimal where it is not whole: `256 MiB`, `1.5 GiB`.
pub fn bytes(amount: u64) -> String {
    scaled(amount, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A rate in units of 1000: `100 Mbit/s`.
fn bits_per_second(amount: u64) -> String {
    scaled(amount, 1000, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

fn scaled(amount: u64, base: u64, units: &[&str]) -> String {
    let mut unit = 0;
    let mut one = 1_u64;
    while unit + 1 < units.len() && amount / one >= base {
        one = one.saturating_mul(base);
        unit += 1;
    }
    let (whole, tenth) = (amount / one, amount % one * 10 / one);
    let name = units.get(unit).copied().unwrap_or_default();
    if tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

/// CPU: `500m`, `2`.
fn cpu(millicores: u64) -> String {
    if millicores.is_multiple_of(1000) { format!("{}", millicores / 1000) } else { format!("{millicores}m") }
}

/// An amount of what a resource's or metric's name says: its unit stands in the name.
pub fn amount(name: &str, value: u64) -> String {
    if name.ends_with("millicores") {
        cpu(value)
    } else if name.ends_with("bytes_per_second") {
        format!("{}/s", bytes(value))
    } else if name.ends_with("bits_per_second") {
        bits_per_second(value)
    } else if name.ends_with("bytes") {
        bytes(value)
    } else if name.ends_with("ppm") {
        percent_ppm(value)
    } else if name.ends_with("microseconds") {
        format!("{value} us")
    } else {
        value.to_string()
    }
}

/// Parts per million as a percentage: `12.3 %`.
fn percent_ppm(ppm: u64) -> String {
    format!("{}.{} %", ppm / 10_000, ppm % 10_000 / 1_000)
}

/// What is stated of resources, in one cell: `cpu 500m, memory 256 MiB`.
pub fn resources(resources: &Resources) -> String {
    let parts = [
        ("cpu", "cpu_millicores", resources.cpu_millicores),
        ("memory", "memory_bytes", resources.memory_bytes),
        ("storage", "storage_bytes", resources.storage_bytes),
        ("disk", "disk_bytes_per_second", resources.disk_bytes_per_second),
        ("network", "network_bits_per_second", resources.network_bits_per_second),
    ];
    let stated: Vec<String> =
        parts.iter().filter_map(|(short, name, value)| value.map(|v| format!("{short} {}", amount(name, v)))).collect();
    if stated.is_empty() { "-".to_owned() } else { stated.join(", ") }
}

/// A length of time: `850 ms`, `12 s`, `5 min`, `3 h`, `2 d`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// An instant beside now, both Unix ms: `12 s ago`, `in 5 min`.
pub fn age(at_ms: u64, now_ms: u64) -> String {
    match now_ms.checked_sub(at_ms) {
        Some(0..1_000) => "now".to_owned(),
        Some(ago) => format!("{} ago", duration(ago)),
        None => format!("in {}", duration(at_ms - now_ms)),
    }
}

/// An instant, Unix ms, as RFC 3339 in UTC: `2026-11-22T07:00:00Z`.
pub fn time(at_ms: u64) -> String {
    rfc3339(at_ms - at_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_carry_their_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(1536 << 20), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(bits_per_second(100_000_000), "100 Mbit/s");
        assert_eq!(amount("cpu_millicores", 500), "500m");
        assert_eq!(amount("cpu_millicores", 2000), "2");
        assert_eq!(amount("disk_read_bytes_per_second", 1 << 20), "1 MiB/s");
        assert_eq!(amount("network_transmit_bits_per_second", 1500), "1.5 kbit/s");
        assert_eq!(amount("cpu_pressure_some_ppm", 123_456), "12.3 %");
    }

    #[test]
    fn only_what_is_stated_is_told() {
        assert_eq!(resources(&Resources::default()), "-");
        let some = Resources { cpu_millicores: Some(500), memory_bytes: Some(1 << 30), ..Resources::default() };
        assert_eq!(resources(&some), "cpu 500m, memory 1 GiB");
    }

    #[test]
    fn ages_look_back_and_ahead() {
        assert_eq!(age(1_000, 13_000), "12 s ago");
        assert_eq!(age(13_500, 13_900), "now");
        assert_eq!(age(613_000, 13_000), "in 10 min");
        assert_eq!(age(0, 86_400_000 * 3), "3 d ago");
    }

    #[test]
    fn instants_are_dates_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_795_330_800_123), "2026-11-22T07:00:00Z");
        assert_eq!(time(4_107_542_399_000), "2100-02-28T23:59:59Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01T00:00:00Z");
    }
}
