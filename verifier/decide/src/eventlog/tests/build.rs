//! Makes logs: whole ones that pass every check, to be spoilt by one change.

use super::super::efi::{CALLING_APPLICATION, GLOBAL_VARIABLE, Guid, IMAGE_SECURITY_DATABASE};
use super::super::*;

fn u32_bytes(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// An event to be written, with the digest of `measured` in every bank.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) pcr: u32,
    pub(super) event_type: EventType,
    pub(super) measured: Vec<u8>,
    pub(super) data: Vec<u8>,
}

pub(super) fn event(pcr: u32, event_type: EventType, data: &[u8]) -> Draft {
    Draft { pcr, event_type, measured: data.to_vec(), data: data.to_vec() }
}
pub(super) fn separator(pcr: u32) -> Draft {
    event(pcr, EventType::SEPARATOR, &[0; 4])
}
pub(super) fn variable_data(vendor: &Guid, name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = vendor.to_vec();
    let units: Vec<u16> = name.encode_utf16().collect();
    out.extend((units.len() as u64).to_le_bytes());
    out.extend((data.len() as u64).to_le_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    out.extend(data);
    out
}
pub(super) fn variable(name: &str, data: &[u8]) -> Draft {
    let vendor = if name.starts_with("db") { IMAGE_SECURITY_DATABASE } else { GLOBAL_VARIABLE };
    event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable_data(&vendor, name, data))
}
pub(super) fn authority(name: &str, data: &[u8]) -> Draft {
    event(7, EventType::EFI_VARIABLE_AUTHORITY, &variable_data(&IMAGE_SECURITY_DATABASE, name, data))
}
/// `EFI_SIGNATURE_LIST` of SHA-256 hashes, each with an owner of zeros.
pub(super) fn hash_list(header: &[u8], hashes: &[[u8; 32]]) -> Vec<u8> {
    let mut out = vec![0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
    let body = 28 + header.len() + 48 * hashes.len();
    for field in [body, header.len(), 48] {
        out.extend(u32_bytes(field));
    }
    out.extend(header);
    for hash in hashes {
        out.extend([0; 16]);
        out.extend(hash);
    }
    out
}

/// A boot with Secure Boot on, without a blemish. Event 0 of the log is the header.
pub(super) fn clean() -> Vec<Draft> {
    let keys = hash_list(&[], &[[7; 32]]);
    let mut drafts = vec![
        event(0, EventType::S_CRTM_VERSION, b"v1\0"),
        variable("SecureBoot", &[1]),
        variable("PK", &keys),
        variable("KEK", &keys),
        variable("db", &keys),
        variable("dbx", &[]),
        separator(7),
        event(4, EventType::EFI_ACTION, CALLING_APPLICATION),
    ];
    drafts.extend((0..7).map(separator));
    drafts.extend([
        authority("db", &[9; 48]),
        Draft { measured: b"the loader".to_vec(), ..event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32]) },
        Draft { measured: b"root=/dev/sda".to_vec(), ..event(8, EventType::IPL, b"kernel_cmdline: root=/dev/sda\0") },
        Draft { measured: b"a kernel".to_vec(), ..event(9, EventType::IPL, b"/boot/vmlinuz\0") },
        event(5, EventType::EFI_ACTION, b"Exit Boot Services Invocation"),
        event(5, EventType::EFI_ACTION, b"Exit Boot Services Returned with Success"),
    ]);
    drafts
}

const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

pub(super) fn header(banks: &[(u16, u16)], vendor: &[u8]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(u32_bytes(banks.len()));
    data.extend(banks.iter().flat_map(|(id, size)| [id.to_le_bytes(), size.to_le_bytes()].concat()));
    data.push(u8::try_from(vendor.len()).unwrap());
    data.extend(vendor);
    let mut out = vec![0, 0, 0, 0, 3, 0, 0, 0];
    out.extend([0; 20]);
    out.extend(u32_bytes(data.len()));
    out.extend(data);
    out
}
pub(super) fn agile_event(draft: &Draft, digests: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = [draft.pcr, draft.event_type.0].map(u32::to_le_bytes).concat();
    out.extend(u32_bytes(digests.len()));
    for (id, digest) in digests {
        out.extend(id.to_le_bytes());
        out.extend(digest);
    }
    out.extend(u32_bytes(draft.data.len()));
    out.extend(&draft.data);
    out
}
/// A crypto-agile log with SHA-256 and SHA-384.
pub(super) fn write(drafts: &[Draft]) -> Vec<u8> {
    let mut out = header(&[(0x0B, 32), (0x0C, 48)], &[]);
    for draft in drafts {
        let digests: Vec<(u16, Vec<u8>)> = BANKS
            .iter()
            .zip([0x0B, 0x0C])
            .map(|(bank, id)| (id, bank.digest(&[&draft.measured]).as_bytes().to_vec()))
            .collect();
        out.extend(agile_event(draft, &digests));
    }
    out
}
