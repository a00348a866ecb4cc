//! Which plans this host takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::cbor;
use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::limits::DECISION_BYTES_MAX;
use quotary_common::plan::{CheckedPlan, ShapedControl};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::change::{ChangeText, Kind, Way};
use quotary_common::quorum::coverage::{TargetFacts, covers, is_reached, keeps, loosens, slews, spares};
use quotary_common::quorum::decision::{QuorumDecision, VerifiedDecision, verify_as_of};

use super::error::in_a_line;
use super::kept::is_in_time;
use super::{AuthorityError, Heard, Kept, Objection};
use crate::state::StateDir;

/// A decision that did not hold is looked at again after so long, ms: clocks and rosters move on.
const FAILED_MS: u64 = 60_000;

/// Whom this host believes, as of one reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The host.
    pub host: HostId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Who decides, as pinned.
    pub pin: Option<Authority>,
    /// Since when this host has known who decides, Unix ms; `None`: for longer than anybody knows.
    pub since_ms: Option<u64>,
    /// What it may lack.
    pub lack: Lack,
    /// Quorum decisions that the verifier says are in force, and that this host may not know to be.
    pub heard: Vec<Arc<Heard>>,
}

impl Trust {
    /// Who decides.
    ///
    /// # Errors
    /// [`Objection`] saying why that is not known here.
    fn pin(&self) -> Result<Authority, Objection> {
        self.pin.ok_or_else(|| match &self.lack {
            Lack::Nothing => Objection::NoAuthority,
            Lack::Asking => Objection::Learning,
            Lack::Because(why) => Objection::Lacking(why.clone()),
        })
    }
}

/// What the pin may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Nothing that anybody has told of.
    Nothing,
    /// More is being asked for just now.
    Asking,
    /// More is there, and could not be learned; or the pin does not read. Why, in a sentence.
    Because(String),
}

/// What the host itself sees of a plan's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The unit that it is, if it is one.
    pub unit: Option<Name>,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Who asked for the grant in whose group it is, if it is in one.
    pub uid: Option<u32>,
    /// Where its controls stand; what has no limit is left out.
    pub present: BTreeMap<ShapedControl, u64>,
    /// From where the plan would move them; what is left out moves from where its decision says.
    pub from: BTreeMap<ShapedControl, u64>,
    /// Where they stood before Quotary moved them; what had no limit is left out.
    pub stood: BTreeMap<ShapedControl, u64>,
}

/// How a plan may move its target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permit {
    /// How fast people let its controls be tightened, thousandths of their units per second; others as fast as the host
    /// does.
    pub slews: BTreeMap<ShapedControl, u64>,
    /// Whether it stands behind what was in force here when the agent started.
    pub is_of_before: bool,
}

/// A decision that is not kept, and what came of looking at it.
#[derive(Debug)]
struct Looked {
    at_ms: u64,
    /// The instant that it was held against, Unix ms.
    as_of_ms: u64,
    /// The authority that it was held against.
    under: Authority,
    outcome: Result<VerifiedDecision, String>,
}

/// Judges plans.
#[derive(Debug)]
pub struct Judge {
    trust: Option<Trust>,
    /// What was acted on; otherwise why that is not known, in a sentence.
    kept: Result<Kept, String>,
    /// By the digest of their bytes, those that plans carry now: nothing is verified with every reply.
    looked: BTreeMap<Digest, Looked>,
    /// Why something that is in force could not be kept, in a sentence. The same is not logged with each reply.
    unkept: Option<String>,
}

impl Judge {
    /// Reads what was acted on before. That it does not read is told, and keeps plans from being taken that need it.
    pub fn open(state: StateDir) -> Self {
        let kept = Kept::load(state).map_err(|error| {
            let why = in_a_line(&error);
            tracing::error!(%why, "which policies are in force is not known");
            why
        });
        Self { trust: None, kept, looked: BTreeMap::new(), unkept: None }
    }

