//! `quotary-eval`: forecasts, or shaping plans, on the public split, beside what they are to be better than; exit 1 when a gate is missed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use quotary_tests::eval;

/// Rolls the verifier's own ladder over the public traces and compares it with what operators use today.
#[derive(Debug, Parser)]
#[command(name = "quotary-eval", version, after_help = "Exit codes: 0 every gate held; 1 one was missed; 64 usage.")]
struct Arguments {
    /// Where the traces are.
    #[arg(long, default_value = "models/traces")]
    traces: PathBuf,
    /// Where eval.json goes, or shaping.json.
    #[arg(long, default_value = "target/eval")]
    out: PathBuf,
    /// Only every n-th virtual machine, for a quick look.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Tries shaping plans beside a straight line and a cliff, in place of forecasts; writes shaping.json and pictures.
    #[arg(long)]
    shaping: bool,
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
    let run = if arguments.shaping { eval::shaping::run } else { eval::run };
    match run(&arguments.traces, &arguments.out, arguments.every as usize) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quotary-eval: {error:#}");
            ExitCode::FAILURE
        }
    }
}
