//! A measurement list in increments against a quoted PCR 10, appraised by an allow-list of 100,000 hashes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quotary_common::id::Digest;
use quotary_decide::ima::{
    Aggregate, AllowList, INCREMENT_BYTES_MAX, Increment, ListForm, Outcome, Reference, SignerKeys, fold,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde::Serialize;

use super::super::report::{Line, median, progress, short};
use super::super::{ROUNDS, cpu};

/// Hashes of the allow-list.
const ALLOWED: usize = 100_000;
/// Entries of a list: more than a busy host has after a week.
const ENTRIES: usize = 200_000;

/// One form of list.
#[derive(Debug, Clone, Serialize)]
pub struct ImaList {
    /// `binary, SHA-1 template hashes` or `binary, SHA-256 template hashes`.
    pub form: &'static str,
    /// Its size.
    pub bytes: usize,
    /// Its entries.
    pub entries: usize,
    /// Hashes of the allow-list.
    pub allowed: usize,
    /// Median over the rounds: entries per second of CPU time.
    pub entries_per_core_second: f64,
}

impl ImaList {
    pub(super) fn line(&self) -> Line {
        let what = format!("IMA list, {}, {} entries, {} bytes", self.form, self.entries, self.bytes);
        let value = format!("{} entries/s and core, {} hashes", short(self.entries_per_core_second), self.allowed);
        Line::new(what, value)
    }
}

/// A list that its reference allows whole, and what PCR 10 is after it.
struct Case {
    form: ListForm,
    list: Vec<u8>,
    quoted: Digest,
    reference: Reference,
}

pub(super) fn measure(round: Duration) -> anyhow::Result<Vec<ImaList>> {
    let forms = [
        ("binary, SHA-1 template hashes", ListForm::BinarySha1),
        ("binary, SHA-256 template hashes", ListForm::BinarySha256),
    ];
    forms.into_iter().map(|(name, form)| measure_form(name, &Case::new(form, ALLOWED, ENTRIES)?, round)).collect()
}

fn measure_form(form: &'static str, case: &Case, round: Duration) -> anyhow::Result<ImaList> {
    progress(&format!("IMA list, {form}"));
    case.run(Duration::from_millis(200))?;
    let rounds = (0..ROUNDS).map(|_| case.run(round)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(ImaList {
        form,
        bytes: case.list.len(),
        entries: ENTRIES,
        allowed: case.reference.allowed().len(),
        entries_per_core_second: median(rounds.into_iter()),
    })
}

impl Case {
    fn new(form: ListForm, allowed: usize, entries: usize) -> anyhow::Result<Self> {
        let pair = |number: usize| (path(number), Digest::of(&[&number.to_le_bytes()]));
        let allowed_list = AllowList::new((0..allowed).map(pair).collect())?;
        let reference = Reference::new(allowed_list, SignerKeys::new(Vec::new())?, Vec::new(), Vec::new())?;
        let mut list = Vec::new();
        let mut pcr_10 = Digest::new([0; 32]);
        for at in 0..entries {
            // A large step: neighbours in the list are none in the allow-list.
            let (path, digest) = pair(at.wrapping_mul(7919) % allowed);
            let data = template_data(&path, &digest)?;
            list.extend_from_slice(&10_u32.to_le_bytes());
            let algorithm = if form == ListForm::BinarySha1 { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 };
            list.extend_from_slice(ring::digest::digest(algorithm, &data).as_ref());
            list.extend_from_slice(&6_u32.to_le_bytes());
            list.extend_from_slice(b"ima-ng");
            list.extend_from_slice(&u32::try_from(data.len())?.to_le_bytes());
            list.extend_from_slice(&data);
            pcr_10 = Digest::of(&[pcr_10.as_bytes(), Digest::of(&[&data]).as_bytes()]);
        }
        Ok(Self { form, list, quoted: pcr_10, reference })
    }

    /// The whole list, as its agent sends it; the state after it.
    fn take_whole(&self) -> anyhow::Result<Aggregate> {
        let mut state = Aggregate::start(1, self.form, self.reference.digest());
        loop {
            let from = usize::try_from(state.offset_bytes())?;
            let rest = self.list.get(from..).context("an offset within the list")?;
            let bytes = rest.get(..INCREMENT_BYTES_MAX).unwrap_or(rest);
            let has_more = bytes.len() < rest.len();
            let increment =
                Increment { reset_count: 1, form: self.form, offset_bytes: state.offset_bytes(), bytes, has_more };
            let folded = fold(&state, black_box(increment), &self.quoted, &self.reference);
            ensure!(
                folded.findings.count() == 0,
                "an allowed entry is a finding: {:?}",
                folded.findings.told().first()
            );
            state = folded.state;
            match folded.outcome {
                Outcome::Proven => return Ok(state),
                Outcome::Behind if has_more => {}
                other => anyhow::bail!("the list is not proven: {other:?}"),
            }
        }
    }

    /// Entries per second of CPU time.
    fn run(&self, for_so_long: Duration) -> anyhow::Result<f64> {
        let mut entries = 0;
        let started = Instant::now();
        let begin = cpu::of_this_thread();
        while started.elapsed() < for_so_long || entries == 0 {
            entries += black_box(self.take_whole()?).entries();
        }
        let spent = cpu::of_this_thread().saturating_sub(begin).as_secs_f64();
        ensure!(spent > 0.0, "the round was too short to measure");
        Ok(entries as f64 / spent)
    }
}

/// As long as the paths of a distribution are.
fn path(number: usize) -> Vec<u8> {
    format!("/usr/lib/x86_64-linux-gnu/package-{:04}/library-{number:06}.so.1", number % 2500).into_bytes()
}

/// `d-ng|n-ng` (IMA-templates.rst of Linux).
fn template_data(path: &[u8], digest: &Digest) -> anyhow::Result<Vec<u8>> {
    let digest = [&b"sha256:\0"[..], digest.as_bytes()].concat();
    let path = [path, &[0]].concat();
    let length = |field: &[u8]| u32::try_from(field.len()).map(u32::to_le_bytes);
    Ok([&length(&digest)?[..], &digest, &length(&path)?, &path].concat())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_proven_whole_and_one_that_is_not_allowed_is_no_figure() {
        for form in [ListForm::BinarySha1, ListForm::BinarySha256] {
            let mut case = Case::new(form, 50, 100).unwrap();
            assert_eq!(case.take_whole().unwrap().entries(), 100);
            *case.list.last_mut().unwrap() = 1;
            assert!(case.take_whole().is_err());
        }
        let mut case = Case::new(ListForm::BinarySha1, 50, 100).unwrap();
        case.reference = Case::new(ListForm::BinarySha1, 49, 1).unwrap().reference;
        assert!(case.take_whole().is_err(), "a file that is not allowed");
    }
}
