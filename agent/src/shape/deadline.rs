//! The deadline that holds even when the agent is dead: a transient timer of systemd that puts back what is over.
//!
//! Neither systemd nor the kernel lets a runtime property end by itself. So whenever leases are renewed, systemd is given a
//! timer at the end of the first of them, which starts `quotary-agent restore --ended`: in the sandbox of the packages' unit
//! where that is there and would do the same. Two names take turns: the new timer stands before the old one goes. `OnActiveSec=` counts `CLOCK_MONOTONIC`: after a suspend it comes late by as long.

use std::path::{Path, PathBuf};

use zbus::zvariant::Value as Variant;

use super::ShapeError;
use super::systemd::Bus;
use crate::config;

/// How exact the timer has to be, µs; systemd's default is a minute.
const ACCURACY_US: u64 = 500_000;
/// A little after the lease's end: the agent, if it lives, acts first.
const MARGIN_US: u64 = 1_000_000;
/// The unit of the packages, and the program that it starts.
const RESTORE_UNIT: &str = "quotary-agent-restore@.service";
const PACKAGED_PROGRAM: &str = "/usr/bin/quotary-agent";

/// What the timer starts.
#[derive(Debug, Clone)]
pub struct Program {
    /// The agent's own program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its state is.
    pub state: PathBuf,
}

impl Program {
    /// This very program; `None` where it cannot be told which that is.
    pub fn this(config: &Path, state: &Path) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let config = std::path::absolute(config).ok()?;
        Some(Self { program, config, state: state.to_path_buf() })
    }

    /// Whether the packages' unit does the same: it starts their program, with the configuration that this reads unless told
    /// otherwise, and may write in the state directory of that name alone.
    fn is_packaged(&self) -> bool {
        self.program == Path::new(PACKAGED_PROGRAM)
            && self.config == Path::new(config::DEFAULT_PATH)
            && self.state == Path::new(config::STATE_DIR)
    }
}

/// The timer, as far as it is set.
#[derive(Debug)]
pub(super) struct Deadline {
    program: Program,
    /// What it starts; `None` as long as nobody has looked.
    serving: Option<Serving>,
    is_second: bool,
    end_boottime_ms: Option<u64>,
}

/// What the timer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    /// The unit of the packages, in its sandbox.
    Packaged,
    /// A service that is made along with the timer: the agent runs from elsewhere, or with a configuration of its own.
    Made,
}

impl Serving {
    /// One of the two names.
    const fn name(self, is_second: bool) -> &'static str {
        match (self, is_second) {
            (Self::Packaged, false) => "quotary-agent-restore@0",
            (Self::Packaged, true) => "quotary-agent-restore@1",
            (Self::Made, false) => "quotary-agent-lease-0",
            (Self::Made, true) => "quotary-agent-lease-1",
        }
    }

    fn timer(self, is_second: bool) -> String {
        format!("{}.timer", self.name(is_second))
    }

    const fn other(self) -> Self {
        match self {
            Self::Packaged => Self::Made,
            Self::Made => Self::Packaged,
        }
    }
}

impl Deadline {
    /// No timer yet.
    pub(super) fn new(program: Program) -> Self {
        Self { program, serving: None, is_second: false, end_boottime_ms: None }
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
        let serving = match self.serving {
            Some(serving) => serving,
            None => self.look(bus)?,
        };
        let before = serving.timer(self.is_second);
        if let Some(end_ms) = end_boottime_ms {
            // Where an earlier process has left both, the other still stands; and it stands until this one does.
            bus.stop(&serving.timer(!self.is_second))?;
            self.start(bus, serving, !self.is_second, end_ms.saturating_sub(now_boottime_ms))?;
            self.is_second = !self.is_second;
        }
        self.end_boottime_ms = end_boottime_ms;
        if self.serving.is_none() {
            // What one that was started another way has left, now that ours stands.
            for is_second in [false, true] {
                bus.stop(&serving.other().timer(is_second))?;
            }
            self.serving = Some(serving);
        }
        bus.stop(&before)
    }

    /// What the timer will start, and which of the two an earlier process has left.
    fn look(&mut self, bus: &Bus) -> Result<Serving, ShapeError> {
        let is_packaged = self.program.is_packaged() && bus.has_file(RESTORE_UNIT)?;
        let serving = if is_packaged { Serving::Packaged } else { Serving::Made };
        // What an earlier process has left stands until ours does.
        self.is_second = bus.is_loaded(&serving.timer(true))?;
        Ok(serving)
    }

    fn start(&self, bus: &Bus, serving: Serving, is_second: bool, in_ms: u64) -> Result<(), ShapeError> {
        let after_us = in_ms.saturating_mul(1000).saturating_add(MARGIN_US);
        let timer = [
            ("Description", Variant::from("The end of Quotary's leases")),
            ("TimersMonotonic", Variant::from(vec![("OnActiveSec", after_us)])),
            ("AccuracyUSec", Variant::U64(ACCURACY_US)),
            ("RemainAfterElapse", Variant::Bool(false)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let timer_name = serving.timer(is_second);
        if serving == Serving::Packaged {
            return bus.start_transient(&timer_name, &timer, &[]);
        }
        let program = self.program.program.display().to_string();
        let config = self.program.config.display().to_string();
        let arguments =
            vec![program.clone(), "restore".to_owned(), "--ended".to_owned(), "--config".to_owned(), config];
        let service = [
            ("Description", Variant::from("Puts back what Quotary's leases no longer cover")),
            ("Type", Variant::from("oneshot")),
            // One that failed must not keep the name from the next.
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("ExecStart", Variant::from(vec![(program, arguments, false)])),
        ];
        let service_name = format!("{}.service", serving.name(is_second));
        bus.start_transient(&timer_name, &timer, &[(service_name.as_str(), &service[..])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_unit_serves_only_who_runs_as_it_does() {
        let packaged = Program {
            program: PathBuf::from("/usr/bin/quotary-agent"),
            config: PathBuf::from("/etc/quotary/agent.toml"),
            state: PathBuf::from("/var/lib/quotary-agent"),
        };
        assert!(packaged.is_packaged());
        let elsewhere = PathBuf::from("/srv/quotary");
        for other in [
            Program { program: elsewhere.clone(), ..packaged.clone() },
            Program { config: elsewhere.clone(), ..packaged.clone() },
            Program { state: elsewhere, ..packaged },
        ] {
            assert!(!other.is_packaged(), "{other:?}");
        }
    }

    #[test]
    fn no_two_timers_are_called_alike() {
        let all = [Serving::Packaged, Serving::Made];
        let names: std::collections::BTreeSet<String> =
            all.iter().flat_map(|serving| [false, true].map(|is_second| serving.timer(is_second))).collect();
        assert_eq!(names.len(), 4);
        assert!(all.iter().all(|serving| serving.other() != *serving));
    }
}
