//! What is odd about a log as a whole. PCR 7 has a stricter judge of its own: [`super::secure_boot()`].

use super::bank::{Bank, BankDigest};
use super::efi::Variable;
use super::event::{Event, EventType};
use super::parse::EventLog;
use super::problem::{Problem, ProblemCode, Problems};
use super::text::ipl_text_is_measured;

/// The two values that a separator may have without telling of an error (PC Client profile 1.06, 10.4.1).
pub(super) const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xFF; 4]];

impl EventLog<'_> {
    /// Everything odd about the log but for PCR 7, in the order of the checks.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.extend(self.reading_problems());
        if self.banks().iter().all(|bank| bank.strong().is_none()) {
            problems.push(ProblemCode::Sha1Only, None, "nothing in this log can be trusted");
        }
        let banks = self.banks_to_check();
        check_separators(self, &SeparatorDigests::new(&banks), &mut problems);
        for event in self.events() {
            check_data(event, &banks, &mut problems);
        }
        if !self.records_exit_boot_services() {
            let detail = "events after the firmware's cannot be told from its own";
            problems.push(ProblemCode::ExitBootServicesMissing, None, detail);
        }
        problems.into_vec()
    }
}

/// The digests of separators, by which they are known whatever type they claim.
#[derive(Debug, Default)]
pub(super) struct SeparatorDigests(Vec<(Bank, [BankDigest; 2])>);

impl SeparatorDigests {
    pub(super) fn new(banks: &[Bank]) -> Self {
        Self(banks.iter().map(|bank| (*bank, SEPARATORS.map(|value| bank.digest(&[&value])))).collect())
    }
    /// Whether the event has such a digest in any of the banks: which of them is quoted is not known here.
    pub(super) fn has(&self, event: &Event<'_>) -> bool {
        let is_one = |bank, known: &[BankDigest; 2]| {
            event.digest(bank).is_some_and(|digest| known.iter().any(|value| value.as_bytes() == digest))
        };
        self.0.iter().any(|(bank, known)| is_one(*bank, known))
    }
}

/// PCRs 0 to 6: one separator each. From PCR 4 on a separator is known by its digest, since a type may lie about what
/// came before and after it. (Below, firmware exists that measures an empty S-CRTM with the same digest.)
fn check_separators(log: &EventLog<'_>, known: &SeparatorDigests, problems: &mut Problems) {
    let mut extended = [false; 7];
    let mut separators = [0_u32; 7];
    for event in log.events() {
        let Some(place) = event.extends().map(usize::from).filter(|pcr| *pcr < 7) else { continue };
        let claims = event.event_type() == EventType::SEPARATOR;
        let is_one = place >= 4 && known.has(event);
        if claims && !SEPARATORS.iter().any(|value| event.data() == value) {
            problems.push(ProblemCode::SeparatorValue, Some(event.number()), &format!("PCR {place}"));
        }
        if is_one && !claims {
            let detail = format!("PCR {place}: an {} has a separator's digest", event.event_type());
            problems.push(ProblemCode::SeparatorRelabelled, Some(event.number()), &detail);
        }
        if let (Some(extended), Some(count)) = (extended.get_mut(place), separators.get_mut(place)) {
            *extended = true;
            *count += u32::from(claims || is_one);
            if *count == 2 {
                problems.push(ProblemCode::DuplicateSeparator, Some(event.number()), &format!("PCR {place}"));
            }
        }
    }
    for (pcr, (extended, count)) in extended.into_iter().zip(separators).enumerate() {
        if extended && count == 0 {
            problems.push(ProblemCode::SeparatorMissing, None, &format!("PCR {pcr}"));
        }
    }
}

/// Data against digest, where the specification says that the digest is that of the data.
fn check_data(event: &Event<'_>, banks: &[Bank], problems: &mut Problems) {
    let Some(pcr) = event.extends().filter(|pcr| *pcr != 7) else { return };
    let data = event.data();
    let covers = |bytes: &[u8]| banks.iter().all(|bank| event.digest(*bank).is_none() || event.measures(*bank, bytes));
    let holds = match event.event_type() {
        EventType::SEPARATOR
        | EventType::EFI_ACTION
        | EventType::S_CRTM_VERSION
        | EventType::EFI_GPT_EVENT
        | EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType::EFI_VARIABLE_BOOT2 => covers(data),
        // Older firmware measures the variable's data alone.
        EventType::EFI_VARIABLE_BOOT => covers(data) || Variable::read(data).is_some_and(|v| covers(v.data)),
        _ => true,
    };
    if !holds {
        let detail = format!("PCR {pcr}: the data of {} is not what was measured", event.event_type());
        problems.push(ProblemCode::DigestMismatch, Some(event.number()), &detail);
    }
    // The boot loader's words, among them the kernel's command line. (In PCR 9, 11 and 14 the digest is that of a file.)
    let is_words = event.event_type() == EventType::IPL && pcr == 8;
    if is_words && !banks.iter().all(|bank| event.digest(*bank).is_none() || ipl_text_is_measured(event, *bank)) {
        let detail = format!("PCR {pcr}: the digest is of something else than the text");
        problems.push(ProblemCode::TextNotMeasured, Some(event.number()), &detail);
    }
}
