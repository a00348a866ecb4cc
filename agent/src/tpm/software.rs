//! A software TPM of the agent's own: made once with `swtpm_setup`, run as a child `swtpm`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal};

use super::error::TpmError;
use super::pty::{self, DeviceEnd};

/// The descriptor under which swtpm finds its end of the terminal.
const SWTPM_DESCRIPTOR: i32 = 3;
/// How long an orderly swtpm may take to write its state and end.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long setpriv and setsid may take to hand over to swtpm.
const SESSION_PATIENCE: Duration = Duration::from_secs(5);
const SESSION_POLL: Duration = Duration::from_millis(1);
const SWTPM_LOG: &str = "swtpm.log";
const STOP_POLL: Duration = Duration::from_millis(5);
const LOG_TAIL_BYTES: u64 = 600;
/// A log beyond this is started anew at the next start.
const LOG_LIMIT_BYTES: u64 = 1024 * 1024;

/// The running child, if any; shared with the handle, which may name its pid and kill it.
#[derive(Debug, Clone, Default)]
pub(super) struct ChildSlot(Arc<Mutex<Option<Child>>>);

impl ChildSlot {
    /// The child's process id while it has not been reaped.
    pub(super) fn pid(&self) -> Option<u32> {
        self.with(|child| child.as_ref().map(Child::id))
    }

    /// Kills the child; whoever waits for its answer gets an error. Safe against a reused pid: a
    /// child that has been reaped is not in the slot any more.
    pub(super) fn kill(&self) {
        self.with(|child| {
            if let Some(child) = child
                && let Err(error) = child.kill()
            {
                tracing::warn!(%error, "cannot kill the software TPM");
            }
        });
    }

    fn with<T>(&self, use_child: impl FnOnce(&mut Option<Child>) -> T) -> T {
        use_child(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The software TPM's files and process. Dropping it kills and reaps the process.
#[derive(Debug)]
pub(super) struct SoftwareTpm {
    state_dir: PathBuf,
    setup_config: Option<PathBuf>,
    child: ChildSlot,
    terminal: Option<DeviceEnd>,
}

impl SoftwareTpm {
    pub(super) const fn new(state_dir: PathBuf, setup_config: Option<PathBuf>, child: ChildSlot) -> Self {
        Self { state_dir, setup_config, child, terminal: None }
    }

    /// Makes the TPM if it does not exist, starts it if it does not run, and returns the path of
    /// the device to open. Must be called on the thread that owns the TPM: the kernel kills swtpm
    /// when that thread ends.
    pub(super) fn ensure_running(&mut self) -> Result<PathBuf, TpmError> {
        if self.is_running()
            && let Some(terminal) = &self.terminal
            && terminal.discard_leftovers().is_ok()
        {
            return Ok(terminal.path().to_owned());
        }
        // The terminal of a swtpm that is just dying has hung up before the child can be reaped.
        self.kill();
        self.make_if_new()?;
        let (swtpm_end, terminal) = pty::open().map_err(failed("open a pseudo-terminal for", &self.state_dir))?;
        let log = self.open_log(SWTPM_LOG)?;
        let mut command = die_with_parent(&["setsid", "--ctty", "swtpm", "chardev", "--tpm2"]);
        // setsid makes the terminal swtpm's own controlling one (it takes it from stdin); otherwise it
        // would become the agent's as soon as the TSS opens it without O_NOCTTY (a service is a
        // session leader), and swtpm's end would hang up the agent.
        let stdin = terminal.duplicate().map_err(failed("open the terminal of", &self.state_dir))?;
        command
            .args(["--fd", &SWTPM_DESCRIPTOR.to_string()])
            .arg("--tpmstate")
            .arg(format!("dir={},mode=0600", self.tpm_dir().display()))
            .args(["--flags", "not-need-init,startup-clear"])
            .stdin(Stdio::from(stdin))
            .stdout(self.duplicate_log(&log)?)
            .stderr(Stdio::from(log));
        let watch = swtpm_end.try_clone().map_err(failed("watch the terminal of", &self.state_dir))?;
        let mapping = FdMapping { parent_fd: swtpm_end, child_fd: SWTPM_DESCRIPTOR };
        let child = command
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)
            .and_then(|command| command.spawn())
            .map_err(failed("run setpriv, setsid (util-linux) and swtpm for", &self.state_dir))?;
        // The command still holds swtpm's end: while it lives, a dead swtpm would not show.
        drop(command);
        let path = terminal.path().to_owned();
        let session = child.id();
        self.child.with(|slot| *slot = Some(child));
        self.terminal = Some(terminal);
        self.await_session(&watch, session)?;
        Ok(path)
    }

    /// Waits until the terminal belongs to swtpm's session. Whoever opened it before would get it.
    fn await_session(&mut self, swtpm_end: &OwnedFd, session: u32) -> Result<(), TpmError> {
        let end = Instant::now() + SESSION_PATIENCE;
        while !pty::is_of_session(swtpm_end, session) {
            if Instant::now() >= end || !self.is_running() {
                self.kill();
                return Err(self.does_not_start(None));
            }
            std::thread::sleep(SESSION_POLL);
        }
        Ok(())
    }

    /// The error that tells swtpm's own last words.
    pub(super) fn does_not_start(&self, source: Option<tss_esapi::Error>) -> TpmError {
        let log = self.state_dir.join(SWTPM_LOG);
        let log_tail = log_tail(&log);
        TpmError::SoftwareStart { log, log_tail, source }
    }

    /// Whether the child has ended, or does so within `patience`.
    pub(super) fn ends_within(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Whether the child lives; reaps it if it has ended.
    pub(super) fn is_running(&self) -> bool {
        self.child.with(|slot| {
            let lives = slot.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            if !lives {
                *slot = None;
            }
            lives
        })
    }

    /// Stops the child: politely, then not. To be called after TPM2_Shutdown.
    pub(super) fn stop(&mut self) {
        self.child.with(|slot| {
            if let Some(child) = slot
                && matches!(child.try_wait(), Ok(None))
                && let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0))
                && rustix::process::kill_process(pid, Signal::TERM).is_ok()
            {
                let end = Instant::now() + STOP_GRACE;
                while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                    std::thread::sleep(STOP_POLL);
                }
            }
        });
        self.kill();
    }

