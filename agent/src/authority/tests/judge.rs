//! Which plans are taken: against a verifier that makes plans up.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::plan::{CheckedPlan, ShapedControl, Target};
use quotary_common::quorum::change::Kind;
use quotary_common::quorum::coverage::NotCovered;
use quotary_common::quorum::covers::Reach;

use super::fixture::{
    EFFECTIVE, HOUR_MS, MIB, MINUTE_MS, NOW, World, cover, host, nobody, plan, refuse_writes, seen, state,
};
use crate::authority::{DECISIONS_FILE, Judge, Lack, Objection, Seen, Trust};
use crate::state::StateDir;

const MEMORY: ShapedControl = ShapedControl::MemoryHigh;

/// A judge who was told whom to believe, and of these plans.
fn judge(state: &StateDir, trust: Trust, plans: &[&CheckedPlan], now_ms: u64) -> Judge {
    let mut judge = Judge::open(state.clone());
    judge.given(trust, plans.iter().copied(), now_ms);
    judge
}

fn with_decision(value: u64) -> CheckedPlan {
    plan(Some(World::new().decision(|_| ())), MEMORY, value, |_| ())
}

fn by_hand(value: u64) -> CheckedPlan {
    plan(None, MEMORY, value, |_| ())
}

/// `web.service` with a gigabyte.
fn web() -> Seen {
    seen(&[(MEMORY, 1_024 * MIB)])
}

/// A judge on whose host the policy is in force: a plan carried it, and the verifier said so at its time.
fn under_the_policy(state: &StateDir) -> Judge {
    let plan = with_decision(512 * MIB);
    let mut judge = judge(state, World::new().trust(), &[&plan], NOW);
    judge.permits(&plan, &web(), NOW).unwrap();
    judge.given(World::new().trust_with(&[&plan], EFFECTIVE), [&plan].into_iter(), EFFECTIVE);
    judge
}

#[test]
fn where_nobody_decides_yet_a_plan_with_a_decision_is_refused_and_one_without_is_taken() {
    let (_temp, state) = state();
    let mut judge = judge(&state, nobody(), &[], NOW);
    assert!(matches!(judge.permits(&with_decision(512 * MIB), &web(), NOW), Err(Objection::NoAuthority)));
    judge.permits(&by_hand(MIB), &web(), NOW).unwrap();
    assert!(std::fs::read(state.file(DECISIONS_FILE)).is_err(), "nothing is kept");
}

#[test]
fn while_who_decides_is_being_asked_for_a_plan_waits_and_is_not_refused() {
    let (_temp, state) = state();
    let asking = Trust { lack: Lack::Asking, ..nobody() };
    let mut judge = judge(&state, asking, &[], NOW);
    let objection = judge.permits(&with_decision(512 * MIB), &web(), NOW).unwrap_err();
    assert!(objection.waits(), "{objection}");
    // The same under a pin that is older than the decision.
    let next = World::of(1, &["alice", "bob", "carol", "dave"]);
    let newer = plan(Some(next.decision(|_| ())), MEMORY, 512 * MIB, |_| ());
    judge.given(Trust { lack: Lack::Asking, ..World::new().trust() }, [&newer].into_iter(), NOW);
    assert!(judge.permits(&newer, &web(), NOW).unwrap_err().waits());
    judge.given(Trust { lack: Lack::Because("no way".to_owned()), ..nobody() }, [&newer].into_iter(), NOW);
    let objection = judge.permits(&newer, &web(), NOW).unwrap_err();
    assert!(!objection.waits() && objection.to_string().contains("no way"), "{objection}");
    judge.given(next.trust(), [&newer].into_iter(), NOW);
    judge.permits(&newer, &web(), NOW).unwrap();
}

