//! Plans as they are kept, and what their hosts told of them.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, CborError, Text};
use quotary_common::envelope::{ControlValue, Envelope, Event, EventKind, Name};
use quotary_common::id::{ChangeId, Digest};
use quotary_common::leaf::PlanChange;
use quotary_common::limits::{COURSES_MAX, SIGNED_BYTES_MAX};
use quotary_common::plan::{CheckedPlan, Course, Plan, ShapedControl, Target, check};
use quotary_common::sign::{Signed, SigningKey};
use quotary_common::wire::PlanState;

use super::rollout::Counts;

/// Last writes that are kept of one plan: one for each kernel file.
const WRITES_MAX: usize = 2 * COURSES_MAX;

/// A write of a plan, as an accepted evidence told of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PlanWrite {
    /// The kernel's file name.
    #[n(0)]
    pub control: Name,
    /// What was asked for.
    #[n(1)]
    pub after: ControlValue,
    /// What was read back.
    #[n(2)]
    pub actual: Option<ControlValue>,
    /// Whether the kernel acts on it.
    #[n(3)]
    pub effective: bool,
    /// Only shown, not written.
    #[n(4)]
    pub dry_run: bool,
    /// The evidence that tells of it.
    #[n(5)]
    pub evidence: Digest,
    /// When that was committed, Unix ms.
    #[n(6)]
    pub committed_at_ms: u64,
}

/// How a plan fares, as its host told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PlanTold {
    /// What happened to it.
    #[n(0)]
    pub kind: EventKind,
    /// The evidence that tells of it.
    #[n(1)]
    pub evidence: Digest,
    /// When that was committed, Unix ms.
    #[n(2)]
    pub committed_at_ms: u64,
}

impl PlanTold {
    /// What happened, in words; empty where the plan goes on.
    pub const fn words(self) -> &'static str {
        match self.kind {
            EventKind::PlanRefused => "its host refused the plan",
            EventKind::PlanGivenUp => "tightening was given up under pressure",
            EventKind::PlanRolledBack => "it was rolled back",
            EventKind::Contested => "somebody else writes its controls",
            _ => "",
        }
    }

    /// Whether somebody must look: the plan does not go where it should.
    pub const fn is_off(self) -> bool {
        matches!(
            self.kind,
            EventKind::PlanRefused | EventKind::PlanGivenUp | EventKind::PlanRolledBack | EventKind::Contested
        )
    }

    /// Whether it is over once the plan moves on.
    const fn passes(self) -> bool {
        matches!(
            self.kind,
            EventKind::PlanHeld | EventKind::PlanRolledBack | EventKind::PlanRefused | EventKind::Contested
        )
    }
}

