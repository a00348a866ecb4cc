//! The deadline that holds even when the agent is dead: a transient timer of systemd that puts back what is over.
//!
//! Neither systemd nor the kernel lets a runtime property end by itself. So whenever leases are renewed, systemd is given a
//! timer at the end of the first of them, which starts `quotary-agent restore --ended`. Two names take turns: the new timer
//! stands before the old one goes. `OnActiveSec=` counts `CLOCK_MONOTONIC`: after a suspend it comes late by as long.

use std::path::{Path, PathBuf};

use zbus::zvariant::Value as Variant;

use super::ShapeError;
use super::systemd::Bus;

/// How exact the timer has to be, µs; systemd's default is a minute.
const ACCURACY_US: u64 = 500_000;
/// A little after the lease's end: the agent, if it lives, acts first.
const MARGIN_US: u64 = 1_000_000;

/// What the timer starts.
#[derive(Debug, Clone)]
pub struct Program {
    /// The agent's own program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
}

impl Program {
    /// This very program; `None` where it cannot be told which that is.
    pub fn this(config: &Path) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let config = std::path::absolute(config).ok()?;
        Some(Self { program, config })
    }
}

/// The timer, as far as it is set.
#[derive(Debug)]
pub(super) struct Deadline {
    program: Program,
    is_second: bool,
    end_boottime_ms: Option<u64>,
    /// Whether it was looked which of the two an earlier process has left.
    has_looked: bool,
}

fn name(is_second: bool) -> &'static str {
    if is_second { "quotary-agent-lease-1" } else { "quotary-agent-lease-0" }
}

fn timer(is_second: bool) -> String {
    format!("{}.timer", name(is_second))
}

impl Deadline {
    /// No timer yet.
    pub(super) fn new(program: Program) -> Self {
        Self { program, is_second: false, end_boottime_ms: None, has_looked: false }
    }

    /// Sees to a timer at `end_boottime_ms` (`CLOCK_BOOTTIME`); `None` needs none.
    pub(super) fn set(
        &mut self,
        bus: &Bus,
        end_boottime_ms: Option<u64>,
        now_boottime_ms: u64,
    ) -> Result<(), ShapeError> {
        if end_boottime_ms == self.end_boottime_ms {
            return Ok(());
        }
        if !self.has_looked {
            // What an earlier process has left stands until ours does.
            self.is_second = bus.is_loaded(&timer(true))?;
            self.has_looked = true;
        }
        let before = timer(self.is_second);
        if let Some(end_ms) = end_boottime_ms {
            // Where an earlier process has left both, the other still stands; and it stands until this one does.
            bus.stop(&timer(!self.is_second))?;
            self.start(bus, name(!self.is_second), end_ms.saturating_sub(now_boottime_ms))?;
            self.is_second = !self.is_second;
        }
        self.end_boottime_ms = end_boottime_ms;
        bus.stop(&before)
    }

    fn start(&self, bus: &Bus, name: &str, in_ms: u64) -> Result<(), ShapeError> {
        let program = self.program.program.display().to_string();
        let config = self.program.config.display().to_string();
        let arguments =
            vec![program.clone(), "restore".to_owned(), "--ended".to_owned(), "--config".to_owned(), config];
        let after_us = in_ms.saturating_mul(1000).saturating_add(MARGIN_US);
        let timer = [
            ("Description", Variant::from("The end of Quotary's leases")),
            ("TimersMonotonic", Variant::from(vec![("OnActiveSec", after_us)])),
            ("AccuracyUSec", Variant::U64(ACCURACY_US)),
            ("RemainAfterElapse", Variant::Bool(false)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let service = [
            ("Description", Variant::from("Puts back what Quotary's leases no longer cover")),
            ("Type", Variant::from("oneshot")),
            // One that failed must not keep the name from the next.
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("ExecStart", Variant::from(vec![(program, arguments, false)])),
        ];
        let (timer_name, service_name) = (format!("{name}.timer"), format!("{name}.service"));
        bus.start_transient(&timer_name, &timer, &[(service_name.as_str(), &service[..])])
    }
}
