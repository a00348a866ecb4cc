//! The binary list (`ima_measurements_show` in Linux): all integers little-endian.

use std::borrow::Cow;

use super::entry::{Entry, LEGACY_DIGEST_BYTES, LEGACY_NAME_BYTES, ListedHash, Template};
use super::limits::{BUFFER_ENTRY_BYTES_MAX, ENTRY_BYTES_MAX, TEMPLATE_NAME_BYTES_MAX};

/// Highest PCR number of a TPM (PC Client profile).
const PCR_MAX: u32 = 23;

/// What comes first of what is left; `None` when it goes on after the end of `bytes`.
struct Head<'l>(&'l [u8]);

impl<'l> Head<'l> {
    fn take(&mut self, length: usize) -> Option<&'l [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*taken))
    }
}

/// A length that is not above `max`, before anything of that length is waited for.
fn bounded(length: u32, max: usize, what: &'static str) -> Result<usize, &'static str> {
    usize::try_from(length).ok().filter(|length| *length <= max).ok_or(what)
}

/// Reads one entry whose template hash has `hash_bytes`: the entry and its length in bytes, or `None` when it is not
/// whole. An error is a text that says what is wrong.
pub(super) fn next(bytes: &[u8], hash_bytes: usize) -> Result<Option<(Entry<'_>, usize)>, &'static str> {
    let mut head = Head(bytes);
    let Some(pcr) = head.u32() else { return Ok(None) };
    if pcr > PCR_MAX {
        return Err("there is no such PCR");
    }
    let Some(hash) = head.take(hash_bytes) else { return Ok(None) };
    let Some(length) = head.u32() else { return Ok(None) };
    let length = bounded(length, TEMPLATE_NAME_BYTES_MAX, "the template name is too long")?;
    let Some(name) = head.take(length) else { return Ok(None) };
    let template = Template::of(name);
    let data = match template {
        Template::Ima => legacy(&mut head)?.map(Cow::Owned),
        _ => data(&mut head, template)?.map(Cow::Borrowed),
    };
    let Some(data) = data else { return Ok(None) };
    let listed_hash = ListedHash::new(hash).ok_or("the template hash has another length")?;
    Ok(Some((Entry { pcr, listed_hash, template, data }, bytes.len() - head.0.len())))
}

fn data<'l>(head: &mut Head<'l>, template: Template) -> Result<Option<&'l [u8]>, &'static str> {
    let max = if template == Template::ImaBuf { BUFFER_ENTRY_BYTES_MAX } else { ENTRY_BYTES_MAX };
    let Some(length) = head.u32() else { return Ok(None) };
    let length = bounded(length, max, "the template data are too long")?;
    Ok(head.take(length))
}

/// The legacy template has no length of its data, and its name is padded with NULs before it is hashed.
fn legacy(head: &mut Head<'_>) -> Result<Option<Vec<u8>>, &'static str> {
    let Some(digest) = head.take(LEGACY_DIGEST_BYTES) else { return Ok(None) };
    let Some(length) = head.u32() else { return Ok(None) };
    let length = bounded(length, LEGACY_NAME_BYTES - 1, "the file name is too long for the template ima")?;
    let Some(name) = head.take(length) else { return Ok(None) };
    if name.contains(&0) {
        return Err("the file name has a NUL");
    }
    let mut data = Vec::with_capacity(LEGACY_DIGEST_BYTES + LEGACY_NAME_BYTES);
    data.extend_from_slice(digest);
    data.extend_from_slice(name);
    data.resize(LEGACY_DIGEST_BYTES + LEGACY_NAME_BYTES, 0);
    Ok(Some(data))
}

/// Whether a printable template name stands where a template hash of `hash_bytes` puts it.
pub(super) fn has_template_name(bytes: &[u8], hash_bytes: usize) -> bool {
    let mut head = Head(bytes);
    let name = head.take(4 + hash_bytes).and_then(|_| head.u32()).and_then(|length| {
        let length = bounded(length, TEMPLATE_NAME_BYTES_MAX, "").ok()?;
        head.take(length)
    });
    name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
}
