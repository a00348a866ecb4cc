//! The first half, once there is a grant: starts the second, and stays beside it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use quotary_client::{ClientError, LocalClient};
use quotary_common::reason::Reason;
use quotary_common::wire::{LocalGrant, Nothing, ReleaseGrant};
use rustix::process::Pid;
use tokio::process::{Child, Command};

use super::signals::{Signals, code_of_signal, pass_on};
use super::{AGENT, watch, with_causes};
use crate::args::RunArgs;
use crate::exit::{Code, Failure};
use crate::present;

/// Runs the command to its end and gives the grant back, whatever happened in between.
pub(super) async fn supervise(args: &RunArgs, grant: LocalGrant, mut signals: Signals) -> Result<u8, Failure> {
    let id = grant.grant.hex();
    let ended = match start(args, &id) {
        Ok(mut child) => {
            let watching = tokio::spawn(watch::watch(LocalClient::new(&args.socket), grant, args.verbose));
            let ended = beside(&mut child, &mut signals).await;
            watching.abort();
            ended
                .map(exit_code)
                .map_err(|e| Failure::new(Code::Unavailable, format!("cannot wait for the command: {e}")))
        }
        Err(error) => Err(Failure::new(Code::Unavailable, format!("cannot start the command: {error}"))),
    };
    release(args, &id).await;
    ended
}

/// Starts this very program again as the second half: `/proc/self/exe` is it even after an upgrade.
fn start(args: &RunArgs, grant: &str) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("quotary").arg("__enter").arg("--socket").arg(&args.socket);
    command.args(["--grant", grant, "--if-unavailable", args.if_unavailable.name(), "--"]);
    command.args(&args.command).spawn()
}

/// Waits for the command's end, and passes signals on meanwhile.
async fn beside(child: &mut Child, signals: &mut Signals) -> std::io::Result<ExitStatus> {
    loop {
        // `id` is given as long as the child is not reaped: no signal can reach a stranger.
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        tokio::select! {
            ended = child.wait() => return ended,
            signal = signals.next() => {
                if let Some(pid) = pid {
                    pass_on(signal, pid);
                }
            }
        }
    }
}

/// The command's own exit code, or that of the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => code_of_signal(status.signal().unwrap_or(0)),
    }
}

/// Gives the grant back. The agent would notice the empty cgroup by itself, so a failure is told only if asked.
async fn release(args: &RunArgs, grant: &str) {
    let client = LocalClient::new(&args.socket).with_timeout(AGENT);
    match client.call::<ReleaseGrant>(&[grant], &Nothing {}).await {
        Ok(_) => {}
        Err(ClientError::Refused { error, .. }) if matches!(error.reason, Reason::NotFound | Reason::LeaseExpired) => {}
        Err(error) if args.verbose => {
            eprintln!("quotary: the grant was not given back: {}", present::clean(&with_causes(&error)));
        }
        Err(_) => {}
    }
}
