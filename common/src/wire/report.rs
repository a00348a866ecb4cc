//! The report of hosts that only watch: what limits would have done.

use serde::{Deserialize, Serialize};

use crate::envelope::Mode;
use crate::id::{GrantId, HostId, PlanId};
use crate::plan::ShapedControl;

/// What would have been limited, reclaimed and throttled, and by whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportView {
    /// When it was made, Unix ms.
    pub made_at_ms: u64,
    /// How long a metric window is, ms: no figure is finer.
    pub window_ms: u64,
    /// How many hosts go how far, by what they stated last.
    pub modes: ModeCounts,
    /// The hosts.
    pub hosts: Vec<ReportHost>,
}

/// How many hosts go how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModeCounts {
    /// Hosts that only watch.
    pub observe: u64,
    /// Hosts that show what they would write.
    pub dry_run: u64,
    /// Hosts that write.
    pub enforce: u64,
    /// Hosts that stated nothing yet.
    pub unknown: u64,
}

/// One host's part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportHost {
    /// The host.
    pub host: HostId,
    /// Its short form.
    pub id: String,
    /// Its name, as it says itself.
    pub hostname: Option<String>,
    /// How far it goes, by what it stated last.
    pub mode: Option<Mode>,
    /// Whether its trust holds now.
    pub trusted: bool,
    /// From when on it was counted, Unix ms; absent when it never was: it enforces, or stated nothing.
    pub since_ms: Option<u64>,
    /// When it was last heard of, Unix ms.
    pub last_ms: Option<u64>,
    /// How much evidence was counted.
    pub evidences: u64,
    /// The most controls at once for which there was no room: they are not counted.
    pub left_out: u64,
    /// Each control of each plan and grant.
    pub lines: Vec<ReportLine>,
}

/// What one control of one plan or grant would have done. A window counts whole or not at all, by its mean: amounts are
/// the least that the limit would have taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportLine {
    /// The plan's target, or the grant's application.
    pub subject: String,
    /// Who pays, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The control.
    pub control: ShapedControl,
    /// The unit of its values.
    pub unit: String,
    /// `limit`, or `share` for what takes nothing away by itself.
    pub kind: String,
    /// The plan that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    /// The grant that it carries out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The short form of either.
    pub by: String,
    /// Who made the plan, or the application that asked for the grant.
    pub made_by: String,
    /// From when on it is counted, Unix ms.
    pub from_ms: u64,
    /// The end of the last window that was compared, Unix ms.
    pub last_ms: Option<u64>,
    /// What that window was compared with, in the control's unit.
    pub limit: Option<u64>,
    /// How much time was compared, ms.
    pub compared_ms: u64,
    /// What was used on the average over that time: `millicores`, `bytes`, `bytes per second` or `bits per second`.
    pub used_mean: u64,
    /// Time in windows whose mean was above the limit, ms.
    pub over_ms: u64,
    /// Time in windows whose mean was not and whose greatest sample was, ms: there may be more to it.
    pub peaks_ms: u64,
    /// How far the greatest sample was above the limit, in the control's unit.
    pub excess_max: u64,
    /// CPU time that would have been throttled, ms (`cpu-quota`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_cpu_ms: Option<u64>,
    /// Memory that would have been reclaimed at once at most, bytes (`memory-high`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaimed_bytes_max: Option<u64>,
    /// Memory above the limit times seconds (`memory-high`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaimed_byte_seconds: Option<u64>,
    /// Bytes of disk traffic that would have come later (`io-read-max`, `io-write-max`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_bytes: Option<u64>,
    /// Bits of network traffic that would have come later (`network-egress`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_bits: Option<u64>,
    /// Time of which nothing can be told, and why.
    pub untold: Vec<UntoldView>,
    /// When the host last said that it does not follow the plan, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at_ms: Option<u64>,
}

/// Time of which nothing can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntoldView {
    /// Why: `not-seen` (it does not run, or has no group of its own), `not-measured` (windows have no such figure),
    /// `lease-over` (the host was silent for longer than its lease).
    pub why: String,
    /// How much, ms.
    pub ms: u64,
}
