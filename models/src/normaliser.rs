//! Normaliser, version 2: from a series' past to what the network sees, and back. `training/normaliser.py` is the same in Python;
//! `parity.json` holds both together.
//!
//! A value is mapped by asinh((x - median) / scale), with median and MAD over the known values of the context (the newest 96 steps)
//! and scale = max(1.4826 MAD, 0.5 mean absolute deviation, 0.3 median of the deviations in all 312 steps that are not 0, 0.01 |median|).
//! Multiplying a series multiplies median and scale and leaves mapped values as they are. Mapped values are cut at 10, so that one absurd
//! value blinds the model to nothing but itself. A past of zeros has scale 0: all is mapped to zero.

use quotary_decide::forecast::Past;

use crate::error::ContextFault;

/// The version that manifests must name.
pub(crate) const VERSION: u32 = 2;

/// The newest steps, each seen by itself.
const CONTEXT: usize = 96;
/// The steps before them, seen in blocks.
const PAST: usize = 216;
/// What the network can see at most.
pub(crate) const HISTORY: usize = PAST + CONTEXT;
const BLOCK: usize = 6;
const BLOCKS: usize = PAST / BLOCK;
const DAY: usize = 24;
const DAY_BEFORE: usize = 6;
const PEAK_BLOCK: usize = 12;
const PEAK_BLOCKS: usize = HISTORY / PEAK_BLOCK;
const PEAK_QUANTILES: [f64; 3] = [0.5, 0.75, 0.9];
const RISE_QUANTILES: [f64; 4] = [0.5, 0.75, 0.9, 1.0];

/// The sections of the network's input with their lengths, but for the kind of resource, which comes last.
const SECTIONS: [(&str, usize); 8] = [
    ("context", CONTEXT),
    ("context_mask", CONTEXT),
    ("block_means", BLOCKS),
    ("block_maxima", BLOCKS),
    ("block_mask", BLOCKS),
    ("day", DAY),
    ("day_mask", DAY),
    ("statistics", STATISTICS.len()),
];
/// Names of the statistics, in their order; manifests must list them.
pub(crate) const STATISTICS: [&str; 18] = [
    "zero_level",
    "last",
    "minimum",
    "maximum",
    "level",
    "roughness",
    "known",
    "long_minimum",
    "long_maximum",
    "long_mean",
    "long_known",
    "peak_median",
    "peak_p75",
    "peak_p90",
    "rise_median",
    "rise_p75",
    "rise_p90",
    "rise_maximum",
];
/// Values of the input, but for the kind of resource.
pub(crate) const FEATURES: usize = 2 * CONTEXT + 3 * BLOCKS + 2 * DAY + STATISTICS.len();

const MAD_TO_DEVIATION: f64 = 1.4826;
const MEAN_DEVIATION_SHARE: f64 = 0.5;
const LONG_DEVIATION_SHARE: f64 = 0.3;
const MEDIAN_SHARE: f64 = 0.01;
const LEVEL_FACTOR: f64 = 0.3;
/// What is mapped and what comes out is cut here (sinh(10) = 11,013 scales), so that neither can run away.
const MAPPED_LIMIT: f64 = 10.0;
const MAPPED_LIMIT_F32: f32 = 10.0;

/// The sections as a manifest must list them.
pub(crate) fn sections(resources: usize) -> impl Iterator<Item = (&'static str, usize)> {
    SECTIONS.into_iter().chain([("resource", resources)])
}

/// What maps values of one series, and outputs back. Only [`Mapping::write`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    median: f64,
    scale: f64,
    /// 1 / scale, or 0.
    per_scale: f64,
}

impl Mapping {
    /// Writes what the network sees of `past` into `features` (of length [`FEATURES`]) and gives what maps its outputs back.
    ///
    /// # Errors
    /// No value in the context; a value among the newest [`HISTORY`] that is not finite or negative; values too large to calculate with.
    pub(crate) fn write(past: &Past<'_>, features: &mut [f32]) -> Result<Self, ContextFault> {
        let (values, count) = newest(past)?;
        let mapping = Self::of(&values)?;
        let whole = Whole { values: values.map(|value| mapping.map(value)), count };
        let (means, maxima, block_mask) = whole.blocks();
        let (day, day_mask) = whole.day(past.day_steps());
        let statistics = whole.statistics(mapping.map(0.0));
        let known = |value: f64| if value.is_nan() { 0.0 } else { value };
        let all = whole
            .context()
            .iter()
            .map(|value| known(*value))
            .chain(whole.context().iter().map(|value| f64::from(u8::from(!value.is_nan()))))
            .chain(means)
            .chain(maxima)
            .chain(block_mask)
            .chain(day)
            .chain(day_mask)
            .chain(statistics);
        for (place, value) in features.iter_mut().zip(all) {
            *place = single(value);
        }
        Ok(mapping)
    }

