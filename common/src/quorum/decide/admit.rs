//! What can never be approved is refused when it is proposed, not left to hang.

use super::case::Case;
use super::eligible::Side;
use super::outcome::Missing;
use crate::quorum::change::Way;

/// Why a change cannot be approved, whoever votes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// Fewer people may vote than must approve, or too few of a role.
    #[error("{} may vote on it, and that lacks {missing}", people(*.eligible))]
    TooFewEligible {
        /// How many may vote, when all escalation has come.
        eligible: usize,
        /// What would still be missing if all of them approved.
        missing: Missing,
    },
    /// It may be approved for longer than the rules allow.
    #[error("approve-by is later than the rules allow: at most {0} s after it is proposed")]
    ApproveBy(u64),
    /// It may be applied for longer than the rules allow.
    #[error("apply-by is later than the rules allow: at most {0} s after approve-by")]
    ApplyBy(u64),
    /// Its effective time is too near.
    #[error("the effective time is too near: the rules ask for {0} s at least from approval on")]
    Delay(u64),
    /// The rules do not know such an emergency.
    #[error("the rules in force know no change by this way")]
    NoEmergency,
    /// It would last too long.
    #[error("it would last too long: a change by this way may last {0} s")]
    LastsTooLong(u64),
}

/// So many people, in words.
fn people(count: usize) -> String {
    match count {
        0 => "nobody".to_owned(),
        1 => "one person".to_owned(),
        many => format!("{many} people"),
    }
}

/// All that stands against ever approving the change, told when it is proposed or edited.
///
/// # Errors
/// Each [`Inadmissible`].
pub fn admit(case: &Case<'_>) -> Result<(), Vec<Inadmissible>> {
    let change = case.text.change();
    let sides = case.sides();
    let rules = || sides.iter().flat_map(Side::rules);
    let mut found = Vec::new();
    let most = |times: &mut dyn Iterator<Item = u64>| times.min().unwrap_or(0);
    let approve_within_ms = most(&mut rules().map(|rule| rule.approve_within_ms));
    if change.approve_by_ms - change.proposed_ms > approve_within_ms {
        found.push(Inadmissible::ApproveBy(approve_within_ms / 1000));
    }
    let apply_within_ms = most(&mut rules().map(|rule| rule.apply_within_ms));
    if change.apply_by_ms - change.approve_by_ms > apply_within_ms {
        found.push(Inadmissible::ApplyBy(apply_within_ms / 1000));
    }
    let delay_ms = rules().map(|rule| rule.delay_ms_min).max().unwrap_or(0);
    if change.way == Way::Quorum && change.proposed_ms.saturating_add(delay_ms) > change.effective_ms {
        found.push(Inadmissible::Delay(delay_ms / 1000));
    }
    if let (Some(until_ms), Some(lasts_ms_max)) = (change.until_ms, sides.first().map(Side::lasts_ms_max)) {
        match lasts_ms_max {
            None => found.push(Inadmissible::NoEmergency),
            Some(most_ms) if until_ms - change.proposed_ms > most_ms => {
                found.push(Inadmissible::LastsTooLong(most_ms / 1000));
            }
            Some(_) => {}
        }
    }
    found.extend(sides_at_last(case).iter().find_map(|side| too_few(case, side)));
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// The sides when all escalation that can come has come.
fn sides_at_last<'a>(case: &Case<'a>) -> Vec<Side<'a>> {
    let at_last = Case { now_ms: case.text.change().approve_by_ms, ..*case };
    at_last.sides()
}

fn too_few(case: &Case<'_>, side: &Side<'_>) -> Option<Inadmissible> {
    let change = case.text.change();
    let eligible = side.able((case.now_ms, change.approve_by_ms), side.requires_user_presence());
    let mut missing = Missing::default();
    side.add_missing(&eligible, &mut missing);
    (missing != Missing::default()).then_some(Inadmissible::TooFewEligible { eligible: eligible.len(), missing })
}
