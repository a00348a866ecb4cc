//! Client of Quotary's routes: the verifier's over pinned TLS, the agent's over its Unix socket.
//!
//! Does: turns a [`Route`](quotary_common::wire::Route) of the one route table into a request, and its answer
//! into the route's reply or a [`ClientError`].
//! May assume: nothing about the other end. Who it is follows from the pinned key of the deployment's CA (TLS)
//! or from the socket's path and its permissions (Unix); every byte it answers is bounded before it is parsed.
//! Promises: no trust in the machine's own CA store, no process-wide TLS provider, no redirect followed, no
//! retry of a request that may have arrived; a bearer token appears in no message of an error.
//! Must never: decide anything. When and whether to try again is the caller's.
#![forbid(unsafe_code)]

mod error;
mod exchange;
mod https;
mod lines;
mod local;
mod pin;
mod told;

pub use error::ClientError;
pub use https::{Client, ClientConfig, Identity, REPLY_BYTES_MAX};
pub use lines::LINE_BYTES_MAX;
pub use local::{EventStream, LOCAL_TIMEOUT, LocalClient, LocalConnection};
pub use pin::{PinFault, PinnedCa};
pub use told::{Told, ToldStream};
