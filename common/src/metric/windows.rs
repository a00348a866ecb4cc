//! A list of windows as canonical bytes, in either form.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::MetricWindow;
use super::scan::{ARRAY, Interval, Values, after_row, take_group, take_number};
use crate::cbor;
use crate::limits::WINDOWS_MAX;

/// How windows stand in an envelope; its version says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowForm {
    /// An array of maps, one for each window: envelopes of version 1. It is read only.
    Maps,
    /// An array of groups, one for each run of windows of one interval: start, duration, and an array of rows. A row is
    /// an array of metric, samples, mean, max, p95 and, if there is one, label. Groups are never empty, and never of
    /// the interval of the group before.
    Groups,
}

/// At most [`WINDOWS_MAX`] windows as a canonical array: within one form, equal windows are equal bytes.
///
/// Made by [`MetricWindows::new`], [`MetricWindows::truncating`] (both as groups) or by decoding, and so always
/// canonical. The fewer changes of interval between neighbours, the shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricWindows {
    form: WindowForm,
    /// The array.
    bytes: Vec<u8>,
    /// How many windows there are, in all groups together.
    count: usize,
}

impl MetricWindows {
    /// The windows, if there are at most [`WINDOWS_MAX`].
    pub fn new(windows: &[MetricWindow]) -> Option<Self> {
        (windows.len() <= WINDOWS_MAX).then(|| Self {
            form: WindowForm::Groups,
            bytes: cbor::to_bytes(&Groups(windows)),
            count: windows.len(),
        })
    }
    /// Keeps the first [`WINDOWS_MAX`] windows and says how many were left out.
    pub fn truncating(windows: &[MetricWindow]) -> (Self, usize) {
        let kept = windows.get(..WINDOWS_MAX).unwrap_or(windows);
        (Self::new(kept).unwrap_or_default(), windows.len() - kept.len())
    }
    /// How many bytes these windows take as groups.
    pub fn bytes_of(windows: &[MetricWindow]) -> usize {
        cbor::length(&Groups(windows))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Whether the bytes are of this form. An empty list is the same in both.
    pub fn is_of(&self, form: WindowForm) -> bool {
        self.form == form || self.is_empty()
    }
    /// The windows, made one by one.
    pub fn iter(&self) -> impl Iterator<Item = MetricWindow> {
        let mut rest = self.bytes.as_slice();
        let head = take_number(&mut rest, ARRAY);
        let mut group = None;
        std::iter::from_fn(move || {
            head?;
            if self.form == WindowForm::Maps {
                let (interval, values) = Values::take_map(&mut rest)?;
                return values.window(interval);
            }
            let (interval, rows) = match group {
                Some((interval, rows)) if rows > 0 => (interval, rows),
                _ => take_group(&mut rest)?,
            };
            group = Some((interval, rows.checked_sub(1)?));
            Values::take_row(&mut rest)?.window(interval)
        })
    }
    /// The windows, all at once.
    pub fn to_vec(&self) -> Vec<MetricWindow> {
        self.iter().collect()
    }
}

impl Default for MetricWindows {
    fn default() -> Self {
        Self { form: WindowForm::Groups, bytes: vec![ARRAY], count: 0 }
    }
}

/// Windows as groups.
struct Groups<'a>(&'a [MetricWindow]);

impl<C> Encode<C> for Groups<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        let groups = || self.0.chunk_by(|one, next| Interval::of(one) == Interval::of(next));
        e.array(groups().count() as u64)?;
        for group in groups() {
            let Some(Interval { start_ms, duration_ms }) = group.first().map(Interval::of) else { continue };
            e.array(3)?.u64(start_ms)?.u64(duration_ms)?.array(group.len() as u64)?;
            for window in group {
                e.array(if window.label.is_some() { 6 } else { 5 })?;
                e.u8(window.metric.number())?.u32(window.samples)?;
                e.u64(window.mean)?.u64(window.max)?.u64(window.p95)?;
                window.label.as_ref().map_or(Ok(()), |label| label.encode(e, ctx))?;
            }
        }
        Ok(())
    }
}

impl<C> Encode<C> for MetricWindows {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.writer_mut().write_all(&self.bytes).map_err(minicbor::encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for MetricWindows {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let begin = d.position();
        let all = d.input().get(begin..).unwrap_or_default();
        let mut rest = all;
        let (form, count) = check(&mut rest).map_err(minicbor::decode::Error::message)?;
        let bytes = all.get(..all.len() - rest.len()).unwrap_or_default().to_vec();
        d.set_position(begin + bytes.len());
        Ok(Self { form, bytes, count })
    }
}

/// Takes the array off `rest` if it is canonical, and says in which form how many windows stand in it.
fn check(rest: &mut &[u8]) -> Result<(WindowForm, usize), String> {
    let length = take_number(rest, ARRAY).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or("metric windows are no array of definite length")?;
    if length > WINDOWS_MAX {
        return Err("more metric windows than the form may have".to_owned());
    }
    // A group is an array; what else stands there is a window of the other form or none.
    let form = match rest.first() {
        Some(head) if length > 0 && head & 0xe0 != ARRAY => WindowForm::Maps,
        _ => WindowForm::Groups,
    };
    let mut count = 0;
    let checked = match form {
        WindowForm::Maps => check_maps(rest, length, &mut count),
        WindowForm::Groups => check_groups(rest, length, &mut count),
    };
    checked.ok_or_else(|| format!("metric window {count} is not in canonical form"))?;
    Ok((form, count))
}

fn check_maps(rest: &mut &[u8], length: usize, count: &mut usize) -> Option<()> {
    for _ in 0..length {
        let (_, values) = Values::take_map(rest)?;
        values.is_valid().then_some(())?;
        *count += 1;
    }
    Some(())
}

fn check_groups(rest: &mut &[u8], length: usize, count: &mut usize) -> Option<()> {
    let mut before = None;
    for _ in 0..length {
        let (interval, rows) = take_group(rest)?;
        if rows == 0 || rows > WINDOWS_MAX - *count || before == Some(interval) {
            return None;
        }
        before = Some(interval);
        for _ in 0..rows {
            *rest = after_row(rest)?;
            *count += 1;
        }
    }
    Some(())
}
