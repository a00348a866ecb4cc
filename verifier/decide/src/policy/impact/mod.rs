//! What a change of one policy does to what runs, computed before anyone approves it.
//!
//! Does: compares what every unit holds before and after, and sums it per application, tenant, host and pool; names who would be
//! throttled and by how much, what depends on it, where guarantees do not fit, and how critical all this makes the change.
//! May assume: that the standing is the verifier's own (grants, inventory, verified windows, forecasts).
//! Promises: integer arithmetic; the sums per application, tenant, host and pool are of the same units; guarantees that exceed what may be
//! promised are never called sufficient; cost in proportion to units and policies, not to their product.
//! Must never: take what cannot be judged for harmless: it makes the change critical.

mod capacity;
mod delta;
mod dependencies;
mod implied;
mod throttled;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::quorum::criticality::Criticality;
use serde::{Deserialize, Serialize};

use super::diff::{FieldChange, diff};
use super::document::Policy;
use super::map::{PolicyResourceMap, Tie};
use super::standing::Standing;

pub use capacity::{Capacity, Shortfall, Whose};
pub use delta::{Delta, Moved};
pub use dependencies::{Dependency, Thing};
pub use implied::{
    Implied, MOVED_CRITICAL_PERCENT, MOVED_HIGH_PERCENT, MOVED_MEDIUM_PERCENT, THROTTLED_CRITICAL_PERCENT,
    THROTTLED_HIGH_PERCENT,
};
pub use throttled::Throttled;

/// What a change does to the policies in force.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Puts a policy in force, in place of the one of its name if there is one.
    Put(Arc<Policy>),
    /// Takes one out.
    Revoke(Name),
}

impl Edit {
    /// The policy's name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Put(policy) => &policy.name,
            Self::Revoke(name) => name,
        }
    }
    /// The policy that it puts in force.
    pub const fn puts(&self) -> Option<&Arc<Policy>> {
        match self {
            Self::Put(policy) => Some(policy),
            Self::Revoke(_) => None,
        }
    }
    /// The policies in force after it.
    pub fn applied_to(&self, map: &PolicyResourceMap) -> PolicyResourceMap {
        match self {
            Self::Put(policy) => map.with(Arc::clone(policy)),
            Self::Revoke(name) => map.without(name),
        }
    }
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// The policy.
    pub policy: Name,
    /// What changes in its document.
    pub fields: Vec<FieldChange>,
    /// How many units hold something else than before.
    pub units_touched: u64,
    /// What moves, per application.
    pub applications: BTreeMap<Name, Delta>,
    /// Per tenant.
    pub tenants: BTreeMap<Name, Delta>,
    /// Per host.
    pub hosts: BTreeMap<HostId, Delta>,
    /// Per pool; under the empty name, on hosts of no pool.
    pub pools: BTreeMap<Name, Delta>,
    /// Who would be throttled, the worst first.
    pub throttled: Vec<Throttled>,
    /// Who depends on what is touched, and on what the policy depends.
    pub dependencies: Vec<Dependency>,
    /// Whether what is promised fits.
    pub capacity: Capacity,
    /// Applications on hosts where policies would be tied.
    pub ties: Vec<Tie>,
    /// What the delta implies, with the reasons.
    pub implied: Implied,
    /// The highest of the old document's, the new one's and the implied.
    pub criticality: Criticality,
    /// Why it cannot be done; empty: it can.
    pub refusals: Vec<String>,
}

/// What `edit` does to the policies of `map` and to all that runs.
pub fn assess(map: &PolicyResourceMap, edit: &Edit, standing: &Standing) -> Impact {
    let name = edit.name();
    let old = map.get(name);
    let after_map = edit.applied_to(map);
    let (before, after) = (standing.held(map), standing.held(&after_map));
    let moves = delta::moves(standing, &before, &after);
    let throttled = throttled::throttled(&moves);
    let touched = moves.iter().map(|one| &one.unit.application).collect();
    let dependencies = dependencies::dependencies((map, &after_map), edit, &touched);
    let capacity = Capacity::of(standing, &before, &after);
    let implied = implied::implied(&implied::Seen {
        standing,
        moves: &moves,
        throttled: &throttled,
        dependencies: &dependencies,
        astray: after.astray.len(),
    });
    let said = [old, edit.puts()].into_iter().flatten().map(|policy| policy.criticality).max();
    // Nothing is said where there is neither an old nor a new document: that is no harmless change.
    let criticality = said.map_or(Criticality::Critical, |said| said.max(implied.level));
    let mut impact = Impact {
        policy: name.clone(),
        fields: diff(old.map(|policy| &***policy), edit.puts().map(|policy| &***policy)),
        units_touched: moves.len() as u64,
        applications: delta::sums(&moves, |one| one.unit.application.clone()),
        tenants: delta::sums(&moves, |one| one.unit.tenant.clone()),
        hosts: delta::sums(&moves, |one| one.unit.host),
        pools: delta::sums(&moves, |one| delta::pool_of(standing, &one.unit.host)),
        throttled,
        dependencies,
        capacity,
        ties: after.ties,
        implied,
        criticality,
        refusals: Vec::new(),
    };
    impact.refusals = refusals(&impact, (old, edit), &after_map);
    impact
}

/// What stands in the way of the change, however many approve.
fn refusals(impact: &Impact, (old, edit): (Option<&Arc<Policy>>, &Edit), after: &PolicyResourceMap) -> Vec<String> {
    let mut out = Vec::new();
    let name = edit.name();
    match (old, edit) {
        (None, Edit::Revoke(_)) => out.push(format!("there is no policy {name} in force")),
        (Some(old), Edit::Put(new)) if new.version <= old.version => {
            out.push(format!("version {} of {name} is in force: a new document has a higher one", old.version));
        }
        _ => {}
    }
    // Ties of others stood before; who is named here came to be tied by this change.
    out.extend(impact.ties.iter().filter(|tie| tie.policies.contains(name)).map(Tie::to_string));
    if let Some((one, other)) = after.twins()
        && [&one, &other].contains(&name)
    {
        out.push(format!("{one} and {other} select the very same: neither would ever hold"));
    }
    out.extend(impact.capacity.refusals());
    out
}
