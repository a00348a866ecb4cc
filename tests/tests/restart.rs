//! Restarts: what the verifier knew it knows again; what the agent limited stays limited until nothing covers it.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::envelope::Mode;
use quotary_common::id::{Digest, GrantId};
use quotary_common::leaf::Leaf;
use quotary_common::wire::{AgentView, GrantView, HostView, ListHosts, LocalGrant, Nothing, Right};
use quotary_decide::audit::{Tree, leaf_hash};
use quotary_tests::host::{Operator, request};
use quotary_tests::world::{Options, PATIENCE, Run, Timing, World};

/// What must be the same after a restart; times and counts since the start may differ.
fn lasting(hosts: Vec<HostView>, grants: Vec<GrantView>) -> serde_json::Value {
    let hosts: Vec<HostView> = hosts.into_iter().map(|host| HostView { accepted: 0, refused: 0, ..host }).collect();
    let grants: Vec<GrantView> = grants.into_iter().map(|grant| GrantView { held_until_ms: 0, ..grant }).collect();
    serde_json::json!({ "hosts": hosts, "grants": grants })
}

#[test]
fn a_restarted_verifier_knows_its_hosts_tokens_grants_and_log() {
    let timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };
    let mut world = World::new(Options { timing, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let (mut host, waiting, reader) = runtime.block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.requests = vec![request("one", 500, 64 << 20), request("two", 700, 64 << 20)];
        assert_eq!(host.attest().await.unwrap().2.set().grants.len(), 2);
        let reader = operator.operator_token(&[Right::Read], 600_000).await.unwrap();
        (host, operator.candidate("b").await.unwrap(), reader)
    });
    let facts = || {
        runtime.block_on(async {
            let known = lasting(operator.hosts().await.unwrap(), operator.grants().await.unwrap());
            (known, operator.status().await.unwrap().audit)
        })
    };
    let (known, mut log) = facts();
    for is_killed in [false, true] {
        if is_killed {
            world.kill_verifier();
        } else {
            world.stop_verifier().unwrap();
        }
        world.start_verifier().unwrap();
        let (knows, grown) = facts();
        assert_eq!(knows, known);
        assert!(grown.size > log.size, "its start is in the log");
        let leaves = runtime.block_on(operator.leaves(0)).unwrap();
        assert_eq!((root_at(&leaves, log.size), root_at(&leaves, grown.size)), (log.root, grown.root));
        log = grown;
        runtime.block_on(async {
            // A token made before serves, and still for no more than it was made for.
            let reading = operator.with_token(Some(&reader)).unwrap();
            assert_eq!(reading.call::<ListHosts>(&[], &Nothing {}).await.unwrap().len(), 1);
        });
    }
    runtime.block_on(async {
        // The host goes on in its chain, with its grants; a host with a token from before joins.
        let (envelope, _, set) = host.attest().await.unwrap();
        assert_eq!((envelope.claims().sequence, set.set().grants.len()), (2, 2));
        waiting.enrol().await.unwrap().attest().await.unwrap();
        host.held.clear();
        assert!(host.attest().await.unwrap().2.set().grants.is_empty());
        assert!(operator.grants().await.unwrap().is_empty());
    });
    world.cli_ok(&["audit", "verify"]).unwrap();
}

/// The root over the first `size` leaves.
fn root_at(leaves: &[Leaf], size: u64) -> Digest {
    let mut tree = Tree::new();
    for leaf in leaves.iter().take(usize::try_from(size).unwrap()) {
        tree.append(leaf_hash(&leaf.to_bytes()));
    }
    tree.root()
}

/// The one grant of host 0, as its agent sees it.
fn the_grant(world: &World) -> LocalGrant {
    let waited = world.wait("the application's grant", PATIENCE, |world| {
        // Right after its start the agent does not answer yet.
        let Ok(AgentView { mut grants, .. }) = world.agent_view(0) else { return Ok(None) };
        Ok(grants.pop())
    });
    waited.unwrap()
}

/// What the kernel shows for the grant's effective controls.
fn in_the_kernel(world: &World, grant: &LocalGrant) -> Vec<(String, Option<String>)> {
    let Some(group) = &grant.cgroup else { return Vec::new() };
    let effective = grant.controls.iter().filter(|control| control.effective);
    effective.map(|control| (control.control.clone(), world.kernel().read(group, &control.control))).collect()
}

fn held(world: &World) -> Vec<GrantId> {
    world.grant_views().unwrap().iter().map(|grant| grant.grant).collect()
}

#[test]
fn a_killed_agent_leaves_limits_to_their_lease_and_a_stopped_one_leaves_nothing() {
    let mut world = World::new(Options::quick(1)).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    let asked = ["--cpu", "300m", "--memory", "64M", "--if-unavailable", "fail"];
    let run = world.start_run("sleeper", &Run::new(0, &asked, ["sh", "-c", "echo begun; sleep 600; :"])).unwrap();
    world.wait("the application", PATIENCE, |_| Ok(run.printed()?.contains("begun").then_some(()))).unwrap();
    let grant = the_grant(&world);
    let group = world.host(0).cgroup().to_owned();
    let limits = in_the_kernel(&world, &grant);
    if grant.mode == Mode::Enforce {
        assert!(limits.iter().all(|(_, value)| value.is_some()) && !limits.is_empty(), "{limits:?}");
    } else {
        eprintln!("note: no writable cgroups here: the agent only shows what it would do");
        assert_eq!((grant.mode, limits.len()), (Mode::DryRun, 0));
        assert!(world.kernel().directories(&group).is_empty());
    }

    world.kill_agent(0);
    assert_eq!(in_the_kernel(&world, &grant), limits, "limits went with the agent");
    world.start_agent(0).unwrap();
    let again = the_grant(&world);
    assert_eq!((again.grant, &again.cgroup, &again.controls), (grant.grant, &grant.cgroup, &grant.controls));
    world.wait_for_trust(0, PATIENCE).unwrap();
    world.wait_for_evidence(0, 2, PATIENCE).unwrap();
    assert_eq!(in_the_kernel(&world, &grant), limits);
    assert_eq!(held(&world), [grant.grant], "the grant was lost or doubled");

    world.stop_agent(0).unwrap();
    let left: Vec<String> = world.kernel().directories(&group).iter().map(|path| path.display().to_string()).collect();
    assert!(left.is_empty(), "limits outlived an orderly stop: {left:?}");
    assert!(run.ended().unwrap().is_none(), "the application was ended with its limits");

    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    world.wait("the grant to be given back", PATIENCE, |world| Ok(held(world).is_empty().then_some(()))).unwrap();
    run.stop(PATIENCE).unwrap();
    world.cli_ok(&["audit", "verify"]).unwrap();
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}
