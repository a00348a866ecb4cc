//! Phase: from what is to what shall be, in setpoints over the delay window, where the forecast says that it does the least harm.
//!
//! Does: plans one amount's way ([`phase`]), and the way back; checks each finished course against its request alone ([`check`], the second
//! pass); says when a running plan is to be planned anew ([`Watch`]).
//! May assume: nothing of its request; of a forecast, that nothing after its instant is in it.
//! Promises: a [`PhasedPlan`] starts at what is, ends exactly at the target at the effective time, never turns, is never faster than the slew,
//! never below the guarantee, and frees (or takes early) as much capacity as was asked for; too little time is refused with the
//! earliest possible one; without a forecast the way is a straight line, and lines of one window together never hold more than at
//! its ends (between setpoints one unit more for each that shrinks: what is read off is whole); the same input gives the same setpoints.
//! Must never: sign, read a clock, or let a float leave it.
//!
//! The method and why a course never turns: docs/decisions/0019-phasing.md.

mod check;
mod demand;
mod harm;
mod least;
mod line;
mod transition;
mod watch;
mod whole;

#[cfg(test)]
mod tests;

pub use check::{PhasedPlan, PlanFault, check};
pub use demand::{Demand, Stretch};
pub use transition::{Refused, SLEW_OF_MEAN, STEPS_MAX, Transition};
pub use watch::{Finding, Review, Running, Seen, Tolerance, Watch, Why};

use least::least_harm;
use line::straight;
use transition::Grid;
use whole::whole;

/// The way of one amount over its delay window.
///
/// # Errors
/// [`Refused`]: the request contradicts itself, or the time does not suffice for the slew.
pub fn phase(transition: &Transition, demand: &Demand) -> Result<PhasedPlan, Refused> {
    let grid = transition.grid()?;
    weighed(transition, &grid, demand).or_else(|| line_of(transition, &grid)).ok_or(Refused::Share)
}

/// The way back after a withdrawal: from what `running` asks for at `now_ms` to what was before it, in the time that its slew needs, and not
/// before the next whole second.
///
/// # Errors
/// [`Refused`] as [`phase`].
pub fn way_back(running: &PhasedPlan, now_ms: u64, demand: &Demand) -> Result<PhasedPlan, Refused> {
    phase(&running.transition().back(running.limit_at(now_ms), now_ms), demand)
}

/// A course that the forecast was weighed for, and that passes the second pass.
fn weighed(transition: &Transition, grid: &Grid, demand: &Demand) -> Option<PhasedPlan> {
    let distance = transition.distance();
    // Nothing to place: the line it is.
    if distance == 0 || grid.steps < 2 || (demand.is_empty() && transition.is_even()) {
        return None;
    }
    let wanted = least_harm(transition, grid, demand)?;
    let moved = whole(&wanted, transition, grid)?;
    check(transition, &transition.setpoints(grid, &moved)).ok()
}

/// The straight line, where it frees what was asked for.
fn line_of(transition: &Transition, grid: &Grid) -> Option<PhasedPlan> {
    let line = straight(transition, grid);
    let fitted = whole(&line.iter().map(|moved| transition::float(*moved)).collect::<Vec<_>>(), transition, grid);
    let fitted = fitted.and_then(|moved| check(transition, &transition.setpoints(grid, &moved)).ok());
    check(transition, &transition.setpoints(grid, &line)).ok().or(fitted)
}
