//! Tenants and pools are sums of what was seen, with gaps where too much was not.

use quotary_common::envelope::Name;
use quotary_common::units::Class;

use super::super::*;
use super::{bounds, envelope, timeline, window};
use crate::allocate::{Rule, Rules, Selector};
use quotary_common::metric::Metric;

/// On a minute.
const COMMIT_MS: u64 = 600_000_000;
const STEP_MS: u64 = 300_000;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn rules() -> Rules {
    let rule = |prefix: &str, tenant| Rule {
        application: name("app"),
        tenant: name(tenant),
        selector: Selector { cgroup_prefix: Some(prefix.to_owned()), ..Selector::default() },
        class_best: Class::Burstable,
        quota: Default::default(),
    };
    Rules::new(vec![rule("/blue", "blue"), rule("/red", "red")], BTreeMap::new(), 100)
}

/// One minute of one host: what it uses, and its groups.
fn record(history: &mut History, host: u8, minute: u64, of_host: u64, of_groups: &[(&str, u64)]) {
    history.record(&load(host, of_host, of_groups), COMMIT_MS + minute * MINUTE_MS - 1);
}

fn load(host: u8, of_host: u64, of_groups: &[(&str, u64)]) -> BoundedLoad {
    let cpu = |mean| [window(Metric::CpuMillicores, mean)];
    let groups: Vec<_> = of_groups.iter().map(|(path, mean)| (*path, cpu(*mean))).collect();
    let groups: Vec<_> = groups.iter().map(|(path, windows)| (*path, &windows[..])).collect();
    let mut envelope = envelope(&cpu(of_host), &groups);
    envelope.host = HostId::of(&[&[host]]);
    let load = BoundedLoad::bounded(&envelope, &bounds(Some(timeline(30_000)), 30_000));
    assert_eq!(load.findings(), []);
    let rules = rules();
    let pool = name("lab");
    load.placed(&Standing {
        enrolled_at_ms: 1,
        pool: Some(&pool),
        capacity: Default::default(),
        grants: &[],
        rules: &rules,
    })
}

fn key(subject: Subject) -> SeriesKey {
    SeriesKey { host: None, subject, measure: ResourceKind::Cpu.into() }
}

/// What the minutes up to `minutes` hold of a sum.
fn minutes(history: &History, subject: Subject, minutes: u64) -> Vec<Option<u64>> {
    let Some(series) = history.get(&key(subject)) else { return Vec::new() };
    let now_ms = COMMIT_MS + minutes * MINUTE_MS;
    series.closed_at(Resolution::Minute, now_ms, 60).iter().map(|point| point.map(|point| point.mean())).collect()
}

#[test]
fn tenants_and_pools_are_summed_over_hosts_and_a_group_in_a_group_counts_once() {
    let mut history = History::new(STEP_MS);
    for minute in 1..=5 {
        record(&mut history, 1, minute, 1_000, &[("/blue/a", 300), ("/blue/a/worker", 200), ("/red/x", 50)]);
        record(&mut history, 2, minute, 500, &[("/blue/b", 100), ("/system.slice/cron", 70)]);
    }
    history.sum_until(COMMIT_MS + 5 * MINUTE_MS);
    assert_eq!(minutes(&history, Subject::Pool(name("lab")), 5), [Some(1_500); 5]);
    assert_eq!(minutes(&history, Subject::Tenant(name("blue")), 5), [Some(400); 5]);
    assert_eq!(minutes(&history, Subject::Tenant(name("red")), 5), [Some(50); 5]);
    let blue = history.get(&key(Subject::Tenant(name("blue")))).unwrap();
    let step = blue.closed(COMMIT_MS + STEP_MS, 1)[0].unwrap();
    assert_eq!((step.mean(), step.max()), (400, 400));
    // What was summed is not summed again, nor changed by who speaks late.
    record(&mut history, 3, 2, 900, &[("/blue/c", 900)]);
    history.sum_until(COMMIT_MS + 5 * MINUTE_MS);
    assert_eq!(minutes(&history, Subject::Tenant(name("blue")), 5), [Some(400); 5]);
}

#[test]
fn little_that_is_missing_counts_as_last_known_and_more_is_a_gap() {
    let mut history = History::new(STEP_MS);
    for minute in 1..=6 {
        record(&mut history, 1, minute, 950, &[]);
        if minute <= 2 || minute == 6 {
            record(&mut history, 2, minute, 100, &[]);
        }
        if minute <= 4 || minute == 6 {
            record(&mut history, 3, minute, 100, &[]);
        }
    }
    history.sum_until(COMMIT_MS + 6 * MINUTE_MS);
    let pool = minutes(&history, Subject::Pool(name("lab")), 6);
    // One of 1,150 is under a tenth, two are more.
    assert_eq!(pool, [Some(1_150), Some(1_150), Some(1_150), Some(1_150), None, Some(1_150)]);
}

