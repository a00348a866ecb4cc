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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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
