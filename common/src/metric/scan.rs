//! Canonical bytes of windows, read one head at a time without making anything (RFC 8949 §3, §4.2.1).

use super::{Metric, MetricWindow};
use crate::cbor::Text;
use crate::limits::NAME_BYTES_MAX;

/// Major types, in their place in the first byte.
const UNSIGNED: u8 = 0 << 5;
const TEXT: u8 = 3 << 5;
pub(super) const ARRAY: u8 = 4 << 5;

/// Heads of the maps of 7 and 8 pairs of form 1, and of the arrays of form 2.
const MAP: u8 = 0xa7;
const MAP_WITH_LABEL: u8 = 0xa8;
const GROUP: u8 = ARRAY + 3;
const ROW: u8 = ARRAY + 5;
const ROW_WITH_LABEL: u8 = ARRAY + 6;

/// When windows start and how long they are, both in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start_ms: u64,
    pub(super) duration_ms: u64,
}

impl Interval {
    pub(super) fn of(window: &MetricWindow) -> Self {
        Self { start_ms: window.start_ms, duration_ms: window.duration_ms }
    }
}

/// A window but for its interval, its heads canonical; whether the values are of the form, [`Self::is_valid`] says.
pub(super) struct Values<'a> {
    metric: u64,
    samples: u64,
    /// Mean, max, p95.
    folded: [u64; 3],
    label: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    pub(super) fn is_valid(&self) -> bool {
        Metric::from_number(self.metric).is_some()
            && u32::try_from(self.samples).is_ok()
            && self.label.is_none_or(|label| str::from_utf8(label).is_ok_and(Text::<NAME_BYTES_MAX>::allows))
    }

    pub(super) fn window(&self, interval: Interval) -> Option<MetricWindow> {
        let label = match self.label {
            Some(label) => Some(Text::new(str::from_utf8(label).ok()?)?),
            None => None,
        };
        let (metric, samples) = (Metric::from_number(self.metric)?, u32::try_from(self.samples).ok()?);
        let (Interval { start_ms, duration_ms }, [mean, max, p95]) = (interval, self.folded);
        Some(MetricWindow { metric, start_ms, duration_ms, samples, mean, max, p95, label })
    }

    /// Takes a row off `rest`: an array of metric, samples, mean, max, p95 and, if there is one, label.
    pub(super) fn take_row(rest: &mut &'a [u8]) -> Option<Self> {
        let has_label = match take_byte(rest)? {
            ROW => false,
            ROW_WITH_LABEL => true,
            _ => return None,
        };
        let (metric, samples) = (take_number(rest, UNSIGNED)?, take_number(rest, UNSIGNED)?);
        let mut folded = [0; 3];
        for number in &mut folded {
            *number = take_number(rest, UNSIGNED)?;
        }
        let label = if has_label { Some(take_text(rest)?) } else { None };
        Some(Self { metric, samples, folded, label })
    }

    /// Takes a map off `rest`: keys 0 to 6 are metric, start, duration, samples, mean, max and p95, key 7 the label.
    pub(super) fn take_map(rest: &mut &'a [u8]) -> Option<(Interval, Self)> {
        let has_label = match take_byte(rest)? {
            MAP => false,
            MAP_WITH_LABEL => true,
            _ => return None,
        };
        let mut numbers = [0; 7];
        for (key, number) in (0..).zip(&mut numbers) {
            *number = (take_byte(rest)? == key).then(|| take_number(rest, UNSIGNED))??;
        }
        let label = if has_label { Some((take_byte(rest)? == 7).then(|| take_text(rest))??) } else { None };
        let [metric, start_ms, duration_ms, samples, mean, max, p95] = numbers;
        Some((Interval { start_ms, duration_ms }, Self { metric, samples, folded: [mean, max, p95], label }))
    }
}

/// What follows the row that `bytes` begin with, if it is one and its values are of the form.
///
/// Rows are most of what is read of an envelope, so they are looked at without taking their values.
pub(super) fn after_row(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = match bytes {
        [head @ (ROW | ROW_WITH_LABEL), 1..=Metric::NUMBER_MAX, rest @ ..] => (*head, rest),
        _ => return None,
    };
    // Samples are 32 bits.
    let mut rest = if rest.first().is_some_and(|samples| *samples <= 26) { after_number(rest)? } else { return None };
    for _ in 0..3 {
        rest = after_number(rest)?;
    }
    if head == ROW_WITH_LABEL {
        let label = take_text(&mut rest)?;
        str::from_utf8(label).is_ok_and(Text::<NAME_BYTES_MAX>::allows).then_some(())?;
    }
    Some(rest)
}

/// What follows the unsigned number in its shortest form that `bytes` begin with.
fn after_number(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0..24, rest @ ..] => Some(rest),
        [24, 24..=u8::MAX, rest @ ..] => Some(rest),
        [25, 1..=u8::MAX, _, rest @ ..] => Some(rest),
        [26, high, low, _, _, rest @ ..] if high | low != 0 => Some(rest),
        [27, a, b, c, d, _, _, _, _, rest @ ..] if a | b | c | d != 0 => Some(rest),
        _ => None,
    }
}

/// Takes the head of a group off `rest`: its interval, and how many rows it says it has.
pub(super) fn take_group(rest: &mut &[u8]) -> Option<(Interval, usize)> {
    if take_byte(rest)? != GROUP {
        return None;
    }
    let interval = Interval { start_ms: take_number(rest, UNSIGNED)?, duration_ms: take_number(rest, UNSIGNED)? };
    Some((interval, usize::try_from(take_number(rest, ARRAY)?).ok()?))
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

/// A head of this major type with its argument in the shortest form.
pub(super) fn take_number(rest: &mut &[u8], major: u8) -> Option<u64> {
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
