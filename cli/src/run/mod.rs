//! `quotary run`: a command under a grant (wire.md, settled questions 5 to 9).
//!
//! Does: asks the agent for a grant, starts itself again as `__enter`, which has the agent move it into the
//! grant's cgroup and becomes the command; stays beside it, passes on signals and the exit code, tells when the
//! grant changes, and gives it back.
//! May assume: `/proc` is there; the agent knows us by the kernel's word.
//! Promises: without a grant, and unless told otherwise, the command runs all the same, after one line of
//! warning; terminal, pipes and job control are the command's as if it had been started alone.
//! Must never: stand between the command and its input or output, or print anything but warnings unless asked.

mod enter;
mod signals;
mod supervise;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use quotary_client::{ClientError, LocalClient};
use quotary_common::envelope::Mode;
use quotary_common::reason::Reason;
use quotary_common::wire::{AskGrant, GrantRequest, LocalGrant, RequestReply};

use crate::args::{RunArgs, Unavailable};
use crate::exit::{Code, Failure, code_of, with_causes};
use crate::present;
use crate::session::block_on;
use signals::Signals;

pub(crate) use enter::enter;

/// How much longer than the agent is asked to wait we wait for its word, and how long for anything else.
const AGENT: Duration = Duration::from_secs(5);
/// First and longest pause between two askings of `--if-unavailable wait`.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The environment variable in which the command finds its grant's id.
const GRANT_VARIABLE: &str = "QUOTARY_GRANT";

/// Why there is no grant.
#[derive(Debug, thiserror::Error)]
enum NoGrant {
    /// The agent was not reached, or its answer was none.
    #[error("no grant")]
    Agent(#[source] ClientError),
    /// The verifier refused it.
    #[error("no grant: {reason}: {detail}")]
    Refused { reason: Reason, detail: String },
    /// Nobody answered in time.
    #[error("no grant: no answer in time ({detail})")]
    NoAnswer { detail: String },
}

impl NoGrant {
    /// The exit code when the command is not run.
    fn code(&self) -> Code {
        match self {
            Self::Agent(error) if code_of(error) == Code::NoPermission => Code::NoPermission,
            _ => Code::Unavailable,
        }
    }
    /// Whether asking again makes sense: not when the question itself is wrong, or we may not ask.
    fn may_change(&self) -> bool {
        match self {
            Self::Agent(error @ ClientError::Refused { .. }) => error.may_retry(),
            Self::Agent(ClientError::Protocol { .. }) => false,
            Self::Agent(_) => self.code() != Code::NoPermission,
            Self::Refused { reason, .. } => !matches!(reason, Reason::Malformed | Reason::TooLarge | Reason::NotOwner),
            Self::NoAnswer { .. } => true,
        }
    }
}

/// Runs the command; the exit code is its own.
pub(crate) fn run(args: RunArgs) -> Result<u8, Failure> {
    block_on(async {
        let mut signals = Signals::listen()
            .map_err(|e| Failure::new(Code::Unavailable, format!("cannot listen for signals: {e}")))?;
        let asked = tokio::select! {
            asked = grant(&args) => asked,
            ended = signals.before_start() => return Ok(ended),
        };
        match asked {
            Ok(grant) => {
                tell(&grant, args.verbose);
                supervise::supervise(&args, grant, signals).await
            }
            Err(why) if args.if_unavailable == Unavailable::Run => Err(without_grant(&why, &args.command)),
            Err(why) => Err(Failure::of(why.code(), &why)),
        }
    })
}

/// Becomes the command without a grant: returns only if that cannot be done.
fn without_grant(why: &dyn std::error::Error, command: &[OsString]) -> Failure {
    eprintln!("quotary: {}; running without one", present::clean(&with_causes(why)));
    enter::become_command(command, None)
}

/// A grant, asked for as often as the arguments say.
async fn grant(args: &RunArgs) -> Result<LocalGrant, NoGrant> {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        let why = match ask(args).await {
            Ok(grant) => return Ok(grant),
            Err(why) => why,
        };
        if args.if_unavailable != Unavailable::Wait || !why.may_change() {
            return Err(why);
        }
        if !told || args.verbose {
            eprintln!("quotary: {}; asking until there is one", present::clean(&with_causes(&why)));
            told = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Asks once.
async fn ask(args: &RunArgs) -> Result<LocalGrant, NoGrant> {
    let request = GrantRequest {
        resources: args.amounts.resources(),
        class: args.class,
        name: args.name.clone(),
        wait_ms: args.wait_for,
    };
    let client = LocalClient::new(&args.socket).with_timeout(Duration::from_millis(args.wait_for) + AGENT);
    match client.call::<AskGrant>(&[], &request).await.map_err(NoGrant::Agent)? {
        RequestReply::Granted { grant } => Ok(grant),
        RequestReply::Refused { error, .. } => Err(NoGrant::Refused { reason: error.reason, detail: error.detail }),
        RequestReply::NoAnswer { detail, .. } => Err(NoGrant::NoAnswer { detail }),
    }
}

/// Says what was granted if asked to, and in any case when nothing is enforced.
fn tell(grant: &LocalGrant, verbose: bool) {
    let line = |text: String| eprintln!("quotary: {}", present::clean(&text));
    match grant.mode {
        Mode::Enforce => {}
        Mode::DryRun => line("the agent only shows what it would do (dry-run): nothing is limited".to_owned()),
        Mode::Observe => line("the agent only observes: nothing is limited".to_owned()),
    }
    if !verbose {
        return;
    }
    let resources = present::resources(&grant.resources);
    let lease = present::duration(grant.lease_left_ms);
    line(format!(
        "granted {resources} as {} of {} ({}), {}, lease {lease}",
        grant.application, grant.tenant, grant.id, grant.class
    ));
    let is_enforced = grant.mode == Mode::Enforce;
    for control in grant.controls.iter().filter(|control| is_enforced && !control.effective) {
        line(format!("{} = {} is advisory here: the kernel does not act on it", control.control, control.requested));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: Reason) -> NoGrant {
        NoGrant::Refused { reason, detail: String::new() }
    }

    #[test]
    fn asking_again_stops_where_the_question_is_wrong() {
        assert!(refused(Reason::Capacity).may_change());
        assert!(refused(Reason::Zone).may_change(), "a host may be trusted again");
        assert!(!refused(Reason::Malformed).may_change());
        assert!(NoGrant::NoAnswer { detail: String::new() }.may_change());
        let connect = |kind: std::io::ErrorKind| {
            let source = Box::new(std::io::Error::from(kind));
            NoGrant::Agent(ClientError::Connect { place: "the agent".to_owned(), source })
        };
        assert!(connect(std::io::ErrorKind::NotFound).may_change());
        assert!(!connect(std::io::ErrorKind::PermissionDenied).may_change());
        assert_eq!(connect(std::io::ErrorKind::PermissionDenied).code(), Code::NoPermission);
        assert_eq!(refused(Reason::Capacity).code(), Code::Unavailable);
    }
}
