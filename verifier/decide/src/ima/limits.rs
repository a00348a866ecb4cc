//! The bounds of a measurement list, in one place. What is larger is refused before it is read.

/// Largest template data of an entry, in bytes, `ima-buf` excepted.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;
/// Largest template data of an `ima-buf` entry, in bytes: it carries a whole key, policy or command line.
pub const BUFFER_ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Longest path, in bytes: the kernel's `PATH_MAX` less its final NUL, rounded up.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest template name, in bytes (the kernel's `TCG_EVENT_NAME_LEN_MAX`).
pub const TEMPLATE_NAME_BYTES_MAX: usize = 255;
/// Longest line of the ASCII list, in bytes: every byte of the data takes two characters at most.
pub const LINE_BYTES_MAX: usize = 2 * BUFFER_ENTRY_BYTES_MAX + 1024;
/// Largest increment that is folded at once, in bytes.
pub const INCREMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest list that is inspected at once, in bytes.
pub const LIST_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most findings that are told one by one; further ones are counted.
pub const FINDINGS_MAX: usize = 256;
/// Most paths of which a zone may demand that they were measured: they share one 32-bit word of a host's state.
pub const REQUIRED_PATHS_MAX: usize = 32;
/// Most path prefixes that a zone may exclude.
pub const EXCLUDES_MAX: usize = 64;
/// Most signer keys of a zone.
pub const SIGNER_KEYS_MAX: usize = 64;
/// Most (path, digest) pairs of an allow-list.
pub const ALLOWED_MAX: usize = 16_000_000;
