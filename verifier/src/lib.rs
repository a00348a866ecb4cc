//! The central service: the shell round `quotary-decide`.
//!
//! Does: serves the routes over TLS, verifies evidence in parallel, commits state and audit leaves together in
//! one writer, forecasts, and keeps the read model that everyone else sees.
//! May assume: nothing about any byte from outside.
//! Promises: decide, commit, reply, in this order; what cannot be made durable is not answered.
//! Must never: decide anything itself (that is `decide`'s), or name a real adapter outside `main.rs` and `wiring.rs`.
//!
//! | room | what it does |
//! |---|---|
//! | [`args`] | what the command line may say |
//! | [`config`] | raw to checked configuration, all faults told at once |
//! | [`init`], [`keyring`] | makes a deployment; reads its keys |
//! | [`store`] | durable batches of state and leaves |
//! | [`core`] | the single writer, and the read model it publishes |
//! | [`predict`] | history and forecasts on a thread of their own |
//! | [`api`], [`tls`] | routes, rights, connections |
//! | [`webhook`] | tells the receivers of the configuration what happened to hosts |
//! | [`service`] | tells the service manager that the writer answers |
//! | [`wiring`] | puts the real parts together and takes them apart again |
#![forbid(unsafe_code)]

pub mod api;
pub mod args;
pub mod authority;
pub mod clock;
pub mod config;
pub mod core;
pub mod init;
pub mod keyring;
pub mod planner;
pub mod predict;
pub mod service;
pub mod store;
pub mod teller;
pub mod tls;
pub mod webhook;
pub mod wiring;
