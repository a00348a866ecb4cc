//! A kernel to drive the controller with: one target's cgroup, its workload, a neighbour, a manager.
//!
//! Does: turns demand over time and the controls into use, reclaim, throttling, pressure and events, in steps of
//! 100 ms, with integers only, so that every run is the same.
//! May assume: tests.
//! Promises: what it shows is what a reading of a real host has in it, as late and as rounded.
//! Must never: know of the controller.

mod psi;

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::plan::ShapedControl;

use self::psi::Pressure;
use super::{Actual, Counters, Now, Reading, Value, Write};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
const SLICE_MS: u64 = 100;
/// What a disk brings back of evicted pages, bytes per ms.
const REFAULT_BYTES_PER_MS: u64 = 200 * MIB / 1000;
/// How fast a workload allocates, bytes per ms.
const ALLOCATE_BYTES_PER_MS: u64 = 500 * MIB / 1000;
/// systemd-oomd kills after so long above its limit.
const OOMD_PATIENCE_MS: u64 = 30_000;

/// What a workload wants from an instant on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand {
    pub(super) cpu_millicores: u64,
    /// Cannot be reclaimed: there is no swap.
    pub(super) anon_bytes: u64,
    /// File pages in constant use: evicted, they come back from the disk.
    pub(super) hot_bytes: u64,
    /// File pages that nobody misses.
    pub(super) cold_bytes: u64,
    pub(super) io_bytes_per_second: u64,
}

/// The target and what is around it.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// From when on which demand, ms after the start, ascending, the first at 0.
    pub(super) demands: Vec<(u64, Demand)>,
    pub(super) cores: u64,
    /// What the neighbour wants, millicores; its weight is 100.
    pub(super) neighbour_millicores: u64,
    /// `memory.max`, which is not ours.
    pub(super) memory_max: u64,
    pub(super) oomd_limit_permille: Option<u16>,
    /// Controls that are not there.
    pub(super) absent: BTreeSet<ShapedControl>,
    /// Who else writes, when (ms after the start) and what.
    pub(super) foreign: Vec<(u64, ShapedControl, Value)>,
    /// Ticks that a write takes to show.
    pub(super) lag_ms: u64,
    /// How fast files are read into the cache that nobody needs again.
    pub(super) cached_bytes_per_second: u64,
    /// Whether the agent learns what the kernel says of its reclaim.
    pub(super) tells_of_reclaim: bool,
    /// What the wall clock is off by.
    pub(super) wall_offset_ms: i64,
    /// Time spent in suspend: it counts on both clocks, and nothing runs.
    pub(super) suspended_ms: u64,
    /// Why oomd or the kernel killed, and when.
    pub(super) killed: Vec<(u64, &'static str)>,
    ran_ms: u64,
    values: BTreeMap<ShapedControl, Value>,
    /// What still shows in place of the value, until when.
    shows: BTreeMap<ShapedControl, (u64, Value)>,
    anon: u64,
    hot: u64,
    cold: u64,
    anon_lost: u64,
    memory: Pressure,
    cpu: Pressure,
    io: Pressure,
    counters: Counters,
    over_oomd_ms: u64,
    reclaim_fell_short: Option<bool>,
}

impl Kernel {
    /// A target that has run with one demand for long, on 4 cores, without limits.
    pub(super) fn new(demand: Demand) -> Self {
        Self {
            demands: vec![(0, demand)],
            cores: 4,
            neighbour_millicores: 0,
            memory_max: 64 * GIB,
            oomd_limit_permille: None,
            absent: BTreeSet::new(),
            foreign: Vec::new(),
            lag_ms: 0,
            cached_bytes_per_second: 2 * MIB,
            tells_of_reclaim: true,
            wall_offset_ms: 0,
            suspended_ms: 0,
            killed: Vec::new(),
            ran_ms: 0,
            values: BTreeMap::new(),
            shows: BTreeMap::new(),
            anon: demand.anon_bytes,
            hot: demand.hot_bytes,
            cold: demand.cold_bytes,
            anon_lost: 0,
            memory: Pressure::default(),
            cpu: Pressure::default(),
            io: Pressure::default(),
            counters: Counters {
                memory_high: Some(0),
                oom: Some(0),
                oom_kill: Some(0),
                nr_throttled: Some(0),
                throttled_us: Some(0),
            },
            over_oomd_ms: 0,
            reclaim_fell_short: None,
        }
    }

