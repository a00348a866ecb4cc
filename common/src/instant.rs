//! Instants as people and files have them.

/// An instant, Unix ms, as RFC 3339 in UTC: `2026-11-22T07:00:00Z`, with milliseconds only where there are any.
pub fn rfc3339(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to date, after Howard Hinnant's `civil_from_days`, for days since 1970 only.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Reads an instant as RFC 3339 has it, Unix ms: any offset, a fraction cut to milliseconds; years 1970 to 9999.
/// `None` for what is not one (leap seconds are not).
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    // A bound before any work, and no multi-byte character to split.
    if !(20..=40).contains(&bytes.len()) || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
    };
    let mark = |at: usize, any: &[u8]| bytes.get(at).filter(|byte| any.contains(byte)).map(|_| ());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    mark(4, b"-").and(mark(7, b"-")).and(mark(10, b"Tt ")).and(mark(13, b":")).and(mark(16, b":"))?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (ms, zone_at) = match bytes.get(19) {
        Some(b'.') => {
            let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let ms = match digits {
                0 => return None,
                1 => number(20, 21)? * 100,
                2 => number(20, 22)? * 10,
                _ => number(20, 23)?,
            };
            (ms, 20 + digits)
        }
        _ => (0, 19),
    };
    let offset_s = match (bytes.get(zone_at)?, bytes.len() - zone_at) {
        (b'Z' | b'z', 1) => 0,
        (sign @ (b'+' | b'-'), 6) => {
            let (hours, minutes) = (number(zone_at + 1, zone_at + 3)?, number(zone_at + 4, zone_at + 6)?);
            mark(zone_at + 3, b":")?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead_s = i64::try_from(hours * 3600 + minutes * 60).ok()?;
            if *sign == b'+' { ahead_s } else { -ahead_s }
        }
        _ => return None,
    };
    // Date to days, the same way back (`days_from_civil`).
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let local_s = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(local_s.checked_add_signed(-offset_s)? * 1_000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same_instant() {
        for at_ms in [0, 1, 951_782_400_000, 4_107_542_399_250, 4_107_542_400_000, 253_402_300_799_999] {
            assert_eq!(parse_rfc3339(&rfc3339(at_ms)), Some(at_ms), "{}", rfc3339(at_ms));
        }
        for day in 0..60_000 {
            assert_eq!(parse_rfc3339(&rfc3339(day * 86_400_000)), Some(day * 86_400_000));
        }
    }

    #[test]
    fn offsets_and_fractions_are_read_and_what_is_no_instant_is_not() {
        let utc = parse_rfc3339("2026-11-23T07:00:00Z");
        assert_eq!(parse_rfc3339("2026-11-23T09:30:00+02:30"), utc);
        assert_eq!(parse_rfc3339("2026-11-22 23:00:00-08:00"), utc);
        assert_eq!(parse_rfc3339("2026-11-23T07:00:00.1234567Z"), utc.map(|at_ms| at_ms + 123));
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23T07:00:00",
            "2026-02-29T07:00:00Z",
            "2026-13-01T07:00:00Z",
            "2026-11-31T07:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T07:60:00Z",
            "2026-11-23T07:00:60Z",
            "2026-11-23T07:00:00.Z",
            "2026-11-23T07:00:00Z ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-23T07:00:00+1:00",
            "２０２６-11-23T07:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_of_leap_years_and_centuries_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_399_250), "2100-02-28T23:59:59.250Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00Z");
    }
}
