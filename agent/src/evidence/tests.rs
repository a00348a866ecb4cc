#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use quotary_common::envelope::{
    BackendKind, CgroupPath, ControlValue, EnforcementWrite, Event, EventKind, Name, PendingRequest,
    WitnessedCheckpoint,
};
use quotary_common::grant::Accepted;
use quotary_common::id::{Digest, GrantId, HostId, RequestId};
use quotary_common::limits::{CGROUP_PATH_BYTES_MAX, ENVELOPE_BYTES_MAX};
use quotary_common::metric::{Metric, MetricWindow};
use quotary_common::units::{Class, Resources};

use super::testing::frame;
use super::*;
use crate::sample::{Application, ApplicationWindows, Windows};
use crate::state::StateDir;

fn window(start_ms: u64) -> MetricWindow {
    MetricWindow {
        metric: Metric::CpuMillicores,
        start_ms,
        duration_ms: 15_000,
        samples: 15,
        mean: 500,
        max: 900,
        p95: 800,
        label: None,
    }
}

fn application(n: usize, intervals: u64, per_interval: usize, is_granted: bool) -> ApplicationWindows {
    let windows = (0..intervals).flat_map(|i| std::iter::repeat_n(window(i * 15_000), per_interval)).collect();
    let application = Application {
        cgroup: CgroupPath::lossy(&format!("/system.slice/a-service-with-a-long-name-{n}.service")),
        grant: is_granted.then(|| GrantId::of(&[&n.to_be_bytes()])),
        uid: None,
        unit: None,
    };
    ApplicationWindows { application: Arc::new(application), windows }
}

fn write(n: u64) -> EnforcementWrite {
    EnforcementWrite {
        plan: None,
        grant: Some(GrantId::of(&[&n.to_be_bytes()])),
        cgroup: CgroupPath::lossy("/quotary/run-abcdefghijklmnopqrstuvwxyz"),
        backend: BackendKind::Direct,
        control: Name::lossy("cpu.cfs_quota_us"),
        before: ControlValue::new("-1"),
        after: ControlValue::lossy("50000"),
        actual: ControlValue::new("50000"),
        effective: true,
        at_ms: n,
        dry_run: false,
    }
}

fn long_path(n: usize, bytes: usize) -> CgroupPath {
    CgroupPath::lossy(&format!("/{n}{}", "a".repeat(bytes)))
}

/// A request that is as long as it may be but for its path.
fn request(n: u8, path_bytes: usize) -> PendingRequest {
    PendingRequest {
        id: RequestId::new([n; 32]),
        uid: u32::MAX,
        gid: u32::MAX,
        pid: u32::MAX,
        start_time_ticks: u64::MAX,
        cgroup: long_path(usize::from(n), path_bytes),
        unit: Some(Name::lossy(&"u".repeat(200))),
        name: Some(Name::lossy(&"n".repeat(200))),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(u64::MAX), memory_bytes: Some(u64::MAX), ..Resources::default() },
    }
}

fn place() -> Place {
    Place { sequence: 1, predecessor: Digest::new([0; 32]) }
}

#[test]
fn an_envelope_says_what_was_given_and_no_more() {
    let contents = Contents {
        windows: Windows { host: vec![window(0)], applications: vec![application(1, 1, 2, true)], events: vec![] },
        events: vec![Event { kind: EventKind::AgentStarted, cgroup: None, count: 1, at_ms: 1 }],
        writes: vec![write(1)],
        requests: vec![],
        held: vec![GrantId::of(&[b"g"])],
    };
    let (sealed, waiting) = build(frame(), place(), contents).unwrap();
    let claims = sealed.claims();
    assert!(waiting.is_empty());
    assert_eq!(claims.host_windows.len(), 1);
    assert_eq!(claims.applications.first().unwrap().windows.len(), 2);
    assert_eq!((claims.events.len(), claims.writes.len(), claims.held.len()), (1, 1, 1));
    assert_eq!((claims.built_at_ms, claims.sequence), (50_000, 1));
    assert_eq!(quotary_common::envelope::ClaimedEnvelope::parse(sealed.bytes()).unwrap(), sealed);
}

