//! What is packed comes back, whatever is not packed is refused, and a restart finds each window once.

use proptest::prelude::*;
use quotary_common::envelope::Name;
use quotary_common::metric::{Metric, MetricWindow};

use super::super::chunk::{ChunkError, ChunkSeries};
use super::super::pressure::Pressure;
use super::super::*;
use super::{BUILT_AT_MS, bounds, envelope, timeline, window};

const GOLDEN: &str = include_str!("../../../../../tests/golden/history-chunk-v1.hex");
const COMMIT_MS: u64 = 1_700_006_400_000;
const STEP_MS: u64 = 300_000;

fn point(mean: u64, max: u64, samples: u32, is_censored: bool) -> Point {
    Point::new((mean, max), samples, is_censored).unwrap()
}

fn chunk(series: Vec<ChunkSeries>) -> Chunk {
    Chunk { watermark: Watermark { enrolled_at_ms: 1_700_000_000_000, sequence: 240 }, grain_ms: 60_000, series }
}

fn series(subject: Subject, points: Vec<(u64, Point)>) -> ChunkSeries {
    ChunkSeries { subject, measure: ResourceKind::Cpu.into(), pressure: Pressure::new(250, 1_700_000_100_000), points }
}

fn back(chunk: &Chunk) -> Chunk {
    let parts = chunk.to_parts().into_iter().map(|part| Chunk::from_bytes(&part).unwrap());
    let mut whole = Chunk { series: Vec::new(), ..chunk.clone() };
    for part in parts {
        assert_eq!((part.watermark, part.grain_ms), (chunk.watermark, chunk.grain_ms));
        whole.series.extend(part.series);
    }
    whole
}

#[test]
fn the_stored_form_is_frozen() {
    let points = vec![(28_333_440, point(500, 900, 60, false)), (28_333_442, point(1 << 30, 1 << 31, 60, true))];
    let lab = Subject::Pool(Name::new("lab").unwrap());
    let chunk = chunk(vec![
        series(Subject::Host, points.clone()),
        series(Subject::Cgroup("/a".to_owned()), points[..1].to_vec()),
        series(Subject::Tenant(Name::new("blue").unwrap()), points.clone()),
        series(lab, points),
    ]);
    let kept: String = GOLDEN.split_whitespace().collect();
    // The packer may choose other bytes one day; what was stored must still read.
    let bytes = data_encoding::HEXLOWER.decode(kept.as_bytes()).unwrap();
    assert_eq!(
        Chunk::from_bytes(&bytes),
        Ok(chunk.clone()),
        "{}",
        data_encoding::HEXLOWER.encode(&chunk.to_parts()[0])
    );
}

#[test]
fn a_chunk_that_is_too_large_is_cut_into_parts() {
    let points: Vec<(u64, Point)> = (0..3_000_u64)
        .map(|number| (number * 3, point(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, u64::MAX, 59, false)))
        .collect();
    let whole = chunk((0..40).map(|n| series(Subject::Cgroup(format!("/g{n}")), points.clone())).collect());
    let parts = whole.to_parts();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= CHUNK_BYTES_MAX), "{}", parts.len());
    let back = back(&whole);
    assert!(whole.points().eq(back.points()));
    assert_eq!(back.len(), 120_000);
}

#[test]
fn a_packed_bomb_is_refused_before_it_is_unpacked() {
    use std::io::Write as _;
    let mut bomb = flate2::write::DeflateEncoder::new(vec![1, 1], flate2::Compression::best());
    (0..64).for_each(|_| bomb.write_all(&[0; 1 << 20]).unwrap());
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < CHUNK_BYTES_MAX);
    assert!(matches!(Chunk::from_bytes(&bomb), Err(ChunkError::TooLarge(_))));
    assert!(matches!(Chunk::from_bytes(&vec![1; CHUNK_BYTES_MAX + 1]), Err(ChunkError::TooLarge(_))));
    assert_eq!(Chunk::from_bytes(&[2, 0]), Err(ChunkError::Version));
    // A claimed count of 2^63 series costs nothing.
    let claims = [&[1, 0, 0, 0, 1][..], &[0xff; 9], &[1]].concat();
    assert_eq!(Chunk::from_bytes(&claims), Err(ChunkError::Form));
}

fn any_chunk() -> impl Strategy<Value = Chunk> {
    let amount = || prop_oneof![4 => 0..5_000_u64, 2 => 0..1_u64 << 41, 1 => any::<u64>()];
    let one = (0..500_u64, amount(), amount(), 1..=u32::MAX, any::<bool>());
    let points = prop::collection::vec(one, 1..80).prop_map(|all| {
        let mut number = 28_000_000;
        let mut points = Vec::new();
        for (gap, mean, above, samples, is_censored) in all {
            number += gap + 1;
            points.push((number, point(mean, mean.saturating_add(above), samples, is_censored)));
        }
        points
    });
    let subject = prop_oneof![
        Just(Subject::Host),
        "/[a-z/]{0,40}".prop_map(Subject::Cgroup),
        Just(Subject::Tenant(Name::new("blue").unwrap())),
    ];
    let one = (subject, 0..8_usize, 0..=1000_u16, any::<u64>(), points).prop_map(
        |(subject, measure, permille, at, points)| ChunkSeries {
            subject,
            measure: Measure::ALL[measure],
            pressure: Pressure::new(permille, at),
            points,
        },
    );
    prop::collection::vec(one, 0..6).prop_map(chunk)
}

