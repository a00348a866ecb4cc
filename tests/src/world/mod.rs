//! A whole deployment on one machine: verifier, hosts with software TPMs, operator, all of it real.
//!
//! Does: makes a site CA with swtpm's own tools, writes configurations, makes the deployment, logs an operator in,
//! joins hosts, starts, stops and kills the programs, asks them, and takes it all down again.
//! May assume: that the programs are built and that swtpm's tools and setpriv are installed.
//! Promises: everything lies in one temporary directory; whatever happens, processes, cgroups and that directory
//! are gone when the world is dropped; worlds do not disturb each other; nothing waits for a fixed time.
//! Must never: touch a process, a cgroup or a file that no world of ours made.
//!
//! Everything here blocks; asynchronous work runs on the world's own [`World::runtime`]. So a test is a plain
//! `#[test]`, not a `#[tokio::test]`.

mod ask;
mod binaries;
mod files;
mod host;
mod kernel;
mod options;
mod process;
mod receiver;
mod road;
mod run;
mod signer;
mod site_ca;
mod teardown;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use quotary_common::cbor::Text;
use quotary_common::token::JoinToken;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub use binaries::{Binaries, public_copy};
pub use files::{ZONE_JOINED, ZONE_MEASURED, free_address};
pub use host::Host;
pub use kernel::Kernel;
pub use options::{Application, HostOptions, Options, Timing};
pub use process::{Running, Spawner, naming};
pub use receiver::{Posted, Receiver};
pub use road::Road;
pub use run::Run;
pub use signer::{KeyKind, Signer};
pub use site_ca::SiteCa;

/// How long a program may take to start, stop, or come to something that it must come to.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// The label under which a host's name within its world stands in its inventory.
const LABEL: &str = "world-host";

/// A deployment on this machine; gone when dropped.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: first what runs, last the directory.
    verifier: Option<Running>,
    hosts: Vec<Host>,
    spawner: Spawner,
    runtime: Runtime,
    options: Options,
    binaries: Binaries,
    kernel: Kernel,
    listen: SocketAddr,
    directory: TempDir,
}

impl World {
    /// Makes the deployment, without starting anything of it that stays: see [`World::start_verifier`] and
    /// [`World::start_agent`].
    ///
    /// # Errors
    /// When a program is missing or fails, with what it said.
    pub fn new(options: Options) -> Result<Self> {
        let binaries = Binaries::find()?;
        let directory = tempfile::Builder::new().prefix("quotary-world-").tempdir()?;
        open_to_all(directory.path())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut world = Self {
            verifier: None,
            hosts: Vec::new(),
            spawner: Spawner::new()?,
            runtime,
            binaries,
            kernel: Kernel::find()?,
            listen: free_address()?,
            options,
            directory,
        };
        world.lay_out()?;
        Ok(world)
    }

    fn lay_out(&mut self) -> Result<()> {
        let bin = self.path("bin");
        std::fs::create_dir(&bin)?;
        open_to_all(&bin)?;
        self.binaries.for_everybody(&bin, &["quotary"])?;
        let ca = SiteCa::make(&self.path("site-ca"))?;
        let config = files::verifier_toml(&self.options, &ca, &self.path("verifier"), self.listen);
        std::fs::write(self.verifier_config(), config)?;
        for (name, text) in &self.options.verifier_files {
            let path = self.verifier_config().with_file_name(name);
            std::fs::write(&path, text)?;
            open_to_owner(&path)?;
        }
        let mut init = Command::new(self.binaries.path("quotary-verifier"));
        init.arg("init").arg("--config").arg(self.verifier_config()).arg("--offline-dir").arg(self.offline_dir());
        if let Some((roster, rules)) = &self.options.authority {
            for (name, text) in [("roster", roster), ("rules", rules)] {
                let path = self.path(&format!("{name}.toml"));
                std::fs::write(&path, text)?;
                open_to_owner(&path)?;
                init.arg(format!("--{name}")).arg(path);
            }
        }
        succeed(&mut init)?;
        self.login(&["--offline"])?;
        for (index, host) in self.options.hosts.clone().into_iter().enumerate() {
            let host = self.make_host(index, host, &ca)?;
            self.hosts.push(host);
        }
        Ok(())
    }

