//! What is odd about a log: fixed codes, each with the event and what was seen.

use quotary_common::cbor::Text;
use quotary_common::limits::DETAIL_BYTES_MAX;
use serde::Serialize;

/// Most problems that are listed of one log; the last of them then says that there are more.
pub const PROBLEMS_MAX: usize = 256;

macro_rules! codes {
    ($($variant:ident $code:literal $doc:literal;)*) => {
        /// What is odd. A code never gets another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum ProblemCode {
            $(#[doc = $doc] #[serde(rename = $code)] $variant,)*
        }
        impl ProblemCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The code as it is printed.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }
            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

codes! {
    HeaderVendorOutside "header-vendor-outside" "The vendor bytes of the Spec ID event lie beyond its stated size.";
    Sha1Only "sha1-only" "The log has no bank but SHA-1: it replays, and nothing in it can be trusted.";
    DigestMissing "digest-missing" "An event has no digest for a bank that the header names.";
    PcrOutOfRange "pcr-out-of-range" "An event names a PCR that does not exist; it is not replayed.";
    StartupLocality "startup-locality" "A StartupLocality event is malformed, repeated, or too late.";
    SeparatorMissing "separator-missing" "A PCR that firmware extends has no separator.";
    DuplicateSeparator "duplicate-separator" "A PCR has more than one separator.";
    SeparatorValue "separator-value" "A separator's data is neither 0 nor 0xFFFFFFFF: firmware met an error.";
    SeparatorRelabelled "separator-relabelled" "An event of another type has the digest of a separator.";
    DigestMismatch "digest-mismatch" "Event data does not hash to the digest where the specification says so.";
    TextNotMeasured "text-not-measured" "The text of a boot loader's event is not what its digest covers.";
    ExitBootServicesMissing "exit-boot-services-missing" "No Exit Boot Services event: what came later cannot be told from firmware.";
    ExitBootServicesAssumed "exit-boot-services-assumed" "PCR 5 fits only with the Exit Boot Services events that the log lacks; an exception allows it.";
    UnknownTypeInPcr7 "unknown-type-in-pcr7" "An event in PCR 7 has a type that does not belong there.";
    UnknownActionInPcr7 "unknown-action-in-pcr7" "An EFI action in PCR 7 is none of those that belong there.";
    DebugMode "debug-mode" "A UEFI debugger was enabled.";
    VariableMalformed "variable-malformed" "An EFI variable's event data does not parse.";
    VariableAfterSeparator "variable-after-separator" "A Secure Boot variable is measured after the separator.";
    VariableVendor "variable-vendor" "A Secure Boot variable has another vendor GUID than its own.";
    DuplicateVariable "duplicate-variable" "A Secure Boot variable is measured twice.";
    VariableRelabelled "variable-relabelled" "A Secure Boot variable stands as an authority event.";
    SecureBootMissing "secure-boot-missing" "The SecureBoot variable is not measured.";
    SecureBootLength "secure-boot-length" "The SecureBoot variable is not one byte long.";
    SecureBootValue "secure-boot-value" "The SecureBoot variable is neither 0 nor 1.";
    SignatureListMalformed "signature-list-malformed" "A signature database does not parse.";
    AuthorityMissing "authority-missing" "Secure Boot is on, but no key was used to verify anything.";
    KeysMissing "keys-missing" "Secure Boot is on, but PK, KEK or db is missing or empty.";
    TooManyProblems "too-many-problems" "There are more problems than are listed.";
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub code: ProblemCode,
    /// The event's number, when it is about one.
    pub event: Option<u32>,
    /// What was seen, safe to print.
    pub detail: Text<DETAIL_BYTES_MAX>,
}

/// Collects problems, and no more than [`PROBLEMS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, code: ProblemCode, event: Option<u32>, detail: &str) {
        let (code, event, detail) = match self.0.len() {
            PROBLEMS_MAX.. => return,
            n if n == PROBLEMS_MAX - 1 => (ProblemCode::TooManyProblems, None, ProblemCode::TooManyProblems.meaning()),
            _ => (code, event, detail),
        };
        self.0.push(Problem { code, event, detail: Text::lossy(detail) });
    }
    /// What is said twice is listed once. Both lists are short: see [`PROBLEMS_MAX`].
    pub(super) fn extend(&mut self, others: &[Problem]) {
        for other in others {
            if !self.0.contains(other) {
                self.push(other.code, other.event, other.detail.as_str());
            }
        }
    }
    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
    pub(super) fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}
