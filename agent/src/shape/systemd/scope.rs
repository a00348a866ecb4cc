//! Transient scopes: what runs under a grant, where systemd owns the tree.
//!
//! A scope is started with the first process in it and no limits; values follow when it is sure that the process is the one
//! that asked. Nobody is moved back: when a grant ends its values go, and the scope lives on until its processes end, when
//! systemd collects it.

use std::time::Duration;

use quotary_common::envelope::ControlValue;
use quotary_common::plan::Target;

use rustix::io::Errno;

use super::granted::{drop_in_names, kept_as, properties};
use super::{Systemd, unit_of};
use crate::enforce::controls::{Control, Knob, Setting, agrees, shown};
use crate::enforce::direct::read_file;
use crate::enforce::group::GroupPath;
use crate::enforce::process;
use crate::shape::ShapeError;
use crate::shape::above::Above;
use crate::shape::holds::{Holds, Home, Made, SLICE, group_of_scope};

/// How long a process is awaited in its scope, less than its client waits for us: so many looks, and the pause between two.
const LOOKS_MAX: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(5);

impl Systemd {
    fn scope_of<'t>(&self, target: &'t Target) -> Result<(&'t str, GroupPath), ShapeError> {
        let of = unit_of(target).zip(group_of_scope(target));
        of.ok_or_else(|| ShapeError::NoScope { target: target.to_string() })
    }

    fn holds_process(&self, group: &GroupPath, pid: u32) -> bool {
        let procs = read_file(self.tree.mount(), Some(group), "cgroup.procs").unwrap_or_default();
        procs.lines().any(|line| line.trim().parse() == Ok(pid))
    }

    /// Waits for systemd's job: the call comes back before it is done.
    fn await_process(&self, unit: &str, group: &GroupPath, pid: u32) -> Result<(), ShapeError> {
        for _ in 0..LOOKS_MAX {
            if self.holds_process(group, pid) {
                return Ok(());
            }
            if matches!(process::start_time_ticks(&self.root, pid), Ok(None)) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Err(ShapeError::NotEntered { pid, unit: unit.to_owned() })
    }

    /// Whether systemd still holds our value for a control that somebody has written past it: it would set it again.
    fn would_come_back(&self, unit: &str, ours: &Setting) -> Result<bool, ShapeError> {
        for line in kept_as(ours) {
            let name = line.split('=').next().unwrap_or_default();
            let text = self.drop_ins.read(&self.drop_ins.path(unit, name, true))?.unwrap_or_default();
            if String::from_utf8_lossy(&text).lines().any(|kept| kept.trim() == line) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sets what the controls of a scope had at first, as far as they show another value.
    fn put_values_back(&self, unit: &str, group: &GroupPath, values: &[Setting]) -> Result<(), ShapeError> {
        for setting in values {
            let stands = |shown: ControlValue| agrees(setting.knob.control, setting.value.as_str(), shown.as_str());
            if self.files.read(group, setting.knob).ok().flatten().is_some_and(stands) {
                continue;
            }
            if let Some(assignments) = properties(setting) {
                self.bus.set(unit, &assignments)?;
            }
        }
        Ok(())
    }
}

/// What a control's file shows where nobody set it.
fn unset(control: Control) -> Option<&'static str> {
    Some(match control {
        Control::CpuWeight => "100",
        Control::CpuMax => "max 100000",
        Control::MemoryHigh => "max",
        Control::MemoryLow => "0",
        Control::DiskMax => "",
        _ => return None,
    })
}

impl Holds for Systemd {
    fn has(&self, target: &Target) -> bool {
        group_of_scope(target).is_some_and(|group| self.files.exists(&group))
    }

    fn is_empty(&self, target: &Target) -> Result<bool, ShapeError> {
        let (_, group) = self.scope_of(target)?;
        Ok(self.files.is_empty(&group)?)
    }

    fn show(&self, target: &Target, knob: Knob) -> Result<Option<ControlValue>, ShapeError> {
        let (_, group) = self.scope_of(target)?;
        match self.files.read(&group, knob) {
            // Its controller is off: the first value turns it on, and what holds until then is nothing.
            Err(error) if error.errno() == Some(Errno::NOENT) && self.files.exists(&group) => {
                Ok(unset(knob.control).and_then(|raw| shown(knob, raw)))
            }
            read => Ok(read?),
        }
    }

    fn is_bounded_above(&self, target: &Target, knob: Knob, value: &ControlValue) -> bool {
        group_of_scope(target).is_some_and(|group| self.files.is_bounded_above(&group, knob, value))
    }

    fn above(&self, target: &Target) -> Above {
        group_of_scope(target).map(|group| self.tree.enabled_above(&group)).unwrap_or_default()
    }

    fn make(&mut self, target: &Target) -> Result<Made, ShapeError> {
        Ok(if self.has(target) { Made::Now } else { Made::WithFirst })
    }

    fn enter(&mut self, target: &Target, pid: u32, about: &str) -> Result<(), ShapeError> {
        let (unit, group) = self.scope_of(target)?;
        if self.holds_process(&group, pid) {
            return Ok(());
        }
        let Some(seen) = self.bus.unit(unit)? else {
            self.bus.start_scope(unit, SLICE, pid, about)?;
            return self.await_process(unit, &group, pid);
        };
        if seen.control_group != group.as_str() {
            return Err(ShapeError::Elsewhere { unit: unit.to_owned(), cgroup: seen.control_group });
        }
        self.bus.attach(unit, pid)?;
        self.await_process(unit, &group, pid)
    }

    fn take_back(&mut self, target: &Target, pid: u32, _: Home<'_>) -> Result<(), ShapeError> {
        let (_, group) = self.scope_of(target)?;
        if !self.holds_process(&group, pid) {
            return Ok(());
        }
        // Where it came from belongs to a unit that takes no processes from others: a scope of its own has no limits.
        let started = process::start_time_ticks(&self.root, pid).ok().flatten();
        let Some(started) = started else { return Ok(()) };
        let unit = format!("quotary-back-{pid}-{started}.scope");
        self.bus.start_scope(&unit, SLICE, pid, "A process that was in the scope of a grant by mistake")?;
        match GroupPath::parse(&format!("/{SLICE}/{unit}")) {
            Some(group) => self.await_process(&unit, &group, pid),
            None => Ok(()),
        }
    }

    fn is_ready(&mut self, target: &Target, setting: &Setting) -> bool {
        let (Some(group), Control::MemoryHigh) = (group_of_scope(target), setting.knob.control) else { return true };
        // systemd writes it, and the write reclaims what is in use above it: that is not for PID 1 to wait for.
        let current = read_file(self.tree.mount(), Some(&group), "memory.current").unwrap_or_default();
        let (Ok(current), Ok(wanted)) = (current.trim().parse::<u64>(), setting.value.as_str().parse::<u64>()) else {
            return true;
        };
        // Once is enough: what could not be reclaimed by then is little, or cannot be helped.
        if current <= wanted || self.reclaimer.take_outcome(&group).is_some() {
            return true;
        }
        self.reclaimer.reclaim(&group, current - wanted);
        false
    }

    fn set(&mut self, target: &Target, setting: &Setting) -> Result<(), ShapeError> {
        let (unit, _) = self.scope_of(target)?;
        let assignments = properties(setting).ok_or_else(|| ShapeError::NoProperty {
            control: setting.knob.control.file_name(),
            value: setting.value.to_string(),
        })?;
        self.bus.set(unit, &assignments)
    }

    fn take_down(
        &mut self,
        target: &Target,
        values: &[Setting],
        yielded: &[Setting],
        _: Home<'_>,
    ) -> Result<(), ShapeError> {
        let (unit, group) = self.scope_of(target)?;
        if !self.files.exists(&group) {
            // systemd has removed the drop-ins with it.
            return Ok(());
        }
        let is_empty = self.files.is_empty(&group)?;
        let mut values = values.to_vec();
        for setting in yielded {
            if self.would_come_back(unit, setting)? {
                let raw = unset(setting.knob.control);
                let unset = raw.and_then(|raw| shown(setting.knob, raw));
                values.extend(unset.map(|value| Setting { knob: setting.knob, value }));
            }
        }
        match self.put_values_back(unit, &group, &values) {
            // It ends by itself just now.
            Err(_) if is_empty => {}
            done => done?,
        }
        // Values and files agree without a reload: the unit was started without any.
        for setting in &values {
            for name in drop_in_names(setting.knob.control) {
                self.drop_ins.remove(unit, name)?;
            }
        }
        self.places.remove(unit);
        Ok(())
    }
}
