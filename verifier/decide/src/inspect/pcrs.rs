//! PCR values in the two forms that `tpm2_quote` writes beside a quote.
//!
//! `-F serialized` is the C layout of tpm2-tools, little endian: the number of banks (u32), sixteen banks of 8 bytes
//! {algorithm u16, size of the selection u8, selection 3 bytes, padding 2}, the number of lists (u32), and lists of
//! {number of digests u32, eight slots of {length u16, 64 bytes}}. `-F values` is the values alone, in the order of the
//! selection. Neither is signed: what holds follows from the signed selection and digest only.

use quotary_common::evidence::PcrValue;
use quotary_common::limits::PCR_COUNT;
use quotary_common::tpm::PcrSelection;

const BANKS_MAX: usize = 16;
const HEAD_BYTES: usize = 4 + BANKS_MAX * 8 + 4;
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 2 + 64;
const LIST_BYTES: usize = 4 + SLOTS * SLOT_BYTES;
/// Most lists: 24 PCRs of 16 banks.
const LISTS_MAX: usize = BANKS_MAX * PCR_COUNT / SLOTS;
/// Largest file of PCR values, in bytes.
pub const PCRS_BYTES_MAX: usize = HEAD_BYTES + LISTS_MAX * LIST_BYTES;

/// Values as they were supplied, under the numbers that hold for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuppliedPcrs {
    /// The serialized form: it names banks and indices itself.
    Serialized(Vec<PcrValue>),
    /// The values alone, under the numbers of the signed selection.
    Values(Vec<PcrValue>),
}

impl SuppliedPcrs {
    /// Reads either form: the serialized one is known by its length and content, everything else is values.
    ///
    /// # Errors
    /// What is wrong, where the bytes are neither.
    pub fn read(bytes: &[u8], signed: &PcrSelection) -> Result<Self, String> {
        match serialized(bytes) {
            Some(values) => Ok(Self::Serialized(values)),
            None => values(bytes, signed).map(Self::Values),
        }
    }
    /// The values.
    pub fn values(&self) -> &[PcrValue] {
        match self {
            Self::Serialized(values) | Self::Values(values) => values,
        }
    }
}

/// Bytes of a digest, SHA-1 included: whether a bank is accepted is not decided here.
const fn digest_bytes(hash_alg: u16) -> Option<usize> {
    match hash_alg {
        0x0004 => Some(20),
        0x000B | 0x0012 | 0x0027 => Some(32),
        0x000C | 0x0028 => Some(48),
        0x000D | 0x0029 => Some(64),
        _ => None,
    }
}

/// Writes the serialized form of values that stand in the order of the selection; `None` when they do not, or are too
/// long for it. Such a file reads back, and `tpm2_checkquote -f` takes it.
pub fn serialize_pcrs(values: &[PcrValue], selection: &PcrSelection) -> Option<Vec<u8>> {
    let banks = selection.banks();
    let in_order = selection.iter().eq(values.iter().map(|value| (value.hash_alg, value.index)));
    if !in_order || banks.len() > BANKS_MAX {
        return None;
    }
    let mut out = u32::try_from(banks.len()).ok()?.to_le_bytes().to_vec();
    for bank in banks {
        let bits = bank.indices().fold(0_u32, |bits, index| bits | 1 << index).to_le_bytes();
        out.extend_from_slice(&bank.hash_alg.to_le_bytes());
        // Three bytes of selection; the fourth byte and the padding after it are zero.
        out.push(3);
        out.extend_from_slice(&bits);
        out.push(0);
    }
    out.resize(HEAD_BYTES - 4, 0);
    out.extend_from_slice(&u32::try_from(values.len().div_ceil(SLOTS)).ok()?.to_le_bytes());
    for list in values.chunks(SLOTS) {
        let end = out.len() + LIST_BYTES;
        out.extend_from_slice(&u32::try_from(list.len()).ok()?.to_le_bytes());
        for value in list {
            let slot_end = out.len() + SLOT_BYTES;
            let length =
                u16::try_from(value.value.len()).ok().filter(|length| usize::from(*length) <= SLOT_BYTES - 2)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&value.value);
            out.resize(slot_end, 0);
        }
        out.resize(end, 0);
    }
    Some(out)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

/// The serialized form, if the bytes have it exactly.
fn serialized(bytes: &[u8]) -> Option<Vec<PcrValue>> {
    let lists = u32_at(bytes, HEAD_BYTES - 4).filter(|lists| *lists <= LISTS_MAX)?;
    if bytes.len() != HEAD_BYTES + lists * LIST_BYTES {
        return None;
    }
    let mut digests = digests(bytes, lists)?.into_iter();
    let mut values = Vec::new();
    for bank in 0..u32_at(bytes, 0).filter(|banks| *banks <= BANKS_MAX)? {
        let at = 4 + bank * 8;
        let hash_alg = u16_at(bytes, at)?;
        let [size, selected @ ..] = bytes.get(at + 2..at + 6)? else { return None };
        if *size > 4 {
            return None;
        }
        for index in
            (0..24_u8).filter(|index| selected.get(usize::from(index / 8)).is_some_and(|b| b >> (index % 8) & 1 == 1))
        {
            values.push(PcrValue { hash_alg, index, value: digests.next()?.to_vec() });
        }
    }
    digests.next().is_none().then_some(values)
}

/// The digests of all lists, in order.
fn digests(bytes: &[u8], lists: usize) -> Option<Vec<&[u8]>> {
    let mut digests = Vec::new();
    for list in 0..lists {
        let at = HEAD_BYTES + list * LIST_BYTES;
        for slot in 0..u32_at(bytes, at).filter(|count| *count <= SLOTS)? {
            let at = at + 4 + slot * SLOT_BYTES;
            let length = u16_at(bytes, at).map(usize::from).filter(|length| *length <= SLOT_BYTES - 2)?;
            digests.push(bytes.get(at + 2..at + 2 + length)?);
        }
    }
    Some(digests)
}

/// The values alone, cut by the signed selection.
fn values(bytes: &[u8], signed: &PcrSelection) -> Result<Vec<PcrValue>, String> {
    let mut values = Vec::new();
    let mut rest = bytes;
    for (hash_alg, index) in signed.iter() {
        let length =
            digest_bytes(hash_alg).ok_or_else(|| format!("bank 0x{hash_alg:04x} has no known digest length"))?;
        let Some((value, after)) = rest.split_at_checked(length) else {
            return Err(format!("{} bytes of values are too few for the signed PCRs {signed}", bytes.len()));
        };
        values.push(PcrValue { hash_alg, index, value: value.to_vec() });
        rest = after;
    }
    if rest.is_empty() {
        return Ok(values);
    }
    Err(format!("{} bytes of values are {} too many for the signed PCRs {signed}", bytes.len(), rest.len()))
}
