//! What both models said of the same hours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::scores::{COVERED_COLUMNS, covered_of, loss_of};
use crate::forecast::{Came, PEAK_STEPS, Quantiles};
use crate::history::Measure;
use crate::profile::request;

/// Hours that are kept: two weeks.
pub(super) const HOURS_MAX: usize = 336;
/// Series-hours of each measure that sizes are compared on: of more, a fair share of all that came (Vitter 1985, algorithm R).
pub(super) const SERIES_HOURS_MAX: usize = 4096;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The model that answers.
    Champion,
    /// The one that would like to.
    Challenger,
}

/// What one model said of one hour of one series, once it has come.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SeriesHour {
    /// Pinball losses over the levels .1 to .9, over what the statistical rung usually loses on this series: without a unit.
    pub loss: f64,
    /// Steps that came, and how many lay at or below the 95 % line.
    pub steps: u32,
    /// See `steps`.
    pub covered: u32,
    /// The hour's peak over what would have been asked for, and its mean over the same.
    pub peak_share: f64,
    /// See `peak_share`.
    pub mean_share: f64,
}

/// What an hour beyond its size costs when sizes of two models are compared, beside an hour that leaves all of it unused: the middle class's.
const COMPARED_COST: f64 = 4.0;

impl SeriesHour {
    /// What was told of an hour, against what came of it; `usual` is what the statistical rung usually loses on that series, in its unit.
    /// `None` unless the whole hour came, and where the series is so idle that shares say nothing.
    pub fn of(told: &Quantiles, came: &Came, usual: f64) -> Option<Self> {
        let peak = came.peaks()[PEAK_STEPS.len() - 1]?;
        let asked = request(told, COMPARED_COST).amount;
        if asked <= 0.0 || usual <= 0.0 {
            return None;
        }
        Some(Self {
            loss: loss_of(told, came) / usual,
            steps: u32::try_from(came.known().count()).ok()?,
            covered: u32::try_from(covered_of(told, came)[COVERED_COLUMNS[1]]).ok()?,
            peak_share: peak / asked,
            mean_share: came.mean()? / asked,
        })
    }

    fn is_sound(&self) -> bool {
        let figures = [self.loss, self.peak_share, self.mean_share];
        figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0) && self.covered <= self.steps
    }
}

/// Sums of one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hour {
    pub(super) number: u64,
    /// By side, champion first.
    pub(super) losses: [f64; 2],
    pub(super) covered: [u64; 2],
    pub(super) steps: u64,
    pub(super) series_hours: u64,
}

/// Series-hours of one measure.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OfMeasure {
    pub(super) hours: VecDeque<Hour>,
    /// Peak and mean shares, champion's and challenger's.
    pub(super) sizes: Vec<[(f32, f32); 2]>,
    /// Series-hours that came.
    pub(super) seen: u64,
}

/// What was recorded of a contest. Bounded: two weeks of hours and some thousand series-hours of each measure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    pub(super) measures: BTreeMap<Measure, OfMeasure>,
}

/// A series-hour's loss counts at most so many times what is usual: one absurd hour must decide nothing.
const LOSS_MAX: f64 = 20.0;

impl Record {
    /// Records what both said of the same hour (Unix hour number) of one series. What is not sound, or older than what is kept, is left out.
    pub fn add(&mut self, measure: Measure, hour: u64, champion: &SeriesHour, challenger: &SeriesHour) {
        if !champion.is_sound() || !challenger.is_sound() || champion.steps == 0 {
            return;
        }
        let of = self.measures.entry(measure).or_default();
        let Some(sums) = of.hour(hour) else { return };
        for (side, series_hour) in [champion, challenger].into_iter().enumerate() {
            sums.losses[side] += series_hour.loss.min(LOSS_MAX);
            sums.covered[side] += u64::from(series_hour.covered);
        }
        sums.steps += u64::from(champion.steps);
        sums.series_hours += 1;
        let sizes =
            [champion, challenger].map(|series_hour| (narrow(series_hour.peak_share), narrow(series_hour.mean_share)));
        of.seen += 1;
        if of.sizes.len() < SERIES_HOURS_MAX {
            of.sizes.push(sizes);
        } else if let Some(place) = usize::try_from(mixed(of.seen) % of.seen).ok().and_then(|at| of.sizes.get_mut(at)) {
            *place = sizes;
        }
    }