#[test]
fn a_plan_within_its_decision_is_taken_and_one_setpoint_outside_is_not() {
    let (_temp, state) = state();
    let within = with_decision(512 * MIB);
    let mut judge = judge(&state, World::new().trust(), &[&within], NOW);
    for value in [512 * MIB - 1, 1_024 * MIB + 1] {
        let refused = judge.permits(&with_decision(value), &web(), NOW).unwrap_err();
        assert!(matches!(refused, Objection::NotCovered { source: NotCovered::Span { .. }, .. }), "{refused}");
    }
    assert!(std::fs::read(state.file(DECISIONS_FILE)).is_err(), "a refused plan leaves nothing behind");
    judge.permits(&within, &web(), NOW).unwrap();
    assert!(std::fs::read(state.file(DECISIONS_FILE)).is_ok());
    let egress = plan(within.plan().decision.clone(), ShapedControl::NetworkEgress, 8_000, |_| ());
    let refused = judge.permits(&egress, &web(), NOW).unwrap_err();
    assert!(matches!(refused, Objection::NotCovered { source: NotCovered::Control(_), .. }), "{refused}");
}

#[test]
fn a_plan_for_another_target_than_was_decided_is_refused_whatever_it_says() {
    let (_temp, state) = state();
    let mut judge = judge(&state, World::new().trust(), &[], NOW);
    let decision = World::new().decision(|_| ());
    let db = plan(Some(decision), MEMORY, 512 * MIB, |plan| plan.target = Target::Unit(Name::lossy("db.service")));
    // What the host sees is another unit; what the plan says alone is not enough either.
    let seen_db =
        Seen { unit: Name::new("db.service"), cgroup: CgroupPath::lossy("/system.slice/db.service"), ..web() };
    for (seen, expected) in [(seen_db, NotCovered::Target), (web(), NotCovered::Facts)] {
        let refused = judge.permits(&db, &seen, NOW).unwrap_err();
        assert!(matches!(refused, Objection::NotCovered { source, .. } if source == expected), "{refused}");
    }
}

#[test]
fn whose_a_group_is_the_host_knows_and_the_plan_is_not_asked() {
    let (_temp, state) = state();
    let group = CgroupPath::lossy("/quotary/run-a");
    let decision = World::new().decision(|change| change.covers = vec![cover(Reach::Uid(1000))]);
    let of_shop = plan(Some(decision), MEMORY, 512 * MIB, |plan| plan.target = Target::Cgroup(group.clone()));
    let mut judge = judge(&state, World::new().trust(), &[&of_shop], NOW);
    let of = |uid| Seen { unit: None, cgroup: group.clone(), uid, ..web() };
    for uid in [None, Some(0), Some(1001)] {
        let refused = judge.permits(&of_shop, &of(uid), NOW).unwrap_err();
        assert!(matches!(refused, Objection::NotCovered { source: NotCovered::Target, .. }), "{refused}");
    }
    judge.permits(&of_shop, &of(Some(1000)), NOW).unwrap();
}

#[test]
fn a_decision_of_people_whom_the_pin_does_not_know_is_none_and_a_tampered_vote_neither() {
    let (_temp, state) = state();
    let mut judge = judge(&state, World::new().trust(), &[], NOW);
    let own = World::of(0, &["alice", "eve", "mallory"]);
    let theirs = own.sent(&own.text(|_| ()), &["eve", "mallory"]).to_bytes();
    let few = World::new();
    let few = few.sent(&few.text(|_| ()), &["bob"]).to_bytes();
    let mut tampered = World::new().decision(|_| ());
    let signature = tampered.windows(6).rposition(|at| at == b"SSHSIG").unwrap();
    tampered[signature + 200] ^= 1;
    for bytes in [theirs, few, tampered, b"\xa0".to_vec()] {
        let refused = judge.permits(&plan(Some(bytes), MEMORY, 512 * MIB, |_| ()), &web(), NOW);
        assert!(matches!(refused, Err(Objection::Decision(_))), "{refused:?}");
    }
    let late = judge.permits(&with_decision(512 * MIB), &web(), NOW + 2 * HOUR_MS);
    assert!(matches!(late, Err(Objection::Decision(_))), "past its apply-by time: {late:?}");
}

