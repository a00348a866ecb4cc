//! Normaliser, version 1: takes a series' unit and level away before the network and puts them back behind it.
//!
//! The same as `training/normaliser.py`; `parity.json` holds both together. Values are mapped by asinh((x - median) / scale) with
//! scale = max(1.4826 · MAD, 0.5 · mean absolute deviation, 0.01 · |median|) over the context's valid values. The second term serves
//! series that are mostly zero (MAD 0), the third constant ones. Multiplying a series by c > 0 multiplies median and scale by c and
//! leaves the mapped values alone. Zeros only: scale 0, mapped to zeros, forecast zero.

use crate::error::ContextFault;

/// The version that manifests must name.
pub(crate) const VERSION: u32 = 1;
/// Names of the statistics, in their order in [`Mapped::statistics`]; manifests must list them.
pub(crate) const STATISTICS: [&str; 4] = ["zero_level", "last", "minimum", "maximum"];

const MAD_TO_DEVIATION: f64 = 1.4826;
const MEAN_DEVIATION_SHARE: f64 = 0.5;
const MEDIAN_SHARE: f64 = 0.01;
/// Outputs beyond this (sinh(10) = 11,013 scales) are cut, so that mapping back cannot run away.
const MAPPED_LIMIT: f64 = 10.0;

/// A mapped context and what maps outputs back. Only [`Mapped::from_context`] makes one.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Mapped values, oldest first, 0 in gaps; as long as the model's context.
    pub(crate) context: Vec<f32>,
    /// 1 where there is a value, 0 in gaps.
    pub(crate) mask: Vec<f32>,
    /// Mapped zero, last valid, smallest and largest value.
    pub(crate) statistics: [f32; 4],
    median: f64,
    scale: f64,
}

impl Mapped {
    /// Maps the last `context_steps` of `context` (oldest first, `None` = gap), with gaps before it if it is shorter.
    ///
    /// # Errors
    /// No value among those steps; a value that is not finite or negative; values too large to calculate with.
    pub(crate) fn from_context(context: &[Option<f64>], context_steps: usize) -> Result<Self, ContextFault> {
        let first = context.len().saturating_sub(context_steps);
        let seen = context.get(first..).unwrap_or_default();
        let mut values = Vec::with_capacity(seen.len());
        for (offset, value) in seen.iter().enumerate() {
            if let Some(value) = *value {
                if !value.is_finite() || value < 0.0 {
                    return Err(ContextFault::Value { index: first + offset, value });
                }
                values.push(value);
            }
        }
        let (median, scale) = location_and_scale(&values)?;

        let map = |value: f64| {
            if scale > 0.0 { ((value - median) / scale).asinh() } else { 0.0 }
        };
        let padding = context_steps - seen.len();
        let mut mapped = Self {
            context: vec![0.0; context_steps],
            mask: vec![0.0; context_steps],
            statistics: [0.0; 4],
            median,
            scale,
        };
        let (mut last, mut minimum, mut maximum) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        let places = mapped.context.iter_mut().zip(&mut mapped.mask).skip(padding);
        for ((place, mask), value) in places.zip(seen) {
            if let Some(value) = *value {
                last = map(value);
                minimum = f64::min(minimum, last);
                maximum = f64::max(maximum, last);
                *place = single(last);
                *mask = 1.0;
            }
        }
        mapped.statistics = [single(map(0.0)), single(last), single(minimum), single(maximum)];
        Ok(mapped)
    }

    /// Maps one output back to the caller's unit; never negative. NaN stays NaN, for the caller to refuse.
    pub(crate) fn restore(&self, output: f32) -> f64 {
        let value = self.median + self.scale * f64::from(output).clamp(-MAPPED_LIMIT, MAPPED_LIMIT).sinh();
        if value < 0.0 { 0.0 } else { value }
    }
}

/// Median and scale of the valid values.
fn location_and_scale(values: &[f64]) -> Result<(f64, f64), ContextFault> {
    let median = median(values.to_vec()).ok_or(ContextFault::Empty)?;
    let deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    #[expect(clippy::cast_precision_loss, reason = "a count of context steps is far below 2^53")]
    let count = values.len() as f64;
    let mean: f64 = deviations.iter().map(|deviation| deviation / count).sum();
    let mad = self::median(deviations).ok_or(ContextFault::Empty)?;
    let scale = (MAD_TO_DEVIATION * mad).max(MEAN_DEVIATION_SHARE * mean).max(MEDIAN_SHARE * median.abs());
    if scale.is_finite() { Ok((median, scale)) } else { Err(ContextFault::Overflow) }
}

