//! Calibration: what a series' rungs said, set right by what came.
//!
//! Two things are learnt per series, once an hour's worth of steps has come. *Widths*: for each level the logarithm of a factor on
//! the distance from the median, moved by the miss rate minus what the level allows (adaptive conformal inference, Gibbs and Candès
//! 2021), so that coverage finds its level without a distribution. *Weights*: model and EWMA share an answer by how well each did lately
//! (exponentially weighted pinball losses), so that the answer is hardly ever worse than the better of both.
//!
//! A young series leans on the pool of its resource: the median of its mature series, which one poisoned series cannot move far. A mature
//! series is moved by nothing but itself.

use super::quantiles::{MEDIAN, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, Quantiles, STEPS};
use super::score::Came;

/// Steps between two lessons: the horizon, so that every forecast learnt from is over.
pub const LEARN_STEPS: usize = STEPS;

/// How far one lesson moves a width.
const RATE: f64 = 0.1;
/// Widths stay within a factor of e³.
const WIDTH_MAX: f64 = 3.0;
/// What a lesson an hour older counts.
const DECAY: f64 = 0.97;
/// How steeply the better of both rungs is preferred, for steps and for peaks.
const STEP_PREFERENCE: f64 = 8.0;
const PEAK_PREFERENCE: f64 = 4.0;
/// Lessons until the rungs share an answer, and until a series stands by itself.
const SHARED_FROM: u16 = 4;
const MATURE: u16 = 24;

/// What both upper rungs said of one series at one instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rungs {
    /// The model.
    pub model: Option<Quantiles>,
    /// The EWMA rung.
    pub ewma: Option<Quantiles>,
}

/// What was learnt of one series' forecasts, or of a pool's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    widths: [f32; QUANTILE_LEVELS.len()],
    peak_widths: [[f32; PEAK_LEVELS.len()]; PEAK_STEPS.len()],
    /// Decayed losses: model's and EWMA's of steps, then of peaks; in the series' unit.
    losses: [f32; 4],
    lessons: u16,
    /// Whether the model was among the rungs: widths learnt without it say nothing of it.
    with_model: bool,
}

impl Calibration {
    /// Nothing learnt.
    pub const NONE: Self = Self {
        widths: [0.0; QUANTILE_LEVELS.len()],
        peak_widths: [[0.0; PEAK_LEVELS.len()]; PEAK_STEPS.len()],
        losses: [0.0; 4],
        lessons: 0,
        with_model: false,
    };

    /// How many hours were learnt from.
    pub fn lessons(&self) -> u16 {
        self.lessons
    }

    /// What the EWMA rung lost in an hour of late, in the series' unit: what losses are held against. `None` while little was learnt, or
    /// nothing was lost.
    pub fn usual_loss(&self) -> Option<f64> {
        // The losses of hours, each counting so much less than the one after it.
        let weight = (1.0 - DECAY.powi(self.lessons.into())) / (1.0 - DECAY);
        let usual = f64::from(self.losses[1]) / weight;
        (self.lessons >= SHARED_FROM && usual > 0.0).then_some(usual)
    }

    /// The share of the EWMA rung in an answer's steps and in its peaks, where both rungs answer.
    pub fn ewma_shares(&self) -> (f64, f64) {
        if self.lessons < SHARED_FROM || self.losses.iter().all(|loss| *loss <= 0.0) {
            return (0.0, 0.0);
        }
        let [model, ewma, model_peaks, ewma_peaks] = self.losses.map(f64::from);
        (share(model, ewma, STEP_PREFERENCE), share(model_peaks, ewma_peaks, PEAK_PREFERENCE))
    }

    /// The calibrated answer of the rungs, or `None` if neither answered. `pool` is what the series leans on while it is young.
    pub fn apply(&self, rungs: &Rungs, pool: &Self) -> Option<Quantiles> {
        let (steps_share, peaks_share) = self.ewma_shares();
        let mixed = match (&rungs.model, &rungs.ewma) {
            (Some(model), Some(ewma)) => mix(model, ewma, steps_share, peaks_share)?,
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => return None,
        };
        // Widths learnt with the model say nothing of what the rung below says alone, a series' own or a pool's.
        let with_model = rungs.model.is_some();
        let own =
            if self.with_model == with_model { f64::from(self.lessons.min(MATURE)) / f64::from(MATURE) } else { 0.0 };
        let leans = if pool.with_model == with_model { 1.0 - own } else { 0.0 };
        let factor = |own_width: f32, pooled: f32| (f64::from(own_width) * own + f64::from(pooled) * leans).exp();
        let mut steps = *mixed.steps();
        for row in &mut steps {
            let median = row[MEDIAN];
            for ((value, own_width), pooled) in row.iter_mut().zip(self.widths).zip(pool.widths) {
                *value = median + (*value - median) * factor(own_width, pooled);
            }
        }
        let mut peaks = *mixed.peaks();
        for ((row, own_widths), pooled) in peaks.iter_mut().zip(&self.peak_widths).zip(&pool.peak_widths) {
            let median = row[0];
            for ((value, own_width), pooled) in row.iter_mut().zip(own_widths).zip(pooled) {
                *value = median + (*value - median) * factor(*own_width, *pooled);
            }
        }
        Quantiles::from_raw(steps, peaks)
    }

