//! One event of a log (`TCG_PCR_EVENT`, `TCG_PCR_EVENT2`; PC Client Platform Firmware Profile 1.06, section 10).

use super::bank::Bank;

/// An event's type: a claim. No PCR covers it, so no decision may rest on it alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

macro_rules! event_types {
    ($($name:ident $value:literal $text:literal;)*) => {
        impl EventType {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Self = Self($value);)*
            /// Its name in the specification; `None` for a value that has none.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

event_types! {
    PREBOOT_CERT 0x0000_0000 "EV_PREBOOT_CERT";
    POST_CODE 0x0000_0001 "EV_POST_CODE";
    UNUSED 0x0000_0002 "EV_UNUSED";
    NO_ACTION 0x0000_0003 "EV_NO_ACTION";
    SEPARATOR 0x0000_0004 "EV_SEPARATOR";
    ACTION 0x0000_0005 "EV_ACTION";
    EVENT_TAG 0x0000_0006 "EV_EVENT_TAG";
    S_CRTM_CONTENTS 0x0000_0007 "EV_S_CRTM_CONTENTS";
    S_CRTM_VERSION 0x0000_0008 "EV_S_CRTM_VERSION";
    CPU_MICROCODE 0x0000_0009 "EV_CPU_MICROCODE";
    PLATFORM_CONFIG_FLAGS 0x0000_000A "EV_PLATFORM_CONFIG_FLAGS";
    TABLE_OF_DEVICES 0x0000_000B "EV_TABLE_OF_DEVICES";
    COMPACT_HASH 0x0000_000C "EV_COMPACT_HASH";
    IPL 0x0000_000D "EV_IPL";
    IPL_PARTITION_DATA 0x0000_000E "EV_IPL_PARTITION_DATA";
    NONHOST_CODE 0x0000_000F "EV_NONHOST_CODE";
    NONHOST_CONFIG 0x0000_0010 "EV_NONHOST_CONFIG";
    NONHOST_INFO 0x0000_0011 "EV_NONHOST_INFO";
    OMIT_BOOT_DEVICE_EVENTS 0x0000_0012 "EV_OMIT_BOOT_DEVICE_EVENTS";
    POST_CODE2 0x0000_0013 "EV_POST_CODE2";
    EFI_VARIABLE_DRIVER_CONFIG 0x8000_0001 "EV_EFI_VARIABLE_DRIVER_CONFIG";
    EFI_VARIABLE_BOOT 0x8000_0002 "EV_EFI_VARIABLE_BOOT";
    EFI_BOOT_SERVICES_APPLICATION 0x8000_0003 "EV_EFI_BOOT_SERVICES_APPLICATION";
    EFI_BOOT_SERVICES_DRIVER 0x8000_0004 "EV_EFI_BOOT_SERVICES_DRIVER";
    EFI_RUNTIME_SERVICES_DRIVER 0x8000_0005 "EV_EFI_RUNTIME_SERVICES_DRIVER";
    EFI_GPT_EVENT 0x8000_0006 "EV_EFI_GPT_EVENT";
    EFI_ACTION 0x8000_0007 "EV_EFI_ACTION";
    EFI_PLATFORM_FIRMWARE_BLOB 0x8000_0008 "EV_EFI_PLATFORM_FIRMWARE_BLOB";
    EFI_HANDOFF_TABLES 0x8000_0009 "EV_EFI_HANDOFF_TABLES";
    EFI_PLATFORM_FIRMWARE_BLOB2 0x8000_000A "EV_EFI_PLATFORM_FIRMWARE_BLOB2";
    EFI_HANDOFF_TABLES2 0x8000_000B "EV_EFI_HANDOFF_TABLES2";
    EFI_VARIABLE_BOOT2 0x8000_000C "EV_EFI_VARIABLE_BOOT2";
    EFI_GPT_EVENT2 0x8000_000D "EV_EFI_GPT_EVENT2";
    EFI_HCRTM_EVENT 0x8000_0010 "EV_EFI_HCRTM_EVENT";
    EFI_VARIABLE_AUTHORITY 0x8000_00E0 "EV_EFI_VARIABLE_AUTHORITY";
    EFI_SPDM_FIRMWARE_BLOB 0x8000_00E1 "EV_EFI_SPDM_FIRMWARE_BLOB";
    EFI_SPDM_FIRMWARE_CONFIG 0x8000_00E2 "EV_EFI_SPDM_FIRMWARE_CONFIG";
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:08x}", self.0),
        }
    }
}
impl std::fmt::Debug for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// One event. What a matching PCR proves of it: `pcr` and the digest of that PCR's bank. The rest is a claim, but
/// for `data` that hashes to the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    pub(super) number: u32,
    pub(super) offset: usize,
    pub(super) pcr: u32,
    pub(super) event_type: EventType,
    pub(super) digests: [Option<&'a [u8]>; 4],
    pub(super) data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Its place in the log; the header is event 0.
    pub fn number(&self) -> u32 {
        self.number
    }
    /// Where it starts, in bytes from the log's start.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// The PCR as the log has it; 24 and more do not exist.
    pub fn pcr(&self) -> u32 {
        self.pcr
    }
    /// What it claims to be.
    pub fn event_type(&self) -> EventType {
        self.event_type
    }
    /// The event data.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
    /// The digest that was extended into a bank, of that bank's length.
    pub fn digest(&self, bank: Bank) -> Option<&'a [u8]> {
        self.digests.get(bank.place()).copied().flatten()
    }
    /// The digests of the banks that replay, ascending by algorithm id.
    pub fn digests(&self) -> impl Iterator<Item = (Bank, &'a [u8])> {
        let digests = self.digests;
        Bank::ALL.into_iter().zip(digests).filter_map(|(bank, digest)| Some((bank, digest?)))
    }
    /// The PCR that it extends: none for `EV_NO_ACTION`, which only informs, and for a PCR that does not exist.
    ///
    /// The type counts here, and safely so: an event hidden as `EV_NO_ACTION` is missing from the replay.
    pub fn extends(&self) -> Option<u8> {
        let pcr = u8::try_from(self.pcr).ok().filter(|pcr| *pcr < 24)?;
        (self.event_type != EventType::NO_ACTION).then_some(pcr)
    }
    /// Whether the digest of a bank is that of these bytes.
    pub(super) fn measures(&self, bank: Bank, bytes: &[u8]) -> bool {
        self.digest(bank).is_some_and(|digest| digest == bank.digest(&[bytes]).as_bytes())
    }
}
