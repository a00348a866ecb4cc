//! PCR selections (`TPML_PCR_SELECTION`): which PCRs of which banks, in the order in which they were signed.

use super::{Cursor, HashAlg, TpmError};
use crate::limits::{PCR_BANKS_MAX, PCR_COUNT};

/// PCRs of one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrBank {
    /// TCG algorithm id of the bank (0x000B is SHA-256).
    pub hash_alg: u16,
    bits: u32,
}

impl PcrBank {
    /// A bank with these PCRs; indices of 24 and more do not exist.
    pub fn new(hash_alg: HashAlg, indices: &[u8]) -> Option<Self> {
        let mut bits = 0;
        for index in indices {
            if usize::from(*index) >= PCR_COUNT {
                return None;
            }
            bits |= 1 << index;
        }
        (bits != 0).then_some(Self { hash_alg: hash_alg.id(), bits })
    }
    /// Whether the PCR is among them.
    pub fn contains(&self, index: u8) -> bool {
        self.bits.checked_shr(u32::from(index)).is_some_and(|bits| bits & 1 == 1)
    }
    /// The indices, ascending: the order in which a TPM hashes their values.
    pub fn indices(self) -> impl Iterator<Item = u8> {
        (0..24_u8).filter(move |index| self.contains(*index))
    }
}

/// PCRs of several banks: each bank once, none empty, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection {
    banks: Vec<PcrBank>,
}

impl PcrSelection {
    /// From banks, in this order; `None` when there is none, too many, or one twice.
    pub fn new(banks: Vec<PcrBank>) -> Option<Self> {
        let mut algs: Vec<u16> = banks.iter().map(|bank| bank.hash_alg).collect();
        algs.sort_unstable();
        algs.dedup();
        (!banks.is_empty() && banks.len() <= PCR_BANKS_MAX && algs.len() == banks.len()).then_some(Self { banks })
    }
    /// PCRs 0 to 7 of the SHA-256 bank: firmware, boot loader and Secure Boot state (wire.md, settled question 10).
    pub fn firmware() -> Self {
        Self { banks: vec![PcrBank { hash_alg: HashAlg::Sha256.id(), bits: 0xFF }] }
    }
    /// The banks, in order.
    pub fn banks(&self) -> &[PcrBank] {
        &self.banks
    }
    /// Every (bank, index) in the order in which a TPM hashes the values.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u8)> {
        self.banks.iter().flat_map(|bank| bank.indices().map(|index| (bank.hash_alg, index)))
    }
    /// How many PCRs.
    pub fn count(&self) -> usize {
        self.iter().count()
    }
    /// Whether both select the same PCRs, in whatever order of banks.
    pub fn same_pcrs(&self, other: &Self) -> bool {
        self.banks.len() == other.banks.len() && self.banks.iter().all(|bank| other.banks.contains(bank))
    }
    /// All PCRs of both; banks in the order of this selection, then of the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut banks = self.banks.clone();
        for bank in &other.banks {
            match banks.iter_mut().find(|have| have.hash_alg == bank.hash_alg) {
                Some(have) => have.bits |= bank.bits,
                None => banks.push(*bank),
            }
        }
        banks.truncate(PCR_BANKS_MAX);
        Self { banks }
    }
    /// Reads `TPML_PCR_SELECTION`: at most 16 banks, `sizeofSelect` exactly 3, no bank twice, none empty.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, TpmError> {
        let count = cursor.u32("the number of PCR banks")?;
        if count == 0 || count > 16 {
            return Err(cursor.fault("the number of PCR banks is not 1 to 16"));
        }
        let mut banks: Vec<PcrBank> = Vec::new();
        for _ in 0..count {
            let hash_alg = cursor.u16("the algorithm of a PCR bank")?;
            if cursor.u8("sizeofSelect")? != 3 {
                return Err(cursor.fault("sizeofSelect is not 3"));
            }
            // The first byte holds PCRs 0 to 7, its lowest bit PCR 0.
            let [low, middle, high] = cursor.array("pcrSelect")?;
            let bits = u32::from_le_bytes([low, middle, high, 0]);
            if bits == 0 {
                return Err(cursor.fault("a bank without a PCR"));
            }
            if banks.iter().any(|bank| bank.hash_alg == hash_alg) {
                return Err(cursor.fault("a bank twice"));
            }
            banks.push(PcrBank { hash_alg, bits });
        }
        Ok(Self { banks })
    }
}

/// The notation of TPM tools: `sha256:0,1,7+sha384:4`.
impl std::fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, bank) in self.banks.iter().enumerate() {
            let plus = if i == 0 { "" } else { "+" };
            match HashAlg::from_id(bank.hash_alg) {
                Some(alg) => write!(f, "{plus}{}:", alg.name())?,
                None => write!(f, "{plus}0x{:04x}:", bank.hash_alg)?,
            }
            for (j, index) in bank.indices().enumerate() {
                let comma = if j == 0 { "" } else { "," };
                write!(f, "{comma}{index}")?;
            }
        }
        Ok(())
    }
}

