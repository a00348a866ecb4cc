//! Histories for tests, by the stored form of chunks: the only way to one that needs no evidence.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::id::HostId;
use quotary_common::units::ResourceKind;
use quotary_decide::history::{Chunk, History, SeriesKey, Subject};

pub(super) const MINUTE_MS: u64 = 60_000;

/// A host by a number.
pub(super) fn host(id: u8) -> HostId {
    HostId::new([id; 32])
}

/// The CPU of a host.
pub(super) fn cpu_of(id: u8) -> SeriesKey {
    SeriesKey { host: Some(host(id)), subject: Subject::Host, measure: ResourceKind::Cpu.into() }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// A chunk of one series of a host's CPU: minutes from number `first` on, one sample each.
pub(super) fn chunk(first: u64, values: &[u64]) -> Chunk {
    let mut bytes = vec![1, 0];
    // Enrolment, sequence, grain, one series: the host, without a name, its CPU, no pressure.
    for number in [1, first, MINUTE_MS, 1, 0, 0, ResourceKind::Cpu as u64, 0, 0, values.len() as u64] {
        put(&mut bytes, number);
    }
    (0..values.len()).for_each(|at| put(&mut bytes, if at == 0 { first } else { 0 }));
    // One sample, not censored, and then the same; means by differences, zigzag.
    (0..values.len()).for_each(|at| put(&mut bytes, if at == 0 { 2 << 1 } else { 0 }));
    let mut before = 0_i64;
    for value in values {
        let value = i64::try_from(*value).unwrap();
        put(&mut bytes, (((value - before) << 1) ^ ((value - before) >> 63)).cast_unsigned());
        before = value;
    }
    (0..2 * values.len()).for_each(|_| put(&mut bytes, 0));
    Chunk::from_bytes(&bytes).unwrap()
}

/// Adds minutes to a host's CPU.
pub(super) fn fill(history: &mut History, id: u8, first: u64, values: &[u64]) {
    history.restore(Some(host(id)), &chunk(first, values), (first + values.len() as u64 + 1) * MINUTE_MS);
}
