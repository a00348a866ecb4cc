//! Evidence as JSON; the envelope's part has the names that `quotary inspect envelope` prints too.

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::tpm::Quote;
use quotary_decide::inspect::claims_json;
use serde_json::{Value, json};

/// All of it as JSON; digests and raw structures as hexadecimal text.
pub(super) fn whole(name: Digest, evidence: &Evidence, envelope: &ClaimedEnvelope, quote: &Quote<'_>) -> Value {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let pcrs = evidence.pcr_values.iter();
    json!({
        "evidence": name,
        "nonce": hex(&evidence.nonce),
        "attest": hex(&evidence.attest),
        "signature": hex(&evidence.signature),
        "quote": {
            "qualified_signer": hex(quote.qualified_signer),
            "extra_data": hex(quote.extra_data),
            "clock_ms": quote.clock.clock_ms,
            "reset_count": quote.clock.reset_count,
            "restart_count": quote.clock.restart_count,
            "safe": quote.clock.safe,
            "firmware_version": quote.firmware_version,
            "pcr_digest": hex(quote.pcr_digest),
        },
        "pcr_values": pcrs.map(|p| json!({"hash_alg": p.hash_alg, "index": p.index, "value": hex(&p.value)}))
            .collect::<Vec<_>>(),
        "envelope_digest": envelope.digest(),
        "envelope": claims_json(envelope.claims()),
    })
}
