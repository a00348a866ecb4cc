//! An EK's certificate and its chain, from files.

use quotary_common::limits::CERTIFICATE_BYTES_MAX;
use serde::Serialize;

use super::{Finding, InspectError};
use crate::attest::{
    Authority, ChainCertificate, ChainQuestion, ManufacturerRoots, TpmKind, TrustRoots, examine, is_pem, pem_blocks,
    split_der_certificates,
};

/// Most certificates that one call takes, the EK's included.
const CERTIFICATES_MAX: usize = 1 + quotary_common::limits::EK_CHAIN_MAX;
/// Most authorities in a file of roots.
const ROOTS_MAX: usize = 1024;

/// What a TPM is, by the authority that certified it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TpmReport {
    /// A manufacturer's chip or firmware.
    Hardware {
        /// Whose.
        manufacturer: String,
    },
    /// Certified by an authority that was given: what it certifies, its owner knows.
    Given {
        /// The authority's subject.
        issuer: String,
    },
}

/// The verdict on an EK's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EkReport {
    /// Whether the chain holds and ends at an authority.
    pub verified: bool,
    /// Why not.
    pub reasons: Vec<Finding>,
    /// As much of the chain as holds: the EK's certificate first, the authority last.
    pub chain: Vec<ChainCertificate>,
    /// What the TPM is; `None` where nobody answers for it.
    pub tpm: Option<TpmReport>,
}

/// Judges an EK's certificate at `now_ms` (Unix ms): the first certificate is the EK's, the others are intermediates in
/// any order, each file PEM, DER, or several DER one after the other. `roots` are the authorities, PEM or DER; without
/// them the manufacturers' bundle is. The manufacturers' intermediates are always at hand.
///
/// # Errors
/// [`InspectError::Certificate`] when a file is no certificate, or there is none.
pub fn ek(certificates: &[&[u8]], roots: Option<&[u8]>, now_ms: u64) -> Result<EkReport, InspectError> {
    let mut all = Vec::new();
    for (i, file) in certificates.iter().enumerate() {
        let read = read_certificates(file, CERTIFICATES_MAX);
        all.extend(read.map_err(|why| fault(format!("certificate file {}", i + 1), why))?);
    }
    let [leaf, issuers @ ..] = all.as_slice() else {
        return Err(fault("the certificates".to_owned(), "there is none".to_owned()));
    };
    if all.len() > CERTIFICATES_MAX {
        let why = format!("{} are more than the {CERTIFICATES_MAX} that a chain may have", all.len());
        return Err(fault("the certificates".to_owned(), why));
    }
    let manufacturers = ManufacturerRoots::built_in().map_err(|why| fault("the bundle".to_owned(), why.to_string()))?;
    let trusted = match roots {
        None => TrustRoots::default().with_manufacturers(&manufacturers),
        Some(file) => given_roots(file)?.with_intermediates_of(&manufacturers),
    };
    let issuers: Vec<&[u8]> = issuers.iter().map(Vec::as_slice).collect();
    let now_unix_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let examined = examine(&ChainQuestion { leaf, issuers: &issuers, ek: None, now_unix_s }, &trusted);
    let (reasons, tpm) = match examined.outcome {
        Ok(by) => (Vec::new(), Some(tpm_report(by.tpm, by.manufacturer, by.issuer))),
        Err(fault) => (vec![Finding::new(fault.code(), fault.to_string())], None),
    };
    Ok(EkReport { verified: reasons.is_empty(), reasons, chain: examined.chain, tpm })
}

fn fault(what: String, why: String) -> InspectError {
    InspectError::Certificate { what, why }
}

fn tpm_report(kind: TpmKind, manufacturer: Option<String>, issuer: String) -> TpmReport {
    match (kind, manufacturer) {
        (TpmKind::Hardware, Some(manufacturer)) => TpmReport::Hardware { manufacturer },
        _ => TpmReport::Given { issuer },
    }
}

fn given_roots(file: &[u8]) -> Result<TrustRoots, InspectError> {
    let what = || "the file of roots".to_owned();
    let read = read_certificates(file, ROOTS_MAX).map_err(|why| fault(what(), why))?;
    // What these authorities certify is not known here, and the report says so.
    let authorities = read.into_iter().map(|certificate| Authority { certificate, kind: TpmKind::Software }).collect();
    TrustRoots::new(authorities).map_err(|why| fault(what(), why.to_string()))
}

/// The certificates of a file.
fn read_certificates(file: &[u8], count_max: usize) -> Result<Vec<Vec<u8>>, String> {
    if !is_pem(file) {
        let split = split_der_certificates(file).map_err(|why| why.to_string())?;
        return match split.as_slice() {
            [] => Err("it is empty".to_owned()),
            split => Ok(split.iter().map(|certificate| certificate.to_vec()).collect()),
        };
    }
    let blocks = pem_blocks(file)?;
    if blocks.is_empty() || blocks.len() > count_max {
        return Err(format!("{} PEM blocks, 1 to {count_max} are possible", blocks.len()));
    }
    if blocks.iter().any(|block| block.label != "CERTIFICATE" || block.content.len() > CERTIFICATE_BYTES_MAX) {
        return Err("a PEM block is no certificate, or too large for one".to_owned());
    }
    Ok(blocks.into_iter().map(|block| block.content).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_manufacturers_authority_makes_the_report_say_hardware() {
        let report = |kind, manufacturer: Option<&str>| {
            tpm_report(kind, manufacturer.map(str::to_owned), "CN=an authority".to_owned())
        };
        let given = TpmReport::Given { issuer: "CN=an authority".to_owned() };
        let infineon = TpmReport::Hardware { manufacturer: "Infineon".to_owned() };
        assert_eq!(report(TpmKind::Hardware, Some("Infineon")), infineon);
        assert_eq!(report(TpmKind::Software, None), given);
        assert_eq!(report(TpmKind::Hardware, None), given, "nobody named a manufacturer");
        assert_eq!(report(TpmKind::Software, Some("Infineon")), given);
    }
}
