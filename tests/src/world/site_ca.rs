//! The site's CA for software TPMs, made by swtpm's own tools and shared by all hosts of a world.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A CA whose certificates the verifier is told to trust as software TPMs.
#[derive(Debug, Clone)]
pub struct SiteCa {
    setup_config: PathBuf,
    bundle: PathBuf,
}

impl SiteCa {
    /// Makes the CA in `directory` (which must not exist yet). swtpm's tool makes the CA when it certifies its first
    /// TPM, so one is made and thrown away.
    ///
    /// # Errors
    /// When swtpm's tools are missing or fail.
    pub fn make(directory: &Path) -> Result<Self> {
        std::fs::create_dir(directory)?;
        // As root the tool wants to be told that files in this directory may shadow those in /etc.
        let root = rustix::process::geteuid().is_root();
        let how = if root { "skip-if-exist,root" } else { "skip-if-exist" };
        setup(directory, &["--create-config-files".as_ref(), how.as_ref()])?;
        let setup_config = directory.join("swtpm_setup.conf");
        let first = directory.join("first");
        std::fs::create_dir(&first)?;
        let begin: [&Path; 6] =
            ["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--tpmstate", "--config"].map(Path::new);
        let [tpm2, certify, banks, bank, state, config] = begin;
        setup(directory, &[tpm2, certify, banks, bank, state, &first, config, &setup_config])?;
        std::fs::remove_dir_all(&first)?;
        let kept = directory.join("var/lib/swtpm-localca");
        let mut bundle = String::new();
        for name in ["issuercert.pem", "swtpm-localca-rootca-cert.pem"] {
            let path = kept.join(name);
            let read = std::fs::read_to_string(&path);
            bundle += &read.with_context(|| format!("swtpm_localca made no {}", path.display()))?;
        }
        let path = directory.join("site-ca.pem");
        std::fs::write(&path, bundle)?;
        Ok(Self { setup_config, bundle: path })
    }

    /// The configuration with which `swtpm_setup` certifies a TPM by this CA.
    pub fn setup_config(&self) -> &Path {
        &self.setup_config
    }

    /// Issuer and root, PEM.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }
}

fn setup(directory: &Path, arguments: &[&Path]) -> Result<()> {
    let output = Command::new("swtpm_setup")
        .args(arguments)
        .env("XDG_CONFIG_HOME", directory)
        .output()
        .context("swtpm_setup cannot be run: is swtpm-tools installed?")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        bail!("swtpm_setup failed ({}):\n{said}", output.status);
    }
    Ok(())
}
