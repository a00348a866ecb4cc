//! `quotary-demo`: the whole way once, on this machine, told step by step; `quotary-demo policy`: how a policy changes.
//!
//! Runs the real verifier, two real agents with software TPMs, applications of two tenants under load, and three
//! attacks; reads everything back (limits from the kernel itself) and fails where something is not as told.

mod applications;
mod attacks;
mod closing;
mod limits;
mod load;
mod policy;
mod show;
mod summary;
mod tell;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use policy::PolicyDemo;
use show::Demo;

/// Shows what Quotary does, for real, in about two minutes.
#[derive(Debug, Parser)]
#[command(name = "quotary-demo", version)]
struct Arguments {
    /// Where summary.json goes [default: target/demo, or target/demo-policy]
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows how a policy changes: proposed, approved by a quorum, reached along plans, revoked; in about six minutes
    Policy,
    /// Uses up CPU and memory
    #[command(hide = true)]
    Load(load::Load),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Verb::Load(load)) = &arguments.verb {
        load::run(load);
        return ExitCode::SUCCESS;
    }
    match demo(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: Arguments) -> Result<()> {
    let interrupted = Arc::<AtomicBool>::default();
    let signals = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let flag = Arc::clone(&interrupted);
        let mut signal = signals.block_on(async { signal(kind) })?;
        signals.spawn(async move {
            while signal.recv().await.is_some() {
                flag.store(true, Ordering::Relaxed);
            }
        });
    }
    let in_target = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    match arguments.verb {
        Some(Verb::Policy) => {
            let out = arguments.out.unwrap_or_else(|| in_target("demo-policy"));
            PolicyDemo::begin(interrupted)?.run(&out)
        }
        _ => Demo::begin(interrupted)?.run(&arguments.out.unwrap_or_else(|| in_target("demo"))),
    }
}