#[test]
fn a_host_that_came_later_takes_what_is_in_force_already_and_one_that_was_there_does_not() {
    let apply_by_ms = NOW + HOUR_MS;
    let later_ms = apply_by_ms + 2 * HOUR_MS;
    let since = |since_ms| Trust { since_ms: Some(since_ms), ..World::new().trust() };
    let plan = with_decision(512 * MIB);
    {
        let (_temp, state) = state();
        let mut there = judge(&state, since(EFFECTIVE), &[], later_ms);
        assert!(matches!(there.permits(&plan, &web(), later_ms), Err(Objection::Decision(_))));
    }
    let (_temp, state) = state();
    let mut came = judge(&state, since(EFFECTIVE + 1), &[&plan], later_ms);
    came.permits(&plan, &web(), later_ms).unwrap();
    assert!(
        came.permits(&by_hand(513 * MIB), &web(), later_ms).is_ok(),
        "the verifier has not said that it is in force"
    );
    // Heard as of its effective time, as what comes later is.
    let heard = World::new().trust_with(&[&plan], EFFECTIVE).heard;
    came.given(Trust { heard, ..since(EFFECTIVE + 1) }, [&plan].into_iter(), later_ms);
    // It stands over a restart, and plans without a decision keep to it.
    let mut again = judge(&state, since(EFFECTIVE + 1), &[&plan], later_ms + HOUR_MS);
    again.permits(&plan, &web(), later_ms + HOUR_MS).unwrap();
    assert!(matches!(again.permits(&by_hand(513 * MIB), &web(), later_ms), Err(Objection::Beyond { .. })));
    // What was decided by others than those who decide now it does not take.
    let (_temp, state) = self::state();
    let others = Trust { pin: Some(World::of(1, &["alice", "bob", "dave"]).pin()), ..since(EFFECTIVE + 1) };
    let mut came = judge(&state, others, &[], later_ms);
    assert!(matches!(came.permits(&plan, &web(), later_ms), Err(Objection::Decision(_))));
}

#[test]
fn a_decision_that_was_made_early_is_taken_until_its_apply_by_time() {
    let (_temp, state) = state();
    // Rules let a change be applied for a day after its approval: this one takes effect just before that is over.
    let day_ms = 24 * HOUR_MS;
    let approved_ms = super::fixture::PROPOSED + 10 * MINUTE_MS;
    let effective_ms = approved_ms + day_ms - 1;
    let early = World::new().decision(|change| {
        (change.effective_ms, change.apply_by_ms) = (effective_ms, change.approve_by_ms + day_ms);
    });
    let early = plan(Some(early), MEMORY, 512 * MIB, |plan| {
        let mut courses = plan.courses.clone().into_vec();
        courses[0].setpoints =
            Bounded::new(vec![quotary_common::plan::Setpoint { at_ms: effective_ms, value: 512 * MIB }]).unwrap();
        (plan.courses, plan.effective_at_ms) = (Bounded::new(courses).unwrap(), effective_ms);
    });
    let apply_by_ms = super::fixture::PROPOSED + HOUR_MS / 2 + day_ms;
    assert!(effective_ms + 1 < apply_by_ms);
    // And the while that a host takes to hear of it.
    let last_ms = apply_by_ms + 5 * MINUTE_MS;
    let mut judge = judge(&state, World::new().trust(), &[&early], last_ms);
    judge.permits(&early, &web(), last_ms).unwrap();
    let (_temp, state) = self::state();
    let mut late = self::judge(&state, World::new().trust(), &[&early], last_ms + 1);
    assert!(matches!(late.permits(&early, &web(), last_ms + 1), Err(Objection::Decision(_))));
}

