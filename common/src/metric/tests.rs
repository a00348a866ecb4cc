#![expect(clippy::unwrap_used, reason = "tests")]

use minicbor::{Decode, Encode};
use proptest::prelude::*;

use super::*;
use crate::cbor::{self, Bounded};
use crate::limits::WINDOWS_MAX;

const BYTES_MAX: usize = 1 << 16;
type Label = Option<Text<NAME_BYTES_MAX>>;

/// A window as derived codecs have it, in the map of form 1.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
struct Map {
    #[n(0)]
    metric: u8,
    #[n(1)]
    start_ms: u64,
    #[n(2)]
    duration_ms: u64,
    #[n(3)]
    samples: u32,
    #[n(4)]
    mean: u64,
    #[n(5)]
    max: u64,
    #[n(6)]
    p95: u64,
    #[n(7)]
    label: Label,
}

/// The same in the arrays of form 2.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
struct Group {
    #[n(0)]
    start_ms: u64,
    #[n(1)]
    duration_ms: u64,
    #[n(2)]
    rows: Bounded<Row, WINDOWS_MAX>,
}

#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
struct Row {
    #[n(0)]
    metric: u8,
    #[n(1)]
    samples: u32,
    #[n(2)]
    mean: u64,
    #[n(3)]
    max: u64,
    #[n(4)]
    p95: u64,
    #[n(5)]
    label: Label,
}

impl Map {
    fn of(window: &MetricWindow) -> Self {
        let MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label } = window.clone();
        Self { metric: metric.number(), start_ms, duration_ms, samples, mean, max, p95, label }
    }
    fn window(self) -> Option<MetricWindow> {
        let Self { metric, start_ms, duration_ms, samples, mean, max, p95, label } = self;
        let metric = Metric::from_number(metric.into())?;
        Some(MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label })
    }
}

impl Group {
    fn windows(&self) -> impl Iterator<Item = Option<MetricWindow>> {
        let Self { start_ms, duration_ms, .. } = *self;
        self.rows.iter().cloned().map(move |row| {
            let Row { metric, samples, mean, max, p95, label } = row;
            Map { metric, start_ms, duration_ms, samples, mean, max, p95, label }.window()
        })
    }
}

fn derived_maps(bytes: &[u8]) -> Option<Vec<MetricWindow>> {
    let maps = cbor::from_bytes::<Bounded<Map, WINDOWS_MAX>>(bytes, BYTES_MAX).ok()?;
    maps.into_vec().into_iter().map(Map::window).collect()
}

fn derived_groups(bytes: &[u8]) -> Option<Vec<MetricWindow>> {
    let groups = cbor::from_bytes::<Bounded<Group, WINDOWS_MAX>>(bytes, BYTES_MAX).ok()?;
    let interval = |group: &Group| (group.start_ms, group.duration_ms);
    let has_one_encoding = groups.iter().all(|group| !group.rows.is_empty())
        && groups.windows(2).all(|pair| interval(&pair[0]) != interval(&pair[1]));
    let windows: Vec<MetricWindow> = groups.iter().flat_map(Group::windows).collect::<Option<_>>()?;
    (has_one_encoding && windows.len() <= WINDOWS_MAX).then_some(windows)
}

/// The scan and the derived codecs say the same of these bytes; whether they accept them.
fn agree(bytes: &[u8]) -> bool {
    let scanned = cbor::from_bytes::<MetricWindows>(bytes, BYTES_MAX).ok();
    let of_form = |form| scanned.as_ref().filter(|windows| windows.is_of(form)).map(MetricWindows::to_vec);
    assert_eq!(derived_maps(bytes), of_form(WindowForm::Maps), "{bytes:02x?}");
    assert_eq!(derived_groups(bytes), of_form(WindowForm::Groups), "{bytes:02x?}");
    if let Some(windows) = &scanned {
        assert_eq!((windows.len(), cbor::to_bytes(windows)), (windows.iter().count(), bytes.to_vec()));
    }
    scanned.is_some()
}

fn maps(windows: &[MetricWindow]) -> Vec<u8> {
    cbor::to_bytes(&windows.iter().map(Map::of).collect::<Vec<_>>())
}

fn groups(windows: &[MetricWindow]) -> Vec<u8> {
    cbor::to_bytes(&MetricWindows::new(windows).unwrap())
}

fn row() -> Row {
    Row { metric: 1, samples: 1, mean: 1, max: 1, p95: 1, label: None }
}

fn group(start_ms: u64, rows: usize) -> Group {
    Group { start_ms, duration_ms: 1, rows: Bounded::new(vec![row(); rows]).unwrap() }
}

fn one() -> MetricWindow {
    group(0, 1).windows().next().flatten().unwrap()
}

