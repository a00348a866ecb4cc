//! `quotary-bench`: the project's figures, measured on this machine; exit 1 when one that must hold does not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use quotary_tests::bench::{Part, Plan, run, table, work};

/// Measures verification, appraisal, durable throughput, latency, the agent's cost, shaping, and changes of policies; three rounds each, medians.
#[derive(Debug, Parser)]
#[command(
    name = "quotary-bench",
    version,
    after_help = "Exit codes: 0 every gate held; 1 one was missed, or something could not be measured; 64 usage.\n\
        Aims are shown and judge nothing. Run it on a machine that does nothing else."
)]
struct Arguments {
    /// Where bench.json goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Length of one round of each part, in place of 5 s (verify, attestation, shaping, anomaly, quorum, phasing), 10 s (durable) and 60 s (agent, transition, targets).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Hosts that send evidence (durable).
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    hosts: u16,
    /// Hosts that wait for a reply at once, at most (durable).
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
    /// Is the sample service of `transition`, for the bench itself.
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            let is_fault = told.use_stderr();
            let _ = told.print();
            return if is_fault { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    if arguments.worker {
        return if work().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let chosen = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only };
    let plan = Plan {
        parts: chosen.to_vec(),
        round: arguments.seconds.map(Duration::from_secs),
        hosts: arguments.hosts.into(),
        in_flight: arguments.in_flight.into(),
    };
    match run(&plan).and_then(|report| Ok((report.write(&arguments.out)?, report))) {
        Ok((path, report)) => {
            println!("{}\nwritten to {}", table(&report.lines(), &report.gates), path.display());
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("quotary-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
