//! Chunks: points of many series of one host (or of all sums) as bytes.
//!
//! A chunk holds the finest points that its host's evidence brought since the chunk before, whole evidence at a time: so
//! what is in chunks and what is to be read from evidence never overlap, and adding both gives every window once.
//!
//! Stored form, version 1 (`tests/golden/history-chunk-v1.hex`): byte 0 is 1; byte 1 is 0 (plain) or 1 (raw deflate,
//! RFC 1951) and says how the rest is packed. The rest is unsigned LEB128 numbers, one after the other:
//! enrolment (Unix ms), last sequence, length of a point (ms), number of series; for each series: kind of subject (0 host,
//! 1 cgroup, 2 tenant, 3 pool) ‖ bytes of its name ‖ name; measure; pressure (thousandths) and when (Unix ms); number of
//! points n ≥ 1; then, column by column, n numbers each: number of the point (its start over its length) less the one before,
//! less one; `samples × 2 + censored`, as a difference; mean, as a difference; what the sum has beyond mean × samples;
//! greatest less mean. Differences are to the point before and zigzag: 0, -1, 1, -2, … are 0, 1, 2, 3, ….

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use quotary_common::envelope::Name;
use quotary_common::limits::CGROUP_PATH_BYTES_MAX;

use super::pressure::Pressure;
use super::{Measure, Point, Subject};

/// Largest chunk in bytes, as it is stored: a larger one is cut.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Largest chunk in bytes, unpacked.
const UNPACKED_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of a number.
const NUMBER_BYTES_MAX: usize = 10;
/// No point is longer than a day.
const GRAIN_MS_MAX: u64 = 86_400_000;
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const DEFLATE: u8 = 1;

/// Up to which evidence a host's points stand in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Watermark {
    /// The enrolment whose sequence it is, Unix ms; 0 for sums.
    pub enrolled_at_ms: u64,
    /// The last evidence of it that is in; for sums, the number of the first interval that is not.
    pub sequence: u64,
}

/// Points of one host's series, or of sums.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunk {
    /// Up to where it reaches.
    pub watermark: Watermark,
    /// The length of a point, ms.
    pub grain_ms: u64,
    pub(super) series: Vec<ChunkSeries>,
}

/// One series of a chunk; its points ascend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChunkSeries {
    pub(super) subject: Subject,
    pub(super) measure: Measure,
    pub(super) pressure: Pressure,
    pub(super) points: Vec<(u64, Point)>,
}

/// Bytes that are no chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Too many bytes, stored or unpacked.
    #[error("a chunk of more than {0} bytes")]
    TooLarge(usize),
    /// Another version, or another way of packing.
    #[error("no chunk of version 1")]
    Version,
    /// The packed part is garbled.
    #[error("a chunk that does not unpack")]
    Packed,
    /// What is unpacked is cut short, or says what cannot be.
    #[error("a chunk that does not hold its form")]
    Form,
}

impl Chunk {
    /// Every point with its series, its start (Unix ms) and its length (ms).
    pub fn points(&self) -> impl Iterator<Item = (&Subject, Measure, u64, &Point)> {
        self.series.iter().flat_map(move |series| {
            let at = move |number: u64| number.saturating_mul(self.grain_ms);
            series.points.iter().map(move |(number, point)| (&series.subject, series.measure, at(*number), point))
        })
    }

    /// A chunk of these series: each point with its number, ascending; whoever has a history from elsewhere brings it back with it.
    pub fn of_series(grain_ms: u64, series: impl IntoIterator<Item = (Subject, Measure, Vec<(u64, Point)>)>) -> Self {
        let series = series.into_iter().map(|(subject, measure, points)| ChunkSeries {
            subject,
            measure,
            pressure: Pressure::default(),
            points,
        });
        Self { watermark: Watermark::default(), grain_ms, series: series.collect() }
    }

    /// How many points it has.
    pub fn len(&self) -> usize {
        self.series.iter().map(|series| series.points.len()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes to store, in as many parts as [`CHUNK_BYTES_MAX`] asks for; each part is a chunk.
    pub fn to_parts(&self) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let (mut body, mut held) = (Vec::new(), 0);
        for series in &self.series {
            // A point takes 50 bytes at most.
            for points in series.points.chunks(CHUNK_BYTES_MAX / 64 / 2) {
                let one = encoded(series, points);
                if held > 0 && body.len() + one.len() > CHUNK_BYTES_MAX / 2 {
                    parts.push(self.part(&body, held));
                    (body, held) = (Vec::new(), 0);
                }
                body.extend_from_slice(&one);
                held += 1;
            }
        }
        if held > 0 || parts.is_empty() {
            parts.push(self.part(&body, held));
        }
        parts
    }

    fn part(&self, body: &[u8], series: u64) -> Vec<u8> {
        let mut plain = Vec::with_capacity(body.len() + 4 * NUMBER_BYTES_MAX);
        for number in [self.watermark.enrolled_at_ms, self.watermark.sequence, self.grain_ms, series] {
            put(&mut plain, number);
        }
        plain.extend_from_slice(body);
        let mut packed = DeflateEncoder::new(vec![VERSION, DEFLATE], Compression::best());
        let packed = packed.write_all(&plain).and_then(|()| packed.finish());
        match packed {
            Ok(packed) if packed.len() < plain.len() + 2 => packed,
            _ => [&[VERSION, PLAIN], plain.as_slice()].concat(),
        }
    }

    /// Reads one part.
    ///
    /// # Errors
    /// [`ChunkError`] when the bytes are none; nothing is believed before it is bounded.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChunkError> {
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(ChunkError::TooLarge(CHUNK_BYTES_MAX));
        }
        let plain = match bytes {
            [VERSION, PLAIN, plain @ ..] => plain.to_vec(),
            [VERSION, DEFLATE, packed @ ..] => unpacked(packed)?,
            _ => return Err(ChunkError::Version),
        };
        let mut rest = Reader(&plain);
        let chunk = rest.chunk().ok_or(ChunkError::Form)?;
        if rest.0.is_empty() { Ok(chunk) } else { Err(ChunkError::Form) }
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut plain = Vec::new();
    let mut decoder = DeflateDecoder::new(packed).take(UNPACKED_BYTES_MAX as u64 + 1);
    decoder.read_to_end(&mut plain).map_err(|_| ChunkError::Packed)?;
    if plain.len() > UNPACKED_BYTES_MAX { Err(ChunkError::TooLarge(UNPACKED_BYTES_MAX)) } else { Ok(plain) }
}

