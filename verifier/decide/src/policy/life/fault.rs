//! Why a step in the life of a change cannot be.

use quotary_common::instant::rfc3339;

use super::record::{REVISIONS_MAX, State};

/// A step that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifeFault {
    /// Not in this state.
    #[error("the change is {}: {what}", .state.name())]
    NotNow {
        /// The state.
        state: State,
        /// What would have to be, or be done.
        what: &'static str,
    },
    /// Too late.
    #[error("the time for {what} ended at {}", rfc3339(*.at_ms))]
    TooLate {
        /// For what.
        what: &'static str,
        /// When that was, Unix ms.
        at_ms: u64,
    },
    /// The clocks do not go together.
    #[error("{0}")]
    Times(String),
    /// Too many edits.
    #[error("it was edited {REVISIONS_MAX} times: propose another change")]
    Edits,
}
