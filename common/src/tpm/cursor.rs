//! A bounded reader of big-endian fields: it never reads past the end and always knows where it is.

use super::TpmError;

/// Reads one structure from its first byte to its last.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`, of which there may be `bytes_max`.
    ///
    /// # Errors
    /// [`TpmError::TooLarge`] when there are more.
    pub fn new(structure: &'static str, bytes: &'a [u8], bytes_max: usize) -> Result<Self, TpmError> {
        if bytes.len() > bytes_max {
            return Err(TpmError::TooLarge { structure, bytes: bytes.len(), bytes_max });
        }
        Ok(Self { structure, bytes, at: 0 })
    }
    /// A fault at the current place.
    pub fn fault(&self, what: &'static str) -> TpmError {
        TpmError::Form { structure: self.structure, offset: self.at, what }
    }
    /// A value that is not accepted.
    pub fn unsupported(&self, field: &'static str, value: impl Into<u32>) -> TpmError {
        TpmError::Unsupported { structure: self.structure, field, value: value.into() }
    }
    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`TpmError::Form`] naming `what` when fewer are left.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], TpmError> {
        let end = self.at.checked_add(length).ok_or_else(|| self.fault(what))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.fault(what))?;
        self.at = end;
        Ok(taken)
    }
    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TpmError> {
        let taken = self.take(N, what)?;
        <[u8; N]>::try_from(taken).map_err(|_| self.fault(what))
    }
    /// One byte.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, TpmError> {
        Ok(self.array::<1>(what)?[0])
    }
    /// Two bytes.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, TpmError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }
    /// Four bytes.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, TpmError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, TpmError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }
    /// A `TPM2B`: two bytes of length, then at most `length_max` bytes.
    ///
    /// # Errors
    /// [`TpmError::Form`] naming `what` when it is longer, or longer than what is left.
    pub fn sized(&mut self, length_max: usize, what: &'static str) -> Result<&'a [u8], TpmError> {
        let at = self.at;
        let length = usize::from(self.u16(what)?);
        if length > length_max {
            return Err(TpmError::Form { structure: self.structure, offset: at, what });
        }
        self.take(length, what)
    }
    /// Ends the reading.
    ///
    /// # Errors
    /// [`TpmError::Form`] when bytes are left.
    pub fn end(self) -> Result<(), TpmError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault("bytes after the end of the structure")) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_place_and_nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new("T", &[0, 3, 1, 2], 4).unwrap();
        assert_eq!(
            cursor.sized(8, "a digest").unwrap_err(),
            TpmError::Form { structure: "T", offset: 2, what: "a digest" }
        );
        let mut cursor = Cursor::new("T", &[0, 3, 1, 2, 3, 9], 6).unwrap();
        assert!(cursor.clone().sized(2, "a digest").is_err());
        assert_eq!(cursor.sized(3, "a digest").unwrap(), [1, 2, 3]);
        assert!(cursor.clone().end().is_err());
        assert_eq!(cursor.u8("a flag").unwrap(), 9);
        cursor.end().unwrap();
        assert!(matches!(Cursor::new("T", &[0; 5], 4), Err(TpmError::TooLarge { bytes: 5, bytes_max: 4, .. })));
    }
}
