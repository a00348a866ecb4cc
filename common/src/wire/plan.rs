//! Shaping plans as operators ask for them and see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::envelope::EventKind;
use crate::id::{Digest, HostId, PlanId};
use crate::leaf::PlanChange;
use crate::plan::{OnPressure, Setpoint, ShapedControl, Target};

/// Drafts a plan by hand: straight lines from what is there to these values.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The host, by its id or its short form; may be left out where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What it moves.
    pub target: Target,
    /// Where each control is to be at the effective time, in its unit.
    pub values: BTreeMap<ShapedControl, u64>,
    /// When it starts, Unix ms; now, where that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<u64>,
    /// How long it takes, ms.
    pub over_ms: u64,
    /// How long the target holds from the effective time on, ms; until it is cancelled, where that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_for_ms: Option<u64>,
    /// What pressure does to it.
    #[serde(default)]
    pub on_pressure: OnPressure,
    /// How long in all pressure may hold it, ms.
    pub hold_ms_max: u64,
    /// Whether it may take the place of an administrator's own values.
    #[serde(default)]
    pub overrides: bool,
}

/// A plan as operators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanView {
    /// The plan.
    pub plan: PlanId,
    /// Its short form.
    pub id: String,
    /// The host.
    pub host: HostId,
    /// What it moves.
    pub target: Target,
    /// Where it stands, by the clock.
    pub state: PlanState,
    /// What its host told last of how it fares, as long as that has not passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<PlanToldView>,
    /// How it ended, and when, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<(PlanChange, u64)>,
    /// The epoch under which it was made.
    pub epoch: u64,
    /// Who made it.
    pub made_by: String,
    /// When, Unix ms.
    pub made_at_ms: u64,
    /// When it starts, Unix ms.
    pub starts_at_ms: u64,
    /// When every control has reached its target, Unix ms.
    pub effective_at_ms: u64,
    /// When the baseline holds again, Unix ms; absent: when it is cancelled.
    pub ends_at_ms: Option<u64>,
    /// What pressure does to it.
    pub on_pressure: OnPressure,
    /// How long in all pressure may hold it, ms.
    pub hold_ms_max: u64,
    /// Whether it may take the place of an administrator's own values.
    pub overrides: bool,
    /// Each control.
    pub controls: Vec<PlanControlView>,
}

/// How a plan fares, as attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanToldView {
    /// What happened to it.
    pub what: EventKind,
    /// The evidence that tells of it.
    pub evidence: Digest,
    /// When that was committed, Unix ms.
    pub committed_at_ms: u64,
}

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanState {
    /// It has not begun.
    Waiting,
    /// Between its start and its effective time.
    Moving,
    /// From its effective time on.
    InForce,
    /// It is over.
    Over,
}

impl PlanState {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::InForce => "in-force",
            Self::Over => "over",
        }
    }
}

/// One control of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanControlView {
    /// The control.
    pub control: ShapedControl,
    /// The unit of its values.
    pub unit: String,
    /// Its setpoints.
    pub setpoints: Vec<Setpoint>,
    /// The last write that an accepted evidence told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<PlanWriteView>,
}

/// A write of a plan, as attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWriteView {
    /// The kernel's file name.
    pub control: String,
    /// What was asked for.
    pub after: String,
    /// What was read back.
    pub actual: Option<String>,
    /// Whether the kernel acts on it.
    pub effective: bool,
    /// Only shown, not written.
    pub dry_run: bool,
    /// The evidence that tells of it.
    pub evidence: Digest,
    /// When that was committed, Unix ms.
    pub committed_at_ms: u64,
}
