//! What a certificate must be in its place of the chain (RFC 5280, 4.2 and 6.1; TCG EK Credential Profile 2.x, 3.2).

use std::collections::BTreeSet;

use quotary_common::envelope::Name;
use quotary_common::tpm::KeyParameters;
use x509_parser::der_parser::oid;
use x509_parser::oid_registry as registry;
use x509_parser::prelude::X509Certificate;

use super::fault::ChainFault;
use super::key;

fn refuse(detail: impl Into<String>) -> ChainFault {
    ChainFault::Chain(detail.into())
}

/// Whether the leaf says what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EkUsage {
    /// 2.23.133.8.1 (tcg-kp-EKCertificate) is there.
    Stated,
    /// There is no extended key usage at all: few issuers are excepted.
    Absent,
}

/// Validity, and no critical extension that is not understood.
pub(super) fn check_common(what: &str, certificate: &X509Certificate<'_>, now_unix_s: i64) -> Result<(), ChainFault> {
    let validity = certificate.validity();
    if now_unix_s < validity.not_before.timestamp() || now_unix_s > validity.not_after.timestamp() {
        let detail = format!(
            "{what} is valid from {} to {}: not now; check the clock, or get a new one",
            validity.not_before, validity.not_after
        );
        return Err(refuse(detail));
    }
    let understood = [
        registry::OID_X509_EXT_BASIC_CONSTRAINTS,
        registry::OID_X509_EXT_KEY_USAGE,
        registry::OID_X509_EXT_EXTENDED_KEY_USAGE,
        registry::OID_X509_EXT_SUBJECT_ALT_NAME,
        registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        registry::OID_X509_EXT_CERTIFICATE_POLICIES,
    ];
    let mut seen = BTreeSet::new();
    for extension in certificate.extensions() {
        if !seen.insert(extension.oid.as_bytes()) {
            return Err(refuse(format!("{what} has extension {} twice", extension.oid)));
        }
        if extension.critical && !understood.contains(&extension.oid) {
            return Err(refuse(format!(
                "{what} has the critical extension {}, which is not understood",
                extension.oid
            )));
        }
    }
    Ok(())
}

/// The EK's own certificate. `ek` is the TPM's key; without it (an auditor has only files) the certificate's own key
/// says which usage fits.
pub(super) fn check_leaf(leaf: &X509Certificate<'_>, ek: Option<&KeyParameters>) -> Result<EkUsage, ChainFault> {
    let certified = key::from_spki(leaf.public_key());
    if let Some(ek) = ek
        && certified.as_ref() != Ok(ek)
    {
        let detail = "the EK certificate is another key's than the endorsement key's";
        return Err(ChainFault::Mismatch(detail.to_owned()));
    }
    let certified = certified.map_err(|why| ChainFault::Algorithm(format!("the EK certificate's key is {why}")))?;
    let unreadable = |_| refuse("an extension of the EK certificate does not read");
    if leaf.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(refuse("the EK certificate is a CA's: give the certificate of the endorsement key first"));
    }
    let usage = leaf.key_usage().map_err(unreadable)?.map(|usage| usage.value);
    let fits = match certified {
        KeyParameters::Rsa { .. } => usage.is_some_and(|usage| usage.key_encipherment()),
        KeyParameters::Ecc { .. } => usage.is_some_and(|usage| usage.key_agreement()),
    };
    if !fits || usage.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(refuse(
            "the EK certificate's key usage is not that of an endorsement key (encipherment or agreement)",
        ));
    }
    // tcg-kp-EKCertificate
    let ek_usage = oid!(2.23.133.8.1);
    match leaf.extended_key_usage().map_err(unreadable)? {
        None => Ok(EkUsage::Absent),
        Some(usage) if usage.value.other.contains(&ek_usage) => Ok(EkUsage::Stated),
        Some(_) => Err(refuse("the EK certificate's extended key usage is not 2.23.133.8.1")),
    }
}

/// An issuer: a CA that may sign certificates, with at most `below` CAs under it. A configured authority may lack the
/// extensions (older roots do), but not contradict them.
pub(super) fn check_issuer(
    issuer: &X509Certificate<'_>,
    below: u32,
    now_unix_s: i64,
    configured: bool,
) -> Result<(), ChainFault> {
    let name = Name::lossy(&issuer.subject().to_string());
    check_common(&format!("the issuer `{name}`"), issuer, now_unix_s)?;
    let unreadable = |_| refuse(format!("an extension of the issuer `{name}` does not read"));
    let constraints = issuer.basic_constraints().map_err(unreadable)?.map(|constraints| constraints.value);
    if !constraints.map_or(configured, |constraints| constraints.ca) {
        return Err(refuse(format!("the issuer `{name}` is no CA: only a CA's certificate may follow the EK's")));
    }
    if constraints.and_then(|constraints| constraints.path_len_constraint).is_some_and(|longest| below > longest) {
        return Err(refuse(format!("the issuer `{name}` allows fewer CAs below it than there are")));
    }
    let usage = issuer.key_usage().map_err(unreadable)?.map(|usage| usage.value);
    if !usage.map_or(configured, |usage| usage.key_cert_sign()) {
        return Err(refuse(format!("the issuer `{name}` may not sign certificates")));
    }
    Ok(())
}
