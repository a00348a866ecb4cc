//! One threshold of one policy, over all its units: told once per excursion.

use std::collections::BTreeMap;

use super::Subject;
use crate::policy::document::{Line, Threshold};

/// A unit that was silent for longer begins anew, ms: a host's trust ends after as long.
const GAP_MS_MAX: u64 = 120_000;
/// Calm begins so many percent of the limit on the other side of the line: use that wavers about it is one excursion.
const HYSTERESIS_PERCENT: u64 = 5;

#[derive(Debug)]
struct OfUnit {
    last_ms: u64,
    /// Since when it is beyond the line without a break, Unix ms.
    beyond_since_ms: Option<u64>,
    /// Since when it is calm without a break, Unix ms.
    calm_since_ms: Option<u64>,
    /// It was beyond for the threshold's time, and not calm for as long since.
    is_due: bool,
}

/// Where a threshold stands.
#[derive(Debug)]
pub(super) struct LineState {
    threshold: Threshold,
    units: BTreeMap<Subject, OfUnit>,
    /// How many units are due.
    due: usize,
    /// It is told, and not calm since.
    is_told: bool,
}

impl LineState {
    pub(super) const fn new(threshold: Threshold) -> Self {
        Self { threshold, units: BTreeMap::new(), due: 0, is_told: false }
    }

    pub(super) const fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// Takes a unit's use in percent of its limit; since when it is beyond if this is to be told now.
    ///
    /// Too much is told when any unit has it, too little only when all have: a limit is for each unit alike.
    pub(super) fn note(&mut self, subject: &Subject, used_percent: u64, at_ms: u64) -> Option<u64> {
        let for_ms = self.threshold.for_s.saturating_mul(1000);
        let (is_beyond, is_calm) = match self.threshold.line {
            Line::Above(line) => (used_percent > line, used_percent <= line.saturating_sub(HYSTERESIS_PERCENT)),
            Line::Below(line) => (used_percent < line, used_percent >= line.saturating_add(HYSTERESIS_PERCENT)),
        };
        let fresh = OfUnit { last_ms: at_ms, beyond_since_ms: None, calm_since_ms: None, is_due: false };
        let unit = self.units.entry(subject.clone()).or_insert(fresh);
        if at_ms.saturating_sub(unit.last_ms) > GAP_MS_MAX {
            (unit.beyond_since_ms, unit.calm_since_ms) = (None, None);
        }
        unit.last_ms = at_ms;
        let since = |is: bool, since_ms: Option<u64>| is.then(|| since_ms.unwrap_or(at_ms));
        unit.beyond_since_ms = since(is_beyond, unit.beyond_since_ms);
        unit.calm_since_ms = since(is_calm, unit.calm_since_ms);
        let is_long = |since_ms: Option<u64>| since_ms.is_some_and(|since_ms| at_ms.saturating_sub(since_ms) >= for_ms);
        let was_due = unit.is_due;
        if is_long(unit.beyond_since_ms) {
            unit.is_due = true;
        } else if is_long(unit.calm_since_ms) {
            unit.is_due = false;
        }
        let (is_due, since_ms) = (unit.is_due, unit.beyond_since_ms);
        self.due = self.due + usize::from(is_due) - usize::from(was_due);
        if self.due == 0 {
            self.is_told = false;
        }
        let is_reached = match self.threshold.line {
            Line::Above(_) => self.due > 0,
            Line::Below(_) => self.due == self.units.len(),
        };
        // What is due by another's window is told by that; here it is this unit's.
        let tells = is_reached && !self.is_told && since_ms.is_some();
        self.is_told |= tells;
        since_ms.filter(|_| tells)
    }

    pub(super) fn leave(&mut self, subject: &Subject) {
        if let Some(unit) = self.units.remove(subject) {
            self.due -= usize::from(unit.is_due);
            if self.due == 0 {
                self.is_told = false;
            }
        }
    }
}
