//! `quotary policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `quotary policy …`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read policies, rosters and quorum rules as the verifier does, offline: all faults at once
    Check(PolicyCheckArgs),
    /// Show what differs between two documents, or between one and what is in force, field by field
    Diff(PolicyDiffArgs),
    /// The policies in force, and how what they hold for fares
    List,
    /// One policy in force: its document, whom it holds for, and what was seen of use against its thresholds
    Show {
        /// Its name
        name: String,
        /// Print the document alone, byte for byte
        #[arg(long)]
        document: bool,
        /// Print the newest document with better numbers that is suggested for it: `quotary change propose` takes it
        #[arg(long, conflicts_with = "document")]
        draft: bool,
    },
    /// Who decides about changes: the roster and the quorum rules in force
    Authority(AuthorityArgs),
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentKind {
    /// What applications must and may have
    Policy,
    /// The people, their roles and their keys
    Roster,
    /// What a change of each criticality takes
    Rules,
}

impl DocumentKind {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Roster => "roster",
            Self::Rules => "rules",
        }
    }
}

/// `quotary policy check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary policy check gold.toml
  quotary policy check policies/*.toml roster.toml quorum.toml
  quotary --json policy check gold.toml | jq '.[].faults'

Every fault is a line `FILE:LINE: FIELD: REASON`. A document with `people` is a roster, one with a table `criticality` is \
quorum rules, every other is a policy; --kind says otherwise. Nobody is asked, so names of tenants, zones and pools are not \
held against what the verifier knows. Rules are held against a roster that is checked with them, as `quotary-verifier init` \
does: what nobody on it could ever approve or review is told. Exit code 1 if any document has a fault, 2 if any cannot be \
read (the others are told all the same).

Samples with every field, its unit, default and bounds are in /usr/share/doc/quotary/examples (samples/ in the source): \
policy.toml, roster.toml, quorum.toml. docs/OPERATIONS.md has the way from nothing to a policy in force.")]
pub(crate) struct PolicyCheckArgs {
    /// The documents; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// What they are, in place of what they look like
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: Option<DocumentKind>,
}

/// `quotary policy diff`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary policy diff gold-3.toml gold-4.toml   two documents, offline
  quotary policy diff gold.toml                 against the policy of that name in force
  quotary policy diff roster.toml               against the roster in force: people, roles, keys

Comments and layout do not count. Of quorum rules each criticality's rule is compared as it holds, so that an absent one is \
what the next higher says.")]
pub(crate) struct PolicyDiffArgs {
    /// The document before; alone, it is the new one, and what is in force is the one before
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The document after
    #[arg(value_name = "NEW")]
    pub(crate) new: Option<PathBuf>,
    /// What they are, in place of what they look like
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: Option<DocumentKind>,
}

/// `quotary policy authority`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary policy authority
  quotary policy authority --document roster > roster.toml      the roster in force, to edit it
  quotary policy authority --allowed-signers allowed_signers    for `ssh-keygen -Y verify -f allowed_signers`")]
pub(crate) struct AuthorityArgs {
    /// Print this document alone, byte for byte: roster or rules
    #[arg(long, value_name = "WHICH", value_parser = ["roster", "rules"], conflicts_with = "allowed_signers")]
    pub(crate) document: Option<String>,
    /// Write the roster's keys as `ssh-keygen -Y verify` reads them into this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) allowed_signers: Option<PathBuf>,
}
