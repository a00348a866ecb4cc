//! `TPMT_PUBLIC` of RSA and ECC keys (TPM 2.0 Library, Part 2, 12.2.4).

use super::signature::{ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA};
use super::{Cursor, HashAlg, TpmError, TpmName, spki};
use crate::limits::TPM_PUBLIC_BYTES_MAX;

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_RSAES: u16 = 0x0015;
const ALG_OAEP: u16 = 0x0017;
const ALG_ECDH: u16 = 0x0019;
const ALG_ECDAA: u16 = 0x001A;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
/// The longest `authPolicy`: SHA-512.
const POLICY_BYTES_MAX: usize = 64;

/// `TPMA_OBJECT`: what a key may do and where it may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The key cannot leave its TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// The key cannot get another parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM made the private part itself.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// Works only on structures that the TPM itself knows.
    pub const RESTRICTED: u32 = 1 << 16;
    /// Decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// Signs (or, for a symmetric key, encrypts).
    pub const SIGN: u32 = 1 << 18;
    /// Signs X.509 certificates: such a key is no attestation key.
    pub const X509_SIGN: u32 = 1 << 19;

    /// Whether all of `mask` are set.
    pub const fn has(self, mask: u32) -> bool {
        self.0 & mask == mask
    }
}

/// A key's symmetric cipher, used with the children and credentials of a storage key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symmetric {
    /// None: the key is no storage key.
    Null,
    /// AES in CFB mode, with a key of so many bits (128 or 256).
    AesCfb(u16),
}

/// A key's own signing or encryption scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Chosen at each use; a restricted signing key never has it.
    Null,
    /// ECDSA with this hash.
    Ecdsa(HashAlg),
    /// RSASSA (PKCS #1 v1.5) with this hash.
    RsaSsa(HashAlg),
    /// RSAPSS with this hash.
    RsaPss(HashAlg),
    /// Another one that signs no quote here (its algorithm id).
    Other(u16),
}

/// Elliptic curves that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// `TPM_ECC_NIST_P256`, 0x0003.
    P256,
    /// `TPM_ECC_NIST_P384`, 0x0004.
    P384,
}

impl Curve {
    /// Length of a coordinate, in bytes.
    pub const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// The key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyParameters {
    /// RSA.
    Rsa {
        /// Size of the modulus in bits (2048, 3072 or 4096).
        bits: u16,
        /// The exponent; a TPM's default 0 is read as 65537.
        exponent: u32,
        /// The modulus, big-endian, exactly `bits` long with its highest bit set.
        modulus: Vec<u8>,
    },
    /// Elliptic curve.
    Ecc {
        /// Which one.
        curve: Curve,
        /// The point, uncompressed: 4, then both coordinates padded to the field's length.
        point: Vec<u8>,
    },
}

/// A public area, with the very bytes it was read from: its name is their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmPublic {
    bytes: Vec<u8>,
    name_alg: HashAlg,
    attributes: Attributes,
    symmetric: Symmetric,
    scheme: Scheme,
    key: KeyParameters,
}

impl TpmPublic {
    /// Reads all of `bytes`, a `TPMT_PUBLIC` without a size prefix.
    ///
    /// # Errors
    /// [`TpmError`] with the offset: another type of key, an unknown algorithm, curve or size, trailing bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut cursor = Cursor::new("TPMT_PUBLIC", bytes, TPM_PUBLIC_BYTES_MAX)?;
        let key_type = cursor.u16("type")?;
        let name_id = cursor.u16("nameAlg")?;
        let name_alg = HashAlg::from_id(name_id).ok_or_else(|| cursor.unsupported("nameAlg", name_id))?;
        let attributes = Attributes(cursor.u32("objectAttributes")?);
        cursor.sized(POLICY_BYTES_MAX, "authPolicy")?;
        let symmetric = read_symmetric(&mut cursor)?;
        let scheme = read_scheme(&mut cursor)?;
        let key = match key_type {
            ALG_RSA => read_rsa(&mut cursor)?,
            ALG_ECC => read_ecc(&mut cursor)?,
            other => return Err(cursor.unsupported("type", other)),
        };
        cursor.end()?;
        Ok(Self { bytes: bytes.to_vec(), name_alg, attributes, symmetric, scheme, key })
    }
    /// The bytes it was read from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// The algorithm of its name.
    pub fn name_alg(&self) -> HashAlg {
        self.name_alg
    }
    /// What it may do.
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }
    /// Its symmetric cipher.
    pub fn symmetric(&self) -> Symmetric {
        self.symmetric
    }
    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
    /// The key itself.
    pub fn key(&self) -> &KeyParameters {
        &self.key
    }
    /// Its name: `nameAlg ‖ H(bytes)`.
    pub fn name(&self) -> TpmName {
        TpmName::of(self.name_alg, [&self.bytes, &[]])
    }
    /// Its canonical SubjectPublicKeyInfo (RFC 3279, RFC 5480): what the host id is the digest of.
    pub fn spki_der(&self) -> Vec<u8> {
        spki::encode(&self.key)
    }
}

