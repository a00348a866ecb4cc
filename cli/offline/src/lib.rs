//! The heavy offline verbs: recorded series are forecast, tried and scored with the verifier's own code.
//!
//! Does: reads CSV, puts it on a grid, asks the ladder of `quotary-decide` with the model of `quotary-models`, and shows what came of it as
//! tables, JSON, CSV and pictures.
//! May assume: nothing about files.
//! Promises: what cannot be read is refused with file, line and reason, and no file is left half written; a forecast uses nothing after its
//! origin.
//! Must never: ask a verifier or an agent; decide what `quotary-decide` decides.
#![forbid(unsafe_code)]

mod anomalies;
pub mod backtest;
mod draw;
pub mod forecast;
mod model;
pub mod plot;
mod recording;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quotary_cli::args::{AnomaliesArgs, BacktestArgs, ForecastArgs, ModelCommand};
use quotary_cli::exit::{Code, Failure};
use quotary_models::Model;

pub use recording::{Fault, Recording, guessed_resource};

/// The verbs, as `quotary` has them.
#[derive(Debug, Parser)]
#[command(name = "quotary", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    /// Print JSON instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    /// Has no meaning offline
    #[arg(long, global = true, hide = true)]
    credentials: Option<std::path::PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forecast a recorded series
    Forecast(ForecastArgs),
    /// Try the forecasts on recorded series, beside the field's simple rules
    Backtest(BacktestArgs),
    /// Load a model as the verifier would
    #[command(subcommand)]
    Model(ModelCommand),
    /// Score how unusual each point of a recorded series is
    Anomalies(AnomaliesArgs),
    /// Draw the preview of a change that standard input has
    #[command(name = quotary_cli::DRAW, hide = true)]
    Draw {
        /// The picture
        file: std::path::PathBuf,
    },
}

/// Reads the command line and does what it asks for; the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Code::Usage as u8 } else { 0 });
        }
    };
    let done = match cli.verb {
        Verb::Forecast(args) => forecast::forecast(&args, cli.json),
        Verb::Backtest(args) => backtest::backtest(&args, cli.json),
        Verb::Anomalies(args) => anomalies::anomalies(&args, cli.json),
        Verb::Model(ModelCommand::Verify(files)) => model::verify(&files, cli.json),
        Verb::Draw { file } => draw::draw(&file),
        Verb::Model(_) => Err(Failure::new(Code::Usage, "only `model verify` is done offline: ask `quotary`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("quotary: {}", failure.message());
            ExitCode::from(failure.code())
        }
    }
}

/// The model that this program was built with: the verifier's.
fn model() -> Result<Model, Failure> {
    quotary_models::shipped().map_err(|error| Failure::of(Code::Unreadable, &error))
}
