//! Which TPM to use: raw settings from the configuration file, and the checked value made of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use tss_esapi::tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf};

/// The kernel's resource manager: other users of the TPM are not disturbed.
pub const DEFAULT_DEVICE: &str = "/dev/tpmrm0";
const DEFAULT_DEADLINE_MS: u64 = 10_000;
const DEADLINE_MS: std::ops::RangeInclusive<u64> = 50..=120_000;
const DEFAULT_QUEUE: usize = 32;
const QUEUE: std::ops::RangeInclusive<usize> = 1..=1024;

/// The way to the TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmAccess {
    /// A character device.
    Device(PathBuf),
    /// A running swtpm: TPM commands on `port`, its control channel on `port + 1`.
    Swtpm {
        /// Host name or address.
        host: String,
        /// TCP port of the TPM commands.
        port: u16,
    },
    /// A software TPM that the agent makes, starts and stops itself.
    Software {
        /// Directory of its state, kept at mode 0700.
        state_dir: PathBuf,
        /// A site's own `swtpm_setup` configuration, whose CA signs the EK certificates;
        /// without it a CA of this host's own is made in the state directory.
        setup_config: Option<PathBuf>,
    },
}

impl Default for TpmAccess {
    fn default() -> Self {
        Self::Device(PathBuf::from(DEFAULT_DEVICE))
    }
}

impl fmt::Display for TpmAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(formatter, "at {}", path.display()),
            Self::Swtpm { host, port } => write!(formatter, "swtpm at {host}:{port}"),
            Self::Software { state_dir, .. } => {
                write!(formatter, "in software ({})", state_dir.display())
            }
        }
    }
}

/// Which endorsement key stands for this host (TCG EK Credential Profile 2.5, §2.2.1.4-5 and B.3-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EkAlgorithm {
    /// The first of ECC P-256, RSA-2048, ECC P-384 that has a certificate in NV, else RSA-2048.
    #[default]
    Auto,
    /// RSA-2048, template L-1.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// ECC P-256, template L-2.
    #[serde(rename = "ecc-p256")]
    EccP256,
    /// ECC P-384, template H-3.
    #[serde(rename = "ecc-p384")]
    EccP384,
}

/// The `[tpm]` section as written by the operator. [`RawTpm::check`] makes a [`TpmConfig`] of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTpm {
    /// `device` (default), `swtpm` or `software`.
    pub access: Option<String>,
    /// With `device`: default [`DEFAULT_DEVICE`].
    pub device_path: Option<PathBuf>,
    /// With `swtpm`: default `127.0.0.1`.
    pub swtpm_host: Option<String>,
    /// With `swtpm`: required.
    pub swtpm_port: Option<u16>,
    /// With `software`: required.
    pub software_state_dir: Option<PathBuf>,
    /// With `software`: a site's `swtpm_setup` configuration file.
    pub software_setup_config: Option<PathBuf>,
    /// Default `auto`.
    pub ek_algorithm: EkAlgorithm,
    /// Where the wrapped AK is kept; required.
    pub ak_file: Option<PathBuf>,
    /// How long a caller waits for one answer; default 10 s.
    pub command_deadline_ms: Option<u64>,
    /// How many requests may wait; default 32.
    pub queue_capacity: Option<usize>,
}

/// Checked settings of the TPM room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmConfig {
    access: TpmAccess,
    ek_algorithm: EkAlgorithm,
    ak_file: PathBuf,
    command_deadline: Duration,
    queue_capacity: usize,
}