#[test]
fn every_metric_has_its_number() {
    for (number, metric) in (1..).zip(Metric::ALL) {
        assert_eq!((metric.number().into(), Metric::from_number(number)), (number, Some(metric)));
    }
    assert!(Metric::from_number(18).is_none() && Metric::from_number(0).is_none());
    assert_eq!(usize::from(Metric::NUMBER_MAX), Metric::ALL.len());
    for number in 0..=u8::MAX {
        let row = [0x81, 0x83, 0, 1, 0x81, 0x85, number, 1, 1, 1, 1];
        assert_eq!(agree(&row), Metric::from_number(number.into()).is_some(), "{number}");
    }
}

#[test]
fn more_windows_than_allowed_are_left_out_or_refused() {
    let many = vec![one(); WINDOWS_MAX + 1];
    assert!(MetricWindows::new(&many).is_none());
    let (kept, left_out) = MetricWindows::truncating(&many);
    assert_eq!((kept.len(), kept.iter().count(), left_out), (WINDOWS_MAX, WINDOWS_MAX, 1));
    assert!(!agree(&maps(&many)));
    assert!(agree(&maps(&many[1..])));
    assert!(!agree(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    // The bound is on all groups together.
    let (first, second) = (group(0, WINDOWS_MAX - 1), group(1, 1));
    assert!(agree(&cbor::to_bytes(&vec![first.clone(), second])));
    assert!(!agree(&cbor::to_bytes(&vec![first, group(1, 2)])));
    let [head @ .., _] = &cbor::to_bytes(&vec![group(0, 0)])[..] else { unreachable!() };
    assert!(!agree(&[head, &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat()));
}

#[test]
fn windows_of_one_interval_stand_in_one_group() {
    let at = |start_ms, duration_ms| MetricWindow { start_ms, duration_ms, ..one() };
    let windows = [at(0, 1), at(0, 1), at(0, 2), at(1, 2), at(0, 1)];
    let bytes = groups(&windows);
    assert_eq!(bytes[..5], [0x84, 0x83, 0, 1, 0x82]);
    assert!(agree(&bytes));
    assert!(agree(&cbor::to_bytes(&vec![group(0, 2), group(1, 1), group(0, 1)])));
    assert!(!agree(&cbor::to_bytes(&vec![group(0, 2), group(0, 1)])), "two groups of one interval");
    assert!(!agree(&cbor::to_bytes(&vec![group(0, 2), group(1, 0)])), "an empty group");
    assert!(!agree(&[&[0x82][..], &cbor::to_bytes(&group(0, 1)), &cbor::to_bytes(&Map::of(&one()))].concat()), "mixed");
    let empty = cbor::from_bytes::<MetricWindows>(&[0x80], BYTES_MAX).unwrap();
    assert_eq!(empty, MetricWindows::default());
    assert!(agree(&[0x80]) && empty.is_of(WindowForm::Maps) && empty.is_of(WindowForm::Groups));
}

#[test]
fn numbers_stand_in_their_shortest_form_and_samples_have_32_bits() {
    let edges = [0, 23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, 1 << 40, u64::MAX];
    for (place, value) in (0..4).flat_map(|place| edges.map(|value| (place, value))) {
        for (head, width) in [(24, 1), (25, 2), (26, 4), (27, 8)] {
            let digits = value.to_be_bytes();
            let (high, digits) = digits.split_at(8 - width);
            let long = [&[head][..], digits].concat();
            let shortest = cbor::to_bytes(&value);
            for number in [&long, &shortest].into_iter().filter(|_| high.iter().all(|digit| *digit == 0)) {
                let mut bytes = vec![0x81, 0x83, 0, 1, 0x81, 0x85, 1];
                (0..4).for_each(|other| bytes.extend_from_slice(if other == place { number } else { &[1] }));
                let is_of_the_form = *number == shortest && (place > 0 || u32::try_from(value).is_ok());
                assert_eq!(agree(&bytes), is_of_the_form, "{bytes:02x?}");
            }
        }
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..30u64, 200..300u64, 65_000..66_000u64, any::<u32>().prop_map(u64::from), any::<u64>()]
}

fn window() -> impl Strategy<Value = MetricWindow> {
    let label = prop::option::of("[a-zé/]{0,30}".prop_map(|text| Text::lossy(&text)));
    // Often of one interval.
    let interval = prop_oneof![Just((15_000, 15_000)), Just((30_000, 15_000)), (number(), number())];
    ((0..14usize, interval, any::<u32>()), (number(), number(), number(), label)).prop_map(
        |((metric, (start_ms, duration_ms), samples), (mean, max, p95, label))| {
            let metric = Metric::ALL[metric];
            MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_scan_accepts_what_the_derived_codecs_accept(
        windows in prop::collection::vec(window(), 0..8),
        is_maps in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = if is_maps { maps(&windows) } else { groups(&windows) };
        prop_assert!(agree(&bytes));
        let read = cbor::from_bytes::<MetricWindows>(&bytes, BYTES_MAX).unwrap();
        let form = if is_maps { WindowForm::Maps } else { WindowForm::Groups };
        prop_assert_eq!((read.to_vec(), read.is_of(form)), (windows.clone(), true));
        prop_assert_eq!(MetricWindows::bytes_of(&windows), groups(&windows).len());
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        agree(&bytes);
    }
}
