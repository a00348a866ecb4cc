//! Alarms of whole series.

use quotary_common::anomaly::{ANOMALY_FINDINGS_MAX, Anomaly};
use quotary_common::cbor;
use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::units::ResourceKind;

use super::*;
use crate::anomaly::{Detector, LINE_SCORE};
use crate::history::{Chunk, History, Measure, Point};

const STEP_MS: u64 = 300_000;
/// A step in 2023.
const FIRST: u64 = 1_700_000_100_000 / STEP_MS;

fn host(n: u8) -> HostId {
    HostId::of(&[&[n]])
}

/// Seeded noise, 0 to 1: xorshift.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Values of `steps` steps: a level with noise.
fn noise(seed: u64, steps: usize) -> Vec<u64> {
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15 ^ (seed << 7));
    (0..steps).map(|_| (1_000.0 + 200.0 * (noise.next() + noise.next() - 1.0)) as u64).collect()
}

/// A history in the making: each step of each host's CPU as a chunk brings it.
struct Scene {
    history: History,
    watch: Watch,
    merger: Merger,
    at: u64,
    told: Vec<Anomaly>,
}

impl Scene {
    fn new() -> Self {
        let watch = Watch::new(STEP_MS, LINE_SCORE);
        Self { history: History::new(STEP_MS), watch, merger: Merger::default(), at: FIRST, told: Vec::new() }
    }

    fn now_ms(&self) -> u64 {
        self.at * STEP_MS
    }

    /// One step goes by in which each host's CPU and memory had these values.
    fn step(&mut self, values: &[(HostId, u64)]) {
        let chunks: Vec<_> = values.iter().map(|(host, value)| (*host, chunk(self.at, &[*value]))).collect();
        self.at += 1;
        for (host, chunk) in chunks {
            self.history.restore(Some(host), &chunk, self.now_ms());
        }
        let found = self.watch.judge(&self.history, self.at, FIRST);
        self.told.extend(self.merger.merge(found, STEP_MS));
    }
}

/// A chunk of a host's own series, whose first point has this number.
fn chunk_of(first: u64, grain_ms: u64, series: &[(ResourceKind, Vec<u64>)]) -> Chunk {
    let point = |value: &u64| Point::new((*value, *value), 1, false).unwrap();
    let series = series.iter().map(|(resource, values)| {
        (Subject::Host, (*resource).into(), (first..).zip(values.iter().map(point)).collect())
    });
    Chunk::of_series(grain_ms, series)
}

/// A host's chunk whose points are whole steps from `first` on: of CPU, and of memory a million times as much.
fn chunk(first: u64, values: &[u64]) -> Chunk {
    let memory = values.iter().map(|value| value.saturating_mul(1 << 20)).collect();
    chunk_of(first, STEP_MS, &[(ResourceKind::Cpu, values.to_vec()), (ResourceKind::Memory, memory)])
}

#[test]
fn series_of_one_host_that_are_odd_together_are_one_alarm_and_quiet_for_a_while() {
    let mut scene = Scene::new();
    for value in noise(1, 400) {
        scene.step(&[(host(1), value)]);
    }
    assert_eq!(scene.told, vec![], "noise");
    assert_eq!(scene.watch.counts(), Counts { series: 2, warming_up: 0 });
    let at_ms = scene.now_ms();
    scene.step(&[(host(1), 9_000)]);
    let [alarm] = scene.told.as_slice() else { panic!("{:?}", scene.told) };
    assert_eq!((alarm.host, alarm.at_ms, alarm.continues), (Some(host(1)), at_ms, false));
    let resources: Vec<&str> = alarm.findings.iter().map(|finding| finding.resource.as_str()).collect();
    assert_eq!(resources.len(), 2, "{resources:?}");
    assert!(resources.contains(&"cpu_millicores") && resources.contains(&"memory_bytes"), "{resources:?}");
    let first = &alarm.findings[0];
    assert_eq!((first.kind, first.at_ms, first.points), (AnomalyKind::Spike, at_ms, 1));
    // Ever greater spikes within the hour: the detector would tell each, the series is quiet.
    for (n, value) in noise(2, 10).into_iter().enumerate() {
        scene.step(&[(host(1), if n % 3 == 2 { 9_000 << n } else { value })]);
    }
    assert_eq!(scene.told.len(), 1, "{:?}", scene.told);
    for value in noise(3, 3) {
        scene.step(&[(host(1), value)]);
    }
    scene.step(&[(host(1), 90_000_000)]);
    assert_eq!(scene.told.len(), 2, "after the hour");
}

