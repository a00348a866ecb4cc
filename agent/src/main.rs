//! The agent's program: arguments, configuration, signals, exit code.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use quotary_agent::args::{Arguments, Command, Duty};
use quotary_agent::config::Config;
use quotary_agent::run::{PutBack, Restored};
use quotary_agent::shape::hand;
use quotary_agent::{run, tpm};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Usage or configuration (sysexits.h).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            let is_fault = told.use_stderr();
            let _ = told.print();
            return if is_fault { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if let Some(Command::Hand { duty }) = arguments.command {
        return hand(duty);
    }
    let Some(config) = configured(&arguments) else { return EXIT_USAGE.into() };
    if arguments.check_config {
        println!("{} is good", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    let filter = match EnvFilter::try_new(config.log_filter()) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("quotary-agent: log in {}: {error}", arguments.config.display());
            return EXIT_USAGE.into();
        }
    };
    if let Err(error) = in_its_environment() {
        eprintln!("quotary-agent: cannot start itself again: {error}");
        return ExitCode::FAILURE;
    }
    // Colours and times are for people: under systemd the journal has its own.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let done = match arguments.command {
        None => serve(config),
        Some(Command::Restore { ended }) => restore(&config, ended),
        // It needs none of this, and was gone above.
        Some(Command::Hand { .. }) => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration; for `restore` what the agent's last start kept of one, where it does not hold. `None`: its faults were told.
fn configured(arguments: &Arguments) -> Option<Config> {
    let error = match Config::load(&arguments.config) {
        Ok(config) => {
            let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            return Some(config.with_credentials(given.as_deref()));
        }
        Err(error) => error,
    };
    eprintln!("quotary-agent: {}", with_causes(&error));
    if arguments.check_config || !matches!(arguments.command, Some(Command::Restore { .. })) {
        return None;
    }
    match Config::kept(&arguments.config) {
        Ok(config) => {
            eprintln!("quotary-agent: the settings that the agent's last start kept are used to put back");
            Some(config)
        }
        Err(error) => {
            eprintln!("quotary-agent: {}", with_causes(&error));
            None
        }
    }
}

/// Serves the agent at the other end of the connection that systemd gave as input and output.
fn hand(duty: Duty) -> ExitCode {
    let duty = match duty {
        Duty::Egress => hand::Duty::Egress,
        Duty::Storage => hand::Duty::Storage,
    };
    // The socket's mode says so too: root alone is served.
    let peer = rustix::net::sockopt::socket_peercred(std::io::stdin());
    if !peer.is_ok_and(|peer| peer.uid.is_root()) {
        eprintln!("quotary-agent: a hand serves root over a socket, and nobody else");
        return EXIT_USAGE.into();
    }
    // Its own directory by systemd (`RuntimeDirectory=`); where the unit gives none, the one of the sockets.
    let turns = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| PathBuf::from("/run/quotary-hand"), PathBuf::from);
    let here = hand::Here::below(std::path::Path::new("/"));
    let served = hand::InTurn::new(here, &turns, std::io::stdin())
        .and_then(|mut here| hand::serve(duty, &mut here, std::io::stdin().lock(), std::io::stdout().lock()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quotary-agent: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again with libtss2's own messages off, unless the environment says something about them.
///
/// The library reads the variable once, and to change the environment of a running process is not sound.
fn in_its_environment() -> std::io::Result<()> {
    let (name, value) = tpm::TSS_LOG;
    if std::env::var_os(name).is_some() {
        return Ok(());
    }
    let mut own = std::env::args_os();
    let mut again = std::process::Command::new(std::env::current_exe()?);
    if let Some(name) = own.next() {
        again.arg0(name);
    }
    // On success this does not return.
    Err(again.args(own).env(name, value).exec())
}

fn restore(config: &Config, only_ended: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(run::restore(config, only_ended))? {
        Restored::AgentRuns => println!("the agent runs: it ends leases by itself"),
        Restored::Done(PutBack { grants, targets, left }) => {
            println!("put back: {grants} grants ended, {targets} units and groups have their own values again");
            if !left.is_empty() {
                anyhow::bail!("not put back, and kept to be tried again: {}", left.join(", "));
            }
        }
    }
    Ok(())
}

fn serve(config: Config) -> anyhow::Result<()> {
    // One thread: the work is small, and what could hold it up has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let on_signal = stop.clone();
        let signals = tokio::spawn(async move {
            for is_second in [false, true] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if is_second {
                    leave_at_once();
                }
                on_signal.cancel();
            }
        });
        let outcome = run::run(config, stop).await;
        signals.abort();
        let _ = signals.await;
        Ok(outcome?)
    })
}

#[expect(
    clippy::exit,
    reason = "the operator asked twice: nothing is waited for, the next start puts back what is left"
)]
fn leave_at_once() {
    tracing::error!("stopped at once: what is left is put back at the next start");
    std::process::exit(1);
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
