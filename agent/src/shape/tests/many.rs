//! Hundreds of targets at once.

use std::collections::BTreeMap;
use std::time::Duration;

use quotary_common::envelope::{Mode, Name};
use quotary_common::id::PlanId;
use quotary_common::plan::{Plan, ShapedControl, Target, VerifiedPlan};

use super::{Host, one};
use crate::shape::controller::Value;

#[test]
fn a_tick_with_no_time_left_serves_the_next_ones_first_until_all_had_their_turn() {
    const MANY: usize = crate::shape::turns::TOGETHER * 2 + 10;
    let mut host = Host::new(Mode::Enforce);
    let names: Vec<String> = (0..MANY).map(|n| format!("{n}.service")).collect();
    for name in &names {
        let values = [(ShapedControl::CpuWeight, Value::Value(100))];
        host.fake.0.lock().unwrap().units.insert(name.clone(), BTreeMap::from(values));
    }
    let plans = names.iter().enumerate().map(|(n, name)| {
        let like = host.plan(1, 50, 900_000).checked().plan().clone();
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let plan = Plan { id: PlanId::new(id), target: Target::Unit(Name::lossy(name)), ..like };
        one(plan, host.now.boottime_ms, 900_000)
    });
    let plans: Vec<VerifiedPlan> = plans.collect();
    host.give(plans);
    host.shaper().work_max = Duration::ZERO;
    let mut served = Vec::new();
    for _ in 0..3 {
        host.pass(1);
        served.push(host.shaper().targets().len());
    }
    assert_eq!(
        served,
        [crate::shape::turns::TOGETHER, crate::shape::turns::TOGETHER * 2, MANY],
        "so many are begun at each tick"
    );
    host.pass(100);
    let at_target = |name: &String| host.fake.get(name, ShapedControl::CpuWeight) == Value::Value(50);
    assert_eq!(names.iter().filter(|name| at_target(name)).count(), MANY);
}
