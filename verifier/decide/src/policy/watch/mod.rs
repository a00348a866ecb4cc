//! Watching use against the thresholds of the policies in force.
//!
//! Does: takes each window of each unit's use, tells when a threshold's line was crossed for its time ([`Finding`]: a review with a draft, or
//! an alert), and names policies that nobody needs ([`Idle`]).
//! May assume: that windows come from verified evidence.
//! Promises: a handful of map operations per window and threshold, however many units there are; one excursion is told once, until all is calm
//! for as long again; a gap in the windows is no proof of anything.
//! Must never: change a policy: a draft goes the way of every change.

mod line;
mod suggest;

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::plan::Target;
use quotary_common::units::{ResourceKind, Resources};
use serde::{Deserialize, Serialize};

use self::line::LineState;
pub use self::suggest::suggest;
use super::document::{Policy, Then, Threshold};
use super::map::{Holding, PolicyResourceMap};

/// When a policy is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// No unit uses so much of any guarantee, in percent …
    pub idle_percent: u64,
    /// … for so long, ms; or nothing was selected for so long.
    pub idle_for_ms: u64,
}

impl Default for Settings {
    /// A tenth of a guarantee, for a week: what runs once a week is not idle.
    fn default() -> Self {
        Self { idle_percent: 10, idle_for_ms: 7 * 86_400_000 }
    }
}

/// A unit or run on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The host.
    pub host: HostId,
    /// What is limited there.
    pub target: Target,
}

/// What a unit used over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it ended, Unix ms.
    pub ends_at_ms: u64,
    /// Its use.
    pub usage: Resources,
    /// What it will need at the most, by the newest forecast (p95 of the peak).
    pub peak: Resources,
}

/// A threshold's line was crossed for its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The policy.
    pub policy: Name,
    /// Its version.
    pub version: u64,
    /// The threshold.
    pub threshold: Threshold,
    /// The unit by whose window it was found.
    pub subject: Subject,
    /// Its use, in percent of the limit.
    pub used_percent: u64,
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// A document with suggested numbers: only for a review, and where there is something to suggest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
}

/// A policy that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// The policy.
    pub policy: Name,
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// In what way.
    pub how: HowIdle,
}

/// In what way a policy is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HowIdle {
    /// Nothing runs that it selects.
    SelectsNothing,
    /// What runs uses next to nothing of what is kept for it.
    Unused,
}

/// What is watched of one policy.
#[derive(Debug)]
struct Watched {
    policy: Arc<Policy>,
    /// What each unit wants, by its newest window, with when that ended.
    units: BTreeMap<Subject, (u64, Resources)>,
    /// One for each threshold.
    lines: Vec<LineState>,
    /// When anything was selected last, Unix ms.
    selected_ms: u64,
    /// When anything used its guarantee last, Unix ms.
    busy_ms: u64,
}

/// All policies in force, watched.
#[derive(Debug, Default)]
pub struct Watch {
    settings: Settings,
    policies: BTreeMap<Name, Watched>,
    /// Under which policy each unit was seen last.
    homes: BTreeMap<Subject, Name>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The policies in force from `now_ms` on. One with another document begins anew.
    pub fn follow(&mut self, map: &PolicyResourceMap, now_ms: u64) {
        let is_same = |name: &Name, watched: &Watched| {
            map.get(name).is_some_and(|policy| policy.digest() == watched.policy.digest())
        };
        self.policies.retain(|name, watched| is_same(name, watched));
        for policy in map.policies().filter(|policy| !self.policies.contains_key(&policy.name)).collect::<Vec<_>>() {
            let lines = policy.thresholds.iter().map(|threshold| LineState::new(*threshold)).collect();
            let policy = Arc::clone(policy);
            let watched = Watched { lines, units: BTreeMap::new(), selected_ms: now_ms, busy_ms: now_ms, policy };
            self.policies.insert(watched.policy.name.clone(), watched);
        }
        let policies = &self.policies;
        self.homes.retain(|_, name| policies.contains_key(name));
    }