#[test]
fn under_a_policy_a_plan_without_a_decision_keeps_its_limits_and_one_with_the_decision_may_go_beyond() {
    let (_temp, state) = state();
    let mut judge = under_the_policy(&state);
    judge.permits(&by_hand(512 * MIB), &web(), EFFECTIVE).unwrap();
    let refused = judge.permits(&by_hand(513 * MIB), &web(), EFFECTIVE).unwrap_err();
    assert!(matches!(refused, Objection::Beyond { source: NotCovered::Beyond { .. }, .. }), "{refused}");
    assert!(refused.to_string().contains("policy `web` is in force"), "{refused}");
    // The guarantee is as much a limit as the limit: half a core is weight 50.
    let weight = |value| plan(None, ShapedControl::CpuWeight, value, |_| ());
    judge.permits(&weight(50), &web(), EFFECTIVE).unwrap();
    assert!(judge.permits(&weight(49), &web(), EFFECTIVE).is_err());
    let more = World::new().decision(|change| {
        (change.nonce, change.effective_ms) = ([8; 16], EFFECTIVE + 1);
        change.covers[0].limit[1] = Some("536870912>1073741824".parse().unwrap());
    });
    let ends = |plan: &mut quotary_common::plan::Plan| {
        (plan.effective_at_ms, plan.starts_at_ms) = (EFFECTIVE + 1, EFFECTIVE);
        let mut courses = plan.courses.clone().into_vec();
        let at = quotary_common::plan::Setpoint { at_ms: EFFECTIVE + 1, value: 1_024 * MIB };
        courses[0].setpoints = Bounded::new(vec![at]).unwrap();
        plan.courses = Bounded::new(courses).unwrap();
    };
    let beyond = |decision| plan(decision, MEMORY, MIB, ends);
    assert!(judge.permits(&beyond(None), &web(), EFFECTIVE).is_err());
    judge.permits(&beyond(Some(more)), &web(), EFFECTIVE).unwrap();
    let db = plan(None, MEMORY, MIB, |plan| plan.target = Target::Unit(Name::lossy("db.service")));
    let elsewhere = Seen { unit: Name::new("db.service"), ..web() };
    judge.permits(&db, &elsewhere, EFFECTIVE).unwrap();
}

#[test]
fn before_its_time_has_come_a_policy_binds_no_plan_without_a_decision() {
    let (_temp, state) = state();
    let decided = with_decision(512 * MIB);
    let mut judge = judge(&state, World::new().trust(), &[&decided], NOW);
    judge.permits(&decided, &web(), NOW).unwrap();
    judge.permits(&by_hand(MIB), &web(), EFFECTIVE - 1).unwrap();
    judge.given(World::new().trust(), [&decided].into_iter(), EFFECTIVE);
    judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE).unwrap();
    let heard = World::new().trust_with(&[&decided], EFFECTIVE);
    judge.given(heard.clone(), [&decided].into_iter(), EFFECTIVE - 1);
    judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE).unwrap();
    judge.given(heard, [&decided].into_iter(), EFFECTIVE);
    assert!(
        judge.permits(&by_hand(MIB), &web(), EFFECTIVE).is_ok(),
        "one megabyte is below the limit, and none is promised"
    );
    assert!(judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE).is_err());
}

#[test]
fn a_restart_keeps_what_is_in_force_and_what_was_decided_stands_when_others_decide() {
    let (_temp, state) = state();
    drop(under_the_policy(&state));
    let next = World::of(1, &["alice", "dave", "erin"]);
    let again = with_decision(512 * MIB);
    let later_ms = EFFECTIVE + 365 * 24 * HOUR_MS;
    let mut judge = judge(&state, next.trust(), &[&again], later_ms);
    judge.permits(&again, &web(), later_ms).unwrap();
    assert!(judge.permits(&by_hand(513 * MIB), &web(), later_ms).is_err());
    // What was not acted on before takes those who decide now.
    let old = World::new().decision(|change| change.nonce = [8; 16]);
    let refused = judge.permits(&plan(Some(old), MEMORY, 512 * MIB, |_| ()), &web(), NOW);
    assert!(matches!(refused, Err(Objection::Decision(_))), "{refused:?}");
    // Nor does a pin that is gone let it move anything.
    let lost = Trust { lack: Lack::Because("damaged".to_owned()), ..nobody() };
    judge.given(lost, [&again].into_iter(), later_ms);
    assert!(matches!(judge.permits(&again, &web(), later_ms), Err(Objection::Lacking(_))));
}

