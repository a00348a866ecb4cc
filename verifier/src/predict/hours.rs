//! Hours of history, for whoever forecasts hour by hour.

use quotary_common::id::HostId;
use quotary_decide::history::{History, Measure, Resolution, SeriesKey, Subject};
use tokio::sync::oneshot;

/// Series that are handed over at once at most: what the forecaster does between two pieces of evidence stays short.
const SERIES_MAX: usize = 32;

/// Which series' hours are wanted.
#[derive(Debug, Clone, Default)]
pub struct HoursWanted {
    /// Only this host's; without it all hosts' and the sums.
    pub host: Option<HostId>,
    /// Only this subject's.
    pub subject: Option<Subject>,
    /// Only of this measure.
    pub measure: Option<Measure>,
    /// Only what comes after this series.
    pub after: Option<SeriesKey>,
}

/// One page of series with their hours.
#[derive(Debug, Default)]
pub struct Hours {
    /// The hours that were over, oldest first, the newest last; gaps are `None`.
    pub series: Vec<(SeriesKey, Vec<Option<f64>>)>,
    /// When that was, Unix ms.
    pub now_ms: u64,
    /// Whether more series may follow after the last.
    pub has_more: bool,
}

impl HoursWanted {
    fn holds(&self, key: &SeriesKey) -> bool {
        self.host.is_none_or(|host| key.host == Some(host))
            && self.subject.as_ref().is_none_or(|subject| *subject == key.subject)
            && self.measure.is_none_or(|measure| measure == key.measure)
    }

    /// The next page of what is wanted: closed hours at `now_ms`.
    pub(super) fn of(&self, history: &History, now_ms: u64) -> Hours {
        let mut wanted = history.after(self.after.as_ref()).filter(|(key, _)| self.holds(key));
        let hours = |(key, series): (&SeriesKey, &quotary_decide::history::Series)| {
            let points = series.closed_at(Resolution::Hour, now_ms, Resolution::Hour.points_max());
            (key.clone(), points.iter().map(|point| point.as_ref().map(super::forecaster::demand)).collect())
        };
        let series = wanted.by_ref().take(SERIES_MAX).map(hours).collect();
        Hours { series, now_ms, has_more: wanted.next().is_some() }
    }
}

/// Answers a question; who asked may be gone.
pub(super) fn answer(history: &History, wanted: &HoursWanted, now_ms: u64, to: oneshot::Sender<Hours>) {
    if !to.is_closed() {
        let _gone = to.send(wanted.of(history, now_ms)).is_err();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{MINUTE_MS, cpu_of, fill, host};
    use super::*;
    use quotary_common::units::ResourceKind;

    const HOUR_MINUTES: u64 = 60;

    /// Forty hosts with three hours each, the third begun.
    fn history() -> History {
        let mut history = History::new(5 * MINUTE_MS);
        for id in 0..40 {
            let used: Vec<u64> = (0..150).map(|minute| 100 * (minute / HOUR_MINUTES) + u64::from(id)).collect();
            fill(&mut history, id, 1_000 * HOUR_MINUTES, &used);
        }
        history
    }

    #[test]
    fn hours_that_are_over_come_page_by_page_and_each_series_once() {
        let (history, now_ms) = (history(), 1_000 * HOUR_MINUTES * MINUTE_MS + 150 * MINUTE_MS);
        let first = HoursWanted::default().of(&history, now_ms);
        assert_eq!((first.series.len(), first.has_more, first.now_ms), (SERIES_MAX, true, now_ms));
        assert_eq!(first.series[7], (cpu_of(7), vec![Some(7.0), Some(107.0)]));
        let after = Some(first.series.last().unwrap().0.clone());
        let second = HoursWanted { after, ..HoursWanted::default() }.of(&history, now_ms);
        assert_eq!((second.series.len(), second.has_more), (8, false));
        let all: std::collections::BTreeSet<_> =
            first.series.iter().chain(&second.series).map(|(key, _)| key).collect();
        assert_eq!(all.len(), 40);
    }

    #[test]
    fn only_what_is_wanted_comes() {
        let (history, now_ms) = (history(), 2_000 * HOUR_MINUTES * MINUTE_MS);
        let of = |wanted: HoursWanted| {
            let hours = wanted.of(&history, now_ms);
            (hours.series.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), hours.has_more)
        };
        let wanted =
            HoursWanted { host: Some(host(9)), measure: Some(ResourceKind::Cpu.into()), ..HoursWanted::default() };
        assert_eq!(of(wanted), (vec![cpu_of(9)], false));
        let memory = HoursWanted { measure: Some(ResourceKind::Memory.into()), ..HoursWanted::default() };
        assert_eq!(of(memory), (vec![], false));
        let group = HoursWanted { subject: Some(Subject::Cgroup("/a".to_owned())), ..HoursWanted::default() };
        assert_eq!(of(group), (vec![], false));
    }
}
