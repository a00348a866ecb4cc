//! Deterministic CBOR (RFC 8949 §4.2.1): the one form that is hashed, signed or stored.
//!
//! Maps have unsigned-integer keys in ascending order, lengths are definite, there are no floats, no tags
//! and no null: what is absent has no key. The decoder re-encodes what it read and refuses bytes that
//! differ, so one value has one form, and an unknown key cannot hide. Key 0 is the form's version.

use minicbor::{Decode, Decoder, Encode, Encoder};

/// Bytes that are not the canonical form of what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CborError {
    /// More bytes than the form may have.
    #[error("{bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// How many came.
        bytes: usize,
        /// How many may come.
        bytes_max: usize,
    },
    /// Not CBOR, or not this form.
    #[error("not the expected CBOR form")]
    Decode(#[source] minicbor::decode::Error),
    /// Decodes, but is not the one canonical encoding, or has keys that this version does not know.
    #[error("not in canonical form: re-encoding gives other bytes")]
    NotCanonical,
}

/// The canonical bytes of a value.
pub fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match minicbor::encode(value, &mut out) {
        Ok(()) => out,
        // A `Vec` refuses no byte, and no form of ours reports an error of its own.
        Err(error) => unreachable!("encoding into memory failed: {error}"),
    }
}

/// How many canonical bytes a value has.
pub fn length<T: Encode<()>>(value: &T) -> usize {
    let mut length = Length(0);
    match minicbor::encode(value, &mut length) {
        Ok(()) => length.0,
        Err(error) => unreachable!("counting bytes failed: {error}"),
    }
}

/// Counts what is encoded, without building it.
struct Length(usize);

impl minicbor::encode::Write for Length {
    type Error = std::convert::Infallible;
    fn write_all(&mut self, encoded: &[u8]) -> Result<(), Self::Error> {
        self.0 += encoded.len();
        Ok(())
    }
}

/// Reads a value whose canonical form is exactly `bytes`, of which there may be `bytes_max`.
///
/// # Errors
/// [`CborError`] when there are too many, they are not this form, or not its canonical encoding.
pub fn from_bytes<T>(bytes: &[u8], bytes_max: usize) -> Result<T, CborError>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > bytes_max {
        return Err(CborError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    let value: T = minicbor::decode(bytes).map_err(CborError::Decode)?;
    let mut rest = Rest(bytes);
    match minicbor::encode(&value, &mut rest) {
        Ok(()) if rest.0.is_empty() => Ok(value),
        _ => Err(CborError::NotCanonical),
    }
}

/// Compares what is encoded with what is left of the bytes it came from, without building it.
struct Rest<'a>(&'a [u8]);

/// The first byte that differs.
#[derive(Debug)]
struct Differs;

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bytes differ")
    }
}

impl minicbor::encode::Write for Rest<'_> {
    type Error = Differs;
    // Most of what comes is a head of one to five bytes, of a length known where it is written.
    #[inline(always)]
    fn write_all(&mut self, encoded: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(encoded).ok_or(Differs)?;
        Ok(())
    }
}

/// A form's version, at key 0: decodes only as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version<const V: u8>;

impl<C, const V: u8> Encode<C> for Version<V> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u8(V)?;
        Ok(())
    }
}
impl<'b, C, const V: u8> Decode<'b, C> for Version<V> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.u8()? == V { Ok(Self) } else { Err(minicbor::decode::Error::message("unknown version of the form")) }
    }
}

/// A vector of at most `MAX` items: longer ones do not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}
impl<T, const MAX: usize> Bounded<T, MAX> {
    /// Keeps the first `MAX` items and says how many were left out.
    pub fn truncating(mut items: Vec<T>) -> (Self, usize) {
        let left_out = items.len().saturating_sub(MAX);
        items.truncate(MAX);
        (Self(items), left_out)
    }
    /// The items, if there are at most `MAX`.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.len() <= MAX).then_some(Self(items))
    }
    /// The items, owned.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}
impl<T, const MAX: usize> std::ops::Deref for Bounded<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}
impl<C, T: Encode<C>, const MAX: usize> Encode<C> for Bounded<T, MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.encode(e, ctx)
    }
}
impl<'b, C, T: Decode<'b, C>, const MAX: usize> Decode<'b, C> for Bounded<T, MAX> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let length = d.array()?.ok_or_else(|| minicbor::decode::Error::message("indefinite length"))?;
        if length > MAX as u64 {
            return Err(minicbor::decode::Error::message("more items than the form may have"));
        }
        // At most `MAX`, and no more than there are bytes: a claimed length alone costs nothing.
        let possible = d.input().len().saturating_sub(d.position());
        let mut items = Vec::with_capacity(usize::try_from(length).unwrap_or(possible).min(possible));
        for _ in 0..length {
            items.push(T::decode(d, ctx)?);
        }
        Ok(Self(items))
    }
}

