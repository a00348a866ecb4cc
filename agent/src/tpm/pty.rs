//! A raw pseudo-terminal between the TSS and swtpm: to the TSS its end is a character device like
//! `/dev/tpmrm0`, so that a software TPM takes the same way through the code as a real one.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};

/// The end that the TSS opens by path. Kept open by us so that the terminal stays raw, and stays,
/// while no connection is open.
#[derive(Debug)]
pub(super) struct DeviceEnd {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl DeviceEnd {
    /// `/dev/pts/N`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A second descriptor of this end.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }

    /// Throws away what an earlier connection left unread, so that it is not taken for an answer.
    pub(super) fn discard_leftovers(&self) -> io::Result<()> {
        Ok(rustix::termios::tcflush(&self.descriptor, QueueSelector::IOFlush)?)
    }
}

/// Opens a new raw pseudo-terminal that only this user can open; returns swtpm's end and ours.
/// When swtpm's end is closed everywhere, reads on ours fail instead of waiting.
pub(super) fn open() -> io::Result<(OwnedFd, DeviceEnd)> {
    let swtpm_end = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&swtpm_end)?;
    rustix::pty::unlockpt(&swtpm_end)?;
    let name = rustix::pty::ptsname(&swtpm_end, Vec::new())?;
    let path = PathBuf::from(OsString::from_vec(name.into_bytes()));
    let descriptor = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    // The system's default lets the group `tty` write.
    rustix::fs::fchmod(&descriptor, Mode::RUSR | Mode::WUSR)?;
    let mut settings = rustix::termios::tcgetattr(&descriptor)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&descriptor, OptionalActions::Now, &settings)?;
    Ok((swtpm_end, DeviceEnd { descriptor, path }))
}

/// Whether the terminal is the controlling one of this session; asked at swtpm's end, where one need
/// not be of the session to ask.
pub(super) fn is_of_session(swtpm_end: &OwnedFd, session: u32) -> bool {
    rustix::termios::tcgetsid(swtpm_end).is_ok_and(|found| u32::try_from(found.as_raw_nonzero().get()) == Ok(session))
}
