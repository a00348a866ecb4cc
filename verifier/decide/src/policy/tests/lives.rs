//! The life of a change.

use quotary_common::cbor;
use quotary_common::id::Digest;

use super::*;
use quotary_common::quorum::change::Kind;
use quotary_common::quorum::decide::{Block, Decided, Expiry, Missing};
use quotary_common::quorum::roster::Word;

use crate::policy::life::{
    Ask, Emergency, Follows, Input, LifeFault, Notice, Record, Reviewed, State, Times, propose, step,
};

const TIMES: Times =
    Times { approve_by_ms: 1000, apply_by_ms: 3000, effective_at_ms: 2000, delay_ms_min: 500, emergency: None };

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

fn pending() -> Decided {
    Decided::Pending(Missing { people: 1, ..Missing::default() })
}

fn text(n: u8) -> Digest {
    Digest::new([n; 32])
}

fn proposed_as(kind: Kind, times: Times) -> Record {
    propose((kind, word("p")), word("ann"), text(0), times, &[300, 600], 0).unwrap().0
}

fn decided(ask: Ask, decided: Decided) -> Input {
    Input::Decided { ask, text: text(0), decided }
}

/// A change after some steps; each must be possible.
struct Walk {
    record: Record,
    follows: Vec<Follows>,
}

impl Walk {
    fn new(kind: Kind) -> Self {
        Self { record: proposed_as(kind, TIMES), follows: Vec::new() }
    }
    fn then(mut self, input: Input, now_ms: u64) -> Self {
        (self.record, self.follows) = step(&self.record, input, now_ms).unwrap();
        self
    }
    fn approved(kind: Kind) -> Self {
        Self::new(kind).then(decided(Ask::Approval, Decided::Approved), 900)
    }
    fn shaping(kind: Kind) -> Self {
        Self::approved(kind).then(Input::Planned, 900)
    }
    fn in_force(kind: Kind) -> Self {
        Self::shaping(kind).then(Input::Tick, 2000).then(decided(Ask::Apply, Decided::Approved), 2000)
    }
    fn is_faulty(&self, input: Input, now_ms: u64) -> bool {
        matches!(step(&self.record, input, now_ms), Err(LifeFault::NotNow { .. } | LifeFault::TooLate { .. }))
    }
    fn asks(&self, one: &Follows) -> bool {
        self.follows.contains(one)
    }
}

#[test]
fn a_change_goes_from_proposed_to_in_force() {
    let walk = Walk::new(Kind::AlterPolicy);
    assert_eq!(walk.record.state, State::Proposed);
    let walk = walk.then(Input::Voted { text: text(0) }, 100);
    assert!(walk.record.state == State::Proposed && walk.asks(&Follows::Ask(Ask::Vote)));
    let walk = walk.then(decided(Ask::Vote, pending()), 100);
    assert_eq!(walk.record.state, State::Approving);
    let walk = walk.then(decided(Ask::Vote, Decided::Approved), 200);
    assert!(walk.record.state == State::Approving && walk.asks(&Follows::Ask(Ask::Approval)));
    let walk = walk.then(decided(Ask::Approval, Decided::Approved), 200);
    assert!(walk.record.state == State::Approved && walk.asks(&Follows::MakePlans));
    let walk = walk.then(Input::Planned, 210);
    assert_eq!((walk.record.state, walk.record.approved_at_ms), (State::Shaping, Some(200)));
    assert!(walk.is_faulty(decided(Ask::Apply, Decided::Approved), 1999), "not before its effective time");
    let walk = walk.then(Input::Tick, 2000);
    assert_eq!(walk.follows, [Follows::Ask(Ask::Apply)]);
    let walk = walk.then(decided(Ask::Apply, Decided::Approved), 2000);
    assert!(walk.record.state == State::InForce && walk.asks(&Follows::PutInForce));
    let walk = walk.then(Input::Aligned, 2001);
    assert_eq!(walk.record.aligned_at_ms, Some(2001));
    let walk = walk.then(Input::Replaced { is_revoked: true }, 9000);
    assert!(walk.record.state == State::Revoked && walk.record.state.is_over());
}

#[test]
fn revoking_restores_the_baseline_and_a_roster_has_no_plans() {
    assert!(Walk::in_force(Kind::RevokePolicy).asks(&Follows::RestoreBaseline));
    let roster = Walk::approved(Kind::Roster);
    assert!(!roster.asks(&Follows::MakePlans) && roster.is_faulty(Input::Planned, 900));
    let roster = roster.then(Input::Tick, 2000).then(decided(Ask::Apply, Decided::Approved), 2000);
    assert!(roster.asks(&Follows::PutInForce) && !roster.asks(&Follows::RestoreBaseline));
}

