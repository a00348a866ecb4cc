//! A record as it is kept: version, then each measure with its hours and series-hours. Integers and floats are big-endian.

use super::record::{HOURS_MAX, Hour, OfMeasure, Record, SERIES_HOURS_MAX};
use crate::history::Measure;

const VERSION: u8 = 1;

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another form.
    #[error("form {0} of a contest's record is not known")]
    Version(u8),
    /// It ends too early, or there is more after it.
    #[error("a contest's record has the wrong length")]
    Length,
    /// A number that cannot be.
    #[error("a contest's record holds what cannot be: {0}")]
    Value(&'static str),
}

impl Record {
    /// The bytes to keep: at most some 90 KB for each measure.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.push(u8::try_from(self.measures.len()).unwrap_or(u8::MAX));
        for (measure, of) in &self.measures {
            bytes.push(u8::try_from(measure.number()).unwrap_or(u8::MAX));
            bytes.extend(u16::try_from(of.hours.len()).unwrap_or(u16::MAX).to_be_bytes());
            for hour in &of.hours {
                bytes.extend(hour.number.to_be_bytes());
                hour.losses.iter().for_each(|loss| bytes.extend(loss.to_be_bytes()));
                hour.covered.iter().for_each(|covered| bytes.extend(covered.to_be_bytes()));
                bytes.extend(hour.steps.to_be_bytes());
                bytes.extend(hour.series_hours.to_be_bytes());
            }
            bytes.extend(of.seen.to_be_bytes());
            bytes.extend(u16::try_from(of.sizes.len()).unwrap_or(u16::MAX).to_be_bytes());
            for (peak, mean) in of.sizes.iter().flatten() {
                bytes.extend(peak.to_be_bytes());
                bytes.extend(mean.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RecordError`] where it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut rest = Rest(bytes);
        let [version] = rest.take()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let [measures] = rest.take()?;
        let mut record = Self::default();
        for _ in 0..measures {
            let [number] = rest.take()?;
            let measure = Measure::from_number(number.into()).ok_or(RecordError::Value("a measure"))?;
            let of = of_measure(&mut rest)?;
            if record.measures.insert(measure, of).is_some() {
                return Err(RecordError::Value("a measure twice"));
            }
        }
        if rest.0.is_empty() { Ok(record) } else { Err(RecordError::Length) }
    }
}

fn of_measure(rest: &mut Rest<'_>) -> Result<OfMeasure, RecordError> {
    let mut of = OfMeasure::default();
    let hours = usize::from(u16::from_be_bytes(rest.take()?));
    if hours > HOURS_MAX {
        return Err(RecordError::Value("too many hours"));
    }
    for _ in 0..hours {
        let number = rest.whole()?;
        let losses = [rest.loss()?, rest.loss()?];
        let covered = [rest.whole()?, rest.whole()?];
        let hour = Hour { number, losses, covered, steps: rest.whole()?, series_hours: rest.whole()? };
        if of.hours.back().is_some_and(|last| last.number >= number) || covered.iter().any(|one| *one > hour.steps) {
            return Err(RecordError::Value("hours"));
        }
        of.hours.push_back(hour);
    }
    of.seen = rest.whole()?;
    let series_hours = usize::from(u16::from_be_bytes(rest.take()?));
    if series_hours > SERIES_HOURS_MAX || of.seen < series_hours as u64 {
        return Err(RecordError::Value("too many series-hours"));
    }
    for _ in 0..series_hours {
        of.sizes.push([(rest.share()?, rest.share()?), (rest.share()?, rest.share()?)]);
    }
    Ok(of)
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }
    /// A count or an hour; far from where sums could overflow.
    fn whole(&mut self) -> Result<u64, RecordError> {
        let number = u64::from_be_bytes(self.take()?);
        if number < 1 << 48 { Ok(number) } else { Err(RecordError::Value("a count")) }
    }
    fn loss(&mut self) -> Result<f64, RecordError> {
        let loss = f64::from_be_bytes(self.take()?);
        if loss.is_finite() && loss >= 0.0 { Ok(loss) } else { Err(RecordError::Value("a loss")) }
    }
    fn share(&mut self) -> Result<f32, RecordError> {
        let share = f32::from_be_bytes(self.take()?);
        if share.is_finite() && share >= 0.0 { Ok(share) } else { Err(RecordError::Value("a share")) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use quotary_common::units::ResourceKind;

    use super::super::record::SeriesHour;
    use super::*;

    fn full() -> Record {
        let mut record = Record::default();
        for hour in 0..400_u64 {
            for (at, resource) in [ResourceKind::Cpu, ResourceKind::Network].into_iter().enumerate() {
                for series in 0..15 {
                    let share = f64::from(series) / 10.0 + at as f64;
                    let series_hour = SeriesHour {
                        loss: 1.5 + share,
                        steps: 12,
                        covered: 11,
                        peak_share: share,
                        mean_share: share / 2.0,
                    };
                    record.add(resource.into(), hour, &series_hour, &SeriesHour { covered: 12, ..series_hour });
                }
            }
        }
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_kept_and_is_bounded() {
        for record in [Record::default(), full()] {
            let bytes = record.to_bytes();
            assert_eq!(Record::from_bytes(&bytes).unwrap(), record);
            assert!(bytes.len() <= 2 + 2 * 90_000, "{}", bytes.len());
        }
    }

    #[test]
    fn what_is_cut_added_to_or_of_another_form_is_no_record() {
        let bytes = full().to_bytes();
        for end in [0, 1, 2, 40, bytes.len() - 1] {
            assert_eq!(Record::from_bytes(&bytes[..end]), Err(RecordError::Length), "{end}");
        }
        assert_eq!(Record::from_bytes(&[&bytes[..], &[0]].concat()), Err(RecordError::Length));
        assert_eq!(Record::from_bytes(&[2, 0]), Err(RecordError::Version(2)));
        assert_eq!(Record::from_bytes(&[1, 1, 200, 0, 0, 0, 0]), Err(RecordError::Value("a measure")));
        let mut absurd = bytes.clone();
        absurd[13..21].copy_from_slice(&f64::NAN.to_be_bytes());
        assert_eq!(Record::from_bytes(&absurd), Err(RecordError::Value("a loss")));
        let mut backwards = bytes;
        backwards[5..13].copy_from_slice(&399_u64.to_be_bytes());
        assert_eq!(Record::from_bytes(&backwards), Err(RecordError::Value("hours")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(record) = Record::from_bytes(&bytes) {
                prop_assert_eq!(record.to_bytes(), bytes);
            }
        }
    }
}
