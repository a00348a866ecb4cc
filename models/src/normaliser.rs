//! Normaliser, version 2: from a series' past to what the network sees, and back. `training/normaliser.py` is the same in Python;
//! `parity.json` holds both together.
//!
//! A value is mapped by asinh((x - median) / scale), with median and MAD over the known values of the context (the newest 96 steps)
//! and scale = max(1.4826 MAD, 0.5 mean absolute deviation, 0.3 median of the deviations in all 312 steps that are not 0, 0.01 |median|).
//! Multiplying a series multiplies median and scale and leaves mapped values as they are. Mapped values are cut at 10, so that one absurd
//! value before the context blinds the model to nothing but itself; within the context it does for as long as it is there. A past of zeros has scale 0: all is mapped to zero.

use quotary_decide::forecast::{Past, is_demand};

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
const LEVEL_FACTOR: f32 = 0.3;
/// What is mapped and what comes out is cut here (sinh(10) = 11,013 scales), so that neither can run away.
const MAPPED_LIMIT: f32 = 10.0;

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
        write(past, features)
    }

    #[inline(always)]
    fn write_here(past: &Past<'_>, features: &mut [f32]) -> Result<Self, ContextFault> {
        let values = newest(past)?;
        let mapping = Self::of(&values)?;
        let whole = Whole::new(mapping.mapped(&values));
        let mut rest = features;
        let mut section = |length: usize| -> &mut [f32] {
            let (section, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            section
        };
        section(CONTEXT).copy_from_slice(&whole.values[PAST..]);
        section(CONTEXT).copy_from_slice(&whole.known[PAST..]);
        let (means, maxima, mask) = (section(BLOCKS), section(BLOCKS), section(BLOCKS));
        whole.blocks(means, maxima, mask);
        let (day, day_mask) = (section(DAY), section(DAY));
        whole.day(past.day_steps(), day, day_mask);
        section(STATISTICS.len()).copy_from_slice(&whole.statistics(mapping.mapped(&[0.0])[0]));
        Ok(mapping)
    }

    #[inline(always)]
    fn of(values: &[f64; HISTORY]) -> Result<Self, ContextFault> {
        let mut near = Ordered::<CONTEXT>::of(&values[PAST..], |value| !value.is_nan());
        let median = near.median().ok_or(ContextFault::Empty)?;
        let mut deviations = [0.0; HISTORY];
        for (deviation, value) in deviations.iter_mut().zip(values) {
            *deviation = (value - median).abs();
        }
        let mut near = Ordered::<CONTEXT>::of(&deviations[PAST..], |deviation| !deviation.is_nan());
        let (mean, mad) = (near.mean(), near.median().ok_or(ContextFault::Empty)?);
        // What did not move is left out as gaps are.
        let long = Ordered::<HISTORY>::of(&deviations, |deviation| deviation > 0.0).median().unwrap_or_default();
        let scale = (MAD_TO_DEVIATION * mad)
            .max(MEAN_DEVIATION_SHARE * mean)
            .max(LONG_DEVIATION_SHARE * long)
            .max(MEDIAN_SHARE * median.abs());
        let per_scale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        if scale.is_finite() && per_scale.is_finite() {
            Ok(Self { median, scale, per_scale })
        } else {
            Err(ContextFault::Overflow)
        }
    }

    /// asinh by its logarithm, to the network's precision: absolute precision is what it needs. NaN stays NaN.
    #[inline(always)]
    fn mapped<const N: usize>(&self, values: &[f64; N]) -> [f32; N] {
        let mut mapped = [0.0; N];
        // Loops over slices: compilers do several steps at once, which they do not for `map` of long arrays.
        for (place, value) in mapped.iter_mut().zip(values) {
            // Beyond 1e5 scales all is cut anyway.
            *place = single(((value - self.median) * self.per_scale).clamp(-1e5, 1e5));
        }
        let mut sizes = mapped;
        for size in &mut sizes {
            *size = size.abs() + (*size * *size + 1.0).sqrt();
        }
        for size in &mut sizes {
            *size = ln(*size);
        }
        for (place, size) in mapped.iter_mut().zip(sizes) {
            let cut = if size > MAPPED_LIMIT { MAPPED_LIMIT } else { size };
            *place = if place.is_nan() { *place } else { cut.copysign(*place) };
        }
        mapped
    }

    /// Maps outputs back to the caller's unit. NaN stays NaN, for the caller to refuse.
    pub(crate) fn restore<const LEVELS: usize, const ROWS: usize>(
        &self,
        mut outputs: [[f32; LEVELS]; ROWS],
    ) -> [[f64; LEVELS]; ROWS] {
        let mut restored = [[0.0; LEVELS]; ROWS];
        restore(self, outputs.as_flattened_mut(), restored.as_flattened_mut());
        restored
    }
}

