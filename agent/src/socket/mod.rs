//! The agent's local sockets: one for applications, one for root.
//!
//! Does: says who is connected from what the kernel says (uid, gid, pid, start time, cgroup), reads a request
//! within its bounds, hands it to the loop as an [`Ask`], and answers in JSON; an event stream is one object a
//! line.
//! May assume: nothing about a peer but what the kernel says; every byte is hostile.
//! Promises: whatever comes gets an answer with a status of 4xx or 5xx and a [`quotary_common::wire::Error`], and
//! changes nothing, unless it is one of the routes of the table; no uid can hold more than its connections; a
//! peer whose pid was given to another process is nobody.
//! Must never: decide what an application gets, believe a body about who sends it, show one uid another's grant,
//! serve root's routes to another uid, whatever the socket file's mode.

mod ask;
mod events;
mod handlers;
mod listener;
mod peer;
mod refuse;

pub(crate) use ask::Reply;
pub use ask::{Ask, Asks, GrantName, WAIT_MS_MAX};
pub use listener::{Limits, Listener, SocketError, SocketKind};
pub use peer::{Peer, PeerError};

#[cfg(test)]
mod tests;