#[test]
fn the_backlog_goes_before_the_newest_interval_and_is_counted() {
    let applications: Vec<_> = (0..300).map(|n| application(n, 8, 8, n < 10)).collect();
    let windows = Windows { host: (0..8).map(|i| window(i * 15_000)).collect(), applications, events: vec![] };
    let total: usize = windows.applications.iter().map(|a| a.windows.len()).sum::<usize>() + 8;
    let (sealed, _) = build(frame(), place(), Contents { windows, ..Contents::default() }).unwrap();
    let claims = sealed.claims();
    assert_eq!(claims.applications.len(), 300, "every application keeps its newest windows");
    let newest = |w: &MetricWindow| w.start_ms == 7 * 15_000;
    assert!(claims.applications.iter().all(|a| a.windows.iter().filter(|w| newest(w)).count() == 8));
    let kept = claims.applications.iter().map(|a| a.windows.len()).sum::<usize>() + claims.host_windows.len();
    let left_out = claims.events.iter().find(|e| e.kind == EventKind::LeftOut).unwrap().count;
    assert_eq!(usize::try_from(left_out).unwrap() + kept, total);
}

#[test]
fn writes_that_do_not_fit_wait_for_the_next_envelope_in_order() {
    let writes: Vec<_> = (0..1500).map(write).collect();
    let (sealed, waiting) =
        build(frame(), place(), Contents { writes: writes.clone(), ..Contents::default() }).unwrap();
    let mut all = sealed.claims().writes.to_vec();
    assert!(!waiting.is_empty());
    all.extend(waiting);
    assert_eq!(all, writes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_comes_an_envelope_is_made_and_fits(
        applications in 0usize..700, intervals in 0u64..8, per_interval in 0usize..12, events in 0usize..1200, writes in 0u64..2000,
        requests in 0u8..=255, held in 0u16..700, path_bytes in 1usize..CGROUP_PATH_BYTES_MAX,
    ) {
        let windows = Windows {
            host: (0..intervals * 100).map(|i| window(i % 8 * 15_000)).collect(),
            applications: (0..applications).map(|n| application(n, intervals, per_interval, n % 3 == 0)).collect(),
            events: vec![],
        };
        let events = (0..events)
            .map(|n| Event { kind: EventKind::OomKill, cgroup: Some(long_path(n, path_bytes)), count: 1, at_ms: 0 })
            .collect();
        let contents = Contents {
            windows,
            events,
            writes: (0..writes).map(write).collect(),
            requests: (0..requests).map(|n| request(n, path_bytes)).collect(),
            held: (0..held).map(|n| GrantId::of(&[&n.to_be_bytes()])).collect(),
        };
        let (sealed, _) = build(frame(), place(), contents).unwrap();
        prop_assert!(sealed.bytes().len() <= ENVELOPE_BYTES_MAX);
    }
}

#[test]
fn a_crash_finds_the_same_envelope_on_its_way_and_a_commit_moves_the_chain() {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::open(temp.path().join("state")).unwrap();
    let (deployment, host) = (frame().deployment, frame().host);
    assert!(matches!(Chain::load(&state, deployment, host), Err(ChainError::Missing)));
    let mut chain = Chain::begin(deployment, host, 4);
    let (sealed, _) = build(frame(), chain.next_place(), Contents::default()).unwrap();
    chain.propose(sealed.clone()).unwrap();
    chain.store(&state).unwrap();

    let mut after_crash = Chain::load(&state, deployment, host).unwrap();
    assert_eq!(after_crash, chain);
    assert_eq!(after_crash.pending().unwrap().bytes(), sealed.bytes());
    assert!(matches!(after_crash.propose(sealed.clone()), Err(ChainError::NotNext)), "one at a time");

    let seen = WitnessedCheckpoint { size: 9, root: Digest::of(&[b"9"]) };
    after_crash.commit(Accepted { epoch: 4, generation: 2 }, Some(seen)).unwrap();
    assert_eq!(after_crash.next_place(), Place { sequence: 2, predecessor: sealed.digest() });
    assert_eq!((after_crash.witnessed(), after_crash.seen()), (frame().checkpoint, Some(seen)));
    assert!(matches!(after_crash.propose(sealed), Err(ChainError::NotNext)), "an old envelope does not follow");
    after_crash.store(&state).unwrap();
    assert!(matches!(Chain::load(&state, deployment, HostId::of(&[b"x"])), Err(ChainError::OtherHost { .. })));
    std::fs::write(state.file(CHAIN_FILE), b"\xa0").unwrap();
    assert!(matches!(Chain::load(&state, deployment, host), Err(ChainError::Damaged(_))));
}
