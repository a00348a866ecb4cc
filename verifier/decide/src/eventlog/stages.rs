//! Boot stages: every measurement of a log in exactly one, so that none vanishes because its type was changed.
//!
//! The stage follows from the PCR and, where a PCR serves several, from the event's words. Words are claims unless
//! measured: a policy must find every measurement of the PCRs that it trusts blessed, in whatever stage it stands. Then
//! a relabelled event is one that nobody blessed.

use super::bank::Bank;
use super::check::SEPARATORS;
use super::efi::{
    CALLING_APPLICATION, EXIT_BOOT_SERVICES_INVOCATION, EXIT_BOOT_SERVICES_SUCCESS, RETURNING_FROM_APPLICATION,
};
use super::event::{Event, EventType};
use super::measurelog::MeasureLog;
use super::parse::EventLog;
use super::text::{
    EventText, TAG_LINUX_INITRD, TAG_LINUX_LOAD_OPTIONS, event_words, is_grub, is_grub_command_line, tagged,
};

/// A stage of booting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Separators and the firmware's own words between stages, known by their digest: the same on every host.
    Marker,
    /// PCR 0 to 3 and 6: firmware, its settings, option ROMs.
    Firmware,
    /// PCR 7: Secure Boot, judged by [`super::secure_boot()`].
    SecureBoot,
    /// PCR 4: what was started, in order: shim, boot loader, kernel, unified kernel image.
    BootApplication,
    /// PCR 5: partition table and the boot loader's settings.
    BootConfiguration,
    /// PCR 8 and 9: what the boot loader did and read, but for the next three.
    Loader,
    /// PCR 9: the kernel, as GRUB measures it.
    Kernel,
    /// PCR 9: the initial ramdisk, as GRUB or the kernel's EFI stub measures it.
    Initrd,
    /// PCR 8 (GRUB), 9 (the kernel's EFI stub), 12 (systemd-boot, systemd-stub): the kernel's command line and what
    /// else configures it.
    CommandLine,
    /// PCR 11: sections of a unified kernel image; later the phases of the boot.
    UnifiedKernel,
    /// PCR 13: system extensions.
    SystemExtensions,
    /// PCR 14: machine owner keys.
    MachineOwnerKeys,
    /// PCR 15: the system's identity.
    SystemIdentity,
    /// PCR 10 and 16 to 23.
    Other,
}

impl Stage {
    /// Every stage, in the order of booting.
    pub const ALL: [Self; 14] = [
        Self::Marker,
        Self::Firmware,
        Self::SecureBoot,
        Self::BootApplication,
        Self::BootConfiguration,
        Self::Loader,
        Self::Kernel,
        Self::Initrd,
        Self::CommandLine,
        Self::UnifiedKernel,
        Self::SystemExtensions,
        Self::MachineOwnerKeys,
        Self::SystemIdentity,
        Self::Other,
    ];

    /// The name, as in JSON and in a zone's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::Firmware => "firmware",
            Self::SecureBoot => "secure-boot",
            Self::BootApplication => "boot-application",
            Self::BootConfiguration => "boot-configuration",
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::CommandLine => "command-line",
            Self::UnifiedKernel => "unified-kernel",
            Self::SystemExtensions => "system-extensions",
            Self::MachineOwnerKeys => "machine-owner-keys",
            Self::SystemIdentity => "system-identity",
            Self::Other => "other",
        }
    }

    /// The stage that a PCR alone tells.
    pub const fn of_pcr(pcr: u8) -> Self {
        match pcr {
            0..=3 | 6 => Self::Firmware,
            4 => Self::BootApplication,
            5 => Self::BootConfiguration,
            7 => Self::SecureBoot,
            8 | 9 => Self::Loader,
            11 => Self::UnifiedKernel,
            12 => Self::CommandLine,
            13 => Self::SystemExtensions,
            14 => Self::MachineOwnerKeys,
            15 => Self::SystemIdentity,
            _ => Self::Other,
        }
    }

    /// The stage of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Where it belongs.
    pub stage: Stage,
    /// The event's number; for userspace, the record's number after the last event.
    pub event: u32,
    /// The PCR that it extends.
    pub pcr: u8,
    /// Its digest in the SHA-256 bank: what a policy compares.
    pub digest: [u8; 32],
    /// What it says in words.
    pub text: Option<EventText>,
    /// Whether the digest covers these words.
    pub text_measured: bool,
}

