//! `quotary change …`

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use quotary_common::instant::parse_rfc3339;

use super::policy::DocumentKind;
use super::quantity::duration_ms;

/// Where a change can stand, in words without spaces.
/// Those of the design, and that of a freeze that is over.
const STATES: [&str; 10] = [
    "proposed",
    "approving",
    "approved",
    "shaping",
    "in-force",
    "rejected",
    "expired",
    "withdrawn",
    "revoked",
    "ended",
];

/// `quotary change …`
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// Propose to put a document in force, or to revoke a policy
    Propose(ProposeArgs),
    /// Give a change another document or other times: approvals of the text before are dismissed
    Edit(EditArgs),
    /// Changes, the newest first
    List {
        /// Only those in this state
        #[arg(long, value_name = "STATE", value_parser = STATES)]
        state: Option<String>,
    },
    /// One change: its impact, what the quorum comes to, and every vote with whether it counts
    Show(ChangeId),
    /// Write the text of a change, the very bytes that people sign, to a new file
    Export(ExportTextArgs),
    /// Approve a change: sign its text with an SSH key
    #[command(after_help = APPROVE)]
    Approve(VoteArgs),
    /// Reject a change
    #[command(after_help = REJECT)]
    Reject(VoteArgs),
    /// Take back what you signed for this text; for this text that is final
    #[command(after_help = WITHDRAW_VOTE)]
    WithdrawVote(VoteArgs),
    /// Approve an emergency change, so that it is in force at once
    #[command(after_help = BREAK_GLASS)]
    BreakGlass(VoteArgs),
    /// Say that you have looked at what was done in an emergency, or at a freeze
    #[command(after_help = REVIEW)]
    Review(VoteArgs),
    /// Hold a change where its plans are, for a time
    Freeze(FreezeArgs),
    /// Take a change back before it is in force: limits that moved go back
    Withdraw(ChangeId),
    /// What the plans of a change would be, or are, over the forecast of demand
    Preview(PreviewArgs),
    /// Write the votes of a change as files, and print the commands that check them with OpenSSH
    Votes(VotesArgs),
}

/// Which change.
#[derive(Debug, Args)]
pub(crate) struct ChangeId {
    /// Its id: c-…, hexadecimal, or a beginning of the c-… that only one change has
    #[arg(value_name = "ID")]
    pub(crate) change: String,
}

/// `quotary change propose`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary change propose gold.toml                        in force when the time for approving is over, and its rule's delay
  quotary change propose gold.toml --in 2h                limits move from approval on, and stand in two hours
  quotary change propose gold.toml --effective 2026-12-01T06:00:00Z
  quotary change propose --revoke gold --in 30m
  quotary change propose roster.toml                      another roster: the highest criticality
  quotary change propose calm.toml --break-glass --for 1h an emergency: ends by itself, reviewed afterwards
  quotary change propose gold.toml --input tofu.plan      names the plan file by its SHA-256; it is not sent

Needs a token with `change` and `read`, made in the name of a person on the roster (`quotary token operator --name alice --right \
read --right change`). Its impact is computed at once; what nobody could approve, and what capacity cannot satisfy, is refused with \
the reason. Nobody approves what they asked for.")]
pub(crate) struct ProposeArgs {
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
}

/// `quotary change freeze`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary change freeze c-4f2a --for 30m
  quotary change approve c-77e1                           the freeze's own id: one member of the role that the rules name

Limits that move stop where they are, and the change does not come into force, until the freeze ends by itself; then it goes on, \
later by as much as it takes. Past its apply-by time it expires all the same. A freeze is reviewed afterwards (`quotary change \
review`), and there is no other while one was not reviewed in time.")]
pub(crate) struct FreezeArgs {
    #[command(flatten)]
    pub(crate) id: ChangeId,
    /// How long it lasts, like 30m [default: as long as the rules allow]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) lasts: Option<u64>,
}

/// `quotary change edit`
#[derive(Debug, Args)]
#[command(
    override_usage = "quotary change edit [OPTIONS] <ID> <FILE|--revoke <NAME>>",
    after_help = "\
Examples:
  quotary change edit c-4f2a gold.toml --in 2h
  quotary change edit c-4f2a --revoke gold

What is not given again is not kept: times, emergencies and inputs are those of the edit. Who edits does not vote."
)]
pub(crate) struct EditArgs {
    /// The change: c-…, hexadecimal, or a beginning of the c-… that only one change has
    #[arg(value_name = "ID")]
    pub(crate) change: String,
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
}

