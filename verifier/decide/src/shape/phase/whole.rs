//! From a course in floats to one in whole units that keeps every bound and frees exactly what was asked for.

use super::transition::{Grid, Transition};

/// Rounds over the course at most: each moves what it can.
const ROUNDS_MAX: usize = 64;

/// Whole units, at the end of each step, the start first; `None` where they cannot free what is asked for to within half a step.
pub(super) fn whole(wanted: &[f64], transition: &Transition, grid: &Grid) -> Option<Vec<u64>> {
    let bounds = Bounds::new(transition, grid)?;
    let mut moved: Vec<u64> = Vec::with_capacity(wanted.len());
    for (step, wanted) in wanted.iter().enumerate() {
        let (least, greatest) = match moved.last() {
            None => (0, 0),
            Some(last) => {
                (bounds.least[step].max(*last), bounds.greatest[step].min(last.saturating_add(bounds.reach(step))))
            }
        };
        moved.push(rounded(*wanted).clamp(least, greatest.max(least)));
    }
    let asked = transition.asked_twice(grid.window_s());
    for round in 0..ROUNDS_MAX {
        match lacking(&moved, grid, asked) {
            Lack::None => return Some(moved),
            Lack::More(units) => bounds.raise(&mut moved, units, round % 2 == 0),
            Lack::Less(units) => bounds.lower(&mut moved, units, round % 2 == 0),
        }
    }
    None
}

/// How many units too little or too much are moved at the end of some one step.
enum Lack {
    None,
    More(u64),
    Less(u64),
}

/// One unit at the end of a step frees itself for one step: what is asked for is met to within half of that, up or down.
fn lacking(moved: &[u64], grid: &Grid, asked_twice: u128) -> Lack {
    let freed_twice: u128 = (1..moved.len())
        .map(|step| (u128::from(moved[step - 1]) + u128::from(moved[step])) * u128::from(grid.length_s(step)))
        .sum();
    let (half, unit) = (u128::from(grid.step_s), 2 * u128::from(grid.step_s));
    if freed_twice > asked_twice + half {
        Lack::Less(u64::try_from((freed_twice - asked_twice - half).div_ceil(unit)).unwrap_or(u64::MAX))
    } else if freed_twice + half <= asked_twice {
        Lack::More(u64::try_from((asked_twice - freed_twice - half) / unit + 1).unwrap_or(u64::MAX))
    } else {
        Lack::None
    }
}

/// Between what and what each step's end lies, in units moved, whatever its neighbours are.
struct Bounds {
    least: Vec<u64>,
    greatest: Vec<u64>,
    reach: (u64, u64),
    /// The first step whose end counts for a whole step.
    first_even: usize,
}

impl Bounds {
    fn new(transition: &Transition, grid: &Grid) -> Option<Self> {
        let distance = transition.distance();
        let reach = |step: usize| transition.slew_per_s.saturating_mul(grid.length_s(step));
        let (first, other) = (reach(1), reach(2));
        let mut least = vec![distance];
        for step in (1..=grid.steps).rev() {
            let after = least.last().copied().unwrap_or_default();
            least.push(after.saturating_sub(if step == 1 { first } else { other }));
        }
        least.reverse();
        let mut greatest = vec![0_u64];
        for step in 1..=grid.steps {
            let before = greatest.last().copied().unwrap_or_default();
            greatest.push(before.saturating_add(if step == 1 { first } else { other }).min(distance));
        }
        let fits = least.iter().zip(&greatest).all(|(least, greatest)| least <= greatest);
        let first_even = if grid.first_s == grid.step_s { 1 } else { 2 };
        fits.then_some(Self { least, greatest, reach: (first, other), first_even })
    }

    fn reach(&self, step: usize) -> u64 {
        if step == 1 { self.reach.0 } else { self.reach.1 }
    }

    fn steps(&self, forward: bool, end: usize) -> Box<dyn Iterator<Item = usize>> {
        let steps = self.first_even..end;
        if forward { Box::new(steps) } else { Box::new(steps.rev()) }
    }

    fn raise(&self, moved: &mut [u64], mut units: u64, forward: bool) {
        for step in self.steps(forward, moved.len() - 1) {
            let room = moved[step + 1].min(moved[step - 1].saturating_add(self.reach(step))).min(self.greatest[step]);
            let more = room.saturating_sub(moved[step]).min(units);
            moved[step] += more;
            units -= more;
        }
    }

    fn lower(&self, moved: &mut [u64], mut units: u64, forward: bool) {
        for step in self.steps(forward, moved.len() - 1) {
            let room = moved[step - 1].max(moved[step + 1].saturating_sub(self.reach(step + 1))).max(self.least[step]);
            let less = moved[step].saturating_sub(room).min(units);
            moved[step] -= less;
            units -= less;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from float saturate; NaN gives 0")]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}
