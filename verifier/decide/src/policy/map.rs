//! What every application has on every host from the policies in force, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::units::{Class, Resources};
use serde::{Deserialize, Serialize};

use super::document::Policy;
use super::select::Place;

/// Policies in force, found by place (`PolicyResourceMap` of design §8).
#[derive(Debug, Clone, Default)]
pub struct PolicyResourceMap {
    by_name: BTreeMap<Name, Arc<Policy>>,
    /// Those that name an application go before all others.
    by_application: BTreeMap<Name, Vec<Arc<Policy>>>,
    /// Those that name none.
    others: Vec<Arc<Policy>>,
}

/// Two or more policies of one specificity for one application on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{} select {application} on {host}, and none of them is more specific than the others", .policies.iter().map(Name::as_str).collect::<Vec<_>>().join(" and "))]
pub struct Tie {
    /// The application.
    pub application: Name,
    /// The host.
    pub host: HostId,
    /// All of them, by name.
    pub policies: Vec<Name>,
}

/// What an application has on a host, for each of its units or runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The policy that gives it.
    pub policy: Arc<Policy>,
    /// What is kept for it; nothing on a host that does not meet the policy's zone.
    pub guarantee: Resources,
    /// What it may have at most.
    pub limit: Resources,
    /// Its class, if the policy says.
    pub class: Option<Class>,
    /// Whether the host meets the zone that the policy requires.
    pub meets_zone: bool,
}

impl Holding {
    /// Whether it guarantees or limits anything.
    pub fn says_anything(&self) -> bool {
        let amounts = [&self.guarantee, &self.limit];
        amounts.into_iter().any(|amounts| *amounts != Resources::default())
    }
}

/// A policy that selects a place, and whether it won.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub policy: Name,
    /// Its version.
    pub version: u64,
    /// Whom it selects, in words.
    pub selects: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why, or why not.
    pub why: String,
}

impl PolicyResourceMap {
    /// The map of policies, of which each name has one: a later one takes an earlier one's place.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let by_name = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
        Self::of_names(by_name)
    }

    fn of_names(by_name: BTreeMap<Name, Arc<Policy>>) -> Self {
        let mut map = Self { by_name, ..Self::default() };
        for policy in map.by_name.values() {
            let same = match &policy.select.application {
                Some(application) => map.by_application.entry(application.clone()).or_default(),
                None => &mut map.others,
            };
            same.push(Arc::clone(policy));
        }
        for same in map.by_application.values_mut().chain([&mut map.others]) {
            same.sort_by_key(|policy| std::cmp::Reverse(policy.select.specificity()));
        }
        map
    }

    /// The map with a policy put in, in place of one of its name.
    #[must_use]
    pub fn with(&self, policy: Arc<Policy>) -> Self {
        let mut by_name = self.by_name.clone();
        by_name.insert(policy.name.clone(), policy);
        Self::of_names(by_name)
    }

    /// The map without a policy.
    #[must_use]
    pub fn without(&self, name: &Name) -> Self {
        let mut by_name = self.by_name.clone();
        by_name.remove(name);
        Self::of_names(by_name)
    }

    /// One policy.
    pub fn get(&self, name: &Name) -> Option<&Arc<Policy>> {
        self.by_name.get(name)
    }

    /// All policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.by_name.values()
    }

    /// Those that select a place, the most specific first.
    fn selecting<'a>(&'a self, place: &'a Place<'_>) -> impl Iterator<Item = &'a Arc<Policy>> {
        let named = self.by_application.get(place.application).into_iter().flatten();
        named.chain(&self.others).filter(|policy| policy.select.selects(place))
    }

    /// What an application has on a host; nothing if no policy selects it there.
    ///
    /// # Errors
    /// A [`Tie`]: then none of them gives anything there, and what held before goes on holding.
    pub fn holding(&self, place: &Place<'_>) -> Result<Option<Holding>, Tie> {
        let mut selecting = self.selecting(place);
        let Some(best) = selecting.next() else { return Ok(None) };
        let weight = best.select.specificity();
        let mut equals = selecting.take_while(|policy| policy.select.specificity() == weight).peekable();
        if equals.peek().is_some() {
            let mut policies: Vec<Name> =
                std::iter::once(best).chain(equals).map(|policy| policy.name.clone()).collect();
            policies.sort();
            return Err(Tie { application: place.application.clone(), host: place.host.id, policies });
        }
        let meets_zone = best.zone.as_ref().is_none_or(|zone| place.host.zones.contains(zone));
        let guarantee = if meets_zone { best.guarantee } else { Resources::default() };
        let (limit, class) = (best.limit, best.class);
        Ok(Some(Holding { policy: Arc::clone(best), guarantee, limit, class, meets_zone }))
    }

    /// Two policies that select the very same, whatever there is: neither would ever hold.
    pub fn twins(&self) -> Option<(Name, Name)> {
        let mut selectors = BTreeMap::new();
        self.by_name.values().find_map(|policy| {
            let twin = selectors.insert(&policy.select, &policy.name)?;
            Some((twin.clone(), policy.name.clone()))
        })
    }

    /// All policies that select a place, with why the one that holds does.
    pub fn explain(&self, place: &Place<'_>) -> Vec<Candidate> {
        let tie = self.holding(place).err();
        let mut winner: Option<&Arc<Policy>> = None;
        let candidate = |policy: &'_ Arc<Policy>, holds, why: String| Candidate {
            policy: policy.name.clone(),
            version: policy.version,
            selects: policy.select.to_string(),
            holds,
            why,
        };
        let mut out = Vec::new();
        for policy in self.selecting(place) {
            out.push(match (&tie, winner) {
                (Some(tie), _) if tie.policies.contains(&policy.name) => candidate(policy, false, tie.to_string()),
                (_, Some(winner)) => {
                    candidate(policy, false, format!("{} is more specific: {}", winner.name, winner.select))
                }
                (Some(_), None) => candidate(policy, false, "more specific ones are tied".to_owned()),
                (None, None) => {
                    winner = Some(policy);
                    let zone = policy.zone.as_ref().filter(|zone| !place.host.zones.contains(*zone));
                    let outside = zone.map_or_else(String::new, |zone| {
                        format!("; the host does not meet zone {zone}, so nothing is guaranteed")
                    });
                    candidate(policy, true, format!("the most specific that selects it{outside}"))
                }
            });
        }
        out
    }
}
