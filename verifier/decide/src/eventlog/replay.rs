//! Replays a log: what each PCR of each bank holds if these events, and no others, were extended in this order.

use quotary_common::limits::PCR_COUNT;

use super::bank::{Bank, BankDigest};
use super::efi::{EXIT_BOOT_SERVICES_INVOCATION, EXIT_BOOT_SERVICES_SUCCESS};
use super::event::Event;
use super::measurelog::MeasureLog;
use super::parse::EventLog;
use super::problem::{Problem, ProblemCode, Problems};

/// One bank while it is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BankState {
    bank: Bank,
    values: [BankDigest; PCR_COUNT],
    extended: [bool; PCR_COUNT],
}

impl BankState {
    /// After `TPM2_Startup(CLEAR)`: zeros, but ones in the PCRs of a dynamic launch (17 to 22), and the locality of
    /// the start in the last byte of PCR 0 (TPM 2.0 Library, Part 1, PCR; PC Client profile 1.06, 10.4.5.3).
    fn reset(bank: Bank, start_locality: u8) -> Self {
        let mut values = [BankDigest::filled(bank, 0); PCR_COUNT];
        for value in values.iter_mut().take(23).skip(17) {
            *value = BankDigest::filled(bank, 0xFF);
        }
        values[0] = values[0].with_last(start_locality);
        Self { bank, values, extended: [false; PCR_COUNT] }
    }
    fn extend(&mut self, pcr: u8, digest: &[u8]) {
        let place = usize::from(pcr);
        if let (Some(value), Some(extended)) = (self.values.get_mut(place), self.extended.get_mut(place)) {
            *value = self.bank.digest(&[value.as_bytes(), digest]);
            *extended = true;
        }
    }
}

/// The values that follow from a log. They are claims until a quote covers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    banks: Vec<BankState>,
}

impl Replay {
    /// The banks, ascending by algorithm id.
    pub fn banks(&self) -> impl Iterator<Item = Bank> {
        self.banks.iter().map(|state| state.bank)
    }
    /// The value of a PCR that the log extends; `None` when it does not, or the bank is not in it.
    pub fn value(&self, bank: Bank, pcr: u8) -> Option<&BankDigest> {
        let state = self.state(bank)?;
        let extended = state.extended.get(usize::from(pcr)).copied()?;
        if extended { state.values.get(usize::from(pcr)) } else { None }
    }
    /// The value that a PCR must have if nothing but the log extended it: where the log says nothing, the one after a
    /// start of the TPM. `None` when the bank or the PCR does not exist.
    pub fn expected(&self, bank: Bank, pcr: u8) -> Option<&BankDigest> {
        self.state(bank)?.values.get(usize::from(pcr))
    }
    /// The PCRs of a bank that the log extends, ascending, with their values.
    pub fn extended(&self, bank: Bank) -> impl Iterator<Item = (u8, &BankDigest)> {
        (0..24_u8).filter_map(move |pcr| Some((pcr, self.value(bank, pcr)?)))
    }
    /// The same after the measurements that the running system made since.
    #[must_use]
    pub fn then(&self, userspace: &MeasureLog) -> Self {
        let mut after = self.clone();
        for record in userspace.records() {
            for state in &mut after.banks {
                if let Some(digest) = record.digest(state.bank) {
                    state.extend(record.pcr(), digest.as_bytes());
                }
            }
        }
        after
    }
    fn state(&self, bank: Bank) -> Option<&BankState> {
        self.banks.iter().find(|state| state.bank == bank)
    }
}

