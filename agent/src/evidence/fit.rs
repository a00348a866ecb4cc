//! Metric windows within an envelope's bytes. Pure.

use quotary_common::envelope::EventKind;
use quotary_common::limits::WINDOWS_MAX;
use quotary_common::metric::{MetricWindow, MetricWindows};

use super::build::count_event;
use crate::sample::Windows;

/// Leaves out what does not fit into `bytes_max`, oldest windows first, then applications that nobody asked for;
/// counts it in a `LeftOut` event at `now_ms`.
///
/// The newest interval is what the verifier decides on, so the backlog of an outage goes before it.
#[must_use]
pub fn fit(mut windows: Windows, bytes_max: usize, now_ms: u64) -> Windows {
    let mut left_out = drop_above_count(&mut windows.host);
    for application in &mut windows.applications {
        left_out += drop_above_count(&mut application.windows);
    }
    let mut bytes = windows.bytes();
    for start_ms in backlog(&windows) {
        if bytes <= bytes_max {
            break;
        }
        let mut drop = |series: &mut Vec<MetricWindow>| {
            let before = (series.len(), MetricWindows::bytes_of(series));
            series.retain(|window| window.start_ms > start_ms);
            left_out += (before.0 - series.len()) as u64;
            bytes = bytes.saturating_sub(before.1.saturating_sub(MetricWindows::bytes_of(series)));
        };
        drop(&mut windows.host);
        windows.applications.iter_mut().for_each(|application| drop(&mut application.windows));
    }
    windows.applications.retain(|application| !application.windows.is_empty());
    count_event(&mut windows.events, EventKind::LeftOut, left_out, now_ms);
    windows.fitting(bytes_max, now_ms)
}

/// The interval starts that are not the newest, ascending.
fn backlog(windows: &Windows) -> Vec<u64> {
    let applications = windows.applications.iter().flat_map(|application| &application.windows);
    let mut starts: Vec<u64> = windows.host.iter().chain(applications).map(|window| window.start_ms).collect();
    starts.sort_unstable();
    starts.dedup();
    starts.pop();
    starts
}

/// Keeps the newest windows that one list may have.
fn drop_above_count(series: &mut Vec<MetricWindow>) -> u64 {
    let excess = series.len().saturating_sub(WINDOWS_MAX);
    if excess > 0 {
        series.sort_by_key(|window| window.start_ms);
        series.drain(..excess);
    }
    excess as u64
}
