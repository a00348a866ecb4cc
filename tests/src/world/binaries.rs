//! The programs under test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// In the directory that `QUOTARY_BIN_DIR` names, or beside this program (for a test: one directory up).
    ///
    /// # Errors
    /// When one is missing, with what to do.
    pub fn find() -> Result<Self> {
        if let Some(directory) = std::env::var_os("QUOTARY_BIN_DIR") {
            return Self::at(Path::new(&directory));
        }
        let own = std::env::current_exe().context("this program's own path is not to be had")?;
        let beside = own.parent().unwrap_or(Path::new("/"));
        Self::at(beside).or_else(|why| beside.parent().map_or(Err(why), Self::at))
    }

    fn at(directory: &Path) -> Result<Self> {
        for name in ["quotary", "quotary-agent", "quotary-verifier"] {
            if !directory.join(name).is_file() {
                bail!(
                    "there is no {name} in {}: run `cargo build --workspace --all-targets`, or set QUOTARY_BIN_DIR",
                    directory.display()
                );
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// A program's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same programs where any user may run them: a build directory often lies where only its owner may go.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn for_everybody(&self, directory: &Path, names: &[&str]) -> Result<()> {
        for name in names {
            public_copy(&self.path(name), &directory.join(name))?;
        }
        Ok(())
    }
}

/// Copies a program and lets everybody run it.
///
/// # Errors
/// When it cannot be read or written.
pub fn public_copy(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
