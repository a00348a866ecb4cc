//! What `tc` and `nft` print. Pure; whatever comes, nothing here panics or grows beyond its input.
//!
//! `tc` is read as text: versions in use print classes of HTB so even where JSON is asked for (iproute2 6.1).

use super::form::{CLASSES_MAX, Root, SeenClass, is_interface};
use super::steps::{HANDLE, TABLE};

/// Whose the root discipline is, by `tc qdisc show dev NAME`: `qdisc KIND HANDLE: root …`.
///
/// What the kernel attaches by itself has the handle 0; what is set by hand gets another.
pub(super) fn root(text: &str) -> Root {
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        let ["qdisc", kind, handle, "root"] = words[..] else { continue };
        let handle = handle.trim_end_matches(':');
        return match (kind, handle) {
            ("htb", HANDLE) => Root::Ours,
            (_, "0") => Root::Default,
            _ => Root::Foreign(short(&format!("{kind} {handle}:"))),
        };
    }
    Root::Foreign("one that tc does not show".to_owned())
}

/// Interfaces whose root discipline is ours, by `tc qdisc show`: `qdisc htb 5154: dev NAME root …`.
pub(super) fn ours(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(6).collect();
        let ["qdisc", "htb", handle, "dev", name, "root"] = words[..] else { return None };
        (handle.strip_suffix(':') == Some(HANDLE) && is_interface(name)).then(|| name.to_owned())
    };
    text.lines().filter_map(name).collect()
}

fn short(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}

/// Our classes, by `tc -s class show dev NAME`: a line `class htb 5154:10 … rate 8Mbit …`, below it ` Sent N bytes …`.
pub(super) fn classes(text: &str) -> Vec<SeenClass> {
    let mut classes: Vec<SeenClass> = Vec::new();
    let mut is_ours = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("class") => {
                let class = class(words).filter(|_| classes.len() <= CLASSES_MAX);
                is_ours = class.is_some();
                classes.extend(class);
            }
            Some("Sent") if is_ours => {
                let sent_bytes = words.next().and_then(|word| word.parse().ok());
                if let (Some(class), Some(sent_bytes)) = (classes.last_mut(), sent_bytes) {
                    class.sent_bytes = sent_bytes;
                }
                is_ours = false;
            }
            _ => {}
        }
    }
    classes
}

fn class<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<SeenClass> {
    let (kind, id) = (words.next()?, words.next()?);
    let minor = id.strip_prefix(HANDLE)?.strip_prefix(':')?;
    let minor = u16::from_str_radix(minor, 16).ok().filter(|_| kind == "htb" && !minor.starts_with('+'))?;
    words.find(|word| *word == "rate")?;
    let rate_bits = rate(words.next()?)?;
    Some(SeenClass { minor, rate_bits, sent_bytes: 0 })
}

/// A rate as `tc` prints it, in bits per second: a whole number, then `bit`, `Kbit`, … (powers of 1000).
fn rate(text: &str) -> Option<u64> {
    let number = text.strip_suffix("bit")?;
    let (digits, scale) = match number.char_indices().last()? {
        (at, 'K') => (number.get(..at)?, 1_000),
        (at, 'M') => (number.get(..at)?, 1_000_000),
        (at, 'G') => (number.get(..at)?, 1_000_000_000),
        (at, 'T') => (number.get(..at)?, 1_000_000_000_000),
        _ => (number, 1_u64),
    };
    digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'))?.checked_mul(scale)
}

/// Whether our table is among those of `nft -j list tables`; `None` where that is no answer.
pub(super) fn has_table(text: &str) -> Option<bool> {
    let all: serde_json::Value = serde_json::from_str(text).ok()?;
    let tables = all.get("nftables")?.as_array()?.iter().filter_map(|one| one.get("table"));
    let is = |table: &serde_json::Value, key: &str, word: &str| table.get(key).and_then(|v| v.as_str()) == Some(word);
    Some(tables.into_iter().any(|table| is(table, "family", "inet") && is(table, "name", TABLE)))
}
