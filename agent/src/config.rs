//! The agent's configuration: raw as written, then checked; all faults are told at once.

mod kept;
mod shape;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use quotary_common::envelope::Mode;
use quotary_common::limits::{APPLICATIONS_MAX, REQUESTS_MAX, defaults};
use serde::Deserialize;

pub use self::kept::KeptError;
use self::shape::{RawShape, Shape};
use crate::enforce::Device;
use crate::enforce::group::GroupPath;
use crate::tpm::{RawTpm, TpmConfig};

/// Where the configuration stands unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/quotary/agent.toml";
/// The credential that holds the join token.
const JOIN_TOKEN_CREDENTIAL: &str = "join-token";
const CONFIG_BYTES_MAX: u64 = 256 * 1024;
pub(crate) const STATE_DIR: &str = "/var/lib/quotary-agent";
const RUNTIME_DIR: &str = "/run/quotary";
const KILL_SWITCH_FILE: &str = "/etc/quotary/stop-enforcing";
const DISKS_MAX: usize = 64;

/// As written by the operator; every key that is left out has the default that `systemd/agent.toml` states.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    root: Option<PathBuf>,
    mode: Mode,
    join_token_file: Option<PathBuf>,
    sample_ms: Option<u64>,
    window_ms: Option<u64>,
    evidence_ms: Option<u64>,
    request_evidence_min_interval_ms: Option<u64>,
    requests_per_uid_max: Option<usize>,
    grants_per_uid_max: Option<usize>,
    connections_per_uid_max: Option<usize>,
    verifier_timeout_ms: Option<u64>,
    retry_max_ms: Option<u64>,
    shutdown_ms: Option<u64>,
    delegated_parent: Option<String>,
    disks: Option<Vec<String>>,
    kill_switch_file: Option<PathBuf>,
    log: Option<String>,
    shape: RawShape,
    tpm: RawTpm,
}

/// Checked configuration: made only by [`Config::load`] and [`Config::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that this was read from.
    pub(crate) path: PathBuf,
    /// What the agent keeps, mode 0700.
    pub(crate) state_dir: PathBuf,
    /// Where its sockets stand.
    pub(crate) runtime_dir: PathBuf,
    /// The tree that holds `/proc` and `/sys`: `/` in life.
    pub(crate) root: PathBuf,
    /// How far it may go.
    pub(crate) mode: Mode,
    /// Where the join token is read from while the host is not enrolled.
    pub(crate) join_token_file: Option<PathBuf>,
    /// One sample, ms.
    pub(crate) sample_ms: u64,
    /// One metric window, ms; absent: as the verifier says.
    pub(crate) window_ms: Option<NonZeroU64>,
    /// One evidence, ms; absent: as the verifier says.
    pub(crate) evidence_ms: Option<u64>,
    /// Between two evidences that requests of one uid bring forward, ms.
    pub(crate) request_evidence_min_interval_ms: u64,
    /// Requests of one uid that may wait at once.
    pub(crate) requests_per_uid_max: usize,
    /// Grants that one uid may hold at once, those it waits for included.
    pub(crate) grants_per_uid_max: usize,
    /// Connections of one uid that may be open at once.
    pub(crate) connections_per_uid_max: usize,
    /// How long one call to the verifier may take, ms.
    pub(crate) verifier_timeout_ms: u64,
    /// Longest pause between two tries, ms.
    pub(crate) retry_max_ms: u64,
    /// How long the agent may take to stop, ms.
    pub(crate) shutdown_ms: u64,
    /// The cgroup under which the agent makes its own.
    pub(crate) delegated_parent: Option<GroupPath>,
    /// `major:minor` of the disks that a disk limit holds for; absent: all whole disks.
    pub(crate) disks: Option<Vec<Device>>,
    /// While this file is there, nothing is enforced.
    pub(crate) kill_switch_file: PathBuf,
    /// How running units are moved.
    pub(crate) shape: Shape,
    /// What is logged (`tracing` filter).
    pub(crate) log: String,
    /// The TPM.
    pub(crate) tpm: TpmConfig,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}: give its place with --config", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or has keys or values that the agent does not know.
    #[error("{} is not a configuration of the agent:\n{source}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Values that cannot be used, all of them.
    #[error("{} has {} fault(s):\n  {}", path.display(), faults.len(), faults.join("\n  "))]
    Faults {
        /// Which file.
        path: PathBuf,
        /// One sentence each.
        faults: Vec<String>,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault that was found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_path_buf(), source };
        let length_bytes = std::fs::metadata(path).map_err(read)?.len();
        if length_bytes > CONFIG_BYTES_MAX {
            let faults = vec![format!("it has {length_bytes} bytes, at most {CONFIG_BYTES_MAX} are read")];
            return Err(ConfigError::Faults { path: path.to_path_buf(), faults });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// Checks configuration text; `path` only stands in messages.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault that was found.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|source| ConfigError::Syntax { path: path.to_path_buf(), source: Box::new(source) })?;
        check(raw, path).map_err(|faults| ConfigError::Faults { path: path.to_path_buf(), faults })
    }

    /// With the join token that the service manager gives in `directory` (`CREDENTIALS_DIRECTORY`, systemd.exec(5)), if it
    /// gives one there: it counts in place of `join_token_file`.
    #[must_use]
    pub fn with_credentials(mut self, directory: Option<&Path>) -> Self {
        let given = directory.map(|directory| directory.join(JOIN_TOKEN_CREDENTIAL));
        if let Some(file) = given.filter(|file| file.is_file()) {
            self.join_token_file = Some(file);
        }
        self
    }

    /// The application's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("agent.sock")
    }

    /// Root's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.runtime_dir.join("admin.sock")
    }

    /// What is logged (`tracing` filter).
    pub fn log_filter(&self) -> &str {
        &self.log
    }
}

