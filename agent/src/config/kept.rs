//! What `restore` needs of a configuration, kept in the state directory: a configuration that does not hold any more (a typo, a
//! refused upgrade) must not stand between a host and its own values.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use quotary_common::envelope::Mode;
use serde::{Deserialize, Serialize};

use super::{CONFIG_BYTES_MAX, Config, RawConfig, STATE_DIR, check};
use crate::state::{StateDir, StateError, durable};

/// The file in the state directory.
pub(crate) const FILE_NAME: &str = "restore.toml";
/// Most bytes of it: as of a configuration, and what the form adds.
const BYTES_MAX: usize = 512 * 1024;
/// The form that is written and read.
const VERSION: u32 = 1;

/// What the agent's last start kept, and cannot be used; or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// No agent has started with a configuration that holds.
    #[error("{} is not there: no agent that keeps it has started here", .0.display())]
    Absent(PathBuf),
    /// The state directory, or the file, cannot be read or written.
    #[error("the settings for `restore` cannot be kept or read")]
    State(#[from] StateError),
    /// It cannot be written in this form.
    #[error("the settings for `restore` cannot be written down")]
    Form(#[from] toml::ser::Error),
    /// It is not what an agent writes.
    #[error("{} is not what an agent of this version keeps: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// As written: the version, and of the configuration's own keys those that `restore` looks at.
#[derive(Serialize)]
struct Form<'c> {
    version: u32,
    config: Settings<'c>,
}

#[derive(Serialize)]
struct Settings<'c> {
    state_dir: &'c Path,
    runtime_dir: &'c Path,
    root: &'c Path,
    mode: Mode,
    delegated_parent: Option<&'c str>,
    disks: Option<Vec<String>>,
    kill_switch_file: &'c Path,
    shape: ShapeSettings<'c>,
}

#[derive(Serialize)]
struct ShapeSettings<'c> {
    egress_interfaces: Option<&'c [String]>,
    storage: Vec<StorageSettings<'c>>,
}

#[derive(Serialize)]
struct StorageSettings<'c> {
    unit: String,
    directory: &'c str,
    project_id: u32,
}

/// The version alone, whatever else stands there.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// As read: checked like a configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawForm {
    #[serde(rename = "version")]
    _version: u32,
    config: RawConfig,
}

impl Config {
    /// Keeps in the state directory what `restore` needs: it lasts when this returns.
    ///
    /// # Errors
    /// [`KeptError`] when it cannot be written.
    pub(crate) fn keep(&self, state: &StateDir) -> Result<(), KeptError> {
        let storage = self.shape.storage.iter().map(|assigned| StorageSettings {
            unit: assigned.unit.to_string(),
            directory: &assigned.directory.path,
            project_id: assigned.directory.project,
        });
        let config = Settings {
            state_dir: &self.state_dir,
            runtime_dir: &self.runtime_dir,
            root: &self.root,
            mode: self.mode,
            delegated_parent: self.delegated_parent.as_ref().map(|parent| parent.as_str()),
            disks: self.disks.as_ref().map(|disks| disks.iter().map(ToString::to_string).collect()),
            kill_switch_file: &self.kill_switch_file,
            shape: ShapeSettings {
                egress_interfaces: self.shape.egress_interfaces.as_deref(),
                storage: storage.collect(),
            },
        };
        let text = toml::to_string(&Form { version: VERSION, config })?;
        Ok(state.write(FILE_NAME, text.as_bytes())?)
    }

    /// What the last start of an agent kept, for a configuration at `path` that does not hold: it says where the state directory
    /// is as far as that can be made out, else it is where it is by default. Nothing is made.
    ///
    /// # Errors
    /// [`KeptError`] when there is nothing, or nothing of use.
    pub fn kept(path: &Path) -> Result<Self, KeptError> {
        let state_dir = state_dir_in(&text_of(path));
        let file = state_dir.join(FILE_NAME);
        if !state_dir.is_dir() {
            return Err(KeptError::Absent(file));
        }
        // Ours, and closed to others: what stands there is believed.
        StateDir::open(&state_dir)?;
        let bytes = durable::read(&file, BYTES_MAX)?.ok_or_else(|| KeptError::Absent(file.clone()))?;
        let damaged = |why: String| KeptError::Damaged { path: file.clone(), why };
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let Head { version } = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if version != VERSION {
            return Err(damaged(format!("its version is {version}, {VERSION} is known")));
        }
        let RawForm { config, .. } = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let config = check(config, path).map_err(|faults| damaged(faults.join("; ")))?;
        Ok(Self { state_dir, ..config })
    }
}

