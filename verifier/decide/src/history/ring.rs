//! Points of one length, in a ring that is aligned to multiples of it in Unix time.

use std::collections::VecDeque;

use quotary_common::limits::defaults::WINDOW_MS;

/// Which points of a series: each resolution has a ring of its own, fed by the same windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// One minute: the last two hours.
    Minute,
    /// One forecast step: a day, and what a model looks at around the same time yesterday.
    Step,
    /// One hour: a week.
    Hour,
}

/// One minute, ms.
pub const MINUTE_MS: u64 = 60_000;
/// One hour, ms.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;

impl Resolution {
    /// All of them, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Step, Self::Hour];

    /// As in requests and replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Step => "step",
            Self::Hour => "hour",
        }
    }

    /// The resolution of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.name() == name)
    }

    /// How many points are kept at most.
    pub const fn points_max(self) -> usize {
        match self {
            Self::Minute => 120,
            // A day of 5 min, 36 more around the same time yesterday, and room for what comes late.
            Self::Step => 288 + 36 + 12,
            // A week, and room for what comes late.
            Self::Hour => 168 + 4,
        }
    }

    /// One point's length, ms, where a forecast step is `step_ms`.
    pub const fn span_ms(self, step_ms: u64) -> u64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Step => {
                if step_ms == 0 {
                    1
                } else {
                    step_ms
                }
            }
            Self::Hour => HOUR_MS,
        }
    }
}

const _: () = assert!(WINDOW_MS <= MINUTE_MS);

/// What was used in one interval. Sixteen bytes: a ring holds hundreds of them.
///
/// Points merge exactly and in any order: sums add up (and saturate), the greatest stands, one censored part censors
/// the whole. So a coarse point says the same as the fine ones that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Mean times samples; it saturates, which only means above 2^52 can reach.
    sum: u64,
    /// Greatest sample, rounded up to 24 bits of precision.
    max: f32,
    /// Samples; the top bit says that the point is censored.
    count: u32,
}

const CENSORED: u32 = 1 << 31;

impl Point {
    /// A point of `samples` samples; `None` without any.
    pub fn new((mean, max): (u64, u64), samples: u32, is_censored: bool) -> Option<Self> {
        let samples = samples.min(!CENSORED);
        Self::of_sum(mean.saturating_mul(u64::from(samples)), max.max(mean), samples, is_censored)
    }

    /// The same with the sum of its samples, as chunks keep it.
    pub(super) fn of_sum(sum: u64, max: u64, samples: u32, is_censored: bool) -> Option<Self> {
        let count = samples.min(!CENSORED) | if is_censored { CENSORED } else { 0 };
        (samples > 0).then(|| Self { sum, max: rounded_up(max), count })
    }

    /// Mean of the samples, rounded down.
    pub fn mean(&self) -> u64 {
        self.sum / u64::from(self.samples().max(1))
    }
    /// Greatest sample, rounded up to 24 bits of precision.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was made from a u64; casts saturate"
    )]
    pub fn max(&self) -> u64 {
        self.max as u64
    }
    /// How many samples there were.
    pub fn samples(&self) -> u32 {
        self.count & !CENSORED
    }
    /// Whether usage was at a limit in some of it: a lower bound of the demand, never a sample of it.
    pub fn is_censored(&self) -> bool {
        self.count & CENSORED != 0
    }
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds what was used in another part of the same interval.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        let samples = self.samples().saturating_add(other.samples()).min(!CENSORED);
        self.count = samples | ((self.count | other.count) & CENSORED);
    }
}

/// The least `f32` that is not below `value`.
fn rounded_up(value: u64) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "what is lost is rounded up below")]
    let nearest = value as f32;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was made from a u64; casts saturate"
    )]
    let is_below = (nearest as u64) < value;
    if is_below { nearest.next_up() } else { nearest }
}

/// A ring of points; what was not seen is a gap.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    span_ms: u64,
    points_max: usize,
    /// The number of the newest point: its start over its length.
    newest: u64,
    points: VecDeque<Point>,
}

impl Ring {
    pub(super) fn new(span_ms: u64, points_max: usize) -> Self {
        Self { span_ms: span_ms.max(1), points_max, newest: 0, points: VecDeque::new() }
    }

    pub(super) fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// The number of the newest point, if there is any.
    pub(super) fn newest(&self) -> Option<u64> {
        (!self.points.is_empty()).then_some(self.newest)
    }

    /// Adds what ended at `end_ms` (Unix time); what is older than the ring reaches back is left out.
    pub(super) fn add(&mut self, end_ms: u64, point: &Point) {
        let number = end_ms.saturating_sub(1) / self.span_ms;
        if self.points.is_empty() {
            self.newest = number;
        }
        if number > self.newest {
            let ahead = usize::try_from(number - self.newest).unwrap_or(usize::MAX);
            if ahead >= self.points_max {
                self.points.clear();
            } else {
                self.points.extend(std::iter::repeat_n(Point::default(), ahead));
                let beyond = self.points.len().saturating_sub(self.points_max);
                self.points.drain(..beyond);
            }
            self.newest = number;
        }
        let Ok(back) = usize::try_from(self.newest - number) else { return };
        if back >= self.points_max {
            return;
        }
        while self.points.len() <= back {
            self.points.push_front(Point::default());
        }
        let index = self.points.len() - 1 - back;
        if let Some(slot) = self.points.get_mut(index) {
            slot.merge(point);
        }
    }

    /// One point.
    pub(super) fn get(&self, number: u64) -> Option<Point> {
        let back = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        let index = self.points.len().checked_sub(back.checked_add(1)?)?;
        self.points.get(index).copied().filter(|point| point.samples() > 0)
    }

    /// Every known point with its number, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Point)> {
        let first = (self.newest + 1).saturating_sub(self.points.len() as u64);
        (first..).zip(self.points.iter().copied()).filter(|(_, point)| point.samples() > 0)
    }

    /// The points that were over at `now_ms`, oldest first, at most `count`; gaps are `None`, and the first is none.
    pub(super) fn closed(&self, now_ms: u64, count: usize) -> Vec<Option<Point>> {
        let open = now_ms / self.span_ms;
        let reach = u64::try_from(count.min(self.points_max)).unwrap_or(u64::MAX);
        let first = open.saturating_sub(reach);
        (first..open).map(|number| self.get(number)).skip_while(Option::is_none).collect()
    }
}
