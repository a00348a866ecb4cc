//! Whether what is promised fits into what there is.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::units::ResourceKind;
use serde::{Deserialize, Serialize};

use super::delta::pool_of;
use crate::policy::map::Holding;
use crate::policy::standing::{Held, Standing, Unit};

/// Whose capacity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// A pool's; the empty name: of all hosts of no pool.
    Pool(Name),
    /// A host's.
    Host(HostId),
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(name) if name.as_str().is_empty() => f.write_str("hosts of no pool"),
            Self::Pool(name) => write!(f, "pool {name}"),
            Self::Host(host) => write!(f, "{host}"),
        }
    }
}

/// Where more is promised than may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Whose capacity.
    pub whose: Whose,
    /// Which resource; amounts are in its unit.
    pub resource: ResourceKind,
    /// What policies guarantee there before the change.
    pub guaranteed_old: u128,
    /// What they guarantee after it.
    pub guaranteed_new: u128,
    /// What is granted there beside to whom no policy guarantees this resource, as far as their limits after the change go.
    pub granted_beside: u128,
    /// What may be promised: inventory × overcommit.
    pub room: u128,
    /// What is missing.
    pub short: u128,
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { whose, resource, guaranteed_new, granted_beside, room, short, .. } = self;
        let unit = resource.unit_name();
        write!(
            f,
            "{whose} has {room} {unit} to promise, and {guaranteed_new} would be guaranteed beside {granted_beside} granted: "
        )?;
        write!(f, "{short} are missing")
    }
}

impl Shortfall {
    /// Whether the change promises more there than was promised before. If not, it is not the change that does not fit.
    pub const fn is_of_change(&self) -> bool {
        self.guaranteed_new > self.guaranteed_old
    }
}

/// Whether what is promised fits: guarantees, and what is granted without one, on each host and in each pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Where it does not.
    pub shortfalls: Vec<Shortfall>,
}

#[derive(Default)]
struct Sums {
    guaranteed_old: [u128; 5],
    guaranteed_new: [u128; 5],
    beside: [u128; 5],
    room: [u128; 5],
}

impl Sums {
    fn count(&mut self, unit: &Unit, before: Option<&Holding>, after: Option<&Holding>) {
        for kind in ResourceKind::ALL {
            let guarantee = |holding: Option<&Holding>| holding.and_then(|holding| holding.guarantee.get(kind));
            let index = kind as usize;
            self.guaranteed_old[index] += u128::from(guarantee(before).unwrap_or(0));
            match guarantee(after) {
                Some(amount) => self.guaranteed_new[index] += u128::from(amount),
                None => {
                    let granted = unit.granted.get(kind).unwrap_or(0);
                    let limit = after.and_then(|holding| holding.limit.get(kind)).unwrap_or(u64::MAX);
                    self.beside[index] += u128::from(granted.min(limit));
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.guaranteed_old, &other.guaranteed_old),
            (&mut self.guaranteed_new, &other.guaranteed_new),
            (&mut self.beside, &other.beside),
            (&mut self.room, &other.room),
        ];
        for (sums, more) in pairs {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    fn shortfalls(&self, whose: &Whose) -> impl Iterator<Item = Shortfall> {
        ResourceKind::ALL.into_iter().filter_map(move |resource| {
            let index = resource as usize;
            let short = (self.guaranteed_new[index] + self.beside[index]).saturating_sub(self.room[index]);
            (short > 0).then(|| Shortfall {
                whose: whose.clone(),
                resource,
                guaranteed_old: self.guaranteed_old[index],
                guaranteed_new: self.guaranteed_new[index],
                granted_beside: self.beside[index],
                room: self.room[index],
                short,
            })
        })
    }
}

impl Capacity {
    /// Holds what is promised after a change against what there is. What is not in a host's inventory has no room.
    pub(super) fn of(standing: &Standing, before: &Held<'_>, after: &Held<'_>) -> Self {
        let mut hosts: BTreeMap<HostId, Sums> = BTreeMap::new();
        for (id, host) in &standing.hosts {
            let room = host.capacity.amounts().map(|amount| standing.promisable(amount.unwrap_or(0)));
            hosts.insert(*id, Sums { room, ..Sums::default() });
        }
        for (unit, (before, after)) in standing.units.iter().zip(before.holdings.iter().zip(&after.holdings)) {
            hosts.entry(unit.host).or_default().count(unit, before.as_ref(), after.as_ref());
        }
        let mut pools: BTreeMap<Name, Sums> = BTreeMap::new();
        for (id, sums) in &hosts {
            pools.entry(pool_of(standing, id)).or_default().merge(sums);
        }
        let pools = pools.into_iter().map(|(name, sums)| (Whose::Pool(name), sums));
        let all = pools.chain(hosts.into_iter().map(|(id, sums)| (Whose::Host(id), sums)));
        Self { shortfalls: all.flat_map(|(whose, sums)| sums.shortfalls(&whose).collect::<Vec<_>>()).collect() }
    }

    /// Whether everything fits.
    pub const fn is_sufficient(&self) -> bool {
        self.shortfalls.is_empty()
    }

    /// In words, what the change promises and cannot be kept.
    pub fn refusals(&self) -> impl Iterator<Item = String> {
        self.shortfalls.iter().filter(|short| short.is_of_change()).map(ToString::to_string)
    }
}
