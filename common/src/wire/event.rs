//! Events: what somebody should hear of, each told by one leaf of the audit log.
//!
//! They travel as server-sent events (WHATWG HTML §9.2) on `GET /v1/events`, and in the bodies of webhooks. An event says
//! nothing that its leaf does not say, and leaves out the words that people wrote: those stand in the log.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::anomaly::AnomalyTold;
use crate::id::DeploymentId;
use crate::reason::Reason;

macro_rules! kinds {
    ($($variant:ident $code:literal $doc:literal;)*) => {
        /// What happened to a host. The list grows; a kind never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $(#[doc = $doc] #[serde(rename = $code)] $variant,)*
        }
        impl EventKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The name, as it stands in events and configurations.
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

kinds! {
    Enrolled "enrolled" "A host was enrolled, or enrolled again with the attestation key that it had.";
    AkReplaced "ak-replaced" "A host was enrolled again with another attestation key: what it held under its old epoch has ended.";
    VerdictChanged "verdict-changed" "A host came to be trusted (it has a zone), or its trust ended for want of good news (it has none).";
    ZoneChanged "zone-changed" "A trusted host went from one trust zone to another.";
    EpochRaised "epoch-raised" "A finding ended a host's trust and its grants at once: the reasons say which.";
    Revoked "revoked" "An operator revoked a host: its trust and its grants have ended until it enrols anew.";
    Anomaly "anomaly" "Series of a host, or of a tenant or pool, behaved oddly: what, is told with it. It ends no trust.";
}

/// A text that names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is none of the kinds of events: {}", known())]
pub struct UnknownKind {
    given: String,
}

fn known() -> String {
    EventKind::ALL.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ")
}

impl FromStr for EventKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let found = Self::ALL.iter().copied().find(|kind| kind.code() == text);
        found.ok_or_else(|| UnknownKind { given: text.chars().take(80).collect() })
    }
}

/// One event. Its name is the index of its leaf: whoever hears of it twice knows it by that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// Index of the leaf that tells it.
    pub leaf_index: u64,
    /// When it was decided, Unix ms, on the verifier's clock.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// The host, in its shown form (`h-…`); of an anomaly in a sum, `tenant:NAME` or `pool:NAME`.
    pub host: String,
    /// Findings behind it.
    pub reasons: Vec<Reason>,
    /// The trust zone that the host was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_before: Option<String>,
    /// The trust zone that it is in; absent when it is in none, or when the event does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The host's epoch from now on, where the event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What is odd, of an anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<AnomalyTold>,
}

/// The body of a webhook: at least one event, in the order of their leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The deployment whose log tells them.
    pub deployment: DeploymentId,
    /// They.
    pub events: Vec<HostEvent>,
}

/// How a webhook fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookView {
    /// Scheme, host and port of its url; what comes after them may be a secret.
    pub receiver: String,
    /// What its receiver has acknowledged: all that was for it in leaves before this one.
    pub next_leaf: u64,
    /// How old the oldest event is that its receiver has not acknowledged, ms; 0 when there is none.
    pub lag_ms: u64,
    /// Deliveries that failed since the last that did not.
    pub failures: u64,
    /// Why the last one failed, until one does not.
    pub last_error: Option<String>,
    /// When one was last acknowledged, Unix ms, since the verifier started.
    pub delivered_at_ms: Option<u64>,
}

/// The header of a webhook that carries `sha256=` and the HMAC-SHA256 over the body, hexadecimal.
pub const SIGNATURE_HEADER: &str = "quotary-signature";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_its_code_in_every_form() {
        let codes =
            ["enrolled", "ak-replaced", "verdict-changed", "zone-changed", "epoch-raised", "revoked", "anomaly"];
        assert_eq!(EventKind::ALL.iter().map(|kind| kind.code()).collect::<Vec<_>>(), codes);
        for kind in EventKind::ALL {
            assert_eq!(kind.code().parse(), Ok(*kind));
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.code()));
            assert!(kind.meaning().ends_with('.'));
        }
        let error = "revokd".parse::<EventKind>().unwrap_err().to_string();
        assert!(error.contains("`revokd`") && error.ends_with("revoked, anomaly"), "{error}");
    }

    #[test]
    fn what_an_event_does_not_say_is_left_out_of_its_json() {
        let event = HostEvent {
            leaf_index: 7,
            time_ms: 1,
            kind: EventKind::Revoked,
            host: "h-a".to_owned(),
            reasons: vec![Reason::Revoked],
            zone_before: None,
            zone: None,
            epoch: Some(2),
            anomaly: None,
        };
        let json = serde_json::to_string(&event).unwrap();
        let expected = r#"{"leaf_index":7,"time_ms":1,"kind":"revoked","host":"h-a","reasons":["revoked"],"epoch":2}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<HostEvent>(&json).unwrap(), event);
    }
}