    fn make_host(&self, index: usize, options: HostOptions, ca: &SiteCa) -> Result<Host> {
        let directory = self.path(&options.name);
        std::fs::create_dir(&directory)?;
        open_to_all(&directory)?;
        let unique = self.directory.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let road = options.behind_road.then(|| Road::open(self.runtime.handle(), self.listen)).transpose()?;
        let host = Host { cgroup: format!("/{unique}-{index}"), options, directory, road, agent: None, id: None };
        let place = files::AgentPlace {
            state_dir: &host.state_dir(),
            runtime_dir: &host.directory.join("run"),
            join_token: &host.join_token(),
            cgroup: &host.cgroup,
        };
        std::fs::write(host.config(), files::agent_toml(&self.options, ca, &place))?;
        Ok(host)
    }

    /// Stores the first operator's credentials where [`World::cli`] finds them.
    fn login(&self, more: &[&str]) -> Result<()> {
        let operator = self.path("verifier/operator.toml");
        let mut login = self.cli_command();
        login.arg("login").arg("--from").arg(operator).args(more);
        succeed(&mut login).map(drop)
    }

    /// Starts the verifier and waits until it serves.
    ///
    /// # Errors
    /// When it runs already, does not start, or ends at once.
    pub fn start_verifier(&mut self) -> Result<()> {
        if self.verifier.is_some() {
            bail!("the verifier runs already");
        }
        let mut command = Command::new(self.binaries.path("quotary-verifier"));
        command.arg("run").arg("--config").arg(self.verifier_config()).env("QUOTARY_LOG", &self.options.log);
        self.verifier = Some(self.spawner.start("quotary-verifier", &command, None, &self.path("verifier.log"))?);
        self.wait("the verifier to listen", PATIENCE, |world| {
            let verifier = world.verifier.as_ref().context("the verifier is gone")?;
            Ok(verifier.printed()?.contains("listening on ").then_some(()))
        })
    }

    /// SIGTERM to the verifier, and its end.
    ///
    /// # Errors
    /// When it does not run or does not end well.
    pub fn stop_verifier(&mut self) -> Result<()> {
        let verifier = self.verifier.take().context("the verifier does not run")?;
        let status = verifier.stop(PATIENCE)?;
        if status.success() {
            Ok(())
        } else {
            Err(anyhow!("the verifier ended with {status}:\n{}", verifier.log_tail()))
        }
    }

    /// SIGKILL to the verifier, if it runs.
    pub fn kill_verifier(&mut self) {
        self.verifier = None;
    }

