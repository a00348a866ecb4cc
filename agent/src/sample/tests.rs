//! The room against fake trees of version 1, hybrid and version 2 hosts, and against the running kernel.

mod fold;
mod rates;
mod reader;
mod running;
mod world;
