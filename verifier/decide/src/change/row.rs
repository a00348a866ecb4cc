//! Changes and policies as they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, BoundedBytes, CborError, Text, Version};
use quotary_common::envelope::Name;
use quotary_common::id::ChangeId;
use quotary_common::limits::{CHANGE_BYTES_MAX, DECISION_BYTES_MAX, DOCUMENT_BYTES_MAX};
use quotary_common::quorum::change::{ChangeText, TextFault};
use quotary_common::quorum::decide::Proposed;
use quotary_common::quorum::decision::{DocumentBytes, QuorumDecision};
use quotary_common::quorum::document::Faults;
use quotary_common::quorum::freeze::held_by;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_common::quorum::vote::{Ballot, SignatureCache};

use super::book::{Book, InForce, Kept};
use super::drive::edit_of;
use super::governing::Governing;
use crate::policy::life::Record;
use crate::policy::read;

/// Lines of an impact that are kept, and how long one is.
const LINES_MAX: usize = 256;
pub(super) const LINE_BYTES_MAX: usize = 512;
/// What the row of a policy holds beside its document.
const BEFORE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + 256;

/// A change's row.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct ChangeRow {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    record: Record,
    #[n(2)]
    text: BoundedBytes<CHANGE_BYTES_MAX>,
    #[n(3)]
    ballot: Ballot,
    #[n(4)]
    roster: DocumentBytes,
    #[n(5)]
    rules: DocumentBytes,
    #[n(6)]
    impact: Bounded<Text<LINE_BYTES_MAX>, LINES_MAX>,
    #[n(7)]
    decision: Option<BoundedBytes<DECISION_BYTES_MAX>>,
    #[n(8)]
    before: Option<BoundedBytes<BEFORE_BYTES_MAX>>,
}

/// A policy's row.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct PolicyRow {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    document: DocumentBytes,
    #[n(2)]
    change: ChangeId,
    #[n(3)]
    since_ms: u64,
}

/// A row that does not read: rows are the verifier's own, so its store is damaged.
#[derive(Debug, thiserror::Error)]
pub enum RowFault {
    /// Not the form.
    #[error("a row does not read")]
    Form(#[from] CborError),
    /// The text.
    #[error("the text of a change does not read")]
    Text(#[from] TextFault),
    /// A document.
    #[error("a document does not read: {0}")]
    Document(Faults),
}

/// What the store holds of all this.
#[derive(Debug, Default)]
pub struct Rows {
    /// The authority, if a roster was ever put in force.
    pub governing: Option<Governing>,
    /// Policies' rows.
    pub policies: Vec<Vec<u8>>,
    /// Changes' rows, by their ids.
    pub changes: BTreeMap<ChangeId, Vec<u8>>,
}

impl Book {
    /// The book that the rows hold. Signatures of votes are checked again: rows may have been copied about.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn from_rows(rows: Rows, row_bytes_max: usize) -> Result<Self, RowFault> {
        let mut book = Self { governing: rows.governing.map(Arc::new), ..Self::default() };
        for row in rows.policies {
            let held = in_force(&row, row_bytes_max)?;
            book.policies.insert(held.policy.name.clone(), held);
        }
        book.map_anew();
        let mut cache = SignatureCache::default();
        for (id, row) in rows.changes {
            let kept = kept(&row, row_bytes_max, (book.governing.as_deref(), &mut cache))?;
            book.changes.insert(id, Arc::new(kept));
        }
        book.come_anew();
        book.is_decided = book.changes.values().all(|kept| book.is_of_those_who_decide(kept));
        Ok(book)
    }

    /// Whether the decision that is kept of a change names who decides now, as those do that are made from now on.
    fn is_of_those_who_decide(&self, kept: &Kept) -> bool {
        let (Some(governing), Some(decision)) = (&self.governing, &kept.decision) else { return true };
        let read: Result<QuorumDecision, CborError> = cbor::from_bytes(decision, DECISION_BYTES_MAX);
        read.is_ok_and(|decision| {
            *decision.roster == *governing.roster().bytes() && *decision.rules == *governing.rules().bytes()
        })
    }

    /// A change's row.
    pub fn change_row(&self, id: &ChangeId) -> Option<Vec<u8>> {
        let kept = self.changes.get(id)?;
        let bytes = |bytes: &[u8]| DocumentBytes::new(bytes.to_vec()).unwrap_or_default();
        let impact = kept.impact.iter().map(|line| Text::lossy(line)).collect();
        Some(cbor::to_bytes(&ChangeRow {
            version: Version,
            record: kept.record.clone(),
            text: BoundedBytes::new(kept.text.bytes().to_vec())?,
            ballot: kept.ballot.clone(),
            roster: bytes(kept.roster.bytes()),
            rules: bytes(kept.rules.bytes()),
            impact: Bounded::truncating(impact).0,
            decision: kept.decision.clone().and_then(BoundedBytes::new),
            before: kept.before.as_ref().and_then(policy_row).and_then(BoundedBytes::new),
        }))
    }

    /// A policy's row; `None` when it is not in force.
    pub fn policy_row(&self, name: &Name) -> Option<Vec<u8>> {
        self.policies.get(name).and_then(policy_row)
    }
}

fn policy_row(held: &InForce) -> Option<Vec<u8>> {
    Some(cbor::to_bytes(&PolicyRow {
        version: Version,
        document: DocumentBytes::new(held.text.as_bytes().to_vec())?,
        change: held.change,
        since_ms: held.since_ms,
    }))
}

fn in_force(row: &[u8], row_bytes_max: usize) -> Result<InForce, RowFault> {
    let row: PolicyRow = cbor::from_bytes(row, row_bytes_max)?;
    let policy = Arc::new(read(&row.document, None).map_err(RowFault::Document)?);
    let text = String::from_utf8_lossy(&row.document).into();
    Ok(InForce { policy, text, change: row.change, since_ms: row.since_ms })
}

fn kept(
    row: &[u8],
    row_bytes_max: usize,
    (governing, cache): (Option<&Governing>, &mut SignatureCache),
) -> Result<Kept, RowFault> {
    let row: ChangeRow = cbor::from_bytes(row, row_bytes_max)?;
    let text = ChangeText::parse(&row.text)?;
    let roster = Roster::parse(&row.roster).map_err(RowFault::Document)?;
    let rules = Rules::parse(&row.rules).map_err(RowFault::Document)?;
    let proposed = Proposed::of(&text).map_err(RowFault::Document)?;
    let mut rosters: Vec<&Roster> =
        governing.map(|governing| &**governing.roster()).into_iter().chain([&roster]).collect();
    if let Some(Proposed::Roster(next)) = &proposed {
        rosters.push(next);
    }
    let (checked, _of_earlier_texts) = row.ballot.checked(&text, &rosters, cache);
    Ok(Kept {
        edit: edit_of(&text),
        holds: held_by(text.change()),
        record: row.record,
        text,
        ballot: row.ballot,
        checked,
        roster: Arc::new(roster),
        rules: Arc::new(rules),
        proposed,
        impact: row.impact.iter().map(|line| line.as_str().to_owned()).collect(),
        decision: row.decision.map(BoundedBytes::into_vec),
        outcome: None,
        before: row.before.map(|before| in_force(&before, row_bytes_max)).transpose()?,
    })
}
