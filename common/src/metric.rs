//! Metric windows: one series over one interval, as integers in the metric's unit.
//!
//! They are most of an envelope, so [`MetricWindows`] keeps them as the canonical bytes they came in: the bytes are
//! checked in one pass, and a window is made when somebody looks at it.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Text};
use crate::limits::{NAME_BYTES_MAX, WINDOWS_MAX};

/// What a window measures; the unit stands in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU time per wall time, in thousandths of a core.
    #[n(1)]
    CpuMillicores,
    /// Memory in use, bytes (host: total less available; application: the cgroup's current charge).
    #[n(2)]
    MemoryBytes,
    /// Storage in use on a filesystem (label: mount point), bytes.
    #[n(3)]
    StorageBytes,
    /// Read from a disk (label: device), bytes per second.
    #[n(4)]
    DiskReadBytesPerSecond,
    /// Written to a disk (label: device), bytes per second.
    #[n(5)]
    DiskWriteBytesPerSecond,
    /// Received on an interface (label), bits per second.
    #[n(6)]
    NetworkReceiveBitsPerSecond,
    /// Sent on an interface (label), bits per second.
    #[n(7)]
    NetworkTransmitBitsPerSecond,
    /// Share of time in which some task waited for CPU, parts per million (PSI `some`).
    #[n(8)]
    CpuPressureSomePpm,
    /// The same for memory.
    #[n(9)]
    MemoryPressureSomePpm,
    /// Share of time in which all tasks waited for memory, parts per million (PSI `full`).
    #[n(10)]
    MemoryPressureFullPpm,
    /// Share of time in which some task waited for I/O, parts per million.
    #[n(11)]
    IoPressureSomePpm,
    /// Share of time in which all tasks waited for I/O, parts per million.
    #[n(12)]
    IoPressureFullPpm,
    /// Share of quota periods in which the group was throttled, parts per million.
    #[n(13)]
    CpuThrottledPpm,
    /// Round trip to a peer (label), microseconds.
    #[n(14)]
    LatencyMicroseconds,
}

impl Metric {
    /// Every metric, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 14] = [
        Self::CpuMillicores,
        Self::MemoryBytes,
        Self::StorageBytes,
        Self::DiskReadBytesPerSecond,
        Self::DiskWriteBytesPerSecond,
        Self::NetworkReceiveBitsPerSecond,
        Self::NetworkTransmitBitsPerSecond,
        Self::CpuPressureSomePpm,
        Self::MemoryPressureSomePpm,
        Self::MemoryPressureFullPpm,
        Self::IoPressureSomePpm,
        Self::IoPressureFullPpm,
        Self::CpuThrottledPpm,
        Self::LatencyMicroseconds,
    ];

    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }
    /// The name with its unit, as in JSON.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// One series over one interval: `start_ms` and `duration_ms` on the host's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct MetricWindow {
    /// What is measured.
    #[n(0)]
    pub metric: Metric,
    /// Start on `CLOCK_BOOTTIME`, ms.
    #[n(1)]
    pub start_ms: u64,
    /// Length, ms.
    #[n(2)]
    pub duration_ms: u64,
    /// How many samples were folded; fewer than expected means a gap.
    #[n(3)]
    pub samples: u32,
    /// Arithmetic mean of the samples, rounded down.
    #[n(4)]
    pub mean: u64,
    /// Largest sample.
    #[n(5)]
    pub max: u64,
    /// 95th percentile of the samples (nearest rank).
    #[n(6)]
    pub p95: u64,
    /// Which device, interface, mount point or peer; absent for the whole.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text<NAME_BYTES_MAX>>,
}

/// At most [`WINDOWS_MAX`] windows as a canonical array: equal windows are equal bytes.
///
/// Made by [`MetricWindows::new`], [`MetricWindows::truncating`] or by decoding, and so always canonical.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricWindows {
    /// The array's items one after another.
    items: Vec<u8>,
    count: usize,
}

impl MetricWindows {
    /// The windows, if there are at most [`WINDOWS_MAX`].
    pub fn new(windows: &[MetricWindow]) -> Option<Self> {
        (windows.len() <= WINDOWS_MAX)
            .then(|| Self { items: windows.iter().flat_map(cbor::to_bytes).collect(), count: windows.len() })
    }
    /// Keeps the first [`WINDOWS_MAX`] windows and says how many were left out.
    pub fn truncating(windows: &[MetricWindow]) -> (Self, usize) {
        let kept = windows.get(..WINDOWS_MAX).unwrap_or(windows);
        (Self::new(kept).unwrap_or_default(), windows.len() - kept.len())
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// The windows, made one by one.
    pub fn iter(&self) -> impl Iterator<Item = MetricWindow> {
        let mut rest = self.items.as_slice();
        std::iter::from_fn(move || WindowBytes::take(&mut rest)?.window())
    }
    /// The windows, all at once.
    pub fn to_vec(&self) -> Vec<MetricWindow> {
        self.iter().collect()
    }
}

impl<C> Encode<C> for MetricWindows {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.count as u64)?;
        e.writer_mut().write_all(&self.items).map_err(minicbor::encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for MetricWindows {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let Some(length) = d.array()?.and_then(|length| usize::try_from(length).ok()) else {
            return Err(minicbor::decode::Error::message("indefinite length"));
        };
        if length > WINDOWS_MAX {
            return Err(minicbor::decode::Error::message("more items than the form may have"));
        }
        let (input, begin) = (d.input(), d.position());
        let all = input.get(begin..).unwrap_or_default();
        let mut rest = all;
        for at in 0..length {
            let is_window = WindowBytes::take(&mut rest).is_some_and(|window| window.is_valid());
            if !is_window {
                return Err(minicbor::decode::Error::message(format!("metric window {at} is not in canonical form")));
            }
        }
        let items = all.get(..all.len() - rest.len()).unwrap_or_default().to_vec();
        d.set_position(begin + items.len());
        Ok(Self { items, count: length })
    }
}

/// A window whose keys, order and lengths are canonical; whether its values are of the form, [`Self::is_valid`] says.
struct WindowBytes<'a> {
    /// Keys 0 to 6.
    numbers: [u64; 7],
    label: Option<&'a [u8]>,
}

