//! What can go wrong: files that do not read, a chain of authority that does not hold, plans that are not taken.

use std::path::PathBuf;

use quotary_client::ClientError;
use quotary_common::cbor::CborError;
use quotary_common::quorum::authority::AuthorityFault;
use quotary_common::quorum::coverage::NotCovered;
use quotary_common::quorum::decision::DecisionFault;
use quotary_common::quorum::roster::Word;

use crate::state::StateError;

/// A file of this room that cannot be read, written, or believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The pin cannot be read or written.
    #[error("who decides about policies is not kept")]
    Pin(#[source] StateError),
    /// The decisions cannot be read or written.
    #[error("the quorum decisions are not kept")]
    Decisions(#[source] StateError),
    /// The pin is not what was written.
    #[error(
        "`{path}` is damaged, so that no plan of a policy is taken: put it back from a backup, or remove it and restart the \
         agent, which then learns who decides anew; hold what `quotary agent status` shows against the deployment's authority"
    )]
    PinForm {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: CborError,
    },
    /// The decisions are not what was written.
    #[error(
        "`{path}` is damaged, so that plans are taken only where they loosen: put it back from a backup, or remove it and \
         restart the agent, which then keeps the policies again whose plans it is given"
    )]
    DecisionsForm {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: CborError,
    },
    /// A decision that was kept does not hold.
    #[error(
        "`{path}` holds a decision that does not hold, so that plans are taken only where they loosen: put it back from a \
         backup, or remove it and restart the agent, which then keeps the policies again whose plans it is given"
    )]
    DecisionsFault {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: DecisionFault,
    },
    /// More policies than a host keeps.
    #[error("this host keeps as many quorum decisions as it can, and has no room for that of policy `{0}`")]
    TooMany(Word),
    /// What would be pinned is not above what is.
    #[error("authority {to} would take the place of authority {from}: it must be a higher one")]
    Back {
        /// What is pinned.
        from: u64,
        /// What was to be.
        to: u64,
    },
}

/// Who decides could not be learned, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The verifier did not answer.
    #[error("the verifier does not tell who decides about policies")]
    Verifier(#[from] ClientError),
    /// What the root is said to have signed does not read.
    #[error("what the deployment root is said to have signed does not read")]
    Form(#[source] CborError),
    /// The root did not sign it, or it is another deployment's.
    #[error("the first authority does not hold")]
    Genesis(#[source] AuthorityFault),
    /// The root has signed another authority under a number that is pinned.
    #[error("the verifier shows another authority {0} than the one that is pinned: ask the deployment's operators")]
    Other(u64),
    /// A change of who decides does not hold.
    #[error("the change of who decides after authority {after} does not hold")]
    Link {
        /// The number before it.
        after: u64,
        /// Why.
        #[source]
        source: AuthorityFault,
    },
    /// It tells less than it said that there is.
    #[error("the verifier says that who decides was changed {said} times, and shows {shown}")]
    Short {
        /// What it said.
        said: u64,
        /// What it showed.
        shown: u64,
    },
    /// It says that there are more changes than there may be.
    #[error("the verifier says that who decides was changed {0} times, more than is taken")]
    TooMany(u64),
    /// What was learned could not be kept.
    #[error(transparent)]
    Keep(#[from] AuthorityError),
    /// The agent stops, or what learned died of a fault of its own.
    #[error("learning who decides broke off; it is begun again with the next reply")]
    Interrupted,
}

/// Why a plan is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Objection {
    /// Nobody has said who decides.
    #[error("it carries a quorum decision, and this host was never told who decides")]
    NoAuthority,
    /// Who decides is being asked for.
    #[error("it waits until this host has learned who decides")]
    Learning,
    /// Who decides is not known (any more).
    #[error("it carries a quorum decision, and who decides is not known here: {0}")]
    Lacking(String),
    /// The decision does not hold.
    #[error("its quorum decision does not hold: {0}")]
    Decision(String),
    /// A later decision over the policy is in force.
    #[error("its quorum decision over policy `{0}` is older than the one in force here")]
    Superseded(Word),
    /// It is beyond what was decided.
    #[error("it is not within its quorum decision over policy `{policy}`: {source}")]
    NotCovered {
        /// The policy.
        policy: Word,
        /// Why.
        source: NotCovered,
    },
    /// It carries no decision, and is beyond a policy in force.
    #[error("it carries no quorum decision, and policy `{policy}` is in force: {source}")]
    Beyond {
        /// The policy.
        policy: Word,
        /// Why.
        source: NotCovered,
    },
    /// Which policies are in force is not known (any more), and it tightens.
    #[error("it tightens, and which policies are in force is not known here: {0}")]
    Tightens(String),
    /// The decision cannot be kept, so that nothing may move by it.
    #[error("its quorum decision cannot be kept: {0}")]
    NotKept(String),
}

impl Objection {
    /// Whether time alone may mend it: then it is no refusal.
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Learning)
    }
}

/// An error with its causes, in one line.
pub(crate) fn in_a_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    // An error's causes are few; a ring of them would be a fault of a library.
    for _ in 0..16 {
        let Some(cause) = next else { break };
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
