//! Quorum: who must agree to a change, and how both ends check that they did (design §8).
//!
//! Does: reads the documents that say so ([`document`]).
//! May assume: nothing about its input: documents, change texts, votes and decisions come from outside.
//! Promises: every reader is bounded and total, and a document's faults are told all at once.
//! Must never: read a clock or a file, or take a vote for more than its signature proves.

pub mod document;
