//! Ids and digests: 32 bytes each, each its own type, so that one cannot stand where another belongs.
//!
//! In JSON an id is 64 hexadecimal characters; people see its short form, a letter, `-` and 26 base32
//! characters (130 bits), as in `h-3k7q…` (wire.md, Forms). A short form only finds, it never proves.

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use ring::digest;

/// An id given as text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {what}: expected 64 hexadecimal characters")]
pub struct IdError {
    what: &'static str,
    given: String,
}

/// SHA-256 of the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The short form of 32 bytes: 26 lower-case base32 characters.
fn short(bytes: &[u8; 32]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes).to_lowercase();
    text.truncate(26);
    text
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// SHA-256 over the parts, as this id.
            pub fn of(parts: &[&[u8]]) -> Self {
                Self(sha256(parts))
            }
            /// All 64 hexadecimal characters.
            pub fn hex(&self) -> String {
                HEXLOWER_PERMISSIVE.encode(&self.0)
            }
            /// Whether `text` is this id's short form or its 64 hexadecimal characters.
            pub fn is_named(&self, text: &str) -> bool {
                text == self.to_string() || text.eq_ignore_ascii_case(&self.hex())
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}-{}", $letter, short(&self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = (text.len() == 64)
                    .then(|| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok())
                    .flatten()
                    .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                bytes.map(Self).ok_or_else(|| IdError {
                    what: stringify!($name),
                    given: text.chars().take(80).collect(),
                })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.hex())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?;
                Ok(())
            }
        }
        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                <[u8; 32]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| minicbor::decode::Error::message("an id is 32 bytes"))
            }
        }
    };
}

id_type!(/// One Quotary installation: SHA-256 of its root public key.
    DeploymentId, "d");
id_type!(/// A host: SHA-256 of the SubjectPublicKeyInfo DER of the EK that passed activation.
    HostId, "h");
id_type!(/// A grant: derived from host and request, so that the same request never has two.
    GrantId, "g");
id_type!(/// A request for resources: random, made by the agent when an application asks.
    RequestId, "r");
id_type!(/// A shaping plan.
    PlanId, "p");
id_type!(/// A request to change a policy, the roster or the rules: random, made when it is proposed.
    ChangeId, "c");
id_type!(/// A pending enrolment: random, so that nobody can block a victim.
    EnrolmentId, "n");
id_type!(/// A join or operator token (its public part).
    TokenId, "t");
id_type!(/// A SHA-256 digest of bytes.
    Digest, "x");

impl GrantId {
    /// The one grant that a host's request can have.
    pub fn for_request(host: &HostId, request: &RequestId) -> Self {
        Self::of(&[b"quotary-grant-id-v1", host.as_bytes(), request.as_bytes()])
    }
}

/// A kernel's boot id (`/proc/sys/kernel/random/boot_id`): a new one at each boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BootId([u8; 16]);

impl BootId {
    /// Wraps 16 bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
    /// Reads the kernel's form, a UUID with dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').take(33).collect();
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        <[u8; 16]>::try_from(bytes).ok().map(Self)
    }
}
impl std::fmt::Display for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}
impl serde::Serialize for BootId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_string())
    }
}
impl<'de> serde::Deserialize<'de> for BootId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a boot id is 32 hexadecimal characters"))
    }
}
impl<C> minicbor::Encode<C> for BootId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}
impl<'b, C> minicbor::Decode<'b, C> for BootId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        <[u8; 16]>::try_from(d.bytes()?)
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("a boot id is 16 bytes"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn short_form_has_a_letter_and_26_characters_and_finds_its_id() {
        let id = HostId::of(&[b"one"]);
        assert_eq!(id.to_string().len(), 28);
        assert!(id.is_named(&id.to_string()) && id.is_named(&id.hex()));
        assert!(!HostId::of(&[b"two"]).is_named(&id.to_string()));
    }

    #[test]
    fn hexadecimal_text_round_trips_and_anything_else_is_refused() {
        let id = GrantId::of(&[b"g"]);
        assert_eq!(id.hex().parse::<GrantId>().unwrap(), id);
        assert!("zz".parse::<GrantId>().is_err());
        assert!(id.hex()[1..].parse::<GrantId>().is_err());
    }

    #[test]
    fn boot_id_reads_the_kernels_form() {
        let id = BootId::parse("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n").unwrap();
        assert_eq!(id.to_string(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        assert!(BootId::parse("0f1e").is_none());
    }
}