// Both are compiled once more for the wide registers of newer processors; the numbers are the same. It is not for width alone: tract's kernels
// leave the upper halves of those registers in use, and narrow instructions after them take three times as long as else (measured: 1.6 µs in
// place of 0.5 to put a forecast back).

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn write<'a>(past: &Past<'a>, features: &mut [f32]) -> Result<Mapping, ContextFault> {
    Mapping::write_here(past, features)
}

#[multiversion::multiversion(targets("x86_64+avx2"))]
fn restore(mapping: &Mapping, outputs: &mut [f32], restored: &mut [f64]) {
    for value in outputs.iter_mut() {
        *value = exp(value.clamp(-MAPPED_LIMIT, MAPPED_LIMIT));
    }
    for (place, grown) in restored.iter_mut().zip(outputs.iter()) {
        // sinh, by one exponential, to the network's precision.
        *place = mapping.median + mapping.scale * f64::from(0.5 * (grown - 1.0 / grown));
    }
}

/// e to the power of a number from -10 to 10, to some 2e-7 of it; NaN stays NaN. In steps that a compiler can do for many numbers at once, as
/// [`ln`]: whole powers of two by the exponent's bits, the rest by the series.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added and taken away again, it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, so that the rest is exact (Cody and Waite 1980).
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let doublings = shifted - ROUND;
    let rest = x - doublings * LN_2_HIGH - doublings * LN_2_LOW;
    let series = 1.0 / 120.0 + rest * (1.0 / 720.0 + rest / 5040.0);
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * series))));
    // The low bits of what was rounded are the whole number.
    series * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The natural logarithm of a number from 1 to 1e6, to some 1e-7. In steps that a compiler can do for many numbers at once: the library's
/// took a third of the normaliser's time. Halving to the mantissa, then the series of (1 + z) / (1 - z) (Abramowitz and Stegun 4.1.27).
#[inline(always)]
fn ln(x: f32) -> f32 {
    let bits = x.to_bits().cast_signed();
    // The exponent relative to a mantissa in sqrt(1/2) to sqrt(2). Signed, since processors turn signed numbers into floats at once.
    let exponent = bits.wrapping_sub(0x3f35_04f3) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub(exponent << 23).cast_unsigned());
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = square * (square * (square * (square / 9.0 + 1.0 / 7.0) + 1.0 / 5.0) + 1.0 / 3.0);
    #[expect(clippy::cast_precision_loss, reason = "at most 20")]
    let halvings = exponent as f32;
    halvings * std::f32::consts::LN_2 + 2.0 * z * (series + 1.0)
}

/// The newest steps with NaN in gaps.
#[inline(always)]
fn newest(past: &Past<'_>) -> Result<[f64; HISTORY], ContextFault> {
    let seen = past.newest(HISTORY);
    let mut values = [f64::NAN; HISTORY];
    let mut is_sound = true;
    for (place, value) in values[HISTORY - seen.len()..].iter_mut().zip(seen) {
        // Without a branch: a gap is NaN, and only a value that is there can be unsound.
        *place = value.unwrap_or(f64::NAN);
        is_sound &= value.is_none() | is_demand(*place);
    }
    if is_sound {
        return Ok(values);
    }
    let first = past.values.len() - seen.len();
    let unsound =
        seen.iter().enumerate().find_map(|(at, value)| value.filter(|value| !is_demand(*value)).map(|v| (at, v)));
    let (at, value) = unsound.unwrap_or_default();
    Err(ContextFault::Value { index: first + at, value })
}

/// A whole history, mapped.
struct Whole {
    /// 0 in gaps.
    values: [f32; HISTORY],
    /// 1 where there is a value, 0 in gaps.
    known: [f32; HISTORY],
    /// Minus infinity in gaps.
    for_maxima: [f32; HISTORY],
    /// Infinity in gaps.
    for_minima: [f32; HISTORY],
}

