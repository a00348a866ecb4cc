//! `quotary history …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `quotary history …`
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Write metric history as CSV: what hosts, applications, tenants and pools used, and what applications stated
    Export(HistoryExportArgs),
}

/// How long an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HistoryResolution {
    /// One minute.
    Minute,
    /// One forecast step (five minutes, unless the verifier is configured otherwise).
    Step,
    /// One hour.
    Hour,
}

impl HistoryResolution {
    /// As the route takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Step => "step",
            Self::Hour => "hour",
        }
    }
}

/// `quotary history export`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary history export --out history.csv
                                                everything that is kept, five minutes a row
  quotary history export --subject pool:lab --resource cpu --resolution hour --out lab.csv
  quotary history export --host h-3k7q --days 7 --out history/
                                                a file for each series, into a directory

The header is timestamp,host,subject,resource,mean,max,samples,censored. A row is one interval that begins at \
`timestamp` (RFC 3339, UTC); amounts are in the unit that `resource` names. What was not seen has no row. `censored` is \
1 where usage was at a limit: the demand was at least that. Files of one series are what `quotary forecast --input FILE \
--column mean` and the training script read. The subject is `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.")]
pub(crate) struct HistoryExportArgs {
    /// Only this host's: h-…, hexadecimal, or a beginning of either
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only this subject's: `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only this resource: cpu, memory, storage, disk or network; or of what applications state: requests, errors or latency
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// How long an interval is
    #[arg(long, value_enum, default_value = "step")]
    pub(crate) resolution: HistoryResolution,
    /// Only of the last so many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) days: Option<u64>,
    /// The file to write, which must not be there yet; an empty directory, or a name that ends with `/`, gets one for each series
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) out: PathBuf,
}
