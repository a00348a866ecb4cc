//! The command line of the verifier's program: what it may say.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The verifier of a Quotary deployment: checks quotes, forecasts, grants, remembers.
#[derive(Debug, Parser)]
#[command(
    name = "quotary-verifier",
    version,
    after_help = "Exit codes: 0 done, 64 usage or configuration, 70 failed.\n\nFirst: quotary-verifier init --config verifier.toml --offline-dir /media/safe\nThen:  quotary-verifier run --config verifier.toml"
)]
pub struct Arguments {
    /// What it is to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the verifier is to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes root, CA, keys and the first operator's token; done once per deployment.
    Init {
        /// The configuration that the deployment will run with.
        #[arg(long, default_value = "/etc/quotary/verifier.toml")]
        config: PathBuf,
        /// Where root key and CA key go; take this directory offline afterwards.
        #[arg(long)]
        offline_dir: PathBuf,
        /// The people who may decide about changes: `roster.toml`. Goes with --rules; both can be put in force later with `authority`.
        #[arg(long, requires = "rules")]
        roster: Option<PathBuf>,
        /// How many of them a change takes: `quorum.toml`. Goes with --roster.
        #[arg(long, requires = "roster")]
        rules: Option<PathBuf>,
        /// Further names and addresses under which the verifier is reached, beside its url's.
        #[arg(long = "tls-name")]
        tls_names: Vec<String>,
        /// How long the keys' certificate and the first token hold, in days.
        #[arg(long, default_value_t = 365)]
        valid_for_days: u64,
    },
    /// Puts the first roster and quorum rules in force, signed with the root key; with the verifier stopped. Later ones are changes.
    Authority {
        /// The configuration that the deployment runs with.
        #[arg(long, default_value = "/etc/quotary/verifier.toml")]
        config: PathBuf,
        /// The directory in which `init` left the root key; take it offline again afterwards.
        #[arg(long)]
        offline_dir: PathBuf,
        /// The people who may decide about changes.
        #[arg(long)]
        roster: PathBuf,
        /// How many of them a change takes.
        #[arg(long)]
        rules: PathBuf,
        /// In place of those in force: when too few of those who decide have their keys for any change. Hosts follow the root.
        #[arg(long)]
        again: bool,
    },
    /// Serves the deployment until SIGTERM.
    Run {
        /// The configuration.
        #[arg(long, default_value = "/etc/quotary/verifier.toml")]
        config: PathBuf,
        /// Only checks the configuration, telling all faults.
        #[arg(long)]
        check_config: bool,
    },
}
