//! `quotary plan …`

use clap::{ArgGroup, Args, Subcommand, value_parser};
use quotary_common::plan::OnPressure;
use quotary_common::units::{parse_bytes, parse_cpu_millicores};

use super::quantity::{bits_per_second, duration_ms};

/// `quotary plan …`
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Move the limits of a running unit, in straight lines, from what is there to what you say
    Draft(Box<PlanDraftArgs>),
    /// All plans that hosts are given, and those that ended within a day
    List,
    /// One plan: its course, where it stands, and the last attested write of each control
    Show {
        /// The plan: p-…, hexadecimal, or a beginning of either that only one plan has
        plan: String,
    },
    /// End a plan: its host puts back what was before
    Cancel {
        /// The plan: p-…, hexadecimal, or a beginning of either that only one plan has
        plan: String,
    },
}

/// `quotary plan draft`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("target").required(true).args(["unit", "cgroup"]),
    group = ArgGroup::new("values").required(true).multiple(true).args([
        "cpu_weight", "cpu_idle", "cpu_quota", "memory", "memory_low", "io_weight", "io_read", "io_write", "network", "storage",
    ]),
    after_help = "\
Examples:
  quotary plan draft --unit web.service --memory 200M --cpu-weight 50 --over 2m
  quotary plan draft --host h-3k7q --unit batch.slice --cpu-idle --over 0s --hold-for 8h
  quotary plan draft --unit db.service --memory 4G --over 30m --on-pressure proceed

Needs a token with `admin`. The host's agent begins with what it finds, takes small steps, waits while the unit is under \
pressure, and tells each write in its next quote. The target holds until the plan is cancelled or --hold-for is over; then, and \
when the verifier is silent for a lease, the unit has again what it had before. Soft limits come first: --cpu-quota, --io-read and \
--io-write throttle also where nobody else wants the resource."
)]
pub(crate) struct PlanDraftArgs {
    /// The host: h-…, hexadecimal, or a beginning of either; may be left out where there is only one
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// The systemd unit: a service, slice or scope
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    /// A group of Quotary's own, by its path, on hosts without systemd
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<String>,
    /// CPU share when CPUs are scarce: 1 to 10000, the kernel's default is 100
    #[arg(long, value_name = "WEIGHT", value_parser = value_parser!(u64).range(1..=10_000), help_heading = "Values")]
    pub(crate) cpu_weight: Option<u64>,
    /// Run only when nobody else wants the CPU
    #[arg(long, help_heading = "Values")]
    pub(crate) cpu_idle: bool,
    /// CPU quota: millicores like 500m, or cores like 2 or 0.5
    #[arg(long, value_name = "CPU", value_parser = parse_cpu_millicores, help_heading = "Values")]
    pub(crate) cpu_quota: Option<u64>,
    /// Memory above which the kernel reclaims (memory.high): bytes, or with K, M, G, T, like 200M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Values")]
    pub(crate) memory: Option<u64>,
    /// Memory that is protected from reclaim (memory.low)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Values")]
    pub(crate) memory_low: Option<u64>,
    /// Disk share when disks are busy: 1 to 10000, the kernel's default is 100
    #[arg(long, value_name = "WEIGHT", value_parser = value_parser!(u64).range(1..=10_000), help_heading = "Values")]
    pub(crate) io_weight: Option<u64>,
    /// Reads from each disk: bytes per second, like 10M
    #[arg(long, value_name = "BYTES/S", value_parser = parse_bytes, help_heading = "Values")]
    pub(crate) io_read: Option<u64>,
    /// Writes to each disk: bytes per second, like 10M
    #[arg(long, value_name = "BYTES/S", value_parser = parse_bytes, help_heading = "Values")]
    pub(crate) io_write: Option<u64>,
    /// Network traffic out: bits per second, with K, M, G (powers of 1000), like 100M
    #[arg(long, alias = "egress", value_name = "BITS/S", value_parser = bits_per_second, help_heading = "Values")]
    pub(crate) network: Option<u64>,
    /// Storage space, where the filesystem has project quotas: bytes, like 20G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Values")]
    pub(crate) storage: Option<u64>,
    /// How long it takes: 2m. The host tightens in steps of a tenth at most, so that a great change in little time comes later
    #[arg(long, value_name = "TIME", value_parser = duration_or_none_ms)]
    pub(crate) over: u64,
    /// When it starts, from now
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    pub(crate) start_in: Option<u64>,
    /// How long the target holds from then on; without it, until the plan is cancelled
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    pub(crate) hold_for: Option<u64>,
    /// What pressure in the unit does: `hold` waits until it is gone, `proceed` goes on up to where harm is certain
    #[arg(long, value_name = "WHAT", value_parser = on_pressure, default_value = "hold")]
    pub(crate) on_pressure: OnPressure,
    /// How long in all pressure may hold it before tightening is given up
    #[arg(long, value_name = "TIME", value_parser = duration_or_none_ms, default_value = "30m")]
    pub(crate) hold_max: u64,
    /// Take the place of values that an administrator has set for the unit
    #[arg(long = "override")]
    pub(crate) overrides: bool,
}

/// As [`duration_ms`], and `0s` too.
fn duration_or_none_ms(text: &str) -> Result<u64, String> {
    if text == "0" || text == "0s" { Ok(0) } else { duration_ms(text) }
}

fn on_pressure(text: &str) -> Result<OnPressure, String> {
    match text {
        "hold" => Ok(OnPressure::Hold),
        "proceed" => Ok(OnPressure::Proceed),
        _ => Err(format!("`{text}` is neither `hold` nor `proceed`")),
    }
}
