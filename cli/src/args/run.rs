//! `quotary run` and its second half.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quotary_common::envelope::Name;
use quotary_common::id::GrantId;
use quotary_common::units::Class;

use super::quantity::{Amounts, class, wait_ms};

/// What to do when there is no grant (wire.md, settled question 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unavailable {
    /// Run the command without a grant, after a warning of one line
    Run,
    /// Ask again until there is a grant
    Wait,
    /// Do not run the command; exit code 69
    Fail,
}

impl Unavailable {
    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Wait => "wait",
            Self::Fail => "fail",
        }
    }
}

/// `quotary run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary run --cpu 500m --memory 256M -- make -j4
  quotary run --cpu 2 --class guaranteed --if-unavailable wait -- ./nightly-report
  quotary run --cpu 1 --disk 10M --if-unavailable fail --verbose -- backup --all

The command runs in a cgroup of its own (where systemd owns the tree: a scope in quotary.slice), in the same process group and on the same terminal as without quotary: \
pipes, job control and keys work as usual. quotary stays beside it, passes on the signals that it is sent (HUP, INT, \
QUIT, TERM, USR1, USR2, CONT, TSTP, WINCH), ends with its exit code, and gives the grant back.
While they are in the terminal's foreground, INT and QUIT are taken to come from the keyboard, which sends them to \
both: to interrupt the command from another process then, send TERM.
The command finds its grant's id in QUOTARY_GRANT; with it, `quotary gauge` states how the application fares.

Exit codes: the command's own; 128 and the signal's number if a signal ended it; 126 if it cannot be executed; 127 \
if there is none of that name; 64 if quotary's own arguments are wrong; 69 or 77 if there is no grant and \
--if-unavailable is not `run`.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) amounts: Amounts,
    /// Service class: guaranteed, burstable or best-effort
    #[arg(long, value_name = "CLASS", default_value = "burstable", value_parser = class)]
    pub(crate) class: Class,
    /// What the application calls itself (a claim only: who it is, the kernel says)
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<Name>,
    /// What to do when there is no grant
    #[arg(long, value_name = "WHAT", default_value = "run")]
    pub(crate) if_unavailable: Unavailable,
    /// How long to wait for the answer, at most 300s; with `--if-unavailable wait`, for each one
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait_ms)]
    pub(crate) wait_for: u64,
    /// Tell on standard error what was granted, and each time it changes
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// The agent's socket
    #[arg(
        long,
        value_name = "PATH",
        env = "QUOTARY_SOCKET",
        hide_env = true,
        default_value = "/run/quotary/agent.sock"
    )]
    pub(crate) socket: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `quotary __enter`
#[derive(Debug, Args)]
pub(crate) struct EnterArgs {
    #[arg(long)]
    pub(crate) socket: PathBuf,
    #[arg(long)]
    pub(crate) grant: GrantId,
    #[arg(long)]
    pub(crate) if_unavailable: Unavailable,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).ok_or_else(|| "a name is at most 128 bytes without control characters".to_owned())
}
