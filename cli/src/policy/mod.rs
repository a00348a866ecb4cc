//! `quotary policy …`: documents of policies, people and quorum rules.
//!
//! Does: reads documents with the code that decides, tells all their faults at once, compares them field by field, and
//! shows what is in force.
//! May assume: nothing about files or answers.
//! Promises: `check`, and `diff` of two files, ask nobody and read no credentials; a document that is printed alone is
//! so byte for byte, and has the digest that was stated.
//! Must never: decide what a document may say; `quotary_decide` and `quotary_common::quorum` do.

mod check;
mod diff;
pub(crate) mod document;
pub(crate) mod standing;

use std::path::Path;

use crate::args::PolicyCommand;
use crate::exit::Failure;
use crate::session::{Session, block_on};

/// Does what was asked; the exit code.
pub(crate) fn policy(command: &PolicyCommand, credentials: Option<&Path>, json: bool) -> Result<u8, Failure> {
    match command {
        PolicyCommand::Check(args) => return check::check(args, json),
        PolicyCommand::Diff(args) => diff::diff(args, credentials, json)?,
        PolicyCommand::List => {
            let session = Session::open(credentials)?;
            block_on(standing::list(&session, json))?;
        }
        PolicyCommand::Show { name, document, draft } => {
            let session = Session::open(credentials)?;
            block_on(standing::one(&session, name, (*document, *draft), json))?;
        }
        PolicyCommand::Authority(args) => {
            let session = Session::open(credentials)?;
            block_on(standing::authority(&session, args, json))?;
        }
    }
    Ok(0)
}
