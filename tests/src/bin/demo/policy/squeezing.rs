//! The attack: a plan with the verifier's own signature that no quorum decided on.

use anyhow::{Context as _, Result, ensure};
use quotary_common::envelope::CgroupPath;
use quotary_common::id::PlanId;
use quotary_common::plan::{ShapedControl, Target};
use quotary_tests::attack::{Proxy, Squeeze, Stolen, StolenCa, StolenKey, stolen_grant_key};
use quotary_tests::world::PATIENCE;

use super::PolicyDemo;
use super::ramp::Group;
use crate::summary::RefusedLine;
use crate::tell::bytes;

/// The host that is attacked: the one behind a road.
const VICTIM: usize = 1;
/// What she would leave it: less than it uses.
const SQUEEZED_BYTES: u64 = 8 << 20;
/// What the agent says of a plan that it refuses because nobody decided on it.
const FOR_WANT_OF_PEOPLE: &str = "it carries no quorum decision, and policy";

/// Attacks, and fails unless the agent refuses the plan and goes on with the one that was decided on.
pub(super) fn squeeze(demo: &mut PolicyDemo, groups: &[Group]) -> Result<()> {
    demo.tell.step("A plan without a decision");
    demo.tell.say(
        "Mallory has broken into the verifier: she has its grant key, so that every signature of hers holds, and she",
    );
    demo.tell.say(
        "sits on the road to host-b. She sends a plan that takes the lab's memory away. What she lacks are people.",
    );
    let world = &demo.world;
    let group = groups.get(VICTIM).context("a group on the attacked host")?;
    let stolen = Stolen {
        ca: StolenCa::copied_from(&world.offline_dir())?,
        host_key: StolenKey::copied_from(&world.host(VICTIM).state_dir())?,
    };
    let proxy = Proxy::start(world.runtime().handle(), &stolen, &world.verifier_url())?;
    let squeeze = Squeeze {
        plan: PlanId::of(&[b"a plan that nobody decided on"]),
        target: Target::Cgroup(CgroupPath::lossy(&group.cgroup)),
        control: ShapedControl::MemoryHigh,
        value: SQUEEZED_BYTES,
        decision: None,
        above_generation: 0,
    };
    let plan = squeeze.plan;
    proxy.squeeze(squeeze, stolen_grant_key(&world.path("verifier"))?);
    let before = group.actual(world.kernel())?;
    let road = world.host(VICTIM).road().context("host-b has no road")?;
    road.turn_to(proxy.address());
    let mut waiting = demo.tell.waiting("the agent's answer");
    let why = world.wait("the agent to refuse a plan without a decision", PATIENCE, |world| {
        waiting();
        let view = world.agent_view(VICTIM)?;
        ensure!(
            view.targets.iter().all(|target| target.plan != plan),
            "the agent follows a plan that nobody decided on"
        );
        let refused = view.not_followed.into_iter().find(|refused| refused.plan == plan);
        // Some replies more, so that the first was wholly dealt with.
        Ok(refused.map(|refused| refused.why).filter(|_| proxy.forged() >= 3))
    })?;
    let after = group.actual(world.kernel())?;
    road.turn_to(world.verifier_address());
    drop(proxy);
    demo.tell.show(&format!("REFUSED by the agent: {why}"));
    // Any other reason would be one that people have nothing to do with.
    ensure!(why.contains(FOR_WANT_OF_PEOPLE), "the agent refused the plan for another reason: {why}");
    ensure!(before == after, "{} was moved from {before} to {after} bytes", group.application.name);
    demo.tell.show(&format!("{} has {}, as it had before", group.application.name, bytes(after)));
    demo.summary.refused.push(RefusedLine {
        actor: "holder of the verifier's grant key".to_owned(),
        kind: "plan-without-decision".to_owned(),
        reason: why,
    });
    let view = demo.world.wait_for_evidence(VICTIM, 1, PATIENCE)?;
    ensure!(view.trusted, "host-b is not trusted any more: {:?}", view.last_refusal);
    Ok(())
}