impl EventLog<'_> {
    /// Replays every bank that the header names.
    pub fn replay(&self) -> Replay {
        let reset = |bank| BankState::reset(bank, self.start_locality());
        let mut banks: Vec<BankState> = self.banks().into_iter().map(reset).collect();
        for event in self.events() {
            let Some(pcr) = event.extends() else { continue };
            for state in &mut banks {
                if let Some(digest) = event.digest(state.bank) {
                    state.extend(pcr, digest);
                }
            }
        }
        Replay { banks }
    }
    /// Whether the log records that firmware handed over. Told by digest, in all banks that count, since a type and
    /// data are claims.
    pub(super) fn records_exit_boot_services(&self) -> bool {
        let digest = |bank: Bank| (bank, bank.digest(&[EXIT_BOOT_SERVICES_INVOCATION]));
        let expected: Vec<(Bank, BankDigest)> = self.banks_to_check().into_iter().map(digest).collect();
        let holds = |event: &Event<'_>| {
            let has = |(bank, digest): &(Bank, BankDigest)| event.digest(*bank) == Some(digest.as_bytes());
            event.extends() == Some(5) && expected.iter().all(has)
        };
        !expected.is_empty() && self.events().iter().any(holds)
    }
}

/// Why a PCR is not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MismatchCode {
    /// The log extends the PCR to another value: `pcr-mismatch`.
    Value,
    /// The log does not extend the PCR, yet something did: `pcr-not-recorded`.
    NotRecorded,
    /// The log has no such bank or PCR: `bank-not-recorded`.
    Bank,
}

impl MismatchCode {
    /// The code as it is printed.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Value => "pcr-mismatch",
            Self::NotRecorded => "pcr-not-recorded",
            Self::Bank => "bank-not-recorded",
        }
    }
}

/// A PCR whose value is not the one that follows from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The bank.
    pub bank: Bank,
    /// The PCR.
    pub pcr: u8,
    /// What is wrong.
    pub code: MismatchCode,
    /// What follows from the log; `None` when it has no such bank or PCR.
    pub replayed: Option<BankDigest>,
    /// The value that was given.
    pub given: Vec<u8>,
}

/// Holds given values of a bank against a replay; the mismatches in the order of the values, empty when all agree.
pub fn compare<'v>(replay: &Replay, bank: Bank, values: impl IntoIterator<Item = (u8, &'v [u8])>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (pcr, given) in values {
        let replayed = replay.expected(bank, pcr).copied();
        let code = match replayed {
            None => MismatchCode::Bank,
            Some(value) if value.as_bytes() == given => continue,
            Some(_) if replay.value(bank, pcr).is_none() => MismatchCode::NotRecorded,
            Some(_) => MismatchCode::Value,
        };
        mismatches.push(Mismatch { bank, pcr, code, replayed, given: given.to_vec() });
    }
    mismatches
}

/// Exceptions that a caller names; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leniency {
    /// The log may lack both Exit Boot Services events that firmware extended into PCR 5.
    pub missing_exit_boot_services: bool,
}

/// What a comparison with exceptions came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What does not agree, even with the exceptions.
    pub mismatches: Vec<Mismatch>,
    /// The exceptions that were needed.
    pub problems: Vec<Problem>,
}

/// As [`compare`], with the exceptions that the caller names; each that was needed is a problem with its own code.
pub fn compare_with<'v>(
    log: &EventLog<'_>,
    replay: &Replay,
    bank: Bank,
    values: impl IntoIterator<Item = (u8, &'v [u8])>,
    leniency: Leniency,
) -> Comparison {
    let mut problems = Problems::default();
    let mut mismatches = compare(replay, bank, values);
    if leniency.missing_exit_boot_services && !log.records_exit_boot_services() {
        mismatches.retain(|mismatch| {
            let Some(replayed) = mismatch.replayed.filter(|_| mismatch.pcr == 5) else { return true };
            let value = [EXIT_BOOT_SERVICES_INVOCATION, EXIT_BOOT_SERVICES_SUCCESS]
                .iter()
                .fold(replayed, |at, text| bank.digest(&[at.as_bytes(), bank.digest(&[text]).as_bytes()]));
            let fits = value.as_bytes() == mismatch.given;
            if fits {
                let detail = "PCR 5 fits after both Exit Boot Services events are added";
                problems.push(ProblemCode::ExitBootServicesAssumed, None, detail);
            }
            !fits
        });
    }
    Comparison { mismatches, problems: problems.into_vec() }
}
