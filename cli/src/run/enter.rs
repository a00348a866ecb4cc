//! The second half: the process that becomes the command.
//!
//! It opens a connection of its own, so that the peer whom the agent moves is this very process, and execs.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use quotary_client::{ClientError, LocalConnection};
use quotary_common::id::GrantId;
use quotary_common::wire::{EnterGrant, Nothing};

use super::{GRANT_VARIABLE, with_causes};
use crate::args::{EnterArgs, Unavailable};
use crate::exit::{Code, Failure, code_of};
use crate::present;
use crate::session::block_on;

/// Shells' codes for a command that is not there, and one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Enters the grant's cgroup and becomes the command. Returns only on failure.
pub(crate) fn enter(args: EnterArgs) -> Result<u8, Failure> {
    match block_on(async { Ok(entering(&args).await) })? {
        Ok(()) => Err(become_command(&args.command, Some(&args.grant))),
        Err(error) if args.if_unavailable == Unavailable::Run => {
            eprintln!(
                "quotary: cannot enter the grant's cgroup: {}; running without it",
                present::clean(&with_causes(&error))
            );
            Err(become_command(&args.command, None))
        }
        Err(error) => {
            let code = if code_of(&error) == Code::NoPermission { Code::NoPermission } else { Code::Unavailable };
            Err(Failure::new(code, format!("cannot enter the grant's cgroup: {}", with_causes(&error))))
        }
    }
}

async fn entering(args: &EnterArgs) -> Result<(), ClientError> {
    let mut connection = LocalConnection::open(&args.socket).await?;
    connection.call::<EnterGrant>(&[&args.grant.hex()], &Nothing {}).await?;
    Ok(())
}

/// Becomes the command, found as a shell finds it: returns only if that cannot be done, with a shell's code.
pub(super) fn become_command(command: &[OsString], grant: Option<&GrantId>) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::new(Code::Usage, "no command");
    };
    let mut becoming = Command::new(program);
    becoming.args(arguments);
    match grant {
        Some(grant) => becoming.env(GRANT_VARIABLE, grant.hex()),
        None => becoming.env_remove(GRANT_VARIABLE),
    };
    let error = becoming.exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Failure::with_code(code, format!("cannot run {}: {error}", present::clean(&program.to_string_lossy())))
}