/// At most `MAX` bytes: more do not decode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BoundedBytes<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> BoundedBytes<MAX> {
    /// The bytes, if there are at most `MAX`.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= MAX).then_some(Self(bytes))
    }
    /// The bytes, owned.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}
impl<const MAX: usize> std::ops::Deref for BoundedBytes<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
impl<C, const MAX: usize> Encode<C> for BoundedBytes<MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}
impl<'b, C, const MAX: usize> Decode<'b, C> for BoundedBytes<MAX> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() > MAX {
            return Err(minicbor::decode::Error::message("more bytes than the form may have"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Text of at most `MAX` bytes without control characters: it can be logged as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text, if it is short enough and has no control character.
    pub fn new(text: &str) -> Option<Self> {
        Self::allows(text).then(|| Self(text.to_owned()))
    }
    /// Whether the text is short enough and has no control character.
    pub fn allows(text: &str) -> bool {
        // In ASCII the control characters are bytes, which are looked at many at once.
        let has_control = |text: &str| match text.is_ascii() {
            true => text.bytes().any(|byte| byte.is_ascii_control()),
            false => text.chars().any(char::is_control),
        };
        text.len() <= MAX && !has_control(text)
    }
    /// The text cut to what fits, control characters replaced by `?`.
    pub fn lossy(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
            if out.len() + c.len_utf8() > MAX {
                break;
            }
            out.push(c);
        }
        Self(out)
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl<const MAX: usize> std::fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl<const MAX: usize> serde::Serialize for Text<MAX> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}
impl<'de, const MAX: usize> serde::Deserialize<'de> for Text<MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        Self::new(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("text of at most {MAX} bytes without control characters")))
    }
}
impl<C, const MAX: usize> Encode<C> for Text<MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?;
        Ok(())
    }
}
impl<'b, C, const MAX: usize> Decode<'b, C> for Text<MAX> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.str()?).ok_or_else(|| minicbor::decode::Error::message("text too long or with control characters"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Encode, Decode, Debug, PartialEq)]
    #[cbor(map)]
    struct Form {
        #[n(0)]
        version: Version<1>,
        #[n(1)]
        number: u64,
        #[n(2)]
        text: Option<Text<4>>,
    }

    #[test]
    fn an_absent_field_has_no_key() {
        assert_eq!(to_bytes(&Form { version: Version, number: 7, text: None }), [0xa2, 0, 1, 1, 7]);
    }

    #[test]
    fn only_the_canonical_bytes_decode() {
        let good = [0xa2, 0, 1, 1, 7];
        assert_eq!(from_bytes::<Form>(&good, 16).unwrap().number, 7);
        for bad in [
            &[0xa2, 1, 7, 0, 1][..],                          // keys out of order
            &[0xa2, 0, 1, 1, 0x18, 7],                        // a longer encoding of 7
            &[0xa3, 0, 1, 1, 7, 9, 1],                        // an unknown key
            &[0xa3, 0, 1, 1, 7, 2, 0xf6],                     // null instead of no key
            &[0xbf, 0, 1, 1, 7, 0xff],                        // indefinite length
            &[0xa2, 0, 2, 1, 7],                              // another version
            &[0xa2, 0, 1, 1, 7, 0],                           // trailing bytes
            &[0xa3, 0, 1, 1, 7, 1, 7],                        // a key twice
            &[0xa3, 0, 1, 1, 7, 2, 0x65, 97, 97, 97, 97, 97], // text too long
            &[0xa3, 0, 1, 1, 7, 2, 0x61, 10],                 // a control character
        ] {
            assert!(from_bytes::<Form>(bad, 16).is_err(), "{bad:?}");
        }
        assert!(matches!(from_bytes::<Form>(&good, 4), Err(CborError::TooLarge { .. })));
    }

    #[test]
    fn a_longer_array_than_allowed_is_refused_before_it_is_read() {
        let bytes = to_bytes(&vec![1u8; 5]);
        assert!(from_bytes::<Bounded<u8, 4>>(&bytes, 64).is_err());
        assert_eq!(from_bytes::<Bounded<u8, 5>>(&bytes, 64).unwrap().len(), 5);
        assert!(from_bytes::<Bounded<u8, 5>>(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 64).is_err());
    }
}
