//! The plans of a change, drawn: `quotary change preview --plot` has asked the verifier, and hands over what it answered.

use std::path::Path;

use quotary_cli::exit::{Code, Failure};
use quotary_cli::{files, input};
use quotary_common::wire::ChangePreview;

use crate::plot;

/// Largest preview that is read, in bytes.
const PREVIEW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Draws what standard input has.
pub(crate) fn draw(to: &Path) -> Result<(), Failure> {
    let bytes = input::read(Path::new("-"), PREVIEW_BYTES_MAX)?;
    let preview: ChangePreview = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(Code::Unreadable, format!("standard input is no preview of a change: {error}"))
    })?;
    if preview.courses.is_empty() {
        return Err(Failure::new(Code::Refused, "there is nothing to draw: no control of any unit would move"));
    }
    let (picture, untold) = plot::preview(&preview);
    files::write(to, picture.as_bytes())?;
    if untold > 0 {
        eprintln!("quotary: {untold} more courses are not drawn: --json has them all");
    }
    Ok(())
}
