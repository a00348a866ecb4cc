//! The command line of the agent's program: what it may say.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config;

/// The privileged service on a host: samples, quotes, enforces.
#[derive(Debug, Parser)]
#[command(name = "quotary-agent", version)]
#[command(
    after_help = "Exit codes: 0 stopped in order; 1 could not run, stop in order or put everything back; 64 usage or configuration.\n\
    Signals: SIGTERM or SIGINT puts every limit back and stops; a second one stops at once, and the next start puts back."
)]
pub struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Checks the configuration, tells all faults, and ends.
    #[arg(long)]
    pub check_config: bool,
    /// What else it does; without, it is the service.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else it does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put back what was before Quotary: every limit, or with --ended those that no lease covers any more
    ///
    /// systemd calls it after a crash and at the end of the leases; an agent that runs is asked to do it. Where the configuration does
    /// not hold, the settings of the agent's last start are used.
    Restore {
        /// Only what no lease covers any more, unless the kill switch is set; an agent that runs does that by itself
        #[arg(long)]
        ended: bool,
    },
    /// Do the steps that need a capability, for an agent that has none; systemd starts it for a connection of the agent
    #[command(hide = true)]
    Hand {
        /// Which steps
        duty: Duty,
    },
}

/// What a hand does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Duty {
    /// Queueing disciplines and rules of network egress.
    Egress,
    /// Soft limits of projects.
    Storage,
}
