//! What came of the review of what did not wait for its quorum, as people are told it.

use quotary_common::id::ChangeId;
use quotary_common::quorum::decide::{Moment, ReviewState, reviewing};
use quotary_common::quorum::roster::Word;

use super::book::Book;
use crate::policy::life::{Reviewed, State};

/// A review: where it stands, whose it is, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Where it stands: `to come`, `due`, `overdue`, `done`, `done late`.
    pub state: &'static str,
    /// Until when it is to be done, Unix ms.
    pub by_ms: u64,
    /// By so many people more.
    pub missing: usize,
    /// Whose review counts.
    pub by: Vec<Word>,
    /// Who else may.
    pub may: Vec<Word>,
    /// What follows.
    pub follows: &'static str,
}

const ELSE: &str = "if nobody does, no glass is broken and nothing is frozen after that until somebody does";
const BARRED: &str = "no glass is broken and nothing is frozen until it is done";
const NOTHING: &str = "nothing: it was looked at in time";
const AGAIN: &str = "it was looked at after its time: the glass may be broken again, and changes be frozen";

impl Book {
    /// The review of an emergency or a freeze at `now_ms` (Unix ms); `None` where there is none: a change by quorum, or one that never was in force
    /// and will not be.
    pub fn review_of(&self, id: &ChangeId, now_ms: u64) -> Option<Review> {
        let kept = self.changes().get(id)?;
        let record = kept.record();
        let emergency = record.times.emergency?;
        let was_in_force = match record.state {
            State::InForce | State::Revoked => true,
            State::Proposed | State::Approving | State::Approved | State::Shaping => false,
            State::Rejected | State::Expired | State::Withdrawn => return None,
        };
        let approved_at_ms = record.approved_at_ms.unwrap_or_default();
        let case = self.case(kept, Moment::Apply { approved_at_ms }, now_ms)?;
        let reviewing = reviewing(&case);
        let missing = match reviewing.state {
            ReviewState::Due { missing, .. } | ReviewState::Overdue { missing, .. } => missing,
            ReviewState::NotAsked | ReviewState::Done => 0,
        };
        // What was found once stands, whoever is on the roster by now.
        let (state, missing, follows) = match record.reviewed {
            _ if !was_in_force => ("to come", missing, ELSE),
            Some(Reviewed::InTime) => ("done", 0, NOTHING),
            Some(Reviewed::Late) => ("done late", 0, AGAIN),
            Some(Reviewed::Overdue) => ("overdue", missing, BARRED),
            None => ("due", missing, ELSE),
        };
        let owned = |people: Vec<&Word>| people.into_iter().cloned().collect();
        let (by, may) = (owned(reviewing.by), if missing > 0 { owned(reviewing.may) } else { Vec::new() });
        Some(Review { state, by_ms: emergency.review_by_ms, missing, by, may, follows })
    }
}
