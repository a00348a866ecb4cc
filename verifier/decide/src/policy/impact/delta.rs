//! What moves: per unit, and summed.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::units::{ResourceKind, Resources};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::map::Holding;
use crate::policy::standing::{Held, Standing, Unit};

/// How much each amount moves, in its unit; less than zero: it shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved([i128; 5]);

impl Moved {
    /// One amount.
    pub const fn get(&self, kind: ResourceKind) -> i128 {
        self.0[kind as usize]
    }
    /// Adds to one amount.
    pub const fn add(&mut self, kind: ResourceKind, more: i128) {
        self.0[kind as usize] = self.0[kind as usize].saturating_add(more);
    }
    /// Adds all amounts.
    pub fn merge(&mut self, other: &Self) {
        ResourceKind::ALL.into_iter().for_each(|kind| self.add(kind, other.get(kind)));
    }
}

impl Serialize for Moved {
    /// The amounts that move, by their names with units.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let moving = ResourceKind::ALL.into_iter().filter(|kind| self.get(*kind) != 0);
        to.collect_map(moving.map(|kind| (kind.unit_name(), self.get(kind))))
    }
}

impl<'de> Deserialize<'de> for Moved {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let amounts = BTreeMap::<String, i128>::deserialize(from)?;
        let mut out = Self::default();
        for (unit, more) in amounts {
            let kind = ResourceKind::ALL.into_iter().find(|kind| kind.unit_name() == unit);
            out.add(kind.ok_or_else(|| D::Error::custom(format!("`{unit}` is no resource")))?, more);
        }
        Ok(out)
    }
}

/// What moves of some units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// How many of them hold something else than before.
    pub units: u64,
    /// What is guaranteed; nothing counts as zero.
    pub guarantee: Moved,
    /// What is allowed, where there is a limit before and after.
    pub limit: Moved,
    /// Amounts that get a limit and had none.
    pub newly_limited: u64,
    /// Amounts that had a limit and have none any more.
    pub no_longer_limited: u64,
}

impl Delta {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.units += other.units;
        self.guarantee.merge(&other.guarantee);
        self.limit.merge(&other.limit);
        self.newly_limited += other.newly_limited;
        self.no_longer_limited += other.no_longer_limited;
    }
}

/// A unit that holds something else than before.
#[derive(Debug)]
pub(super) struct Move<'a> {
    pub(super) unit: &'a Unit,
    pub(super) before: Option<&'a Holding>,
    pub(super) after: Option<&'a Holding>,
}

/// An amount that a holding states.
fn stated(holding: Option<&Holding>, of: impl Fn(&Holding) -> Resources, kind: ResourceKind) -> Option<u64> {
    holding.and_then(|holding| of(holding).get(kind))
}

impl Move<'_> {
    /// What is guaranteed before and after.
    pub(super) fn guarantee(&self, kind: ResourceKind) -> (u64, u64) {
        let of = |holding| stated(holding, |holding| holding.guarantee, kind).unwrap_or(0);
        (of(self.before), of(self.after))
    }
    /// What is allowed before and after.
    pub(super) fn limit(&self, kind: ResourceKind) -> (Option<u64>, Option<u64>) {
        let of = |holding| stated(holding, |holding| holding.limit, kind);
        (of(self.before), of(self.after))
    }

    fn delta(&self) -> Delta {
        let mut out = Delta { units: 1, ..Delta::default() };
        for kind in ResourceKind::ALL {
            let (old, new) = self.guarantee(kind);
            out.guarantee.add(kind, i128::from(new) - i128::from(old));
            match self.limit(kind) {
                (Some(old), Some(new)) => out.limit.add(kind, i128::from(new) - i128::from(old)),
                (None, Some(_)) => out.newly_limited += 1,
                (Some(_), None) => out.no_longer_limited += 1,
                (None, None) => {}
            }
        }
        out
    }
}

/// Whether two holdings give the same, whichever policies they are from.
fn is_same(one: Option<&Holding>, other: Option<&Holding>) -> bool {
    let given = |holding: Option<&Holding>| {
        holding.map(|holding| (holding.guarantee, holding.limit, holding.class, holding.policy.zone.clone()))
    };
    given(one) == given(other)
}

/// All units that hold something else than before.
pub(super) fn moves<'a>(standing: &'a Standing, before: &'a Held<'_>, after: &'a Held<'_>) -> Vec<Move<'a>> {
    let pairs = before.holdings.iter().zip(&after.holdings).zip(&standing.units);
    pairs
        .map(|((before, after), unit)| Move { unit, before: before.as_ref(), after: after.as_ref() })
        .filter(|one| !is_same(one.before, one.after))
        .collect()
}

/// What moves, summed by whose it is.
pub(super) fn sums<K: Ord>(moves: &[Move<'_>], whose: impl Fn(&Move<'_>) -> K) -> BTreeMap<K, Delta> {
    let mut out: BTreeMap<K, Delta> = BTreeMap::new();
    for one in moves {
        out.entry(whose(one)).or_default().merge(&one.delta());
    }
    out
}

/// The pool of a host; the empty name for none.
pub(super) fn pool_of(standing: &Standing, host: &HostId) -> Name {
    standing.hosts.get(host).and_then(|host| host.pool.clone()).unwrap_or_default()
}
