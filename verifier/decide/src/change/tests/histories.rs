//! Random histories of one book: whatever people do, what is in force was signed by enough of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quotary_common::id::ChangeId;
use quotary_common::quorum::vote::Verb;

use super::fixture::{GIB, PEOPLE, Verifier, policy, revoke};
use crate::policy::life::{Input, State};

/// What somebody does.
#[derive(Debug, Clone)]
enum Deed {
    Propose { by: usize, revokes: bool, gib: u64, minutes: u64 },
    Edit { which: usize, by: usize, gib: u64 },
    Vote { which: usize, by: usize, verb: usize },
    Withdraw { which: usize, by: usize },
    Planned { which: usize },
    Later { minutes: u64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let person = || 0..PEOPLE.len();
    let deed = prop_oneof![
        2 => (person(), prop::bool::weighted(0.2), 1_u64..9, 2_u64..40)
            .prop_map(|(by, revokes, gib, minutes)| Deed::Propose { by, revokes, gib, minutes }),
        1 => (0_usize..4, person(), 1_u64..9).prop_map(|(which, by, gib)| Deed::Edit { which, by, gib }),
        9 => (0_usize..4, person(), 0_usize..8).prop_map(|(which, by, verb)| Deed::Vote { which, by, verb }),
        1 => (0_usize..4, person()).prop_map(|(which, by)| Deed::Withdraw { which, by }),
        4 => (0_usize..4).prop_map(|which| Deed::Planned { which }),
        3 => (1_u64..20).prop_map(|minutes| Deed::Later { minutes }),
    ];
    prop::collection::vec(deed, 1..40)
}

/// Whom the rule of the fixture asks for, counted by hand: two who neither asked nor edited, one of them of security.
fn suffices(approved: &BTreeSet<usize>, asked: [usize; 2]) -> bool {
    let may = |who: &&usize| !asked.contains(who) && PEOPLE[**who].1 != "on-call";
    let counted: Vec<&usize> = approved.iter().filter(may).collect();
    counted.len() >= 2 && counted.iter().any(|who| PEOPLE[**who].1 == "security")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_is_in_force_that_too_few_have_signed(deeds in deeds()) {
        let mut verifier = Verifier::new();
        let mut open: Vec<ChangeId> = Vec::new();
        // Per text: who approved it; and who asked and edited.
        let mut approved: BTreeMap<(ChangeId, Vec<u8>), BTreeSet<usize>> = BTreeMap::new();
        let mut asked: BTreeMap<ChangeId, [usize; 2]> = BTreeMap::new();
        let mut version = 0;
        for deed in deeds {
            let pick = |which: usize, open: &[ChangeId]| open.iter().rev().nth(which).copied();
            match deed {
                Deed::Propose { by, revokes, gib, minutes } => {
                    version += 1;
                    let subject = if revokes { revoke() } else { policy(version, gib * GIB) };
                    if let Ok(id) = verifier.propose(PEOPLE[by].0, &subject, minutes) {
                        open.push(id);
                        asked.insert(id, [by, by]);
                    }
                }
                Deed::Edit { which, by, gib } => {
                    let Some(id) = pick(which, &open) else { continue };
                    version += 1;
                    if verifier.edit(id, PEOPLE[by].0, &policy(version, gib * GIB), 20).is_ok() {
                        asked.entry(id).and_modify(|asked| asked[1] = by);
                    }
                }
                Deed::Vote { which, by, verb } => {
                    let Some(id) = pick(which, &open) else { continue };
                    let text = verifier.book.change(&id).unwrap().text().bytes().to_vec();
                    let verb = if verb == 0 { Verb::Rejection } else { Verb::Approval };
                    if verifier.vote(id, PEOPLE[by].0, verb).is_ok() && verb == Verb::Approval {
                        approved.entry((id, text)).or_default().insert(by);
                    }
                }
                Deed::Withdraw { which, by } => {
                    let Some(id) = pick(which, &open) else { continue };
                    let may = asked[&id].contains(&by);
                    prop_assert!(may || verifier.withdraw(id, PEOPLE[by].0).is_err());
                    let _done = verifier.withdraw(id, PEOPLE[by].0);
                }
                Deed::Planned { which } => {
                    let Some(id) = pick(which, &open) else { continue };
                    let _not_now = verifier.told(id, Input::Planned);
                }
                Deed::Later { minutes } => verifier.later(minutes),
            }
            for id in &open {
                let kept = verifier.book.change(id).unwrap();
                if matches!(kept.record().state, State::Approved | State::Shaping | State::InForce) {
                    let text = kept.text().bytes().to_vec();
                    let signed = approved.get(&(*id, text)).cloned().unwrap_or_default();
                    prop_assert!(suffices(&signed, asked[id]), "{:?}: {signed:?}", kept.record());
                    prop_assert!(kept.decision().is_some());
                }
            }
            // What is in force is, byte for byte, the document of a change that is.
            for held in verifier.book.policies().values() {
                let kept = verifier.book.change(&held.change).unwrap();
                prop_assert_eq!(&*held.text, kept.text().change().document.as_str());
                prop_assert_eq!(kept.record().state, State::InForce);
                prop_assert!(kept.record().times.effective_at_ms <= verifier.now_ms);
            }
        }
    }
}