#[test]
fn an_edit_voids_approvals_and_keeps_the_text_before() {
    for walk in [Walk::new(Kind::CreatePolicy), Walk::approved(Kind::CreatePolicy)] {
        let walk = walk
            .then(Input::Edited { by: word("bob"), text: text(1), times: TIMES, escalate_after_ms: Vec::new() }, 950);
        assert_eq!((walk.record.state, walk.record.approved_at_ms), (State::Approving, None));
        assert!(walk.record.dismisses(&text(0)) && !walk.record.dismisses(&text(1)));
        assert_eq!((walk.record.editor.as_str(), walk.record.requester.as_str()), ("bob", "ann"));
        assert_eq!(walk.record.revisions.iter().map(|one| one.text).collect::<Vec<_>>(), [text(0)]);
        assert!(walk.is_faulty(decided(Ask::Approval, Decided::Approved), 960), "that is of the text before");
        let late = walk.then(Input::Voted { text: text(0) }, 960);
        assert!(!late.asks(&Follows::Ask(Ask::Vote)));
    }
    assert!(
        Walk::shaping(Kind::CreatePolicy).is_faulty(
            Input::Edited { by: word("bob"), text: text(1), times: TIMES, escalate_after_ms: Vec::new() },
            950
        )
    );
}

#[test]
fn time_denies_and_escalates_and_never_grants() {
    let walk = Walk::new(Kind::AlterPolicy).then(Input::Tick, 300);
    let leaf = Follows::Leaf(State::Proposed, "escalated, step 1 of 2: not approved in time".to_owned());
    assert_eq!(walk.follows, [leaf, Follows::Tell(Notice::Escalated(0)), Follows::Ask(Ask::Vote)]);
    assert_eq!(walk.then(Input::Tick, 301).follows, []);
    let late = Walk::new(Kind::AlterPolicy).then(Input::Tick, 700);
    assert!(late.asks(&Follows::Tell(Notice::Escalated(0))) && late.asks(&Follows::Tell(Notice::Escalated(1))));
    assert_eq!(Walk::new(Kind::AlterPolicy).then(Input::Tick, 1001).record.state, State::Expired);
    assert!(
        Walk::new(Kind::AlterPolicy).is_faulty(decided(Ask::Approval, Decided::Approved), 1001),
        "the tick was late"
    );
    let unapplied = Walk::shaping(Kind::AlterPolicy).then(Input::Tick, 3001);
    assert!(unapplied.record.state == State::Expired && unapplied.asks(&Follows::MakePlansBack));
    let too_late = Walk::shaping(Kind::AlterPolicy).then(decided(Ask::Apply, Decided::Approved), 3001);
    assert_eq!(too_late.record.state, State::Expired);
    let unplanned = Walk::approved(Kind::AlterPolicy).then(Input::Tick, 950);
    assert_eq!(unplanned.follows, [Follows::MakePlans], "after a crash they are asked for again");
}

#[test]
fn an_edit_escalates_anew_from_when_it_was_made() {
    let edited = Input::Edited { by: word("bob"), text: text(1), times: TIMES, escalate_after_ms: vec![300] };
    let walk = Walk::new(Kind::AlterPolicy).then(Input::Tick, 300).then(edited, 350);
    assert_eq!((walk.record.escalate_at_ms.to_vec(), walk.record.escalated), (vec![650], 0));
    let walk = walk.then(Input::Tick, 649);
    assert_eq!(walk.follows, [], "the step of the text before is taken, and that of the text now is not due");
    assert!(walk.then(Input::Tick, 650).asks(&Follows::Tell(Notice::Escalated(0))));
}

#[test]
fn steps_of_two_rules_are_taken_in_the_order_of_time_and_once_where_they_fall_together() {
    let steps = [300, 600, 200, 600];
    let record = propose((Kind::Rules, word("rules")), word("ann"), text(0), TIMES, &steps, 0).unwrap().0;
    assert_eq!(record.escalate_at_ms.to_vec(), [200, 300, 600]);
    let as_many_as_two_rules_have: Vec<u64> = (0..16).map(|step| 900 - step).collect();
    let record =
        propose((Kind::Rules, word("rules")), word("ann"), text(0), TIMES, &as_many_as_two_rules_have, 0).unwrap().0;
    assert_eq!(record.escalate_at_ms.len(), 16);
    assert_eq!(cbor::from_bytes::<Record>(&cbor::to_bytes(&record), 4096).unwrap(), record);
}

