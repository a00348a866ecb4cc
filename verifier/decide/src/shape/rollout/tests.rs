#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use quotary_common::id::HostId;

use super::*;

const CHANGE: [u8; 32] = [7; 32];
const CALM: Option<Counts> = Some(Counts { throttled: 0, out_of_memory: 0, pressed: 0, contested: 0 });

fn rollout() -> Rollout {
    Rollout::new(vec![5, 25, 100], 60_000, Counts { throttled: 10, ..Counts::default() }).unwrap()
}

fn hosts(count: u8) -> BTreeSet<HostId> {
    (0..count).map(|at| HostId::of(&[&[at]])).collect()
}

#[test]
fn stages_grow_to_all_hosts_and_keep_those_they_had() {
    for count in [0, 1, 3, 19, 20, 21, 100, 255] {
        let all = hosts(count);
        let stages: Vec<_> = (0..4).map(|stage| rollout().hosts(&CHANGE, &all, stage)).collect();
        let sizes: Vec<usize> = stages.iter().map(BTreeSet::len).collect();
        let count = usize::from(count);
        assert_eq!(sizes, [(count * 5).div_ceil(100), (count * 25).div_ceil(100), count, count]);
        assert!(stages.windows(2).all(|pair| pair[0].is_subset(&pair[1])));
    }
    assert_eq!(rollout().hosts(&CHANGE, &hosts(3), 0).len(), 1, "one at least");
}

#[test]
fn which_hosts_are_first_depends_on_the_change_alone() {
    let all = hosts(100);
    let first = |change: &[u8; 32]| rollout().hosts(change, &all, 1);
    assert_eq!(first(&CHANGE), first(&CHANGE));
    assert_ne!(first(&CHANGE), first(&[8; 32]));
    // A host that leaves is followed by one other at most.
    let mut fewer = all.clone();
    fewer.pop_last();
    assert!(rollout().hosts(&CHANGE, &fewer, 1).difference(&first(&CHANGE)).count() <= 1);
}

#[test]
fn the_next_stage_begins_when_the_guards_held_for_the_time() {
    let mut stand = Stand::begin(1000);
    assert_eq!(stand.look(&rollout(), CALM, 60_999), Next::Hold { until_ms: 61_000 });
    assert_eq!(stand.look(&rollout(), CALM, 61_000), Next::Begin { stage: 1 });
    assert_eq!(stand.look(&rollout(), CALM, 61_001), Next::Hold { until_ms: 121_000 });
    assert_eq!(stand.look(&rollout(), CALM, 121_000), Next::Begin { stage: 2 });
    assert_eq!(stand.look(&rollout(), CALM, 181_000), Next::Done);
    let mut at_once = Stand::begin(5);
    assert_eq!(at_once.look(&Rollout::at_once(), CALM, 5), Next::Done);
}

#[test]
fn a_breached_guard_halts_for_good() {
    for (counts, guard) in [
        (Counts { throttled: 11, ..Counts::default() }, Guard::Throttled),
        (Counts { out_of_memory: 1, ..Counts::default() }, Guard::OutOfMemory),
        (Counts { pressed: 1, ..Counts::default() }, Guard::Pressed),
        (Counts { contested: 1, ..Counts::default() }, Guard::Contested),
    ] {
        let mut stand = Stand::begin(0);
        assert!(matches!(stand.look(&rollout(), Some(counts), 99_000), Next::Halt { guard: at, .. } if at == guard));
        assert!(matches!(stand.look(&rollout(), CALM, 999_000), Next::Halt { guard: at, .. } if at == guard));
        assert_eq!(stand.stage(), 0);
    }
}

#[test]
fn what_is_let_pass_is_counted_over_the_stage_and_from_nothing_in_the_next() {
    let six = Some(Counts { throttled: 6, ..Counts::default() });
    let mut stand = Stand::begin(0);
    assert_eq!(stand.look(&rollout(), six, 60_000), Next::Begin { stage: 1 });
    assert_eq!(stand.look(&rollout(), six, 61_000), Next::Hold { until_ms: 120_000 });
    assert_eq!(stand.look(&rollout(), six, 62_000), Next::Halt { guard: Guard::Throttled, counted: 12, most: 10 });
}

#[test]
fn no_news_is_no_reason_to_go_on() {
    let mut stand = Stand::begin(0);
    assert_eq!(stand.look(&rollout(), None, 70_000), Next::Hold { until_ms: 130_000 });
    assert_eq!(stand.look(&rollout(), CALM, 129_999), Next::Hold { until_ms: 130_000 });
    assert_eq!(stand.look(&rollout(), CALM, 130_000), Next::Begin { stage: 1 });
}

#[test]
fn stages_that_do_not_grow_to_all_are_none() {
    let fault = |stages: &[u8]| Rollout::new(stages.to_vec(), 0, Counts::default()).unwrap_err();
    assert_eq!(fault(&[]), RolloutFault::Stages);
    assert_eq!(fault(&[1; 17]), RolloutFault::Stages);
    for stages in [&[5, 5, 100][..], &[0, 100], &[5, 25], &[25, 5, 100], &[100, 101], &[100, 100]] {
        assert_eq!(fault(stages), RolloutFault::Order, "{stages:?}");
    }
}
