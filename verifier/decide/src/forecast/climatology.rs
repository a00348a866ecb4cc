//! Climatology: what usually was, where nothing better is known, and the same hour of past days for long delay windows.

use super::ewma::between;
use super::past::is_demand;
use super::quantiles::{PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, Quantiles, STEPS, StepRow};

/// Hours ahead at most: a week.
pub const HOURS_MAX: usize = 168;

const DAY_HOURS: usize = 24;

/// The empirical quantiles of points, the same for every step; a peak over n steps takes the levels of the largest of n independent
/// points (level^(1/n)), which is the cautious side for points that follow each other. `None` without points.
pub(super) fn climatology(points: &[f64]) -> Option<Quantiles> {
    let mut points: Vec<f64> = points.iter().copied().filter(|point| is_demand(*point)).collect();
    if points.is_empty() {
        return None;
    }
    points.sort_unstable_by(f64::total_cmp);
    let steps = [QUANTILE_LEVELS.map(|level| between(&points, level)); STEPS];
    let of_largest = |steps: usize| {
        #[expect(clippy::cast_precision_loss, reason = "at most twelve")]
        let count = steps as f64;
        PEAK_LEVELS.map(|level| between(&points, level.powf(1.0 / count)))
    };
    Quantiles::from_raw(steps, PEAK_STEPS.map(of_largest))
}

/// Quantiles of demand for each of the next `ahead` hours (at most [`HOURS_MAX`]) from hourly points, oldest first, the newest last:
/// those of the same hour of the days before and of its neighbours. An hour of which none is known takes all hours. `None` where no hour
/// is known.
///
/// The seasonal rule of long horizons: 5-minute models say nothing of tomorrow.
pub fn hourly(hours: &[Option<f64>], ahead: usize) -> Option<Vec<StepRow>> {
    let known = |at: usize| hours.get(at).copied().flatten().filter(|value| is_demand(*value));
    let mut all: Vec<f64> = (0..hours.len()).filter_map(known).collect();
    if all.is_empty() {
        return None;
    }
    all.sort_unstable_by(f64::total_cmp);
    let row = |hour: usize| {
        // Index of the hour that is forecast, were it known.
        let target = hours.len() + hour;
        let mut same: Vec<f64> = (1..)
            .map_while(|days| target.checked_sub(days * DAY_HOURS))
            .flat_map(|at| [at.checked_sub(1), Some(at), at.checked_add(1)])
            .flatten()
            .filter_map(known)
            .collect();
        if same.is_empty() {
            return QUANTILE_LEVELS.map(|level| between(&all, level));
        }
        same.sort_unstable_by(f64::total_cmp);
        QUANTILE_LEVELS.map(|level| between(&same, level))
    };
    Some((0..ahead.min(HOURS_MAX)).map(row).collect())
}

/// Quantiles of demand for each of the next `ahead` hours (at most [`HOURS_MAX`]) by what history keeps of a series: its `hours`, and its newest
/// `steps` of `interval_s` seconds each, oldest first. `None` where no hour is known.
pub fn hours_ahead(
    hours: &[Option<f64>],
    steps: &[Option<f64>],
    interval_s: u64,
    ahead: usize,
) -> Option<Vec<StepRow>> {
    Some(of_steps(&hourly(hours, ahead)?, steps, interval_s))
}

/// Hourly quantiles are of hours' means, and know nothing of how today differs from the days before. Gives quantiles of steps, hour by hour,
/// from them and from the newest `steps` (of `interval_s` seconds, the last one ends where the first hour begins or in it): each hour's quantiles
/// with how steps lay about the means of their hours, as if one had nothing to do with the other; and the steps of the last day as they
/// were, which count for much in the next hours and fade over days. Without a whole hour of known steps the hours stand.
fn of_steps(hours: &[StepRow], steps: &[Option<f64>], interval_s: u64) -> Vec<StepRow> {
    let per_hour = HOUR_S.checked_div(interval_s).and_then(|steps| usize::try_from(steps).ok()).unwrap_or_default();
    let known = |steps: &[Option<f64>]| -> Vec<f64> {
        steps.iter().copied().flatten().filter(|value| is_demand(*value)).collect()
    };
    let mut about: Vec<f64> = Vec::new();
    for hour in steps.rchunks_exact(per_hour.max(1)) {
        let known = known(hour);
        #[expect(clippy::cast_precision_loss, reason = "steps of an hour")]
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        if known.len() == hour.len() {
            about.extend(known.iter().map(|value| value - mean));
        }
    }
    if per_hour < 2 || about.is_empty() {
        return hours.to_vec();
    }
    about.sort_unstable_by(f64::total_cmp);
    let about = PARTS.map(|level| between(&about, level));
    let mut last_day = known(steps.get(steps.len().saturating_sub(per_hour * DAY_HOURS)..).unwrap_or_default());
    last_day.sort_unstable_by(f64::total_cmp);
    let last_day = PARTS.map(|level| between(&last_day, level));
    let mut weight = 1.0;
    let row = |hour: &StepRow| {
        weight *= LAST_DAY_FADES;
        let usual = PARTS.map(|level| within(hour, level));
        #[expect(clippy::cast_precision_loss, reason = "twenty")]
        let count = PARTS.len() as f64;
        let sums =
            usual.iter().flat_map(|mean| about.map(|off| ((mean + off).max(0.0), (1.0 - weight) / count / count)));
        let mut points: Vec<(f64, f64)> = sums.chain(last_day.map(|value| (value, weight / count))).collect();
        points.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        weighted(&points)
    };
    hours.iter().map(row).collect()
}

