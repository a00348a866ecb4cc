//! The ASCII list (`ima_ascii_measurements_show` in Linux): `pcr template-hash template-name field field…`.
//!
//! The kernel writes a space before each field and nothing for an empty one, so an unsigned `ima-sig` line ends in a
//! space. A path may have spaces: it takes all that the fields before and after it leave.

use std::borrow::Cow;

use data_encoding::HEXLOWER_PERMISSIVE;

use super::entry::{Entry, LEGACY_DIGEST_BYTES, LEGACY_NAME_BYTES, ListedHash, Template};
use super::limits::{BUFFER_ENTRY_BYTES_MAX, ENTRY_BYTES_MAX, LINE_BYTES_MAX, PATH_BYTES_MAX};

/// Reads one line: its entry and its length in bytes, or `None` when its end has not come.
pub(super) fn next(bytes: &[u8]) -> Result<Option<(Entry<'_>, usize)>, &'static str> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err("the line is too long") };
    };
    let (line, _) = bytes.split_at(end);
    Ok(Some((entry(line)?, end + 1)))
}

/// What stands before the first space, and what after it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// What stands before the last space, and what after it.
fn last_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().rposition(|byte| *byte == b' ')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn hex(text: &[u8], what: &'static str) -> Result<Vec<u8>, &'static str> {
    HEXLOWER_PERMISSIVE.decode(text).map_err(|_| what)
}

fn entry(line: &[u8]) -> Result<Entry<'static>, &'static str> {
    // The kernel pads the PCR number to two places.
    let line = line.strip_prefix(b" ").unwrap_or(line);
    let (pcr, rest) = word(line).ok_or("the line has no PCR number")?;
    let pcr = match pcr {
        [ones @ b'0'..=b'9'] => u32::from(ones - b'0'),
        [tens @ b'0'..=b'2', ones @ b'0'..=b'9'] => u32::from(tens - b'0') * 10 + u32::from(ones - b'0'),
        _ => return Err("the line does not start with a PCR number"),
    };
    if pcr > 23 {
        return Err("there is no such PCR");
    }
    let (hash, rest) = word(rest).ok_or("the line has no template hash")?;
    if hash.len() > 64 {
        return Err("the template hash has another length");
    }
    let hash = hex(hash, "the template hash is not hexadecimal")?;
    let listed_hash = ListedHash::new(&hash).ok_or("the template hash has another length")?;
    let (name, rest) = word(rest).ok_or("the line has no template data")?;
    let template = Template::of(name);
    let (digest, rest) = word(rest).ok_or("the line has no path")?;
    let mut data = Vec::with_capacity(128);
    match template {
        Template::Other => return Err("the template is not known, and its data cannot be rebuilt from text"),
        Template::Ima => legacy(&mut data, digest, rest)?,
        _ => {
            digest_field(&mut data, digest)?;
            trailing_fields(&mut data, template, rest)?;
        }
    }
    let max = if template == Template::ImaBuf { BUFFER_ENTRY_BYTES_MAX } else { ENTRY_BYTES_MAX };
    if data.len() > max {
        return Err("the template data are too long");
    }
    Ok(Entry { pcr, listed_hash, template, data: Cow::Owned(data) })
}

/// The path and, by template, what follows it.
fn trailing_fields(data: &mut Vec<u8>, template: Template, rest: &[u8]) -> Result<(), &'static str> {
    match template {
        Template::ImaSig | Template::ImaSigV2 => {
            // Tools that trim lines lose the space that stands for "no signature".
            let (path, signature) = last_word(rest).unwrap_or((rest, b""));
            path_field(data, path)?;
            field(data, &[&hex(signature, "the signature is not hexadecimal")?])
        }
        Template::ImaBuf => {
            let (path, buffer) = last_word(rest).ok_or("the line has no buffer")?;
            path_field(data, path)?;
            field(data, &[&hex(buffer, "the buffer is not hexadecimal")?])
        }
        Template::ImaModsig => {
            let (rest, appended) = last_word(rest).ok_or("the line has no appended signature")?;
            let (rest, digest) = last_word(rest).ok_or("the line has no digest under the appended signature")?;
            let (path, signature) = last_word(rest).ok_or("the line has no signature")?;
            path_field(data, path)?;
            field(data, &[&hex(signature, "the signature is not hexadecimal")?])?;
            if digest.is_empty() {
                field(data, &[])?;
            } else {
                digest_field(data, digest)?;
            }
            field(data, &[&hex(appended, "the appended signature is not hexadecimal")?])
        }
        _ => path_field(data, rest),
    }
}

/// One field as the kernel lays it out: a little-endian length and the parts.
fn field(data: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), &'static str> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| "a field is too long")?;
    data.extend_from_slice(&length.to_le_bytes());
    for part in parts {
        data.extend_from_slice(part);
    }
    Ok(())
}

fn path_field(data: &mut Vec<u8>, path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains(&0) {
        return Err("the path is empty, too long or has a NUL");
    }
    field(data, &[path, &[0]])
}

/// `algorithm:hex`, or `kind:algorithm:hex`: hashed with a NUL before the digest.
fn digest_field(data: &mut Vec<u8>, text: &[u8]) -> Result<(), &'static str> {
    let colon = text.iter().rposition(|byte| *byte == b':').ok_or("the file digest names no algorithm")?;
    let (algorithm, digest) = text.split_at_checked(colon + 1).ok_or("the file digest names no algorithm")?;
    field(data, &[algorithm, &[0], &hex(digest, "the file digest is not hexadecimal")?])
}

fn legacy(data: &mut Vec<u8>, digest: &[u8], path: &[u8]) -> Result<(), &'static str> {
    let digest = hex(digest, "the file digest is not hexadecimal")?;
    if digest.len() != LEGACY_DIGEST_BYTES || path.is_empty() || path.len() >= LEGACY_NAME_BYTES || path.contains(&0) {
        return Err("the digest or the path does not fit the template ima");
    }
    data.extend_from_slice(&digest);
    data.extend_from_slice(path);
    data.resize(LEGACY_DIGEST_BYTES + LEGACY_NAME_BYTES, 0);
    Ok(())
}