#[test]
fn a_group_that_ended_is_not_missing_and_a_host_that_stays_away_is_no_member_any_more() {
    let mut history = History::new(STEP_MS);
    record(&mut history, 1, 1, 900, &[("/blue/a", 400), ("/blue/b", 400)]);
    record(&mut history, 2, 1, 900, &[]);
    for minute in 2..=70 {
        record(&mut history, 1, minute, 900, &[("/blue/b", 400)]);
    }
    history.sum_until(COMMIT_MS + 70 * MINUTE_MS);
    assert_eq!(minutes(&history, Subject::Tenant(name("blue")), 3), [Some(800), Some(400), Some(400)]);
    let pool = minutes(&history, Subject::Pool(name("lab")), 70);
    assert_eq!(pool.len(), 9, "an hour of half the pool is a gap: {pool:?}");
    assert_eq!(pool.last(), Some(&Some(900)));
}

#[test]
fn a_member_moves_a_sum_by_no_more_than_what_it_has() {
    let mut history = History::new(STEP_MS);
    record(&mut history, 1, 1, 1_000, &[]);
    let absurd = envelope(&[window(Metric::CpuMillicores, u64::MAX)], &[]);
    let load = BoundedLoad::bounded(&absurd, &bounds(Some(timeline(30_000)), 30_000));
    let (rules, pool) = (rules(), name("lab"));
    let standing =
        Standing { enrolled_at_ms: 1, pool: Some(&pool), capacity: Default::default(), grants: &[], rules: &rules };
    history.record(&load.placed(&standing), COMMIT_MS + MINUTE_MS - 1);
    history.sum_until(COMMIT_MS + MINUTE_MS);
    assert_eq!(minutes(&history, Subject::Pool(name("lab")), 1), [Some(3_000)], "its inventory is two cores");
}

#[test]
fn sums_go_on_after_a_restart_where_they_were() {
    let mut running = History::new(STEP_MS);
    for minute in 1..=90 {
        record(&mut running, 1, minute, 1_000, &[("/blue/a", 300)]);
        record(&mut running, 2, minute, 500, &[("/blue/b", 100)]);
        running.sum_until(COMMIT_MS + minute * MINUTE_MS);
    }
    let chunks = running.take_due(COMMIT_MS + 90 * MINUTE_MS, 8);
    assert_eq!(chunks.len(), 3, "two hosts and the sums");
    let mut again = History::new(STEP_MS);
    for (host, chunk) in &chunks {
        again.restore(*host, chunk, COMMIT_MS + 90 * MINUTE_MS);
    }
    again.place(&load(1, 1_000, &[("/blue/a", 300)]));
    again.place(&load(2, 500, &[("/blue/b", 100)]));
    again.forget_silent(COMMIT_MS + 90 * MINUTE_MS);
    again.sum_until(COMMIT_MS + 90 * MINUTE_MS);
    for subject in [Subject::Tenant(name("blue")), Subject::Pool(name("lab"))] {
        let points = |history: &History| {
            history.get(&key(subject.clone())).map(|series| series.points(Resolution::Minute).collect::<Vec<_>>())
        };
        assert_eq!(points(&again), points(&running), "no interval is summed twice");
    }
    for history in [&mut running, &mut again] {
        record(history, 1, 91, 1_000, &[("/blue/a", 300)]);
        // The other is late.
        history.sum_until(COMMIT_MS + 91 * MINUTE_MS);
        assert_eq!(minutes(history, Subject::Tenant(name("blue")), 91).last(), Some(&None));
        assert_eq!(minutes(history, Subject::Tenant(name("blue")), 90), [Some(400); 60]);
    }
}

#[test]
fn sums_of_steps_under_a_minute_are_made_of_steps() {
    let mut history = History::new(15_000);
    record(&mut history, 1, 1, 1_000, &[("/blue/a", 300)]);
    history.sum_until(COMMIT_MS + 2 * MINUTE_MS);
    let series = history.get(&key(Subject::Pool(name("lab")))).unwrap();
    assert_eq!(series.closed(COMMIT_MS + MINUTE_MS, 1)[0].map(|point| point.mean()), Some(1_000));
    let (_, unkept) = history.unkept(None);
    assert_eq!((unkept.grain_ms, unkept.len()), (15_000, 2), "a pool's, and a tenant's");
}
