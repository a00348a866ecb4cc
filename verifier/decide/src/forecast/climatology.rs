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

/// Hourly quantiles are of hours' means; a step within an hour goes above and below its hour's mean. Gives quantiles of steps, hour by hour:
/// each hour's quantiles and how `steps` (the newest ones, of `interval_s` seconds, whatever their hours) lay about the means of their
/// hours, as if one had nothing to do with the other. Without a whole hour of known steps the hours stand as they are.
pub fn of_steps(hours: &[StepRow], steps: &[Option<f64>], interval_s: u64) -> Vec<StepRow> {
    let per_hour = HOUR_S.checked_div(interval_s).and_then(|steps| usize::try_from(steps).ok()).unwrap_or_default();
    let mut about: Vec<f64> = Vec::new();
    for hour in steps.rchunks_exact(per_hour.max(1)) {
        let known: Vec<f64> = hour.iter().copied().flatten().filter(|value| is_demand(*value)).collect();
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
    let row = |hour: &StepRow| {
        let of_hour = PARTS.map(|level| within(hour, level));
        let mut sums: Vec<f64> = of_hour.iter().flat_map(|mean| about.map(|off| (mean + off).max(0.0))).collect();
        sums.sort_unstable_by(f64::total_cmp);
        QUANTILE_LEVELS.map(|level| between(&sums, level))
    };
    hours.iter().map(row).collect()
}

const HOUR_S: u64 = 3600;
/// Levels of parts that are alike, for sums of two distributions.
const PARTS: [f64; 12] = [0.01, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 0.99];

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
    fn a_step_goes_as_far_about_its_hour_as_steps_did_lately() {
        let hours = [QUANTILE_LEVELS.map(|level| 100.0 + level)];
        let lately: Vec<_> = (0..48).map(|step| Some(if step % 12 == 0 { 65.0 } else { 10.0 })).collect();
        let row = of_steps(&hours, &lately, 300).pop().unwrap();
        // Their hours' mean is 14.6: most lie 4.6 below it, one of twelve 50.4 above.
        assert!(
            (row[0] - 95.5).abs() < 0.5 && (row[MEDIAN] - 95.9).abs() < 0.5 && (row[10] - 151.0).abs() < 1.0,
            "{row:?}"
        );
        assert!(row.is_sorted());
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