/// The text of a configuration; none where it cannot be read.
fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

/// The state directory that a configuration names, also where it does not hold as a whole: then by the one line that says it.
fn state_dir_in(text: &str) -> PathBuf {
    #[derive(Deserialize)]
    struct Only {
        state_dir: Option<PathBuf>,
    }
    let said = |text: &str| toml::from_str::<Only>(text).ok().map(|only| only.state_dir);
    let by_its_line = || {
        let above_tables = text.lines().map(str::trim).take_while(|line| !line.starts_with('['));
        above_tables.filter(|line| line.starts_with("state_dir")).find_map(|line| said(line).flatten())
    };
    let found = said(text).unwrap_or_else(by_its_line);
    found.filter(|path| path.is_absolute()).unwrap_or_else(|| PathBuf::from(STATE_DIR))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const TEXT: &str = "root = \"/tree\"\nmode = \"dry-run\"\nruntime_dir = \"/r\"\ndelegated_parent = \"/q/a\"\n\
        disks = [\"8:0\"]\nkill_switch_file = \"/k\"\n[shape]\negress_interfaces = [\"eth0\"]\n[[shape.storage]]\n\
        unit = \"web.service\"\ndirectory = \"/srv/web\"\nproject_id = 4242\n";

    /// A configuration that was kept, and where its file stands.
    fn kept() -> (tempfile::TempDir, Config, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("state")).unwrap();
        let path = temp.path().join("agent.toml");
        let config = Config::parse(&format!("state_dir = {:?}\n{TEXT}", state.path()), &path).unwrap();
        config.keep(&state).unwrap();
        (temp, config, path)
    }

    #[test]
    fn what_restore_needs_is_read_back_whatever_became_of_the_configuration() {
        let (temp, config, path) = kept();
        let state_dir = config.state_dir.display().to_string();
        for broken in ["sample_ms = \"often\"", "no key", "sample_ms = 1", "frobnicate = true", "[shape"] {
            std::fs::write(&path, format!("state_dir = \"{state_dir}\"\n{broken}\n")).unwrap();
            assert!(Config::load(&path).is_err(), "{broken}");
            let read = Config::kept(&path).unwrap();
            assert_eq!(read.shape.storage, config.shape.storage);
            assert_eq!(read, Config { shape: read.shape.clone(), ..config.clone() }, "{broken}");
            assert_eq!(read.shape.egress_interfaces, config.shape.egress_interfaces);
        }
        let mode = std::fs::metadata(temp.path().join("state").join(FILE_NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_version_damage_and_absence_are_told() {
        let (temp, config, path) = kept();
        let file = config.state_dir.join(FILE_NAME);
        let good = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&path, format!("state_dir = {:?}\nno key\n", config.state_dir)).unwrap();
        let told = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Config::kept(&path).unwrap_err().to_string()
        };
        assert!(told(&good.replace("version = 1", "version = 2")).contains("version is 2"));
        assert!(told(&good.replace("/srv/web", "srv")).contains("must be absolute"));
        assert!(told("half").contains("not what an agent"));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(Config::kept(&path), Err(KeptError::Absent(_))));
        std::fs::remove_dir_all(temp.path().join("state")).unwrap();
        assert!(matches!(Config::kept(&path), Err(KeptError::Absent(_))));
        assert!(!temp.path().join("state").exists(), "nothing is made");
    }

    #[test]
    fn the_state_directory_is_made_out_as_far_as_possible() {
        let default = Path::new(STATE_DIR);
        assert_eq!(state_dir_in("sample_ms = 1\nstate_dir = \"/s\""), Path::new("/s"));
        assert_eq!(state_dir_in("sample_ms = \n  state_dir = '/s' # here\n[tpm"), Path::new("/s"));
        assert_eq!(state_dir_in("[tpm]\nstate_dir = \"/s\"\nx"), default);
        assert_eq!(state_dir_in("state_dir = \"s\""), default);
        assert_eq!(state_dir_in("state_dir = 7\n"), default);
        assert_eq!(state_dir_in(""), default);
    }
}
