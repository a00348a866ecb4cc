//! Why bytes are not the TPM structure that they should be.

/// A structure that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TpmError {
    /// More bytes than the structure may have: nothing was read.
    #[error("{structure}: {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Which structure.
        structure: &'static str,
        /// How many bytes came.
        bytes: usize,
        /// How many may come.
        bytes_max: usize,
    },
    /// A field is missing, too long, or has a value that the structure cannot have.
    #[error("{structure}: at byte {offset}: {what}")]
    Form {
        /// Which structure.
        structure: &'static str,
        /// Where, in bytes from its start.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// An algorithm, curve or size that is not accepted here.
    #[error("{structure}: {field} 0x{value:04x} is not accepted")]
    Unsupported {
        /// Which structure.
        structure: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value (a TCG algorithm id, curve id, or size in bits).
        value: u32,
    },
}
