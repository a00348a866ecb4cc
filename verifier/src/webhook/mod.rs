//! Webhooks: events of hosts, posted to receivers that the configuration names.
//!
//! Does: keeps a place in the log for each receiver, posts what stands after it in small signed batches, tries again
//! until the receiver acknowledges (any 2xx), and then has the new place made durable.
//! May assume: that urls, secrets and authorities are the operator's own: they come from the configuration alone.
//! Promises: at least once, in the order of the log, before and after a restart; a receiver that never answers holds up
//! nobody and costs one batch of memory; nothing is posted that is not committed.
//! Must never: follow a redirect; speak to anyone but the configured url; post over plain HTTP beyond this machine;
//! write a url's path, or a secret, into a log.

mod backoff;
mod deliver;
mod post;
mod receiver;

pub use deliver::{Delivery, WebhookState};
pub use receiver::{Receiver, ReceiverFault, Webhook, system_authorities};
