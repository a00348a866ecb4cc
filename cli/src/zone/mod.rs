//! `quotary zone …`: what the hosts of a trust zone may run.
//!
//! Does: reads Debian packages and prints the allow-list lines of their files, offline; prints a zone's boot
//! requirement as a known-good host shows it; has zones tried that are not in force.
//! May assume: nothing about a package; whether it is genuine, `apt` and `debsig-verify` say.
//! Promises: memory and time are bounded whatever a package claims; the lines are sorted, each once.
//! Must never: unpack a file to disk, or run anything of a package.

mod check;
mod deb;
mod learn;

use std::fs::File;
use std::io::BufReader;

use quotary_decide::ima::AllowList;

pub(crate) use check::check;
pub(crate) use learn::learn;

use crate::args::AllowArgs;
use crate::exit::{Code, Failure, with_causes};
use crate::present;

/// A line of the list, for programs. A path that is not UTF-8 has its other bytes replaced; the lines have them all.
#[derive(serde::Serialize)]
struct AllowedFile<'l> {
    path: std::borrow::Cow<'l, str>,
    sha256: quotary_common::id::Digest,
}

/// Prints the lines of packages' files.
pub(crate) fn allow(args: &AllowArgs, json: bool) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &args.from_deb {
        let named = |error: &dyn std::error::Error| {
            Failure::new(Code::Unreadable, format!("{}: {}", path.display(), with_causes(error)))
        };
        let package = File::open(path).map_err(|error| named(&error))?;
        files.extend(deb::files(BufReader::new(package)).map_err(|error| named(&error))?);
    }
    let list = AllowList::new(files).map_err(|error| Failure::of(Code::Unreadable, &error))?;
    if json {
        let files: Vec<AllowedFile<'_>> =
            list.iter().map(|(path, sha256)| AllowedFile { path: String::from_utf8_lossy(path), sha256 }).collect();
        return present::json(&files);
    }
    present::print_bytes(&list.to_text())
}