fn check(raw: RawConfig, path: &Path) -> Result<Config, Vec<String>> {
    let mut faults = Vec::new();
    let f = &mut faults;
    let state_dir = absolute("state_dir", raw.state_dir, STATE_DIR, f);
    let runtime_dir = absolute("runtime_dir", raw.runtime_dir, RUNTIME_DIR, f);
    let root = absolute("root", raw.root, "/", f);
    if let Some(path) = &raw.join_token_file
        && !path.is_absolute()
    {
        f.push(format!("join_token_file is {}: it must be absolute", path.display()));
    }
    let sample_ms = within("sample_ms", raw.sample_ms, defaults::SAMPLE_MS, (100, 60_000), f);
    timing(sample_ms, raw.window_ms, raw.evidence_ms, f);
    let request_evidence_min_interval_ms =
        within("request_evidence_min_interval_ms", raw.request_evidence_min_interval_ms, 1_000, (0, 300_000), f);
    let requests_per_uid_max = count("requests_per_uid_max", raw.requests_per_uid_max, 32, REQUESTS_MAX, f);
    let grants_per_uid_max = count("grants_per_uid_max", raw.grants_per_uid_max, 128, APPLICATIONS_MAX, f);
    let connections_per_uid_max = count("connections_per_uid_max", raw.connections_per_uid_max, 128, 1024, f);
    let verifier_timeout_ms = within("verifier_timeout_ms", raw.verifier_timeout_ms, 10_000, (100, 120_000), f);
    let retry_max_ms = within("retry_max_ms", raw.retry_max_ms, 60_000, (100, 3_600_000), f);
    let shutdown_ms = within("shutdown_ms", raw.shutdown_ms, 20_000, (1_000, 80_000), f);
    let delegated_parent = raw.delegated_parent.as_deref().and_then(|text| {
        let parent = GroupPath::parse(text);
        if parent.is_none() {
            f.push(format!("delegated_parent is \"{text}\": it must be a cgroup path such as /quotary"));
        }
        parent
    });
    let disks = raw.disks.and_then(|given| disks(&given, f));
    let log = raw.log.unwrap_or_else(|| "info".to_owned());
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log) {
        f.push(format!("log is \"{log}\": {error}"));
    }
    let kill_switch_file = absolute("kill_switch_file", raw.kill_switch_file, KILL_SWITCH_FILE, f);
    let shape = raw.shape.check(f);
    let tpm = tpm(raw.tpm, &state_dir, f);
    match tpm {
        Some(tpm) if faults.is_empty() => Ok(Config {
            path: path.to_path_buf(),
            state_dir,
            runtime_dir,
            root,
            mode: raw.mode,
            join_token_file: raw.join_token_file,
            sample_ms,
            window_ms: raw.window_ms.and_then(NonZeroU64::new),
            evidence_ms: raw.evidence_ms,
            request_evidence_min_interval_ms,
            requests_per_uid_max,
            grants_per_uid_max,
            connections_per_uid_max,
            verifier_timeout_ms,
            retry_max_ms,
            shutdown_ms,
            delegated_parent,
            disks,
            kill_switch_file,
            shape,
            log,
            tpm,
        }),
        _ => Err(faults),
    }
}

fn absolute(name: &str, given: Option<PathBuf>, default: &str, faults: &mut Vec<String>) -> PathBuf {
    let path = given.unwrap_or_else(|| PathBuf::from(default));
    if !path.is_absolute() {
        faults.push(format!("{name} is {}: it must be absolute", path.display()));
    }
    path
}

fn within(name: &str, given: Option<u64>, default: u64, (least, most): (u64, u64), faults: &mut Vec<String>) -> u64 {
    let value = given.unwrap_or(default);
    if !(least..=most).contains(&value) {
        faults.push(format!("{name} is {value}: it must be {least} to {most}"));
    }
    value
}

fn count(name: &str, given: Option<usize>, default: usize, most: usize, faults: &mut Vec<String>) -> usize {
    let value = given.unwrap_or(default);
    if !(1..=most).contains(&value) {
        faults.push(format!("{name} is {value}: it must be 1 to {most}"));
    }
    value
}