    /// Takes note of whom this host believes, and of all plans that it is given.
    pub fn given<'p>(&mut self, trust: Trust, plans: impl Iterator<Item = &'p CheckedPlan>, now_ms: u64) {
        let carried: Vec<&[u8]> = plans.filter_map(|plan| plan.plan().decision.as_deref()).collect();
        let names: BTreeSet<Digest> = carried.iter().map(|bytes| Digest::of(&[bytes])).collect();
        self.looked.retain(|name, _| names.contains(name));
        if let Ok(kept) = &mut self.kept {
            kept.belong_to(&trust.deployment);
            // Others may decide since it was verified: then it is asked for again.
            let heard = || trust.heard.iter().map(|heard| &**heard).filter(|heard| trust.pin == Some(heard.under));
            let mut came = vec![kept.put_in_force(heard(), now_ms)];
            if matches!(came.as_slice(), [Err(AuthorityError::TooMany(_))]) {
                // As many as there is room for.
                came = heard().map(|heard| kept.put_in_force(std::iter::once(heard), now_ms)).collect();
            }
            let mut unkept = None;
            for came in came {
                match came {
                    Ok(new) => new.into_iter().for_each(|change| {
                        tracing::info!(policy = %change.name, change = %change.id, "a quorum decision is in force");
                    }),
                    Err(error) => unkept = Some(in_a_line(&error)),
                }
            }
            if unkept != self.unkept
                && let Some(why) = &unkept
            {
                // Tried again with the next reply.
                tracing::error!(%why, "a policy is in force, and not here");
            }
            self.unkept = unkept;
            kept.settle(&carried.iter().filter_map(|bytes| text_of(bytes)).collect(), now_ms);
        }
        self.trust = Some(trust);
    }

    /// The texts of the quorum decisions that are in force here.
    pub fn texts_in_force(&self) -> BTreeSet<Digest> {
        self.kept.as_ref().map(Kept::texts_in_force).unwrap_or_default()
    }

    /// Whether a plan may move its target at `now_ms` (Unix ms). A decision that it is the first to move something by is on
    /// the disk when this returns.
    ///
    /// Before anybody was enrolled nobody gives plans; until somebody was put in force those without a decision are free.
    ///
    /// # Errors
    /// [`Objection`].
    pub fn permits(&mut self, plan: &CheckedPlan, seen: &Seen, now_ms: u64) -> Result<Permit, Objection> {
        let Some(trust) = self.trust.clone() else { return Ok(Permit::default()) };
        let facts = TargetFacts {
            host: trust.host,
            unit: seen.unit.clone(),
            cgroup: seen.cgroup.clone(),
            uid: seen.uid,
            actual: seen.from.clone(),
            present: seen.present.clone(),
            now_ms,
        };
        let Some(bytes) = plan.plan().decision.as_deref() else {
            return self.without_decision(plan, &facts, seen, now_ms).map(|()| Permit::default());
        };
        let pin = trust.pin()?;
        let kept = self.kept.as_ref().map_err(|why| Objection::Lacking(why.clone()))?;
        // What is to come yet is held against those who decide now: it is no decision of theirs otherwise.
        let known = text_of(bytes).and_then(|text| kept.find_under(&text, &pin, now_ms)).cloned();
        let is_known = known.is_some();
        let decision = match known {
            Some(decision) => decision,
            None => self.look(bytes, &trust, pin, now_ms)?,
        };
        let policy = || decision.change().name.clone();
        covers(&decision, plan, &facts).map_err(|source| Objection::NotCovered { policy: policy(), source })?;
        let is_of_before = self.kept.as_ref().is_ok_and(|kept| kept.was_in_force(&decision.text().digest()));
        let permit = Permit { slews: slews(&decision, plan), is_of_before };
        if is_known {
            return Ok(permit);
        }
        let as_of_ms = self.held_as_of_ms(bytes).unwrap_or(now_ms);
        let kept = self.kept.as_mut().map_err(|why| Objection::Lacking(why.clone()))?;
        if kept.is_superseded(decision.change()) {
            return Err(Objection::Superseded(policy()));
        }
        let keep = kept.keep(bytes, &decision, pin, as_of_ms);
        if keep.map_err(|error| Objection::NotKept(in_a_line(&error)))? {
            let change = decision.change();
            tracing::info!(policy = %change.name, change = %change.id, "a quorum decision is acted on");
        }
        Ok(permit)
    }

    /// The instant that a decision was held against that is not kept, Unix ms.
    pub(super) fn held_as_of_ms(&self, bytes: &[u8]) -> Option<u64> {
        self.looked.get(&Digest::of(&[bytes])).map(|looked| looked.as_of_ms)
    }

    fn without_decision(
        &self,
        plan: &CheckedPlan,
        facts: &TargetFacts,
        seen: &Seen,
        now_ms: u64,
    ) -> Result<(), Objection> {
        let kept = match &self.kept {
            Ok(kept) => kept,
            Err(why) => {
                let loosens = plan.plan().courses.iter().all(|course| loosens(course, &seen.present));
                return if loosens { Ok(()) } else { Err(Objection::Tightens(why.clone())) };
            }
        };
        let in_force = kept.in_force(now_ms);
        let beyond = |decision: &VerifiedDecision, source| {
            let policy = decision.change().name.clone();
            Objection::Beyond { policy, source }
        };
        for decision in &in_force {
            spares(decision, plan, facts, &seen.stood).map_err(|source| beyond(decision, source))?;
        }
        // A policy for few stands above one for many: of those that reach one target the newest was decided knowing the
        // others.
        for decision in in_force {
            keeps(decision, plan, facts).map_err(|source| beyond(decision, source))?;
            if decision.change().kind != Kind::RevokePolicy && is_reached(decision, facts) {
                break;
            }
        }
        Ok(())
    }

    /// Verifies a decision that is not kept, unless that was done a moment ago.
    fn look(
        &mut self,
        bytes: &[u8],
        trust: &Trust,
        pin: Authority,
        now_ms: u64,
    ) -> Result<VerifiedDecision, Objection> {
        let name = Digest::of(&[bytes]);
        let is_fresh = |looked: &&Looked| {
            looked.under == pin && now_ms.checked_sub(looked.at_ms).is_some_and(|age_ms| age_ms < FAILED_MS)
        };
        let outcome = match self.looked.get(&name).filter(is_fresh) {
            Some(looked) => looked.outcome.clone(),
            None => {
                let as_of_ms = as_of(bytes, trust.since_ms, now_ms);
                let instants = (as_of_ms, now_ms);
                let verified = verify_as_of(bytes, &pin, &trust.deployment, instants);
                let outcome = verified.map_err(|fault| in_a_line(&fault));
                let looked = Looked { at_ms: now_ms, as_of_ms, under: pin, outcome: outcome.clone() };
                self.looked.insert(name, looked);
                outcome
            }
        };
        outcome.map_err(|why| match &trust.lack {
            Lack::Nothing => Objection::Decision(why),
            // It may be one of those that this host does not know yet.
            Lack::Asking => Objection::Learning,
            Lack::Because(lack) => Objection::Decision(format!("{why}; and {lack}")),
        })
    }
}

/// The instant that a decision's clocks are held against, Unix ms: now, and once it has taken effect its effective time, as whoever put it in force
/// held it. Past its apply-by time, and the while that it takes to be heard of, that is so only where this host came to know who decides after it had taken effect, and so to what is in force
/// already: one that was there, and was not given it in time, does not take it later.
pub(super) fn as_of(bytes: &[u8], since_ms: Option<u64>, now_ms: u64) -> u64 {
    let claimed = || {
        let decision: QuorumDecision = cbor::from_bytes(bytes, DECISION_BYTES_MAX).ok()?;
        let text = ChangeText::parse(&decision.text).ok()?;
        let change = text.change();
        let came_later = change.way == Way::Quorum && since_ms.is_some_and(|since_ms| since_ms > change.effective_ms);
        (is_in_time(change, now_ms) || came_later).then_some(change.effective_ms.min(now_ms))
    };
    claimed().unwrap_or(now_ms)
}

/// The text that a decision is over, by its digest: claimed.
pub(super) fn text_of(bytes: &[u8]) -> Option<Digest> {
    let decision: QuorumDecision = cbor::from_bytes(bytes, DECISION_BYTES_MAX).ok()?;
    Some(Digest::of(&[&*decision.text]))
}
