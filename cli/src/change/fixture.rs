//! A change for tests: its text, and how a verifier shows it. The tests of the whole program take it too.

use quotary_common::cbor::Text;
use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::plan::OnPressure;
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::units::Resources;
use quotary_common::wire::{ChangeSummary, ChangeView};

/// What it would put in force.
pub(crate) const DOCUMENT: &str = "name = 'web' # é\nversion = 1\ncriticality = 'high'\n[select]\ntenant = 'shop'\n\
                                   [limit]\nmemory_bytes = 536_870_912\n";

/// The deployment whose root key is 32 bytes of 7.
pub(crate) fn deployment() -> DeploymentId {
    DeploymentId::of(&[&[7; 32]])
}

pub(crate) fn id(seed: &str) -> ChangeId {
    ChangeId::of(&[seed.as_bytes()])
}

/// The text of a change of this id, which alice asks for.
pub(crate) fn text(id: ChangeId) -> ChangeText {
    let at_ms = 1_795_330_800_000;
    let change = Change {
        deployment: deployment(),
        id,
        kind: Kind::CreatePolicy,
        name: Text::lossy("web"),
        way: Way::Quorum,
        requester: Text::lossy("alice"),
        editor: Text::lossy("alice"),
        applier: Text::lossy("verifier"),
        criticality: Criticality::High,
        base: None,
        roster: Digest::of(&[b"roster"]),
        rules: Digest::of(&[b"rules"]),
        proposed_ms: at_ms,
        effective_ms: at_ms + 2_000,
        approve_by_ms: at_ms + 1_000,
        apply_by_ms: at_ms + 3_000,
        until_ms: None,
        slew: Resources::default(),
        on_pressure: OnPressure::Hold,
        nonce: [3; 16],
        inputs: Vec::new(),
        covers: Vec::new(),
        document: DOCUMENT.to_owned(),
    };
    ChangeText::render(&change).unwrap()
}

/// The change with this text, without votes.
pub(crate) fn view(text: &ChangeText) -> ChangeView {
    let change = text.change();
    ChangeView {
        summary: ChangeSummary {
            id: change.id.to_string(),
            kind: "create policy".to_owned(),
            name: "web".to_owned(),
            state: "approving".to_owned(),
            since_ms: change.proposed_ms,
            way: "quorum".to_owned(),
            why: None,
            criticality: "high".to_owned(),
            requester: "alice".to_owned(),
            proposed_at_ms: change.proposed_ms,
            effective_at_ms: change.effective_ms,
            approve_by_ms: change.approve_by_ms,
            apply_by_ms: change.apply_by_ms,
            until_ms: None,
            quorum: "2 more people".to_owned(),
        },
        sha256: text.digest(),
        text: String::from_utf8(text.bytes().to_vec()).unwrap(),
        explained: vec!["pending: 2 more people".to_owned()],
        namespace: change.deployment.hex()[..16].to_owned(),
        votes: Vec::new(),
        impact: vec!["tenant shop: memory -256 MiB".to_owned()],
        plans: Vec::new(),
        without_plan: Vec::new(),
        aligned_at_ms: None,
        review: None,
        note: None,
    }
}