    /// Learns from what came of an answer that these rungs and this calibration gave. Nothing is learnt where nothing came.
    pub fn learn(&mut self, rungs: &Rungs, pool: &Self, came: &Came) {
        let with_model = rungs.model.is_some();
        if came.known().next().is_none() || (self.with_model && !with_model) {
            // Nothing came; or the model is away for a while: what is known of it is kept for when it is back.
            return;
        }
        if with_model != self.with_model {
            *self = Self { with_model, ..Self::default() };
        }
        let Some(told) = self.apply(rungs, pool) else { return };
        self.learn_widths(&told, came);
        self.lessons = self.lessons.saturating_add(1);
        // Losses are compared: an hour that only one of both was asked about says nothing.
        if rungs.model.is_none() || rungs.ewma.is_none() {
            return;
        }
        for ((loss, rung), peaks) in self
            .losses
            .iter_mut()
            .zip([&rungs.model, &rungs.ewma, &rungs.model, &rungs.ewma])
            .zip([false, false, true, true])
        {
            let fresh = rung
                .as_ref()
                .map_or(0.0, |rung| if peaks { came.peak_loss(rung) } else { came.losses(rung).iter().sum() });
            *loss = narrow((f64::from(*loss) * DECAY + fresh).min(LOSS_MAX));
        }
    }

    fn learn_widths(&mut self, told: &Quantiles, came: &Came) {
        for (column, (width, level)) in self.widths.iter_mut().zip(QUANTILE_LEVELS).enumerate() {
            if column == MEDIAN {
                continue;
            }
            let (mut beyond, mut count) = (0.0, 0.0);
            for (ahead, value) in came.known() {
                let line = told.steps()[ahead][column];
                beyond += f64::from(u8::from(if column > MEDIAN { value > line } else { value < line }));
                count += 1.0;
            }
            let allowed = if column > MEDIAN { 1.0 - level } else { level };
            moved(width, beyond / count - allowed);
        }
        for ((widths, row), came) in self.peak_widths.iter_mut().zip(told.peaks()).zip(came.peaks()) {
            let Some(came) = came else { continue };
            for ((width, line), level) in widths.iter_mut().zip(row).zip(PEAK_LEVELS).skip(1) {
                moved(width, f64::from(u8::from(came > *line)) - (1.0 - level));
            }
        }
    }

    /// The pool of a resource: the median of each width over its mature series that were learnt with the model.
    pub fn pooled<'a>(series: impl Iterator<Item = &'a Self>) -> Self {
        let mature: Vec<&Self> = series.filter(|one| one.lessons >= MATURE && one.with_model).collect();
        if mature.len() < POOL_MIN {
            return Self::default();
        }
        let middle = |pick: &dyn Fn(&Self) -> f32| {
            let mut values: Vec<f32> = mature.iter().map(|one| pick(one)).collect();
            let at = values.len() / 2;
            *values.select_nth_unstable_by(at, f32::total_cmp).1
        };
        let mut pool = Self { with_model: true, lessons: MATURE, ..Self::default() };
        for (column, width) in pool.widths.iter_mut().enumerate() {
            *width = middle(&|one| one.widths[column]);
        }
        for (length, row) in pool.peak_widths.iter_mut().enumerate() {
            for (column, width) in row.iter_mut().enumerate() {
                *width = middle(&|one| one.peak_widths[length][column]);
            }
        }
        pool
    }
}

/// Mature series that make a pool.
const POOL_MIN: usize = 5;
/// Losses are kept as f32.
const LOSS_MAX: f64 = 1e37;

fn moved(width: &mut f32, by: f64) {
    *width = narrow((f64::from(*width) + RATE * by).clamp(-WIDTH_MAX, WIDTH_MAX));
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before, and kept small on purpose")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// The second's share, from the losses of both.
fn share(first: f64, second: f64, preference: f64) -> f64 {
    if first <= 0.0 || second <= 0.0 {
        return if first > second { 1.0 } else { 0.0 };
    }
    1.0 / (1.0 + (second / first).powf(preference))
}

fn mix(model: &Quantiles, ewma: &Quantiles, steps_share: f64, peaks_share: f64) -> Option<Quantiles> {
    let (mut steps, mut peaks) = (*model.steps(), *model.peaks());
    for (value, other) in steps.iter_mut().flatten().zip(ewma.steps().iter().flatten()) {
        *value += (other - *value) * steps_share;
    }
    for (value, other) in peaks.iter_mut().flatten().zip(ewma.peaks().iter().flatten()) {
        *value += (other - *value) * peaks_share;
    }
    Quantiles::from_raw(steps, peaks)
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
