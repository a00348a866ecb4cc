//! Sums: what a tenant's applications, and what a pool's hosts, use together. Quantiles do not add, so a sum is a series
//! of its own and is forecast as one.
//!
//! Sums are made of the finest points, one interval after the other once it has settled. The mean is the sum of the
//! members' means. The greatest is the greater of that sum and of any one member's greatest sample: what all reached at
//! one instant is not known, and it was no less than this.
//!
//! A member that has no point there is *missing* when its host is silent, and counts with what was last known of it; a
//! group that is gone while its host speaks has ended, and counts for nothing. Where more than a tenth is missing there
//! is a gap. A member that was silent for sixty intervals is none any more.

use std::collections::BTreeMap;

use super::{History, Point, Resolution, Series, SeriesKey, Subject, Window};

/// The part of a sum, in percent, that must have been seen.
const SEEN_PERCENT_MIN: u64 = 90;
/// A member is missed for so many intervals.
const MISSED_MAX: u64 = 60;

/// One interval of one sum in the making.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    seen: u64,
    missing: u64,
    max: u64,
    samples: u32,
    is_censored: bool,
}

impl Total {
    fn add(&mut self, point: &Point) {
        self.seen = self.seen.saturating_add(point.mean());
        self.max = self.max.max(point.max());
        self.samples = self.samples.max(point.samples());
        self.is_censored |= point.is_censored();
    }

    fn point(&self) -> Option<Point> {
        let mean = self.seen.saturating_add(self.missing);
        if u128::from(self.seen) * 100 < u128::from(mean) * u128::from(SEEN_PERCENT_MIN) {
            return None;
        }
        Point::new((mean, self.max.max(mean)), self.samples, self.is_censored)
    }
}

impl History {
    /// The resolution of the finest points, which sums and chunks are made of.
    pub(super) fn finest(&self) -> Resolution {
        if self.step_ms() < super::MINUTE_MS { Resolution::Step } else { Resolution::Minute }
    }

    /// The length of the finest points, ms.
    pub fn grain_ms(&self) -> u64 {
        self.finest().span_ms(self.step_ms())
    }

    /// Adds up every interval that was over at `until_ms` (Unix time) and is not summed yet: what members say of it
    /// later is left out.
    pub fn sum_until(&mut self, until_ms: u64) {
        let grain_ms = self.grain_ms();
        let end = until_ms / grain_ms;
        let reach = self.finest().points_max() as u64;
        let first = self.summed.max(end.saturating_sub(reach));
        if first >= end {
            return;
        }
        self.summed = end;
        let sums = self.totals(first, end);
        for (key, totals) in sums {
            let points = (first..).zip(&totals).filter_map(|(number, total)| Some((number, total.point()?)));
            let points: Vec<(u64, Point)> = points.collect();
            if points.is_empty() && !self.series.contains_key(&key) {
                continue;
            }
            let step_ms = self.step_ms();
            let series = self.series.entry(key.clone()).or_insert_with(|| Series::new(step_ms));
            let unkept = self.unkept.entry(None).or_default();
            for (number, point) in points {
                unkept.add((&key.subject, key.measure), number, &point);
                let end_ms = number.saturating_add(1).saturating_mul(grain_ms);
                series.add(Window { end_ms, duration_ms: grain_ms, point });
            }
        }
        if let Some(unkept) = self.unkept.get_mut(&None) {
            unkept.reach(super::Watermark { enrolled_at_ms: 0, sequence: end }, until_ms);
        }
        self.series.retain(|key, series| key.host.is_some() || !series.is_stale(until_ms));
    }

    fn totals(&self, first: u64, end: u64) -> BTreeMap<SeriesKey, Vec<Total>> {
        let length = usize::try_from(end - first).unwrap_or(0);
        let mut sums = BTreeMap::<SeriesKey, Vec<Total>>::new();
        // Whether the host at hand spoke in each interval: its own series come before those of its groups.
        let mut of_host = (None, vec![false; length]);
        for (key, series) in self.series.iter().filter(|(key, _)| key.host.is_some()) {
            if of_host.0 != key.host {
                of_host = (key.host, vec![false; length]);
            }
            let points = (first..end).map(|number| series.point(self.finest(), number));
            let points: Vec<Option<Point>> = points.collect();
            if key.subject == Subject::Host {
                of_host.1.iter_mut().zip(&points).for_each(|(spoke, point)| *spoke |= point.is_some());
            }
            let Some(sum) = self.sum_of(key) else { continue };
            let totals = sums.entry(sum).or_insert_with(|| vec![Total::default(); length]);
            for (((number, total), point), spoke) in (first..).zip(totals).zip(&points).zip(&of_host.1) {
                match point {
                    Some(point) => total.add(point),
                    None if *spoke => {}
                    None => total.missing = total.missing.saturating_add(self.last_known(series, number)),
                }
            }
        }
        sums
    }

    /// Which sum a series is part of, if what it measures adds up.
    fn sum_of(&self, key: &SeriesKey) -> Option<SeriesKey> {
        if !key.measure.adds_up() {
            return None;
        }
        let note = self.hosts.get(&key.host?)?;
        let subject = match &key.subject {
            Subject::Host => Subject::Pool(note.pool.clone()?),
            Subject::Cgroup(cgroup) => Subject::Tenant(note.groups.get(cgroup)?.tenant.clone()?),
            Subject::Tenant(_) | Subject::Pool(_) => return None,
        };
        Some(SeriesKey { host: None, subject, measure: key.measure })
    }

    /// What was last known of a member before an interval; nothing if that is too long ago.
    fn last_known(&self, series: &Series, number: u64) -> u64 {
        let finest = self.finest();
        let newest = series.newest(finest).unwrap_or(0).min(number);
        let oldest = number.saturating_sub(MISSED_MAX);
        (oldest..=newest).rev().find_map(|number| series.point(finest, number)).map_or(0, |point| point.mean())
    }
}