#[test]
fn the_least_delay_of_the_rule_is_kept_at_proposal_and_at_approval() {
    let near = Times { approve_by_ms: 9000, delay_ms_min: 1500, ..TIMES };
    assert!(propose((Kind::AlterPolicy, word("p")), word("ann"), text(0), near, &[], 501).is_err());
    let record = proposed_as(Kind::AlterPolicy, near);
    let (late, _) = step(&record, decided(Ask::Approval, Decided::Approved), 501).unwrap();
    assert_eq!(late.state, State::Expired);
    assert_eq!(step(&record, Input::Tick, 501).unwrap().0.state, State::Expired);
}

#[test]
fn withdrawal_in_the_midst_of_a_plan_asks_for_the_way_back() {
    let back =
        |walk: Walk, now_ms| walk.then(Input::Withdrawn { by: word("ann") }, now_ms).asks(&Follows::MakePlansBack);
    assert!(!back(Walk::new(Kind::AlterPolicy), 10) && !back(Walk::approved(Kind::AlterPolicy), 900));
    assert!(back(Walk::shaping(Kind::AlterPolicy), 1500));
    assert!(Walk::in_force(Kind::AlterPolicy).is_faulty(Input::Withdrawn { by: word("ann") }, 2500));
}

#[test]
fn whoever_approved_and_may_no_more_stops_it_at_the_effective_time() {
    let stopped = Walk::shaping(Kind::AlterPolicy).then(Input::Tick, 2000).then(decided(Ask::Apply, pending()), 2000);
    assert!(stopped.record.state == State::Rejected && stopped.asks(&Follows::MakePlansBack));
}

#[test]
fn a_rejection_ends_it_and_what_an_edit_cures_does_not() {
    let by = Decided::Rejected(Block::By(vec![word("eve")]));
    let rejected = Walk::new(Kind::AlterPolicy).then(decided(Ask::Vote, by), 10).record;
    assert_eq!((rejected.state, rejected.why.unwrap().as_str()), (State::Rejected, "by eve"));
    let moved = Walk::new(Kind::AlterPolicy).then(decided(Ask::Vote, Decided::Rejected(Block::BaseMoved)), 10).record;
    assert!(moved.state == State::Approving && moved.why.unwrap().as_str().contains("edit the change"));
}

#[test]
fn a_deviation_opens_one_review_until_all_is_as_planned_again() {
    let reviews =
        |walk: &Walk| walk.follows.iter().filter(|one| matches!(one, Follows::Tell(Notice::Review(_)))).count();
    let off = || Input::Deviated("web.service is 30 % off".to_owned());
    let walk = Walk::shaping(Kind::AlterPolicy).then(off(), 1000);
    assert_eq!(reviews(&walk), 1);
    let walk = walk.then(off(), 1001);
    assert_eq!(reviews(&walk), 0);
    assert_eq!(reviews(&walk.then(Input::Aligned, 1002).then(off(), 1003)), 1);
}

#[test]
fn an_emergency_ends_by_itself_and_must_be_reviewed() {
    let emergency = Some(Emergency { ends_at_ms: 4000, review_by_ms: 5000 });
    let mut walk = Walk { record: proposed_as(Kind::AlterPolicy, Times { emergency, ..TIMES }), follows: Vec::new() };
    walk = walk.then(decided(Ask::Approval, Decided::Approved), 900).then(Input::Tick, 2000);
    walk = walk.then(decided(Ask::Apply, Decided::Approved), 2000);
    let reviewed = step(&walk.record, Input::Reviewed, 2100).unwrap().0;
    assert_eq!(reviewed.reviewed, Some(Reviewed::InTime));
    assert!(!step(&reviewed, Input::Tick, 5000).unwrap().1.contains(&Follows::Tell(Notice::Unreviewed)));
    walk = walk.then(Input::Tick, 4000);
    assert!(walk.record.state == State::Revoked && walk.asks(&Follows::PutBack) && walk.asks(&Follows::MakePlansBack));
    walk = walk.then(Input::Tick, 5000);
    assert!(walk.asks(&Follows::Tell(Notice::Unreviewed)) && walk.record.reviewed == Some(Reviewed::Overdue));
    assert_eq!(walk.then(Input::Reviewed, 6000).record.reviewed, Some(Reviewed::Late));
    assert!(
        propose(
            (Kind::AlterPolicy, word("p")),
            word("ann"),
            text(0),
            Times { emergency: Some(Emergency { ends_at_ms: 2000, review_by_ms: 0 }), ..TIMES },
            &[],
            0
        )
        .is_err()
    );
}

