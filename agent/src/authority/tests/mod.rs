//! The room with people made from names, on a directory that may fail.
#![expect(clippy::unwrap_used, reason = "tests")]

pub(crate) mod fixture;
mod hear;
mod judge;
mod kept;
mod pin;
mod walk;