fn read_symmetric(cursor: &mut Cursor<'_>) -> Result<Symmetric, TpmError> {
    let alg = cursor.u16("symmetric")?;
    if alg == ALG_NULL {
        return Ok(Symmetric::Null);
    }
    if alg != ALG_AES {
        return Err(cursor.unsupported("symmetric", alg));
    }
    let bits = cursor.u16("symmetric key bits")?;
    if ![128, 256].contains(&bits) {
        return Err(cursor.unsupported("symmetric key bits", bits));
    }
    let mode = cursor.u16("symmetric mode")?;
    if mode != ALG_CFB {
        return Err(cursor.unsupported("symmetric mode", mode));
    }
    Ok(Symmetric::AesCfb(bits))
}

fn read_scheme(cursor: &mut Cursor<'_>) -> Result<Scheme, TpmError> {
    let alg = cursor.u16("scheme")?;
    if alg == ALG_NULL {
        return Ok(Scheme::Null);
    }
    if alg == ALG_RSAES {
        return Ok(Scheme::Other(alg));
    }
    if ![ALG_ECDSA, ALG_RSASSA, ALG_RSAPSS, ALG_OAEP, ALG_ECDH, ALG_ECDAA].contains(&alg) {
        return Err(cursor.unsupported("scheme", alg));
    }
    let hash_id = cursor.u16("scheme hash")?;
    let hash = HashAlg::from_id(hash_id).ok_or_else(|| cursor.unsupported("scheme hash", hash_id))?;
    Ok(match alg {
        ALG_ECDSA => Scheme::Ecdsa(hash),
        ALG_RSASSA => Scheme::RsaSsa(hash),
        ALG_RSAPSS => Scheme::RsaPss(hash),
        ALG_ECDAA => {
            cursor.u16("scheme count")?;
            Scheme::Other(alg)
        }
        _ => Scheme::Other(alg),
    })
}

fn read_rsa(cursor: &mut Cursor<'_>) -> Result<KeyParameters, TpmError> {
    let bits = cursor.u16("keyBits")?;
    if ![2048, 3072, 4096].contains(&bits) {
        return Err(cursor.unsupported("keyBits", bits));
    }
    let exponent = match cursor.u32("exponent")? {
        0 => 65537,
        exponent => exponent,
    };
    let length = usize::from(bits / 8);
    let modulus = cursor.sized(length, "modulus")?;
    if modulus.len() != length || modulus.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(cursor.fault("the modulus is shorter than keyBits says"));
    }
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(cursor.fault("the modulus is even"));
    }
    Ok(KeyParameters::Rsa { bits, exponent, modulus: modulus.to_vec() })
}

fn read_ecc(cursor: &mut Cursor<'_>) -> Result<KeyParameters, TpmError> {
    let curve = match cursor.u16("curveID")? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => return Err(cursor.unsupported("curveID", other)),
    };
    let kdf = cursor.u16("kdf")?;
    if kdf != ALG_NULL {
        return Err(cursor.unsupported("kdf", kdf));
    }
    let length = curve.coordinate_bytes();
    let mut point = vec![4];
    for what in ["x", "y"] {
        let coordinate = cursor.sized(length, what)?;
        point.resize(point.len() + length - coordinate.len(), 0);
        point.extend_from_slice(coordinate);
    }
    Ok(KeyParameters::Ecc { curve, point })
}
