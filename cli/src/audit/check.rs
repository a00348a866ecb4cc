//! Checks a copy, and says what was found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quotary_common::limits::SIGNED_BYTES_MAX;
use quotary_common::sign::PublicKey;
use quotary_decide::audit::{self, AuditReport};
use serde::Serialize;

use super::files::{Directory, KEYS_PATH, ROOT_KEY_PATH};
use super::key;
use crate::credentials::root_key;
use crate::exit::{Code, Failure, with_causes};
use crate::present::{self, Facts};

/// Most faults and missing evidence that are printed one by one.
const SHOWN_MAX: usize = 20;

/// The root key under which a copy is checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) key: PublicKey,
    pub(super) from: RootFrom,
}

/// Where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RootFrom {
    /// `--root-key`
    CommandLine,
    /// The kept credentials.
    Credentials,
    /// The copy itself: it proves nothing about whose log it is.
    Copy,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    report: AuditReport,
    votes: Votes,
    root_key: String,
    root_key_from: RootFrom,
}

/// Votes of people on changes. A leaf has digests of them alone, so that no copy of the log holds a signature to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Votes {
    /// Leaves of votes in the log.
    leaves: u64,
    /// Signatures of votes that were checked.
    checked: u64,
}

impl Votes {
    fn of(leaves_by_kind: &BTreeMap<&'static str, u64>) -> Self {
        Self { leaves: leaves_by_kind.get("vote-cast").copied().unwrap_or(0), checked: 0 }
    }

    fn text(self) -> String {
        match self.leaves {
            0 => "none in the log".to_owned(),
            leaves => format!(
                "{leaves} in the log by digest, {} of their signatures checked: `quotary change votes ID --out DIR` checks those of a \
                 change, and prints the commands by which OpenSSH does",
                self.checked
            ),
        }
    }
}

/// Checks the copy in `directory`.
pub(super) fn check(
    directory: &Directory,
    root: Option<Root>,
    now_ms: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, Failure> {
    let root = match root {
        Some(root) => root,
        None => Root { key: own_root_key(directory)?, from: RootFrom::Copy },
    };
    let certificate = directory.needed(KEYS_PATH, SIGNED_BYTES_MAX)?;
    let log = key::log_key(&certificate, &root.key).map_err(|why| {
        Failure::new(Code::Refused, format!("the log's key does not hold under root key {}: {why}", root.key.hex()))
    })?;
    let mut report = audit::verify(directory, &log.origin, &log.key, progress)
        .map_err(|e| Failure::new(Code::Unreadable, format!("{}: {}", directory.path().display(), with_causes(&e))))?;
    if log.not_after_ms < now_ms {
        let ended = present::time(log.not_after_ms);
        report.notes.push(format!("the log key's certificate ended at {ended}: newer checkpoints must have another"));
    }
    if root.from == RootFrom::Copy {
        let own = "the root key is the copy's own: that this is the log of your deployment is not proven (pin it with --root-key)";
        report.notes.push(own.to_owned());
    }
    let votes = Votes::of(&report.leaves_by_kind);
    if votes.leaves > votes.checked {
        report.notes.push(format!(
            "people's votes on changes: that each of the {} was signed, and that they were enough, is read as it was logged",
            votes.leaves
        ));
    }
    Ok(Outcome { report, votes, root_key: root.key.hex(), root_key_from: root.from })
}

fn own_root_key(directory: &Directory) -> Result<PublicKey, Failure> {
    let bytes = directory.needed(ROOT_KEY_PATH, SIGNED_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    root_key(&text).map_err(|e| Failure::of(Code::Unreadable, &e))
}

impl Outcome {
    /// Whether the check as a whole succeeded.
    pub(super) fn holds(&self, allow_missing: bool) -> bool {
        self.report.verified && (self.report.complete || allow_missing)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let report = &self.report;
        let mut facts = Facts::default();
        facts.add("log", report.origin.as_str());
        let root = report.root.map_or_else(|| "-".to_owned(), |root| root.hex());
        facts.add("checkpoint", format!("{} leaves, root {root}", report.size));
        let kinds: Vec<String> = report.leaves_by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        facts.add("leaves", if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") });
        facts.add("evidence", format!("{} verified, {} missing", report.evidence_verified, report.evidence_missing));
        facts.add("votes", self.votes.text());
        let conflicts = report.witness_conflicts.len();
        facts.add("witnesses", format!("{} agree, {conflicts} conflict", report.witnesses_agreeing));
        let mut out = facts.render();
        let leaf = |leaf: Option<u64>| leaf.map_or_else(|| "log".to_owned(), |leaf| format!("leaf {leaf}"));
        let faults = report.faults.iter().map(|fault| format!("{}: {}", leaf(fault.leaf), fault.what));
        section(&mut out, "FAULTS", faults, report.fault_count);
        let missing = report
            .missing
            .iter()
            .map(|m| format!("leaf {}: evidence {} of {}, {}", m.leaf, m.sequence, m.host, m.evidence.hex()));
        section(&mut out, "Missing evidence", missing, report.evidence_missing);
        let conflicts = report.witness_conflicts.iter().map(|c| format!("{}: {}", leaf(c.leaf), c.what));
        section(&mut out, "WITNESSES OF ANOTHER LOG", conflicts, report.witness_conflicts.len() as u64);
        section(&mut out, "Taken on trust", report.notes.iter().cloned(), report.notes.len() as u64);
        let verdict = match (report.verified, report.complete) {
            (true, true) => "VERIFIED: the log and every evidence behind it hold",
            (true, false) => "VERIFIED, BUT NOT COMPLETE: what is there holds, something is missing",
            (false, _) => "NOT VERIFIED",
        };
        let _ = writeln!(out, "\n{verdict}");
        out
    }
}

/// A titled list, cut to what a person reads.
fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>, count: u64) {
    if count == 0 {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    let mut shown = 0;
    for line in lines.take(SHOWN_MAX) {
        let _ = writeln!(out, "  {}", present::clean(&line));
        shown += 1;
    }
    if count > shown {
        let _ = writeln!(out, "  … and {} more (--json lists up to 1000)", count - shown);
    }
}

#[cfg(test)]
mod tests {
    use quotary_common::cbor::Text;
    use quotary_common::id::{ChangeId, Digest};
    use quotary_common::leaf::{Decision, VoteCast};
    use quotary_common::quorum::vote::Verb;

    use super::*;

    /// As the report names the leaf of a vote.
    fn kind_of_vote() -> &'static str {
        let cast = VoteCast {
            change: ChangeId::of(&[b"c"]),
            person: Text::lossy("bob"),
            verb: Verb::Approval,
            key: Digest::of(&[b"k"]),
            text: Digest::of(&[b"t"]),
            input: Digest::of(&[b"i"]),
        };
        audit::kind_of(&Decision::VoteCast(cast))
    }

    #[test]
    fn votes_are_told_as_not_checked_and_by_which_command_they_are() {
        assert_eq!(Votes::of(&BTreeMap::from([("verdict", 7)])).text(), "none in the log");
        let votes = Votes::of(&BTreeMap::from([("verdict", 7), (kind_of_vote(), 4)]));
        assert_eq!(votes, Votes { leaves: 4, checked: 0 });
        let told = votes.text();
        assert!(told.starts_with("4 in the log by digest, 0 of their signatures checked"), "{told}");
        assert!(told.contains("quotary change votes ID --out DIR"), "{told}");
    }
}
