//! Plans that move the scope of a grant.

use quotary_common::envelope::{CgroupPath, EventKind, Mode, Name};
use quotary_common::plan::{ShapedControl, Target};

use super::{BOOT, Host, kinds, one};
use crate::shape::controller::Value;
use crate::shape::shaper::OfGrants;

const SCOPE: &str = "quotary-abc.scope";

/// A host on which a plan moves the scope of a grant.
fn moving_a_scope() -> Host {
    let mut host = Host::new(Mode::Enforce);
    let values = host.fake.0.lock().unwrap().units["web.service"].clone();
    host.fake.0.lock().unwrap().units.insert(SCOPE.to_owned(), values);
    host.shaper().note_grants(OfGrants { scopes: [SCOPE.to_owned()].into(), ..OfGrants::default() });
    let mut plan = host.plan(1, 50, 600_000).checked().plan().clone();
    plan.target = Target::Unit(Name::lossy(SCOPE));
    host.give(vec![one(plan, host.now.boottime_ms, 600_000)]);
    host
}

#[test]
fn a_scope_is_moved_while_its_grant_runs_and_has_no_limit_when_that_is_over() {
    let mut host = moving_a_scope();
    // What the grant had set, which is not what is to stand there when it is over.
    host.fake.set(SCOPE, ShapedControl::CpuWeight, Value::Value(70));
    host.pass(65);
    assert_eq!(host.fake.get(SCOPE, ShapedControl::CpuWeight), Value::Value(50));
    host.shaper().note_grants(OfGrants::default());
    let outcome = host.pass(1);
    assert_eq!(host.fake.get(SCOPE, ShapedControl::CpuWeight), Value::Value(100));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused], "it is still given");
    let writes = host.fake.writes();
    host.pass(10);
    assert_eq!(host.fake.writes(), writes, "it is not begun again");
    assert!(host.shaper().held.targets.is_empty() && host.shaper().targets().is_empty());
}

#[test]
fn a_scope_whose_grant_ended_while_the_agent_was_dead_has_no_limit_after_its_start() {
    let mut host = moving_a_scope();
    host.fake.set(SCOPE, ShapedControl::CpuWeight, Value::Value(70));
    host.pass(65);
    host.open(BOOT);
    host.pass(1);
    assert_eq!(host.fake.get(SCOPE, ShapedControl::CpuWeight), Value::Value(100));
}

#[test]
fn a_grant_that_came_to_less_than_its_plan_is_the_most_that_the_plan_gives() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 80, 600_000)]);
    host.pass(65);
    assert_eq!(host.weight(), Value::Value(80));
    let limits = [(CgroupPath::lossy("/system.slice/web.service"), [(ShapedControl::CpuWeight, 40)].into())].into();
    host.shaper().note_grants(OfGrants { limits, ..OfGrants::default() });
    host.pass(60);
    assert_eq!(host.weight(), Value::Value(40));
    host.shaper().note_grants(OfGrants::default());
    host.pass(30);
    assert_eq!(host.weight(), Value::Value(80), "what the plan says, once the grant has its own value elsewhere");
}
