//! What is usual at this time of day, and how much of a series that explains.

/// Cells of a day, five minutes each.
const CELLS: usize = 288;
const CELL_MS: i64 = 300_000;
const DAY_MS: i64 = 86_400_000;
/// Weight of a new value in a cell, at least.
const CELL_WEIGHT: f32 = 0.1;
/// Weight of a point in what the rhythm explains.
const EXPLAINS_WEIGHT: f32 = 0.005;

/// The mean of each time of day: context that a detector needs beside its state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Day {
    means: [f32; CELLS],
    /// Values in each mean, up to 255.
    values: [u8; CELLS],
}

impl Default for Day {
    fn default() -> Self {
        Self { means: [0.0; CELLS], values: [0; CELLS] }
    }
}

/// How well the day's means told the values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Rhythm {
    first_ms: Option<i64>,
    /// Mean distance to the day's mean, and to the level without one.
    by_rhythm: f32,
    by_level: f32,
}

/// What the rhythm says of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usual {
    /// What is usual at this time of day.
    pub(super) value: f64,
    /// How much of the changes the rhythm explains, 0 to 1.
    pub(super) explains: f64,
    /// Whether the day before has been seen, so that distances count; and two of them, so that surprise does.
    pub(super) has_day: bool,
    pub(super) has_days: bool,
}

impl Rhythm {
    /// Takes a point, whose distance from the slow level is `from_level`, and says what was usual then. Learns from a value no more than
    /// `most` apart from what was usual.
    #[expect(clippy::cast_possible_truncation, reason = "f32 is precise enough for a mean")]
    pub(super) fn add(&mut self, day: &mut Day, time_ms: i64, value: f64, from_level: f64, most: f64) -> Usual {
        let first_ms = self.first_ms.map_or(time_ms, |first_ms| first_ms.min(time_ms));
        self.first_ms = Some(first_ms);
        let since_ms = time_ms.saturating_sub(first_ms);
        let cell = usize::try_from(time_ms.rem_euclid(DAY_MS) / CELL_MS).unwrap_or(0).min(CELLS - 1);
        let (mean, values) = (&mut day.means[cell], &mut day.values[cell]);
        let is_known = *values > 0;
        let usual = if is_known { f64::from(*mean) } else { value };
        *values = values.saturating_add(1);
        let weight = (1.0 / f32::from(*values)).max(CELL_WEIGHT);
        *mean = if is_known { *mean + weight * (value - usual).clamp(-most, most) as f32 } else { value as f32 };
        let has_day = is_known && since_ms >= DAY_MS;
        let mut explains = 0.0;
        if has_day {
            self.by_rhythm += EXPLAINS_WEIGHT * ((value - usual).abs().min(most) as f32 - self.by_rhythm);
            self.by_level += EXPLAINS_WEIGHT * (from_level.abs().min(most) as f32 - self.by_level);
            explains = (1.0 - f64::from(self.by_rhythm) / f64::from(self.by_level).max(1e-12)).clamp(0.0, 1.0);
        }
        Usual { value: usual, explains, has_day, has_days: is_known && since_ms >= 2 * DAY_MS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: i64, value: impl Fn(i64) -> f64) -> Vec<Usual> {
        let (mut rhythm, mut day) = (Rhythm::default(), Day::default());
        (0..count * 288)
            .map(|at| rhythm.add(&mut day, at * CELL_MS, value(at), value(at) - 5.0, f64::INFINITY))
            .collect()
    }

    #[test]
    fn a_daily_course_is_explained_once_a_day_is_known() {
        let usual = days(5, |at| if at % 288 < 96 { 10.0 } else { 2.0 });
        assert!(usual[..288].iter().all(|usual| !usual.has_day));
        assert!(usual[288..].iter().all(|usual| usual.has_day));
        let last = usual[usual.len() - 1];
        assert!(last.has_days && last.explains > 0.9, "{last:?}");
        assert!((last.value - 2.0).abs() < 1e-3, "{last:?}");
    }

    #[test]
    fn a_course_without_days_is_not() {
        let usual = days(5, |at| if at % 100 < 50 { 10.0 } else { 0.0 });
        assert!(usual[usual.len() - 1].explains < 0.3, "{:?}", usual[usual.len() - 1]);
    }

    #[test]
    fn a_time_from_the_far_future_is_forgotten() {
        let (mut rhythm, mut day) = (Rhythm::default(), Day::default());
        rhythm.add(&mut day, i64::MAX, 1.0, 0.0, f64::INFINITY);
        assert!(!rhythm.add(&mut day, 0, 1.0, 0.0, f64::INFINITY).has_day);
        let later = rhythm.add(&mut day, 2 * DAY_MS, 1.0, 0.0, f64::INFINITY);
        assert!(later.has_days);
    }
}