#[test]
fn a_policy_that_was_revoked_binds_nobody_and_its_decision_does_not_come_back() {
    let (_temp, state) = state();
    let mut judge = under_the_policy(&state);
    let revocation = World::new().decision(|change| {
        (change.kind, change.document) = (Kind::RevokePolicy, String::new());
        (change.nonce, change.effective_ms) = ([8; 16], EFFECTIVE + MINUTE_MS);
        change.covers[0].limit[1] = Some("536870912>none".parse().unwrap());
    });
    let revoked = plan(Some(revocation), MEMORY, 1_024 * MIB, |plan| {
        plan.effective_at_ms = EFFECTIVE + MINUTE_MS;
        let mut courses = plan.courses.clone().into_vec();
        let at = quotary_common::plan::Setpoint { at_ms: EFFECTIVE + MINUTE_MS, value: 1_024 * MIB };
        courses[0].setpoints = Bounded::new(vec![at]).unwrap();
        plan.courses = Bounded::new(courses).unwrap();
    });
    judge.given(World::new().trust(), [&revoked].into_iter(), EFFECTIVE);
    judge.permits(&revoked, &web(), EFFECTIVE).unwrap();
    assert!(judge.permits(&by_hand(513 * MIB), &web(), EFFECTIVE).is_err(), "until its time has come");
    // No plan of it is needed: whatever ran has ended.
    judge.given(World::new().trust_with(&[&revoked], EFFECTIVE + MINUTE_MS), std::iter::empty(), EFFECTIVE + MINUTE_MS);
    judge.permits(&by_hand(513 * MIB), &web(), EFFECTIVE + MINUTE_MS).unwrap();
    let replayed = judge.permits(&with_decision(512 * MIB), &web(), EFFECTIVE + MINUTE_MS);
    assert!(matches!(replayed, Err(Objection::Superseded(_))), "{replayed:?}");
}

#[test]
fn what_starts_after_its_policys_apply_by_time_is_under_it_where_the_host_heard_of_it_in_time() {
    let (_temp, state) = state();
    let (decided, much_later_ms) = (with_decision(512 * MIB), NOW + 30 * HOUR_MS);
    // Nothing that it reaches was there: no plan carried it.
    let mut judge = judge(&state, World::new().trust_with(&[&decided], EFFECTIVE), &[], EFFECTIVE);
    assert_eq!(judge.texts_in_force().len(), 1);
    judge.permits(&decided, &web(), much_later_ms).unwrap();
    assert!(judge.permits(&by_hand(513 * MIB), &web(), much_later_ms).is_err());
    let (_temp, state) = self::state();
    let mut away = self::judge(&state, World::new().trust(), &[], EFFECTIVE);
    assert!(matches!(away.permits(&decided, &web(), much_later_ms), Err(Objection::Decision(_))));
}

#[test]
fn nothing_moves_by_a_decision_that_the_disk_did_not_take() {
    let (_temp, state) = state();
    let decided = with_decision(512 * MIB);
    let mut judge = judge(&state, World::new().trust(), &[&decided], NOW);
    refuse_writes(&state, DECISIONS_FILE, true);
    assert!(matches!(judge.permits(&decided, &web(), NOW), Err(Objection::NotKept(_))));
    refuse_writes(&state, DECISIONS_FILE, false);
    judge.permits(&decided, &web(), NOW).unwrap();
}

