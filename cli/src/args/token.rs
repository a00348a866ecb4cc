//! `quotary token …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quotary_common::wire::Right;

use super::quantity::{Amounts, duration_ms, label, right};

/// `quotary token …`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token: it admits one host, with the zone and the inventory given here
    Join(JoinArgs),
    /// Make an operator token: it lets a person or a program ask the verifier
    Operator(OperatorArgs),
}

/// `quotary token join`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary token join --zone lab --cpu 4 --memory 8G --out join.token
  quotary token join --zone rack --cpu 64 --memory 256G --network 10G --label region=north

The token is a secret and is shown once. It tells the agent where the verifier is, which CA it has and which \
root key to trust. What it says of the host's capacity is what grants are made from.")]
pub(crate) struct JoinArgs {
    /// The best trust zone that the host may enter
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: String,
    #[command(flatten)]
    pub(crate) capacity: Amounts,
    /// A label, as often as needed: KEY=VALUE
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) made: MadeArgs,
}

/// `quotary token operator`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary token operator --name dashboards --right read --valid-for 30d
  quotary token operator --name 'Ada (auditor)' --right read --right audit --out ada.token
  quotary token operator --name alice --right read --right change --valid-for 30d

With `change` the token proposes changes and hands in votes: its name must then be that of a person on the roster \
(`quotary policy authority`), and stands in the text of what it proposes. A vote is its key's, whatever token brings it.")]
pub(crate) struct OperatorArgs {
    /// For whom, as it will stand in the audit log; with `change`, a person on the roster
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What it may do, as often as needed: read, audit, admin or change
    #[arg(long = "right", value_name = "RIGHT", required = true, value_parser = right)]
    pub(crate) rights: Vec<Right>,
    #[command(flatten)]
    pub(crate) made: MadeArgs,
}

/// How long a token holds and where it goes.
#[derive(Debug, Args)]
pub(crate) struct MadeArgs {
    /// How long it holds, like 1h or 30d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration_ms)]
    pub(crate) valid_for: u64,
    /// Write the token to this new file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
