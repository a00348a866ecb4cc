//! How values look to people: tables, amounts, ages, sparklines; and the way out to standard output.
//!
//! Does: formats. May assume: nothing about text from outside, which could move a terminal's cursor.
//! Promises: what it returns has no control character but the line end; columns are aligned; nothing is bold
//! unless standard output is a terminal and NO_COLOR is not set; a reader that went away ends no command badly.
//! Must never: ask anybody, decide anything.

mod amounts;
mod outline;
mod output;
mod pager;
mod sparkline;
mod table;

pub use amounts::{age, amount, bytes, duration, resources, time};
pub use outline::outline;
pub use output::{Progress, Status, json, print, print_bytes, print_on, print_table};
pub use pager::page;
pub use sparkline::sparkline;
pub use table::{Align, Facts, Table, clean};