/// Text that is no PCR selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a PCR selection: expected banks of sha256, sha384 or sha512 with indices 0 to 23, as `sha256:0,1,7`")]
pub struct SelectionTextError;

impl std::str::FromStr for PcrSelection {
    type Err = SelectionTextError;
    fn from_str(text: &str) -> Result<Self, SelectionTextError> {
        if text.len() > 1024 {
            return Err(SelectionTextError);
        }
        let mut banks = Vec::new();
        for part in text.split('+') {
            let (name, list) = part.split_once(':').ok_or(SelectionTextError)?;
            let alg = HashAlg::from_name(name.trim()).ok_or(SelectionTextError)?;
            let indices = list.split(',').map(|index| index.trim().parse::<u8>());
            let indices = indices.collect::<Result<Vec<_>, _>>().map_err(|_| SelectionTextError)?;
            banks.push(PcrBank::new(alg, &indices).ok_or(SelectionTextError)?);
        }
        Self::new(banks).ok_or(SelectionTextError)
    }
}

impl serde::Serialize for PcrSelection {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> serde::Deserialize<'de> for PcrSelection {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<PcrSelection, TpmError> {
        let mut cursor = Cursor::new("T", bytes, 1024)?;
        let selection = PcrSelection::read(&mut cursor)?;
        cursor.end()?;
        Ok(selection)
    }

    #[test]
    fn the_notation_of_tpm_tools_reads_back() {
        for text in ["sha256:0,1,2,3,4,5,6,7", "sha384:4+sha256:16,23"] {
            assert_eq!(text.parse::<PcrSelection>().unwrap().to_string(), text);
        }
        for text in ["", "sha1:0", "sha256:", "sha256:24", "sha256:0+sha256:1", "sha256:-1", "sha256"] {
            assert!(text.parse::<PcrSelection>().is_err(), "{text}");
        }
        assert_eq!(PcrSelection::firmware(), "sha256:0,1,2,3,4,5,6,7".parse().unwrap());
        let padded = |spaces: usize| format!("sha256:{}0", " ".repeat(spaces)).parse::<PcrSelection>();
        assert_eq!(padded(1024 - 8).unwrap().to_string(), "sha256:0");
        assert!(padded(1024 - 7).is_err(), "1025 bytes");
    }

    #[test]
    fn only_three_select_bytes_per_bank_and_each_bank_once() {
        let good = [0, 0, 0, 2, 0, 0x0C, 3, 0x10, 0, 0, 0, 0x0B, 3, 0, 0, 0x81];
        let selection = read(&good).unwrap();
        assert_eq!(selection.iter().collect::<Vec<_>>(), [(0x0C, 4), (0x0B, 16), (0x0B, 23)]);
        assert!(selection.same_pcrs(&"sha256:16,23+sha384:4".parse().unwrap()));
        assert!(!selection.same_pcrs(&"sha256:16,23".parse().unwrap()));
        assert!(!selection.same_pcrs(&"sha256:16,22+sha384:4".parse().unwrap()));
        for bad in [
            &[0, 0, 0, 0][..],                                       // no bank
            &[0, 0, 0, 17, 0, 0x0B, 3, 1, 0, 0],                     // too many
            &[0, 0, 0, 1, 0, 0x0B, 4, 1, 0, 0, 0],                   // four select bytes
            &[0, 0, 0, 1, 0, 0x0B, 2, 1, 0],                         // two
            &[0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0],                      // empty
            &[0, 0, 0, 2, 0, 0x0B, 3, 1, 0, 0, 0, 0x0B, 3, 2, 0, 0], // twice
            &[0xFF, 0xFF, 0xFF, 0xFF],                               // a count that would take all memory
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sixteen_banks_read_and_seventeen_do_not() {
        let banks = |count: u8| {
            let each = (0..count).flat_map(|alg| [0, alg, 3, 1, 0, 0]);
            read(&[0, 0, 0, count].into_iter().chain(each).collect::<Vec<_>>()).map(|selection| selection.count())
        };
        assert_eq!((banks(1), banks(16)), (Ok(1), Ok(16)));
        assert!(banks(17).is_err());
    }

    #[test]
    fn a_union_holds_the_pcrs_of_both() {
        let one: PcrSelection = "sha256:0,1".parse().unwrap();
        let other: PcrSelection = "sha384:2+sha256:1,7".parse().unwrap();
        assert_eq!(one.union(&other).to_string(), "sha256:0,1,7+sha384:2");
    }
}
