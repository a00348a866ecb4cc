//! Door of the room; written next.
