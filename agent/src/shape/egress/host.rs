//! Looking and bringing about on this host, by `tc` and `nft`.

use std::path::Path;

use super::form::{INTERFACES_MAX, Root, Seen, SeenInterface, Wanted, check, is_interface};
use super::parse;
use super::steps::steps;
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
    let tables = run(NFT, &["-j", "list", "tables"], "")?;
    seen.has_table = parse::has_table(&tables).ok_or(HandError::Form)?;
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
    // A rule for a group that is gone would fail all others with it.
    let tree = root.join("sys/fs/cgroup");
    let rules = wanted.rules_where(|group: &GroupPath| tree.join(group.relative()).is_dir());
    let steps = steps(&seen, &wanted, &rules).map_err(HandError::Refused)?;
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
    look(root, &wanted.interfaces)
}