/// All measurements of a boot in the SHA-256 bank, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootStages {
    measurements: Vec<Measurement>,
}

impl BootStages {
    /// Every measurement, in the order in which the TPM took them.
    pub fn measurements(&self) -> &[Measurement] {
        &self.measurements
    }
    /// Those of one stage, in order.
    pub fn of(&self, stage: Stage) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |measurement| measurement.stage == stage)
    }
    /// The same with the measurements that the running system made since.
    #[must_use]
    pub fn then(mut self, userspace: &MeasureLog) -> Self {
        let after = self.measurements.last().map_or(0, |last| last.event.saturating_add(1));
        for record in userspace.records() {
            let Some(digest) = record.digest(Bank::Sha256) else { continue };
            let Ok(digest) = <[u8; 32]>::try_from(digest.as_bytes()) else { continue };
            self.measurements.push(Measurement {
                stage: Stage::of_pcr(record.pcr()),
                event: after.saturating_add(record.number()),
                pcr: record.pcr(),
                digest,
                text: record.text().cloned(),
                text_measured: record.text_measured(),
            });
        }
        self
    }
}

/// The stages of a log; empty when it has no SHA-256 bank. An event without a SHA-256 digest is no measurement there,
/// and `digest-missing` tells of it.
pub fn boot_stages(log: &EventLog<'_>) -> BootStages {
    let markers = Markers::new();
    let measurement = |event: &Event<'_>| {
        let pcr = event.extends()?;
        let digest = <[u8; 32]>::try_from(event.digest(Bank::Sha256)?).ok()?;
        let words = event_words(event, Bank::Sha256);
        let text = words.as_ref().map(|words| words.text.as_str()).unwrap_or_default();
        let stage = if markers.is_marker(pcr, &digest) { Stage::Marker } else { stage(event, pcr, text) };
        let text_measured = words.as_ref().is_some_and(|words| words.measured);
        Some(Measurement {
            stage,
            event: event.number(),
            pcr,
            digest,
            text: words.map(|words| words.text),
            text_measured,
        })
    };
    BootStages { measurements: log.events().iter().filter_map(measurement).collect() }
}

fn stage(event: &Event<'_>, pcr: u8, text: &str) -> Stage {
    let tag = || (event.event_type() == EventType::EVENT_TAG).then(|| tagged(event.data())).flatten();
    match pcr {
        // systemd-boot before version 251 measured the command line into PCR 8, without any prefix.
        8 if is_grub_command_line(event.data()) || !is_grub(event.data()) => Stage::CommandLine,
        9 => match tag() {
            Some((TAG_LINUX_INITRD, _)) => Stage::Initrd,
            Some((TAG_LINUX_LOAD_OPTIONS, _)) => Stage::CommandLine,
            _ => file_stage(text),
        },
        _ => Stage::of_pcr(pcr),
    }
}

/// What a file measured by GRUB is, by its name.
fn file_stage(path: &str) -> Stage {
    let name = path.rsplit(['/', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    if name.starts_with("initr") {
        Stage::Initrd
    } else if ["vmlinu", "bzimage", "linux", "kernel"].iter().any(|start| name.starts_with(start)) {
        Stage::Kernel
    } else {
        Stage::Loader
    }
}

/// SHA-256 digests of what is measured between stages.
struct Markers {
    separators: Vec<[u8; 32]>,
    applications: Vec<[u8; 32]>,
    exits: Vec<[u8; 32]>,
}

impl Markers {
    fn new() -> Self {
        let all = |texts: &[&[u8]]| texts.iter().map(|text| super::efi::sha256(text)).collect();
        Self {
            separators: all(&[&SEPARATORS[0], &SEPARATORS[1]]),
            applications: all(&[CALLING_APPLICATION, RETURNING_FROM_APPLICATION]),
            exits: all(&[EXIT_BOOT_SERVICES_INVOCATION, EXIT_BOOT_SERVICES_SUCCESS]),
        }
    }
    fn is_marker(&self, pcr: u8, digest: &[u8; 32]) -> bool {
        let extra = match pcr {
            4 => self.applications.contains(digest),
            // Some firmware calls the boot option in PCR 5.
            5 => self.exits.contains(digest) || self.applications.contains(digest),
            _ => false,
        };
        extra || (pcr < 8 && self.separators.contains(digest))
    }
}
