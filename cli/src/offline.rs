//! The heavy offline verbs live in a program of their own, so that `quotary run` stays small: it is called as git calls its verbs.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quotary_common::wire::ChangePreview;

use crate::exit::{Code, Failure};

/// The program's name.
const PROGRAM: &str = "quotary-offline";
/// Its verb that draws what it reads from standard input.
pub const DRAW: &str = "__draw";

/// Becomes the program of the offline verbs, with this program's own arguments: they were read here, so they are well-formed.
pub(crate) fn hand_over() -> Result<u8, Failure> {
    let program = program()?;
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    Err(not_started(&program, &error))
}

/// Has it draw the plans of a change into a file.
///
/// # Errors
/// It is not there, or does not draw: it has told why on standard error.
pub(crate) fn draw(preview: &ChangePreview, to: &Path) -> Result<(), Failure> {
    let json = serde_json::to_vec(preview)
        .map_err(|error| Failure::new(Code::Unreadable, format!("cannot write as JSON: {error}")))?;
    let program = program()?;
    let mut command = Command::new(&program);
    let started = command.arg(DRAW).arg(to).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = started.map_err(|error| not_started(&program, &error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it does not read on, it has said why.
        let _ = stdin.write_all(&json);
    }
    let status = child.wait().map_err(|error| not_started(&program, &error))?;
    match status.code() {
        Some(0) => Ok(()),
        code => {
            let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Code::Unavailable as u8);
            Err(Failure::with_code(code, format!("{} was not drawn", to.display())))
        }
    }
}

fn not_started(program: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Unavailable, format!("cannot start {}: {error}", program.display()))
}

/// Where it is.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::new(Code::Unavailable, format!("cannot find this program: {e}")))?;
    places(&own).into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let places: Vec<String> = places(&own).iter().map(|place| place.display().to_string()).collect();
        let message =
            format!("{PROGRAM} is not there (looked for {}): install the package quotary whole", places.join(" and "));
        Failure::new(Code::Unavailable, message)
    })
}

/// Beside this program, or where packages put it.
fn places(own: &Path) -> Vec<PathBuf> {
    let Some(directory) = own.parent() else { return Vec::new() };
    vec![directory.join(PROGRAM), directory.join("../libexec/quotary").join(PROGRAM)]
}
