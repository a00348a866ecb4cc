//! Secure Boot as PCR 7 tells it (PC Client profile 1.06, 3.3.4.8), strictly: one doubt and the state cannot be said.
//!
//! Why it holds: types are claims, so a lying host may relabel what firmware measured and extend words of its own. But
//! its words come after firmware's separator, whose digest is known, and there only authority events are accepted;
//! every event before must be a variable whose data hashes to its digest, with no name twice.

use super::bank::Bank;
use super::check::{SEPARATORS, SeparatorDigests};
use super::efi::{
    GLOBAL_VARIABLE, Guid, IMAGE_SECURITY_DATABASE, SignatureDatabase, Variable, authority_certificate, sha256,
};
use super::event::{Event, EventType};
use super::parse::EventLog;
use super::problem::{Problem, ProblemCode, Problems};
use super::text::{EventText, printable};

/// The variables that the profile wants in PCR 7, with their vendor GUID.
const VARIABLES: [(&str, &Guid); 5] = [
    ("SecureBoot", &GLOBAL_VARIABLE),
    ("PK", &GLOBAL_VARIABLE),
    ("KEK", &GLOBAL_VARIABLE),
    ("db", &IMAGE_SECURITY_DATABASE),
    ("dbx", &IMAGE_SECURITY_DATABASE),
];
/// Names that never are an authority: an event with one of them before the separator is a relabelled variable.
const NEVER_AUTHORITY: [&str; 7] = ["SecureBoot", "PK", "KEK", "dbx", "SetupMode", "AuditMode", "DeployedMode"];

/// What verified an image: an entry of db, of shim's lists, or shim's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootAuthority {
    /// The event's number.
    pub event: u32,
    /// The variable that it names (`db`, `Shim`, `MokList`, `SbatLevel`).
    pub variable: EventText,
    /// SHA-256 of the DER certificate, when the entry is one.
    pub certificate: Option<[u8; 32]>,
    /// SHA-256 of the whole entry.
    pub sha256: [u8; 32],
}

/// What PCR 7 says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecureBoot {
    /// On, off, or `None`: it cannot be said, and `problems` says why. With a problem it is always `None`.
    pub state: Option<bool>,
    /// What verified images before the separator (drivers).
    pub authorities_before_separator: Vec<BootAuthority>,
    /// And after it (boot loaders, kernels). The running system can add to these, and take none away.
    pub authorities_after_separator: Vec<BootAuthority>,
    /// PK.
    pub platform_key: Option<SignatureDatabase>,
    /// KEK.
    pub key_exchange_keys: Option<SignatureDatabase>,
    /// db.
    pub allowed: Option<SignatureDatabase>,
    /// dbx.
    pub forbidden: Option<SignatureDatabase>,
    /// Whether firmware says that DMA protection is off.
    pub dma_protection_disabled: bool,
    /// Why the state cannot be said.
    pub problems: Vec<Problem>,
}

/// Appraises PCR 7 of a log. Against a quote it holds only if the log's PCR 7 replays to the quoted value in one of the
/// log's strong banks; for a log with SHA-1 alone (`sha1-only`) it is what the log says, and no more.
pub fn secure_boot(log: &EventLog<'_>) -> SecureBoot {
    let banks = log.banks_to_check();
    let mut judge = Judge { separators: SeparatorDigests::new(&banks), banks, ..Judge::default() };
    for event in log.events().iter().filter(|event| event.extends() == Some(7)) {
        judge.event(event);
    }
    judge.conclude()
}

#[derive(Default)]
struct Judge {
    banks: Vec<Bank>,
    separators: SeparatorDigests,
    /// Whether the separator came.
    separator: bool,
    names: std::collections::BTreeSet<String>,
    state: Option<bool>,
    out: SecureBoot,
    problems: Problems,
}