/// `sample_ms ≤ window_ms ≤ evidence_ms < lease` (design §2), as far as they are given.
fn timing(sample_ms: u64, window_ms: Option<u64>, evidence_ms: Option<u64>, faults: &mut Vec<String>) {
    if let Some(window_ms) = window_ms
        && !(sample_ms..=3_600_000).contains(&window_ms)
    {
        faults.push(format!("window_ms is {window_ms}: it must be from sample_ms ({sample_ms}) to 3600000"));
    }
    let least = window_ms.unwrap_or(sample_ms);
    if let Some(evidence_ms) = evidence_ms
        && !(least..defaults::LEASE_MS).contains(&evidence_ms)
    {
        let below = defaults::LEASE_MS;
        faults.push(format!(
            "evidence_ms is {evidence_ms}: it must be at least window_ms and sample_ms ({least}) and below a lease ({below})"
        ));
    }
}

fn disks(given: &[String], faults: &mut Vec<String>) -> Option<Vec<Device>> {
    if given.len() > DISKS_MAX {
        faults.push(format!("disks has {} entries: at most {DISKS_MAX} are allowed", given.len()));
        return None;
    }
    let mut out = Vec::new();
    for text in given {
        match Device::parse(text) {
            Some(device) => out.push(device),
            None => {
                faults.push(format!("disks has \"{text}\": it must be major:minor, as in /proc/diskstats (\"8:0\")"))
            }
        }
    }
    Some(out)
}

fn tpm(mut raw: RawTpm, state_dir: &Path, faults: &mut Vec<String>) -> Option<TpmConfig> {
    raw.ak_file.get_or_insert_with(|| state_dir.join("ak.json"));
    if raw.access.as_deref() == Some("software") {
        raw.software_state_dir.get_or_insert_with(|| state_dir.join("tpm"));
    }
    match raw.check() {
        Ok(tpm) => Some(tpm),
        Err(more) => {
            faults.extend(more);
            None
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("agent.toml"))
    }

    #[test]
    fn the_shipped_example_says_exactly_the_defaults() {
        let shipped = parse(include_str!("../../systemd/agent.toml")).unwrap();
        let mut defaults = parse("").unwrap();
        // The example names what has no default value but a meaning when absent.
        defaults.join_token_file.clone_from(&shipped.join_token_file);
        assert!(shipped.join_token_file.is_some());
        assert_eq!(shipped, defaults);
    }

    #[test]
    fn every_option_of_the_example_is_a_key_that_the_agent_knows() {
        let text = include_str!("../../systemd/agent.toml");
        // Lines that are commented out hold other values than the default: they must parse as well.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let config = parse(&all).unwrap();
        assert_eq!(config.window_ms.map(NonZeroU64::get), Some(15_000));
        assert_eq!(config.disks, Some(vec![Device { major: 8, minor: 0 }, Device { major: 259, minor: 0 }]));
        // Options of another `access` cannot hold together with the one in force, but their names must be known.
        let is_option = |line: &&str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = "));
        let others: Vec<&str> = text.lines().filter(is_option).collect();
        assert!(others.len() >= 4, "{others:?}");
        for line in others {
            let told = match parse(&text.replace(line, &line[2..])) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            assert!(!told.contains("unknown field") && !told.contains("TOML"), "{line}: {told}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "state_dir = \"here\"\nsample_ms = 5\nwindow_ms = 1\nevidence_ms = 0\ndelegated_parent = \"/a/../b\"\n\
                    disks = [\"sda\"]\nrequests_per_uid_max = 0\nlog = \"a=b=c\"\n[tpm]\naccess = \"chip\"\n";
        let Err(ConfigError::Faults { faults, .. }) = parse(text) else { panic!("it must be refused") };
        for name in [
            "state_dir",
            "sample_ms",
            "window_ms",
            "evidence_ms",
            "delegated_parent",
            "disks",
            "requests_per_uid_max",
            "log",
            "tpm.access",
        ] {
            assert!(faults.iter().any(|fault| fault.contains(name)), "{name} in {faults:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(matches!(parse("sample = 5"), Err(ConfigError::Syntax { .. })));
        assert!(matches!(parse("[tpm]\nkind = \"device\""), Err(ConfigError::Syntax { .. })));
        assert!(matches!(parse("mode = \"force\""), Err(ConfigError::Syntax { .. })));
    }

    #[test]
    fn a_join_token_that_the_service_manager_gives_counts_in_place_of_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let config = parse("join_token_file = \"/etc/quotary/join-token\"").unwrap();
        assert_eq!(config.clone().with_credentials(None), config);
        assert_eq!(config.clone().with_credentials(Some(temp.path())), config);
        let given = temp.path().join("join-token");
        std::fs::write(&given, "a token").unwrap();
        assert_eq!(config.with_credentials(Some(temp.path())).join_token_file, Some(given));
    }

    #[test]
    fn a_software_tpm_lives_in_the_state_directory_unless_told_otherwise() {
        let config = parse("state_dir = \"/s\"\n[tpm]\naccess = \"software\"").unwrap();
        assert_eq!(config.tpm.ak_file(), Path::new("/s/ak.json"));
        assert_eq!(config.tpm.access().to_string(), "in software (/s/tpm)");
    }
}
