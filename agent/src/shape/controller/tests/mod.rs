//! The controller against the simulated kernel: what every run must hold, scenarios by name, and random ones.

mod decays;
mod edges;
mod pressures;
mod properties;
mod scenarios;
mod units;

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{DeploymentId, HostId, PlanId};
use quotary_common::plan::{CheckedPlan, Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};

use super::simulated::{Demand, GIB, Kernel, MIB};
use super::*;

pub(super) const START_UNIX_MS: u64 = 1_800_000_000_000;

/// A tick as it was.
struct Row {
    now: Now,
    reading: Reading,
    decision: Decision,
}

/// A target that is shaped on the simulated kernel, and what came of it.
struct Run {
    kernel: Kernel,
    rules: CheckedRules,
    plan: CheckedPlan,
    shaping: Shaping,
    rows: Vec<Row>,
}

/// Rules for a host with 4 cores and 64 GiB.
fn rules() -> Rules {
    let ceilings = [
        (ShapedControl::CpuQuota, 4_000),
        (ShapedControl::MemoryHigh, 64 * GIB),
        (ShapedControl::MemoryLow, 64 * GIB),
        (ShapedControl::IoReadMax, 1_000 * MIB),
        (ShapedControl::IoWriteMax, 1_000 * MIB),
        (ShapedControl::NetworkEgress, 10_000_000_000),
    ];
    Rules { ceilings: ceilings.into(), ..Rules::default() }
}

/// A plan over `over_ms` from the simulation's start on.
fn plan_over(over_ms: u64, targets: &[(ShapedControl, u64)]) -> Plan {
    let course = |&(control, value): &(ShapedControl, u64)| {
        let setpoints = vec![Setpoint { at_ms: START_UNIX_MS + over_ms, value }];
        Course { control, setpoints: Bounded::new(setpoints).unwrap() }
    };
    Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        id: PlanId::new([3; 32]),
        epoch: 1,
        target: Target::Unit(Name::lossy("web.service")),
        generation: 1,
        starts_at_ms: START_UNIX_MS,
        effective_at_ms: START_UNIX_MS + over_ms,
        ends_at_ms: None,
        not_after_ms: START_UNIX_MS + over_ms,
        courses: Bounded::new(targets.iter().map(course).collect()).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 600_000,
        overrides: false,
        decision: None,
    }
}

impl Run {
    fn new(kernel: Kernel, rules: Rules, plan: Plan) -> Self {
        let (rules, plan) = (rules.check().unwrap(), check(plan).unwrap());
        let shaping = Shaping::begin(&plan, &BTreeMap::new(), &kernel.reading(), &rules, kernel.now());
        Self { kernel, rules, plan, shaping, rows: Vec::new() }
    }

    /// One decision, done.
    fn tick(&mut self, phase_is_plan: bool) {
        let (now, reading) = (self.kernel.now(), self.kernel.reading());
        let phase = if phase_is_plan { Phase::Plan(&self.plan) } else { Phase::Decay };
        let decision = self.shaping.step(phase, &reading, &self.rules, now);
        if let Some(bytes) = decision.reclaim_bytes {
            self.kernel.reclaim(bytes);
        }
        if let Some(write) = decision.write {
            self.kernel.write(write);
        }
        self.rows.push(Row { now, reading, decision });
    }

    /// Decisions over a time, the kernel running between them.
    fn follow_for(&mut self, length_ms: u64) -> &mut Self {
        for _ in 0..length_ms / self.rules.tick_ms {
            self.tick(true);
            self.kernel.run(self.rules.tick_ms);
        }
        self
    }

    fn decay_for(&mut self, length_ms: u64) -> &mut Self {
        for _ in 0..length_ms / self.rules.tick_ms {
            self.tick(false);
            self.kernel.run(self.rules.tick_ms);
        }
        self
    }

    /// Ms after the simulation's start, by the boot clock.
    fn at_ms(row: &Row) -> u64 {
        row.now.boottime_ms - 5_000_000
    }

    fn notes(&self) -> impl Iterator<Item = (u64, Note)> + '_ {
        self.rows.iter().flat_map(|row| row.decision.notes.iter().map(|note| (Self::at_ms(row), *note)))
    }

    /// The codes of one control's notes, in order.
    fn codes(&self, control: ShapedControl) -> Vec<&'static str> {
        self.notes().filter(|(_, note)| note.control() == control).map(|(_, note)| note.code()).collect()
    }

    fn writes(&self, control: ShapedControl) -> Vec<(u64, Value)> {
        let of = |row: &Row| {
            let write = row.decision.write.filter(|write| write.control == control)?;
            Some((Self::at_ms(row), write.value))
        };
        self.rows.iter().filter_map(of).collect()
    }

    fn value(&self, control: ShapedControl) -> Value {
        self.kernel.value(control)
    }

    /// What happened, for a test that failed.
    fn story(&self) -> String {
        let line = |row: &Row| {
            let (reading, decision) = (&row.reading, &row.decision);
            format!(
                "{:>7} ms: {} MiB, pressure {:?} {:?} {:?}, {:?}, reclaim {:?}, {:?}\n",
                Self::at_ms(row),
                reading.memory_current_bytes.unwrap_or(0) / MIB,
                reading.memory_pressure_permille,
                reading.cpu_pressure_permille,
                reading.io_pressure_permille,
                decision.write,
                decision.reclaim_bytes,
                decision.notes
            )
        };
        self.rows.iter().map(line).collect()
    }

    /// How often one control turned from tightening to loosening or back.
    fn turns(&self, control: ShapedControl) -> usize {
        let level = |value: Value| match value {
            Value::Value(value) => value,
            Value::Unlimited => u64::MAX,
        };
        let values: Vec<u64> = self.writes(control).iter().map(|(_, value)| level(*value)).collect();
        let ways: Vec<bool> =
            values.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[1] < pair[0]).collect();
        ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}
