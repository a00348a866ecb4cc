//! PEM blocks (RFC 7468) with the text before each: bundles name the owner of a certificate there.

/// Largest PEM text that is read, in bytes: a bundle of all manufacturers is under 400 KiB.
pub(crate) const PEM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most blocks in one text.
const BLOCKS_MAX: usize = 2048;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PemBlock<'t> {
    /// What the text calls it: `CERTIFICATE`, `PUBLIC KEY`.
    pub(crate) label: &'t str,
    /// The text since the block before.
    pub(crate) preamble: &'t str,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

/// Whether the bytes are PEM text at all, and not DER.
pub(crate) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// All blocks of a text, in order.
///
/// # Errors
/// What is wrong: too large, not text, a block without its end, or no base64 in it.
pub(crate) fn blocks(bytes: &[u8]) -> Result<Vec<PemBlock<'_>>, &'static str> {
    if bytes.len() > PEM_BYTES_MAX {
        return Err("the PEM text is larger than is allowed");
    }
    let mut rest = std::str::from_utf8(bytes).map_err(|_| "the PEM text is not UTF-8")?;
    let mut blocks = Vec::new();
    while let Some((preamble, from_label)) = rest.split_once("-----BEGIN ") {
        if blocks.len() == BLOCKS_MAX {
            return Err("the PEM text has more blocks than are allowed");
        }
        let (label, from_body) = from_label.split_once("-----").ok_or("a PEM block's first line does not end")?;
        let (body, after) = from_body.split_once("-----END ").ok_or("a PEM block has no end")?;
        rest = after
            .strip_prefix(label)
            .and_then(|after| after.strip_prefix("-----"))
            .ok_or("a PEM block's end is another's")?;
        let digits: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let content = data_encoding::BASE64.decode(&digits).map_err(|_| "a PEM block is not base64")?;
        blocks.push(PemBlock { label, preamble, content });
    }
    Ok(blocks)
}