#[test]
fn a_series_says_nothing_while_it_warms_up() {
    let mut scene = Scene::new();
    for (n, value) in noise(1, 150).into_iter().enumerate() {
        scene.step(&[(host(1), if n % 40 == 39 { 50_000 } else { value })]);
    }
    assert_eq!(scene.told, vec![]);
    assert_eq!(scene.watch.counts(), Counts { series: 2, warming_up: 2 });
}

fn finding(n: u8, step: u64, resource: ResourceKind, score: f64) -> Finding {
    Finding {
        key: SeriesKey { host: Some(host(n)), subject: Subject::Host, measure: resource.into() },
        step,
        at_ms: step * STEP_MS,
        kind: Kind::Spike,
        score,
        figures: Figures { expected: 1.0, came: 2.5, points: 1 },
        input: Digest::of(&[&[n]]),
    }
}

#[test]
fn what_comes_within_the_time_is_added_and_what_comes_later_is_another_alarm() {
    let mut merger = Merger::default();
    let told =
        merger.merge(vec![finding(1, 10, ResourceKind::Cpu, 0.6), finding(2, 10, ResourceKind::Cpu, 0.6)], STEP_MS);
    assert_eq!(told.iter().map(|one| (one.at_ms, one.continues)).collect::<Vec<_>>(), vec![(10 * STEP_MS, false); 2]);
    let added = merger.merge(vec![finding(1, 12, ResourceKind::Memory, 0.7)], STEP_MS);
    assert_eq!(added.iter().map(|one| (one.at_ms, one.continues)).collect::<Vec<_>>(), vec![(10 * STEP_MS, true)]);
    let later = merger.merge(vec![finding(1, 13, ResourceKind::Disk, 0.7)], STEP_MS);
    assert_eq!(later.iter().map(|one| (one.at_ms, one.continues)).collect::<Vec<_>>(), vec![(13 * STEP_MS, false)]);
    // What is kept has all of it, the oddest first; after a restart more may be added as before.
    let record = AlarmRecord::of(None, &told[usize::from(told[0].host != Some(host(1)))], 77);
    let record = AlarmRecord::of(Some(&record), &added[0], 88);
    assert_eq!((record.host(), record.at_ms(), record.told_at_ms()), (Some(host(1)), 10 * STEP_MS, 88));
    assert_eq!(record.findings().iter().map(|one| one.score_permille).collect::<Vec<_>>(), [700, 600]);
    assert_eq!(record.findings()[0].came_milli, 2_500);
    assert_eq!(cbor::from_bytes::<AlarmRecord>(&cbor::to_bytes(&record), 4096).unwrap(), record);
    let mut restarted = Merger::default();
    restarted.reopen([&record].into_iter(), STEP_MS);
    assert!(restarted.merge(vec![finding(1, 11, ResourceKind::Disk, 0.7)], STEP_MS)[0].continues);
}

#[test]
fn an_alarm_of_a_thousand_series_is_bounded_and_says_how_many_more() {
    let many: Vec<Finding> = (0..1_000u64)
        .map(|n| Finding {
            key: SeriesKey {
                host: Some(host(1)),
                subject: Subject::Cgroup(format!("/{n}/").repeat(200)),
                measure: ResourceKind::Cpu.into(),
            },
            ..finding(1, 10, ResourceKind::Cpu, 0.5 + n as f64 / 4_000.0)
        })
        .collect();
    let told = Merger::default().merge(many, STEP_MS);
    let [alarm] = told.as_slice() else { panic!("{}", told.len()) };
    assert_eq!((alarm.findings.len(), alarm.beyond), (ANOMALY_FINDINGS_MAX, 1_000 - 16));
    assert_eq!(alarm.findings[0].score_permille, 749);
    assert!(cbor::to_bytes(alarm).len() < 16_384);
}

#[test]
fn sums_alarm_under_their_names() {
    let key = SeriesKey { host: None, subject: Subject::Pool(Name::lossy("lab")), measure: ResourceKind::Cpu.into() };
    let told = Merger::default().merge(vec![Finding { key, ..finding(1, 10, ResourceKind::Cpu, 0.6) }], STEP_MS);
    assert_eq!((told[0].host, told[0].sum.as_ref().unwrap().as_str()), (None, "pool:lab"));
    assert_eq!(AlarmRecord::of(None, &told[0], 1).place(), Place::Sum("pool:lab".to_owned()));
}