proptest! {
    #[test]
    fn what_is_packed_comes_back(chunk in any_chunk()) {
        prop_assert_eq!(back(&chunk), chunk);
    }

    #[test]
    fn hostile_bytes_are_refused_or_hold_the_form(bytes in prop::collection::vec(any::<u8>(), 0..400), form in 0..2_u8) {
        for bytes in [bytes.clone(), [&[1, form], bytes.as_slice()].concat()] {
            if let Ok(chunk) = Chunk::from_bytes(&bytes) {
                let mut history = History::new(STEP_MS);
                history.restore(Some(HostId::of(&[b"h"])), &chunk, COMMIT_MS);
                prop_assert!(chunk.points().all(|(_, _, _, point)| point.samples() > 0));
                prop_assert!(chunk.len() <= bytes.len() * 1100);
            }
        }
    }

    #[test]
    fn a_chunk_that_was_changed_neither_panics_nor_grows(
        chunk in any_chunk(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>(),
    ) {
        let bytes = chunk.to_parts().swap_remove(0);
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= flip;
        for bytes in [&changed[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(chunk) = Chunk::from_bytes(bytes) {
                let mut history = History::new(STEP_MS);
                history.restore(Some(HostId::of(&[b"h"])), &chunk, COMMIT_MS);
                history.restore(None, &chunk, COMMIT_MS);
                history.sum_until(COMMIT_MS + STEP_MS);
                prop_assert!(history.iter().all(|(_, series)| series.newest_ms() <= COMMIT_MS + 25 * 3_600_000));
            }
        }
    }
}

/// One evidence of a minute: what host and group use of CPU and memory.
fn evidence(number: u64) -> BoundedLoad {
    // SplitMix64: nothing in it repeats.
    let noise = |scale: u64, salt: u64| {
        let mut z = (number * 1_000 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % scale
    };
    let of = |cpu: u64, memory: u64| -> Vec<MetricWindow> {
        let quarter = |n: u64, which: u64, metric, mean, scale| {
            let salt = cpu * 100 + n * 10 + which;
            let mean = mean + noise(scale, salt);
            let start_ms = BUILT_AT_MS - 60_000 + n * 15_000;
            MetricWindow { start_ms, max: mean + noise(scale, salt + 5), ..window(metric, mean) }
        };
        let quarters = |n: u64| {
            let burst = noise(4, cpu + n) / 3 * 4_096_000;
            [
                quarter(n, 0, Metric::CpuMillicores, cpu, 200),
                quarter(n, 1, Metric::MemoryBytes, memory, 1 << 22),
                quarter(n, 2, Metric::DiskWriteBytesPerSecond, burst, burst / 2 + 1),
                quarter(n, 3, Metric::NetworkTransmitBitsPerSecond, 200_000, 400_000),
            ]
        };
        (0..4).flat_map(quarters).collect()
    };
    let (of_host, of_group) = (of(900, 600 << 20), of(400, 90 << 20));
    let mut envelope = envelope(&of_host, &[("/a", &of_group)]);
    envelope.sequence = number;
    let rules = crate::allocate::Rules::default();
    BoundedLoad::bounded(&envelope, &bounds(Some(timeline(60_000)), 60_000)).placed(&Standing {
        enrolled_at_ms: 7,
        pool: None,
        capacity: Default::default(),
        grants: &[],
        rules: &rules,
    })
}

fn committed_at_ms(number: u64) -> u64 {
    // A little off the minute, as it is.
    COMMIT_MS + number * MINUTE_MS + 7_000
}

fn record(history: &mut History, number: u64) {
    history.record(&evidence(number), committed_at_ms(number));
}

/// A series' points at each resolution.
type Held = [Vec<(u64, Point)>; 3];

fn held(history: &History) -> Vec<(SeriesKey, Held)> {
    let of = |(key, series): (&SeriesKey, &Series)| {
        (key.clone(), Resolution::ALL.map(|resolution| series.points(resolution).collect()))
    };
    history.iter().map(of).collect()
}

#[test]
fn wherever_the_verifier_ends_a_restart_finds_each_window_once() {
    let (mut running, mut stored) = (History::new(STEP_MS), Vec::new());
    for number in 1..=200 {
        record(&mut running, number);
        // Each hour a chunk is committed; it survives from then on.
        for (host, chunk) in running.take_due(committed_at_ms(number), 8) {
            stored.extend(chunk.to_parts().into_iter().map(|part| (host, part)));
        }
        if number % 23 != 0 {
            continue;
        }
        let mut again = History::new(STEP_MS);
        let mut watermark = Watermark::default();
        for (host, part) in &stored {
            let chunk = Chunk::from_bytes(part).unwrap();
            watermark = watermark.max(chunk.watermark);
            again.restore(*host, &chunk, committed_at_ms(number));
        }
        (watermark.sequence + 1..=number).for_each(|number| record(&mut again, number));
        again.forget_silent(committed_at_ms(number));
        assert_eq!(held(&again), held(&running), "after {number}");
    }
    assert!(stored.len() >= 3);
    // Taken once: nothing is due again until more has come.
    assert!(running.take_due(committed_at_ms(200), 8).is_empty());
}

#[test]
fn a_point_takes_a_few_bytes_on_disk() {
    let mut history = History::new(STEP_MS);
    (1..=240).for_each(|number| record(&mut history, number));
    let chunks = history.take_due(committed_at_ms(240), 8);
    let points: usize = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
    let bytes: usize = chunks.iter().flat_map(|(_, chunk)| chunk.to_parts()).map(|part| part.len()).sum();
    let tenths = bytes * 10 / points;
    let plain = |part: Vec<u8>| std::io::copy(&mut flate2::read::DeflateDecoder::new(&part[2..]), &mut std::io::sink());
    let unpacked: u64 = chunks.iter().flat_map(|(_, chunk)| chunk.to_parts()).map(|part| plain(part).unwrap()).sum();
    println!(
        "{points} points of a minute in {bytes} bytes ({unpacked} without deflate): {}.{} bytes each",
        tenths / 10,
        tenths % 10
    );
    assert!(tenths < 100, "{tenths}");
}

#[test]
fn a_chunk_of_the_future_brings_nothing() {
    let number = COMMIT_MS / MINUTE_MS;
    let chunk = chunk(vec![series(
        Subject::Host,
        vec![(number - 1, point(1, 1, 1, false)), (number + 600, point(9, 9, 9, false))],
    )]);
    let mut history = History::new(STEP_MS);
    history.restore(Some(HostId::of(&[b"h"])), &chunk, COMMIT_MS);
    let (_, series) = history.iter().next().unwrap();
    assert_eq!(series.points(Resolution::Minute).map(|(_, point)| point.mean()).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_host_that_names_ever_new_groups_holds_no_more_than_its_bound() {
    let mut history = History::new(STEP_MS);
    for round in 0..8_u64 {
        let cpu = [window(Metric::CpuMillicores, 1)];
        let paths: Vec<String> = (0..512).map(|n| format!("/r{round}/g{n}")).collect();
        let groups: Vec<(&str, &[MetricWindow])> = paths.iter().map(|path| (path.as_str(), &cpu[..])).collect();
        let envelope = envelope(&[window(Metric::CpuMillicores, 900)], &groups);
        let load = BoundedLoad::bounded(&envelope, &bounds(Some(timeline(30_000)), 30_000));
        history.record(&load, COMMIT_MS + round * 2 * STEP_MS);
        assert!(history.iter().count() <= 6 * 513);
        // The newest are there: those that were silent longest made room.
        let newest = SeriesKey {
            host: Some(super::host()),
            subject: Subject::Cgroup(paths[511].clone()),
            measure: ResourceKind::Cpu.into(),
        };
        assert!(history.get(&newest).is_some(), "round {round}");
    }
}

#[test]
fn a_host_that_is_gone_leaves_nothing_behind() {
    let mut history = History::new(STEP_MS);
    (1..=3).for_each(|number| record(&mut history, number));
    let now_ms = committed_at_ms(3);
    history.forget_silent(now_ms + 20 * 3_600_000);
    assert!(history.iter().count() > 0, "it may come back");
    history.take_due(now_ms + 2 * 3_600_000, 8);
    history.forget_silent(now_ms + 40 * 3_600_000);
    assert_eq!((history.iter().count(), history.hosts.len(), history.unkept.len()), (0, 0, 0));
}

proptest! {
    #[test]
    fn whatever_one_host_states_moves_no_series_of_another(
        amounts in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u32>(), 0..200_000_u64), 0..12),
        minutes in prop::collection::vec(0..2_000_u64, 1..6),
    ) {
        let (mut with, mut without) = (History::new(STEP_MS), History::new(STEP_MS));
        for (at, minute) in minutes.iter().enumerate() {
            let windows: Vec<MetricWindow> = amounts.iter().map(|(mean, max, samples, back_ms)| MetricWindow {
                start_ms: BUILT_AT_MS - back_ms,
                duration_ms: (*back_ms).min(15_000),
                samples: *samples,
                max: *max,
                ..window(Metric::CpuMillicores, *mean)
            }).collect();
            let mut hostile = envelope(&windows, &[("/x", &windows)]);
            hostile.host = HostId::of(&[b"another"]);
            let load = BoundedLoad::bounded(&hostile, &bounds(Some(timeline(200_000)), 200_000));
            with.record(&load, COMMIT_MS + minute * MINUTE_MS);
            record(&mut with, at as u64 + 1);
            record(&mut without, at as u64 + 1);
        }
        let of_one = |history: &History| {
            held(history).into_iter().filter(|(key, _)| key.host == Some(super::host())).collect::<Vec<_>>()
        };
        prop_assert_eq!(of_one(&with), of_one(&without));
    }
}
