//! Who is connected, as the kernel says.

use std::path::Path;

use quotary_common::envelope::{CgroupPath, Name};
use tokio::net::UnixStream;

use crate::enforce::process;
use crate::enforce::record::Origin;

/// Field 22 of `/proc/PID/stat` counts in hundredths of a second on every Linux that user space sees (`USER_HZ`).
const TICK_MS: u64 = 10;

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its uid when it connected.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
    /// Its pid.
    pub pid: u32,
    /// Its start time, in clock ticks since boot.
    pub start_time_ticks: u64,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// The systemd unit of that cgroup, if one owns it.
    pub unit: Option<Name>,
}

/// A peer that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The socket does not say.
    #[error("the kernel does not say who is connected")]
    Credentials(#[source] std::io::Error),
    /// It is not to be seen from here.
    #[error(
        "the connected process is in another pid namespace and cannot be seen from here: run the agent in a namespace above it"
    )]
    Unseen,
    /// It cannot be read about.
    #[error("cannot read about process {pid}")]
    Read {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is gone, or its pid is another's by now.
    #[error("process {pid}, which connected, is gone")]
    Gone {
        /// Which.
        pid: u32,
    },
    /// It is in no cgroup that an envelope can name.
    #[error("the cgroup of process {pid} cannot be told")]
    Cgroup {
        /// Which.
        pid: u32,
    },
}

/// The credentials of a connection: who connected, whoever holds the socket now.
pub(super) struct Credentials {
    pub(super) uid: u32,
    gid: u32,
    pid: u32,
}

impl Credentials {
    /// Of a connected Unix socket (`SO_PEERCRED`).
    pub(super) fn of(socket: &UnixStream) -> Result<Self, PeerError> {
        let credentials = socket.peer_cred().map_err(PeerError::Credentials)?;
        // The kernel says 0 for a process of a pid namespace that is not below ours.
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid: pid.ok_or(PeerError::Unseen)? })
    }
}

impl Peer {
    /// Who `credentials` stand for, by `root`'s `/proc`, given that the connection was there at `connected_ms`
    /// (`CLOCK_BOOTTIME`): a process that started later only has the pid. Whether it is still the connecting
    /// user's matters where it is moved, and is checked there.
    pub(super) fn look(root: &Path, credentials: &Credentials, connected_ms: u64) -> Result<Self, PeerError> {
        let Credentials { uid, gid, pid } = *credentials;
        let start = || {
            process::start_time_ticks(root, pid)
                .map_err(|source| PeerError::Read { pid, source })?
                .ok_or(PeerError::Gone { pid })
        };
        let start_time_ticks = start()?;
        if start_time_ticks.saturating_mul(TICK_MS) > connected_ms.saturating_add(TICK_MS) {
            return Err(PeerError::Gone { pid });
        }
        let (cgroup, unit) = place(&process::origins(root, pid)).ok_or(PeerError::Cgroup { pid })?;
        // The cgroup is that of the same process only if it is still there.
        if start()? != start_time_ticks {
            return Err(PeerError::Gone { pid });
        }
        Ok(Self { uid, gid, pid, start_time_ticks, cgroup, unit })
    }
}

/// The cgroup that stands for a process, and its unit: of the hierarchy that carries `cpu` (or `memory`) on
/// version 1, of the only one on version 2. The unit may be known to systemd's own hierarchy alone.
fn place(origins: &[Origin]) -> Option<(CgroupPath, Option<Name>)> {
    let carrying = |wanted: &str| {
        let has = |origin: &&Origin| origin.controllers.as_str().split(',').any(|word| word == wanted);
        origins.iter().find(has)
    };
    let named = carrying("name=systemd");
    let unified = origins.iter().find(|origin| origin.controllers.as_str().is_empty());
    let chosen = carrying("cpu").or_else(|| carrying("memory")).or(unified).or(named)?;
    let unit = [Some(chosen), named, unified].into_iter().flatten().find_map(|origin| unit_of(origin.path.as_str()));
    Some((chosen.path.clone(), unit))
}

/// The innermost unit that a cgroup path names.
fn unit_of(path: &str) -> Option<Name> {
    let part = path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    Name::new(part)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn origins(lines: &[(&str, &str)]) -> Vec<Origin> {
        let one = |(controllers, path): &(&str, &str)| Origin {
            controllers: Name::lossy(controllers),
            path: CgroupPath::lossy(path),
        };
        lines.iter().map(one).collect()
    }

    fn placed(lines: &[(&str, &str)]) -> (String, Option<String>) {
        let (cgroup, unit) = place(&origins(lines)).unwrap();
        (cgroup.as_str().to_owned(), unit.map(|unit| unit.as_str().to_owned()))
    }

    #[test]
    fn the_hierarchy_with_cpu_stands_for_a_process_wherever_it_is_listed() {
        let hybrid = [
            ("memory", "/m"),
            ("cpu,cpuacct", "/c"),
            ("name=systemd", "/system.slice/a.service"),
            ("", "/system.slice/a.service"),
        ];
        assert_eq!(placed(&hybrid), ("/c".to_owned(), Some("a.service".to_owned())));
        let mut turned = hybrid;
        turned.reverse();
        assert_eq!(placed(&turned), placed(&hybrid));
        assert_eq!(placed(&[("memory", "/m"), ("pids", "/p")]), ("/m".to_owned(), None));
        let unified = [("", "/user.slice/user-7.slice/user@7.service/app.slice/x.scope")];
        assert_eq!(placed(&unified).1, Some("x.scope".to_owned()));
        assert_eq!(place(&[]), None);
    }

    #[test]
    fn a_process_that_started_after_the_connection_is_not_the_peer() {
        let pid = std::process::id();
        let own = Credentials { uid: 1, gid: 2, pid };
        let now_ms = crate::clock::boottime_ms();
        let peer = Peer::look(Path::new("/"), &own, now_ms).unwrap();
        assert_eq!((peer.uid, peer.gid, peer.pid), (1, 2, pid));
        let started_ms = peer.start_time_ticks * TICK_MS;
        assert!(matches!(
            Peer::look(Path::new("/"), &own, started_ms.saturating_sub(1_000)),
            Err(PeerError::Gone { .. })
        ));
        let nobody = Credentials { pid: 0x3fff_ffff, ..own };
        assert!(matches!(Peer::look(Path::new("/"), &nobody, now_ms), Err(PeerError::Gone { .. })));
    }
}
