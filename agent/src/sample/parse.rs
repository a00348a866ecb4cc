//! Pure parsers of the kernel's small forms that `procfs` does not know, or does not read safely.
//!
//! Forms: kernel documentation, admin-guide/cgroup-v2.rst, cgroup-v1/{memory,blkio-controller}.rst, accounting/psi.rst.

use super::file::Garbled;

/// One PSI file: total stall times in microseconds.
///
/// `procfs` demands the `full` line, which `cpu.pressure` has only since Linux 5.13.
pub(super) fn pressure(text: &str) -> Result<(u64, Option<u64>), Garbled> {
    let total = |kind: &str| -> Result<Option<u64>, Garbled> {
        let Some(line) = text.lines().find(|line| line.split(' ').next() == Some(kind)) else { return Ok(None) };
        let total = line.split(' ').find_map(|word| word.strip_prefix("total="));
        total.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Garbled::Rule("`total=` and microseconds"))
    };
    let some = total("some")?.ok_or(Garbled::Rule("a line that starts with `some`"))?;
    Ok((some, total("full")?))
}

/// The value of `key` in a file of `key value` lines; `None` if this kernel has no such line.
pub(super) fn keyed(text: &str, key: &str) -> Result<Option<u64>, Garbled> {
    let Some(line) = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(key)) else {
        return Ok(None);
    };
    let value = line.split_ascii_whitespace().nth(1).and_then(|digits| digits.parse().ok());
    value.map(Some).ok_or(Garbled::Rule("a number after each key"))
}

/// A file that is one number.
pub(super) fn number(text: &str) -> Result<u64, Garbled> {
    text.trim().parse().map_err(|_| Garbled::Rule("one number"))
}

/// Bytes read and written by a group, over the devices that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DiskBytes {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl DiskBytes {
    fn add(&mut self, kind: &str, digits: &str) -> Result<(), Garbled> {
        let field = match kind {
            "rbytes" | "Read" => &mut self.read,
            "wbytes" | "Write" => &mut self.written,
            _ => return Ok(()),
        };
        let bytes = digits.parse().map_err(|_| Garbled::Rule("bytes as a number"))?;
        *field = field.checked_add(bytes).ok_or(Garbled::Rule("bytes that add up to 64 bits"))?;
        Ok(())
    }
}

/// `io.stat` of version 2: `MAJOR:MINOR rbytes=… wbytes=…` per device.
///
/// Some kernels (5.16, 5.17) end no line after a device without statistics, so that several devices stand on one:
/// what follows belongs to the device named last.
pub(super) fn io_stat(text: &str, counts: impl Fn(u32, u32) -> bool) -> Result<DiskBytes, Garbled> {
    let mut sum = DiskBytes::default();
    for line in text.lines() {
        let mut counted = false;
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some((kind, digits)) if counted => sum.add(kind, digits)?,
                Some(_) => {}
                None => counted = device(word).is_some_and(|(major, minor)| counts(major, minor)),
            }
        }
    }
    Ok(sum)
}

/// `blkio.throttle.io_service_bytes` of version 1: `MAJOR:MINOR Read|Write|… BYTES` lines, then a `Total`.
pub(super) fn io_service_bytes(text: &str, counts: impl Fn(u32, u32) -> bool) -> Result<DiskBytes, Garbled> {
    let mut sum = DiskBytes::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        let (Some(kind), Some(digits)) = (words.next(), words.next()) else {
            return Err(Garbled::Rule("a kind and bytes after each device"));
        };
        if counts(major, minor) {
            sum.add(kind, digits)?;
        }
    }
    Ok(sum)
}

fn device(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether a block device is a whole disk whose traffic is nobody else's: neither a partition of one that is listed
/// too, nor memory, nor a device stacked on others (their bytes appear below it again).
pub(super) fn is_whole_disk(name: &str, is_listed: impl Fn(&str) -> bool) -> bool {
    const STACKED_OR_MEMORY: [&str; 11] =
        ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "drbd", "bcache", "zd", "device-mapper"];
    let numbered =
        |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if STACKED_OR_MEMORY.iter().any(numbered) {
        return false;
    }
    // `sda1` stands on `sda`; where a disk's own name ends with a digit there is a `p` between: `nvme0n1p1`.
    let parent = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if parent.len() == name.len() {
        return true;
    }
    let below_p = parent.strip_suffix('p').filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit()));
    !is_listed(parent) && !below_p.is_some_and(is_listed)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pressure_file_without_a_full_line_is_read() {
        let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
        assert_eq!(pressure(some).unwrap(), (17, None));
        assert_eq!(
            pressure(&format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")).unwrap(),
            (17, Some(5))
        );
    }

    #[test]
    fn a_garbled_pressure_file_is_refused() {
        for bad in ["", "some", "full total=3", "some total=", "some total=-1", "some avg10=1", "some total=1\nfull x"]
        {
            assert!(pressure(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn io_stat_counts_only_the_devices_asked_for_and_survives_joined_lines() {
        let text = "253:0 \n254:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 8:0 rbytes=5 wbytes=6\n";
        let whole = |major, _| major != 253;
        assert_eq!(io_stat(text, whole).unwrap(), DiskBytes { read: 15, written: 26 });
        assert_eq!(io_stat(text, |major, _| major == 254).unwrap(), DiskBytes { read: 10, written: 20 });
        assert!(io_stat("254:0 rbytes=x", whole).is_err());
    }

    #[test]
    fn io_service_bytes_leaves_the_total_out() {
        let text = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n254:0 Total 12288\nTotal 12288\n";
        assert_eq!(io_service_bytes(text, |_, _| true).unwrap(), DiskBytes { read: 4096, written: 8192 });
        assert!(io_service_bytes("254:0 Read", |_, _| true).is_err());
        assert_eq!(io_service_bytes("Total 0", |_, _| true).unwrap(), DiskBytes::default());
    }

    #[test]
    fn partitions_and_stacked_devices_are_not_whole_disks() {
        let listed = [
            "sda",
            "sda1",
            "nvme0n1",
            "nvme0n1p2",
            "mmcblk0",
            "mmcblk0p1",
            "mmcblk0boot0",
            "xvda1",
            "dm-0",
            "md0",
            "loop3",
        ];
        let whole: Vec<&str> =
            listed.into_iter().filter(|name| is_whole_disk(name, |other| listed.contains(&other))).collect();
        assert_eq!(whole, ["sda", "nvme0n1", "mmcblk0", "mmcblk0boot0", "xvda1"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[ -~\n]{0,200}|(some|full|[0-9]{1,3}:[0-9]|rbytes=[0-9]{1,22}|Read|Write|total=[0-9]{1,22}| |\n){0,40}") {
            let _ = pressure(&text);
            let _ = keyed(&text, "some");
            let _ = number(&text);
            let _ = io_stat(&text, |_, _| true);
            let _ = io_service_bytes(&text, |_, _| true);
            let _ = is_whole_disk(&text, |_| true);
        }
    }
}
