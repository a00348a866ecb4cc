//! Long texts, a page at a time where people look.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use super::print;
use crate::exit::Failure;

/// Shows a text that has no character that moves a cursor: through `$PAGER` (`less`) on a terminal, plainly elsewhere and
/// where there is no pager.
///
/// # Errors
/// Standard output takes nothing.
pub fn page(text: &str) -> Result<(), Failure> {
    if io::stdout().is_terminal() && through_pager(text).unwrap_or(false) {
        return Ok(());
    }
    print(text)
}

/// Whether a pager showed it.
fn through_pager(text: &str) -> io::Result<bool> {
    let pager = match std::env::var("PAGER") {
        Ok(pager) if pager.trim().is_empty() || pager.trim() == "cat" => return Ok(false),
        Ok(pager) => pager,
        Err(_) => "less".to_owned(),
    };
    // As git does it: a pager may have arguments. What fits on the screen is shown without waiting.
    let mut command = Command::new("sh");
    command.args(["-c", &pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever has seen enough leaves before the end.
        let _ = stdin.write_all(text.as_bytes());
    }
    Ok(child.wait()?.success())
}
