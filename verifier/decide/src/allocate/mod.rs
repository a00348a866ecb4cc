//! Allocate: who gets what, from the operator's inventory.
//!
//! Does: maps kernel facts to application and tenant, decides requests and renewals, keeps the book of what
//! is granted.
//! May assume: that requests come from verified evidence, and that profiles never exceed their request.
//! Promises: integer arithmetic; what is granted on a host never exceeds its inventory × overcommit, what a
//! tenant or an application holds never exceeds its quota; one request has one grant, however often it is
//! repeated; a grant that only silence ended holds its capacity until lease and margin are over.
//! Must never: count capacity that a host claims for itself; free capacity on missing news alone.

mod book;
mod decide;
mod rules;

pub use book::{Book, Entry, GrantRecord, HostShare};
pub use decide::{Allocation, Asked, Limits, decide, unlimited};
pub use rules::{Identity, Quota, Rule, Rules, Selector};
