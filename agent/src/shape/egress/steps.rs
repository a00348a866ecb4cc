//! From what is there to what is wanted, as input for `tc` and `nft`. Pure.
//!
//! Forms: tc(8) `-batch`, tc-htb(8), nft(8). What is named here is ours alone: the discipline of one handle, its classes,
//! and one table.

use std::fmt::Write as _;

use super::form::{CheckedWanted, OTHERS, Root, Seen, SeenClass, SeenInterface, Wish};
use crate::enforce::group::GroupPath;

/// The handle of our root discipline ("QT"), by which it is known again.
pub(super) const HANDLE: &str = "5154";
/// Our table.
pub(super) const TABLE: &str = "quotary";
/// What no plan moves is not limited: more than any interface has.
const OTHERS_CLASS: &str = "rate 100gbit ceil 100gbit burst 1mb cburst 1mb quantum 200000";

/// What is to be run; an empty text is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Steps {
    /// For `tc -batch -`.
    pub(super) tc: String,
    /// For `tc -batch -` after it: what may fail on kernels that lack the discipline, without which it works too.
    pub(super) leaves: String,
    /// For `nft -f -`, in one transaction.
    pub(super) nft: String,
}

/// Makes out the steps to what is wanted. An interface that an administrator has taken is passed over; ours goes from those
/// that are wanted no longer (`strays`).
pub(super) fn steps(seen: &Seen, wanted: &CheckedWanted, rules: &[(GroupPath, u16)], strays: &[String]) -> Steps {
    let mut steps = Steps::default();
    strays.iter().for_each(|name| remove_root(&mut steps, name));
    for interface in &seen.interfaces {
        let name = &interface.name;
        match &interface.root {
            Root::Absent | Root::Foreign(_) => {}
            Root::Default => {
                // Only where nobody has set one: `add` fails on a discipline that has a handle.
                line(&mut steps.tc, format_args!("qdisc add dev {name} root handle {HANDLE}: htb default {OTHERS:x}"));
                class(&mut steps, "add", name, OTHERS, OTHERS_CLASS);
                wanted.classes.iter().for_each(|wish| class(&mut steps, "add", name, wish.minor, &rate(wish)));
            }
            Root::Ours => changes(interface, wanted, &mut steps),
        }
    }
    if wanted.load {
        steps.nft = ruleset(rules);
    }
    steps
}

/// Makes out the steps that take classes away from all interfaces that have ours, and all that is ours with the last of them. A
/// rule of a class that is gone puts its packets with those that nobody limits.
pub(super) fn taking_away(seen: &Seen, minors: &[u16]) -> Steps {
    let mut steps = Steps::default();
    let mut is_last = true;
    for interface in seen.interfaces.iter().filter(|interface| interface.root == Root::Ours) {
        let is_left = |class: &&SeenClass| class.minor != OTHERS && !minors.contains(&class.minor);
        if interface.classes.iter().find(is_left).is_none() {
            remove_root(&mut steps, &interface.name);
            continue;
        }
        is_last = false;
        for gone in interface.classes.iter().filter(|class| minors.contains(&class.minor)) {
            let (name, minor) = (&interface.name, gone.minor);
            line(&mut steps.tc, format_args!("class del dev {name} classid {HANDLE}:{minor:x}"));
        }
    }
    if is_last && seen.has_table {
        steps.nft = removal();
    }
    steps
}

fn remove_root(steps: &mut Steps, name: &str) {
    line(&mut steps.tc, format_args!("qdisc del dev {name} root handle {HANDLE}: htb"));
}

fn changes(seen: &SeenInterface, wanted: &CheckedWanted, steps: &mut Steps) {
    let name = &seen.name;
    if !seen.classes.iter().any(|class| class.minor == OTHERS) {
        class(steps, "add", name, OTHERS, OTHERS_CLASS);
    }
    for old in &seen.classes {
        if old.minor != OTHERS && !wanted.classes.iter().any(|wish| wish.minor == old.minor) {
            line(&mut steps.tc, format_args!("class del dev {name} classid {HANDLE}:{:x}", old.minor));
        }
    }
    for wish in wanted.classes.iter().filter(|wish| wanted.touched == Some(wish.minor)) {
        match seen.classes.iter().find(|class| class.minor == wish.minor) {
            None => class(steps, "add", name, wish.minor, &rate(wish)),
            Some(old) if old.rate_bits != as_shown(wish.rate_bits) => {
                class(steps, "change", name, wish.minor, &rate(wish));
            }
            Some(_) => {}
        }
    }
}

/// A rate as `tc` shows it: in the greatest unit in which it is whole, or has four digits, cut off. Where another version
/// shows more, a class is changed once too often, to what it is.
pub(super) fn as_shown(rate_bits: u64) -> u64 {
    let (mut rate, mut unit) = (rate_bits, 1_u64);
    for _ in 0..4 {
        if rate < 1_000 || (rate % 1_000 != 0 && rate < 1_000_000) {
            break;
        }
        (rate, unit) = (rate / 1_000, unit * 1_000);
    }
    rate * unit
}

fn class(steps: &mut Steps, verb: &str, name: &str, minor: u16, how: &str) {
    let parent = format_args!("class {verb} dev {name} parent {HANDLE}: classid {HANDLE}:{minor:x} htb {how}");
    line(&mut steps.tc, parent);
    if verb == "add" {
        line(&mut steps.leaves, format_args!("qdisc add dev {name} parent {HANDLE}:{minor:x} fq_codel"));
    }
}

/// A class may send what fifty milliseconds bring at once, so that late timers lose nothing; at least one large packet, and no
/// more than a megabyte.
fn rate(wish: &Wish) -> String {
    let burst_bytes = (wish.rate_bits / 8 / 20).clamp(64 * 1024, 1024 * 1024);
    let rate = wish.rate_bits;
    format!("rate {rate}bit ceil {rate}bit burst {burst_bytes} cburst {burst_bytes} quantum 1514")
}

/// Our table, whole, in place of the one that may be there.
///
/// The class is given as the packet's priority, which HTB takes for a class of its own: the packet's mark stays whose it is.
/// Groups deeper in the tree come first, since the first rule that fits is the last.
fn ruleset(rules: &[(GroupPath, u16)]) -> String {
    let mut sorted: Vec<(usize, &GroupPath, u16)> =
        rules.iter().map(|(group, minor)| (group.parts().count(), group, *minor)).collect();
    sorted.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    let mut text = format!(
        "{}table inet {TABLE} {{\n\tchain egress {{\n\t\ttype filter hook output priority 150; policy accept;\n\
         \t\toifname \"lo\" accept\n",
        removal()
    );
    for (depth, group, minor) in sorted {
        let path = group.relative();
        let rule =
            format_args!("\t\tsocket cgroupv2 level {depth} \"{path}\" meta priority set {HANDLE}:{minor:04x} accept");
        line(&mut text, rule);
    }
    text.push_str("\t}\n}\n");
    text
}

/// Removes our table, whether it is there or not.
fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A `String` takes all that is written.
    let _ = writeln!(text, "{line}");
}