#[test]
fn who_has_left_the_roster_lets_nothing_pass_that_is_not_in_force_yet() {
    let (_temp, state) = state();
    let world = World::new();
    let text = world.text(|_| ());
    let mut judge = judge(&state, world.trust(), &[], NOW);
    let old = with_decision(512 * MIB);
    judge.permits(&old, &web(), NOW).unwrap();
    // Carol is gone before its time has come: her vote is one no more, however the decision is shown.
    let without_carol = World::of(1, &["alice", "bob", "dave"]);
    let shown = plan(Some(world.sent_under(&without_carol, &text, &["bob", "carol"])), MEMORY, 512 * MIB, |_| ());
    for plan in [&old, &shown] {
        for now_ms in [NOW + 1, EFFECTIVE, EFFECTIVE + 1] {
            judge.given(without_carol.trust(), [plan].into_iter(), now_ms);
            let refused = judge.permits(plan, &web(), now_ms);
            assert!(matches!(refused, Err(Objection::Decision(_))), "{refused:?}");
        }
        judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE).unwrap();
    }
    // Where only somebody else has come, the votes still let it pass, as the verifier shows them now.
    let with_dave = World::of(2, &["alice", "bob", "carol", "dave"]);
    let shown = plan(Some(world.sent_under(&with_dave, &text, &["bob", "carol"])), MEMORY, 512 * MIB, |_| ());
    judge.given(with_dave.trust(), [&shown].into_iter(), EFFECTIVE);
    judge.permits(&shown, &web(), EFFECTIVE).unwrap();
    // What was heard under those before them is to be heard again.
    judge.given(
        Trust { heard: world.trust_with(&[&old], EFFECTIVE).heard, ..with_dave.trust() },
        [&shown].into_iter(),
        EFFECTIVE,
    );
    judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE).unwrap();
    judge.given(with_dave.trust_with(&[&shown], EFFECTIVE + 1), [&shown].into_iter(), EFFECTIVE + 1);
    assert!(judge.permits(&by_hand(2_048 * MIB), &web(), EFFECTIVE + 1).is_err(), "it is in force");
}

#[test]
fn of_two_policies_that_reach_a_target_the_newer_one_binds() {
    let (_temp, state) = state();
    let mut judge = under_the_policy(&state);
    // `web` limits to half of what the narrower `shop` guarantees: nothing would be within both.
    let shop = |kind, nonce, effective_ms| {
        World::new().decision(|change| {
            (change.name, change.kind) = (quotary_common::quorum::roster::Word::new("shop").unwrap(), kind);
            (change.id, change.nonce) = (quotary_common::id::ChangeId::of(&[b"shop"]), [nonce; 16]);
            change.effective_ms = effective_ms;
            change.covers[0].guarantee[1] = Some("none>1073741824".parse().unwrap());
            change.covers[0].limit[1] = Some("536870912>2147483648".parse().unwrap());
            if kind == Kind::RevokePolicy {
                change.document = String::new();
            }
        })
    };
    let narrow = plan(Some(shop(Kind::AlterPolicy, 1, EFFECTIVE + 1)), MEMORY, 2_048 * MIB, |plan| {
        let mut courses = plan.courses.clone().into_vec();
        courses[0].setpoints =
            Bounded::new(vec![quotary_common::plan::Setpoint { at_ms: EFFECTIVE + 1, value: 2_048 * MIB }]).unwrap();
        (plan.courses, plan.effective_at_ms) = (Bounded::new(courses).unwrap(), EFFECTIVE + 1);
    });
    judge.permits(&narrow, &web(), EFFECTIVE).unwrap();
    judge.permits(&by_hand(512 * MIB), &web(), EFFECTIVE).unwrap();
    judge.given(World::new().trust_with(&[&narrow], EFFECTIVE + 1), [&narrow].into_iter(), EFFECTIVE + 1);
    judge.permits(&by_hand(1_500 * MIB), &web(), EFFECTIVE + 1).unwrap();
    let refused = judge.permits(&by_hand(512 * MIB), &web(), EFFECTIVE + 1).unwrap_err();
    assert!(matches!(&refused, Objection::Beyond { policy, .. } if policy.as_str() == "shop"), "{refused}");
}

#[test]
fn a_slice_is_no_way_round_the_policies_of_what_is_in_it() {
    let (_temp, state) = state();
    let mut judge = under_the_policy(&state);
    let of_slice = |value| plan(None, MEMORY, value, |plan| plan.target = Target::Unit(Name::lossy("system.slice")));
    let slice = |stood: Option<u64>| Seen {
        unit: Name::new("system.slice"),
        cgroup: CgroupPath::lossy("/system.slice"),
        stood: stood.map(|stood| (MEMORY, stood)).into_iter().collect(),
        ..seen(&[(MEMORY, 10 * MIB)])
    };
    for (value, stood) in [(64 * MIB, None), (1_023 * MIB, Some(1_024 * MIB)), (10 * MIB, Some(1_024 * MIB))] {
        let refused = judge.permits(&of_slice(value), &slice(stood), EFFECTIVE).unwrap_err();
        assert!(
            matches!(refused, Objection::Beyond { source: NotCovered::Above(MEMORY), .. }),
            "wherever it stands by now: {refused}"
        );
    }
    judge.permits(&of_slice(1_024 * MIB), &slice(Some(1_024 * MIB)), EFFECTIVE).unwrap();
    let other = plan(None, MEMORY, MIB, |plan| plan.target = Target::Unit(Name::lossy("db.service")));
    let beside = Seen { unit: Name::new("db.service"), cgroup: CgroupPath::lossy("/a.slice/db.service"), ..web() };
    judge.permits(&other, &beside, EFFECTIVE).unwrap();
}

