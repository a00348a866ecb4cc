//! The course of least harm among those that free a given capacity.
//!
//! A course is a path over levels of what is moved: it never turns, and a step moves so many levels at most. Without the capacity it would be
//! found by a dynamic programme. The capacity gets a price, so that the programme weighs harm against it; the price is found on the
//! convex hull of (capacity, harm): the chord between the best path that frees too little and the best that frees too much
//! is the next price, until no path lies beyond the chord. What is left between those two paths is bridged.
//!
//! All sums are over steps as the unit of time and the whole way as the unit of amount.

use super::demand::Demand;
use super::harm::Harm;
use super::transition::{Grid, Transition, float};

/// Levels that the way is divided into, about: at least and at most.
const LEVELS: (f64, f64) = (24.0, 40.0);
/// What a course off the straight line by the whole way costs for one step, beside a step in which demand certainly exceeds the limit: where the
/// forecast is indifferent, the course is the line.
const OFF_LINE: f64 = 0.004;
/// Prices that are tried at most.
const PRICES_MAX: usize = 8;
/// Harm less than this is none: f32 sums over some hundred steps are no finer.
const LITTLE: f64 = 1e-4;

/// The levels, the harm of each at the end of each step but the last, and how far a step goes.
struct Field {
    /// What is moved at each level, as a share of the way: 0 first, 1 last.
    shares: Vec<f64>,
    /// Row by row from the end of step 1 on.
    harm: Vec<f32>,
    /// Of the same: how long each end of a step counts, in steps.
    weights: Vec<f64>,
    /// Levels that the first step, and any other, goes at most.
    reach: (usize, usize),
    /// How many steps there are.
    steps: usize,
}

/// A path with what it frees and what harm it does.
#[derive(Clone)]
struct Path {
    levels: Vec<usize>,
    freed: f64,
    harm: f64,
}

/// How much is moved at the end of each step, the start first, in units; `None` where no path on these levels frees what is asked for.
pub(super) fn least_harm(transition: &Transition, grid: &Grid, demand: &Demand) -> Option<Vec<f64>> {
    let field = Field::new(transition, grid, demand);
    let asked = asked(transition, grid);
    let (mut little, mut much) = (field.path(field.latest()?), field.path(field.earliest()?));
    if !(little.freed..=much.freed).contains(&asked) {
        return None;
    }
    let mut programme = Programme::new(&field);
    for _ in 0..PRICES_MAX {
        let width = much.freed - little.freed;
        if width < 1e-9 {
            break;
        }
        let price = (much.harm - little.harm) / width;
        let found = field.path(programme.best(&field, price)?);
        let gain = (little.harm - price * little.freed) - (found.harm - price * found.freed);
        if gain < LITTLE {
            break;
        }
        if found.freed < asked { little = found } else { much = found }
    }
    let shares = field.bridge(&little, &much, asked);
    let distance = float(transition.distance());
    Some(shares.into_iter().map(|share| share * distance).collect())
}

/// What is to be freed before the last step's end counts, in whole ways times steps.
fn asked(transition: &Transition, grid: &Grid) -> f64 {
    let whole = float(grid.window_s()) / float(grid.step_s) * float(transition.freed_permille) / 1000.0;
    // The end of the last step is at the target always.
    whole - float(grid.length_s(grid.steps)) / float(grid.step_s) / 2.0
}

impl Field {
    fn new(transition: &Transition, grid: &Grid, demand: &Demand) -> Self {
        let distance = float(transition.distance());
        let reach = |seconds: u64| (float(transition.slew_per_s) * float(seconds) / distance).min(1.0);
        #[expect(clippy::cast_precision_loss, reason = "steps, of which there are few")]
        let wanted = (grid.steps as f64).clamp(LEVELS.0, LEVELS.1);
        // A step goes over whole levels: none of the slew is lost where it is tight.
        let per_step = (reach(grid.step_s) * wanted).floor().max(1.0);
        let height = reach(grid.step_s) / per_step;
        let count = index((1.0 / height - 1e-9).ceil());
        #[expect(clippy::cast_precision_loss, reason = "levels, of which there are few")]
        let shares: Vec<f64> = (0..=count).map(|level| (level as f64 * height).min(1.0)).collect();
        let weights = (1..grid.steps).map(|step| float(grid.weight_twice(step)) / float(grid.step_s) / 2.0).collect();
        let reach = (index((reach(grid.first_s) / height).floor()).min(count), index(per_step).min(count));
        let mut field =
            Self { harm: vec![0.0; (grid.steps - 1) * shares.len()], shares, weights, reach, steps: grid.steps };
        field.add_harm(transition, grid, demand);
        field.add_line(grid);
        field
    }

