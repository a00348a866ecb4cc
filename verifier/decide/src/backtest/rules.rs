//! The rules that operators use today, re-implemented from their published parameters.

use crate::forecast::{Past, QUANTILE_LEVELS, Quantiles, STEPS, StepRow, between, is_demand};

/// A way to size an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizingRule {
    /// The request of least expected cost from the calibrated forecast.
    Quotary,
    /// The 95 % line of the calibrated forecast's peak over the hour.
    QuotaryPeak95,
    /// The 99 % line of it.
    QuotaryPeak99,
    /// Kubernetes' vertical pod autoscaler: 90 % of a histogram that halves each day, and 15 %.
    Vpa,
    /// Koordinator's peak prediction: 95 % of a histogram that halves each 12 hours, and 10 %.
    Koordinator,
    /// After Autopilot's moving window: 98 % of a histogram that halves each 12 hours, and 10 %.
    AutopilotLike,
    /// The highest of the last day.
    MaximumOfDay,
    /// The highest of the last hour.
    MaximumOfHour,
    /// The highest 99 % line of EWMA's steps.
    EwmaP99,
    /// The highest 99 % line of the seasonal naive steps: the value of a day before and the 99 % line of the errors which that made
    /// on the days before. A series that is too young for such errors (a day and an hour) has no season yet: its last
    /// value and the errors of that stand, the naive rule of no season; and with fewer than 24 points the highest of them.
    SeasonalNaiveP99,
    /// The hour's own peak: nobody can do better without overruns.
    Oracle,
}

impl SizingRule {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::Quotary,
        Self::QuotaryPeak95,
        Self::QuotaryPeak99,
        Self::Vpa,
        Self::Koordinator,
        Self::AutopilotLike,
        Self::MaximumOfDay,
        Self::MaximumOfHour,
        Self::EwmaP99,
        Self::SeasonalNaiveP99,
        Self::Oracle,
    ];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quotary => "quotary",
            Self::QuotaryPeak95 => "quotary-peak-p95",
            Self::QuotaryPeak99 => "quotary-peak-p99",
            Self::Vpa => "vpa-p90",
            Self::Koordinator => "koordinator-p95",
            Self::AutopilotLike => "autopilot-like-p98",
            Self::MaximumOfDay => "max-of-24h",
            Self::MaximumOfHour => "max-of-last-hour",
            Self::EwmaP99 => "ewma-p99",
            Self::SeasonalNaiveP99 => "seasonal-naive-p99",
            Self::Oracle => "oracle",
        }
    }

    /// Whether it is a simple rule: one that is neither ours nor sees the future.
    pub const fn is_simple(self) -> bool {
        !matches!(self, Self::Quotary | Self::QuotaryPeak95 | Self::QuotaryPeak99 | Self::Oracle)
    }
}

/// Steps of a day where the interval does not divide one: as at five minutes.
const DAY_STEPS: usize = 288;
/// Days that histograms look back.
const HISTOGRAM_DAYS: usize = 8;
/// Days that the seasonal rule takes its errors from.
const SEASONAL_DAYS: usize = 4;

/// A rule over a decaying histogram: the quantile, its factor, and the half-life in days.
struct Decaying(f64, f64, f64);

/// The rules that look at the past alone; `None` where nothing is known.
pub(super) fn request(rule: SizingRule, past: &Past<'_>) -> Option<f64> {
    let day = day_steps(past);
    match rule {
        SizingRule::Vpa => decaying(past, day, &Decaying(0.90, 1.15, 1.0)),
        SizingRule::Koordinator => decaying(past, day, &Decaying(0.95, 1.10, 0.5)),
        SizingRule::AutopilotLike => decaying(past, day, &Decaying(0.98, 1.10, 0.5)),
        SizingRule::MaximumOfDay => highest(past.newest(day)),
        SizingRule::MaximumOfHour => highest(past.newest(STEPS)).or_else(|| highest(past.newest(day))),
        _ => None,
    }
}

pub(super) fn day_steps(past: &Past<'_>) -> usize {
    past.day_steps().filter(|steps| *steps > 0).unwrap_or(DAY_STEPS)
}

/// The highest of any step's 99 % line.
pub(super) fn highest_p99(quantiles: &Quantiles) -> f64 {
    quantiles.steps().iter().map(|row| row[QUANTILE_LEVELS.len() - 1]).fold(0.0, f64::max)
}