    /// CPU pressure as if it had been so for long.
    pub(super) fn with_cpu_pressure(mut self, permille: u64) -> Self {
        self.cpu = Pressure::settled_at(permille);
        self
    }

    pub(super) fn now(&self) -> Now {
        let since_start_ms = self.ran_ms + self.suspended_ms;
        let wall_ms = super::tests::START_UNIX_MS + since_start_ms;
        Now { unix_ms: wall_ms.saturating_add_signed(self.wall_offset_ms), boottime_ms: 5_000_000 + since_start_ms }
    }

    /// Sets a control as an administrator would have before.
    pub(super) fn set(&mut self, control: ShapedControl, value: Value) {
        self.values.insert(control, rounded(control, value));
    }

    pub(super) fn value(&self, control: ShapedControl) -> Value {
        self.values.get(&control).copied().unwrap_or(Value::Unlimited)
    }

    /// Does what a decision says.
    pub(super) fn write(&mut self, write: Write) {
        assert!(!self.absent.contains(&write.control), "{write:?} is not there");
        if self.lag_ms > 0 {
            self.shows.insert(write.control, (self.ran_ms + self.lag_ms, self.value(write.control)));
        }
        self.set(write.control, write.value);
    }

    /// `memory.reclaim`, by the agent: what is not missed first.
    pub(super) fn reclaim(&mut self, bytes: u64) {
        self.reclaim_fell_short = Some(self.free(bytes) < bytes);
    }

    fn free(&mut self, bytes: u64) -> u64 {
        let cold = bytes.min(self.cold);
        let hot = (bytes - cold).min(self.hot);
        (self.cold, self.hot) = (self.cold - cold, self.hot - hot);
        cold + hot
    }

    pub(super) fn memory_current(&self) -> u64 {
        self.anon + self.hot + self.cold
    }

    pub(super) fn reading(&self) -> Reading {
        let actual = ShapedControl::ALL.into_iter().map(|control| (control, self.shown(control))).collect();
        Reading {
            actual,
            memory_current_bytes: Some(self.memory_current()),
            reclaim_fell_short: self.reclaim_fell_short.filter(|_| self.tells_of_reclaim),
            memory_pressure_permille: Some(self.memory.permille()),
            cpu_pressure_permille: Some(self.cpu.permille()),
            io_pressure_permille: Some(self.io.permille()),
            counters: self.counters,
            egress_bits_per_second: None,
            storage_used_bytes: None,
            oomd_limit_permille: self.oomd_limit_permille,
        }
    }

    fn shown(&self, control: ShapedControl) -> Actual {
        if self.absent.contains(&control) {
            return Actual::Absent;
        }
        let value = match self.shows.get(&control) {
            Some((until_ms, value)) if self.ran_ms < *until_ms => *value,
            _ => self.value(control),
        };
        match (control, value) {
            (_, Value::Value(value)) => Actual::Value(value),
            (ShapedControl::CpuWeight | ShapedControl::IoWeight, Value::Unlimited) => Actual::Value(100),
            (ShapedControl::CpuIdle | ShapedControl::MemoryLow, Value::Unlimited) => Actual::Value(0),
            (_, Value::Unlimited) => Actual::Unlimited,
        }
    }

    /// Runs for a while.
    pub(super) fn run(&mut self, length_ms: u64) {
        for _ in 0..length_ms / SLICE_MS {
            let due = |(at_ms, ..): &&(u64, ShapedControl, Value)| *at_ms == self.ran_ms;
            let foreign: Vec<_> = self.foreign.iter().filter(due).copied().collect();
            for (_, control, value) in foreign {
                self.shows.remove(&control);
                self.set(control, value);
            }
            let demand = self.demand();
            self.run_memory(demand);
            self.run_cpu(demand);
            self.run_io(demand);
            self.run_oomd();
            self.ran_ms += SLICE_MS;
        }
    }

    fn demand(&self) -> Demand {
        let passed = self.demands.iter().take_while(|(from_ms, _)| *from_ms <= self.ran_ms);
        passed.last().map(|(_, demand)| *demand).unwrap()
    }

