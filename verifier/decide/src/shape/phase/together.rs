//! Several amounts of one resource at once, within one capacity: nobody gets what another still holds.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::units::{ResourceKind, Resources};

use super::demand::Demand;
use super::line::straight;
use super::transition::{Grid, Refused, Transition};
use super::{PhasedPlan, check, phase, within};

/// Shares of what it asked for that a grower is tried with, in percent, where the capacity comes too late for all of it.
const SHARES_PERCENT: [u64; 5] = [100, 90, 75, 50, 25];

/// One of several that move at once.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its way: of what it is promised (its guarantee), not of a limit above that: limits borrow and bind nobody.
    pub transition: &'a Transition,
    /// What it will want.
    pub demand: &'a Demand,
}

/// The ways of all members of one host or pool, of one resource, in their order. The sum that is bound is that of guarantees: what members
/// are promised and the `standing` of those that do not move is at most `capacity` at every instant (of the lines between
/// setpoints: a value that is read off one in whole units may lie one unit above it).
///
/// Those who shrink are planned first, each where it does the least harm; what they free goes to those who grow by how far each goes, and
/// nobody grows before it is free. Where that leaves somebody too little time, all go in straight lines, whose sum never
/// exceeds that of the ends when all have one window.
///
/// # Errors
/// [`Refused`]: of any member as [`phase`]; [`Refused::Capacity`] where the promises exceed the capacity at some instant.
pub fn hand_over(capacity: u64, standing: u64, members: &[Member<'_>]) -> Result<Vec<PhasedPlan>, Refused> {
    let grids: Vec<Grid> = members.iter().map(|member| member.transition.grid()).collect::<Result<_, _>>()?;
    for end in [|t: &Transition| t.from, |t: &Transition| t.to] {
        let promised = u128::from(standing) + members.iter().map(|one| u128::from(end(one.transition))).sum::<u128>();
        if promised > u128::from(capacity) {
            return Err(Refused::Capacity { promised, capacity });
        }
    }
    let fits = |plans: &Vec<PhasedPlan>| overdrawn_at(capacity, standing, plans).is_none();
    if let Some(plans) = least_harm(capacity, standing, members, &grids).filter(fits) {
        return Ok(plans);
    }
    let lines = members.iter().zip(&grids).map(|(member, grid)| {
        let even = Transition { freed_permille: 500, ..member.transition.clone() };
        check(&even, &even.setpoints(grid, &straight(&even, grid))).map_err(|_| Refused::Share)
    });
    let lines: Vec<PhasedPlan> = lines.collect::<Result<_, _>>()?;
    match overdrawn_at(capacity, standing, &lines) {
        None => Ok(lines),
        Some(at_ms) => Err(Refused::Capacity { promised: promised_at(standing, &lines, at_ms), capacity }),
    }
}

fn least_harm(capacity: u64, standing: u64, members: &[Member<'_>], grids: &[Grid]) -> Option<Vec<PhasedPlan>> {
    let shrinking: Vec<Option<PhasedPlan>> = members
        .iter()
        .map(|one| one.transition.shrinks().then(|| phase(one.transition, one.demand)).transpose().ok())
        .collect::<Option<_>>()?;
    let growers = || members.iter().filter(|one| !one.transition.shrinks()).map(|one| one.transition);
    let held = u128::from(standing) + growers().map(|one| u128::from(one.from)).sum::<u128>();
    let wanted: u128 = growers().map(|one| u128::from(one.distance())).sum();
    let shrunk: Vec<PhasedPlan> = shrinking.iter().flatten().cloned().collect();
    let room = u128::from(capacity).saturating_sub(held);
    // Those of one window look at the same instants.
    let mut free: BTreeMap<u64, u128> = BTreeMap::new();
    let mut free_at = |at_ms| *free.entry(at_ms).or_insert_with(|| room.saturating_sub(promised_at(0, &shrunk, at_ms)));
    let all = members.iter().zip(grids).zip(shrinking).map(|((member, grid), shrunk)| {
        let transition = member.transition;
        let mut part = |step: usize| {
            let free = free_at(transition.starts_at_ms + 1000 * grid.end_s(step));
            let part = free * u128::from(transition.distance()) / wanted.max(1);
            u64::try_from(part).unwrap_or(u64::MAX).min(transition.distance())
        };
        shrunk.or_else(|| grown(member, grid, &(0..=grid.steps).map(&mut part).collect::<Vec<_>>()))
    });
    all.collect()
}

/// A grower's way under what is free for it: as much early as it asked for, or what there is.
fn grown(member: &Member<'_>, grid: &Grid, free: &[u64]) -> Option<PhasedPlan> {
    let transition = member.transition;
    if transition.distance() == 0 {
        return phase(transition, member.demand).ok();
    }
    let whole_twice = 2 * u128::from(transition.distance()) * u128::from(grid.window_s());
    let most_twice: u128 = (1..=grid.steps)
        .map(|step| u128::from(free[step - 1].saturating_add(free[step])) * u128::from(grid.length_s(step)))
        .sum();
    let most_permille = u64::try_from(most_twice * 1000 / whole_twice).unwrap_or(1000);
    SHARES_PERCENT.into_iter().find_map(|percent| {
        let freed_permille = transition.freed_permille.min(most_permille) * percent / 100;
        within(&Transition { freed_permille, ..transition.clone() }, grid, member.demand, Some(free))
    })
}

fn promised_at(standing: u64, plans: &[PhasedPlan], at_ms: u64) -> u128 {
    u128::from(standing) + plans.iter().map(|plan| u128::from(plan.limit_at(at_ms))).sum::<u128>()
}

/// The first instant (Unix ms) at which plans and what stands promise more than there is, if any. Between setpoints the ways are straight, so
/// that only setpoints and starts need to be looked at.
pub fn overdrawn_at(capacity: u64, standing: u64, plans: &[PhasedPlan]) -> Option<u64> {
    let starts = plans.iter().map(|plan| plan.transition().starts_at_ms);
    let setpoints = plans.iter().flat_map(|plan| plan.setpoints().iter().map(|setpoint| setpoint.at_ms));
    let instants: BTreeSet<u64> = starts.chain(setpoints).collect();
    instants.into_iter().find(|at_ms| promised_at(standing, plans, *at_ms) > u128::from(capacity))
}

/// What a new grant may have while a change is being shaped: of each resource the lesser of what held and what will hold. An amount that only
/// one of both states is that one's.
pub fn stricter(old: &Resources, new: &Resources) -> Resources {
    let mut both = Resources::default();
    for kind in ResourceKind::ALL {
        let amounts = [old.get(kind), new.get(kind)];
        both.set(kind, amounts.into_iter().flatten().min());
    }
    both
}

#[cfg(test)]
#[path = "together_tests.rs"]
mod tests;
