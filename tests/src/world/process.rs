//! Processes that cannot outlive what started them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const POLL: Duration = Duration::from_millis(10);
/// How much of a log is shown when something failed.
const TAIL_BYTES: u64 = 4096;

type Job = (Command, SyncSender<io::Result<Child>>);

/// The thread from which all processes of a world are started. The kernel kills them when it ends, also when
/// this whole process is killed.
#[derive(Debug)]
pub struct Spawner {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new() -> Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(0);
        let work = move || {
            for (mut command, answer) in queue {
                // Whoever asked is gone: the child must not stay.
                if let Err(unheard) = answer.send(command.spawn())
                    && let Ok(mut child) = unheard.0
                {
                    let _ = child.kill().and_then(|()| child.wait());
                }
            }
        };
        let thread = std::thread::Builder::new().name("spawner".to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn spawn(&self, command: Command) -> Result<Child> {
        let (answer, answered) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(|| anyhow!("the spawner has ended"))?;
        jobs.send((command, answer)).map_err(|_| anyhow!("the spawner has ended"))?;
        Ok(answered.recv().context("the spawner has ended")??)
    }

    /// Starts `command` (whose standard input, output and error are set here) under `name`, as user and group `uid` if
    /// one is given; what it prints goes to `log`, at its end.
    ///
    /// # Errors
    /// When the program cannot be started or the log not be written.
    pub fn start(&self, name: &str, command: &Command, uid: Option<u32>, log: &Path) -> Result<Running> {
        let at = || format!("{}: cannot write the log", log.display());
        let mut file = OpenOptions::new().create(true).append(true).open(log).with_context(at)?;
        let log_begin = file.seek(SeekFrom::End(0)).with_context(at)?;
        let mut wrapped = dying_with_us(command, uid);
        wrapped.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = self.spawn(wrapped).with_context(|| format!("cannot start {name}"))?;
        Ok(Running { name: name.to_owned(), pid: child.id(), child: Mutex::new(child), log: log.to_owned(), log_begin })
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The same command under `setpriv --pdeathsig`, which becomes it: one process, with the same id.
fn dying_with_us(command: &Command, uid: Option<u32>) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL"]);
    if let Some(uid) = uid.map(|uid| uid.to_string()) {
        wrapped.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    }
    wrapped.arg("--").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    // A group of its own: the terminal's interrupt is ours, and we stop things in order.
    wrapped.process_group(0);
    wrapped
}

/// A process that runs (or has ended and was not looked after yet). Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
    log_begin: u64,
}

impl Running {
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    /// Sends it a signal, if it still runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Under the lock nobody can reap it, so its id is its own.
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
            kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come within `patience`.
    pub fn wait(&self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} (pid {}) has not ended within {patience:?}:\n{}", self.name, self.pid, self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Errors
    /// When it does not end within `patience`.
    pub fn stop(&self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(patience)
    }

    /// SIGKILL to it and to what it started in its process group: it is gone when this returns.
    pub fn kill(&self) {
        let mut child = self.child();
        // Only while it has not been reaped is the group's number surely its own.
        if let Ok(None) = child.try_wait()
            && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill().and_then(|()| child.wait());
    }

    /// What it has printed since it was started.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn printed(&self) -> Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_begin))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of what it has printed.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of a log, under its name.
pub(super) fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(unreadable: {error})"));
    format!("--- {} ---\n{}", log.display(), text.trim_end())
}

/// Processes whose command line names `path`, without ourselves: pid and command line.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn naming(path: &Path) -> Result<Vec<(u32, String)>> {
    let wanted = path.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc cannot be read")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ended meanwhile has no command line any more.
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != std::process::id() && line.contains(&wanted) {
            found.push((pid, line.trim().to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_process_dies_with_its_guard_and_its_output_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let marker = temp.path().join("marker");
        let spawner = Spawner::new().unwrap();
        let mut command = Command::new("sh");
        // `sleep` alone would be what the shell becomes, and the marker lost from the command line.
        command.args(["-c", "echo begun; sleep 600; :"]).arg(&marker);
        let running = spawner.start("sleeper", &command, None, &temp.path().join("log")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while running.printed().unwrap() != "begun\n" {
            assert!(Instant::now() < deadline, "{}", running.log_tail());
            std::thread::sleep(POLL);
        }
        assert!(running.ended().unwrap().is_none());
        // Between its fork and its exec the sleeper still carries the shell's command line, so there may be two.
        assert!(naming(&marker).unwrap().iter().any(|(pid, _)| *pid == running.pid()));
        drop(running);
        while !naming(&marker).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "the sleeper outlived its guard");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn everything_dies_when_the_spawner_ends() {
        let temp = tempfile::tempdir().unwrap();
        let spawner = Spawner::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let running = spawner.start("sleeper", &command, None, &temp.path().join("log")).unwrap();
        assert!(running.wait(Duration::from_millis(50)).is_err());
        drop(spawner);
        assert!(!running.wait(Duration::from_secs(10)).unwrap().success());
    }
}
