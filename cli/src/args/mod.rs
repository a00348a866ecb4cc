//! The command line: what can be asked, and the help that teaches it.
//!
//! Does: reads arguments into typed values (clap), each amount in its unit.
//! May assume: nothing about them.
//! Promises: what is returned is well-formed; a wrong command line ends with exit code 64 and says what to use.
//! Must never: read a file or ask anybody.

mod audit;
mod change;
mod events;
mod gauge;
mod history;
mod inspect;
mod model;
mod offline;
mod plan;
mod policy;
mod quantity;
mod run;
mod token;
mod zone;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use audit::{AuditCommand, ExportArgs, ListArgs, VerifyArgs};
pub(crate) use change::{AskedArgs, ChangeCommand, ExportTextArgs, PreviewArgs, VoteArgs, VotesArgs};
pub(crate) use events::EventsArgs;
pub(crate) use gauge::GaugeArgs;
pub(crate) use history::{HistoryCommand, HistoryExportArgs};
pub(crate) use inspect::{EkArgs, InspectCommand, QuoteArgs};
pub use model::{ModelCommand, ModelFiles};
pub use offline::{AnomaliesArgs, BacktestArgs, ForecastArgs, ResourceName, SeriesArgs};
pub(crate) use plan::{PlanCommand, PlanDraftArgs};
pub(crate) use policy::{AuthorityArgs, DocumentKind, PolicyCheckArgs, PolicyCommand, PolicyDiffArgs};
pub(crate) use run::{EnterArgs, RunArgs, Unavailable};
pub(crate) use token::{JoinArgs, OperatorArgs, TokenCommand};
pub(crate) use zone::{AllowArgs, LearnArgs, ZoneCheckArgs, ZoneCommand};

const EXAMPLES: &str = "\
Examples:
  quotary login --from operator.toml            log in with what `quotary-verifier init` wrote
  quotary status                                what the verifier is and how it fares
  quotary host list                             all hosts with their verdicts
  quotary host show h-3k7q                      one host, by the beginning of its id
  quotary events --follow                       hear of revocations, findings and changes of zone
  quotary anomalies --since 1d                  series that behaved oddly, with the figures behind it
  quotary token join --zone lab --cpu 4 --memory 8G --out join.token
                                                admit one host, with what it has
  quotary run --cpu 500m --memory 256M -- make  run a command under a grant
  quotary plan draft --unit web.service --memory 200M --cpu-weight 50 --over 2m
                                                move a running unit's limits along a line
  quotary policy check gold.toml                all faults of a policy document at once, offline
  quotary change propose gold.toml --in 2h      ask for another policy; its impact is told at once
  quotary change approve c-4f2a                 see the text, sign it with your SSH key, hand the vote in
  quotary audit verify                          check the log and every kept quote, offline
  quotary inspect eventlog binary_bios_measurements
                                                replay a boot log, offline

Exit codes:
  0   done
  1   refused, or a check failed
  2   something that was read is not what it should be
  64  the command line is wrong
  69  the verifier or the agent cannot be reached, or cannot answer now
  77  the credential or the user may not do this
  `quotary run` ends with its command's own code (128 and the signal's number if a signal ended it),
  126 if the command cannot be executed, 127 if there is none of that name.

Environment:
  QUOTARY_CREDENTIALS  the file with verifier and token (default: ~/.config/quotary/credentials.toml)
  QUOTARY_SOCKET       the agent's socket, for `quotary run` and `quotary gauge` (default: /run/quotary/agent.sock)
  SSH_AUTH_SOCK        the ssh-agent, for `quotary change approve`; PAGER shows what is signed (default: less)
  QUOTARY_GRANT        the grant's id, for `quotary gauge`: `quotary run` sets it for its command
  NO_COLOR             never print in bold";

/// Quotary: resources granted on attested load, moved along plans, changed by quorum, kept in a log.
#[derive(Debug, Parser)]
#[command(name = "quotary", version, after_help = EXAMPLES, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print JSON, as the routes answer it, instead of tables for people
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// The file with verifier and token
    #[arg(
        long,
        global = true,
        env = "QUOTARY_CREDENTIALS",
        hide_env = true,
        value_name = "FILE",
        help_heading = "Everywhere"
    )]
    pub(crate) credentials: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store where the verifier is, which CA it has, and the token that was made for you
    Login(LoginArgs),
    /// Show what the verifier is, how it fares, and how large its log is
    Status,
    /// Hosts with their verdicts, zones and capacity
    #[command(subcommand)]
    Host(HostCommand),
    /// Say why a host is in its zone: which check failed, on which event, and what would satisfy it
    Explain(ExplainArgs),
    /// Show what happened to hosts: enrolments, verdicts, zones, findings, revocations; with --follow, as it happens
    Events(EventsArgs),
    /// What a host stated, as it was quoted and kept
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Grants that hold capacity
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Shaping plans: limits of running units, moved along a line in place of a cliff
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Policies, and who decides about them: checked, compared, shown
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Changes of policies, roster and rules: proposed, looked at, signed, withdrawn
    #[command(subcommand)]
    Change(ChangeCommand),
    /// What plans and grants would have limited on hosts that only watch, as a Markdown document
    Report(ReportArgs),
    /// Show the current forecasts, or forecast a recorded series offline
    Forecast(ForecastArgs),
    /// Try the forecasts on recorded series, beside the field's simple rules (offline)
    Backtest(BacktestArgs),
    /// Show series that behaved oddly, or score a recorded series offline
    Anomalies(AnomaliesArgs),
    /// Models that forecast: shown, verified, tried beside the one that forecasts, promoted on proof, rolled back
    #[command(subcommand)]
    Model(ModelCommand),
    /// What was used, as it is kept
    #[command(subcommand)]
    History(HistoryCommand),
    /// Make tokens that admit hosts and operators
    #[command(subcommand)]
    Token(TokenCommand),
    /// Read, copy and check the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Judge files that you have, offline: quotes, boot logs, IMA lists, EK certificates, envelopes
    #[command(subcommand)]
    Inspect(InspectCommand),
    /// Trust zones: what their hosts may run
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// The agent on this machine (root only)
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Run a command under a grant, inside a cgroup of its own
    Run(RunArgs),
    /// State how the application fares (requests, errors, latency), from within `quotary run`
    Gauge(GaugeArgs),
    /// The second half of `run`: enters the grant's cgroup and becomes the command
    #[command(name = "__enter", hide = true)]
    Enter(EnterArgs),
}