impl Whole {
    /// From mapped values with NaN in gaps.
    #[inline(always)]
    fn new(values: [f32; HISTORY]) -> Self {
        Self {
            values: filled(&values, 0.0),
            known: std::array::from_fn(|at| if values[at].is_nan() { 0.0 } else { 1.0 }),
            for_maxima: filled(&values, f32::NEG_INFINITY),
            for_minima: filled(&values, f32::INFINITY),
        }
    }

    fn pairs(&self, from: usize) -> impl Iterator<Item = f32> {
        let pairs = self.values[from..].iter().zip(&self.known[from..]);
        pairs.filter(|(_, known)| **known > 0.0).map(|(value, _)| *value)
    }

    #[inline(always)]
    fn statistics(&self, zero_level: f32) -> [f32; STATISTICS.len()] {
        let (mut last, mut level, mut change) = (None, 0.0, 0.0);
        for value in self.pairs(PAST) {
            match last {
                None => level = value,
                Some(before) => {
                    level += LEVEL_FACTOR * (value - level);
                    change += f32::abs(value - before);
                }
            }
            last = Some(value);
        }
        let (near_count, count) = (sum(&self.known[PAST..]), sum(&self.known));
        let peaks: [f32; PEAK_BLOCKS] =
            std::array::from_fn(|at| maximum(&self.for_maxima[at * PEAK_BLOCK..][..PEAK_BLOCK]));
        let (end_level, rises) = self.rises(&peaks);
        let [peak_median, peak_p75, peak_p90] = quantiles(peaks, PEAK_QUANTILES);
        let [rise_median, rise_p75, rise_p90, rise_maximum] =
            quantiles(rises, RISE_QUANTILES).map(|rise| end_level + rise);
        [
            zero_level,
            last.unwrap_or_default(),
            minimum(&self.for_minima[PAST..]),
            maximum(&self.for_maxima[PAST..]),
            level,
            change / (near_count - 1.0).max(1.0),
            near_count / count_of(CONTEXT),
            minimum(&self.for_minima),
            maximum(&self.for_maxima),
            sum(&self.values) / count.max(1.0),
            count / count_of(HISTORY),
            peak_median,
            peak_p75,
            peak_p90,
            rise_median,
            rise_p75,
            rise_p90,
            rise_maximum,
        ]
    }

    #[inline(always)]
    fn blocks(&self, means: &mut [f32], maxima: &mut [f32], mask: &mut [f32]) {
        for (at, ((mean, most), share)) in means.iter_mut().zip(maxima).zip(mask).enumerate() {
            let block = at * BLOCK..(at + 1) * BLOCK;
            let count = sum(&self.known[block.clone()]);
            if count > 0.0 {
                *mean = sum(&self.values[block.clone()]) / count;
                *most = maximum(&self.for_maxima[block]);
                *share = count / count_of(BLOCK);
            }
        }
    }

    /// The day before, around the hour that is forecast.
    #[inline(always)]
    fn day(&self, day_steps: Option<usize>, day: &mut [f32], mask: &mut [f32]) {
        for (index, (place, mask)) in day.iter_mut().zip(mask).enumerate() {
            let at = day_steps.and_then(|steps| (HISTORY + index).checked_sub(steps + DAY_BEFORE));
            if let Some(at) = at.filter(|at| *at < HISTORY) {
                (*place, *mask) = (self.values[at], self.known[at]);
            }
        }
    }

    /// The level now, and by how much each block's peak lay above the level before that block; NaN where either is not known.
    #[inline(always)]
    fn rises(&self, peaks: &[f32; PEAK_BLOCKS]) -> (f32, [f32; PEAK_BLOCKS]) {
        let mut level = f32::NAN;
        let mut rises = [f32::NAN; PEAK_BLOCKS];
        for (at, (rise, peak)) in rises.iter_mut().zip(peaks).enumerate() {
            *rise = peak - level;
            let block = at * PEAK_BLOCK..(at + 1) * PEAK_BLOCK;
            let (values, known) = (&self.values[block.clone()], &self.known[block]);
            if !level.is_nan() && sum(known) >= count_of(PEAK_BLOCK) {
                // The same as step by step, but no step waits for the one before.
                let mut weighed = BLOCK_WEIGHTS;
                weighed.iter_mut().zip(values).for_each(|(weight, value)| *weight *= value);
                level = level * BLOCK_FADE + sum(&weighed);
                continue;
            }
            for (value, known) in values.iter().zip(known) {
                if *known > 0.0 {
                    level = if level.is_nan() { *value } else { level + LEVEL_FACTOR * (value - level) };
                }
            }
        }
        (level, rises)
    }
}

