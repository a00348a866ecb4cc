//! What a change covers, in the lines that stand in its signed text: which targets, and between which values.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::HostId;
use quotary_common::limits::COVERS_MAX;
use quotary_common::quorum::covers::{Cover, Reach, Span};
use quotary_common::units::{ResourceKind, Resources};

use super::impact::Edit;
use super::map::{PolicyResourceMap, Tie};
use super::select::{HostFacts, Place, Selector};
use crate::allocate::{Rule, Rules};

/// What a change covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covers {
    /// The lines, in the order of application, target and host.
    pub lines: Vec<Cover>,
    /// Applications that it is for and that no kernel fact tells from others: no plan of its can be for them.
    pub nameless: BTreeSet<Name>,
}

/// Why it cannot be said what a change covers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoversFault {
    /// More lines than a text has.
    #[error("it covers more than {COVERS_MAX} targets: select fewer, by several policies")]
    TooMany,
    /// Policies are tied.
    #[error(transparent)]
    Tie(#[from] Tie),
    /// A name that a line cannot hold.
    #[error("`{0}` has white space, and cannot stand in a change")]
    Unwritable(Name),
}

/// The lines of what `edit` is for, before and after, over all `hosts` and whatever host is to come; what it leaves as it is too: hosts keep to the newest
/// decision over a policy alone.
///
/// A line is for one host where the old document and the new one name hosts, else for every one: which hosts have a label or belong to a pool may change, and the
/// policy is for those to come too.
///
/// # Errors
/// [`CoversFault`].
pub fn covers(
    (before, edit): (&PolicyResourceMap, &Edit),
    hosts: &BTreeMap<HostId, HostFacts>,
    rules: &Rules,
) -> Result<Covers, CoversFault> {
    let after = edit.applied_to(before);
    let old = before.get(edit.name());
    let selectors: Vec<&Selector> = old.into_iter().chain(edit.puts()).map(|policy| &policy.select).collect();
    let hosts = kinds_of_host(&selectors, hosts, [before, &after]);
    let names_host = selectors.iter().all(|selector| selector.host.is_some());
    let mut out = Covers { lines: Vec::new(), nameless: BTreeSet::new() };
    let of_edit = |rule: &&Rule| selectors.iter().any(|one| one.is_for(&rule.application, &rule.tenant));
    for rule in rules.all().iter().filter(of_edit) {
        let mut of_rule = BTreeMap::new();
        for host in &hosts {
            let place = Place { application: &rule.application, tenant: &rule.tenant, host };
            // Where others are tied nothing is given, before or after; where this change would be, it cannot be.
            let was = before.holding(&place).unwrap_or_default();
            let is = after.holding(&place).or_else(|tie| {
                let is_of_edit = tie.policies.contains(edit.name());
                if is_of_edit { Err(tie) } else { Ok(None) }
            })?;
            let amounts = |held: &Option<super::Holding>| {
                held.as_ref().map_or_else(Default::default, |held| (held.policy.guarantee, held.limit))
            };
            let (old, new) = (amounts(&was), amounts(&is));
            let class = is.as_ref().or(was.as_ref()).and_then(|held| held.class).unwrap_or(rule.class_best);
            let spans = (spans(&old.0, &new.0), spans(&old.1, &new.1));
            let is_own = |held: &Option<super::Holding>| {
                held.as_ref().is_some_and(|held| held.policy.name == *edit.name() && held.says_anything())
            };
            if old != new || is_own(&was) || is_own(&is) {
                of_rule.insert((names_host.then_some(host.id), spans), class);
            }
        }
        let Some(reach) = reach(rule) else {
            if !of_rule.is_empty() {
                out.nameless.insert(rule.application.clone());
            }
            continue;
        };
        for ((host, (guarantee, limit)), class) in of_rule {
            let (application, tenant) = (written(&rule.application)?, written(&rule.tenant)?);
            out.lines.push(Cover { application, tenant, host, reach: reach.clone(), class, guarantee, limit });
        }
        if out.lines.len() > COVERS_MAX {
            return Err(CoversFault::TooMany);
        }
    }
    out.lines.sort_by(|one, next| {
        (&one.application, &one.reach, one.host).cmp(&(&next.application, &next.reach, next.host))
    });
    Ok(out)
}

fn written(name: &Name) -> Result<Name, CoversFault> {
    let is_plain = !name.as_str().is_empty() && !name.as_str().contains(char::is_whitespace);
    if is_plain { Ok(name.clone()) } else { Err(CoversFault::Unwritable(name.clone())) }
}

type Spans = [Option<Span>; 5];

fn spans(old: &Resources, new: &Resources) -> Spans {
    ResourceKind::ALL.map(|kind| match (old.get(kind), new.get(kind)) {
        (None, None) => None,
        (before, after) => Some(Span { before, after }),
    })
}

/// How an agent knows a target of the rule: by the narrowest of what the rule says. A rule for everything names nothing.
fn reach(rule: &Rule) -> Option<Reach> {
    let selector = &rule.selector;
    let unit = selector.unit.as_deref().and_then(Name::new).map(Reach::Unit);
    let prefix = selector.cgroup_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/'));
    let group = prefix.filter(|path| !path.is_empty()).and_then(CgroupPath::new).map(Reach::Cgroup);
    unit.or(group).or(selector.uid.map(Reach::Uid))
}

/// One host of each kind that the policies tell apart, among those that the change is for; and one of which nothing is said.
fn kinds_of_host(
    selectors: &[&Selector],
    hosts: &BTreeMap<HostId, HostFacts>,
    maps: [&PolicyResourceMap; 2],
) -> Vec<HostFacts> {
    let choosy: BTreeSet<&Selector> =
        maps.iter().flat_map(|map| map.policies()).map(|policy| &policy.select).filter(|one| one.is_choosy()).collect();
    let mut kinds: BTreeMap<Vec<bool>, HostFacts> = BTreeMap::new();
    let blank = HostFacts::new(HostId::new([0; 32]), Resources::default());
    for host in hosts.values().chain([&blank]) {
        if selectors.iter().any(|one| one.is_for_host(host)) {
            let kind = choosy.iter().map(|one| one.is_for_host(host)).collect();
            kinds.entry(kind).or_insert_with(|| host.clone());
        }
    }
    kinds.into_values().collect()
}
