//! What a fold hands on: closed windows, by whom they are about, and how to fit them into an envelope. Pure.

use std::sync::Arc;

use quotary_common::envelope::{ApplicationReport, Event, EventKind};
use quotary_common::metric::{MetricWindow, MetricWindows};

use super::application::Application;

/// Bytes of a report besides its windows and texts: keys, lengths, uid and grant id.
const REPORT_BYTES: usize = 64;

/// Windows that were closed, and what happened meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// The host's, by interval, oldest first; at most [`WINDOWS_MAX`](quotary_common::limits::WINDOWS_MAX).
    pub host: Vec<MetricWindow>,
    /// The applications', by cgroup path, at most [`APPLICATIONS_MAX`](quotary_common::limits::APPLICATIONS_MAX).
    pub applications: Vec<ApplicationWindows>,
    /// Events, at most half of what an envelope carries.
    pub events: Vec<Event>,
}

/// One application's windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationWindows {
    /// Whose.
    pub application: Arc<Application>,
    /// Its windows, by interval, oldest first.
    pub windows: Vec<MetricWindow>,
}

impl ApplicationWindows {
    /// As an envelope carries it.
    pub fn into_report(self) -> ApplicationReport {
        let (windows, _) = MetricWindows::truncating(&self.windows);
        ApplicationReport {
            cgroup: self.application.cgroup.clone(),
            unit: self.application.unit.clone(),
            uid: self.application.uid,
            grant: self.application.grant,
            windows,
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.application.cgroup.as_str().len()
            + self.application.unit.as_ref().map_or(0, |unit| unit.as_str().len());
        REPORT_BYTES + texts + MetricWindows::bytes_of(&self.windows)
    }
}

impl Windows {
    /// About how many bytes these take in an envelope, never less than they do (events aside, which are bounded).
    pub fn bytes(&self) -> usize {
        MetricWindows::bytes_of(&self.host) + self.applications.iter().map(ApplicationWindows::bytes).sum::<usize>()
    }

    /// Leaves out what does not fit into `bytes_max`, and counts it in a `LeftOut` event at `now_ms`.
    ///
    /// What nobody asked for goes first: applications without a grant, the last by path first; then
    /// the others; the host's windows stay.
    #[must_use]
    pub fn fitting(mut self, bytes_max: usize, now_ms: u64) -> Self {
        let mut bytes = self.bytes();
        let mut left_out = 0u64;
        for is_granted in [false, true] {
            let mut at = self.applications.len();
            while bytes > bytes_max && at > 0 {
                at -= 1;
                let goes = self.applications.get(at).filter(|one| one.application.grant.is_some() == is_granted);
                if let Some(one) = goes {
                    bytes -= one.bytes();
                    left_out += 1;
                    self.applications.remove(at);
                }
            }
        }
        if left_out > 0 {
            match self.events.iter_mut().find(|event| event.kind == EventKind::LeftOut) {
                Some(event) => event.count = event.count.saturating_add(left_out),
                None => {
                    self.events.push(Event { kind: EventKind::LeftOut, cgroup: None, count: left_out, at_ms: now_ms })
                }
            }
        }
        self
    }
}
