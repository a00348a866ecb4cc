//! UEFI structures within event data: variables, signature lists, loaded images, device paths. All hostile, all bounded
//! by the bytes that carry them (UEFI 2.10, 3.3, 10 and 32.4.1; PC Client profile 1.06, 10.2).

use ring::digest;

use super::reader::Reader;

/// What firmware measures when the boot loader hands over (PC Client profile 1.06, 8.2.4).
pub(super) const EXIT_BOOT_SERVICES_INVOCATION: &[u8] = b"Exit Boot Services Invocation";
/// And when that succeeded.
pub(super) const EXIT_BOOT_SERVICES_SUCCESS: &[u8] = b"Exit Boot Services Returned with Success";
/// What firmware measures before it starts a boot option.
pub(super) const CALLING_APPLICATION: &[u8] = b"Calling EFI Application from Boot Option";
/// And when the option came back.
pub(super) const RETURNING_FROM_APPLICATION: &[u8] = b"Returning from EFI Application from Boot Option";

/// A GUID in the byte order of UEFI.
pub(super) type Guid = [u8; 16];
/// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c: SecureBoot, PK, KEK.
pub(super) const GLOBAL_VARIABLE: Guid =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, d719b2cb-3d3a-4596-a3bc-dad00e67656f: db, dbx.
pub(super) const IMAGE_SECURITY_DATABASE: Guid =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const CERT_X509: Guid =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// `EFI_CERT_SHA256_GUID`, c1c41626-504c-4092-aca9-41f936934328.
const CERT_SHA256: Guid =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];

/// Longest variable name, in UTF-16 units.
const NAME_UNITS_MAX: u64 = 256;
/// Most nodes of a device path.
const NODES_MAX: usize = 64;

/// `UEFI_VARIABLE_DATA`: vendor GUID, name, data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    pub(super) vendor: Guid,
    pub(super) name: String,
    pub(super) data: &'a [u8],
    /// Bytes of the event that belong to no field.
    pub(super) trailing: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads the event data of a variable; `None` when a length in it cannot be.
    pub(super) fn read(event_data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(event_data);
        let vendor = reader.array()?;
        let name_units = reader.u64()?;
        let data_bytes = reader.u64()?;
        if name_units == 0 || name_units > NAME_UNITS_MAX {
            return None;
        }
        let name = reader.take_claimed(name_units.checked_mul(2)?)?;
        let name = strict_utf16(name)?;
        let data = reader.take_claimed(data_bytes)?;
        Some(Self { vendor, name, data, trailing: reader.rest() })
    }
}

fn utf16_units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

fn strict_utf16(bytes: &[u8]) -> Option<String> {
    char::decode_utf16(utf16_units(bytes)).collect::<Result<String, _>>().ok()
}

/// Text as far as its first NUL; what is no UTF-16 is replaced.
pub(super) fn lossy_utf16(bytes: &[u8]) -> String {
    let units = utf16_units(bytes).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// What a signature database (PK, KEK, db, dbx) holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignatureDatabase {
    /// SHA-256 of the variable's data.
    pub sha256: [u8; 32],
    /// SHA-256 of each X.509 certificate, in order.
    pub certificates: Vec<[u8; 32]>,
    /// SHA-256 image hashes, in order.
    pub hashes: Vec<[u8; 32]>,
    /// Entries of other kinds.
    pub others: usize,
}

impl SignatureDatabase {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.hashes.is_empty() && self.others == 0
    }
    /// Reads `EFI_SIGNATURE_LIST`s to the last byte.
    ///
    /// # Errors
    /// What cannot be. A header is refused whatever its type: no type that is in use has one, and skipping it moves
    /// where the entries start (go-attestation, GHSA-9r4w-jg96-92mv).
    pub(super) fn read(data: &[u8]) -> Result<Self, &'static str> {
        let mut database = Self { sha256: sha256(data), ..Self::default() };
        let mut reader = Reader::new(data);
        while !reader.is_empty() {
            let cut = "a signature list is cut off";
            let kind: Guid = reader.array().ok_or(cut)?;
            let list_bytes = reader.u32().ok_or(cut)?;
            let header_bytes = reader.u32().ok_or(cut)?;
            let signature_bytes = reader.u32().ok_or(cut)?;
            if header_bytes != 0 {
                return Err("a signature list has a header");
            }
            let body_bytes = list_bytes.checked_sub(28).ok_or("a signature list is smaller than its head")?;
            let body =
                reader.take_claimed(u64::from(body_bytes)).ok_or("a signature list is larger than its variable")?;
            let size = usize::try_from(signature_bytes).map_err(|_| cut)?;
            if size <= 16 || !body.len().is_multiple_of(size) {
                return Err("a signature list's size is no multiple of its entries'");
            }
            for entry in body.chunks_exact(size) {
                database.add(&kind, entry.get(16..).unwrap_or_default())?;
            }
        }
        Ok(database)
    }
    /// One entry, after the 16 bytes of its owner.
    fn add(&mut self, kind: &Guid, entry: &[u8]) -> Result<(), &'static str> {
        if *kind == CERT_X509 {
            self.certificates.push(sha256(entry));
        } else if *kind == CERT_SHA256 {
            self.hashes.push(<[u8; 32]>::try_from(entry).map_err(|_| "a SHA-256 entry is not 32 bytes long")?);
        } else {
            self.others += 1;
        }
        Ok(())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, byte) in out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
        *to = *byte;
    }
    out
}

/// The DER certificate in an authority event's data: alone, as old shims measure it, or after the 16 bytes of its
/// owner (`EFI_SIGNATURE_DATA`), as firmware does. `None` when it is something else.
pub(super) fn authority_certificate(data: &[u8]) -> Option<&[u8]> {
    let is_der = |bytes: &[u8]| {
        let Some([0x30, 0x82, high, low]) = bytes.get(..4) else { return false };
        bytes.len() == 4 + usize::from(u16::from_be_bytes([*high, *low]))
    };
    let owned = data.get(16..).unwrap_or_default();
    [data, owned].into_iter().find(|bytes| is_der(bytes))
}

/// The file that an `EFI_IMAGE_LOAD_EVENT` claims was loaded. Nothing measures it: it helps a reader, no more.
pub(super) fn loaded_file(event_data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(event_data);
    // Location and length in memory, link time address.
    reader.take(24)?;
    let path_bytes = reader.u64()?;
    let text = device_path_file(reader.take_claimed(path_bytes)?);
    (!text.is_empty()).then_some(text)
}

/// The file path nodes (type 4, subtype 4) of a device path, put together.
pub(super) fn device_path_file(path: &[u8]) -> String {
    let mut reader = Reader::new(path);
    let mut text = String::new();
    for _ in 0..NODES_MAX {
        let (Some(kind), Some(subtype), Some(length)) = (reader.u8(), reader.u8(), reader.u16()) else { break };
        // The length counts the node's own head of four bytes.
        let Some(body) = usize::from(length).checked_sub(4).and_then(|body| reader.take(body)) else { break };
        match (kind, subtype) {
            (0x7F, 0xFF) => break,
            (4, 4) => text.push_str(&lossy_utf16(body)),
            _ => {}
        }
    }
    text
}
