//! The hand: the few steps of shaping that need a capability of the kernel's, done by a small process of their own.
//!
//! Does: carries requests to where they are done, and does them there: in a service that systemd starts for one
//! connection ([`Afar`], [`serve`]), or in this very process where it has the capability itself ([`Here`]).
//! May assume: the socket belongs to root alone; tools of the distribution stand where distributions put them.
//! Promises: a request is a form of ours, never a command; each is checked where it is done, whoever sent it; tools are
//! started by absolute path with arguments of ours, never through a shell, with bounded output, and all of a request
//! within one time, which is shorter than the agent waits; a service does its own duty and no other, and of two of one
//! duty one waits for the other.
//! Must never: hold state; run anything that a request names.
//!
//! Why: traffic control needs `CAP_NET_ADMIN`, quotas `CAP_SYS_ADMIN`. The agent, which speaks with the network and with
//! every local user, has neither (docs/decisions/0012-network-egress.md).

mod afar;
mod patience;
mod serve;
mod tool;
mod turn;

use std::path::{Path, PathBuf};
use std::time::Duration;

use minicbor::{Decode, Encode};

pub use self::afar::Afar;
pub(super) use self::patience::{Patience, Work};
pub use self::serve::{Duty, serve};
use self::tool::within;
pub(super) use self::tool::{Tool, run};
pub use self::turn::InTurn;
use super::egress::{self, Seen, Unwanted, Wanted};
use super::storage::{self, Directory, Limits, PutBack};

/// Most bytes of a request or a reply.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// How long a request may take where it is done, its turn included: the agent waits longer ([`Afar`]), so that it hears how a
/// request ended, and nothing is done that it has given up.
const REQUEST: Duration = Duration::from_secs(12);
/// Where the sockets of the services stand, below the root.
const SOCKETS: &str = "run/quotary-hand";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Look at queueing disciplines and rules.
    #[n(0)]
    LookAtEgress(#[n(0)] Vec<String>),
    /// Bring them to what is wanted, and look again.
    #[n(1)]
    BringEgress(#[n(0)] Wanted),
    /// Look at the limits of a directory's project.
    #[n(2)]
    LookAtStorage(#[n(0)] Directory),
    /// Set its soft limit, KiB; 0: none. Where the last says so the file system may know nothing of the project yet.
    #[n(3)]
    BringStorage(#[n(0)] Directory, #[n(1)] u64, #[n(2)] bool),
    /// Put its soft limit back, where what was written last still stands; the limits that stand then.
    #[n(4)]
    PutBackStorage(#[n(0)] PutBack),
    /// Take classes of egress away wherever they are, and look again.
    #[n(5)]
    TakeEgress(#[n(0)] Unwanted),
}

impl Request {
    /// Whose work it is.
    pub const fn duty(&self) -> Duty {
        match self {
            Self::LookAtEgress(_) | Self::BringEgress(_) | Self::TakeEgress(_) => Duty::Egress,
            Self::LookAtStorage(_) | Self::BringStorage(..) | Self::PutBackStorage(_) => Duty::Storage,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It is done.
    #[n(0)]
    Done,
    /// It was not, and why.
    #[n(1)]
    Failed(#[n(0)] String),
    /// What is there.
    #[n(2)]
    Egress(#[n(0)] Seen),
    /// A project's limits.
    #[n(3)]
    Storage(#[n(0)] Limits),
}

/// A step that was not done.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// A tool is not installed.
    #[error("{name} is not installed (package {package})")]
    NoTool {
        /// Which.
        name: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// A tool did not do it.
    #[error("{tool} says: {said}")]
    Tool {
        /// Which.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// A tool printed more than is read: a part of it is no answer.
    #[error("{tool} prints more than can be read")]
    TooMuch {
        /// Which.
        tool: &'static str,
    },
    /// A tool, or the service, could not be spoken with.
    #[error("cannot {step}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It was refused, or failed where it was done.
    #[error("{0}")]
    Refused(String),
    /// What came is no form of ours.
    #[error("the hand's words are not understood")]
    Form,
}

impl HandError {
    /// Whether it took too long: whoever has nothing to say of it by now is not asked the same again at once.
    pub(super) fn is_timeout(&self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), TimedOut | WouldBlock))
    }

    /// With its cause, in a sentence.
    pub(super) fn told(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

/// Does requests, one at a time.
pub trait Hand: Send + std::fmt::Debug {
    /// Does one.
    ///
    /// # Errors
    /// [`HandError`] when it was not done, or not wholly: what is there can be looked at again.
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError>;

    /// Nothing is held any more: what was started for it may end.
    fn rest(&mut self) {}
}

/// Does them in this process.
#[derive(Debug)]
pub struct Here {
    root: PathBuf,
}

impl Here {
    /// Below `root`.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }
}

impl Hand for Here {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        within(REQUEST, |_| match request {
            Request::LookAtEgress(interfaces) => egress::look(&self.root, interfaces).map(Reply::Egress),
            Request::BringEgress(wanted) => egress::bring(&self.root, wanted).map(Reply::Egress),
            Request::TakeEgress(unwanted) => egress::take_away(&self.root, unwanted).map(Reply::Egress),
            Request::LookAtStorage(directory) => storage::look(&self.root, directory).map(Reply::Storage),
            Request::BringStorage(directory, soft_kib, may_be_new) => {
                storage::bring(&self.root, directory, *soft_kib, *may_be_new).map(|()| Reply::Done)
            }
            Request::PutBackStorage(wanted) => storage::put_back(&self.root, wanted).map(Reply::Storage),
        })
    }
}

/// The hand for a duty on the host below `root`: the service where its socket is, this process where it may do it itself.
///
/// # Errors
/// What is missing, in a sentence.
pub fn hand_for(root: &Path, duty: Duty) -> Result<Box<dyn Hand>, String> {
    let socket = root.join(SOCKETS).join(duty.name());
    if socket.exists() {
        return Ok(Box::new(Afar::at(socket)));
    }
    if has_capability(root, duty.capability()) {
        return Ok(Box::new(Here::below(root)));
    }
    Err(format!("it is not turned on here: systemctl enable --now quotary-agent-{}.socket", duty.name()))
}

/// Whether this process has a capability, by the kernel's word (proc(5), `CapEff`).
fn has_capability(root: &Path, number: u32) -> bool {
    let status = std::fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    effective.is_some_and(|set| set & (1 << number) != 0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn without_socket_and_capability_it_is_said_how_to_turn_it_on() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("proc/self")).unwrap();
        let status = |set: &str| fs::write(temp.path().join("proc/self/status"), format!("Name:\tx\nCapEff:\t{set}\n"));
        status("0000000000000002").unwrap();
        let why = hand_for(temp.path(), Duty::Egress).unwrap_err();
        assert!(why.contains("quotary-agent-egress.socket"), "{why}");
        status("0000000000001000").unwrap();
        assert!(format!("{:?}", hand_for(temp.path(), Duty::Egress).unwrap()).contains("Here"), "CAP_NET_ADMIN is 12");
        fs::create_dir_all(temp.path().join(SOCKETS)).unwrap();
        fs::write(temp.path().join(SOCKETS).join("egress"), "").unwrap();
        assert!(format!("{:?}", hand_for(temp.path(), Duty::Egress).unwrap()).contains("Afar"));
    }
}