    /// Hours that anything was recorded of, of those that are kept.
    pub fn recorded_hours(&self) -> u64 {
        let hours = self.measures.values().flat_map(|of| &of.hours).map(|hour| hour.number);
        hours.collect::<BTreeSet<u64>>().len() as u64
    }

    /// Series-hours recorded of a measure, of those that are kept.
    pub fn series_hours(&self, measure: Measure) -> u64 {
        self.measures.get(&measure).map_or(0, |of| of.hours.iter().map(|hour| hour.series_hours).sum())
    }
}

impl OfMeasure {
    /// The sums of an hour; they are kept in order, at most [`HOURS_MAX`].
    fn hour(&mut self, number: u64) -> Option<&mut Hour> {
        let at = self.hours.partition_point(|hour| hour.number < number);
        if self.hours.get(at).is_none_or(|hour| hour.number != number) {
            if at == 0 && self.hours.len() >= HOURS_MAX {
                return None;
            }
            self.hours.insert(at, Hour { number, ..Hour::default() });
            if self.hours.len() > HOURS_MAX {
                self.hours.pop_front();
                return self.hours.get_mut(at - 1);
            }
        }
        self.hours.get_mut(at)
    }
}

/// SplitMix64's mixing (Steele, Lea and Flood 2014): a number that looks drawn, and is the same everywhere.
pub(super) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[expect(clippy::cast_possible_truncation, reason = "a share, cut first")]
fn narrow(share: f64) -> f32 {
    share.min(1e30) as f32
}

#[cfg(test)]
mod tests {
    use quotary_common::units::ResourceKind;

    use super::*;

    const CPU: Measure = Measure::Resource(ResourceKind::Cpu);
    const DISK: Measure = Measure::Resource(ResourceKind::Disk);

    fn series_hour(loss: f64) -> SeriesHour {
        SeriesHour { loss, steps: 12, covered: 11, peak_share: 0.9, mean_share: 0.5 }
    }

    #[test]
    fn hours_are_kept_in_order_and_bounded() {
        let mut record = Record::default();
        for hour in (0..1000).rev().chain(0..1000) {
            record.add(CPU, hour, &series_hour(1.0), &series_hour(1.0));
        }
        let of = &record.measures[&CPU];
        assert_eq!(of.hours.len(), HOURS_MAX);
        assert!(of.hours.iter().zip(of.hours.iter().skip(1)).all(|(one, next)| one.number < next.number));
        assert_eq!(of.hours.back().map(|hour| hour.number), Some(999));
        assert!(of.sizes.len() <= SERIES_HOURS_MAX);
    }

    #[test]
    fn of_more_series_hours_than_are_kept_old_and_new_ones_are_there() {
        let mut record = Record::default();
        for at in 0..20_000_u32 {
            let series_hour = SeriesHour { peak_share: f64::from(at), ..series_hour(1.0) };
            record.add(CPU, 5, &series_hour, &series_hour);
        }
        let of = &record.measures[&CPU];
        let late = of.sizes.iter().filter(|sizes| sizes[0].0 >= 10_000.0).count();
        assert_eq!((of.sizes.len(), of.seen), (SERIES_HOURS_MAX, 20_000));
        assert!((1_800..2_300).contains(&late), "{late}");
    }

    #[test]
    fn what_is_not_sound_is_left_out_and_one_absurd_hour_is_cut() {
        let mut record = Record::default();
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            record.add(CPU, 1, &series_hour(bad), &series_hour(1.0));
            record.add(CPU, 1, &series_hour(1.0), &series_hour(bad));
        }
        record.add(CPU, 1, &SeriesHour { covered: 13, ..series_hour(1.0) }, &series_hour(1.0));
        assert_eq!(record.series_hours(CPU), 0);
        record.add(CPU, 1, &series_hour(1e12), &series_hour(1.0));
        assert!((record.measures[&CPU].hours[0].losses[0] - LOSS_MAX).abs() < 1e-9);
    }

    #[test]
    fn hours_count_that_something_was_recorded_of() {
        let mut record = Record::default();
        assert_eq!(record.recorded_hours(), 0);
        record.add(CPU, 100, &series_hour(1.0), &series_hour(1.0));
        record.add(DISK, 267, &series_hour(1.0), &series_hour(1.0));
        assert_eq!(record.recorded_hours(), 2);
    }
}