    fn run_memory(&mut self, demand: Demand) {
        let wanted = demand.anon_bytes.saturating_sub(self.anon_lost);
        self.anon = wanted.min(self.anon + ALLOCATE_BYTES_PER_MS * SLICE_MS);
        self.cold = demand.cold_bytes.min(self.cold + self.cached_bytes_per_second * SLICE_MS / 1000);
        // What was evicted is touched again within a second, and waited for.
        let back = (demand.hot_bytes.saturating_sub(self.hot) / 10).min(REFAULT_BYTES_PER_MS * SLICE_MS);
        self.hot = demand.hot_bytes.min(self.hot + back);
        let mut stalled_us = back * 1000 / REFAULT_BYTES_PER_MS;
        let high = match self.value(ShapedControl::MemoryHigh) {
            Value::Value(high) => high,
            Value::Unlimited => u64::MAX,
        };
        let limit = high.min(self.memory_max);
        let excess = self.memory_current().saturating_sub(limit);
        if excess > 0 {
            self.counters.memory_high = self.counters.memory_high.map(|count| count + 1);
            self.free(excess);
            // Above the limit with nothing to reclaim, every return to user space waits.
            let over = self.memory_current().saturating_sub(limit);
            stalled_us += SLICE_MS * 1000 * (over * 20).min(limit) / limit.max(1);
        }
        if self.memory_current() > self.memory_max {
            self.counters.oom = self.counters.oom.map(|count| count + 1);
            self.counters.oom_kill = self.counters.oom_kill.map(|count| count + 1);
            self.anon_lost += self.anon / 2;
            self.anon -= self.anon / 2;
            self.killed.push((self.ran_ms, "oom"));
        }
        self.memory.pass(SLICE_MS, stalled_us);
    }

    fn run_cpu(&mut self, demand: Demand) {
        let capacity = self.cores * 1000;
        let wanted = demand.cpu_millicores.min(capacity);
        let is_idle = self.value(ShapedControl::CpuIdle) == Value::Value(1);
        let weight = match self.value(ShapedControl::CpuWeight) {
            _ if is_idle => 0,
            Value::Value(weight) => weight,
            Value::Unlimited => 100,
        };
        let entitled = capacity * weight / (weight + 100);
        let share = entitled.max(capacity.saturating_sub(self.neighbour_millicores));
        let quota = match self.value(ShapedControl::CpuQuota) {
            Value::Value(quota) => quota,
            Value::Unlimited => u64::MAX,
        };
        let got = wanted.min(share).min(quota);
        let throttled = wanted.min(share).saturating_sub(quota);
        if throttled > 0 {
            self.counters.nr_throttled = self.counters.nr_throttled.map(|count| count + 1);
            self.counters.throttled_us = self.counters.throttled_us.map(|us| us + throttled * SLICE_MS);
        }
        let missing = wanted - got;
        self.cpu.pass(SLICE_MS, SLICE_MS * 1000 * missing / wanted.max(1));
    }

    fn run_io(&mut self, demand: Demand) {
        let limit = match self.value(ShapedControl::IoReadMax) {
            Value::Value(limit) => limit,
            Value::Unlimited => u64::MAX,
        };
        let missing = demand.io_bytes_per_second.saturating_sub(limit);
        self.io.pass(SLICE_MS, SLICE_MS * 1000 * missing / demand.io_bytes_per_second.max(1));
    }

    fn run_oomd(&mut self) {
        let Some(limit) = self.oomd_limit_permille else { return };
        self.over_oomd_ms = if self.memory.permille() >= limit { self.over_oomd_ms + SLICE_MS } else { 0 };
        if self.over_oomd_ms >= OOMD_PATIENCE_MS {
            self.killed.push((self.ran_ms, "oomd"));
            self.over_oomd_ms = 0;
        }
    }
}

/// What kernel and manager make of a value: whole pages, a quota in hundredths of itself.
fn rounded(control: ShapedControl, value: Value) -> Value {
    let Value::Value(value) = value else { return value };
    Value::Value(match control {
        ShapedControl::MemoryHigh | ShapedControl::MemoryLow | ShapedControl::Storage => value / 4096 * 4096,
        ShapedControl::CpuQuota => value - value % (value / 128).max(1),
        _ => value,
    })
}
