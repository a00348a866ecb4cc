//! What is wrong with a chain: which certificate, what, and what to do.

use quotary_common::reason::{Reason, Refusal};

/// Why an EK's certificates prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Bytes that are no certificate.
    #[error("{0}")]
    Malformed(String),
    /// The certificate is another key's.
    #[error("{0}")]
    Mismatch(String),
    /// A certificate of the chain breaks a rule.
    #[error("{0}")]
    Chain(String),
    /// A signature of an algorithm or on a curve that is not implemented: not wrong, but not checked either.
    #[error("{0}")]
    Algorithm(String),
    /// The chain ends before a configured authority.
    #[error("{0}")]
    Unanchored(String),
}

impl ChainFault {
    /// Its fixed code, as the offline verbs print it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => Reason::Malformed.code(),
            Self::Mismatch(_) => Reason::EkMismatch.code(),
            Self::Algorithm(_) => "ek-algorithm",
            Self::Chain(_) | Self::Unanchored(_) => Reason::EkChain.code(),
        }
    }
    /// Whether nothing is wrong but that no authority answers for the key: the admission rule decides then.
    pub(super) const fn is_only_uncertified(&self) -> bool {
        matches!(self, Self::Unanchored(_) | Self::Algorithm(_))
    }
    /// How much it says, when several ways up the chain failed: the greatest is told.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::Algorithm(_) => 1,
            Self::Malformed(_) | Self::Mismatch(_) | Self::Chain(_) | Self::Unanchored(_) => 0,
        }
    }
}

impl From<ChainFault> for Refusal {
    fn from(fault: ChainFault) -> Self {
        let detail = fault.to_string();
        let reason = match fault {
            ChainFault::Malformed(_) => Reason::Malformed,
            ChainFault::Mismatch(_) => Reason::EkMismatch,
            // The codes of the wire stay few: the detail says that it is the algorithm.
            ChainFault::Chain(_) | ChainFault::Algorithm(_) | ChainFault::Unanchored(_) => Reason::EkChain,
        };
        Self::new(reason, detail)
    }
}
