//! The transcript: numbered steps, what happens and why, and what was read back.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often a wait says that it goes on.
const STILL_WAITING: Duration = Duration::from_secs(5);

/// Tells what happens, on standard output.
#[derive(Debug)]
pub(crate) struct Teller {
    begun: Instant,
    step: u32,
    bold: (&'static str, &'static str),
}

impl Teller {
    pub(crate) fn new() -> Self {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { begun: Instant::now(), step: 0, bold: if coloured { ("\x1b[1m", "\x1b[0m") } else { ("", "") } }
    }

    fn print(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has gone away does not stop the demo: its exit code and summary still count.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        let (on, off) = self.bold;
        self.print(&format!("\n{on}{}. {title}{off}   [{:.1} s]", self.step, self.begun.elapsed().as_secs_f64()));
    }

    /// Says what happens and why.
    pub(crate) fn say(&self, text: &str) {
        self.print(&format!("   {text}"));
    }

    /// Shows something that was read back.
    pub(crate) fn show(&self, text: &str) {
        self.print(&format!("     {text}"));
    }

    /// The last word.
    pub(crate) fn end(&self, text: &str) {
        let (on, off) = self.bold;
        self.print(&format!("\n{on}{text}{off}"));
    }

    /// Something to be called while waiting, which says every few seconds that the wait goes on.
    pub(crate) fn waiting(&self, what: &str) -> impl FnMut() + use<> {
        let (begun, what) = (Instant::now(), what.to_owned());
        let mut said = begun;
        move || {
            if said.elapsed() >= STILL_WAITING {
                said = Instant::now();
                println!("     … waiting for {what}, {} s so far", begun.elapsed().as_secs());
            }
        }
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// An amount of bytes for people.
pub(crate) fn bytes(amount: u64) -> String {
    if amount >= 1 << 20 { format!("{} MiB", amount >> 20) } else { format!("{} KiB", amount >> 10) }
}
