//! The loop and its state.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use quotary_common::envelope::{EnforcementWrite, Event, EventKind, HostFacts, Mode};
use quotary_common::id::{BootId, GrantId, RequestId};
use quotary_common::limits::defaults;
use quotary_common::plan::Target;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::RequestReply;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RunError;
use super::enforcement::{Done, Enforcement, Enrolment, Facts, Holding, Opened, Order, Report};
use super::gauges::Gauges;
use super::grants::{GRANTS_BYTES_MAX, GRANTS_FILE, Grants};
use super::hearing::Hearing;
use super::learning::Learning;
use super::linking::Linking;
use super::requests::{Requests, Waiting};
use super::schedule::Schedule;
use super::supervision::Supervision;
use super::ticks::{TICK_MS, until_next_ms};
use super::view::Figures;
use super::works::PutBack;
use crate::clock;
use crate::config::Config;
use crate::enforce::Outcome;
use crate::evidence::count_event;
use crate::sample::{Application, Fold, Rates, Reader, Sample};
use crate::shape::TargetView;
use crate::socket::Ask;
use crate::state::StateDir;

/// Why nothing is enforced after a `restore`.
const RESTORED: &str = "root has put everything back: nothing is enforced until the agent is started again";
/// Why nothing is enforced under the kill switch.
const SWITCHED_OFF: &str = "the kill switch is set, everything is put back: nothing is enforced until it is gone";
/// Writes that wait for an envelope.
const WRITES_WAITING_MAX: usize = 4_096;
/// So many are told soon: about what an envelope holds.
const WRITES_SOON: usize = 256;

/// Everything that the loop owns.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) state: StateDir,
    pub(super) boot_id: BootId,
    pub(super) host_facts: HostFacts,
    pub(super) obstacle: watch::Sender<String>,
    pub(super) enforcement: Enforcement,
    pub(super) enforcement_facts: Facts,
    pub(super) holding: Holding,
    pub(super) grants: Grants,
    /// What applications state of themselves.
    pub(super) gauges: Gauges,
    pub(super) requests: Requests,
    pub(super) figures: Figures,
    pub(super) fold: Fold,
    pub(super) events: Vec<Event>,
    pub(super) writes: VecDeque<EnforcementWrite>,
    pub(super) schedule: Schedule,
    pub(super) linking: Linking,
    /// Who decides about policies.
    pub(super) learning: Learning,
    /// What they decided that is in force.
    pub(super) hearing: Hearing,
    /// Whose each request of the committed envelope is, while its grant set is being applied.
    pub(super) owners: BTreeMap<RequestId, u32>,
    /// Orders that change what is held and have no report yet: no envelope is built meanwhile.
    pub(super) changing: u32,
    /// The enrolment that the enforcer must know of before evidence is sent under it.
    pub(super) enrolment: Option<Enrolment>,
    /// Root has put everything back: nothing is enforced until the agent is started again, whatever becomes of the kill switch.
    pub(super) is_restored: bool,
    /// The kill switch is set: nothing is enforced until it is gone.
    pub(super) is_switched_off: bool,
    pub(super) tasks: TaskTracker,
    pub(super) supervision: Supervision,
    asked: mpsc::Receiver<Ask>,
    reports: mpsc::UnboundedReceiver<Report>,
    reader: Reader,
    last_sample: Option<Sample>,
    applications: Vec<Application>,
    next_sample_ms: u64,
    next_tick_ms: u64,
    is_ticking: bool,
    kept: Option<oneshot::Receiver<bool>>,
}

