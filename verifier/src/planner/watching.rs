//! Use against the thresholds of the policies in force: reviews with suggested numbers, alerts, and policies that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::cbor::Text;
use quotary_common::envelope::Name;
use quotary_common::id::Digest;
use quotary_common::leaf::PolicyWatched;
use quotary_decide::policy::Then;
use quotary_decide::policy::watch::{Finding, HowIdle, Idle, Subject, Watch, Window};

use super::Sight;
use crate::core::Queue;

/// What is kept of one policy at most, the newest.
const FINDINGS_MAX: usize = 8;

/// What was seen of one policy.
#[derive(Debug, Clone, Default)]
pub struct OfPolicy {
    /// In words.
    pub words: Vec<String>,
    /// Documents that are suggested, the newest last.
    pub drafts: Vec<String>,
}

/// What was seen of policies, for readers; clones share it. After a restart it begins anew: what was told stands in the log.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<RwLock<BTreeMap<Name, OfPolicy>>>);

impl Watched {
    /// What was seen of one policy.
    pub fn of(&self, name: &Name) -> OfPolicy {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    fn keep(&self, all: BTreeMap<Name, OfPolicy>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// Watches.
#[derive(Debug, Default)]
pub(super) struct Watching {
    watch: Watch,
    findings: BTreeMap<Name, Vec<Finding>>,
    idle: BTreeSet<Name>,
}

impl Watching {
    /// Takes in what the newest evidence of each host says.
    pub(super) fn look(&mut self, sight: &Sight, queue: &Queue, watched: &Watched) {
        let map = sight.book.map();
        self.watch.follow(map, sight.now_ms);
        self.findings.retain(|name, _| map.get(name).is_some());
        let held = sight.standing.held(map);
        let committed: BTreeMap<_, u64> = sight
            .hosts
            .iter()
            .map(|snapshot| (snapshot.host.record.host, snapshot.host.progress.committed_at_ms))
            .collect();
        let mut alive = BTreeSet::new();
        for (unit, holding) in sight.standing.units.iter().zip(&held.holdings) {
            let (Some(holding), Some(ends_at_ms)) = (holding, committed.get(&unit.host)) else { continue };
            let subject = Subject { host: unit.host, target: unit.target.clone() };
            let window = Window { ends_at_ms: *ends_at_ms, usage: unit.usage, peak: unit.peak };
            for finding in self.watch.note(&subject, holding, &window) {
                self.found(finding, queue);
            }
            alive.insert(subject);
        }
        self.watch.retain(|subject| alive.contains(subject));
        let idle = self.watch.idle(sight.now_ms);
        self.told_idle(&idle, sight, queue);
        self.publish(&idle, watched);
    }

    fn found(&mut self, finding: Finding, queue: &Queue) {
        let seen = PolicyWatched {
            policy: finding.policy.clone(),
            version: finding.version,
            what: Text::lossy(match finding.threshold.then {
                Then::Review => "review",
                Then::Alert => "alert",
            }),
            why: Text::lossy(&words_of(&finding)),
            draft: finding.draft.as_ref().map(|draft| Digest::of(&[draft.as_bytes()])),
        };
        tracing::warn!(policy = %finding.policy, why = seen.why.as_str(), "use is beyond a policy's threshold");
        let _full = queue.policy_watched(seen);
        let of_policy = self.findings.entry(finding.policy.clone()).or_default();
        of_policy.push(finding);
        if of_policy.len() > FINDINGS_MAX {
            of_policy.remove(0);
        }
    }

    /// An idle policy is told once, until it is not idle any more.
    fn told_idle(&mut self, idle: &[Idle], sight: &Sight, queue: &Queue) {
        let now: BTreeSet<Name> = idle.iter().map(|one| one.policy.clone()).collect();
        for one in idle.iter().filter(|one| !self.idle.contains(&one.policy)) {
            let version = sight.book.map().get(&one.policy).map_or(0, |policy| policy.version);
            let (what, why) = (Text::lossy("idle"), Text::lossy(idle_words(one)));
            let _full =
                queue.policy_watched(PolicyWatched { policy: one.policy.clone(), version, what, why, draft: None });
        }
        self.idle = now;
    }

    fn publish(&self, idle: &[Idle], watched: &Watched) {
        let mut all: BTreeMap<Name, OfPolicy> = BTreeMap::new();
        for (name, findings) in &self.findings {
            let words = findings.iter().map(words_of).collect();
            let drafts = findings.iter().filter_map(|finding| finding.draft.clone()).collect();
            all.insert(name.clone(), OfPolicy { words, drafts });
        }
        for one in idle {
            all.entry(one.policy.clone()).or_default().words.push(idle_words(one).to_owned());
        }
        watched.keep(all);
    }
}

fn words_of(finding: &Finding) -> String {
    let Finding { subject, threshold, used_percent, since_ms, .. } = finding;
    let since = quotary_common::instant::rfc3339(*since_ms);
    let unit = threshold.resource.unit_name();
    format!(
        "{} on {}: {unit} at {used_percent} % of its limit, beyond its line since {since}",
        subject.target, subject.host
    )
}

const fn idle_words(idle: &Idle) -> &'static str {
    match idle.how {
        HowIdle::SelectsNothing => "idle: nothing runs that it selects",
        HowIdle::Unused => "idle: next to nothing of what it guarantees is used",
    }
}
