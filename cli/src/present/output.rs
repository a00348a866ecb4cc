//! Standard output for results, standard error for what happens meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Table;
use crate::exit::{Code, Failure};

/// Progress is told after this, and on a terminal again this often.
const FIRST: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(200);
/// How often it is told where standard error is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Writes a result. A reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes a result that is to be read by a program, byte by byte: paths need not be UTF-8.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    print_on(bytes).map(drop)
}

/// Writes a part of a result that goes on; whether somebody still reads it.
pub fn print_on(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Code::Unavailable, format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// Writes a value as JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    print(&(text.map_err(|e| Failure::new(Code::Unreadable, format!("cannot write as JSON: {e}")))? + "\n"))
}

/// Writes a table, its header in bold where people look.
pub fn print_table(table: &Table) -> Result<(), Failure> {
    print(&table.render(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())))
}

/// Whether somebody looks at standard error.
fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A line on the terminal that goes away again; nothing where standard error is no terminal.
#[derive(Debug)]
pub struct Status(bool);

impl Status {
    /// Shows it.
    pub fn show(text: &str) -> Self {
        if is_terminal() {
            eprint!("{}\r", super::clean(text));
        }
        Self(is_terminal())
    }
}
impl Drop for Status {
    fn drop(&mut self) {
        if self.0 {
            eprint!("\u{1b}[2K");
        }
    }
}

/// How far something has come: silent for the first second.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    started: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// Begins.
    pub fn new(what: &'static str) -> Self {
        Self { what, started: Instant::now(), told: None }
    }

    /// Tells that `done` are done of nobody knows how many, if it is time.
    pub fn tell_so_far(&mut self, done: u64) {
        self.say(&format!("{}: {done}", self.what));
    }

    /// Tells that `done` of `total` are done, if it is time.
    pub fn tell(&mut self, done: u64, total: u64) {
        self.say(&format!("{}: {done} of {total}", self.what));
    }

    fn say(&mut self, text: &str) {
        let between = if is_terminal() { REDRAW } else { LINE };
        let due = match self.told {
            None => self.started.elapsed() >= FIRST,
            Some(last) => last.elapsed() >= between,
        };
        if !due {
            return;
        }
        self.told = Some(self.started + self.started.elapsed());
        if is_terminal() {
            eprint!("\u{1b}[2K{text}\r");
        } else {
            eprintln!("{text}");
        }
    }
}
impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() && is_terminal() {
            eprint!("\u{1b}[2K");
        }
    }
}