impl<'a> WindowBytes<'a> {
    /// Takes the next window off `rest`.
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let has_label = match take_byte(rest)? {
            0xa7 => false,
            0xa8 => true,
            _ => return None,
        };
        let mut numbers = [0; 7];
        for (key, number) in (0..).zip(&mut numbers) {
            *number = (take_byte(rest)? == key).then(|| take_number(rest, UNSIGNED))??;
        }
        let label = if has_label { Some((take_byte(rest)? == 7).then(|| take_text(rest))??) } else { None };
        Some(Self { numbers, label })
    }

    fn is_valid(&self) -> bool {
        let [metric, _, _, samples, ..] = self.numbers;
        Metric::from_number(metric).is_some()
            && u32::try_from(samples).is_ok()
            && self.label.is_none_or(|label| str::from_utf8(label).is_ok_and(Text::<NAME_BYTES_MAX>::allows))
    }

    fn window(&self) -> Option<MetricWindow> {
        let [metric, start_ms, duration_ms, samples, mean, max, p95] = self.numbers;
        let label = match self.label {
            Some(label) => Some(Text::new(str::from_utf8(label).ok()?)?),
            None => None,
        };
        let (metric, samples) = (Metric::from_number(metric)?, u32::try_from(samples).ok()?);
        Some(MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label })
    }
}

/// Major types of RFC 8949 §3.1, in their place in the first byte.
const UNSIGNED: u8 = 0 << 5;
const TEXT: u8 = 3 << 5;

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

/// A head of this major type with its argument in the shortest form (RFC 8949 §4.2.1).
fn take_number(rest: &mut &[u8], major: u8) -> Option<u64> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (digits, tail) = rest.split_first_chunk()?;
        *rest = tail;
        Some(*digits)
    }
    let (value, least) = match take_byte(rest)?.checked_sub(major)? {
        value @ 0..24 => return Some(value.into()),
        24 => (u8::from_be_bytes(take(rest)?).into(), 24),
        25 => (u16::from_be_bytes(take(rest)?).into(), 1 << 8),
        26 => (u32::from_be_bytes(take(rest)?).into(), 1 << 16),
        27 => (u64::from_be_bytes(take(rest)?), 1 << 32),
        _ => return None,
    };
    (value >= least).then_some(value)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(rest, TEXT)?).ok()?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cbor::Bounded;
    use proptest::prelude::*;

    /// What the derived codec of the window says of the same bytes.
    type Derived = Bounded<MetricWindow, WINDOWS_MAX>;
    const BYTES_MAX: usize = 1 << 16;

    fn agree(bytes: &[u8]) -> bool {
        let derived = cbor::from_bytes::<Derived>(bytes, BYTES_MAX).ok().map(Bounded::into_vec);
        let scanned = cbor::from_bytes::<MetricWindows>(bytes, BYTES_MAX).ok();
        assert_eq!(derived, scanned.as_ref().map(MetricWindows::to_vec), "{bytes:02x?}");
        scanned.is_some()
    }

    fn window() -> impl Strategy<Value = MetricWindow> {
        let number =
            || prop_oneof![0..30u64, 200..300u64, 65_000..66_000u64, any::<u32>().prop_map(u64::from), any::<u64>()];
        let label = prop::option::of("[a-zé/]{0,30}".prop_map(|text| Text::lossy(&text)));
        ((0..14usize, number(), number(), any::<u32>()), (number(), number(), number(), label)).prop_map(
            |((metric, start_ms, duration_ms, samples), (mean, max, p95, label))| {
                let metric = Metric::ALL[metric];
                MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label }
            },
        )
    }

    #[test]
    fn every_metric_has_its_number() {
        for (number, metric) in (1..).zip(Metric::ALL) {
            assert_eq!(cbor::to_bytes(&metric), cbor::to_bytes(&number));
            assert_eq!(Metric::from_number(number), Some(metric));
        }
        assert!(minicbor::decode::<Metric>(&[15]).is_err() && Metric::from_number(15).is_none());
        assert!(Metric::from_number(0).is_none());
    }

    #[test]
    fn more_windows_than_allowed_are_left_out_or_refused() {
        let one = MetricWindow {
            metric: Metric::CpuMillicores,
            start_ms: 0,
            duration_ms: 1,
            samples: 1,
            mean: 1,
            max: 1,
            p95: 1,
            label: None,
        };
        let many = vec![one; WINDOWS_MAX + 1];
        assert!(MetricWindows::new(&many).is_none());
        let (kept, left_out) = MetricWindows::truncating(&many);
        assert_eq!((kept.len(), kept.iter().count(), left_out), (WINDOWS_MAX, WINDOWS_MAX, 1));
        assert!(!agree(&cbor::to_bytes(&many)));
        assert!(agree(&cbor::to_bytes(&many[1..].to_vec())));
        assert!(!agree(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    }

    proptest! {
        #[test]
        fn the_scan_accepts_what_the_derived_codec_accepts(
            windows in prop::collection::vec(window(), 0..4),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = cbor::to_bytes(&windows);
            prop_assert_eq!(&cbor::to_bytes(&MetricWindows::new(&windows).unwrap()), &bytes);
            prop_assert!(agree(&bytes));
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
}