fn highest(values: &[Option<f64>]) -> Option<f64> {
    values.iter().flatten().copied().filter(|value| is_demand(*value)).reduce(f64::max)
}

fn decaying(past: &Past<'_>, day: usize, rule: &Decaying) -> Option<f64> {
    let Decaying(quantile, factor, half_life_days) = rule;
    #[expect(clippy::cast_precision_loss, reason = "steps of a day")]
    let half_life = half_life_days * day as f64;
    let mut weighted = Vec::new();
    let mut weight = 1.0;
    let fade = 0.5_f64.powf(1.0 / half_life);
    for value in past.newest(day * HISTOGRAM_DAYS).iter().rev() {
        if let Some(value) = value.filter(|value| is_demand(*value)) {
            weighted.push((value, weight));
        }
        weight *= fade;
    }
    weighted.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let whole: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let found = weighted.iter().find(|(_, weight)| {
        sum += weight;
        sum >= quantile * whole
    });
    found.or(weighted.last()).map(|(value, _)| value * factor)
}

/// The seasonal naive rule: what was a day before, with the empirical quantiles of its own errors; `None` where a day before is not
/// known, or too little to take errors from.
pub(super) fn seasonal_naive(past: &Past<'_>) -> Option<Quantiles> {
    let day = day_steps(past);
    let known = |value: Option<f64>| value.filter(|value| is_demand(*value));
    let seen = past.newest(day * SEASONAL_DAYS);
    let later = seen.get(day..)?;
    let mut errors: Vec<f64> =
        later.iter().zip(seen).filter_map(|(later, before)| Some(known(*later)? - known(*before)?)).collect();
    if errors.len() < STEPS {
        return None;
    }
    errors.sort_unstable_by(f64::total_cmp);
    let spread = QUANTILE_LEVELS.map(|level| between(&errors, level));
    let before = past.newest(day);
    let mut rows: [StepRow; STEPS] = [[0.0; QUANTILE_LEVELS.len()]; STEPS];
    let mut last = before.iter().find_map(|value| known(*value))?;
    for (row, value) in rows.iter_mut().zip(before) {
        last = known(*value).unwrap_or(last);
        *row = spread.map(|error| last + error);
    }
    Quantiles::from_raw(rows, [[0.0; 5]; 3])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::units::ResourceKind;

    use super::*;

    fn past(values: &[Option<f64>]) -> Past<'_> {
        Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values }
    }

    #[test]
    fn maxima_look_back_an_hour_or_a_day() {
        let mut values = vec![Some(10.0); 600];
        (values[100], values[400], values[595]) = (Some(900.0), Some(500.0), Some(70.0));
        let of = |rule| request(rule, &past(&values)).unwrap();
        assert!((of(SizingRule::MaximumOfDay) - 500.0).abs() < 1e-9);
        assert!((of(SizingRule::MaximumOfHour) - 70.0).abs() < 1e-9);
    }

    #[test]
    fn decaying_histograms_forget_by_halves() {
        // A day at 100 and then a day at 10: with a half-life of a day the first weighs a third.
        let mut values = vec![Some(100.0); 288];
        values.extend([Some(10.0); 288]);
        let vpa = request(SizingRule::Vpa, &past(&values)).unwrap();
        assert!((vpa - 115.0).abs() < 1e-9, "{vpa}");
        // Four days later it weighs less than a tenth.
        values.extend([Some(10.0); 3 * 288]);
        let vpa = request(SizingRule::Vpa, &past(&values)).unwrap();
        assert!((vpa - 11.5).abs() < 1e-9, "{vpa}");
        assert!(request(SizingRule::Vpa, &past(&[None; 20])).is_none());
    }

    #[test]
    fn the_seasonal_rule_says_what_was_a_day_before() {
        let values: Vec<_> = (0..3 * 288).map(|i| Some(f64::from(i % 288))).collect();
        let quantiles = seasonal_naive(&past(&values)).unwrap();
        for (step, row) in quantiles.steps().iter().enumerate() {
            assert!(row.iter().all(|value| (value - step as f64).abs() < 1e-9), "{step}: {row:?}");
        }
        assert!(seasonal_naive(&past(&values[..290])).is_none());
    }
}
