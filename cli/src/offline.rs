//! The heavy offline verbs live in a program of their own, so that `quotary run` stays small: it is called as git calls its verbs.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::{Code, Failure};

/// The program's name.
const PROGRAM: &str = "quotary-offline";

/// Becomes the program of the offline verbs, with this program's own arguments: they were read here, so they are well-formed.
pub(crate) fn hand_over() -> Result<u8, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::new(Code::Unavailable, format!("cannot find this program: {e}")))?;
    let Some(program) = places(&own).into_iter().find(|place| place.is_file()) else {
        let places: Vec<String> = places(&own).iter().map(|place| place.display().to_string()).collect();
        let message =
            format!("{PROGRAM} is not there (looked for {}): install the package quotary whole", places.join(" and "));
        return Err(Failure::new(Code::Unavailable, message));
    };
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    Err(Failure::new(Code::Unavailable, format!("cannot start {}: {error}", program.display())))
}

/// Beside this program, or where packages put it.
fn places(own: &Path) -> Vec<PathBuf> {
    let Some(directory) = own.parent() else { return Vec::new() };
    vec![directory.join(PROGRAM), directory.join("../libexec/quotary").join(PROGRAM)]
}
