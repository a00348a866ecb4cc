//! Tests of the room.
#![expect(clippy::unwrap_used, reason = "tests")]

mod event;
mod log;
mod offline;
mod tile;
mod tpm;
mod tree;
