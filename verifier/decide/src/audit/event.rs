//! Which leaves somebody should hear of, and what they are told: an event says nothing but what its leaf says.

use minicbor::Decoder;
use quotary_common::id::HostId;
use quotary_common::leaf::{Decision, Enrolled, EpochRaised, Leaf, VerdictChanged};
use quotary_common::reason::Reason;
use quotary_common::wire::{AnomalyTold, EventKind, HostEvent};

/// The event that the leaf of this index and these canonical bytes tells, if it tells one.
///
/// Most leaves tell none, and are known by the number of their kind without being read.
pub fn event_of(leaf_index: u64, bytes: &[u8]) -> Option<HostEvent> {
    if !kind_number(bytes).is_some_and(tells) {
        return None;
    }
    told_by(leaf_index, &Leaf::from_bytes(bytes).ok()?)
}

/// Enrolments (2), changes of verdict (4), raised epochs (7), anomalies (12).
const fn tells(kind: u32) -> bool {
    matches!(kind, 2 | 4 | 7 | 12)
}

/// The number of a leaf's kind: the first element of its entry 3.
fn kind_number(bytes: &[u8]) -> Option<u32> {
    let mut decoder = Decoder::new(bytes);
    for _ in 0..decoder.map().ok()?? {
        if decoder.u32().ok()? == 3 {
            decoder.array().ok()?;
            return decoder.u32().ok();
        }
        decoder.skip().ok()?;
    }
    None
}

fn told_by(leaf_index: u64, leaf: &Leaf) -> Option<HostEvent> {
    let event = |host: &HostId, kind: EventKind| HostEvent {
        leaf_index,
        time_ms: leaf.at_ms,
        kind,
        host: host.to_string(),
        reasons: Vec::new(),
        zone_before: None,
        zone: None,
        epoch: None,
        anomaly: None,
    };
    match &leaf.decision {
        Decision::Enrolled(Enrolled { host, replaced, epoch, .. }) => {
            let kind = if *replaced { EventKind::AkReplaced } else { EventKind::Enrolled };
            Some(HostEvent { epoch: Some(*epoch), ..event(host, kind) })
        }
        Decision::VerdictChanged(VerdictChanged { verdict, from, to, findings }) => {
            let kind = if from.is_some() && to.is_some() { EventKind::ZoneChanged } else { EventKind::VerdictChanged };
            let [zone_before, zone] = [from, to].map(|zone| zone.as_ref().map(|zone| zone.as_str().to_owned()));
            Some(HostEvent { reasons: findings.to_vec(), zone_before, zone, ..event(&verdict.host, kind) })
        }
        Decision::EpochRaised(EpochRaised { host, epoch, refusal, .. }) => {
            let kind = if refusal.reason == Reason::Revoked { EventKind::Revoked } else { EventKind::EpochRaised };
            Some(HostEvent { reasons: vec![refusal.reason], epoch: Some(*epoch), ..event(host, kind) })
        }
        // What continues an alarm was told with it.
        Decision::Anomaly(anomaly) if !anomaly.continues => {
            let host = match (&anomaly.host, &anomaly.sum) {
                (Some(host), _) => host.to_string(),
                (None, sum) => sum.as_ref().map(|sum| sum.as_str().to_owned())?,
            };
            let told = AnomalyTold::of(anomaly);
            Some(HostEvent { host, anomaly: told, ..event(&HostId::new([0; 32]), EventKind::Anomaly) })
        }
        Decision::Anomaly(_)
        | Decision::ModelChanged(_)
        | Decision::ChangeMoved(_)
        | Decision::VoteCast(_)
        | Decision::AuthoritySet(_)
        | Decision::PolicyWatched(_)
        | Decision::Genesis(_)
        | Decision::Refused(_)
        | Decision::Verdicts(_)
        | Decision::Granted(_)
        | Decision::TokenMade(_)
        | Decision::ZoneLearned(_)
        | Decision::Planned(_)
        | Decision::Started(_) => None,
    }
}