/// A plan as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRecord {
    plan: CheckedPlan,
    form: RecordForm,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct RecordForm {
    #[cbor(n(0), with = "minicbor::bytes")]
    signed: Vec<u8>,
    #[n(1)]
    made_by: Text<160>,
    #[n(2)]
    made_at_ms: u64,
    #[n(3)]
    over: Option<Over>,
    #[n(4)]
    writes: Bounded<PlanWrite, WRITES_MAX>,
    #[n(5)]
    told: Option<PlanTold>,
    #[n(6)]
    of_change: Option<ChangeId>,
    #[n(7)]
    suffered: Option<Counts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Over {
    #[n(0)]
    change: PlanChange,
    #[n(1)]
    at_ms: u64,
}

impl PlanRecord {
    /// A plan that begins, signed with the key of grants.
    pub fn new(plan: CheckedPlan, key: &SigningKey, made_by: &str, now_ms: u64) -> Self {
        let signed = key.sign(plan.plan()).to_bytes();
        let form = RecordForm {
            signed,
            made_by: Text::lossy(made_by),
            made_at_ms: now_ms,
            over: None,
            writes: Bounded::default(),
            told: None,
            of_change: None,
            suffered: None,
        };
        Self { plan, form }
    }

    /// The same as a plan of a change.
    #[must_use]
    pub fn of_change(mut self, change: ChangeId) -> Self {
        self.form.of_change = Some(change);
        self
    }

    /// The change that it stems from, if it was not drafted by hand.
    pub fn change(&self) -> Option<ChangeId> {
        self.form.of_change
    }

    /// What its target has suffered since it is given, as its host told.
    pub fn suffered(&self) -> Counts {
        self.form.suffered.unwrap_or_default()
    }

    /// Whether what was written was read back at its target, by evidence that was committed from the effective time on. Controls that the host has
    /// not are never written, and do not count; where nothing was written nobody knows.
    pub fn is_aligned(&self, now_ms: u64) -> bool {
        let plan = self.plan();
        let stands = |course: &Course| {
            let target = course.setpoints.last().map(|last| last.value)?;
            let write = self.writes().iter().find(|write| write.control.as_str() == course.control.file_name())?;
            let actual = write.actual.as_ref().and_then(|actual| actual.as_str().parse::<u64>().ok());
            Some(actual.is_some_and(|actual| actual.abs_diff(target) <= course.control.slack(target)))
        };
        let mut written = plan.courses.iter().filter_map(stands).peekable();
        now_ms >= plan.effective_at_ms && written.peek().is_some() && written.all(|is_there| is_there)
    }

    /// The row's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(&self.form)
    }

    /// Reads a row. What stands in it is the verifier's own: its signature is not checked again.
    ///
    /// # Errors
    /// [`CborError`] when it is none.
    pub fn from_bytes(bytes: &[u8], bytes_max: usize) -> Result<Self, CborError> {
        let form: RecordForm = cbor::from_bytes(bytes, bytes_max)?;
        let signed = Signed::from_bytes(&form.signed)?;
        let plan: Plan = cbor::from_bytes(&signed.bytes, SIGNED_BYTES_MAX)?;
        let plan = check(plan).map_err(|_| CborError::NotCanonical)?;
        Ok(Self { plan, form })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.plan.plan()
    }
    /// The plan, with the lines that it follows.
    pub fn checked(&self) -> &CheckedPlan {
        &self.plan
    }
    /// The signed plan, as the host gets it.
    pub fn signed(&self) -> &[u8] {
        &self.form.signed
    }
    /// Who made it.
    pub fn made_by(&self) -> &str {
        self.form.made_by.as_str()
    }
    /// When, Unix ms.
    pub fn made_at_ms(&self) -> u64 {
        self.form.made_at_ms
    }
    /// How it ended, and when, Unix ms.
    pub fn over(&self) -> Option<(PlanChange, u64)> {
        self.form.over.map(|over| (over.change, over.at_ms))
    }
    /// The last write of each control that an accepted evidence told of.
    pub fn writes(&self) -> &[PlanWrite] {
        &self.form.writes
    }

    /// What its host read last of a control, of what this plan has written; `None` where it has written nothing, or that is no number.
    pub fn actual(&self, control: ShapedControl) -> Option<u64> {
        let write = self.writes().iter().find(|write| write.control.as_str() == control.file_name())?;
        write.actual.as_ref()?.as_str().parse().ok()
    }

    /// What its host told last of how it fares; what has passed since is not kept.
    pub fn told(&self) -> Option<PlanTold> {
        self.form.told
    }

    /// Where it stands at `now_ms`, by the clock.
    pub fn state(&self, now_ms: u64) -> PlanState {
        let plan = self.plan();
        match self.form.over {
            Some(_) => PlanState::Over,
            None if now_ms < plan.starts_at_ms => PlanState::Waiting,
            None if now_ms < plan.effective_at_ms => PlanState::Moving,
            None => PlanState::InForce,
        }
    }

    /// Where it goes, in words: for the log.
    pub fn summary(&self) -> String {
        let plan = self.plan();
        let targets = plan.courses.iter().filter_map(|course| {
            let last = course.setpoints.last()?;
            Some(format!("{} {} {}", course.control, last.value, course.control.unit()))
        });
        let targets: Vec<String> = targets.collect();
        format!("{} from {} to {} (Unix ms)", targets.join(", "), plan.starts_at_ms, plan.effective_at_ms)
    }

    /// Whether an event of its host is about its target.
    pub(super) fn is_about(&self, event: &Event) -> bool {
        let is_of_plans = matches!(
            event.kind,
            EventKind::PlanHeld
                | EventKind::PlanRolledBack
                | EventKind::PlanLate
                | EventKind::PlanGivenUp
                | EventKind::PlanRefused
                | EventKind::Contested
        );
        self.is_of_target(event) && is_of_plans
    }

    /// Notes how it fares by an envelope, whose last write of this plan was made at `written_at_ms`. Gives whether that is news.
    pub(super) fn note_told(&mut self, envelope: &Envelope, written_at_ms: Option<u64>, told: (Digest, u64)) -> bool {
        let before = self.form.told;
        if written_at_ms.is_some() && before.is_some_and(PlanTold::passes) {
            self.form.told = None;
        }
        let of_plan = envelope.events.iter().filter(|event| self.is_about(event));
        if let Some(event) = of_plan.max_by_key(|event| event.at_ms) {
            let news = PlanTold { kind: event.kind, evidence: told.0, committed_at_ms: told.1 };
            if !news.passes() || written_at_ms.is_none_or(|at_ms| at_ms <= event.at_ms) {
                self.form.told = Some(news);
            }
        }
        self.form.told != before
    }

    /// Whether an event is of its target's cgroup.
    pub(super) fn is_of_target(&self, event: &Event) -> bool {
        let Some(cgroup) = event.cgroup.as_ref().map(|cgroup| cgroup.as_str()) else { return false };
        match &self.plan().target {
            // The group of a unit is called like it; one that is not there is told by its name.
            Target::Unit(unit) => cgroup.rsplit('/').next() == Some(unit.as_str()),
            Target::Cgroup(path) => cgroup == path.as_str(),
        }
    }

    /// Counts what its target suffers by an envelope. Gives whether that is anything.
    pub(super) fn note_suffered(&mut self, envelope: &Envelope) -> bool {
        let mut more = Counts::default();
        for event in envelope.events.iter().filter(|event| self.is_of_target(event)) {
            match event.kind {
                EventKind::OomKill => more.out_of_memory += event.count,
                EventKind::CpuThrottled => more.throttled += 1,
                EventKind::PlanHeld | EventKind::PlanGivenUp => more.pressed += 1,
                EventKind::Contested => more.contested += 1,
                _ => {}
            }
        }
        let is_any = more != Counts::default();
        if is_any {
            self.form.suffered = Some(self.suffered().plus(more));
        }
        is_any
    }

    /// It is over from now on.
    pub(super) fn end(&mut self, change: PlanChange, now_ms: u64) {
        self.form.over = Some(Over { change, at_ms: now_ms });
    }

    pub(super) fn note(&mut self, write: PlanWrite) {
        let mut writes = std::mem::take(&mut self.form.writes).into_vec();
        writes.retain(|known| known.control != write.control);
        writes.push(write);
        self.form.writes = Bounded::truncating(writes).0;
    }
}