    /// Starts the agent of host `index`, with a fresh join token if it has none yet.
    ///
    /// # Errors
    /// When it runs already or cannot be started. Whether it comes to anything, [`World::wait_for_trust`] says.
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        if self.host(index).agent.is_some() {
            bail!("the agent of {} runs already", self.host(index).name());
        }
        if !self.host(index).join_token().exists() {
            self.make_join_token(index)?;
        }
        let host = self.host(index);
        let mut command = Command::new(self.binaries.path("quotary-agent"));
        command.arg("--config").arg(host.config());
        let name = format!("quotary-agent of {}", host.name());
        let agent = self.spawner.start(&name, &command, None, &host.log())?;
        self.hosts[index].agent = Some(agent);
        Ok(())
    }

    /// Makes a join token for host `index` by `quotary token join`; behind a road it leads there.
    ///
    /// # Errors
    /// When the verifier refuses it.
    pub fn make_join_token(&self, index: usize) -> Result<()> {
        let host = self.host(index);
        let (cpu, memory) = (format!("{}m", host.options.cpu_millicores), host.options.memory_bytes.to_string());
        // What disk and network carry is not what these worlds are about: enough for everything.
        let capacity = ["--cpu", &cpu, "--memory", &memory, "--disk", "100G", "--network", "100G", "--storage", "10T"];
        let label = format!("{LABEL}={}", host.name());
        let verb = ["token", "join", "--zone", ZONE_MEASURED, "--label", &label];
        let printed = self.cli_ok(&[&verb[..], &capacity].concat())?;
        let mut token = JoinToken::parse(&printed).context("`quotary token join` printed no join token")?;
        if let Some(road) = &host.road {
            token.verifier = Text::lossy(&format!("https://{}", road.address()));
        }
        std::fs::write(host.join_token(), token.to_text().as_bytes())?;
        Ok(())
    }

    /// SIGTERM to the agent of host `index`, and its end.
    ///
    /// # Errors
    /// When it does not run or does not end well.
    pub fn stop_agent(&mut self, index: usize) -> Result<()> {
        let host = &mut self.hosts[index];
        let agent = host.agent.take().with_context(|| format!("the agent of {} does not run", host.options.name))?;
        let status = agent.stop(PATIENCE)?;
        if status.success() {
            Ok(())
        } else {
            Err(anyhow!("{} ended with {status}:\n{}", agent.name(), agent.log_tail()))
        }
    }

    /// SIGKILL to the agent of host `index`, if it runs. Its software TPM dies with it, by the kernel's hand.
    pub fn kill_agent(&mut self, index: usize) {
        self.hosts[index].agent = None;
    }

    /// Asks again and again until there is an answer.
    ///
    /// # Errors
    /// When `poll` fails, there is none within `patience`, a program of the world has ended meanwhile, or the world
    /// was interrupted.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut poll: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = poll(self).with_context(|| format!("while waiting for {what}"))? {
                return Ok(answer);
            }
            self.check_interrupted()?;
            for running in self.programs() {
                if let Some(status) = running.ended()? {
                    bail!("{} ended with {status} while waiting for {what}:\n{}", running.name(), running.log_tail());
                }
            }
            if Instant::now() >= deadline {
                bail!("waited {patience:?} in vain for {what}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// When the world was interrupted.
    pub fn check_interrupted(&self) -> Result<()> {
        if self.options.interrupted.load(Ordering::Relaxed) { Err(anyhow!("interrupted")) } else { Ok(()) }
    }

    fn programs(&self) -> impl Iterator<Item = &Running> {
        self.verifier.iter().chain(self.hosts.iter().filter_map(|host| host.agent.as_ref()))
    }

    /// The hosts, in the order of the options.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
    /// Host `index`.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }
    /// The verifier, if it runs.
    pub fn verifier(&self) -> Option<&Running> {
        self.verifier.as_ref()
    }
    /// Where the verifier listens.
    pub fn verifier_address(&self) -> SocketAddr {
        self.listen
    }
    /// The verifier's address as its clients know it.
    pub fn verifier_url(&self) -> String {
        format!("https://{}", self.listen)
    }
    /// The verifier's configuration.
    pub fn verifier_config(&self) -> PathBuf {
        self.path("verifier.toml")
    }
    /// What the operator would have taken offline: the keys of the root and of the CA.
    pub fn offline_dir(&self) -> PathBuf {
        self.path("offline")
    }
    /// A path in the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
    /// The programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
    /// What it was made of.
    pub fn options(&self) -> &Options {
        &self.options
    }
    /// The kernel's cgroups.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }
    /// Where asynchronous work runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
    /// What starts processes that die with us.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }
}

/// Lets every user go through a directory: applications of other uids must reach sockets and programs in it.
fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Keeps a file from other users: it may hold a secret.
fn open_to_owner(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

/// Runs a command that must succeed; what it printed.
fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