impl Agent {
    /// An agent that has opened its enforcement and nothing else yet.
    pub(super) fn new(
        config: Config,
        state: StateDir,
        boot_id: BootId,
        host_facts: HostFacts,
        opened: Opened,
        asked: mpsc::Receiver<Ask>,
        obstacle: watch::Sender<String>,
    ) -> Result<Self, RunError> {
        let now_ms = clock::boottime_ms();
        let kept = state.read(GRANTS_FILE, GRANTS_BYTES_MAX)?;
        let grants = Grants::restore(kept.as_deref(), &opened.holding, boot_id, opened.facts.mode, now_ms);
        let evidence_ms = config.evidence_ms.unwrap_or(defaults::EVIDENCE_MS);
        let mut agent = Self {
            fold: Fold::new(window(&config, defaults::WINDOW_MS)),
            schedule: Schedule::new(evidence_ms, config.request_evidence_min_interval_ms, now_ms),
            linking: Linking::new(config.retry_max_ms),
            learning: Learning::default(),
            hearing: Hearing::default(),
            reader: Reader::new(&config.root),
            enforcement: opened.enforcement,
            enforcement_facts: opened.facts,
            holding: Holding::default(),
            gauges: Gauges::default(),
            requests: Requests::default(),
            figures: Figures::default(),
            events: Vec::new(),
            writes: VecDeque::new(),
            owners: BTreeMap::new(),
            changing: 0,
            enrolment: None,
            is_restored: false,
            is_switched_off: false,
            tasks: TaskTracker::new(),
            supervision: Supervision::of_this_process(),
            reports: opened.reports,
            last_sample: None,
            applications: Vec::new(),
            next_sample_ms: now_ms,
            next_tick_ms: now_ms + TICK_MS,
            is_ticking: false,
            kept: None,
            config,
            state,
            boot_id,
            host_facts,
            obstacle,
            grants,
            asked,
        };
        count_event(&mut agent.events, EventKind::AgentStarted, 1, now_ms);
        agent.note(opened.outcome);
        agent.hold(opened.holding, now_ms);
        agent.obstacle.send_replace("the agent has just started and has not reached the verifier yet".to_owned());
        Ok(agent)
    }

