//! Change: from what somebody asks for to what is in force, and all that must hold on the way (design §8).
//!
//! Does: writes the text that people sign, with its impact, its clocks and what it covers ([`Book::propose`], [`Book::edit`]); takes votes
//! ([`Book::cast`]); asks the quorum at each vote, at approval and at the effective time, each time by what holds then; puts documents in force;
//! holds changes where they are while somebody looks ([`Book::held_until_ms`]); keeps who decides, and how that came about ([`Governing`]).
//! May assume: that who is named did it (tokens are checked before), and that a [`CheckedVote`]'s signature holds.
//! Promises: what is in force is byte for byte what was signed; nothing moves without a leaf; after a restart the same rows give the same book.
//! Must never: verify a signature, sign, make a plan, read a clock or a random source.
//!
//! [`CheckedVote`]: quotary_common::quorum::vote::CheckedVote

mod asking;
mod besides;
mod book;
mod drive;
mod escalating;
mod fields;
mod freezing;
mod governing;
mod making;
mod meetable;
mod reaching;
mod reviewing;
mod row;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use book::{Book, Effect, InForce, Kept, Moved, World};
pub use fields::{between_rosters, between_rules, key_words};
pub use governing::{Governing, GoverningFault};
pub use making::Asked;
pub use meetable::{Lacking, Unmeetable, unmeetable};
pub use reviewing::Review;
pub use row::{RowFault, Rows};