#[test]
fn what_poisons_one_host_moves_no_other_hosts_detector() {
    let (mut alone, mut beside) = (Scene::new(), Scene::new());
    for (n, value) in noise(7, 600).into_iter().enumerate() {
        let value = if n == 400 { 20_000 } else { value };
        let poison = [0, u64::MAX, 1_000_000_000, 1][n % 4];
        alone.step(&[(host(1), value)]);
        beside.step(&[(host(1), value), (host(2), poison)]);
    }
    let of_first =
        |scene: &Scene| scene.told.iter().filter(|one| one.host == Some(host(1))).cloned().collect::<Vec<_>>();
    assert_eq!(of_first(&alone), of_first(&beside));
    assert!(!of_first(&alone).is_empty());
    let of_second = beside.told.iter().filter(|one| one.host == Some(host(2))).count() as u64;
    assert!(of_second <= 600 / REFRACTORY_STEPS * 2, "{of_second}");
}

#[test]
fn noise_alarms_about_as_often_as_the_stated_rate() {
    let months = 4;
    for (rate, most) in [(1.0, 12), (0.1, 3)] {
        let mut told = 0;
        for seed in 0..months {
            let mut watch = Watch::new(STEP_MS, line_of(rate, STEP_MS));
            let mut history = History::new(STEP_MS);
            let values = noise(1_000 + seed, 8_928);
            for (hour, values) in values.chunks(12).enumerate() {
                let first = FIRST + 12 * hour as u64;
                let now_ms = (first + 12) * STEP_MS;
                history.restore(Some(host(1)), &chunk(first, values), now_ms);
                told += watch.judge(&history, first + 12, FIRST).len();
            }
        }
        // Both series of each month have the same course.
        assert!(told <= most, "{told} alarms of {months} months at {rate}");
    }
}

#[test]
fn after_a_restart_the_same_is_known_nothing_is_told_twice_and_nothing_is_lost() {
    let mut values = noise(11, 800);
    (values[600], values[785]) = (5_000, 60_000);
    let mut before = Scene::new();
    for value in &values {
        before.step(&[(host(1), *value)]);
    }
    let steps: Vec<u64> = before.told.iter().map(|told| told.at_ms / STEP_MS - FIRST).collect();
    assert_eq!(steps, [600, 785]);
    let records: Vec<AlarmRecord> = before.told.iter().map(|told| AlarmRecord::of(None, told, 1)).collect();
    // Killed; all but the last 20 steps stand in chunks of seven minutes' points, in which steps are cut in two; three steps more go by.
    let end = FIRST + 800;
    let mut after = Scene { at: end, ..Scene::new() };
    let grain_ms = 60_000;
    let minutes: Vec<u64> =
        values[..780].iter().flat_map(|value| [0, -3, 1, 4, -2].map(|off| value.saturating_add_signed(off))).collect();
    let first_minute = FIRST * 5;
    for (n, part) in minutes.chunks(7).enumerate() {
        let chunk = chunk_of(first_minute + 7 * n as u64, grain_ms, &[(ResourceKind::Cpu, part.to_vec())]);
        after.history.restore(Some(host(1)), &chunk, after.now_ms());
        after.watch.relive(&after.history, Some(host(1)), &chunk, after.now_ms());
    }
    after.history.restore(Some(host(1)), &chunk(FIRST + 780, &values[780..]), after.now_ms());
    after.watch.relived();
    assert_eq!(after.watch.judge(&after.history, end, u64::MAX), vec![]);
    after.watch.remember(records.iter());
    let cpu = |watch: &Watch| {
        watch
            .detector_of(&SeriesKey { host: Some(host(1)), subject: Subject::Host, measure: ResourceKind::Cpu.into() })
            .cloned()
            .unwrap()
    };
    assert!(cpu(&after.watch) == cpu(&before.watch), "the same detector, bit by bit");
    // What happened while nobody judged is told, once.
    let down = [values[0], 4_000_000, values[1]];
    after.history.restore(Some(host(1)), &chunk(end, &down), (end + 3) * STEP_MS);
    let found = after.watch.judge(&after.history, end + 3, end);
    assert!(found.iter().any(|one| one.step == end + 1 && one.kind == Kind::Spike), "{found:?}");
    assert_eq!(after.watch.judge(&after.history, end + 3, end), vec![], "once");
}

