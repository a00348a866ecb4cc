//! Who decides now, and how that came about since genesis.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, BoundedBytes, CborError, Version};
use quotary_common::id::DeploymentId;
use quotary_common::limits::{DECISION_BYTES_MAX, LINKS_MAX, SIGNED_BYTES_MAX};
use quotary_common::quorum::authority::{Authority, AuthorityFault};
use quotary_common::quorum::change::Kind;
use quotary_common::quorum::decide::Under;
use quotary_common::quorum::decision::DocumentBytes;
use quotary_common::quorum::document::Faults;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_common::sign::{PublicKey, Signed};

/// Numbers of links that are left for the root: it can begin anew even where roster and rules were changed as often as may be.
const LEFT_FOR_ROOT: u64 = 16;

/// The roster and the rules in force, with all that proves them to whoever knows the deployment root alone.
#[derive(Debug, Clone)]
pub struct Governing {
    genesis: Vec<u8>,
    /// The number that the root gave it: 0, unless it began anew.
    begins_at: u64,
    first: (Arc<Roster>, Arc<Rules>),
    links: Vec<Vec<u8>>,
    pin: Authority,
    roster: Arc<Roster>,
    rules: Arc<Rules>,
}

/// Its row.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    genesis: BoundedBytes<SIGNED_BYTES_MAX>,
    #[n(2)]
    first_roster: DocumentBytes,
    #[n(3)]
    first_rules: DocumentBytes,
    #[n(4)]
    pin: Authority,
    #[n(5)]
    roster: DocumentBytes,
    #[n(6)]
    rules: DocumentBytes,
    /// Absent: 0.
    #[n(7)]
    begins_at: Option<u64>,
}