    /// Takes a window of a unit that has `holding`; tells what thresholds it crosses.
    pub fn note(&mut self, subject: &Subject, holding: &Holding, window: &Window) -> Vec<Finding> {
        let name = &holding.policy.name;
        if self.homes.get(subject).is_some_and(|home| home != name) {
            self.leave(subject);
        }
        let Some(watched) = self.policies.get_mut(name) else { return Vec::new() };
        if !self.homes.contains_key(subject) {
            self.homes.insert(subject.clone(), name.clone());
        }
        watched.note(subject, window, self.settings.idle_percent)
    }

    /// A unit is gone.
    pub fn leave(&mut self, subject: &Subject) {
        let home = self.homes.remove(subject).and_then(|name| self.policies.get_mut(&name));
        if let Some(watched) = home {
            watched.units.remove(subject);
            watched.lines.iter_mut().for_each(|line| line.leave(subject));
        }
    }

    /// Lets all units go that are not alive any more.
    pub fn retain(&mut self, is_alive: impl Fn(&Subject) -> bool) {
        let gone: Vec<Subject> = self.homes.keys().filter(|subject| !is_alive(subject)).cloned().collect();
        gone.iter().for_each(|subject| self.leave(subject));
    }

    /// The policies that nobody needs at `now_ms`, and has not for as long as the settings say.
    pub fn idle(&self, now_ms: u64) -> Vec<Idle> {
        let for_ms = self.settings.idle_for_ms;
        let idle = |watched: &Watched| {
            let is_long_ago = |since_ms: u64| now_ms.saturating_sub(since_ms) >= for_ms;
            let guarantees = watched.policy.guarantee != Resources::default();
            let (since_ms, how) = if is_long_ago(watched.selected_ms) {
                (watched.selected_ms, HowIdle::SelectsNothing)
            } else if guarantees && is_long_ago(watched.busy_ms) {
                (watched.busy_ms, HowIdle::Unused)
            } else {
                return None;
            };
            Some(Idle { policy: watched.policy.name.clone(), since_ms, how })
        };
        self.policies.values().filter_map(idle).collect()
    }
}

impl Watched {
    fn note(&mut self, subject: &Subject, window: &Window, idle_percent: u64) -> Vec<Finding> {
        let at_ms = window.ends_at_ms;
        if self.units.get(subject).is_some_and(|(last_ms, _)| *last_ms >= at_ms) {
            return Vec::new();
        }
        self.selected_ms = self.selected_ms.max(at_ms);
        let uses = |kind: ResourceKind| {
            let (used, kept) = (window.usage.get(kind)?, self.policy.guarantee.get(kind)?);
            Some(percent(used, kept) >= u128::from(idle_percent))
        };
        if ResourceKind::ALL.into_iter().filter_map(uses).any(|is_used| is_used) {
            self.busy_ms = self.busy_ms.max(at_ms);
        }
        let mut wants = Resources::default();
        ResourceKind::ALL
            .into_iter()
            .for_each(|kind| wants.set(kind, window.usage.get(kind).max(window.peak.get(kind))));
        self.units.insert(subject.clone(), (at_ms, wants));
        let mut out = Vec::new();
        for line in &mut self.lines {
            let kind = line.threshold().resource;
            let (Some(used), Some(limit)) = (window.usage.get(kind), self.policy.limit.get(kind)) else { continue };
            let used_percent = u64::try_from(percent(used, limit)).unwrap_or(u64::MAX);
            let Some(since_ms) = line.note(subject, used_percent, at_ms) else { continue };
            let threshold = *line.threshold();
            let is_review = threshold.then == Then::Review;
            let wanted = self.units.values().filter_map(|(_, wants)| wants.get(kind)).max();
            let draft = wanted.filter(|_| is_review).and_then(|wanted| suggest(&self.policy, &threshold, wanted));
            let (policy, version) = (self.policy.name.clone(), self.policy.version);
            out.push(Finding { policy, version, threshold, subject: subject.clone(), used_percent, since_ms, draft });
        }
        out
    }
}

fn percent(used: u64, of: u64) -> u128 {
    u128::from(used) * 100 / u128::from(of.max(1))
}