/// `quotary login`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary login --from operator.toml
  quotary login --verifier https://v.example:7443 --ca-pin 3f0c… --root-key 9b1f… --token-file my.token
  quotary login --verifier https://v.example:7443 --ca-pin 3f0c… --root-key 9b1f…   (paste the token, then Enter)

Who runs the verifier gives you these, by a way on which nobody changes them, and not over the verifier:
  --ca-pin    protects from another server in the verifier's place: SHA-256 of the public key (SubjectPublicKeyInfo) of the \
deployment's CA, in hexadecimal. `quotary-verifier init` prints it; in operator.toml it is `ca_spki`. The machine's own CA store \
is not asked.
  --root-key  protects from a verifier that shows another deployment: log-in, the audit log and each text that you sign must \
be of the deployment with this root. It is in root.pub of the verifier's data directory; in operator.toml it is `root_key`. \
Without it signing warns, and `quotary audit verify` takes the log's own.
  the token   is yours alone: `quotary token operator --name NAME --right read …` makes it.

Whoever logs in again gives all of them again.")]
pub(crate) struct LoginArgs {
    /// The file that `quotary-verifier init` wrote: verifier, CA pin, root key and token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["verifier", "ca_pin", "token_file"])]
    pub(crate) from: Option<PathBuf>,
    /// Address of the verifier: https://host:port
    #[arg(long, value_name = "URL", required_unless_present = "from")]
    pub(crate) verifier: Option<String>,
    /// SHA-256 of the public key of the deployment's CA: 64 hexadecimal characters
    #[arg(long, value_name = "HEX", required_unless_present = "from")]
    pub(crate) ca_pin: Option<quotary_common::id::Digest>,
    /// The deployment root key, to check the audit log and the texts that you sign with: 64 hexadecimal characters
    #[arg(long, value_name = "HEX", conflicts_with = "from")]
    pub(crate) root_key: Option<String>,
    /// A file with the token; without it, the token is read from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Store without asking the verifier whether it takes the token
    #[arg(long)]
    pub(crate) offline: bool,
}

/// `quotary host …`
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// All enrolled hosts with their verdicts
    List,
    /// One host
    Show {
        /// Its id: h-…, hexadecimal, or a beginning of either that only one host has
        host: String,
    },
    /// Show a host's attestation result: a signed EAR (JWT), and what it claims
    Result {
        /// Its id: h-…, hexadecimal, or a beginning of either that only one host has
        host: String,
    },
    /// End a host's trust and its grants at once, until it enrols again with a new token
    Revoke {
        /// Its id: h-…, hexadecimal, or a beginning of either that only one host has
        host: String,
        /// Why, as it will stand in the audit log
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

/// `quotary explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary explain h-3k7q                        why the host is in its zone and in no better one

Each zone that was tried is shown with the first check that failed, the event of the boot log or the entry of the \
IMA list that shows it, and what would satisfy it.")]
pub(crate) struct ExplainArgs {
    /// The host: h-…, hexadecimal, or a beginning of either that only one host has
    pub(crate) host: String,
}

/// `quotary evidence …`
#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Show one evidence: metric windows, applications, enforcement writes, requests
    Show {
        /// The host: h-…, hexadecimal, or a beginning of either that only one host has
        host: String,
        /// The evidence's digest (64 hexadecimal characters); without it, the last accepted
        digest: Option<quotary_common::id::Digest>,
        /// Write the evidence's bytes to this file instead of showing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// `quotary grant …`
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// All grants that hold capacity
    List,
}

/// `quotary report`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary report > report.md
  quotary report --host h-3k7q
  quotary report --json

Counted are hosts whose agents run with mode = \"observe\" or \"dry-run\": nothing is limited there.")]
pub(crate) struct ReportArgs {
    /// Only this host's: h-…, hexadecimal, or a beginning of either
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// `quotary agent …`
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Show what the agent is, how it fares, what it holds, and what plans move here
    #[command(visible_alias = "status")]
    Show(AdminSocket),
    /// Put back the state before Quotary, and enforce nothing until the agent is started again
    Restore(AdminSocket),
}

/// Where the agent's admin socket is.
#[derive(Debug, Args)]
pub(crate) struct AdminSocket {
    /// The agent's admin socket
    #[arg(long, env = "QUOTARY_ADMIN_SOCKET", hide_env = true, default_value = "/run/quotary/admin.sock")]
    pub(crate) socket: PathBuf,
}

#[cfg(test)]
mod tests;