#[test]
fn where_the_decisions_do_not_read_plans_may_loosen_and_nothing_else() {
    let (_temp, state) = state();
    drop(under_the_policy(&state));
    std::fs::write(state.file(DECISIONS_FILE), b"\xa0\x00").unwrap();
    let decided = with_decision(512 * MIB);
    let mut judge = judge(&state, World::new().trust(), &[&decided], EFFECTIVE);
    assert!(matches!(judge.permits(&decided, &web(), EFFECTIVE), Err(Objection::Lacking(_))));
    judge.permits(&by_hand(1_024 * MIB), &web(), EFFECTIVE).unwrap();
    for tighter in [&web(), &seen(&[])] {
        let refused = judge.permits(&by_hand(1_023 * MIB), tighter, EFFECTIVE);
        assert!(matches!(refused, Err(Objection::Tightens(_))), "no limit is looser than any: {refused:?}");
    }
    let idle = |value| plan(None, ShapedControl::CpuIdle, value, |_| ());
    let busy = seen(&[(ShapedControl::CpuIdle, 0)]);
    assert!(judge.permits(&idle(0), &busy, EFFECTIVE).is_ok() && judge.permits(&idle(1), &busy, EFFECTIVE).is_err());
    assert_eq!(std::fs::read(state.file(DECISIONS_FILE)).unwrap(), b"\xa0\x00", "it stays for whoever looks");
}

#[test]
fn a_plan_of_another_host_or_deployment_is_never_taken_for_ours() {
    let (_temp, state) = state();
    let mut judge = under_the_policy(&state);
    let other = plan(None, MEMORY, 512 * MIB, |plan| plan.host = quotary_common::id::HostId::new([9; 32]));
    assert_ne!(other.plan().host, host());
    assert!(judge.permits(&other, &web(), EFFECTIVE).is_err());
}

#[test]
fn a_decision_is_not_verified_again_with_every_look_and_is_when_who_decides_has_moved_on() {
    let (_temp, state) = state();
    let next = World::of(1, &["alice", "bob", "carol", "dave"]);
    let newer = plan(Some(next.decision(|_| ())), MEMORY, 512 * MIB, |_| ());
    let mut judge = judge(&state, World::new().trust(), &[&newer], NOW);
    let looked_at = |judge: &mut Judge, now_ms| {
        let _ = judge.permits(&newer, &web(), now_ms);
        judge.held_as_of_ms(newer.plan().decision.as_deref().unwrap())
    };
    assert_eq!(looked_at(&mut judge, NOW), Some(NOW));
    assert_eq!(looked_at(&mut judge, NOW + MINUTE_MS - 1), Some(NOW));
    assert_eq!(looked_at(&mut judge, NOW + MINUTE_MS), Some(NOW + MINUTE_MS));
    judge.given(next.trust(), [&newer].into_iter(), NOW + MINUTE_MS + 1);
    assert_eq!(looked_at(&mut judge, NOW + MINUTE_MS + 1), Some(EFFECTIVE), "as whoever put it in force");
    assert!(judge.permits(&newer, &web(), NOW + MINUTE_MS + 1).is_ok());
    judge.given(next.trust(), std::iter::empty(), NOW + 2 * MINUTE_MS);
    assert_eq!(judge.held_as_of_ms(newer.plan().decision.as_deref().unwrap()), None, "what nobody gives is forgotten");
}