    /// Kills and reaps the child.
    pub(super) fn kill(&mut self) {
        self.child.with(|slot| {
            if let Some(mut child) = slot.take() {
                let ended = child.kill().and_then(|()| child.wait());
                if let Err(error) = ended {
                    tracing::warn!(%error, "cannot end the software TPM");
                }
            }
        });
        self.terminal = None;
    }

    fn tpm_dir(&self) -> PathBuf {
        self.state_dir.join("tpm")
    }

    /// Makes the TPM in a directory of its own that gets its name only when complete: a TPM half
    /// made by an agent that was killed is never used.
    fn make_if_new(&self) -> Result<(), TpmError> {
        make_private_dir(&self.state_dir)?;
        let target = self.tpm_dir();
        if target.is_dir() {
            return Ok(());
        }
        let draft = self.state_dir.join("tpm.new");
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &draft)(error));
            }
            _ => make_private_dir(&draft)?,
        }
        let config = match &self.setup_config {
            Some(config) => config.clone(),
            None => self.make_own_config()?,
        };
        let mut command = self.setup_command();
        command
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--tpmstate"])
            .arg(&draft)
            .arg("--config")
            .arg(config);
        self.run_setup(command)?;
        sync_dir(&draft)?;
        fs::rename(&draft, &target).map_err(failed("rename", &draft))?;
        sync_dir(&self.state_dir)?;
        tracing::info!(state_dir = %self.state_dir.display(), "made a new software TPM");
        Ok(())
    }

    /// A CA of this host's own, in the state directory, made by swtpm's tools.
    fn make_own_config(&self) -> Result<PathBuf, TpmError> {
        let dir = self.config_dir();
        make_private_dir(&dir)?;
        // As root the tool wants to be told that files in this directory may shadow those in /etc.
        let how = if rustix::process::geteuid().is_root() { "skip-if-exist,root" } else { "skip-if-exist" };
        let mut command = self.setup_command();
        command.args(["--create-config-files", how]);
        self.run_setup(command)?;
        Ok(dir.join("swtpm_setup.conf"))
    }

    fn config_dir(&self) -> PathBuf {
        self.state_dir.join("config")
    }

    fn setup_command(&self) -> Command {
        let mut command = die_with_parent(&["swtpm_setup"]);
        command.env("XDG_CONFIG_HOME", self.config_dir()).stdin(Stdio::null());
        command
    }

    fn run_setup(&self, mut command: Command) -> Result<(), TpmError> {
        let name = "setup.log";
        let log = self.open_log(name)?;
        let status = command
            .stdout(self.duplicate_log(&log)?)
            .stderr(Stdio::from(log))
            .status()
            .map_err(failed("run setpriv (util-linux) and swtpm_setup for", &self.state_dir))?;
        if status.success() {
            return Ok(());
        }
        let path = self.state_dir.join(name);
        let log_tail = log_tail(&path);
        Err(TpmError::SoftwareSetup { status: status.to_string(), log: path, log_tail })
    }

    fn open_log(&self, name: &str) -> Result<File, TpmError> {
        let path = self.state_dir.join(name);
        let is_long = fs::metadata(&path).is_ok_and(|found| found.len() > LOG_LIMIT_BYTES);
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        opened
            .and_then(|log| {
                if is_long {
                    log.set_len(0)?;
                }
                Ok(log)
            })
            .map_err(failed("open", &path))
    }

    fn duplicate_log(&self, log: &File) -> Result<Stdio, TpmError> {
        log.try_clone().map(Stdio::from).map_err(failed("open the log of", &self.state_dir))
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that the kernel kills when the thread that starts it ends, however it ends, with a
/// clean environment.
fn die_with_parent(argv: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(argv).env_clear().env("LC_ALL", "C");
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    command.env("PATH", path);
    if let Some(temporary) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", temporary);
    }
    command
}

fn make_private_dir(path: &Path) -> Result<(), TpmError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .map_err(failed("make the directory", path))
}

/// Makes a directory and the files in it survive a power cut.
fn sync_dir(path: &Path) -> Result<(), TpmError> {
    let sync = || {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        File::open(path)?.sync_all()
    };
    sync().map_err(failed("write to disk", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TpmError {
    let path = path.to_owned();
    move |source| TpmError::Software { action, path, source }
}

fn log_tail(path: &Path) -> String {
    let read = || {
        let mut log = File::open(path)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        log.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
        io::Result::Ok(tail)
    };
    match read() {
        Ok(tail) => String::from_utf8_lossy(&tail).trim().to_owned(),
        Err(error) => format!("(unreadable: {error})"),
    }
}
