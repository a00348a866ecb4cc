//! Gathers readings into metric windows that start at multiples of their length. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use quotary_common::envelope::{CgroupPath, Event};
use quotary_common::limits::APPLICATIONS_MAX;

use super::application::Application;
use super::rates::{Rates, Reading, Subject};
use super::series::{CLOSED_WINDOWS_MAX, SeriesSet};
use super::tally::EventTally;
use super::windows::{ApplicationWindows, Windows};

/// Open windows, windows that wait to be taken, and events: all bounded, whoever is away.
#[derive(Debug)]
pub struct Fold {
    window_ms: NonZeroU64,
    /// Start of the open window; it never goes back.
    open_start_ms: u64,
    host: SeriesSet,
    applications: BTreeMap<CgroupPath, ApplicationFold>,
    events: EventTally,
}

#[derive(Debug)]
struct ApplicationFold {
    application: Arc<Application>,
    series: SeriesSet,
}

impl Fold {
    /// A fold into windows of this length, on `CLOCK_BOOTTIME`.
    pub fn new(window_ms: NonZeroU64) -> Self {
        Self {
            window_ms,
            open_start_ms: 0,
            host: SeriesSet::default(),
            applications: BTreeMap::new(),
            events: EventTally::default(),
        }
    }

    /// Adds what lies between two samples to the window in which the later one was taken.
    pub fn add(&mut self, rates: &Rates) {
        self.advance(rates.at_ms());
        let mut left_out = rates.applications_left_out();
        for reading in rates.readings() {
            left_out += u64::from(!self.add_to_series(rates.at_ms(), reading));
        }
        self.events.left_out(left_out, rates.at_ms());
        for event in rates.events() {
            self.events.add(event);
        }
    }

    /// Adds one reading from elsewhere, such as a latency probe, taken at `at_ms`.
    pub fn add_reading(&mut self, at_ms: u64, reading: &Reading) {
        self.advance(at_ms);
        let left_out = !self.add_to_series(at_ms, reading);
        self.events.left_out(u64::from(left_out), at_ms);
    }

    /// Counts an event from elsewhere.
    pub fn add_event(&mut self, event: &Event) {
        self.events.add(event);
    }

    /// Takes the windows that ended by `now_ms` and were not taken before, and the events up to now.
    ///
    /// While nobody takes them, at most eight windows of each series wait; older ones are dropped.
    pub fn take_closed(&mut self, now_ms: u64) -> Windows {
        self.advance(now_ms);
        let host = self.host.take_closed();
        let mut applications = Vec::new();
        for fold in self.applications.values_mut() {
            let windows = fold.series.take_closed();
            if !windows.is_empty() {
                applications.push(ApplicationWindows { application: Arc::clone(&fold.application), windows });
            }
        }
        Windows { host, applications, events: self.events.take() }
    }

    /// Closes the open window if `now_ms` lies beyond it.
    fn advance(&mut self, now_ms: u64) {
        let window_ms = self.window_ms.get();
        let start_ms = now_ms - now_ms % window_ms;
        if start_ms <= self.open_start_ms {
            return;
        }
        let oldest_ms = start_ms.saturating_sub(window_ms.saturating_mul(CLOSED_WINDOWS_MAX as u64));
        let (closing_ms, host) = (self.open_start_ms, &mut self.host);
        host.close(closing_ms, window_ms, oldest_ms);
        self.applications.retain(|_, fold| {
            fold.series.close(closing_ms, window_ms, oldest_ms);
            !fold.series.is_empty()
        });
        self.open_start_ms = start_ms;
    }

    /// `false` if the reading was left out: a bound is reached, or its window was closed already.
    fn add_to_series(&mut self, at_ms: u64, reading: &Reading) -> bool {
        if at_ms < self.open_start_ms {
            return false;
        }
        let series = match &reading.subject {
            Subject::Host => &mut self.host,
            Subject::Application(application) => {
                let Some(series) = self.series_of(application) else { return false };
                series
            }
        };
        series.add(reading.metric, reading.label.as_ref(), reading.value)
    }

    fn series_of(&mut self, application: &Arc<Application>) -> Option<&mut SeriesSet> {
        if !self.applications.contains_key(&application.cgroup) {
            if self.applications.len() >= APPLICATIONS_MAX {
                return None;
            }
            let fold = ApplicationFold { application: Arc::clone(application), series: SeriesSet::default() };
            self.applications.insert(application.cgroup.clone(), fold);
        }
        let fold = self.applications.get_mut(&application.cgroup)?;
        if !Arc::ptr_eq(&fold.application, application) {
            fold.application = Arc::clone(application);
        }
        Some(&mut fold.series)
    }
}
