//! Tests of the quorum: what the documents and texts refuse, what is counted, and a model that says the same.
#![expect(clippy::unwrap_used, reason = "tests")]

mod authority;
mod change;
mod coverage;
mod decide;
mod decision;
mod emergency;
mod fixture;
mod model;

mod roster;
mod rules;
mod time;
mod vote;