/// What a change is to do, and when.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("subject").required(true).args(["file", "revoke"]),
)]
pub(crate) struct AskedArgs {
    /// The document: a policy, a roster, or quorum rules
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Take this policy out instead
    #[arg(long, value_name = "NAME")]
    pub(crate) revoke: Option<String>,
    /// What the document is, in place of what it looks like
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "revoke")]
    pub(crate) kind: Option<DocumentKind>,
    /// When it is to be in force: RFC 3339 like 2026-12-01T06:00:00Z, or now+2h [default: when the whole time for approving is over, and its rule's delay; an emergency at once]
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "after")]
    pub(crate) effective: Option<Instant>,
    /// In how long it is to be in force, like 2h
    #[arg(long = "in", value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) after: Option<u64>,
    /// An emergency: few people at once, ends by itself, reviewed afterwards
    #[arg(long, requires = "lasts")]
    pub(crate) break_glass: bool,
    /// How long an emergency lasts, like 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_ms, requires = "break_glass")]
    pub(crate) lasts: Option<u64>,
    /// A file that is applied with it, such as a saved plan of a provisioner; as often as needed
    #[arg(long = "input", value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
}

/// An instant as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instant {
    /// Unix ms.
    At(u64),
    /// So many ms from now.
    In(u64),
}

impl Instant {
    /// Unix ms.
    pub(crate) const fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(at_ms) => at_ms,
            Self::In(after_ms) => now_ms.saturating_add(after_ms),
        }
    }
}

fn instant(text: &str) -> Result<Instant, String> {
    match text.strip_prefix("now+") {
        Some(after) => duration_ms(after).map(Instant::In),
        None => parse_rfc3339(text)
            .map(Instant::At)
            .ok_or_else(|| format!("`{text}` is no instant: use RFC 3339 like 2026-12-01T06:00:00Z, or now+2h")),
    }
}

/// `quotary change export`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary change export c-4f2a change.txt
  ssh-keygen -Y sign -n quotary-approval-v1@93c1f0a2b4d5e6f7 -f ~/.ssh/id_ed25519 change.txt
  quotary change approve c-4f2a --signature change.txt.sig

SHA-256 and namespace are told on standard error; the namespace says which verb is meant, and in which deployment:
  approve        quotary-approval-v1@…
  reject         quotary-rejection-v1@…
  withdraw-vote  quotary-withdrawal-v1@…
  break-glass    quotary-break-glass-v1@…
  review         quotary-review-v1@…")]
