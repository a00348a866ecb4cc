//! Tests of the offline verbs, on files that real TPMs and tools wrote and on forged ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod certificates;
mod forged;
mod hostile;
mod machine;
mod vectors;

use super::{Finding, InspectQuote, QuoteReport, quote};
use crate::attest::tests::data;

/// The files of a folder; tests replace some of them.
#[derive(Debug, Clone)]
struct Files {
    ak: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    envelope: Option<Vec<u8>>,
}

impl Files {
    fn of(folder: &str) -> Self {
        let read = |name: &str| data(&format!("{folder}/{name}"));
        Self {
            ak: read("ak.pem"),
            message: read("quote.msg"),
            signature: read("quote.sig"),
            pcrs: Some(read("quote.pcrs")),
            nonce: None,
            envelope: None,
        }
    }
    fn question(&self) -> InspectQuote<'_> {
        InspectQuote {
            ak: &self.ak,
            message: &self.message,
            signature: &self.signature,
            pcrs: self.pcrs.as_deref(),
            nonce: self.nonce.as_deref(),
            envelope: self.envelope.as_deref(),
        }
    }
    fn report(&self) -> QuoteReport {
        quote(&self.question()).unwrap()
    }
    /// The codes of the refusal, after the promises that hold for every report.
    fn codes(&self) -> Vec<&'static str> {
        let report = self.report();
        assert_eq!(report.verified, report.reasons.is_empty());
        assert!(report.verified || report.pcrs.is_empty(), "a value was told that nothing proves: {report:?}");
        codes(&report.reasons)
    }
}

fn codes(reasons: &[Finding]) -> Vec<&'static str> {
    reasons.iter().map(|reason| reason.code).collect()
}
