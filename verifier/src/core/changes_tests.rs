//! Changes in the writer: what a step makes durable, and what a start makes of it.
#![expect(clippy::unwrap_used, reason = "tests")]

use data_encoding::BASE64;
use quotary_common::cbor::Version;
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_decide::change::Governing;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::oneshot;

use super::super::testing::{NOW_MS, commit, load};
use super::*;
use crate::store::MemoryStore;

const RULES: &str = "version = 1
[criticality.critical]
approvals = 1
approvers = ['operator']
approve_within_s = 3600
apply_within_s = 7200
delay_s_min = 60
[[criticality.critical.escalation]]
after_s = 600
add_roles = ['manager']
command = 'wake'
";

/// A roster of an operator and a manager, with keys made from their names.
fn roster(version: u64) -> String {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let person = |name: &str, role: &str| {
        let pair = Ed25519KeyPair::from_seed_unchecked(&quotary_common::id::sha256(&[name.as_bytes()])).unwrap();
        let key = [&b"ssh-ed25519"[..], pair.public_key().as_ref()].map(string).concat();
        let key = BASE64.encode(&key);
        format!("[[people]]\nname = '{name}'\nroles = ['{role}']\n[[people.keys]]\nkey = 'ssh-ed25519 {key}'\n")
    };
    let people = [person("alice", "operator"), person("bob", "operator"), person("mia", "manager")].concat();
    format!("version = {version}\n{people}")
}

/// A store in which these people decide.
fn decided_by() -> MemoryStore {
    let mut store = MemoryStore::new();
    let state = load(&store);
    let (first, rules) = (roster(1), RULES);
    let of = (Roster::parse(first.as_bytes()).unwrap().digest(), Rules::parse(rules.as_bytes()).unwrap().digest());
    let authority =
        Authority { version: Version, deployment: state.settings.deployment, number: 0, roster: of.0, rules: of.1 };
    let root = &state.settings.grant_key;
    let signed = root.sign(&authority).to_bytes();
    let whose = (&root.public(), &state.settings.deployment);
    let governing = Governing::genesis(&signed, (first.as_bytes(), rules.as_bytes()), whose).unwrap();
    let mut step = Step::default();
    step.put_bytes(tables::AUTHORITY, tables::AUTHORITY_NOW, Some(governing.to_row()));
    commit(&mut store, &step);
    store
}

#[test]
fn a_step_of_escalation_is_in_the_log_and_is_told_again_by_a_start_while_the_change_waits() {
    let mut store = decided_by();
    let mut state = load(&store);
    let proposal = Proposal {
        id: ChangeId::new([1; 32]),
        subject: ChangeSubject::Roster(roster(2)),
        way: Way::Quorum,
        lasts_ms: None,
        effective_at_ms: None,
        inputs: Vec::new(),
        nonce: [1; 16],
    };
    let (answer, _answered) = oneshot::channel();
    let alice = Word::lossy("alice");
    let proposed = state.ask_change(ChangeAsk::Propose(Box::new(proposal)), (&alice, "token t-1"), answer, NOW_MS);
    assert_eq!(commit(&mut store, &proposed).len(), 2, "proposed, and approving");
    assert_eq!(load(&store).escalated_before(), []);

    let mut step = Step::default();
    state.tick_changes(&mut step, NOW_MS + 600_000);
    let leaves = commit(&mut store, &step);
    let whys = leaves.iter().map(|leaf| match leaf {
        Decision::ChangeMoved(moved) => moved.why.as_ref().map(|why| why.as_str().to_owned()),
        _ => None,
    });
    assert_eq!(whys.collect::<Vec<_>>(), [Some("escalated, step 1 of 1: not approved in time".to_owned())]);
    let [told] = &step.told[..] else { unreachable!("one step tells once: {:?}", step.told) };
    assert_eq!(told.command, Some(Word::lossy("wake")));

    // Whoever stopped here has told nobody.
    let again = load(&store).escalated_before();
    assert_eq!(again.len(), 1);
    let body = |told: &Told| serde_json::from_str::<serde_json::Value>(&told.body).unwrap();
    assert_eq!((&body(&again[0])["change"], &body(&again[0])["step"]), (&body(told)["change"], &body(told)["step"]));

    let (answer, _answered) = oneshot::channel();
    let withdraw = ChangeAsk::Withdraw { id: ChangeId::new([1; 32]) };
    let withdrawn = state.ask_change(withdraw, (&alice, "token t-1"), answer, NOW_MS + 601_000);
    commit(&mut store, &withdrawn);
    assert_eq!(load(&store).escalated_before(), []);
}