pub(crate) struct ExportTextArgs {
    #[command(flatten)]
    pub(crate) id: ChangeId,
    /// The file to write, which must not be there yet; `-` is standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// What is the same of all votes.
macro_rules! vote_help {
    ($verb:literal, $namespace:literal, $more:literal) => {
        concat!(
            "Examples:\n",
            concat!("  quotary change ", $verb, " c-4f2a                   your ssh-agent's one key on the roster\n"),
            concat!("  quotary change ", $verb, " c-4f2a --key ~/.ssh/id   a key file; its passphrase is asked for\n"),
            concat!("  quotary change ", $verb, " c-4f2a --key id_sk.pub   a key of the agent, or a hardware key\n"),
            "  quotary change export c-4f2a change.txt\n  ssh-keygen -Y sign -n ",
            concat!($namespace, "@93c1f0a2b4d5e6f7 -f KEY change.txt\n"),
            concat!("  quotary change ", $verb, " c-4f2a --signature change.txt.sig\n\n"),
            $more,
            " Its namespace is ",
            $namespace,
            "@DEPLOYMENT (`quotary change show` has it whole): a signature for one verb stands for no other.\n\n",
            "The text that is signed is fetched, checked and shown, with its SHA-256, before you are asked. `ssh-keygen -Y sign` of ",
            "OpenSSH signs it, so that passphrases, agents and hardware keys work as ever. Needs a token with `change` and `read`; ",
            "whose vote it is follows from the key. Exit code 1 if the vote is taken and does not count."
        )
    };
}

const APPROVE: &str = vote_help!(
    "approve",
    "quotary-approval-v1",
    "Lets the change be so. Who asked for it or edited it last does not approve it, but for a freeze."
);
const REJECT: &str = vote_help!(
    "reject",
    "quotary-rejection-v1",
    "Blocks the change, with as many others as its rule has for `vetoes` (one where it says nothing). Who has rejected a text does not \
     approve it any more; a freeze takes no rejection."
);
const WITHDRAW_VOTE: &str = vote_help!(
    "withdraw-vote",
    "quotary-withdrawal-v1",
    "Takes back your approval or rejection, until the change is approved. It is final: no vote of yours on this text counts after it, \
     whatever the order. Only an edit, which makes another text, lets you vote again."
);
const BREAK_GLASS: &str = vote_help!(
    "break-glass",
    "quotary-break-glass-v1",
    "Approves a change that was proposed with `--break-glass`: members of the role in [break_glass] of the quorum rules, who did not \
     ask for it. It is in force at once, ends by itself, and is reviewed (`quotary change review`)."
);
const REVIEW: &str = vote_help!(
    "review",
    "quotary-review-v1",
    "For emergencies and freezes that were in force. Reviews count of those who could vote on such a change in quiet times and neither \
     asked for it, edited it nor approved it; how many, and within what time after it has ended, the quorum rules say \
     (`quotary policy authority`). While one is overdue there are no others."
);

/// `quotary change approve|reject|withdraw-vote|break-glass|review`
#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    #[command(flatten)]
    pub(crate) id: ChangeId,
    /// An OpenSSH private key; or a public key whose other half is beside it, in the agent, or in a hardware key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Hand in this signature, made by `ssh-keygen -Y sign` over the exported file, in place of signing here
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub(crate) signature: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `quotary change preview`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary change preview c-4f2a
  quotary change preview c-4f2a --plot c-4f2a.svg         forecast band, today's limit, plan and target of each control")]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    pub(crate) id: ChangeId,
    /// Draw it into this file
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

/// `quotary change votes`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary change votes c-4f2a --out votes

DIR then holds change.txt (the text), allowed_signers (the roster's keys), and a file for each vote on this text, as `ssh-keygen -Y sign` \
writes it. The commands that check them with OpenSSH alone are printed.")]
pub(crate) struct VotesArgs {
    #[command(flatten)]
    pub(crate) id: ChangeId,
    /// A new or empty directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(line: &str) -> Result<ChangeCommand, clap::Error> {
        let words = ["quotary", "change"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Change(command) => command,
            _ => unreachable!("it is about changes"),
        })
    }

    #[test]
    fn a_change_is_of_one_document_or_one_revocation() {
        for good in [
            "propose a.toml",
            "propose --revoke gold --in 30m",
            "propose a.toml --effective now+10m",
            "propose a.toml --break-glass --for 1h",
            "freeze c-1",
            "freeze c-1 --for 30m",
            "edit c-1 a.toml --input p --input q",
            "edit c-1 --revoke gold",
        ] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in [
            "propose",
            "propose a.toml --revoke gold",
            "propose a.toml --in 1h --effective now+1h",
            "propose a.toml --break-glass",
            "freeze",
            "freeze c-1 --in 5m",
            "propose a.toml --for 1h",
            "propose a.toml --effective tomorrow",
            "propose a.toml --effective 2026-12-01",
            "propose --revoke gold --kind policy",
            "edit c-1",
            "list --state open",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_state_of_a_change_can_be_asked_for() {
        use quotary_decide::policy::life::State;
        let all = [
            State::Proposed,
            State::Approving,
            State::Approved,
            State::Shaping,
            State::InForce,
            State::Rejected,
            State::Expired,
            State::Withdrawn,
            State::Revoked,
        ];
        assert_eq!(all.map(|state| state.name().replace(' ', "-")), STATES[..9]);
    }

    #[test]
    fn a_signature_from_elsewhere_needs_no_key() {
        assert!(parsed("approve c-1 --signature x.sig").is_ok() && parsed("review c-1 --key k --yes").is_ok());
        assert!(parsed("approve c-1 --signature x.sig --key k").is_err() && parsed("approve").is_err());
        assert!(matches!(parsed("withdraw c-1").unwrap(), ChangeCommand::Withdraw(_)));
        assert!(matches!(parsed("withdraw-vote c-1").unwrap(), ChangeCommand::WithdrawVote(_)));
    }

    #[test]
    fn instants_are_rfc_3339_or_from_now() {
        assert_eq!(instant("1970-01-01T00:00:07Z"), Ok(Instant::At(7_000)));
        assert_eq!(instant("now+10m").unwrap().at_ms(1_000), 601_000);
        for bad in ["now", "now+", "now+10", "10m", "now-10m", "2026-12-01T06:00:00"] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }
}
