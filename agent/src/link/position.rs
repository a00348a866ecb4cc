//! Where the verifier stands in our chain, by the nonce that it gave. Pure.

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::wire::NonceReply;

/// Where the verifier stands, seen from the envelope on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// It waits for this envelope.
    Waiting,
    /// It has committed this envelope already: sending it again brings the stored reply.
    Committed,
    /// It stands before ours: it lost what it had committed (a restored backup).
    Behind,
    /// It stands elsewhere: another chain of this host exists (a cloned state). Sending ours is what shows it.
    Elsewhere,
}

/// Where the verifier stands.
pub fn position(nonce: &NonceReply, pending: &ClaimedEnvelope) -> Position {
    let claims = pending.claims();
    let after = claims.sequence.saturating_add(1);
    if (nonce.next_sequence, nonce.predecessor) == (claims.sequence, claims.predecessor) {
        Position::Waiting
    } else if (nonce.next_sequence, nonce.predecessor) == (after, pending.digest()) {
        Position::Committed
    } else if nonce.next_sequence < claims.sequence {
        Position::Behind
    } else {
        Position::Elsewhere
    }
}
