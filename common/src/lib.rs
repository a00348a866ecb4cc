//! What both ends of Quotary speak and run.
//!
//! Does: fixes the forms that are hashed, signed, stored or sent, their bounds, and the mechanisms that
//! agent and verifier share (lease, plan, decision record).
//! May assume: nothing about its input; every byte is hostile until a type here says otherwise.
//! Promises: no clock, no randomness, no file, no network, no task; every decoder is bounded and total.
//! Must never: import another crate of this workspace.
//!
//! | module | what it holds |
//! |---|---|
//! | [`limits`] | every bound, related by checked inequalities |
//! | [`id`] | 32-byte ids and digests, each its own type |
//! | [`units`] | resources with their units, service classes |
//! | [`cbor`] | deterministic CBOR: the one form that is hashed, signed or stored |
//! | [`metric`], [`envelope`], [`evidence`], [`nonce`] | what an agent states, and how a quote covers it |
//! | [`tpm`] | bounded readers of TPM structures, and signature checks over raw bytes |
//! | [`sign`], [`keys`] | signed forms; what the deployment root says of a verifier's keys |
//! | [`grant`], [`lease`], [`plan`] | what comes back |
//! | [`quorum`] | who must agree to what, and how both ends check that they did |
//! | [`steps`] | journaled steps: what may have been done, and what undoes it |
//! | [`reason`] | why something was refused: codes that never change their meaning |
//! | [`leaf`], [`checkpoint`], [`consistency`] | the audit log's forms, and whether one state follows from another |
//! | [`token`] | join tokens: the bootstrap of trust |
//! | [`wire`] | the routes and their JSON bodies |
#![forbid(unsafe_code)]

pub mod anomaly;
pub mod cbor;
pub mod checkpoint;
pub mod consistency;
pub mod envelope;
pub mod evidence;
pub mod grant;
pub mod id;
pub mod instant;
pub mod keys;
pub mod leaf;
pub mod lease;
pub mod limits;
pub mod metric;
pub mod nonce;
pub mod plan;
pub mod quorum;
pub mod reason;
pub mod sign;
pub mod steps;
pub mod token;
pub mod tpm;
pub mod units;
pub mod wire;
