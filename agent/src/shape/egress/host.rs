//! Looking and bringing about on this host, by `tc` and `nft`.

use std::path::Path;

use super::form::{INTERFACES_MAX, Root, Seen, SeenInterface, Unwanted, Wanted, check, is_interface, is_minor};
use super::parse;
use super::steps::{Steps, steps, taking_away};
use crate::enforce::group::GroupPath;
use crate::shape::hand::{HandError, Tool, run};

const TC: Tool = Tool { name: "tc", package: "iproute2" };
const NFT: Tool = Tool { name: "nft", package: "nftables" };

/// What is there on these interfaces.
pub(in crate::shape) fn look(root: &Path, interfaces: &[String]) -> Result<Seen, HandError> {
    if interfaces.len() > INTERFACES_MAX {
        return Err(HandError::Refused("more interfaces than there may be".to_owned()));
    }
    let mut seen = Seen::default();
    for name in interfaces {
        if !is_interface(name) {
            return Err(HandError::Refused(format!("{name:?} is no name of an interface")));
        }
        seen.interfaces.push(look_at(root, name)?);
    }
    seen.has_table = has_table()?;
    Ok(seen)
}

fn look_at(root: &Path, name: &str) -> Result<SeenInterface, HandError> {
    let is_there = || root.join("sys/class/net").join(name).exists();
    if !is_there() {
        return Ok(SeenInterface { name: name.to_owned(), root: Root::Absent, classes: Vec::new() });
    }
    let words = format!("qdisc show dev {name}\nclass show dev {name}\n");
    match run(TC, &["-s", "-batch", "-"], &words) {
        Ok(text) => {
            Ok(SeenInterface { name: name.to_owned(), root: parse::root(&text), classes: parse::classes(&text) })
        }
        // It went meanwhile.
        Err(HandError::Tool { .. }) if !is_there() => {
            Ok(SeenInterface { name: name.to_owned(), root: Root::Absent, classes: Vec::new() })
        }
        Err(error) => Err(error),
    }
}

/// Brings what is there to what is wanted; what is there then.
///
/// On an error some of it may be done: the next call goes on from what is there then.
pub(in crate::shape) fn bring(root: &Path, wanted: &Wanted) -> Result<Seen, HandError> {
    let wanted = check(wanted.clone()).map_err(HandError::Refused)?;
    let seen = look(root, &wanted.interfaces)?;
    let strays = if wanted.load { ours()? } else { Vec::new() };
    let strays: Vec<String> = strays.into_iter().filter(|name| !wanted.interfaces.contains(name)).collect();
    // A rule for a group that is gone would fail all others with it.
    let tree = root.join("sys/fs/cgroup");
    let rules = wanted.rules_where(|group: &GroupPath| tree.join(group.relative()).is_dir());
    follow(&steps(&seen, &wanted, &rules, &strays))?;
    look(root, &wanted.interfaces)
}

/// Takes classes away from all interfaces of this host that have ours, whichever are configured; what is there then.
///
/// On an error some of it may be done: the next call goes on from what is there then.
pub(in crate::shape) fn take_away(root: &Path, unwanted: &Unwanted) -> Result<Seen, HandError> {
    if let Some(minor) = unwanted.minors.iter().find(|minor| !is_minor(**minor)) {
        return Err(HandError::Refused(format!("{minor:#x} is no number of a class")));
    }
    let mut seen = Seen { has_table: has_table()?, ..Seen::default() };
    for name in ours()? {
        seen.interfaces.push(look_at(root, &name)?);
    }
    follow(&taking_away(&seen, &unwanted.minors))?;
    look(root, &unwanted.interfaces)
}

/// The interfaces that have our root discipline.
fn ours() -> Result<Vec<String>, HandError> {
    run(TC, &["qdisc", "show"], "").map(|text| parse::ours(&text))
}

fn has_table() -> Result<bool, HandError> {
    let tables = run(NFT, &["-j", "list", "tables"], "")?;
    parse::has_table(&tables).ok_or(HandError::Form)
}

fn follow(steps: &Steps) -> Result<(), HandError> {
    if !steps.tc.is_empty() {
        run(TC, &["-batch", "-"], &steps.tc)?;
    }
    if !steps.leaves.is_empty() {
        // Without fair queueing below, a class has one queue: the limit holds all the same.
        let _ = run(TC, &["-force", "-batch", "-"], &steps.leaves);
    }
    if !steps.nft.is_empty() {
        run(NFT, &["-f", "-"], &steps.nft)?;
    }
    Ok(())
}
