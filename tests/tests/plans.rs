//! Shaping plans by hand: drafted, given with the reply, told of, ended, and kept over a crash.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use quotary_client::{Client, ClientError};
use quotary_common::cbor::Text;
use quotary_common::envelope::{BackendKind, CgroupPath, ControlValue, EnforcementWrite, Event, EventKind, Mode, Name};
use quotary_common::id::{HostId, PlanId};
use quotary_common::leaf::{Decision, PlanChange, Planned};
use quotary_common::plan::{OnPressure, ShapedControl, Target};
use quotary_common::reason::Reason;
use quotary_common::wire::{
    CancelPlan, DraftPlan, ListPlans, Nothing, PlanRequest, PlanState, PlanView, RevocationRequest, RevokeHost, Right,
};
use quotary_tests::host::{DrivenHost, Operator, backend, boottime_ms, reason_of};
use quotary_tests::world::{Options, PATIENCE, Timing, World};

/// Nothing ends while a test looks at it.
const PATIENT: Timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };

/// A verifier, and one trusted host whose agent asks systemd.
fn scene() -> (World, Operator, DrivenHost) {
    let mut world = World::new(Options { timing: PATIENT, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let host = world.runtime().block_on(async { trusted(&operator, "a").await });
    (world, operator, host)
}

async fn trusted(operator: &Operator, name: &str) -> DrivenHost {
    let mut host = operator.host(name).await.unwrap();
    host.backend = backend(BackendKind::Systemd, Mode::Enforce);
    host.attest().await.unwrap();
    host
}

fn unit(name: &str) -> Target {
    Target::Unit(Name::lossy(name))
}

/// A request for a plan of two minutes on `web.service`.
fn asked(host: Option<&HostId>) -> PlanRequest {
    PlanRequest {
        host: host.map(HostId::hex),
        target: unit("web.service"),
        values: BTreeMap::from([(ShapedControl::MemoryHigh, 200 << 20), (ShapedControl::CpuWeight, 50)]),
        starts_at_ms: None,
        over_ms: 120_000,
        hold_for_ms: None,
        on_pressure: OnPressure::Hold,
        hold_ms_max: 60_000,
        overrides: false,
    }
}

async fn draft(client: &Client, request: &PlanRequest) -> Result<PlanView, ClientError> {
    client.call::<DraftPlan>(&[], request).await
}

async fn cancel(operator: &Operator, plan: &PlanId) -> PlanView {
    operator.client.call::<CancelPlan>(&[&plan.hex()], &Nothing {}).await.unwrap()
}

async fn listed(operator: &Operator) -> Vec<PlanView> {
    operator.client.call::<ListPlans>(&[], &Nothing {}).await.unwrap()
}

async fn planned(operator: &Operator) -> Vec<(String, Planned)> {
    let leaves = operator.leaves(0).await.unwrap();
    let planned = leaves.into_iter().filter_map(|leaf| match leaf.decision {
        Decision::Planned(planned) => Some((leaf.actor.as_str().to_owned(), planned)),
        _ => None,
    });
    planned.collect()
}

async fn changes(operator: &Operator) -> Vec<(PlanId, PlanChange)> {
    planned(operator).await.into_iter().map(|(_, planned)| (planned.plan, planned.change)).collect()
}

fn given(host: &DrivenHost) -> Vec<PlanId> {
    host.plans.iter().map(|plan| plan.checked().plan().id).collect()
}

#[test]
fn a_plan_is_drafted_by_an_admin_for_a_host_that_takes_it_and_by_nobody_else() {
    let (world, operator, host) = scene();
    let runtime = world.runtime();
    runtime.block_on(async {
        let reader = operator.operator_token(&[Right::Read, Right::Audit], 60_000).await.unwrap();
        let reader = operator.with_token(Some(&reader)).unwrap();
        assert_eq!(reason_of(&draft(&reader, &asked(None)).await), Some(Reason::Forbidden));
        let bad = |change: fn(&mut PlanRequest)| {
            let mut request = asked(None);
            change(&mut request);
            request
        };
        for request in [
            bad(|request| request.values.clear()),
            bad(|request| request.target = unit("web")),
            bad(|request| request.target = Target::Cgroup(CgroupPath::lossy("/a/../b"))),
            bad(|request| *request.values.get_mut(&ShapedControl::CpuWeight).unwrap() = 0),
            bad(|request| request.values.extend([(ShapedControl::CpuIdle, 1)])),
            bad(|request| request.over_ms = u64::MAX),
            bad(|request| request.starts_at_ms = Some(u64::MAX)),
        ] {
            assert_eq!(reason_of(&draft(&operator.client, &request).await), Some(Reason::Plan), "{request:?}");
        }
        let stranger = PlanRequest { host: Some("h-none".to_owned()), ..asked(None) };
        assert_eq!(reason_of(&draft(&operator.client, &stranger).await), Some(Reason::NotFound));
        assert_eq!((listed(&operator).await.len(), planned(&operator).await.len()), (0, 0), "nothing was made");
    });
    let line = "plan draft --unit web.service --memory 200M --cpu-weight 50 --over 2m";
    let drafted: PlanView = world.cli_json(&line.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!((drafted.host, drafted.state), (host.id, PlanState::Moving));
    let shown: PlanView = world.cli_json(&["plan", "show", &drafted.id]).unwrap();
    assert_eq!(shown.controls.iter().map(|one| one.setpoints[0].value).collect::<Vec<_>>(), [50, 200 << 20]);
    assert!(shown.controls.iter().all(|one| one.last_write.is_none()));
    runtime.block_on(async {
        let leaves = planned(&operator).await;
        let [(actor, leaf)] = leaves.as_slice() else { unreachable!("{leaves:?}") };
        assert!(actor.starts_with("token ") && *actor == drafted.made_by, "{actor}");
        assert_eq!((leaf.host, leaf.plan, leaf.change), (host.id, drafted.plan, PlanChange::Drafted));
        assert!(leaf.what.as_ref().unwrap().as_str().contains("memory-high 209715200 bytes"), "{leaf:?}");

        // A host that was never heard of, one that has no backend, one without systemd: none takes a unit's plan.
        let mut other = operator.host("b").await.unwrap();
        let to_other = asked(Some(&other.id));
        assert_eq!(reason_of(&draft(&operator.client, &to_other).await), Some(Reason::Plan), "not trusted");
        other.attest().await.unwrap();
        assert_eq!(reason_of(&draft(&operator.client, &to_other).await), Some(Reason::Plan), "no backend");
        other.backend = backend(BackendKind::Direct, Mode::Enforce);
        other.attest().await.unwrap();
        assert_eq!(reason_of(&draft(&operator.client, &to_other).await), Some(Reason::Plan), "no systemd");
        let of_its_own = PlanRequest { target: Target::Cgroup(CgroupPath::lossy("/quotary/a")), ..to_other };
        assert!(draft(&operator.client, &of_its_own).await.is_ok());
        // There are two now: one must be named.
        assert_eq!(reason_of(&draft(&operator.client, &asked(None)).await), Some(Reason::Malformed));
    });
    world.cli_ok(&["audit", "verify"]).unwrap();
}

#[test]
fn plans_come_with_the_reply_and_the_same_ones_when_it_is_sent_again() {
    let (mut world, operator, mut host) = scene();
    let runtime = world.runtime().handle().clone();
    let (first, second, envelope, evidence, reply) = runtime.block_on(async {
        assert!(given(&host).is_empty());
        let first = draft(&operator.client, &asked(None)).await.unwrap().plan;
        let second = PlanRequest { target: unit("db.service"), ..asked(None) };
        let second = draft(&operator.client, &second).await.unwrap().plan;
        let (envelope, evidence) = host.prepare().await.unwrap();
        let reply = host.send(&evidence).await.unwrap();
        // It was lost on the way; meanwhile an operator thinks better of one.
        assert_eq!(cancel(&operator, &first).await.over.unwrap().0, PlanChange::Cancelled);
        (first, second, envelope, evidence, reply)
    });
    for is_killed in [false, true] {
        if is_killed {
            world.kill_verifier();
            world.start_verifier().unwrap();
        }
        let again = runtime.block_on(host.send(&evidence)).unwrap();
        assert_eq!((&again.grant_set, &again.plans), (&reply.grant_set, &reply.plans), "killed: {is_killed}");
    }
    let set = host.take(&envelope, &reply).unwrap();
    let mut both = vec![first, second];
    both.sort_unstable();
    assert_eq!((given(&host), set.set().plans.is_some()), (both, true));
    for plan in &host.plans {
        assert_eq!((plan.lease(), plan.checked().plan().epoch), (set.lease(), set.set().epoch));
    }
    // Nobody takes one away, or brings one back.
    let last = host.last;
    for plans in [vec![], vec![reply.plans[0].clone()], vec![reply.plans[1].clone(), reply.plans[0].clone()]] {
        host.last.generation = 0;
        let altered = quotary_common::wire::EvidenceReply { plans, ..reply.clone() };
        assert!(host.take(&envelope, &altered).is_err());
    }
    host.last = last;
    runtime.block_on(async {
        let (envelope, mut reply, _) = host.attest().await.unwrap();
        assert_eq!(given(&host), [second], "the cancelled one is no longer given");
        reply.plans.push(reply.plans[0].clone());
        host.last.generation = 0;
        assert!(host.take(&envelope, &reply).is_err());
    });
}

/// What a host tells of a write.
fn write(plan: PlanId, control: ShapedControl, (after, actual): (&str, &str)) -> EnforcementWrite {
    EnforcementWrite {
        plan: Some(plan),
        grant: None,
        cgroup: CgroupPath::lossy("/system.slice/web.service"),
        backend: BackendKind::Systemd,
        control: Text::lossy(control.file_name()),
        before: Some(ControlValue::lossy("max")),
        after: ControlValue::lossy(after),
        actual: Some(ControlValue::lossy(actual)),
        effective: true,
        at_ms: boottime_ms().unwrap(),
        dry_run: false,
    }
}

/// Pressure holds a plan in that group.
fn held(cgroup: &str) -> Event {
    let at_ms = boottime_ms().unwrap();
    Event { kind: EventKind::PlanHeld, cgroup: Some(CgroupPath::lossy(cgroup)), count: 1, at_ms }
}

#[test]
fn attested_writes_stand_in_the_plan_the_last_of_each_control() {
    let (mut world, operator, mut host) = scene();
    let runtime = world.runtime().handle().clone();
    let plan = runtime.block_on(async {
        let plan = draft(&operator.client, &asked(None)).await.unwrap().plan;
        host.attest().await.unwrap();
        host.writes = vec![
            write(plan, ShapedControl::MemoryHigh, ("400000000", "399998976")),
            write(plan, ShapedControl::MemoryHigh, ("390000000", "389996544")),
            write(plan, ShapedControl::CpuWeight, ("99", "99")),
            // Of a plan that nobody made: it is told, and is nobody's.
            write(PlanId::new([9; 32]), ShapedControl::CpuWeight, ("1", "1")),
        ];
        host.attest().await.unwrap();
        plan
    });
    let latest = runtime.block_on(operator.view(&host.id)).unwrap().evidence.unwrap();
    for is_killed in [false, true] {
        if is_killed {
            world.kill_verifier();
            world.start_verifier().unwrap();
        }
        let shown: PlanView = world.cli_json(&["plan", "show", &plan.hex()]).unwrap();
        let last = |control| {
            let of_control = shown.controls.iter().find(|one| one.control == control).unwrap();
            of_control.last_write.clone().unwrap()
        };
        let memory = last(ShapedControl::MemoryHigh);
        assert_eq!((memory.after.as_str(), memory.actual.as_deref()), ("390000000", Some("389996544")));
        assert_eq!((memory.evidence, memory.effective, memory.dry_run), (latest, true, false));
        assert_eq!(last(ShapedControl::CpuWeight).after, "99");
    }
    runtime.block_on(async {
        host.writes = vec![write(plan, ShapedControl::CpuWeight, ("98", "98"))];
        host.events = vec![held("/system.slice/other.service"), held("/system.slice/web.service")];
        host.attest().await.unwrap();
    });
    let shown = world.cli_ok(&["plan", "show", &plan.hex()]).unwrap();
    assert!(shown.contains("moving, held"), "{shown}");
    runtime.block_on(async {
        host.writes = vec![write(plan, ShapedControl::CpuWeight, ("98", "98"))];
        host.attest().await.unwrap();
    });
    let told: PlanView = world.cli_json(&["plan", "show", &plan.hex()]).unwrap();
    assert_eq!(told.told, None, "it moves on");
    let shown = world.cli_ok(&["plan", "show", &plan.hex()]).unwrap();
    assert!(shown.contains("cpu-weight 98") && shown.contains("memory-high 371."), "{shown}");
    assert!(world.cli_ok(&["evidence", "show", &host.id.hex()]).unwrap().contains("cpu.weight"));
    world.cli_ok(&["audit", "verify"]).unwrap();
}

#[test]
fn a_target_has_one_plan_the_newest_until_it_is_cancelled_or_its_time_is_over() {
    let (world, operator, mut host) = scene();
    let runtime = world.runtime().handle().clone();
    let (first, second, third) = runtime.block_on(async {
        let first = draft(&operator.client, &asked(None)).await.unwrap().plan;
        host.attest().await.unwrap();
        assert_eq!(given(&host), [first]);
        let generation = host.plans[0].checked().plan().generation;
        let second = draft(&operator.client, &asked(None)).await.unwrap().plan;
        host.attest().await.unwrap();
        assert_eq!(given(&host), [second]);
        assert!(host.plans[0].checked().plan().generation > generation);
        assert_eq!(cancel(&operator, &second).await.state, PlanState::Over);
        assert_eq!(cancel(&operator, &second).await.over.unwrap().0, PlanChange::Cancelled, "it ends once");
        host.attest().await.unwrap();
        assert_eq!(host.plans.len(), 0);
        let short = PlanRequest { over_ms: 0, hold_for_ms: Some(1), ..asked(None) };
        let third = draft(&operator.client, &short).await.unwrap().plan;
        (first, second, third)
    });
    let is_over = |world: &World| {
        let plans: Vec<PlanView> = world.cli_json(&["plan", "list"])?;
        let third = plans.into_iter().find(|view| view.plan == third).filter(|view| view.state == PlanState::Over);
        Ok(third.and_then(|view| view.over))
    };
    assert_eq!(world.wait("the plan's end", PATIENCE, is_over).unwrap().0, PlanChange::Ended);
    runtime.block_on(async {
        host.attest().await.unwrap();
        assert_eq!(host.plans.len(), 0);
        let expected = [
            (first, PlanChange::Drafted),
            (first, PlanChange::Replaced),
            (second, PlanChange::Drafted),
            (second, PlanChange::Cancelled),
            (third, PlanChange::Drafted),
            (third, PlanChange::Ended),
        ];
        assert_eq!(changes(&operator).await, expected);
        assert_eq!(planned(&operator).await.last().unwrap().0, "verifier");
    });
    assert!(!world.cli(&["plan", "show", "p-none"]).unwrap().status.success());
}

#[test]
fn plans_outlive_a_crash_of_the_verifier_and_end_with_their_hosts_epoch() {
    let (mut world, operator, mut host) = scene();
    let runtime = world.runtime().handle().clone();
    let runs_on = |world: &mut World| {
        world.kill_verifier();
        world.start_verifier().unwrap();
    };
    let plan = runtime.block_on(draft(&operator.client, &asked(None))).unwrap();
    runs_on(&mut world);
    runtime.block_on(host.attest()).unwrap();
    assert_eq!(given(&host), [plan.plan]);
    let same = |view: &PlanView| (view.plan, view.made_by.clone(), view.made_at_ms, view.effective_at_ms, view.epoch);
    let known = runtime.block_on(listed(&operator));
    assert_eq!(known.iter().map(same).collect::<Vec<_>>(), [same(&plan)]);
    runtime.block_on(cancel(&operator, &plan.plan));
    runs_on(&mut world);
    runtime.block_on(host.attest()).unwrap();
    assert!(host.plans.is_empty(), "it was cancelled before the crash");

    let next = runtime.block_on(draft(&operator.client, &asked(None))).unwrap();
    runs_on(&mut world);
    runtime.block_on(async {
        host.attest().await.unwrap();
        assert_eq!(given(&host), [next.plan]);
        let body = RevocationRequest { why: "its disk was sold".to_owned() };
        operator.client.call::<RevokeHost>(&[&host.id.hex()], &body).await.unwrap();
        assert_eq!(reason_of(&draft(&operator.client, &asked(None)).await), Some(Reason::Plan));
    });
    runs_on(&mut world);
    runtime.block_on(async {
        let ended: Vec<_> = listed(&operator).await.iter().map(|view| view.over.unwrap().0).collect();
        assert!(ended.contains(&PlanChange::Voided) && ended.len() == 2, "{ended:?}");
        assert_eq!(changes(&operator).await.last().unwrap(), &(next.plan, PlanChange::Voided));
        // Enrolled anew, it has none of them.
        let token = operator.join_token().await.unwrap();
        let mut again = quotary_tests::host::Candidate::new(host.tpm, token).unwrap().enrol().await.unwrap();
        again.backend = backend(BackendKind::Systemd, Mode::Enforce);
        again.attest().await.unwrap();
        assert!(again.plans.is_empty());
        let anew = draft(&operator.client, &asked(None)).await.unwrap();
        assert!(anew.epoch > next.epoch);
        again.attest().await.unwrap();
        assert_eq!(given(&again), [anew.plan]);
    });
    world.cli_ok(&["audit", "verify"]).unwrap();
}