    /// Adds the harm of each stretch to the ends of steps that it reaches, by how much of their time it covers.
    fn add_harm(&mut self, transition: &Transition, grid: &Grid, demand: &Demand) {
        let distance = float(transition.distance());
        let (from, sign) = (float(transition.from), if transition.shrinks() { -1.0 } else { 1.0 });
        let limits: Vec<f64> = self.shares.iter().map(|share| from + sign * share * distance).collect();
        let mut of_levels = vec![0.0_f32; limits.len()];
        for stretch in demand.stretches() {
            // Twice the seconds from the start: the middles of steps are whole numbers.
            let place = |at_ms: u64| at_ms.clamp(transition.starts_at_ms, transition.effective_at_ms);
            let twice_s = |at_ms: u64| (place(at_ms) - transition.starts_at_ms) / 500;
            let (begin, end) = (twice_s(stretch.from_ms), twice_s(stretch.until_ms));
            if begin >= end {
                continue;
            }
            let (harm, mut hint) = (Harm::new(&stretch.quantiles, distance), 0);
            for (harm_there, limit) in of_levels.iter_mut().zip(&limits) {
                *harm_there = narrow(harm.of(*limit, &mut hint));
            }
            let first = usize::try_from(begin / 2 / grid.step_s).unwrap_or(usize::MAX).saturating_sub(2);
            for (step, row) in (1..).zip(self.harm.chunks_exact_mut(limits.len())).skip(first) {
                let middle = 2 * grid.end_s(step);
                let (left, right) = (middle - grid.length_s(step), middle + grid.step_s);
                if left >= end {
                    break;
                }
                let covered = right.min(end).saturating_sub(left.max(begin));
                if covered > 0 {
                    let weight = narrow(float(covered) / float(2 * grid.step_s));
                    row.iter_mut().zip(&of_levels).for_each(|(sum, harm)| *sum += harm * weight);
                }
            }
        }
    }

    /// Adds what keeps a course at the line where the forecast is indifferent.
    fn add_line(&mut self, grid: &Grid) {
        let window_s = float(grid.window_s());
        for (step, row) in (1..).zip(self.harm.chunks_exact_mut(self.shares.len())) {
            let line = float(grid.end_s(step)) / window_s;
            for (sum, share) in row.iter_mut().zip(&self.shares) {
                *sum += narrow(OFF_LINE * (share - line) * (share - line));
            }
        }
    }

    fn reach(&self, step: usize) -> usize {
        if step <= 1 { self.reach.0 } else { self.reach.1 }
    }

    /// The path that moves as late as it can; `None` where the slew is too little.
    fn latest(&self) -> Option<Vec<usize>> {
        let mut level = self.shares.len() - 1;
        let mut levels = vec![level];
        for step in (1..=self.steps).rev() {
            level = level.saturating_sub(self.reach(step));
            levels.push(level);
        }
        levels.reverse();
        (level == 0).then_some(levels)
    }

    /// The path that moves as early as it can; `None` where the slew is too little.
    fn earliest(&self) -> Option<Vec<usize>> {
        let (mut level, top) = (0, self.shares.len() - 1);
        let mut levels = vec![level];
        for step in 1..=self.steps {
            level = (level + self.reach(step)).min(top);
            levels.push(level);
        }
        (level == top).then_some(levels)
    }

    fn path(&self, levels: Vec<usize>) -> Path {
        let inner = || levels.iter().skip(1).zip(&self.weights);
        let freed = inner().map(|(level, weight)| self.shares[*level] * weight).sum();
        let rows = self.harm.chunks_exact(self.shares.len());
        let harm = inner().zip(rows).map(|((level, _), row)| f64::from(row[*level])).sum();
        Path { levels, freed, harm }
    }

    /// The harm of shares between levels.
    fn harm_between(&self, shares: &[f64]) -> f64 {
        let height = self.shares.get(1).copied().unwrap_or(1.0);
        let rows = self.harm.chunks_exact(self.shares.len());
        let of = |(share, row): (&f64, &[f32])| {
            let below = index((share / height).floor()).min(row.len() - 2);
            let (low, high) = (self.shares[below], self.shares[below + 1]);
            let part = ((share - low) / (high - low)).clamp(0.0, 1.0);
            f64::from(row[below]) * (1.0 - part) + f64::from(row[below + 1]) * part
        };
        shares.iter().skip(1).zip(rows).map(of).sum()
    }

    fn freed(&self, shares: &[f64]) -> f64 {
        shares.iter().skip(1).zip(&self.weights).map(|(share, weight)| share * weight).sum()
    }

    /// Between two paths, one that frees too little and one that frees too much: either a mean of both, or the first up to some step and the
    /// second from there, whichever does less harm. Least, greatest and mean of paths are paths.
    fn bridge(&self, little: &Path, much: &Path, asked: f64) -> Vec<f64> {
        let both = || little.levels.iter().zip(&much.levels);
        let low: Vec<f64> = both().map(|(one, other)| self.shares[*one.min(other)]).collect();
        let high: Vec<f64> = both().map(|(one, other)| self.shares[*one.max(other)]).collect();
        let mean = self.mean(&low, &high, asked);
        // From the low path at full slew to the high one, arriving there after so many steps: the earlier, the more is freed.
        let height = self.shares.get(1).copied().unwrap_or(1.0);
        #[expect(clippy::cast_precision_loss, reason = "levels and steps, of which there are few")]
        let slope = self.reach.1 as f64 * height;
        let steps = self.steps;
        let late = index((1.0 / slope).ceil()) + 1;
        let switched = |at: usize| -> Vec<f64> {
            #[expect(clippy::cast_precision_loss, reason = "steps, of which there are few")]
            let ramp = |step: usize| slope * ((step + late) as f64 - at as f64);
            low.iter().zip(&high).enumerate().map(|(step, (low, high))| ramp(step).min(*high).max(*low)).collect()
        };
        // The last switch that frees enough still, and the first that does not.
        let (mut enough, mut too_late) = (0, steps + late + 1);
        while too_late - enough > 1 {
            let middle = usize::midpoint(enough, too_late);
            if self.freed(&switched(middle)) >= asked { enough = middle } else { too_late = middle }
        }
        let switch = self.mean(&switched(too_late), &switched(enough), asked);
        if self.harm_between(&switch) < self.harm_between(&mean) { switch } else { mean }
    }

