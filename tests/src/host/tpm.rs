//! A software TPM of a driven host, run by the agent's own TPM room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use quotary_agent::tpm::{EkAlgorithm, TpmAccess, TpmConfig, TpmHandle};
use rustix::process::{Pid, Signal};

use super::rogue::{Process, Rogue};

const DEADLINE: Duration = Duration::from_secs(60);

/// A software TPM with its attestation key, in a directory of its own.
#[derive(Debug)]
pub struct SoftTpm {
    dir: PathBuf,
    setup_config: PathBuf,
    ek: EkAlgorithm,
    handle: Option<TpmHandle>,
    attached: Option<Process>,
}

impl SoftTpm {
    /// A TPM in `dir`; made and certified when it is first started.
    pub fn new(dir: &Path, setup_config: &Path, ek: EkAlgorithm) -> Self {
        Self { dir: dir.to_owned(), setup_config: setup_config.to_owned(), ek, handle: None, attached: None }
    }

    /// The running TPM; starts it where it does not run.
    ///
    /// # Errors
    /// What keeps it from running.
    pub async fn handle(&mut self) -> Result<TpmHandle> {
        if let Some(handle) = &self.handle {
            return Ok(handle.clone());
        }
        fs::create_dir_all(&self.dir)?;
        let access = match &self.attached {
            Some(process) => TpmAccess::Device(process.device.clone()),
            None => {
                TpmAccess::Software { state_dir: self.dir.join("swtpm"), setup_config: Some(self.setup_config.clone()) }
            }
        };
        let config = TpmConfig::check(access, self.ek, self.dir.join("ak.json"), DEADLINE, 8)
            .map_err(|faults| anyhow!("the TPM's settings: {}", faults.join("; ")))?;
        let handle = TpmHandle::start(config).await.context("the software TPM does not start")?;
        Ok(self.handle.insert(handle).clone())
    }

    /// Shuts it down in order; its files stay.
    ///
    /// # Errors
    /// What the TPM says.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(handle) = self.handle.take() {
            handle.shutdown().await?;
        }
        self.attached = None;
        Ok(())
    }

    /// Goes on with what a rogue left running, instead of starting the TPM anew.
    pub fn attach(&mut self, rogue: Rogue) {
        self.attached = Some(rogue.release());
    }

    /// The other way: takes the TPM that [`SoftTpm::attach`] left running out of the agent's room, as it is now.
    ///
    /// # Errors
    /// When it was never attached, or the TPM does not serve.
    pub async fn detach(&mut self) -> Result<Rogue> {
        let process = self.attached.take().context("the TPM was not attached")?;
        self.stop().await?;
        Rogue::of(process)
    }

    /// Where swtpm keeps the TPM's state.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("swtpm/tpm")
    }

    /// A copy of the stopped TPM and its attestation key: what a thief of a disk or a careless copy of a virtual
    /// machine has.
    ///
    /// # Errors
    /// When it still runs, or cannot be copied.
    pub fn clone_into(&self, dir: &Path) -> Result<Self> {
        if self.handle.is_some() {
            bail!("stop the TPM before copying it");
        }
        let status = Command::new("cp").arg("-a").arg(&self.dir).arg(dir).status().context("cp cannot be run")?;
        if !status.success() {
            bail!("{} could not be copied", self.dir.display());
        }
        Ok(Self::new(dir, &self.setup_config, self.ek))
    }

    /// Forgets the attestation key: the next start makes another.
    ///
    /// # Errors
    /// When it runs, or the file cannot be removed.
    pub fn forget_ak(&self) -> Result<()> {
        if self.handle.is_some() {
            bail!("stop the TPM before its key is taken away");
        }
        Ok(fs::remove_file(self.dir.join("ak.json"))?)
    }
}

impl Drop for SoftTpm {
    fn drop(&mut self) {
        let pid = self.handle.as_ref().and_then(TpmHandle::software_child_pid);
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // Its thread reaps it; an orderly end is what `stop` is for.
            let _gone = rustix::process::kill_process(pid, Signal::KILL).is_err();
        }
    }
}
