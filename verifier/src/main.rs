//! `quotary-verifier`: makes a deployment, checks its configuration, serves it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use quotary_common::envelope::Name;
use quotary_verifier::args::{Arguments, Verb};
use quotary_verifier::authority::Documents;
use quotary_verifier::{clock::Clock, config, init, wiring};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const USAGE: u8 = 64;
const FAILED: u8 = 70;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUOTARY_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match &arguments.verb {
        Verb::Init { config, offline_dir, roster, rules, tls_names, valid_for_days } => {
            make(config, offline_dir, roster.as_deref().zip(rules.as_deref()), (tls_names, *valid_for_days))
        }
        Verb::Authority { config, offline_dir, roster, rules, again } => {
            put_in_force(config, offline_dir, (roster, rules), *again)
        }
        Verb::Run { config, check_config } => serve(config, *check_config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("quotary-verifier: {error:#}");
            ExitCode::from(code)
        }
    }
}

type Outcome = Result<(), (u8, anyhow::Error)>;

fn load(path: &Path) -> Result<config::Config, (u8, anyhow::Error)> {
    config::load(path).map_err(|error| (USAGE, error.into()))
}

/// The documents, whose faults are the caller's.
fn documents(roster: &Path, rules: &Path) -> Result<Documents, (u8, anyhow::Error)> {
    Documents::read(roster, rules, Clock::system(0).now_ms()).map_err(|error| (USAGE, error.into()))
}

fn put_in_force(path: &Path, offline_dir: &Path, (roster, rules): (&Path, &Path), again: bool) -> Outcome {
    let config = load(path)?;
    let documents = documents(roster, rules)?;
    let adopted = init::adopt(&config.data_dir, &offline_dir.join("root.pk8"), (&documents, again));
    let authority = adopted.map_err(|error| (FAILED, error.into()))?;
    println!("number           {}", authority.number);
    println!("roster           {}", authority.roster.hex());
    println!("quorum rules     {}", authority.rules.hex());
    println!("take offline     {}", offline_dir.display());
    Ok(())
}

fn make(
    path: &Path,
    offline_dir: &Path,
    authority: Option<(&Path, &Path)>,
    (tls_names, valid_for_days): (&[String], u64),
) -> Outcome {
    let config = load(path)?;
    let authority = authority.map(|(roster, rules)| documents(roster, rules)).transpose()?;
    let host = config.url.strip_prefix("https://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    let mut names = vec![host.to_owned()];
    names.extend(tls_names.iter().cloned());
    let plan = init::Plan {
        data_dir: config.data_dir,
        offline_dir: offline_dir.to_owned(),
        name: Name::lossy(config.name.as_str()),
        url: config.url,
        tls_names: names,
        now_ms: Clock::system(0).now_ms(),
        valid_for_ms: valid_for_days.saturating_mul(24 * 3600 * 1000),
        configuration: config.digest,
        authority,
    };
    let made = init::init(&plan).map_err(|error| (FAILED, error.into()))?;
    for line in made.told(&plan) {
        println!("{line}");
    }
    Ok(())
}

fn serve(path: &Path, check_config: bool) -> Outcome {
    let config = load(path)?;
    if check_config {
        println!("{}: good", path.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(|error| (FAILED, error))?;
    let stop = CancellationToken::new();
    let outcome = runtime.block_on(async {
        stop_on_signal(stop.clone())?;
        wiring::run(config, stop, |address| println!("listening on {address}")).await.map_err(anyhow::Error::from)
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.map_err(|error| (FAILED, error))
}

/// The first signal stops in order, the second at once.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    tokio::spawn(async move {
        for signals in 0..2 {
            let received = tokio::select! {
                received = terminate.recv() => received,
                received = interrupt.recv() => received,
            };
            if received.is_none() || signals > 0 {
                break;
            }
            tracing::info!("stopping");
            stop.cancel();
        }
        eprintln!("quotary-verifier: {:#}", anyhow!("stopped at once by a second signal"));
        #[expect(clippy::exit, reason = "a second signal asks for exactly this; nothing undurable was answered")]
        std::process::exit(i32::from(FAILED));
    });
    Ok(())
}