/// What a block's values count in the level after it, and what is left of the level before it.
const BLOCK_WEIGHTS: [f32; PEAK_BLOCK] = {
    let mut weights = [LEVEL_FACTOR; PEAK_BLOCK];
    let mut at = PEAK_BLOCK - 1;
    while at > 0 {
        weights[at - 1] = weights[at] * (1.0 - LEVEL_FACTOR);
        at -= 1;
    }
    weights
};
const BLOCK_FADE: f32 = BLOCK_WEIGHTS[0] / LEVEL_FACTOR * (1.0 - LEVEL_FACTOR);

/// Values at rank floor(quantile (n - 1)) of those that are finite; 0 without any.
#[inline(always)]
fn quantiles<const N: usize>(mut values: [f32; PEAK_BLOCKS], at: [f64; N]) -> [f32; N] {
    // What is not known goes to the end.
    values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = f32::INFINITY);
    values.sort_unstable_by(f32::total_cmp);
    let count = values.iter().filter(|value| value.is_finite()).count();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "few values"
    )]
    let rank = |quantile: f64| (quantile * count.saturating_sub(1) as f64).floor() as usize;
    at.map(|quantile| if count > 0 { values[rank(quantile)] } else { 0.0 })
}

/// Up to `N` known values, none negative, by their bits: such numbers are ordered as their bits are.
struct Ordered<const N: usize> {
    bits: [u64; N],
    count: usize,
}

impl<const N: usize> Ordered<N> {
    #[inline(always)]
    fn of(values: &[f64], keep: impl Fn(f64) -> bool) -> Self {
        let mut ordered = Self { bits: [0; N], count: 0 };
        for value in values.iter().take(N) {
            // Without a branch: what is not kept is written over.
            ordered.bits[ordered.count.min(N - 1)] = (value + 0.0).to_bits();
            ordered.count += usize::from(keep(*value));
        }
        ordered
    }

    /// The mean; divides before adding, so that it cannot overflow.
    #[inline(always)]
    fn mean(&self) -> f64 {
        let share = 1.0 / f64::from(count_of(self.count.max(1)));
        self.bits[..self.count].iter().map(|bits| f64::from_bits(*bits) * share).sum()
    }

    /// The median; halves before adding, so that it cannot overflow. `None` without values.
    fn median(&mut self) -> Option<f64> {
        let (upper, even) = (self.count / 2, self.count.is_multiple_of(2));
        let bits = &mut self.bits[..self.count];
        if bits.is_empty() {
            return None;
        }
        let (below, middle, _) = bits.select_nth_unstable(upper);
        let middle = *middle;
        let lower = if even { below.iter().copied().max().unwrap_or(middle) } else { middle };
        Some(f64::from_bits(lower) / 2.0 + f64::from_bits(middle) / 2.0)
    }
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    side_by_side(values, 0.0, |sum, value| sum + value)
}

/// Folds four chains side by side: one would wait for each step before.
#[inline(always)]
fn side_by_side(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut chains = [start; 4];
    let chunks = values.chunks_exact(4);
    let rest = chunks.remainder().iter().fold(start, |chain, value| step(chain, *value));
    for chunk in chunks {
        for (chain, value) in chains.iter_mut().zip(chunk) {
            *chain = step(*chain, *value);
        }
    }
    chains.into_iter().fold(rest, step)
}

#[inline(always)]
fn filled(values: &[f32; HISTORY], gap: f32) -> [f32; HISTORY] {
    let mut filled = *values;
    for value in &mut filled {
        *value = if value.is_nan() { gap } else { *value };
    }
    filled
}

#[inline(always)]
fn minimum(values: &[f32]) -> f32 {
    side_by_side(values, f32::INFINITY, |least, value| if value < least { value } else { least })
}

#[inline(always)]
fn maximum(values: &[f32]) -> f32 {
    side_by_side(values, f32::NEG_INFINITY, |most, value| if value > most { value } else { most })
}

#[expect(clippy::cast_precision_loss, reason = "a count of steps is far below 2^24")]
fn count_of(count: usize) -> f32 {
    count as f32
}

/// To the network's precision. Mapped values are small by the choice of scale.
#[expect(clippy::cast_possible_truncation, reason = "the network calculates in f32")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[path = "tests/normaliser.rs"]
mod tests;
