//! What an event says in words, and whether its digest covers those words.

use quotary_common::cbor::Text;

use super::bank::Bank;
use super::efi::{Variable, loaded_file, lossy_utf16};
use super::event::{Event, EventType};

/// Longest text kept of an event, in bytes.
pub const EVENT_TEXT_BYTES_MAX: usize = 512;

/// Text of an event, safe to print.
pub type EventText = Text<EVENT_TEXT_BYTES_MAX>;

/// Tag of the initial ramdisk that the kernel's EFI stub measures (Linux, `efistub.h`).
pub(super) const TAG_LINUX_INITRD: u32 = 0x8F3B_22EC;
/// Tag of the load options, the command line, that it measures.
pub(super) const TAG_LINUX_LOAD_OPTIONS: u32 = 0x8F3B_22ED;

/// What GRUB writes before the words that it measures; newer versions with a colon.
const GRUB_PREFIXES: [&[u8]; 6] = [
    b"grub_cmd: ",
    b"grub_cmd ",
    b"kernel_cmdline: ",
    b"grub_kernel_cmdline ",
    b"module_cmdline: ",
    b"grub_module_cmdline ",
];

/// An event's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventWords {
    /// The words, cut and made printable; empty when there are none.
    pub text: EventText,
    /// Whether the digest covers them: otherwise they are a claim that anyone may have written.
    pub measured: bool,
}

impl EventWords {
    fn new(text: &str, measured: bool) -> Option<Self> {
        let text = printable(text);
        (!text.as_str().is_empty()).then_some(Self { text, measured })
    }
}

/// Without control characters, and without those that turn or hide text on a terminal.
pub(super) fn printable(text: &str) -> EventText {
    let hides =
        |c: char| matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    let cut: String = text.chars().take(EVENT_TEXT_BYTES_MAX).map(|c| if hides(c) { '?' } else { c }).collect();
    EventText::lossy(&cut)
}

/// The words of an event; `bank` is the one whose digest must cover them to count as measured, never SHA-1.
pub fn event_words(event: &Event<'_>, bank: Bank) -> Option<EventWords> {
    let words = claimed_words(event, bank)?;
    Some(EventWords { measured: words.measured && bank.strong().is_some(), ..words })
}

fn claimed_words(event: &Event<'_>, bank: Bank) -> Option<EventWords> {
    let data = event.data();
    match event.event_type() {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2 => EventWords::new(&Variable::read(data)?.name, event.measures(bank, data)),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => EventWords::new(&loaded_file(data)?, false),
        EventType::S_CRTM_VERSION => EventWords::new(&either_text(data), event.measures(bank, data)),
        EventType::EFI_ACTION | EventType::ACTION | EventType::NONHOST_INFO | EventType::POST_CODE => {
            let text = without_nul(data);
            let readable = text.iter().all(|byte| (0x20..0x7F).contains(byte));
            if readable { EventWords::new(&String::from_utf8_lossy(text), event.measures(bank, data)) } else { None }
        }
        EventType::EVENT_TAG => {
            let (_, text) = tagged(data)?;
            EventWords::new(&either_text(text), false)
        }
        EventType::IPL => EventWords::new(&either_text(data), ipl_text_is_measured(event, bank)),
        _ => None,
    }
}

/// Tag and content of `EV_EVENT_TAG` (`TCG_PCClientTaggedEvent`).
pub(super) fn tagged(data: &[u8]) -> Option<(u32, &[u8])> {
    let mut reader = super::reader::Reader::new(data);
    let tag = reader.u32()?;
    let length = reader.u32()?;
    Some((tag, reader.take_claimed(u64::from(length))?))
}

/// UTF-16 when every second byte of the start is zero, as with Latin text; else UTF-8.
fn either_text(data: &[u8]) -> String {
    let wide = data.len() >= 2 && data.chunks_exact(2).take(8).all(|pair| pair[1] == 0);
    if wide { lossy_utf16(data) } else { String::from_utf8_lossy(without_nul(data)).into_owned() }
}

/// Without the NULs at the end.
pub(super) fn without_nul(data: &[u8]) -> &[u8] {
    let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    data.get(..end).unwrap_or_default()
}

/// Whether the digest is that of the text, in one of the forms that boot loaders measure: GRUB without its prefix and
/// the NUL, or with the NUL; systemd-boot the UTF-16 text with or without it.
pub(super) fn ipl_text_is_measured(event: &Event<'_>, bank: Bank) -> bool {
    let data = event.data();
    let bare = GRUB_PREFIXES.iter().find_map(|prefix| data.strip_prefix(*prefix)).unwrap_or(data);
    let wide = bare.strip_suffix(&[0, 0]).unwrap_or(bare);
    let trials = [bare, without_nul(bare), wide];
    let differs = |i: usize| !trials.get(..i).unwrap_or_default().contains(trials.get(i).unwrap_or(&bare));
    (0..trials.len()).filter(|i| differs(*i)).any(|i| event.measures(bank, trials.get(i).unwrap_or(&bare)))
}

/// Whether the text starts as GRUB starts a command line of a kernel.
pub(super) fn is_grub_command_line(data: &[u8]) -> bool {
    GRUB_PREFIXES.iter().skip(2).any(|prefix| data.starts_with(prefix))
}

/// Whether the text starts as GRUB starts any of its words.
pub(super) fn is_grub(data: &[u8]) -> bool {
    GRUB_PREFIXES.iter().any(|prefix| data.starts_with(prefix))
}