fn encoded(series: &ChunkSeries, points: &[(u64, Point)]) -> Vec<u8> {
    let (kind, name) = match &series.subject {
        Subject::Host => (0, ""),
        Subject::Cgroup(path) => (1, path.as_str()),
        Subject::Tenant(name) => (2, name.as_str()),
        Subject::Pool(name) => (3, name.as_str()),
    };
    let mut out = Vec::new();
    let (permille, raised_at_ms) = series.pressure.raised();
    put(&mut out, kind);
    put(&mut out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
    for number in [series.measure.number(), permille.into(), raised_at_ms, points.len() as u64] {
        put(&mut out, number);
    }
    let mut before = None;
    for (number, _) in points {
        put(&mut out, before.map_or(*number, |before: u64| number - before - 1));
        before = Some(*number);
    }
    put_differences(&mut out, points, |point| u64::from(point.samples()) << 1 | u64::from(point.is_censored()));
    put_differences(&mut out, points, Point::mean);
    for (_, point) in points {
        put(&mut out, point.sum() - point.mean() * u64::from(point.samples()));
    }
    for (_, point) in points {
        put(&mut out, point.max().saturating_sub(point.mean()));
    }
    out
}

fn put_differences(out: &mut Vec<u8>, points: &[(u64, Point)], value: impl Fn(&Point) -> u64) {
    let mut before = 0_u64;
    for (_, point) in points {
        let difference = value(point).wrapping_sub(before).cast_signed();
        put(out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        before = value(point);
    }
}

/// Unsigned LEB128.
fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [digits, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(digits);
        }
        out.push(digits | 0x80);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// A number in its shortest form.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let digits = u64::from(byte & 0x7f);
            if (digits << shift) >> shift != digits {
                return None;
            }
            value |= digits << shift;
            if byte & 0x80 == 0 {
                return (shift == 0 || *byte != 0).then_some(value);
            }
        }
        None
    }

    /// A count of things that take at least `bytes` each: no more than there can be.
    fn count(&mut self, bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count.checked_mul(bytes)? <= self.0.len()).then_some(count)
    }

    fn chunk(&mut self) -> Option<Chunk> {
        let watermark = Watermark { enrolled_at_ms: self.number()?, sequence: self.number()? };
        let grain_ms = self.number().filter(|grain_ms| (1..=GRAIN_MS_MAX).contains(grain_ms))?;
        let count = self.count(11)?;
        let mut series = Vec::with_capacity(count);
        for _ in 0..count {
            series.push(self.series()?);
        }
        Some(Chunk { watermark, grain_ms, series })
    }

    fn series(&mut self) -> Option<ChunkSeries> {
        let kind = self.number()?;
        let length = self.count(1).filter(|length| *length <= CGROUP_PATH_BYTES_MAX)?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok()?;
        let subject = match kind {
            0 if name.is_empty() => Subject::Host,
            1 => Subject::Cgroup(name.to_owned()),
            2 => Subject::Tenant(Name::new(name)?),
            3 => Subject::Pool(Name::new(name)?),
            _ => return None,
        };
        let measure = Measure::from_number(self.number()?)?;
        let permille = u16::try_from(self.number()?).ok().filter(|permille| *permille <= 1000)?;
        let pressure = Pressure::new(permille, self.number()?);
        let points = self.points()?;
        Some(ChunkSeries { subject, measure, pressure, points })
    }

    fn points(&mut self) -> Option<Vec<(u64, Point)>> {
        let count = self.count(5).filter(|count| *count > 0)?;
        let mut numbers = Vec::with_capacity(count);
        let mut next = 0_u64;
        for _ in 0..count {
            let number = next.checked_add(self.number()?)?;
            numbers.push(number);
            next = number.checked_add(1)?;
        }
        let counts = self.differences(count)?;
        let means = self.differences(count)?;
        let mut sums = Vec::with_capacity(count);
        for (mean, samples) in means.iter().zip(&counts) {
            let beyond = self.number()?;
            sums.push(mean.checked_mul(samples >> 1)?.checked_add(beyond)?);
        }
        let mut points = Vec::with_capacity(count);
        for ((number, sum), (mean, samples)) in numbers.into_iter().zip(sums).zip(means.iter().zip(&counts)) {
            let max = mean.saturating_add(self.number()?);
            let (samples, is_censored) = (u32::try_from(samples >> 1).ok()?, samples & 1 == 1);
            points.push((number, Point::of_sum(sum, max, samples, is_censored)?));
        }
        Some(points)
    }

    fn differences(&mut self, count: usize) -> Option<Vec<u64>> {
        let mut values = Vec::with_capacity(count);
        let mut before = 0_u64;
        for _ in 0..count {
            let packed = self.number()?;
            let difference = (packed >> 1).cast_signed() ^ -(packed & 1).cast_signed();
            before = before.wrapping_add_signed(difference);
            values.push(before);
        }
        Some(values)
    }
}