/// The quantiles of sorted points with weights, which are 1 in all: the first point at which enough lies at or below it.
fn weighted(points: &[(f64, f64)]) -> StepRow {
    let (mut at, mut below) = (0, 0.0);
    QUANTILE_LEVELS.map(|level| {
        while let Some((_, weight)) =
            points.get(at).filter(|(_, weight)| below + weight < level && at + 1 < points.len())
        {
            below += weight;
            at += 1;
        }
        points.get(at).map_or(0.0, |(value, _)| *value)
    })
}

const HOUR_S: u64 = 3600;
/// What the last day counts an hour later: e-fold in a day. Chosen on the traces' training part, as that it is mixed in at all.
const LAST_DAY_FADES: f64 = 0.96;
/// Levels of parts that are alike, for sums and mixtures of distributions.
const PARTS: [f64; 20] = [
    0.025, 0.075, 0.125, 0.175, 0.225, 0.275, 0.325, 0.375, 0.425, 0.475, 0.525, 0.575, 0.625, 0.675, 0.725, 0.775,
    0.825, 0.875, 0.925, 0.975,
];

/// The quantile of a row at any level, linear between its own; the ends beyond them.
fn within(row: &StepRow, level: f64) -> f64 {
    let above = QUANTILE_LEVELS.partition_point(|one| *one < level);
    match (above.checked_sub(1), row.get(above)) {
        (Some(below), Some(high)) => {
            let (from, to) = (QUANTILE_LEVELS[below], QUANTILE_LEVELS[above]);
            row[below] + (high - row[below]) * (level - from) / (to - from)
        }
        (None, _) => row[0],
        (Some(below), None) => row[below],
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::quantiles::MEDIAN;
    use super::*;

    #[test]
    fn a_step_goes_as_far_about_its_hour_as_steps_did_lately_and_the_last_day_fades() {
        let hours = [QUANTILE_LEVELS.map(|level| 100.0 + level); 168];
        let lately: Vec<_> = (0..48).map(|step| Some(if step % 12 < 2 { 65.0 } else { 10.0 })).collect();
        let rows = of_steps(&hours, &lately, 300);
        assert!(rows.iter().flatten().all(|value| *value >= 10.0) && rows.iter().all(|row| row.is_sorted()));
        // The next hour is as the last day was.
        assert!((rows[0][MEDIAN] - 10.0).abs() < 0.5 && (rows[0][8] - 65.0).abs() < 0.5, "{:?}", rows[0]);
        // A week from now is as it usually is. The mean of the hours lately is 19.2: most steps lie 9.2 below it, a sixth 45.8 above.
        let far = rows[167];
        assert!((far[MEDIAN] - 91.3).abs() < 1.0 && (far[8] - 146.2).abs() < 1.0, "{far:?}");
        let known_too_little = [Some(1.0), None];
        assert_eq!(of_steps(&hours, &known_too_little, 300), hours);
        assert_eq!(of_steps(&hours, &[Some(f64::NAN); 24], 300), hours);
        assert_eq!(of_steps(&hours, &lately, 3600), hours);
        assert_eq!(of_steps(&hours, &lately, 0), hours);
    }

    #[test]
    fn one_point_is_all_there_is_to_say() {
        let quantiles = climatology(&[7.0]).unwrap();
        assert!(
            quantiles
                .steps()
                .iter()
                .flatten()
                .chain(quantiles.peaks().iter().flatten())
                .all(|v| (v - 7.0).abs() < 1e-12)
        );
        assert!(climatology(&[]).is_none());
        assert!(climatology(&[f64::NAN, -1.0, f64::INFINITY]).is_none());
    }

    #[test]
    fn peaks_lie_above_steps() {
        let points: Vec<f64> = (0..101).map(f64::from).collect();
        let quantiles = climatology(&points).unwrap();
        assert!((quantiles.steps()[3][4] - 50.0).abs() < 1e-9);
        assert!(quantiles.longest_peak()[0] > 90.0);
    }

    #[test]
    fn tomorrow_looks_like_the_same_hour_of_the_days_before() {
        let hours: Vec<_> = (0..5 * 24).map(|hour| Some(if hour % 24 == 3 { 900.0 } else { 100.0 })).collect();
        let rows = hourly(&hours, 48).unwrap();
        assert_eq!(rows.len(), 48);
        // A third of what stands around three o'clock is high, none of what stands around noon.
        for (hour, row) in rows.iter().enumerate() {
            let high = (2..=4).contains(&(hour % 24));
            assert_eq!(row[10] > 800.0, high, "{hour}");
        }
    }

    #[test]
    fn a_week_at_most_and_gaps_are_no_zeros() {
        let mut hours = vec![None; 30];
        hours[4] = Some(50.0);
        let rows = hourly(&hours, 1000).unwrap();
        assert_eq!(rows.len(), HOURS_MAX);
        assert!(rows.iter().flatten().all(|value| (value - 50.0).abs() < 1e-12));
        assert!(hourly(&[None; 30], 5).is_none());
    }
}