impl Judge {
    fn event(&mut self, event: &Event<'_>) {
        if self.banks.iter().any(|bank| event.digest(*bank).is_none()) {
            // In a bank that lacks it the event never happened, so its words could be anyone's.
            return self.doubt(ProblemCode::DigestMissing, event, "PCR 7: an event lacks a bank's digest");
        }
        let claims_separator = event.event_type() == EventType::SEPARATOR;
        if !claims_separator && self.separators.has(event) {
            let detail = format!("PCR 7: an {} has a separator's digest", event.event_type());
            self.doubt(ProblemCode::SeparatorRelabelled, event, &detail);
        }
        match event.event_type() {
            EventType::SEPARATOR => self.separator(event),
            EventType::EFI_VARIABLE_DRIVER_CONFIG => self.variable(event),
            EventType::EFI_VARIABLE_AUTHORITY => self.authority(event),
            EventType::EFI_ACTION => self.action(event),
            other => self.doubt(ProblemCode::UnknownTypeInPcr7, event, &format!("PCR 7: {other}")),
        }
    }
    fn separator(&mut self, event: &Event<'_>) {
        if std::mem::replace(&mut self.separator, true) {
            self.doubt(ProblemCode::DuplicateSeparator, event, "PCR 7");
        }
        if !SEPARATORS.iter().any(|value| event.data() == value) {
            self.doubt(ProblemCode::SeparatorValue, event, "PCR 7");
        }
        self.must_cover(event, event.data());
    }
    fn action(&mut self, event: &Event<'_>) {
        self.must_cover(event, event.data());
        match event.data() {
            b"UEFI Debug Mode" => self.doubt(ProblemCode::DebugMode, event, "a debugger could change anything"),
            b"DMA Protection Disabled" => self.out.dma_protection_disabled = true,
            _ => self.doubt(ProblemCode::UnknownActionInPcr7, event, "PCR 7: an action of unknown words"),
        }
    }
    fn variable(&mut self, event: &Event<'_>) {
        let Some(variable) = Variable::read(event.data()).filter(|variable| variable.trailing.is_empty()) else {
            return self.doubt(ProblemCode::VariableMalformed, event, "PCR 7: a length in it cannot be");
        };
        let name = variable.name.as_str();
        if self.separator {
            self.doubt(ProblemCode::VariableAfterSeparator, event, name);
        }
        if !self.names.insert(variable.name.clone()) {
            self.doubt(ProblemCode::DuplicateVariable, event, name);
        }
        self.must_cover(event, event.data());
        let Some((_, vendor)) = VARIABLES.iter().find(|(known, _)| *known == name) else { return };
        if variable.vendor != **vendor {
            return self.doubt(ProblemCode::VariableVendor, event, name);
        }
        if name == "SecureBoot" { self.secure_boot_variable(event, variable.data) } else { self.keys(event, &variable) }
    }
    fn secure_boot_variable(&mut self, event: &Event<'_>, data: &[u8]) {
        match data {
            [0] => self.state = Some(false),
            [1] => self.state = Some(true),
            [other] => self.doubt(ProblemCode::SecureBootValue, event, &format!("value {other}")),
            _ => self.doubt(ProblemCode::SecureBootLength, event, &format!("{} bytes, not 1", data.len())),
        }
    }
    fn keys(&mut self, event: &Event<'_>, variable: &Variable<'_>) {
        let database = match SignatureDatabase::read(variable.data) {
            Ok(database) => database,
            Err(what) => {
                let detail = format!("{}: {what}", variable.name);
                return self.doubt(ProblemCode::SignatureListMalformed, event, &detail);
            }
        };
        let place = match variable.name.as_str() {
            "PK" => &mut self.out.platform_key,
            "KEK" => &mut self.out.key_exchange_keys,
            "db" => &mut self.out.allowed,
            _ => &mut self.out.forbidden,
        };
        *place = Some(database);
    }
    fn authority(&mut self, event: &Event<'_>) {
        let Some(variable) = Variable::read(event.data()) else {
            return self.doubt(ProblemCode::VariableMalformed, event, "PCR 7: a length in it cannot be");
        };
        if NEVER_AUTHORITY.contains(&variable.name.as_str()) {
            return self.doubt(ProblemCode::VariableRelabelled, event, &variable.name);
        }
        // Old shims log six bytes after the structure and measure but five of them: all that is read is still measured.
        let data = event.data();
        let one_less = match variable.trailing.is_empty() {
            true => data,
            false => data.get(..data.len().saturating_sub(1)).unwrap_or_default(),
        };
        let measured = if self.banks.iter().all(|bank| event.measures(*bank, one_less)) { one_less } else { data };
        self.must_cover(event, measured);
        let entry = variable.data;
        let found = BootAuthority {
            event: event.number(),
            variable: printable(&variable.name),
            certificate: authority_certificate(entry).map(sha256),
            sha256: sha256(entry),
        };
        let list = match self.separator {
            true => &mut self.out.authorities_after_separator,
            false => &mut self.out.authorities_before_separator,
        };
        list.push(found);
    }
    fn must_cover(&mut self, event: &Event<'_>, bytes: &[u8]) {
        if let Some(bank) = self.banks.iter().find(|bank| !event.measures(**bank, bytes)) {
            let detail = format!("PCR 7: the data of {} is not what {} has", event.event_type(), bank.name());
            self.doubt(ProblemCode::DigestMismatch, event, &detail);
        }
    }
    fn doubt(&mut self, code: ProblemCode, event: &Event<'_>, detail: &str) {
        self.problems.push(code, Some(event.number()), detail);
    }
    fn conclude(mut self) -> SecureBoot {
        if !self.separator {
            self.problems.push(ProblemCode::SeparatorMissing, None, "PCR 7");
        }
        if !self.names.contains("SecureBoot") {
            self.problems.push(ProblemCode::SecureBootMissing, None, "PCR 7 does not say");
        }
        if self.state == Some(true) {
            let out = &self.out;
            if out.authorities_before_separator.is_empty() && out.authorities_after_separator.is_empty() {
                self.problems.push(ProblemCode::AuthorityMissing, None, "nothing was verified");
            }
            let keys = [("PK", &out.platform_key), ("KEK", &out.key_exchange_keys), ("db", &out.allowed)];
            for (name, database) in keys {
                if database.as_ref().is_none_or(SignatureDatabase::is_empty) {
                    self.problems.push(ProblemCode::KeysMissing, None, name);
                }
            }
        }
        let problems = self.problems.into_vec();
        let state = self.state.filter(|_| problems.is_empty());
        SecureBoot { state, problems, ..self.out }
    }
}