#[test]
fn a_record_is_kept_as_it_is() {
    let walk = Walk::in_force(Kind::AlterPolicy).then(Input::Deviated("off".to_owned()), 2100);
    let bytes = cbor::to_bytes(&walk.record);
    assert_eq!(cbor::from_bytes::<Record>(&bytes, 64 * 1024).unwrap(), walk.record);
}

fn inputs() -> impl Strategy<Value = Input> {
    let outcome = prop_oneof![
        4 => Just(Decided::Approved),
        2 => Just(pending()),
        1 => Just(Decided::Rejected(Block::By(vec![word("eve")]))),
        1 => Just(Decided::Expired(Expiry::ApproveBy)),
    ];
    let digest = || prop_oneof![4 => Just(0_u8), 1 => 1..3_u8].prop_map(text);
    let times = (1..4000_u64, 0..3000_u64, 0..3000_u64, 0..500_u64, prop::option::weighted(0.2, 0..9000_u64)).prop_map(
        |(approve_by_ms, effective_at_ms, more, delay_ms_min, ends)| Times {
            approve_by_ms,
            apply_by_ms: effective_at_ms + more,
            effective_at_ms,
            delay_ms_min,
            emergency: ends.map(|ends_at_ms| Emergency { ends_at_ms, review_by_ms: ends_at_ms + 100 }),
        },
    );
    prop_oneof![
        1 => (digest(), times).prop_map(|(text, times)| Input::Edited { by: word("bob"), text, times, escalate_after_ms: vec![300, 600] }),
        2 => digest().prop_map(|text| Input::Voted { text }),
        6 => (prop::sample::select(vec![Ask::Vote, Ask::Approval, Ask::Approval, Ask::Apply, Ask::Apply]), digest(), outcome)
            .prop_map(|(ask, text, decided)| Input::Decided { ask, text, decided }),
        3 => Just(Input::Planned),
        1 => Just(Input::CannotBeDone("no way".to_owned())),
        1 => Just(Input::Aligned),
        1 => Just(Input::Deviated("off".to_owned())),
        1 => Just(Input::Withdrawn { by: word("ann") }),
        1 => any::<bool>().prop_map(|is_revoked| Input::Replaced { is_revoked }),
        1 => Just(Input::Reviewed),
        3 => Just(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_history_puts_in_force_what_was_not_approved_and_due(
        kind in prop::sample::select(vec![Kind::CreatePolicy, Kind::AlterPolicy, Kind::RevokePolicy, Kind::Roster, Kind::Rules]),
        steps in prop::collection::vec((inputs(), -50..800_i64), 1..40),
    ) {
        let mut record = proposed_as(kind, TIMES);
        // What an observer keeps: which text was approved, and whether anything moves.
        let (mut now_ms, mut approved, mut moves) = (0_u64, None, false);
        for (input, later_ms) in steps {
            now_ms = now_ms.saturating_add_signed(later_ms);
            let Ok((next, follows)) = step(&record, input.clone(), now_ms) else { continue };
            let puts = follows.contains(&Follows::PutInForce);
            match &input {
                Input::Decided { ask: Ask::Approval, text, decided: Decided::Approved } if record.state.is_open() => {
                    prop_assert!(now_ms <= record.times.approve_by_ms);
                    approved = (next.state == State::Approved).then_some(*text);
                }
                Input::Edited { text, .. } => {
                    approved = None;
                    prop_assert_eq!((next.state, next.approved_at_ms, next.text), (State::Approving, None, *text));
                    prop_assert_eq!(next.revisions.last().map(|one| one.text), Some(record.text));
                }
                _ => {}
            }
            if record.state.is_over() {
                prop_assert_eq!(next.state, record.state);
                prop_assert!(!puts);
            }
            if puts {
                prop_assert_eq!(approved, Some(next.text));
                prop_assert!(now_ms >= next.times.effective_at_ms && now_ms <= next.times.apply_by_ms);
                prop_assert!(next.state == State::InForce && next.approved_at_ms.is_some());
            } else if next.state == State::InForce {
                prop_assert_eq!(record.state, State::InForce);
            }
            // What moved and did not come into force is asked back, once.
            moves |= next.state == State::Shaping;
            if moves && matches!(next.state, State::Rejected | State::Expired | State::Withdrawn) && record.state == State::Shaping {
                prop_assert!(follows.contains(&Follows::MakePlansBack));
            }
            // What is told to have changed stands in a leaf.
            if next.state != record.state {
                prop_assert!(follows.iter().any(|one| matches!(one, Follows::Leaf(state, _) if *state == next.state)));
            }
            record = next;
        }
    }
}
