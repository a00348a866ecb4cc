//! The single writer: decide, commit, publish, reply.
//!
//! Does: takes commands from a bounded queue, applies the deciding crate's functions to the working state,
//! commits what follows in groups (state and leaves together), publishes a read model, then replies.
//! May assume: that a command's proofs hold: its types can be made by the attest room only.
//! Promises: nobody sees what is not durable; if a commit fails, the process stops without answering; working
//! state and store never drift apart.
//! Must never: verify signatures or run models (others do, in parallel); block a reader.

mod anomalies;
mod audit;
mod changes;
mod command;
mod events;
mod evidence;
mod history;
mod host;
mod load;
mod models;
mod observed;
mod plans;
mod standing;
mod state;
pub(crate) mod tables;
#[cfg(test)]
mod testing;
mod view;
mod writer;
mod zone_check;

pub use anomalies::AlarmList;
pub use audit::{AuditLog, TileError};
pub(crate) use changes::no_person;
pub use changes::{Basis, ChangeAsk, PlansMade, Proposal};
pub use command::{Command, Queue, WeakQueue};
#[cfg(test)]
pub(crate) use events::tests as event_tests;
pub use events::{EventLog, Page};
pub(crate) use load::governing;
pub use load::{LoadError, learned, load};
pub use models::{ModelsChange, load_models, load_record};
pub use plans::Reply;
pub(crate) use plans::no_plan;
pub(crate) use standing::{Ground, Place};
pub use state::{Settings, State};
pub use view::{HostSnapshot, View};
pub use writer::{Writer, WriterError};
pub(crate) use zone_check::{CheckError, DryZones, check_zones};
