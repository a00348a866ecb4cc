//! Quorum: who must agree to a change, and how both ends check that they did (design §8).
//!
//! Does: reads the documents that say so ([`document`], [`roster`], [`rules`]); fixes the text that people sign
//! ([`change`], [`covers`]); checks their signatures ([`ssh`], [`vote`]); decides ([`decide`]); and fixes what an agent pins ([`authority`]), what travels in a plan
//! ([`decision`]), and what a plan must be within ([`coverage`]).
//! May assume: nothing about its input: documents, change texts, votes and decisions come from outside.
//! Promises: every reader is bounded and total, and a document's faults are told all at once; a vote counts for exactly
//! the bytes that were signed.
//! Must never: read a clock or a file, or take a vote for more than its signature proves.

pub mod authority;
pub mod change;
pub mod coverage;
pub mod covers;
pub mod criticality;
pub mod decide;
pub mod decision;
pub mod document;
pub mod freeze;
pub mod roster;
pub mod rules;
pub mod ssh;
pub mod vote;

#[cfg(test)]
mod tests;