    fn of(values: &[f64; HISTORY]) -> Result<Self, ContextFault> {
        let mut known = Known::<CONTEXT>::of(values[PAST..].iter().copied());
        let median = known.median().ok_or(ContextFault::Empty)?;
        let deviation = |value: &f64| (value - median).abs();
        let mut deviations = Known::<CONTEXT>::of(known.values().iter().map(deviation));
        let mean = mean_of(deviations.values().iter().copied(), deviations.count);
        let mad = deviations.median().ok_or(ContextFault::Empty)?;
        let mut long = Known::<HISTORY>::of(values.iter().map(deviation).filter(|deviation| *deviation > 0.0));
        let scale = (MAD_TO_DEVIATION * mad)
            .max(MEAN_DEVIATION_SHARE * mean)
            .max(LONG_DEVIATION_SHARE * long.median().unwrap_or_default())
            .max(MEDIAN_SHARE * median.abs());
        let per_scale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        if scale.is_finite() && per_scale.is_finite() {
            Ok(Self { median, scale, per_scale })
        } else {
            Err(ContextFault::Overflow)
        }
    }

    /// asinh by its logarithm: absolute precision is what the network needs, and this is the fast form. NaN stays NaN.
    fn map(&self, value: f64) -> f64 {
        if value.is_nan() {
            value
        } else {
            // The network calculates in f32; beyond 1e5 scales all is cut anyway.
            let x = single(((value - self.median) * self.per_scale).clamp(-1e5, 1e5));
            f64::from((x.abs() + (x * x + 1.0).sqrt()).ln().min(MAPPED_LIMIT_F32).copysign(x))
        }
    }

    /// Maps one output back to the caller's unit. NaN stays NaN, for the caller to refuse.
    pub(crate) fn restore(&self, output: f32) -> f64 {
        let bounded = f64::from(output).clamp(-MAPPED_LIMIT, MAPPED_LIMIT);
        // sinh, by one exponential.
        let grown = bounded.exp();
        self.median + self.scale * 0.5 * (grown - 1.0 / grown)
    }
}

/// The newest steps with NaN in gaps, and how many are known.
fn newest(past: &Past<'_>) -> Result<([f64; HISTORY], usize), ContextFault> {
    let seen = past.newest(HISTORY);
    let (mut values, mut count) = ([f64::NAN; HISTORY], 0);
    let first = past.values.len() - seen.len();
    for (index, (place, value)) in values.iter_mut().skip(HISTORY - seen.len()).zip(seen).enumerate() {
        let Some(value) = *value else { continue };
        if !quotary_decide::forecast::is_demand(value) {
            return Err(ContextFault::Value { index: first + index, value });
        }
        *place = value;
        count += 1;
    }
    Ok((values, count))
}

/// A whole history, mapped; NaN in gaps.
struct Whole {
    values: [f64; HISTORY],
    count: usize,
}

impl Whole {
    fn context(&self) -> &[f64] {
        &self.values[PAST..]
    }

