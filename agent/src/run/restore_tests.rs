//! What `restore` puts back and what it says of it, over a tree of plain files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use quotary_common::envelope::Mode;
use quotary_common::id::GrantId;
use quotary_common::lease::Lease;

use super::*;
use crate::clock;
use crate::enforce::tests::fake::Host;
use crate::enforce::tests::{BOOT, UID, grant};

const ID: GrantId = GrantId::new([1; 32]);

/// A host that says which boot this is, and nothing else: more is not needed.
fn host() -> Host {
    let host = Host::version_2();
    host.put("proc/sys/kernel/random/boot_id", "01010101-0101-0101-0101-010101010101\n");
    host
}

/// The configuration of its agent, written down.
fn configured(host: &Host) -> PathBuf {
    let path = host.path("agent.toml");
    let text = format!(
        "state_dir = {:?}\nruntime_dir = {:?}\nroot = {:?}\nkill_switch_file = {:?}\ndisks = []\n",
        host.path("state"),
        host.path("run/quotary"),
        host.path(""),
        host.path("stop")
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// An agent was killed that held one grant, under a lease that runs for ten minutes more.
fn killed_holding(host: &Host, mode: Mode, processes: &[u32]) {
    let now_ms = clock::boottime_ms();
    let (mut enforcer, _) = host.open(mode, now_ms);
    let lease = Lease { boot_id: BOOT, epoch: 1, start_ms: now_ms, lease_ms: 600_000 };
    enforcer.apply_grants(&[grant(1, 500)], &lease, now_ms);
    for pid in processes {
        enforcer.enter(&ID, *pid, 70, UID, now_ms).unwrap();
    }
}

async fn put_back(path: &Path, only_ended: bool) -> PutBack {
    match restore(&Config::load(path).unwrap(), only_ended).await.unwrap() {
        Restored::Done(put_back) => put_back,
        Restored::AgentRuns => PutBack { left: vec!["no agent runs".to_owned()], ..PutBack::default() },
    }
}

#[tokio::test]
async fn with_the_kill_switch_set_what_a_lease_still_covers_is_put_back_too() {
    let host = host();
    let path = configured(&host);
    // Held, and no group was made yet.
    killed_holding(&host, Mode::Observe, &[]);
    assert_eq!(put_back(&path, true).await, PutBack::default(), "its lease runs");
    host.put("stop", "");
    assert_eq!(put_back(&path, true).await, PutBack { grants: 1, ..PutBack::default() });
    assert_eq!(put_back(&path, true).await, PutBack::default(), "once");
}

#[tokio::test]
async fn what_could_not_be_put_back_is_not_counted_and_is_named() {
    let host = host();
    let path = configured(&host);
    host.process(7, 70, "/user.slice");
    killed_holding(&host, Mode::Enforce, &[7]);
    let group = host.run_groups().pop().unwrap();
    let high = || std::fs::read_to_string(group.join("memory.high")).unwrap().trim().to_owned();
    assert_ne!(high(), "max");
    // A kernel would remove the group with its files; plain files stand in the way.
    let told = put_back(&path, false).await;
    assert_eq!((told.grants, told.left), (0, vec![format!("grant {ID}")]));
    assert_eq!(high(), "max", "what could be put back is");
    // It is tried again, and said again.
    assert_eq!(put_back(&path, true).await.left.len(), 1);
}

#[tokio::test]
async fn a_configuration_that_was_broken_since_does_not_keep_values_from_being_put_back() {
    let host = host();
    let path = configured(&host);
    host.process(7, 70, "/user.slice");
    killed_holding(&host, Mode::Enforce, &[7]);
    let good = Config::load(&path).unwrap();
    good.keep(&StateDir::open(host.path("state")).unwrap()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}sample_ms = often\n")).unwrap();
    assert!(Config::load(&path).is_err());
    let high = host.run_groups().pop().unwrap().join("memory.high");
    assert_ne!(std::fs::read_to_string(&high).unwrap().trim(), "max");
    restore(&Config::kept(&path).unwrap(), false).await.unwrap();
    assert_eq!(std::fs::read_to_string(&high).unwrap().trim(), "max");
}
