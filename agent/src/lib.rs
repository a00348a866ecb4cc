//! The privileged service on a host: samples, quotes, enforces.
//!
//! Does: reads what the kernel says of host and applications, binds it into TPM quotes, sends them to the
//! verifier, and acts on the signed grants that come back, through the kernel's own controls.
//! May assume: it runs as root on Linux (without root or controllers it shows what it would do); nothing about
//! the verifier beyond what its join token pins, nothing about local applications beyond what the kernel says.
//! Promises: no limit outlives its lease; every value it changed can be put back; what it reports as effective
//! was read back from the kernel.
//! Must never: import the verifier's crates, trust a local application's word about who it is, open a TCP port.
//!
//! | room | what it does |
//! |---|---|
//! | [`args`], [`config`], [`clock`] | command line; settings, all faults at once; the two clocks |
//! | [`sample`] | kernel files to metric windows |
//! | [`tpm`] | one thread owns the TPM: identity, activation, quotes |
//! | [`identity`], [`enrol`] | who this host is in a deployment, and how it became so |
//! | [`evidence`] | envelopes within their bounds, and their chain |
//! | [`link`] | one exchange with the verifier, checked |
//! | [`lease`], [`enforce`] | leases and limits, journaled |
//! | [`authority`] | who decides about policies, and which plans are therefore taken |
//! | [`shape`] | plans for services that run already |
//! | [`socket`] | applications' socket and root's |
//! | [`run`] | the loop that ties the rooms together |
//! | [`state`] | files that a crash cannot tear |
#![forbid(unsafe_code)]

pub mod args;
pub mod authority;
pub mod clock;
pub mod config;
pub mod enforce;
pub mod enrol;
pub mod evidence;
pub mod identity;
pub mod lease;
pub mod link;
pub mod run;
pub mod sample;
pub mod shape;
pub mod socket;
pub mod state;
pub mod tpm;