    fn statistics(&self, zero_level: f64) -> [f64; STATISTICS.len()] {
        let (mut minimum, mut maximum) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut last, mut level, mut change, mut count) = (None, 0.0, 0.0, 0_usize);
        for value in known(self.context()) {
            (minimum, maximum) = (minimum.min(value), maximum.max(value));
            match last {
                None => level = value,
                Some(before) => {
                    level += LEVEL_FACTOR * (value - level);
                    change += f64::abs(value - before);
                }
            }
            (last, count) = (Some(value), count + 1);
        }
        let (low, high, sum) = known(&self.values)
            .fold((f64::INFINITY, f64::NEG_INFINITY, 0.0), |(low, high, sum), value| {
                (low.min(value), high.max(value), sum + value)
            });
        let mut peaks = Known::<PEAK_BLOCKS>::of(self.values.chunks_exact(PEAK_BLOCK).map(maximum_of));
        let [peak_median, peak_p75, peak_p90] = PEAK_QUANTILES.map(|quantile| peaks.at(quantile));
        let (end_level, mut rises) = self.rises();
        let [rise_median, rise_p75, rise_p90, rise_maximum] =
            RISE_QUANTILES.map(|quantile| end_level + rises.at(quantile));
        [
            zero_level,
            last.unwrap_or(0.0),
            minimum,
            maximum,
            level,
            change / count_of(count.saturating_sub(1).max(1)),
            count_of(count) / count_of(CONTEXT),
            low,
            high,
            sum / count_of(self.count.max(1)),
            count_of(self.count) / count_of(HISTORY),
            peak_median,
            peak_p75,
            peak_p90,
            rise_median,
            rise_p75,
            rise_p90,
            rise_maximum,
        ]
    }

    fn blocks(&self) -> ([f64; BLOCKS], [f64; BLOCKS], [f64; BLOCKS]) {
        let (mut means, mut maxima, mut mask) = ([0.0; BLOCKS], [0.0; BLOCKS], [0.0; BLOCKS]);
        for (index, block) in self.values.chunks_exact(BLOCK).take(BLOCKS).enumerate() {
            let count = known(block).count();
            if count > 0 {
                means[index] = known(block).sum::<f64>() / count_of(count);
                maxima[index] = maximum_of(block);
                mask[index] = count_of(count) / count_of(BLOCK);
            }
        }
        (means, maxima, mask)
    }

    /// The day before, around the hour that is forecast.
    fn day(&self, day_steps: Option<usize>) -> ([f64; DAY], [f64; DAY]) {
        let (mut day, mut mask) = ([0.0; DAY], [0.0; DAY]);
        for (index, (place, mask)) in day.iter_mut().zip(&mut mask).enumerate() {
            let at = day_steps.and_then(|steps| (HISTORY + index).checked_sub(steps + DAY_BEFORE));
            let found = at.and_then(|at| self.values.get(at)).filter(|value| !value.is_nan());
            if let Some(value) = found {
                (*place, *mask) = (*value, 1.0);
            }
        }
        (day, mask)
    }

    /// The level now, and by how much each block's peak lay above the level before that block.
    fn rises(&self) -> (f64, Known<PEAK_BLOCKS>) {
        let mut level = f64::NAN;
        let rises = Known::of(self.values.chunks_exact(PEAK_BLOCK).map(|block| {
            let rise = maximum_of(block) - level;
            for value in known(block) {
                level = if level.is_nan() { value } else { level + LEVEL_FACTOR * (value - level) };
            }
            rise
        }));
        (level, rises)
    }
}

fn known(values: &[f64]) -> impl Iterator<Item = f64> {
    values.iter().copied().filter(|value| !value.is_nan())
}

/// Up to `N` known values, without an allocation.
struct Known<const N: usize> {
    values: [f64; N],
    count: usize,
}

impl<const N: usize> Known<N> {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut known = Self { values: [0.0; N], count: 0 };
        for value in values.into_iter().filter(|value| !value.is_nan()) {
            if let Some(place) = known.values.get_mut(known.count) {
                *place = value;
                known.count += 1;
            }
        }
        known
    }

    fn values(&self) -> &[f64] {
        &self.values[..self.count]
    }

    /// The median; halves before adding, so that it cannot overflow. `None` without values.
    fn median(&mut self) -> Option<f64> {
        let upper = self.count / 2;
        let even = self.count.is_multiple_of(2);
        let values = &mut self.values[..self.count];
        if values.is_empty() {
            return None;
        }
        let (below, middle, _) = values.select_nth_unstable_by(upper, f64::total_cmp);
        let middle = *middle;
        let lower = if even { below.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { middle };
        Some(lower / 2.0 + middle / 2.0)
    }

    /// The value at rank floor(quantile (n - 1)); 0 without values.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within few values")]
    fn at(&mut self, quantile: f64) -> f64 {
        let rank = (quantile * count_of(self.count.saturating_sub(1))).floor() as usize;
        let values = &mut self.values[..self.count];
        if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(rank, f64::total_cmp).1 }
    }
}

/// The largest known value; NaN where there is none.
fn maximum_of(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

/// The mean; divides before adding, so that it cannot overflow.
fn mean_of(values: impl Iterator<Item = f64>, count: usize) -> f64 {
    let count = count_of(count.max(1));
    values.map(|value| value / count).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a count of steps is far below 2^53")]
fn count_of(count: usize) -> f64 {
    count as f64
}

/// To the network's precision. Mapped values are small by the choice of scale.
#[expect(clippy::cast_possible_truncation, reason = "the network calculates in f32")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[path = "tests/normaliser.rs"]
mod tests;
