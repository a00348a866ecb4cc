#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn course(control: ShapedControl, setpoints: &[(u64, u64)]) -> Course {
    let setpoints = setpoints.iter().map(|&(at_ms, value)| Setpoint { at_ms, value }).collect();
    Course { control, setpoints: Bounded::new(setpoints).unwrap() }
}

fn plan(courses: Vec<Course>) -> Plan {
    Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        id: PlanId::new([3; 32]),
        epoch: 1,
        target: Target::Unit(Name::lossy("web.service")),
        generation: 1,
        starts_at_ms: 1_000,
        effective_at_ms: 11_000,
        ends_at_ms: None,
        not_after_ms: 60_000,
        courses: Bounded::new(courses).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 60_000,
        overrides: false,
        decision: None,
    }
}

fn weight() -> Plan {
    plan(vec![course(ShapedControl::CpuWeight, &[(11_000, 50)])])
}

#[test]
fn a_control_runs_in_straight_lines_from_what_was_found_to_the_target() {
    let plan = plan(vec![
        course(ShapedControl::CpuWeight, &[(6_000, 60), (11_000, 50)]),
        course(ShapedControl::CpuIdle, &[(11_000, 1)]),
    ]);
    let plan = check(plan).unwrap();
    let at = |now_ms| plan.setpoint(ShapedControl::CpuWeight, 100, now_ms).unwrap();
    assert_eq!([0, 1_000, 3_500, 6_000, 8_500, 10_999, 11_000, u64::MAX].map(at), [100, 100, 80, 60, 55, 51, 50, 50]);
    let idle = |now_ms| plan.setpoint(ShapedControl::CpuIdle, 0, now_ms).unwrap();
    assert_eq!([10_999, 11_000].map(idle), [0, 1], "what is on or off has nothing in between");
    assert_eq!(plan.setpoint(ShapedControl::MemoryHigh, 1, 5_000), None);
    assert_eq!(plan.target_value(ShapedControl::CpuWeight), Some(50));
}

#[test]
fn a_control_that_is_taken_up_late_runs_from_what_it_is_then_to_the_next_setpoint() {
    let plan = plan(vec![
        course(ShapedControl::CpuWeight, &[(6_000, 60), (11_000, 50)]),
        course(ShapedControl::CpuIdle, &[(4_000, 1), (11_000, 1)]),
    ]);
    let plan = check(plan).unwrap();
    let late = Setpoint { at_ms: 4_000, value: 100 };
    let at = |now_ms| plan.setpoint_from(ShapedControl::CpuWeight, late, now_ms).unwrap();
    assert_eq!([3_999, 4_000, 5_000, 6_000, 8_500, 11_000].map(at), [100, 100, 80, 60, 55, 50]);
    let after = Setpoint { at_ms: 12_000, value: 100 };
    assert_eq!(plan.setpoint_from(ShapedControl::CpuWeight, after, 12_000), Some(50), "nothing is left to wait for");
    let idle = Setpoint { at_ms: 5_000, value: 0 };
    assert_eq!(plan.setpoint_from(ShapedControl::CpuIdle, idle, 5_000), Some(1), "it is on since its setpoint");
    assert_eq!(plan.span(ShapedControl::CpuWeight, 100), Some(50));
    assert_eq!(plan.span(ShapedControl::CpuQuota, 100), None);
}

#[test]
fn a_plan_is_on_from_its_start_to_its_end() {
    let on = |ends_at_ms| {
        let plan = check(Plan { ends_at_ms, ..weight() }).unwrap();
        [999, 1_000, 19_999, 20_000].map(|now_ms| plan.is_on(now_ms))
    };
    assert_eq!(on(Some(20_000)), [false, true, true, false]);
    assert_eq!(on(None), [false, true, true, true]);
}