/// The median; halves before adding, so that it cannot overflow. `None` without values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let lower = values.get(values.len().checked_sub(1)? / 2)?;
    let upper = values.get(values.len() / 2)?;
    Some(lower / 2.0 + upper / 2.0)
}

/// To the network's precision. Mapped values are below 10 in size by the choice of scale.
#[expect(clippy::cast_possible_truncation, reason = "the network calculates in f32")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_known_context_maps_to_known_numbers() {
        // median 3, MAD 1, mean absolute deviation 18.8 / 5 … = (2+1+0+1+97)/5 = 20.2, so scale = 10.1.
        let mapped = Mapped::from_context(&context(&[1.0, 2.0, 3.0, 4.0, 100.0]), 6).unwrap();
        assert_eq!(mapped.mask, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(mapped.context[0], 0.0);
        assert!((mapped.context[1] - single((-2.0_f64 / 10.1).asinh())).abs() < 1e-7);
        assert!((mapped.context[5] - single((97.0_f64 / 10.1).asinh())).abs() < 1e-6);
        assert_eq!(mapped.context[3], 0.0);
    }

    #[test]
    fn gaps_are_masked_and_do_not_count() {
        let mapped = Mapped::from_context(&[Some(5.0), None, Some(7.0)], 3).unwrap();
        assert_eq!(mapped.mask, [1.0, 0.0, 1.0]);
        assert_eq!(mapped.context[1], 0.0);
        assert!((mapped.median - 6.0).abs() < 1e-12);
    }

    #[test]
    fn only_the_last_steps_count() {
        let long: Vec<f64> = (0..50).map(f64::from).collect();
        let all = Mapped::from_context(&context(&long), 10).unwrap();
        let tail = Mapped::from_context(&context(&long[40..]), 10).unwrap();
        assert_eq!(all.context, tail.context);
    }

    #[test]
    fn zeros_map_to_zero_and_back_to_zero() {
        let mapped = Mapped::from_context(&context(&[0.0; 8]), 8).unwrap();
        assert_eq!(mapped.context, vec![0.0; 8]);
        assert_eq!(mapped.statistics, [0.0; 4]);
        assert!(mapped.restore(9.0).abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn a_constant_series_has_a_hundredth_as_scale() {
        let mapped = Mapped::from_context(&context(&[400.0; 8]), 8).unwrap();
        assert!((mapped.scale - 4.0).abs() < 1e-12);
        assert!((mapped.restore(0.0) - 400.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_demand_is_refused_with_its_index() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            let fault = Mapped::from_context(&[None, Some(1.0), Some(bad)], 2).unwrap_err();
            assert!(matches!(fault, ContextFault::Value { index: 2, .. }), "{bad}: {fault:?}");
        }
        assert_eq!(Mapped::from_context(&[None, None], 4).unwrap_err(), ContextFault::Empty);
        assert_eq!(Mapped::from_context(&[], 4).unwrap_err(), ContextFault::Empty);
        assert_eq!(Mapped::from_context(&[Some(1.0), None, None], 2).unwrap_err(), ContextFault::Empty);
    }

    #[test]
    fn values_near_the_end_of_the_number_range_are_refused_or_finite() {
        match Mapped::from_context(&context(&[f64::MAX, 0.0, f64::MAX, 0.0, f64::MAX]), 8) {
            Ok(mapped) => assert!(mapped.context.iter().all(|value| value.is_finite())),
            Err(fault) => assert_eq!(fault, ContextFault::Overflow),
        }
    }

    proptest! {
        #[test]
        fn what_was_mapped_comes_back(values in prop::collection::vec(0.0..1e12_f64, 1..20)) {
            let mapped = Mapped::from_context(&context(&values), values.len()).unwrap();
            for (value, output) in values.iter().zip(&mapped.context) {
                prop_assert!((mapped.restore(*output) - value).abs() <= 1e-5 * (value + mapped.scale));
            }
        }

        #[test]
        fn the_unit_leaves_no_trace(values in prop::collection::vec(0.0..1e6_f64, 1..20), exponent in -20..40_i32) {
            let factor = 2.0_f64.powi(exponent);
            let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
            let one = Mapped::from_context(&context(&values), 20).unwrap();
            let other = Mapped::from_context(&context(&scaled), 20).unwrap();
            prop_assert_eq!(&one.context, &other.context);
            prop_assert_eq!(one.statistics, other.statistics);
        }

        #[test]
        fn mapped_values_are_bounded(values in prop::collection::vec(prop::option::of(0.0..1e300_f64), 1..200)) {
            if let Ok(mapped) = Mapped::from_context(&values, 96) {
                prop_assert!(mapped.context.iter().chain(&mapped.statistics).all(|value| value.abs() < 7.0));
            }
        }
    }
}
