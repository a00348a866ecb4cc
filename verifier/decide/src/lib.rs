//! Every deciding part of the verifier, without I/O: given state, input and the time, what follows and why.
//!
//! Does: alarm (which anomalies are told), attest (quotes, EK chains, credentials), eventlog (boot logs), ima (measurement lists), inspect (the offline
//! verbs), history and profile (windows, forecast use), allocate (grants), shape (plans), policy (what
//! applications must and may have, what a change of it does), change (from what somebody asks for to what
//! is in force), observe (what limits
//! would have done), audit (the Merkle tree, its offline check).
//! May assume: that `common` bounded what it decoded; nothing else about its input.
//! Promises: pure and synchronous; time and randomness are arguments; the same input gives the same output.
//! Must never: read a clock, a file, a socket or a random source; import a crate of this workspace but `common`.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod allocate;
pub mod anomaly;
pub mod attest;
pub mod audit;
pub mod backtest;
pub mod change;
pub mod contest;
pub mod eventlog;
pub mod forecast;
pub mod history;
pub mod ima;
pub mod inspect;
pub mod observe;
pub mod policy;
pub mod profile;
pub mod registry;
pub mod result;
pub mod shape;
