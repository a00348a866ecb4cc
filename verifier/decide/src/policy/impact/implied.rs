//! How critical a delta makes a change, whatever its documents say.
//!
//! The lines stand here, each with its reason. They only ever raise: a document cannot call itself harmless while it takes
//! half a pool away.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::Name;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::units::{Class, ResourceKind};
use serde::{Deserialize, Serialize};

use super::delta::{Move, pool_of};
use super::dependencies::Dependency;
use super::throttled::Throttled;
use crate::policy::standing::Standing;

/// Throttled applications, in percent of those that the change touches, from which on it is `high`: when one in ten
/// lacks what it uses, somebody is called at night.
pub const THROTTLED_HIGH_PERCENT: u64 = 10;
/// The same from which on it is `critical`: half of what it touches no longer works as it did.
pub const THROTTLED_CRITICAL_PERCENT: u64 = 50;
/// Capacity that moves, in percent of a pool's, from which on it is `medium`: less is daily business.
pub const MOVED_MEDIUM_PERCENT: u64 = 5;
/// The same from which on it is `high`: a fifth is more than most pools keep free.
pub const MOVED_HIGH_PERCENT: u64 = 20;
/// The same from which on it is `critical`: more moves than stays.
pub const MOVED_CRITICAL_PERCENT: u64 = 50;

/// What a delta implies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implied {
    /// The highest of the reasons'.
    pub level: Criticality,
    /// Why, each with the criticality that it asks for.
    pub reasons: Vec<(Criticality, String)>,
}

/// What it follows from.
pub(super) struct Seen<'a> {
    pub(super) standing: &'a Standing,
    pub(super) moves: &'a [Move<'a>],
    pub(super) throttled: &'a [Throttled],
    pub(super) dependencies: &'a [Dependency],
    /// Units on hosts that nobody knows.
    pub(super) astray: usize,
}

pub(super) fn implied(seen: &Seen<'_>) -> Implied {
    let mut reasons = Vec::new();
    let mut say = |level, why: String| reasons.push((level, why));
    if seen.astray > 0 {
        say(
            Criticality::Critical,
            format!("{} units are on hosts that are not known: nobody can judge them", seen.astray),
        );
    }
    of_throttled(seen, &mut say);
    of_moved(seen, &mut say);
    of_promises(seen, &mut say);
    let tenants: BTreeSet<&Name> = seen.moves.iter().map(|one| &one.unit.tenant).collect();
    if tenants.len() > 1 {
        // One tenant's operators cannot speak for another's.
        say(Criticality::Medium, format!("{} tenants are touched", tenants.len()));
    }
    let broken = seen.dependencies.iter().filter(|one| one.is_broken).count();
    let dependants = seen.dependencies.iter().filter(|one| one.steps > 0).count();
    if broken > 0 {
        say(Criticality::High, format!("{broken} dependencies would not be met any more"));
    } else if dependants > 0 {
        say(Criticality::Medium, format!("{dependants} policies depend on what it touches"));
    }
    let level = reasons.iter().map(|(level, _)| *level).max().unwrap_or(Criticality::Low);
    Implied { level, reasons }
}

fn of_throttled(seen: &Seen<'_>, say: &mut impl FnMut(Criticality, String)) {
    let touched: BTreeSet<&Name> = seen.moves.iter().map(|one| &one.unit.application).collect();
    let short: BTreeSet<&Name> = seen.throttled.iter().map(|one| &one.application).collect();
    if short.is_empty() {
        return;
    }
    let percent = short.len() as u64 * 100 / touched.len().max(1) as u64;
    let level = match percent {
        THROTTLED_CRITICAL_PERCENT.. => Criticality::Critical,
        THROTTLED_HIGH_PERCENT.. => Criticality::High,
        _ => Criticality::Medium,
    };
    say(level, format!("{} of {} touched applications would be throttled", short.len(), touched.len()));
}

/// The share of a pool that moves: per unit and resource the greater of what its guarantee and its limit move. A limit that comes or goes
/// moves all that the unit is granted.
fn of_moved(seen: &Seen<'_>, say: &mut impl FnMut(Criticality, String)) {
    let mut moved: BTreeMap<Name, [u128; 5]> = BTreeMap::new();
    for one in seen.moves {
        let sums = moved.entry(pool_of(seen.standing, &one.unit.host)).or_default();
        for kind in ResourceKind::ALL {
            let (old, new) = one.guarantee(kind);
            let limit = match one.limit(kind) {
                (Some(old), Some(new)) => old.abs_diff(new),
                (None, None) => 0,
                _ => one.unit.granted.get(kind).unwrap_or(0),
            };
            sums[kind as usize] += u128::from(old.abs_diff(new).max(limit));
        }
    }
    let mut capacity: BTreeMap<Name, [u128; 5]> = BTreeMap::new();
    for host in seen.standing.hosts.values() {
        let sums = capacity.entry(host.pool.clone().unwrap_or_default()).or_default();
        sums.iter_mut().zip(host.capacity.amounts()).for_each(|(sum, more)| *sum += u128::from(more.unwrap_or(0)));
    }
    let shares = moved.iter().flat_map(|(pool, sums)| {
        let of_pool = capacity.get(pool);
        ResourceKind::ALL.map(|kind| {
            let whole = of_pool.map_or(0, |sums| sums[kind as usize]);
            // What moves and is in no inventory is all there is.
            let percent = (sums[kind as usize] * 100).checked_div(whole);
            (percent.unwrap_or(if sums[kind as usize] > 0 { 100 } else { 0 }), pool, kind)
        })
    });
    let Some((percent, pool, kind)) = shares.max_by_key(|(percent, ..)| *percent) else { return };
    let level = match u64::try_from(percent).unwrap_or(u64::MAX) {
        MOVED_CRITICAL_PERCENT.. => Criticality::Critical,
        MOVED_HIGH_PERCENT.. => Criticality::High,
        MOVED_MEDIUM_PERCENT.. => Criticality::Medium,
        _ => return,
    };
    let pool = if pool.as_str().is_empty() { "hosts of no pool".to_owned() } else { format!("pool {pool}") };
    say(level, format!("{percent} % of the {} of {pool} moves", kind.unit_name()));
}

/// Promises that are taken back.
fn of_promises(seen: &Seen<'_>, say: &mut impl FnMut(Criticality, String)) {
    let is_lowered = |one: &&Move<'_>| {
        let was = one.before.is_some_and(|holding| holding.class == Some(Class::Guaranteed));
        let lost_class = one.after.is_none_or(|holding| holding.class != Some(Class::Guaranteed));
        let less = |kind| {
            let (old, new) = one.guarantee(kind);
            new < old
        };
        was && (lost_class || ResourceKind::ALL.into_iter().any(less))
    };
    let lowered = seen.moves.iter().filter(is_lowered).count();
    if lowered > 0 {
        say(Criticality::High, format!("{lowered} units of class guaranteed would be promised less"));
    }
    let is_open = |one: &&Move<'_>| {
        let zone = |holding: Option<&crate::policy::map::Holding>| holding.and_then(|held| held.policy.zone.clone());
        zone(one.before).is_some_and(|was| zone(one.after).as_ref() != Some(&was))
    };
    let opened = seen.moves.iter().filter(is_open).count();
    if opened > 0 {
        // What was promised to measured hosts alone would be promised to others.
        say(Criticality::High, format!("for {opened} units another zone is required, or none any more"));
    }
}