#[test]
fn a_plan_that_does_not_hold_together_is_named_for_what_is_wrong() {
    use ShapedControl::{CpuWeight, MemoryHigh};
    let fault = |plan: Plan| check(plan).unwrap_err();
    let of = |control, setpoints: &[(u64, u64)]| fault(plan(vec![course(control, setpoints)]));
    assert_eq!(fault(plan(vec![])), PlanFault::Empty);
    let twice = || course(CpuWeight, &[(11_000, 50)]);
    assert_eq!(
        fault(plan(vec![twice(), course(MemoryHigh, &[(11_000, 1 << 30)]), twice()])),
        PlanFault::Twice(CpuWeight)
    );
    assert_eq!(of(CpuWeight, &[]), PlanFault::Order(CpuWeight));
    assert_eq!(of(CpuWeight, &[(999, 60), (11_000, 50)]), PlanFault::Order(CpuWeight));
    assert_eq!(of(CpuWeight, &[(5_000, 60), (5_000, 55), (11_000, 50)]), PlanFault::Order(CpuWeight));
    assert_eq!(of(CpuWeight, &[(10_999, 50)]), PlanFault::Reach(CpuWeight));
    assert_eq!(of(CpuWeight, &[(5_000, 60), (11_001, 50)]), PlanFault::Reach(CpuWeight));
    for (control, good, bad) in [(CpuWeight, 1, 0), (CpuWeight, 10_000, 10_001), (MemoryHigh, 1 << 20, (1 << 20) - 1)] {
        assert!(check(plan(vec![course(control, &[(11_000, good)])])).is_ok());
        assert_eq!(of(control, &[(11_000, bad)]), PlanFault::Range(control, bad));
    }
    assert_eq!(fault(Plan { effective_at_ms: 999, ..weight() }), PlanFault::Times);
    assert_eq!(fault(Plan { ends_at_ms: Some(10_999), ..weight() }), PlanFault::Times);
    let month_ms = 31 * 24 * 3_600 * 1_000;
    let long =
        |ms: u64| check(Plan { effective_at_ms: 1_000 + ms, ..plan(vec![course(CpuWeight, &[(1_000 + ms, 50)])]) });
    assert!(long(month_ms).is_ok());
    assert_eq!(long(month_ms + 1).unwrap_err(), PlanFault::Times);
    // A plan of no duration is a cliff, and may be asked for.
    assert!(long(0).is_ok());
}

#[test]
fn only_units_with_a_cgroup_and_plain_paths_are_targets() {
    let unit = |name: &str| check(Plan { target: Target::Unit(Name::lossy(name)), ..weight() }).is_ok();
    for good in
        ["web.service", "a@b.service", "system-foo.slice", "run-u7.scope", "docker-0f.scope", "dev-disk\\x2d1.service"]
    {
        assert!(unit(good), "{good}");
    }
    for bad in ["", ".service", "web", "web.timer", "getty@.service", "a/b.service", "../a.service", "a b.service"] {
        assert!(!unit(bad), "{bad}");
    }
    let group = |path: &str| check(Plan { target: Target::Cgroup(CgroupPath::lossy(path)), ..weight() }).is_ok();
    assert!(group("/quotary/run-a"));
    for bad in ["", "/", "quotary", "/a/../b", "/a//b", "/a/./b", "/a/"] {
        assert!(!group(bad), "{bad}");
    }
}

#[test]
fn plans_have_a_digest_that_tells_their_order_and_bytes() {
    let digest = |plans: &[&[u8]]| digest_of(plans);
    assert_eq!(digest(&[]), None);
    assert_ne!(digest(&[b"a", b"b"]), digest(&[b"b", b"a"]));
    assert_ne!(digest(&[b"a", b"b"]), digest(&[b"ab"]));
    assert_eq!(digest(&[b"a"]), digest(&[b"a"]));
}

proptest! {
    #[test]
    fn a_line_never_leaves_what_it_runs_between_and_never_turns(
        found in 1u64..=10_000, target in 1u64..=10_000, times in proptest::collection::vec(0u64..12_000, 2..20)
    ) {
        let plan = check(plan(vec![course(ShapedControl::CpuWeight, &[(11_000, target)])])).unwrap();
        let mut times = times;
        times.sort_unstable();
        let values: Vec<u64> = times.iter().map(|now_ms| plan.setpoint(ShapedControl::CpuWeight, found, *now_ms).unwrap()).collect();
        prop_assert!(values.iter().all(|value| (found.min(target)..=found.max(target)).contains(value)));
        let turns = |pair: &[u64]| (target < found && pair[1] > pair[0]) || (target >= found && pair[1] < pair[0]);
        prop_assert!(!values.windows(2).any(turns));
    }
}