/// Why nobody can be said to decide.
#[derive(Debug, thiserror::Error)]
pub enum GoverningFault {
    /// The root's signature, or its form.
    #[error("what the deployment root signed does not hold")]
    Authority(#[from] AuthorityFault),
    /// Not the canonical form.
    #[error("what is kept of the authority does not read")]
    Form(#[from] CborError),
    /// A document that was in force does not read.
    #[error("the {0} does not read: {1}")]
    Document(&'static str, Faults),
    /// The documents are not those that the root signed.
    #[error("the {0} is not the one that the deployment root signed")]
    OtherDocument(&'static str),
    /// A link is missing, or does not follow.
    #[error("the changes of roster and rules since genesis do not lead to those in force")]
    Links,
    /// The root begins anew above all that was, and not there.
    #[error("who decides has number {0} of at most {LINKS_MAX}: the root begins anew with the next number")]
    Number(u64),
}

impl Governing {
    /// What the root signed at genesis, with the two documents.
    ///
    /// # Errors
    /// [`GoverningFault`].
    pub fn genesis(
        signed: &[u8],
        (roster, rules): (&[u8], &[u8]),
        (root, deployment): (&PublicKey, &DeploymentId),
    ) -> Result<Self, GoverningFault> {
        let pin = Authority::genesis(&Signed::from_bytes(signed)?, root, deployment)?;
        let (roster, rules) = read(roster, rules)?;
        if roster.digest() != pin.roster {
            return Err(GoverningFault::OtherDocument("roster"));
        }
        if rules.digest() != pin.rules {
            return Err(GoverningFault::OtherDocument("quorum rules"));
        }
        let (roster, rules) = (Arc::new(roster), Arc::new(rules));
        let first = (Arc::clone(&roster), Arc::clone(&rules));
        let (genesis, begins_at) = (signed.to_vec(), pin.number);
        Ok(Self { genesis, begins_at, first, links: Vec::new(), pin, roster, rules })
    }

    /// What the root signed once more, after those who decided lost their keys: with the next number, so that whoever holds a pin takes it.
    ///
    /// # Errors
    /// [`GoverningFault`].
    pub fn begun_anew(
        &self,
        signed: &[u8],
        documents: (&[u8], &[u8]),
        whose: (&PublicKey, &DeploymentId),
    ) -> Result<Self, GoverningFault> {
        let anew = Self::genesis(signed, documents, whose)?;
        if anew.begins_at != self.pin.number.saturating_add(1) || anew.begins_at > LINKS_MAX as u64 {
            return Err(GoverningFault::Number(self.pin.number));
        }
        Ok(anew)
    }

    /// Its row; links have rows of their own.
    pub fn to_row(&self) -> Vec<u8> {
        let bytes = |bytes: &[u8]| DocumentBytes::new(bytes.to_vec()).unwrap_or_default();
        cbor::to_bytes(&Row {
            version: Version,
            genesis: BoundedBytes::new(self.genesis.clone()).unwrap_or_default(),
            first_roster: bytes(self.first.0.bytes()),
            first_rules: bytes(self.first.1.bytes()),
            pin: self.pin,
            roster: bytes(self.roster.bytes()),
            rules: bytes(self.rules.bytes()),
            begins_at: Some(self.begins_at).filter(|number| *number > 0),
        })
    }

    /// Reads the row, with the links by their numbers; those from before the root began anew are passed over.
    ///
    /// # Errors
    /// [`GoverningFault`].
    pub fn from_row(row: &[u8], links: BTreeMap<u64, Vec<u8>>, row_bytes_max: usize) -> Result<Self, GoverningFault> {
        let row: Row = cbor::from_bytes(row, row_bytes_max)?;
        let (first_roster, first_rules) = read(&row.first_roster, &row.first_rules)?;
        let (roster, rules) = read(&row.roster, &row.rules)?;
        let begins_at = row.begins_at.unwrap_or_default();
        let (numbers, links): (Vec<u64>, Vec<Vec<u8>>) =
            links.into_iter().filter(|(number, _)| *number > begins_at).unzip();
        let is_whole = row.pin.number >= begins_at && numbers.into_iter().eq(begins_at + 1..=row.pin.number);
        if !is_whole || (roster.digest(), rules.digest()) != (row.pin.roster, row.pin.rules) {
            return Err(GoverningFault::Links);
        }
        Ok(Self {
            genesis: row.genesis.into_vec(),
            begins_at,
            first: (Arc::new(first_roster), Arc::new(first_rules)),
            links,
            pin: row.pin,
            roster: Arc::new(roster),
            rules: Arc::new(rules),
        })
    }

    /// What agents pin.
    pub fn pin(&self) -> &Authority {
        &self.pin
    }
    /// The roster in force.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }
    /// The rules in force.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }
    /// Both.
    pub fn under(&self) -> Under<'_> {
        Under { roster: &self.roster, rules: &self.rules }
    }
    /// What the root signed.
    pub fn genesis_signed(&self) -> &[u8] {
        &self.genesis
    }
    /// The number that it has: 0, unless the root began anew.
    pub fn first_number(&self) -> u64 {
        self.begins_at
    }
    /// The documents that it signed.
    pub fn first(&self) -> (&Roster, &Rules) {
        (&self.first.0, &self.first.1)
    }
    /// The quorum decisions that led from them to those in force, in order.
    pub fn links(&self) -> &[Vec<u8>] {
        &self.links
    }
    /// Those that lead on from a number: none, where the root began anew since.
    pub fn links_after(&self, number: u64) -> &[Vec<u8>] {
        let from = number.checked_sub(self.begins_at).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.links.get(from..)).unwrap_or_default()
    }
    /// The last one with its number.
    pub fn last_link(&self) -> Option<(u64, &[u8])> {
        self.links.last().map(|link| (self.pin.number, link.as_slice()))
    }

    /// Takes a link: the decision over another roster or other rules. Whoever holds a pin does the same.
    ///
    /// # Errors
    /// [`GoverningFault`]: as an agent would refuse it; or there are as many links as may be.
    pub fn advance(
        &mut self,
        kind: Kind,
        document: &[u8],
        decision: Vec<u8>,
        now_ms: u64,
    ) -> Result<(), GoverningFault> {
        if self.pin.number >= LINKS_MAX as u64 - LEFT_FOR_ROOT || decision.len() > DECISION_BYTES_MAX {
            return Err(GoverningFault::Links);
        }
        let pin = self.pin.advance(&decision, now_ms)?;
        match kind {
            Kind::Roster => {
                let roster = Roster::parse(document).map_err(|faults| GoverningFault::Document("roster", faults))?;
                self.roster = Arc::new(roster);
            }
            _ => {
                let rules =
                    Rules::parse(document).map_err(|faults| GoverningFault::Document("quorum rules", faults))?;
                self.rules = Arc::new(rules);
            }
        }
        if (self.roster.digest(), self.rules.digest()) != (pin.roster, pin.rules) {
            return Err(GoverningFault::Links);
        }
        self.pin = pin;
        self.links.push(decision);
        Ok(())
    }
}

fn read(roster: &[u8], rules: &[u8]) -> Result<(Roster, Rules), GoverningFault> {
    let roster = Roster::parse(roster).map_err(|faults| GoverningFault::Document("roster", faults))?;
    let rules = Rules::parse(rules).map_err(|faults| GoverningFault::Document("quorum rules", faults))?;
    Ok((roster, rules))
}
