//! Three attacks on host-b, each with more in hand than an attacker should have, and what came of them.

use anyhow::{Context as _, Result, ensure};
use quotary_common::reason::Reason;
use quotary_common::wire::Error;
use quotary_tests::attack::{Attempt, Proxy, Scheme, Stolen, StolenCa, StolenKey, Thief};
use quotary_tests::world::{PATIENCE, Road};

use crate::show::Demo;
use crate::summary::RefusedLine;

/// The host that is attacked, which is the second tenant's.
const VICTIM: usize = 1;
const MIDDLE: &str = "man in the middle";
const HOLDER: &str = "holder of the copied TLS key";

/// Attacks, and fails unless each attack is refused for the right reason and changes nothing.
pub(crate) fn attack(demo: &mut Demo) -> Result<()> {
    demo.tell.step("Three attacks");
    demo.tell
        .say("Mallory has copied host-b's TLS key and, worse, the key of the deployment's CA. She sits on the road");
    demo.tell
        .say("between host-b and the verifier: both ends take her for the other. What she lacks is the TPM and the");
    demo.tell.say("verifier's grant key.");
    let world = &demo.world;
    let stolen = Stolen {
        ca: StolenCa::copied_from(&world.offline_dir())?,
        host_key: StolenKey::copied_from(&world.host(VICTIM).state_dir())?,
    };
    let proxy = Proxy::start(world.runtime().handle(), &stolen, &world.verifier_url())?;
    road(demo)?.turn_to(proxy.address());
    world.wait("evidence to pass through the attacker", PATIENCE, |_| Ok((proxy.seen().len() >= 2).then_some(())))?;
    demo.tell
        .show(&format!("host-b's evidence now passes through her ({} so far); she can read it", proxy.seen().len()));
    alter(demo, &proxy)?;
    replay(demo, &proxy, &stolen)?;
    forge(demo, &proxy)?;
    road(demo)?.turn_to(demo.world.verifier_address());
    drop(proxy);
    let view = demo.world.wait_for_evidence(VICTIM, 1, PATIENCE)?;
    ensure!(view.trusted && view.last_refusal.is_none(), "host-b is not trusted any more: {:?}", view.last_refusal);
    demo.tell.show("Mallory is gone; host-b was trusted all the while: what others forge is not held against it");
    Ok(())
}

fn road(demo: &Demo) -> Result<&Road> {
    demo.world.host(VICTIM).road().context("host-b has no road")
}

fn alter(demo: &mut Demo, proxy: &Proxy) -> Result<()> {
    demo.tell.say("(a) She alters the envelope after the TPM has quoted it: the host shall have twice the memory.");
    proxy.follow(Scheme::AlterEnvelope);
    let mut waiting = demo.tell.waiting("the next evidence");
    let outcome = demo.world.wait("an altered envelope", PATIENCE, |_| {
        waiting();
        Ok(proxy.altered())
    })?;
    refused(demo, MIDDLE, "altered-envelope", outcome.altered.refusal()?, Reason::ExtraData)?;
    ensure!(
        matches!(outcome.original, Attempt::Accepted),
        "the evidence as it was, was refused: {:?}",
        outcome.original
    );
    demo.tell.show("the same evidence as it was: accepted");
    Ok(())
}

fn replay(demo: &mut Demo, proxy: &Proxy, stolen: &Stolen) -> Result<()> {
    let world = &demo.world;
    let seen = proxy.seen();
    let [.., last_but_one, last] = seen.as_slice() else { anyhow::bail!("too little evidence was seen") };
    let host = world.host(VICTIM).id().context("host-b has no id")?;
    let thief = |key: &StolenKey| {
        Thief::new(world.runtime().handle().clone(), key, &world.verifier_url(), stolen.ca.pin(), host)
    };
    let with_copied_key = thief(&stolen.host_key)?.send(last_but_one)?.refusal()?;
    let with_own_key = thief(&StolenKey::of_ones_own()?)?.send(last)?.refusal()?;
    demo.tell.say("(b) She sends evidence once more that was good before: the last but one, over the copied TLS key …");
    refused(demo, HOLDER, "replayed-evidence", with_copied_key, Reason::SequenceStale)?;
    demo.tell.say("    … and the last one over a TLS key of her own.");
    refused(demo, "holder of another TLS key", "replayed-evidence", with_own_key, Reason::TlsKey)
}

fn forge(demo: &mut Demo, proxy: &Proxy) -> Result<()> {
    demo.tell
        .say("(c) On the way back she puts her own grant set into the verifier's reply: ten times the CPU and memory.");
    let before = controls(demo)?;
    let mut waiting = demo.tell.waiting("the agent's answer");
    proxy.follow(Scheme::ForgeGrants);
    let refusal = demo.world.wait("the agent to refuse a forged grant set", PATIENCE, |world| {
        waiting();
        let refusal = world.agent_view(VICTIM)?.last_refusal;
        // Twice, so that the first was wholly dealt with.
        Ok(refusal.filter(|refusal| refusal.reason == Reason::GrantSignature && proxy.forged() >= 2))
    })?;
    let after = controls(demo)?;
    proxy.follow(Scheme::Read);
    refused(demo, MIDDLE, "forged-grant", refusal, Reason::GrantSignature)?;
    ensure!(before == after, "the forged grant set changed the kernel's controls: {before:?} became {after:?}");
    if demo.enforces {
        let shown: Vec<String> = after.iter().map(|(control, value)| format!("{control} = {value}")).collect();
        demo.tell.show(&format!("the kernel's limits are as they were: {}", shown.join(", ")));
    }
    Ok(())
}

/// The kernel's values of all controls of the application on the attacked host.
fn controls(demo: &Demo) -> Result<Vec<(String, String)>> {
    if !demo.enforces {
        return Ok(Vec::new());
    }
    let grant = demo.grant_of(VICTIM)?.context("the grant on host-b is gone")?;
    let cgroup = grant.cgroup.context("a grant without a group")?;
    let read = |control: &str| demo.world.kernel().read(&cgroup, control);
    grant
        .controls
        .iter()
        .map(|control| Ok((control.control.clone(), read(&control.control).context("a control is gone")?)))
        .collect()
}

fn refused(demo: &mut Demo, actor: &str, kind: &str, refusal: Error, expected: Reason) -> Result<()> {
    demo.tell.show(&format!("REFUSED  {}: {}", refusal.reason, refusal.detail));
    ensure!(refusal.reason == expected, "{kind} was refused as {}, not as {expected}", refusal.reason);
    demo.summary.refused.push(RefusedLine {
        actor: actor.to_owned(),
        kind: kind.to_owned(),
        reason: refusal.reason.code().to_owned(),
    });
    Ok(())
}
