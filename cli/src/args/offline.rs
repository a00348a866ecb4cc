//! The verbs for capacity planners, on files: forecast, backtest, anomalies.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What a series measures: the model knows it by this, and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResourceName {
    /// CPU use
    Cpu,
    /// Memory in use
    Memory,
    /// Disk throughput
    Disk,
    /// Network throughput
    Network,
}

/// `quotary forecast`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary forecast                    what the verifier forecasts now
  quotary forecast --host h-3k7q      of one host
  quotary forecast --hours 168        the next week, hour by hour
  quotary forecast --input web.csv --column cpu --plot web.svg
                                      the next hour of a recorded series
  quotary forecast --input web.csv --column cpu --at 2016 --json
                                      as of row 2016: only rows before it

Files are CSV with a header. The column `timestamp` is RFC 3339,
`YYYY-MM-DD HH:MM:SS` or Unix seconds; without it, rows are one interval apart.
Missing values and irregular steps are gaps. The answer has quantiles for 12
steps and of the peak over 3, 6 and 12 steps, by the model that the verifier
uses, calibrated on the series' own past.")]
pub struct ForecastArgs {
    /// Only this host's: h-…, hexadecimal, or a beginning of either
    #[arg(long, value_name = "HOST", conflicts_with_all = ["input", "column", "at", "interval", "resource", "plot"])]
    pub host: Option<String>,
    /// Hour by hour, so many hours from the one that is not over yet: by what was used in the same hours of the days before
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=168),
        conflicts_with_all = ["input", "column", "at", "interval", "resource", "plot"]
    )]
    pub hours: Option<u16>,
    /// Forecast this recorded series, offline, in place of asking the verifier
    #[arg(long, value_name = "FILE.csv", requires = "column", help_heading = "Offline")]
    pub input: Option<PathBuf>,
    /// The column that holds the series
    #[arg(long, value_name = "NAME", requires = "input", help_heading = "Offline")]
    pub column: Option<String>,
    /// Use only the rows before this one, 0 being the first after the header [default: all rows]
    #[arg(long, value_name = "ROW", requires = "input", help_heading = "Offline")]
    pub at: Option<usize>,
    /// What a recorded series is
    #[command(flatten)]
    pub series: SeriesArgs,
    /// Draw the series' end and the forecast's bands into this file
    #[arg(long, value_name = "FILE.svg", requires = "input", help_heading = "Offline")]
    pub plot: Option<PathBuf>,
}

/// What a recorded series is.
#[derive(Debug, Args)]
pub struct SeriesArgs {
    /// One step, as 300s, 5m or 1h [default: the usual distance of timestamps, or 300s without them]
    #[arg(long, value_name = "TIME", value_parser = super::quantity::duration_ms, help_heading = "Offline")]
    pub interval: Option<u64>,
    /// What the series measures [default: as the column's name suggests, else cpu]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Offline")]
    pub resource: Option<ResourceName>,
}

/// `quotary backtest`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary backtest --input web.csv --column cpu
  quotary backtest --input a.csv b.csv --column cpu --column memory --stride 12 --json
  quotary backtest --input web.csv --column cpu --emit-forecasts forecasts.jsonl --plot web.svg

Each origin is forecast from the rows before it alone, by the ladder that the
verifier uses, beside last value, EWMA and seasonal naive. Told per method:
MASE, weighted quantile loss (WQL) and its ratio to that of last value and EWMA,
pinball loss and coverage at .90, .95 and .99; per way to size an hour: how much
of the request stays unused (slack) when 5 % of hours overrun it.")]
pub struct BacktestArgs {
    /// Recorded series, as for `quotary forecast`
    #[arg(long, value_name = "FILE.csv", required = true, num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// The column that holds the series; several are series of their own
    #[arg(long, value_name = "NAME", required = true)]
    pub column: Vec<String>,
    /// Steps between origins: rows, where each row is one interval apart
    #[arg(long, value_name = "ROWS", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: u32,
    /// The first origin [default: row 96, eight hours at 300 s]
    #[arg(long, value_name = "ROW")]
    pub from: Option<usize>,
    /// Begin at this share of each file instead, as 0.75 for its last quarter
    #[arg(long, value_name = "SHARE", conflicts_with = "from")]
    pub from_share: Option<f64>,
    /// Write each origin's forecast as a line of JSON into this file
    #[arg(long, value_name = "OUT.jsonl")]
    pub emit_forecasts: Option<PathBuf>,
    /// What a recorded series is
    #[command(flatten)]
    pub series: SeriesArgs,
    /// Draw the first series with the bands of what was forecast
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// `quotary anomalies`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary anomalies                   alarms of the verifier's series, newest first
  quotary anomalies --since 1d --host h-3k7q
                                      of the last day, of one host
  quotary anomalies --input cpu.csv > scored.csv
                                      score a recorded series, offline
  quotary anomalies --input cpu.csv --out scored.csv --plot cpu.svg

Without --input the verifier is asked: each alarm names the place, the series
that were odd at about the same time, what came and what was to be expected.
With --input: reads `timestamp,value`; writes `timestamp,value,anomaly_score,kind`, one line
for each row, each score from that row and the rows before it alone, in 0 to 1.
Kinds: spike, level-shift, flatline, leak, unusual-density, unusual-shape.")]
pub struct AnomaliesArgs {
    /// Only this host's: h-…, hexadecimal, or a beginning of either
    #[arg(long, value_name = "HOST", conflicts_with_all = ["input", "column", "out", "plot"])]
    pub host: Option<String>,
    /// Only what was told in this time, as 30m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = super::quantity::duration_ms, conflicts_with_all = ["input", "column", "out", "plot"])]
    pub since: Option<u64>,
    /// Score this recorded series, offline, in place of asking the verifier
    #[arg(long, value_name = "FILE.csv", help_heading = "Offline")]
    pub input: Option<PathBuf>,
    /// The column that holds it
    #[arg(long, value_name = "NAME", default_value = "value", requires = "input", help_heading = "Offline")]
    pub column: String,
    /// Write here in place of standard output
    #[arg(long, value_name = "OUT.csv", requires = "input", help_heading = "Offline")]
    pub out: Option<PathBuf>,
    /// Draw the series and its scores into this file
    #[arg(long, value_name = "FILE.svg", requires = "input", help_heading = "Offline")]
    pub plot: Option<PathBuf>,
}