#[test]
fn what_is_judged_again_is_bounded_and_needs_a_series() {
    let (mut scene, values) = (Scene::new(), noise(3, 3_000));
    let now_ms = (FIRST + 3_000) * STEP_MS;
    let (long, unknown) = (chunk(FIRST, &values), host(2));
    scene.history.restore(Some(host(1)), &long, now_ms);
    for host in [host(1), unknown] {
        scene.watch.relive(&scene.history, Some(host), &long, now_ms);
    }
    assert_eq!(scene.watch.counts().series, 2);
    let mut same = Detector::default();
    // The newest step waits for more.
    for step in 3_000 - RELIVED_STEPS..2_999 {
        let at_ms = i64::try_from((FIRST + step) * STEP_MS).unwrap();
        same.judge(at_ms, Some(values[usize::try_from(step).unwrap()] as f64));
    }
    let key = SeriesKey { host: Some(host(1)), subject: Subject::Host, measure: ResourceKind::Cpu.into() };
    assert!(scene.watch.detector_of(&key) == Some(&same));
}

#[test]
fn series_that_alarmed_before_a_restart_are_as_quiet_as_they_were() {
    let values = noise(11, 400);
    let record = |step| {
        let told = Merger::default().merge(vec![finding(1, step, ResourceKind::Cpu, 0.6)], STEP_MS);
        AlarmRecord::of(None, &told[0], 1)
    };
    for (alarmed, is_told) in [(FIRST + 395, false), (FIRST + 300, true)] {
        let mut scene = Scene { at: FIRST + 400, ..Scene::new() };
        scene.history.restore(
            Some(host(1)),
            &chunk_of(FIRST, STEP_MS, &[(ResourceKind::Cpu, values.clone())]),
            scene.now_ms(),
        );
        scene.watch.judge(&scene.history, scene.at, u64::MAX);
        scene.watch.remember([&record(alarmed)].into_iter());
        scene.step(&[(host(1), 50_000)]);
        assert_eq!(
            scene.told.iter().any(|one| one.findings.iter().any(|one| one.resource.as_str() == "cpu_millicores")),
            is_told
        );
    }
}

#[test]
fn a_forgotten_series_takes_its_detector_along() {
    let mut scene = Scene::new();
    for value in noise(1, 20) {
        scene.step(&[(host(1), value), (host(2), value)]);
    }
    assert_eq!(scene.watch.counts().series, 4);
    scene.history = History::new(STEP_MS);
    scene.step(&[(host(1), 5)]);
    assert_eq!(scene.watch.counts().series, 2);
}

#[test]
fn silences_cover_what_has_all_that_they_name() {
    let key = SeriesKey {
        host: Some(host(1)),
        subject: Subject::Cgroup("/batch/a".to_owned()),
        measure: ResourceKind::Disk.into(),
    };
    let silence = |host, subject: Option<&str>, resource: Option<&str>| Silence {
        host,
        subject: subject.map(str::to_owned),
        measure: resource.and_then(Measure::named),
    };
    for (covers, one) in [
        (true, silence(Some(host(1)), None, None)),
        (false, silence(Some(host(2)), None, None)),
        (true, silence(None, Some("/batch/*"), Some("disk"))),
        (true, silence(None, Some("/batch/a"), Some("disk_bytes_per_second"))),
        (false, silence(None, Some("/batch"), None)),
        (false, silence(None, Some("/batch/*"), Some("cpu"))),
    ] {
        assert_eq!(one.covers(&key), covers, "{one:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_comes_alarms_are_no_more_than_the_bounds_say(seed in 1u64.., jumps in 0usize..300, wild in 0u32..60) {
        let (mut scene, mut noise) = (Scene::new(), Noise(seed));
        for _ in 0..400 {
            let value = (1_000.0 + 200.0 * noise.next()) as u64;
            // Of any size, and a gap now and then.
            let odd = noise.next() * 400.0 < jumps as f64;
            let value = if odd { value << (noise.next() * f64::from(wild)) as u32 } else { value };
            let gap = noise.next() < 0.02;
            let came = [(host(1), value)];
            scene.step(if gap { &[] } else { &came });
        }
        let fresh: Vec<u64> = scene.told.iter().filter(|one| !one.continues).map(|one| one.at_ms / STEP_MS).collect();
        proptest::prop_assert!(fresh.windows(2).all(|pair| pair[1] >= pair[0] + MERGED_STEPS), "{fresh:?}");
        for resource in ["cpu_millicores", "memory_bytes"] {
            let of_one = scene.told.iter().flat_map(|one| one.findings.iter()).filter(|one| one.resource.as_str() == resource);
            let steps: Vec<u64> = of_one.map(|one| one.at_ms / STEP_MS).collect();
            proptest::prop_assert!(steps.windows(2).all(|pair| pair[1] >= pair[0] + REFRACTORY_STEPS), "{steps:?}");
        }
    }
}
