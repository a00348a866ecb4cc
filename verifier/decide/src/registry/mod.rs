//! Registry: what is kept of each host, and how enrolment and evidence move it.
//!
//! Does: holds the records of hosts and tokens, and decides the steps between them.
//! May assume: that a [`CheckedEnrolment`](crate::attest::CheckedEnrolment) was activated, that a
//! [`VerifiedEvidence`](crate::attest::VerifiedEvidence) was verified against this very record or an earlier one.
//! Promises: sequence, epoch and generation never decrease; an epoch rises only for what stands under a
//! signature or an operator's word; one join token admits one host.
//! Must never: keep a secret in clear; change a host's id or endorsement key.

mod host;
mod meter;
mod seen;
mod token;

pub use host::{AcceptError, Admission, Host, HostProgress, HostRecord, LoadError, Promise};
pub use meter::{RefusalMeter, Tally};
pub use seen::Seen;
pub use token::{TokenRecord, TokenScope, check_join, check_operator};