impl RawTpm {
    /// Checks the section and tells all faults at once, each naming its setting.
    pub fn check(self) -> Result<TpmConfig, Vec<String>> {
        let mut faults = Vec::new();
        let access = self.access(&mut faults);
        let Some(ak_file) = self.ak_file else {
            faults.push("tpm.ak_file is missing: say where the wrapped AK is kept".to_owned());
            return Err(faults);
        };
        let deadline_ms = self.command_deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS);
        let queue = self.queue_capacity.unwrap_or(DEFAULT_QUEUE);
        match TpmConfig::check(access, self.ek_algorithm, ak_file, Duration::from_millis(deadline_ms), queue) {
            Ok(config) if faults.is_empty() => Ok(config),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    fn access(&self, faults: &mut Vec<String>) -> TpmAccess {
        let kind = self.access.as_deref().unwrap_or("device");
        let given = [
            ("device", "device_path", self.device_path.is_some()),
            ("swtpm", "swtpm_host", self.swtpm_host.is_some()),
            ("swtpm", "swtpm_port", self.swtpm_port.is_some()),
            ("software", "software_state_dir", self.software_state_dir.is_some()),
            ("software", "software_setup_config", self.software_setup_config.is_some()),
        ];
        for (of, name, is_given) in given {
            if is_given && of != kind {
                faults.push(format!("tpm.{name} has no meaning with tpm.access = \"{kind}\""));
            }
        }
        match kind {
            "device" => self.device_path.clone().map_or_else(TpmAccess::default, TpmAccess::Device),
            "swtpm" => {
                if self.swtpm_port.is_none() {
                    faults.push("tpm.swtpm_port is missing".to_owned());
                }
                TpmAccess::Swtpm {
                    host: self.swtpm_host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
                    port: self.swtpm_port.unwrap_or(1),
                }
            }
            "software" => match self.software_state_dir.clone() {
                Some(state_dir) => TpmAccess::Software { state_dir, setup_config: self.software_setup_config.clone() },
                None => {
                    faults.push("tpm.software_state_dir is missing".to_owned());
                    TpmAccess::default()
                }
            },
            other => {
                faults.push(format!("tpm.access is \"{other}\": it must be device, swtpm or software"));
                TpmAccess::default()
            }
        }
    }
}

impl TpmConfig {
    /// Checks settings that did not come from a file; tells all faults at once.
    pub fn check(
        access: TpmAccess,
        ek_algorithm: EkAlgorithm,
        ak_file: PathBuf,
        command_deadline: Duration,
        queue_capacity: usize,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        match &access {
            TpmAccess::Device(path) => path_fault("tpm.device_path", path, &mut faults),
            TpmAccess::Swtpm { port, .. } if *port == 0 || *port == u16::MAX => {
                faults.push(format!("tpm.swtpm_port is {port}: it must be 1 to 65534"));
            }
            TpmAccess::Swtpm { .. } => {}
            TpmAccess::Software { state_dir, setup_config } => {
                path_fault("tpm.software_state_dir", state_dir, &mut faults);
                if let Some(path) = setup_config {
                    path_fault("tpm.software_setup_config", path, &mut faults);
                }
            }
        }
        if let Err(fault) = access_to_tcti(&access) {
            faults.push(fault);
        }
        if !ak_file.is_absolute() {
            faults.push(format!("tpm.ak_file is {}: it must be absolute", ak_file.display()));
        }
        let deadline_ms = u64::try_from(command_deadline.as_millis()).unwrap_or(u64::MAX);
        if !DEADLINE_MS.contains(&deadline_ms) {
            faults.push(format!(
                "tpm.command_deadline_ms is {deadline_ms}: it must be {} to {}",
                DEADLINE_MS.start(),
                DEADLINE_MS.end()
            ));
        }
        if !QUEUE.contains(&queue_capacity) {
            faults.push(format!(
                "tpm.queue_capacity is {queue_capacity}: it must be {} to {}",
                QUEUE.start(),
                QUEUE.end()
            ));
        }
        if faults.is_empty() {
            Ok(Self { access, ek_algorithm, ak_file, command_deadline, queue_capacity })
        } else {
            Err(faults)
        }
    }

    /// The way to the TPM.
    #[must_use]
    pub const fn access(&self) -> &TpmAccess {
        &self.access
    }

    /// Which EK to use.
    #[must_use]
    pub const fn ek_algorithm(&self) -> EkAlgorithm {
        self.ek_algorithm
    }

    /// Where the wrapped AK is kept.
    #[must_use]
    pub fn ak_file(&self) -> &Path {
        &self.ak_file
    }

    /// How long a caller waits for one answer.
    #[must_use]
    pub const fn command_deadline(&self) -> Duration {
        self.command_deadline
    }

    /// How many requests may wait.
    #[must_use]
    pub const fn queue_capacity(&self) -> usize {
        self.queue_capacity
    }
}

/// A path stands inside option strings (`device:PATH`, `dir=PATH,...`) of other programs.
fn path_fault(name: &str, path: &Path, faults: &mut Vec<String>) {
    let shown = path.display();
    if !path.is_absolute() {
        faults.push(format!("{name} is {shown}: it must be absolute"));
    }
    if path.to_str().is_none_or(|text| text.contains([',', '\0', '\n'])) {
        faults.push(format!("{name} is {shown}: it must be UTF-8 without comma or newline"));
    }
}

/// The TSS's name of a device.
pub(super) fn device_tcti(path: &Path) -> Result<TctiNameConf, String> {
    path.to_str()
        .and_then(|text| DeviceConfig::from_str(text).ok())
        .map(TctiNameConf::Device)
        .ok_or_else(|| format!("{} is no path of a TPM device", path.display()))
}

/// The TSS's name of a TPM that exists already; `None` for one that we start ourselves.
pub(super) fn access_to_tcti(access: &TpmAccess) -> Result<Option<TctiNameConf>, String> {
    match access {
        TpmAccess::Device(path) => device_tcti(path).map(Some),
        TpmAccess::Swtpm { host, port } => {
            // The TSS takes "host=...,port=..." as one string: a comma in the host would set options.
            let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
            plain
                .then(|| NetworkTPMConfig::from_str(&format!("host={host},port={port}")).ok())
                .flatten()
                .map(|network| Some(TctiNameConf::Swtpm(network)))
                .ok_or_else(|| format!("tpm.swtpm_host is {host:?}: it must be a host name or an address"))
        }
        TpmAccess::Software { .. } => Ok(None),
    }
}
