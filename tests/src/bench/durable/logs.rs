//! The logs of a host of the load: a real boot log once, and an IMA list that grows with every evidence.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use quotary_common::cbor::BoundedBytes;
use quotary_common::evidence::{ImaForm, ImaIncrement, PcrValue};
use quotary_common::id::Digest;
use quotary_common::limits::BOOT_LOG_BYTES_MAX;
use quotary_common::wire::LogsWanted;
use quotary_decide::eventlog::{Bank, EventLog, secure_boot};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A real log of 37 KiB, three banks.
const BOOT_LOG: &[u8] = include_bytes!("../../../data/attestation/eventlogs/ubuntu-2104-no-secure-boot.bin");
const SHA256: u16 = 0x000B;
/// Entries before the first evidence, and in each one after it.
const FIRST_ENTRIES: usize = 300;
const MORE_ENTRIES: usize = 5;
/// Hashes of the allow-list.
const ALLOWED: usize = 100_000;

/// The logs of one host.
#[derive(Debug, Clone)]
pub(super) struct HostLogs {
    values: Vec<PcrValue>,
    pcr_10: Digest,
    entries: usize,
    list_bytes: u64,
}

/// What goes into one evidence.
pub(super) struct Part {
    pub(super) values: Vec<PcrValue>,
    pub(super) boot_log: Option<BoundedBytes<BOOT_LOG_BYTES_MAX>>,
    pub(super) ima: ImaIncrement,
}

/// What the zone of the load asks of logs, in TOML; the allow-list stands beside it in `allowed.txt`.
pub(super) fn zone_toml() -> anyhow::Result<String> {
    let log = EventLog::parse(BOOT_LOG)?;
    let problems = log.problems().into_iter().chain(secure_boot(&log).problems);
    let mut codes: Vec<String> = problems.map(|problem| format!("{:?}", problem.code.code())).collect();
    codes.sort_unstable();
    codes.dedup();
    let pcrs = "sha256:0,1,2,3,4,5,6,7,8,9,10,14";
    Ok(format!("pcrs = \"{pcrs}\"\nima_on_unknown = \"shrink\"\n[zone.boot]\naccept = [{}]\n", codes.join(", ")))
}

/// The allow-list.
pub(super) fn allow_list() -> String {
    let mut text = String::new();
    for number in 0..ALLOWED {
        let (path, digest) = file(number);
        let _ = writeln!(text, "sha256:{}  {path}", digest.hex());
    }
    text
}

fn file(number: usize) -> (String, Digest) {
    let path = format!("/usr/lib/x86_64-linux-gnu/package-{:04}/library-{number:06}.so.1", number % 2500);
    (path, Digest::of(&[&number.to_le_bytes()]))
}

/// An ima-ng entry of the kernel's binary list, and SHA-256 of its template data.
fn entry(number: usize) -> anyhow::Result<(Vec<u8>, Digest)> {
    let (path, hash) = file(number);
    let field = |bytes: &[u8]| -> anyhow::Result<Vec<u8>> {
        Ok([&u32::try_from(bytes.len())?.to_le_bytes()[..], bytes].concat())
    };
    let data =
        [field(&[b"sha256:\0".as_slice(), hash.as_bytes()].concat())?, field(&[path.as_bytes(), b"\0"].concat())?]
            .concat();
    let template_hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &data);
    let bytes = [&10_u32.to_le_bytes()[..], template_hash.as_ref(), &field(b"ima-ng")?, &field(&data)?].concat();
    Ok((bytes, Digest::of(&[&data])))
}

impl HostLogs {
    /// A host that has just booted.
    pub(super) fn new() -> anyhow::Result<Self> {
        let replay = EventLog::parse(BOOT_LOG)?.replay();
        let value = |index| replay.value(Bank::Sha256, index).map_or_else(|| vec![0; 32], |v| v.as_bytes().to_vec());
        let values = (0..=9).chain([14]).map(|index| PcrValue { hash_alg: SHA256, index, value: value(index) });
        Ok(Self { values: values.collect(), pcr_10: Digest::new([0; 32]), entries: 0, list_bytes: 0 })
    }

    /// Runs some programs, and gives what the next evidence carries.
    pub(super) fn next(&mut self, wanted: &LogsWanted) -> anyhow::Result<Part> {
        let is_first = self.entries == 0;
        let offset_bytes = self.list_bytes;
        ensure!(wanted.boot_log && wanted.ima_list, "the verifier asks for no logs");
        ensure!(
            is_first || (wanted.has_boot_log && wanted.ima_offset_bytes == offset_bytes),
            "it holds less: {wanted:?}"
        );
        let mut bytes = Vec::new();
        for _ in 0..if is_first { FIRST_ENTRIES } else { MORE_ENTRIES } {
            // A large step: neighbours in the list are none in the allow-list.
            let (entry, data) = entry(self.entries.wrapping_mul(7919) % ALLOWED)?;
            bytes.extend(entry);
            self.pcr_10 = Digest::of(&[self.pcr_10.as_bytes(), data.as_bytes()]);
            self.entries += 1;
        }
        self.list_bytes += bytes.len() as u64;
        let bytes = BoundedBytes::new(bytes).context("the increment is too large")?;
        let boot_log = if is_first { BoundedBytes::new(BOOT_LOG.to_vec()) } else { None };
        let mut values = self.values.clone();
        let value = self.pcr_10.as_bytes().to_vec();
        values.insert(10, PcrValue { hash_alg: SHA256, index: 10, value });
        let ima = ImaIncrement { form: ImaForm::BinarySha1, offset_bytes, bytes, has_more: false };
        Ok(Part { values, boot_log, ima })
    }
}
