//! What else is on its way over the same: who approves one change knows of the others.

use std::collections::BTreeSet;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, HostId};
use quotary_common::instant::rfc3339;
use quotary_common::quorum::covers::Cover;

use super::book::{Book, Kept};
use crate::policy::life::State;

/// Lines at most: the rest is counted.
const LINES_MAX: usize = 20;
/// How each begins.
const BESIDES: &str = "besides, ";

impl Book {
    /// Changes that are open, approved or moving and are for the policy of this name, or for what `covers` names; in words, a line for each.
    pub(super) fn besides(&self, id: &ChangeId, name: &Name, covers: &[Cover]) -> Vec<String> {
        let own = Covered::of(covers);
        let under_way = self.changes.iter().filter(|(other, kept)| {
            let is_over = kept.record.state.is_over() || kept.record.state == State::InForce;
            *other != id && !is_over && kept.edit.is_some()
        });
        let mut lines: Vec<String> = under_way.filter_map(|(other, kept)| told(other, kept, name, &own)).collect();
        let more = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        if more > 0 {
            lines.push(format!("{BESIDES}{more} other changes over the same"));
        }
        lines
    }

    /// What a change would do, line by line, as it was found when it was proposed; with what else is on its way over the same now: since then others
    /// came, and some are over.
    pub fn impact_now(&self, id: &ChangeId) -> Vec<String> {
        let Some(kept) = self.changes.get(id) else { return Vec::new() };
        let is_settled = kept.record.state.is_over() || kept.record.state == State::InForce;
        let Some(edit) = kept.edit.as_ref().filter(|_| !is_settled) else { return kept.impact.clone() };
        let found = kept.impact.iter().filter(|line| !line.starts_with(BESIDES)).cloned();
        found.chain(self.besides(id, edit.name(), &kept.text.change().covers)).collect()
    }
}

fn told(id: &ChangeId, kept: &Kept, name: &Name, own: &Covered<'_>) -> Option<String> {
    let change = kept.text.change();
    let (state, at) = (kept.state_name(), rfc3339(kept.record.times.effective_at_ms));
    let head = format!("{BESIDES}change {id} ({}, {state}, effective {at})", kept.kind_name());
    if change.name.as_str() == name.as_str() {
        return Some(format!(
            "{head} is for the same policy: once one is in force, the other is edited while it is open, or else rejected"
        ));
    }
    let applications: BTreeSet<&str> = own.shared(&change.covers).collect();
    if applications.is_empty() {
        return None;
    }
    let applications = applications.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!("{head} of policy `{}` is for some of the same units: {applications}", change.name))
}

/// Whom a change is for.
struct Covered<'a> {
    /// On every host.
    everywhere: BTreeSet<(&'a Name, &'a Name)>,
    /// On some host.
    somewhere: BTreeSet<(&'a Name, &'a Name)>,
    /// On which.
    on: BTreeSet<(&'a Name, &'a Name, HostId)>,
}

impl<'a> Covered<'a> {
    fn of(covers: &'a [Cover]) -> Self {
        let who = |cover: &'a Cover| (&cover.application, &cover.tenant);
        let everywhere = covers.iter().filter(|cover| cover.host.is_none()).map(who).collect();
        let on = covers.iter().filter_map(|cover| Some((&cover.application, &cover.tenant, cover.host?))).collect();
        Self { everywhere, somewhere: covers.iter().map(who).collect(), on }
    }

    /// The applications that others are for as well.
    fn shared<'b>(&'b self, others: &'b [Cover]) -> impl Iterator<Item = &'b str> {
        let is_shared = |cover: &&Cover| {
            let who = (&cover.application, &cover.tenant);
            match cover.host {
                None => self.somewhere.contains(&who),
                Some(host) => self.everywhere.contains(&who) || self.on.contains(&(who.0, who.1, host)),
            }
        };
        others.iter().filter(is_shared).map(|cover| cover.application.as_str())
    }
}
