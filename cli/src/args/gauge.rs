//! `quotary gauge`

use std::path::PathBuf;

use clap::Args;
use quotary_common::metric::Gauge;

use super::quantity::gauge;

/// `quotary gauge`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, within `quotary run`:
  quotary gauge --requests-per-minute 1200 --errors-per-minute 3 --latency-us 8400
  while sleep 10; do quotary gauge --requests-per-minute \"$(served_last_minute)\"; done

An application states how it fares, and quotary keeps it beside what the kernel counts: a series of the application, \
in `quotary history export --resource requests` (errors, latency) and in `quotary forecast`. It is the application's own word: it \
is signed with the host's evidence, and never makes a grant larger or smaller.

A value stands for 15 s, so state it at least every 10 s; what is not stated again is a gap, not a zero. Only what is named \
is stated: 0 is a zero. Rates are per minute, whole numbers: one request a minute is the least that is more than nothing. The latency is \
a mean or a percentile, as you like, but always the same. Statements are taken once a second, five at once; beyond that they \
are refused (exit code 69), and nothing is lost but that statement.

A process states the gauges of the grant that it runs under: it finds the grant's id in QUOTARY_GRANT, where `quotary run` \
put it. Programs ask the socket itself: POST /v1/grants/$QUOTARY_GRANT/gauges with {\"requests_per_minute\": 1200}.")]
#[command(group = clap::ArgGroup::new("stated").required(true).multiple(true))]
pub(crate) struct GaugeArgs {
    /// Requests taken, per minute
    #[arg(long, value_name = "N", group = "stated", value_parser = |text: &str| gauge(Gauge::RequestsPerMinute, text))]
    pub(crate) requests_per_minute: Option<u64>,
    /// What failed, per minute
    #[arg(long, value_name = "N", group = "stated", value_parser = |text: &str| gauge(Gauge::ErrorsPerMinute, text))]
    pub(crate) errors_per_minute: Option<u64>,
    /// What one request takes, microseconds
    #[arg(long, value_name = "N", group = "stated",
        value_parser = |text: &str| gauge(Gauge::RequestLatencyMicroseconds, text))]
    pub(crate) latency_us: Option<u64>,
    /// The grant: its id (QUOTARY_GRANT, within `quotary run`)
    #[arg(long, value_name = "ID", env = "QUOTARY_GRANT", hide_env = true)]
    pub(crate) grant: Option<String>,
    /// The agent's socket
    #[arg(
        long,
        value_name = "PATH",
        env = "QUOTARY_SOCKET",
        hide_env = true,
        default_value = "/run/quotary/agent.sock"
    )]
    pub(crate) socket: PathBuf,
}
