//! What depends on what a change touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::envelope::Name;
use serde::{Deserialize, Serialize};

use super::Edit;
use crate::policy::document::Policy;
use crate::policy::map::PolicyResourceMap;

/// An application or a policy, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// An application.
    Application(Name),
    /// A policy.
    Policy(Name),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Application(name) => write!(f, "application {name}"),
            Self::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

/// A dependency that the change touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// The policy that depends.
    pub policy: Name,
    /// On what.
    pub on: Thing,
    /// How many steps from the change: 0 is what the changed policy itself depends on, 1 depends on what it touches, and so on.
    pub steps: u32,
    /// Whether it would not be met any more: the policy that it rests on is not in force.
    pub is_broken: bool,
}

/// What the changed policy depends on, and whatever depends on it or on an application that it touches, at any remove.
pub(super) fn dependencies(
    (before, after): (&PolicyResourceMap, &PolicyResourceMap),
    edit: &Edit,
    touched: &BTreeSet<&Name>,
) -> Vec<Dependency> {
    let is_broken = |on: &Thing| match on {
        Thing::Policy(name) => after.get(name).is_none(),
        Thing::Application(_) => false,
    };
    let mut out = BTreeSet::new();
    let named = |policy: &Name, on: Thing, steps| {
        let is_broken = is_broken(&on);
        Dependency { policy: policy.clone(), on, steps, is_broken }
    };
    for policy in edit.puts().into_iter().chain(before.get(edit.name())) {
        out.extend(needs(policy).map(|on| named(&policy.name, on, 0)));
    }
    let mut needed_by: BTreeMap<Thing, Vec<&Arc<Policy>>> = BTreeMap::new();
    for policy in after.policies() {
        needs(policy).for_each(|on| needed_by.entry(on).or_default().push(policy));
    }
    let mut seen: BTreeSet<Thing> = touched.iter().map(|name| Thing::Application((*name).clone())).collect();
    seen.insert(Thing::Policy(edit.name().clone()));
    let mut front: Vec<Thing> = seen.iter().cloned().collect();
    let mut steps = 0;
    while !front.is_empty() {
        steps += 1;
        let mut next = Vec::new();
        for on in front {
            for policy in needed_by.get(&on).into_iter().flatten().filter(|policy| policy.name != *edit.name()) {
                out.insert(named(&policy.name, on.clone(), steps));
                let application = policy.select.application.clone().map(Thing::Application);
                let further = application.into_iter().chain([Thing::Policy(policy.name.clone())]);
                next.extend(further.filter(|thing| seen.insert(thing.clone())));
            }
        }
        front = next;
    }
    out.into_iter().collect()
}

fn needs(policy: &Policy) -> impl Iterator<Item = Thing> {
    let applications = policy.depends_on.applications.iter().cloned().map(Thing::Application);
    applications.chain(policy.depends_on.policies.iter().cloned().map(Thing::Policy))
}
