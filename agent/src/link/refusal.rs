//! What a refusal means for the next try. Pure.

use quotary_common::reason::Reason;

/// What to do about a refusal of evidence or of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Ask for a nonce, look where the verifier stands, and send the same envelope again.
    FreshNonce,
    /// The envelope was refused unread: build another.
    Rebuild,
    /// The verifier does not know this host or its TLS key (any more): enrol again, if there is a token.
    Enrol,
    /// Try the same later.
    Later,
    /// A finding: only a person can change it. Keep trying slowly, keep what runs until its lease ends.
    Finding,
}

/// The reaction to a reason.
pub fn classify(reason: Reason) -> Reaction {
    match reason {
        Reason::NonceUnknown | Reason::NonceExpired | Reason::SequenceStale => Reaction::FreshNonce,
        Reason::Malformed | Reason::TooLarge => Reaction::Rebuild,
        // A revoked host comes back by a new enrolment only, as soon as its token is a new one.
        Reason::UnknownHost | Reason::TlsKey | Reason::Unauthorised | Reason::Revoked => Reaction::Enrol,
        _ if reason.retry() => Reaction::Later,
        _ => Reaction::Finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_raises_the_epoch_is_a_finding_and_what_may_be_retried_is_not() {
        for reason in Reason::ALL {
            let reaction = classify(*reason);
            if reason.raises_epoch() {
                assert_eq!(reaction, Reaction::Finding, "{reason}");
            }
            if reason.retry() {
                assert!(matches!(reaction, Reaction::FreshNonce | Reaction::Later), "{reason}");
            }
        }
        assert_eq!(classify(Reason::UnknownHost), Reaction::Enrol);
        assert_eq!(classify(Reason::Revoked), Reaction::Enrol);
        assert_eq!(classify(Reason::Malformed), Reaction::Rebuild);
    }
}