    /// The mean of two courses that frees what is asked for.
    fn mean(&self, low: &[f64], high: &[f64], asked: f64) -> Vec<f64> {
        let (little, much) = (self.freed(low), self.freed(high));
        let part = if much > little { ((asked - little) / (much - little)).clamp(0.0, 1.0) } else { 0.0 };
        low.iter().zip(high).map(|(low, high)| low + (high - low) * part).collect()
    }
}

/// The dynamic programme's tables, kept from price to price.
struct Programme {
    width: usize,
    /// By step: the least that a way to each level at its end costs.
    least: Vec<f32>,
    /// By step: the least of what it can come from.
    before: Vec<f32>,
    priced: Vec<f32>,
    /// Rows with as many infinities before them, so that a look below the lowest level finds none.
    spare: [Vec<f32>; 2],
}

impl Programme {
    fn new(field: &Field) -> Self {
        let width = field.shares.len();
        let mut least = vec![f32::INFINITY; width * field.steps];
        least[0] = 0.0;
        let before = vec![f32::INFINITY; width * field.steps];
        let spare = [vec![f32::INFINITY; 2 * width], vec![f32::INFINITY; 2 * width]];
        Self { width, least, before, priced: vec![0.0; width], spare }
    }

    /// The path of least harm minus `price` times what it frees.
    fn best(&mut self, field: &Field, price: f64) -> Option<Vec<usize>> {
        let (width, steps) = (self.width, field.steps);
        let mut last_weight = f64::NAN;
        for step in 1..=steps {
            let (earlier, later) = self.least.split_at_mut(width * step);
            let from = &earlier[width * (step - 1)..];
            let before = &mut self.before[width * (step - 1)..width * step];
            lowest_within(from, field.reach(step), before, &mut self.spare);
            if step == steps {
                break;
            }
            let weight = field.weights[step - 1];
            if weight.to_bits() != last_weight.to_bits() {
                last_weight = weight;
                for (priced, share) in self.priced.iter_mut().zip(&field.shares) {
                    *priced = narrow(price * weight * share);
                }
            }
            let harm = &field.harm[width * (step - 1)..width * step];
            let to = &mut later[..width];
            for (((to, before), harm), priced) in to.iter_mut().zip(&*before).zip(harm).zip(&self.priced) {
                *to = before + (harm - priced);
            }
        }
        self.back(field)
    }

    /// Walks back from the highest level at the end: a level comes from the highest one in reach that costs the least.
    fn back(&self, field: &Field) -> Option<Vec<usize>> {
        let (width, steps) = (self.width, field.steps);
        let mut level = width - 1;
        let mut levels = vec![level];
        for step in (1..=steps).rev() {
            let least = self.before[width * (step - 1) + level];
            if !least.is_finite() {
                return None;
            }
            let row = &self.least[width * (step - 1)..width * step];
            let lowest = level.saturating_sub(field.reach(step));
            level = (lowest..=level).rev().find(|from| row[*from] <= least)?;
            levels.push(level);
        }
        levels.reverse();
        Some(levels)
    }
}

/// The least of each value and the `reach` values before it: by doubling, or running where that is all of them.
fn lowest_within(from: &[f32], reach: usize, to: &mut [f32], spare: &mut [Vec<f32>; 2]) {
    let width = to.len();
    if reach + 1 >= width {
        let mut least = f32::INFINITY;
        for (to, value) in to.iter_mut().zip(from) {
            least = if *value < least { *value } else { least };
            *to = least;
        }
        return;
    }
    let [one, other] = spare;
    one[width..].copy_from_slice(from);
    let mut span = 1;
    while 2 * span <= reach + 1 {
        least_of(&one[width..], &one[width - span..], &mut other[width..]);
        std::mem::swap(one, other);
        span *= 2;
    }
    least_of(&one[width..], &one[width - (reach + 1 - span)..], to);
}

fn least_of(values: &[f32], shifted: &[f32], to: &mut [f32]) {
    for ((to, value), shifted) in to.iter_mut().zip(values).zip(shifted) {
        *to = if *shifted < *value { *shifted } else { *value };
    }
}

#[expect(clippy::cast_possible_truncation, reason = "harm and prices: rounded on purpose")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number, not below 0")]
fn index(value: f64) -> usize {
    value as usize
}