    /// Goes round until `stop`.
    pub(super) async fn run(&mut self, stop: &CancellationToken) {
        self.supervision.ready(&self.standing());
        loop {
            self.do_what_is_due();
            let pause = Duration::from_millis(self.wake_ms().saturating_sub(clock::boottime_ms()));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                report = self.reports.recv() => match report {
                    Some(report) => self.reported(report),
                    None => {
                        tracing::error!("the enforcement thread is gone: the agent stops, limits end with their leases");
                        return;
                    }
                },
                Some(worked) = self.linking.results.recv() => self.worked(worked),
                Some(learned) = self.learning.results.recv() => self.learned(learned),
                Some(heard) = self.hearing.results.recv() => self.heard(heard),
                Some(ask) = self.asked.recv() => self.answer(ask),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn do_what_is_due(&mut self) {
        let now_ms = clock::boottime_ms();
        if now_ms >= self.next_sample_ms {
            self.sample(now_ms);
            // Samples that were missed (suspend, overload) are gaps, not a burst.
            let next_ms = self.next_sample_ms + self.config.sample_ms;
            self.next_sample_ms = if next_ms > now_ms { next_ms } else { now_ms + self.config.sample_ms };
        }
        if now_ms >= self.next_tick_ms && !self.is_ticking {
            self.is_ticking = self.enforcement.order(Order::Tick).is_ok();
            let effective_ms = self.holding.shaped.next_effective_ms;
            let effective_in_ms = effective_ms.map(|at_ms| at_ms.saturating_sub(clock::unix_ms()));
            self.next_tick_ms = now_ms + until_next_ms(effective_in_ms);
            self.give_back_unused(now_ms);
            self.keep();
        }
        self.tell_enrolment();
        if self.is_link_free() && now_ms >= self.schedule.due_ms() {
            self.work(now_ms);
        }
    }

    fn is_link_free(&self) -> bool {
        self.changing == 0 && self.enrolment.is_none() && !self.linking.is_working()
    }

    fn wake_ms(&self) -> u64 {
        let mut wake_ms = self.next_sample_ms;
        if !self.is_ticking {
            wake_ms = wake_ms.min(self.next_tick_ms);
        }
        if self.is_link_free() {
            wake_ms = wake_ms.min(self.schedule.due_ms());
        }
        wake_ms
    }

    fn sample(&mut self, now_ms: u64) {
        let sample = self.reader.sample(now_ms, &self.applications);
        for fault in &sample.faults {
            tracing::debug!(error = fault as &dyn std::error::Error, "a part of a sample is missing");
        }
        if let Some(last) = &self.last_sample {
            self.fold.add(&Rates::between(last, &sample));
        }
        self.gauges.sample(&sample, &mut self.fold);
        self.last_sample = Some(sample);
    }

    /// Notes what the enforcer did.
    pub(super) fn note(&mut self, outcome: Outcome) {
        self.grants.note(&outcome);
        for event in outcome.events {
            crate::evidence::add_event(&mut self.events, event);
        }
        self.writes.extend(outcome.writes);
        let excess = self.writes.len().saturating_sub(WRITES_WAITING_MAX);
        if excess > 0 {
            self.writes.drain(..excess);
            count_event(&mut self.events, EventKind::LeftOut, excess as u64, clock::boottime_ms());
        }
        if !outcome.ended.is_empty() || self.writes.len() >= WRITES_SOON {
            self.schedule.soon(clock::boottime_ms());
        }
    }

    /// Notes what the enforcer holds.
    fn hold(&mut self, holding: Holding, now_ms: u64) {
        self.grants.set_holding(&holding, now_ms);
        if let Some(can) = &holding.shaped.can {
            self.enforcement_facts.can = can.clone();
        }
        self.applications = holding
            .groups
            .iter()
            .map(|(cgroup, grant, entered_uid)| Application {
                cgroup: cgroup.clone(),
                grant: Some(*grant),
                uid: self.grants.uid(grant).or(*entered_uid),
                unit: None,
            })
            .chain(holding.shaped.targets.iter().map(shaped))
            .collect();
        self.gauges.keep(|grant| self.grants.knows(grant));
        self.hearing.settle(&holding.shaped.in_force);
        self.holding = holding;
    }

    fn reported(&mut self, report: Report) {
        let now_ms = clock::boottime_ms();
        let Report { done, outcome, holding } = report;
        // Before anything is noted of them, new grants must be known.
        let waiting = match &done {
            Done::Applied(set) => {
                self.changing = self.changing.saturating_sub(1);
                self.take_in(set.set().grants.to_vec(), *set.lease(), now_ms)
            }
            _ => Vec::new(),
        };
        self.note(outcome);
        if let Some(holding) = holding {
            self.hold(holding, now_ms);
        }
        match done {
            Done::Ticked => {
                self.is_ticking = false;
                // Here and nowhere else: the loop goes round, and the enforcement thread has answered.
                self.supervision.alive(now_ms, &self.standing());
            }
            Done::Enrolled => self.changing = self.changing.saturating_sub(1),
            Done::Applied(_) => self.answer_granted(waiting, now_ms),
            Done::Entered { grant, result, reply } => {
                let answer = result.and_then(|()| {
                    self.grants.entered(&grant);
                    let gone = || Refusal::new(Reason::LeaseExpired, "the grant has ended");
                    self.grants.show(&grant, now_ms).ok_or_else(gone)
                });
                let _ = reply.send(answer);
            }
            Done::Released { reply } => {
                self.changing = self.changing.saturating_sub(1);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
            Done::Switched { is_off } => self.is_switched_off = is_off,
            Done::Restored { put_back, reply } => {
                self.changing = self.changing.saturating_sub(1);
                let PutBack { grants, targets, left } = put_back;
                tracing::warn!(grants, targets, ?left, "{RESTORED}");
                let _ = reply.send(Ok(quotary_common::wire::RestoreReply { grants, targets, left }));
            }
        }
        self.keep();
    }

    /// Takes in the grants of an applied set: those that are held already, and those that somebody waits for.
    fn take_in(
        &mut self,
        grants: Vec<quotary_common::grant::Grant>,
        lease: quotary_common::lease::Lease,
        now_ms: u64,
    ) -> Vec<(GrantId, Waiting)> {
        let mut answered = Vec::new();
        let mut nobodys = Vec::new();
        for grant in grants {
            let waiting = self.requests.answered(&grant.request);
            if waiting.is_none() && !self.grants.knows(&grant.id) {
                nobodys.push(grant.id);
                continue;
            }
            let uid = self.owners.get(&grant.request).copied();
            self.grants.take_in(&grant, waiting.as_ref().map(|waiting| waiting.peer.uid).or(uid), lease, now_ms);
            answered.extend(waiting.map(|waiting| (grant.id, waiting)));
        }
        self.owners.clear();
        // Whoever asked went away meanwhile.
        self.release(nobodys, None);
        answered
    }

    fn answer_granted(&mut self, waiting: Vec<(GrantId, Waiting)>, now_ms: u64) {
        let mut unheard = Vec::new();
        for (id, Waiting { arrived_us, reply, .. }) in waiting {
            let Some(grant) = self.grants.show(&id, now_ms) else {
                let late = "the grant came when its lease was over: ask again";
                let _ = reply.send(Err(Refusal::new(Reason::LeaseExpired, late)));
                continue;
            };
            self.figures.request_to_enforced_us.add(clock::boottime_us().saturating_sub(arrived_us));
            tracing::info!(grant = %id, application = %grant.application, tenant = %grant.tenant, "granted");
            if reply.send(Ok(RequestReply::Granted { grant })).is_err() {
                unheard.push(id);
            }
        }
        self.release(unheard, None);
    }

    /// Why nothing is enforced, where somebody of this host wants it so.
    pub(super) fn why_halted(&self) -> Option<&'static str> {
        match (self.is_restored, self.is_switched_off) {
            (true, _) => Some(RESTORED),
            (false, true) => Some(SWITCHED_OFF),
            (false, false) => None,
        }
    }

    /// How things stand, for whoever asks the service manager.
    fn standing(&self) -> String {
        let mode = match self.enforcement_facts.mode {
            Mode::Observe => "observe",
            Mode::DryRun => "dry-run",
            Mode::Enforce => "enforce",
        };
        if let Some(why) = self.why_halted() {
            return format!("{mode}: {why}");
        }
        match self.figures.accepted_at_ms {
            Some(_) if self.linking.logged.is_empty() => format!("{mode}: the verifier accepts evidence"),
            _ => format!("{mode}: {}", *self.obstacle.borrow()),
        }
    }

    /// Has grants ended.
    pub(super) fn release(&mut self, grants: Vec<GrantId>, reply: Option<crate::socket::Reply<()>>) {
        if grants.is_empty() && reply.is_none() {
            return;
        }
        match self.enforcement.order(Order::Release { grants, reply }) {
            Ok(()) => self.changing += 1,
            Err(Order::Release { reply: Some(reply), .. }) => {
                let _ = reply.send(Err(Refusal::new(Reason::Busy, "enforcement is busy: try again")));
            }
            // They end when they are found unused.
            Err(_) => {}
        }
        self.schedule.soon(clock::boottime_ms());
    }

    fn give_back_unused(&mut self, now_ms: u64) {
        let unused = self.grants.unused(now_ms);
        for grant in &unused {
            tracing::info!(%grant, "nothing runs under this grant and nobody watches it: it is given back");
        }
        self.release(unused, None);
    }

    /// Keeps whose the grants are, beside the loop, one write after the other.
    fn keep(&mut self) {
        if let Some(kept) = &mut self.kept {
            match kept.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                Ok(true) => {}
                // Again at the next tick; meanwhile the enforcer's journal knows who asked.
                Ok(false) | Err(oneshot::error::TryRecvError::Closed) => self.grants.set_unkept(),
            }
            self.kept = None;
        }
        let Some(bytes) = self.grants.take_unkept() else { return };
        let state = self.state.clone();
        let (done, kept) = oneshot::channel();
        self.kept = Some(kept);
        self.tasks.spawn_blocking(move || {
            let written = state.write(GRANTS_FILE, &bytes);
            if let Err(error) = &written {
                tracing::error!(error = error as &dyn std::error::Error, "whose the grants are is not kept");
            }
            // The loop is gone: nobody writes again.
            let _ = done.send(written.is_ok());
        });
    }

    /// Windows and evidence as the verifier wants them, unless the configuration says otherwise.
    pub(super) fn take_timing(&mut self, timing: quotary_common::wire::Timing) {
        let least_ms = self.config.sample_ms;
        if self.config.window_ms.is_none() {
            self.fold = Fold::new(window(&self.config, timing.window_ms.max(least_ms)));
        }
        let evidence_ms = self.config.evidence_ms.unwrap_or(timing.evidence_ms);
        self.schedule.set_interval(evidence_ms.clamp(least_ms, defaults::LEASE_MS));
    }

    /// Puts everything back and joins all that runs, within `limit`. Whether that was done.
    pub(super) async fn stop(mut self, limit: Duration) -> bool {
        // Nobody is kept waiting: what is asked from now on is refused.
        drop(self.asked);
        self.requests.refuse_all(&Refusal::new(Reason::Unavailable, "the agent is stopping"));
        let is_restored = self.enforcement.stop(limit).await;
        if is_restored {
            self.grants.set_holding(&Holding::default(), clock::boottime_ms());
        }
        drop(self.grants);
        self.linking.stop().await;
        self.learning.stop().await;
        self.hearing.stop().await;
        self.tasks.close();
        self.tasks.wait().await;
        is_restored
    }
}

/// What a plan moves is looked at as applications are: a plan without its load would say little.
fn shaped(view: &TargetView) -> Application {
    let unit = match &view.target {
        Target::Unit(unit) => Some(unit.clone()),
        Target::Cgroup(_) => None,
    };
    Application { cgroup: view.cgroup.clone(), grant: None, uid: None, unit }
}

fn window(config: &Config, otherwise_ms: u64) -> NonZeroU64 {
    config.window_ms.or(NonZeroU64::new(otherwise_ms)).unwrap_or(NonZeroU64::MIN)
}
