//! `quotary`: for operators, approvers, auditors and applications.
//!
//! Does: reads the command line, asks the verifier or the agent through `quotary-client`, shows the answer as a
//! table or as JSON, and ends with an exit code that says what came of it.
//! May assume: nothing about what is answered; text from outside is cleaned before a terminal sees it.
//! Promises: offline verbs ask nobody; secrets are written with mode 0600 and shown once.
//! Must never: decide what the verifier decides. Offline verbs call `quotary-decide`, the verifier's own code.
#![forbid(unsafe_code)]

mod agent;
pub mod args;
mod audit;
mod change;
mod credentials;
pub mod exit;
pub mod files;
mod gauge;
mod history;
pub mod input;
mod inspect;
mod login;
mod offline;
mod policy;
pub mod present;
mod run;
mod session;
mod show;
mod token;
mod zone;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use args::{
    AuditCommand, Cli, Command, EvidenceCommand, GrantCommand, HistoryCommand, HostCommand, ModelCommand, ZoneCommand,
};
use exit::{Code, Failure};
pub use offline::DRAW;
use session::{Session, block_on};

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, does what it asks for; the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes; a reader that went away is no failure.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(Code::Usage as u8),
            };
        }
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // In one write: many may share one terminal or log.
            let line = format!("quotary: {}\n", failure.message());
            eprint!("{line}");
            ExitCode::from(failure.code())
        }
    }
}

/// Does what was asked; the exit code where that is the command's own.
fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let (json, credentials) = (cli.json, cli.credentials.as_deref());
    match cli.command {
        Command::Run(args) => return run::run(args),
        Command::Forecast(args) if args.input.is_some() => return offline::hand_over(),
        Command::Anomalies(args) if args.input.is_some() => return offline::hand_over(),
        Command::Backtest(_) | Command::Model(ModelCommand::Verify(_)) => return offline::hand_over(),
        Command::Enter(args) => return run::enter(args),
        Command::Gauge(args) => block_on(gauge::gauge(&args, json))?,
        Command::Login(args) => login::login(&args, credentials)?,
        Command::Agent(command) => block_on(agent::agent(&command, json))?,
        Command::Zone(ZoneCommand::Allow(args)) => zone::allow(&args, json)?,
        Command::Inspect(command) => return inspect::inspect(&command, json),
        Command::Audit(AuditCommand::Verify(args)) => return audit::verify(&args, credentials, json),
        Command::Audit(AuditCommand::Export(args)) => return audit::export(&args, credentials, json),
        Command::Audit(command) => {
            let session = Session::open(credentials)?;
            block_on(audit::audit(&session, command, json))?;
        }
        Command::Policy(command) => return policy::policy(&command, credentials, json),
        Command::Change(command) => {
            let session = Session::open(credentials)?;
            return block_on(change::change(&session, command, json));
        }
        Command::Token(command) => {
            let session = Session::open(credentials)?;
            block_on(token::token(&session, command, json))?;
        }
        command => {
            let session = Session::open(credentials)?;
            block_on(ask(&session, command, json))?;
        }
    }
    Ok(0)
}

/// The commands that ask the verifier one thing and show it.
async fn ask(session: &Session, command: Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Host(HostCommand::List) => show::hosts::list(session, json).await,
        Command::Host(HostCommand::Show { host }) => show::hosts::one(session, &host, json).await,
        Command::Host(HostCommand::Result { host }) => show::result::one(session, &host, json).await,
        Command::Host(HostCommand::Revoke { host, why }) => show::result::revoke(session, &host, why, json).await,
        Command::Explain(args) => show::explain::one(session, &args.host, json).await,
        Command::Events(args) => show::events::events(session, &args, json).await,
        Command::Zone(ZoneCommand::Learn(args)) => zone::learn(session, &args, json).await,
        Command::Zone(ZoneCommand::Check(args)) => zone::check(session, &args, json).await,
        Command::Evidence(EvidenceCommand::Show { host, digest, out }) => {
            show::evidence::one(session, &host, digest, out.as_deref(), json).await
        }
        Command::Grant(GrantCommand::List) => show::grants::list(session, json).await,
        Command::Plan(command) => show::plans::plan(session, command, json).await,
        Command::Report(args) => show::report::report(session, args.host.as_deref(), json).await,
        Command::Forecast(args) => match args.hours {
            Some(hours) => show::hours::list(session, args.host.as_deref(), hours, json).await,
            None => show::forecast::list(session, args.host.as_deref(), json).await,
        },
        Command::Anomalies(args) => show::anomalies::list(session, &args, json).await,
        Command::Model(command) => show::models::model(session, command, json).await,
        Command::History(HistoryCommand::Export(args)) => history::export(session, &args, json).await,
        _ => show::status::status(session, json).await,
    }
}

/// This machine's clock, Unix ms.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
