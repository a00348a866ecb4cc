//! What can go wrong in an exchange, and what to do about it.

use std::error::Error as StdError;

use quotary_common::wire;

use crate::pin::PinFault;

/// An exchange that brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The verifier's address is not one that can be used.
    #[error("`{given}` is not a verifier's address ({why}): expected https://host or https://host:port")]
    Url {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The client certificate and its key cannot be used.
    #[error("the TLS client certificate or its key cannot be used: make them again")]
    Identity(#[source] rustls::Error),
    /// The bearer token cannot stand in a header.
    #[error("the token has characters that no token has: log in again")]
    Bearer,
    /// Nobody answers there.
    #[error("cannot reach {place}: check that it runs and that the address is right")]
    Connect {
        /// Who was asked.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Somebody answers, but is not who they must be, or does not accept who we are.
    #[error("no trusted TLS connection to {place}: {advice}")]
    Tls {
        /// Who was asked.
        place: String,
        /// What to do.
        advice: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No answer in time.
    #[error("no answer from {place} within {after_ms} ms: it may be overloaded or cut off; try again later")]
    Timeout {
        /// Who was asked.
        place: String,
        /// How long was waited, ms.
        after_ms: u64,
    },
    /// It answered, and the answer is no.
    #[error("{}: {}", .error.reason, .error.detail)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, and what to do.
        error: wire::Error,
    },
    /// The connection broke before the answer was whole.
    #[error("the connection to {place} broke before the answer was whole: try again")]
    Broken {
        /// Who was asked.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The answer is not what the route promises.
    #[error("the answer of {place} is not what the route promises ({what}): are both ends of the same version?")]
    Protocol {
        /// Who was asked, and for what.
        place: String,
        /// What is wrong.
        what: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later without any change here.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => true,
            Self::Refused { error, .. } => error.retry,
            Self::Url { .. } | Self::Identity(_) | Self::Bearer | Self::Tls { .. } | Self::Protocol { .. } => false,
        }
    }

    /// An error of the exchange itself: TLS if a TLS error stands anywhere behind it.
    pub(crate) fn of_exchange(
        place: &str,
        connecting: bool,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let place = place.to_owned();
        if let Some(tls) = tls_error(source.as_ref()) {
            return Self::Tls { place, advice: advice(&tls), source: tls };
        }
        if connecting { Self::Connect { place, source } } else { Self::Broken { place, source } }
    }
}

/// The TLS error behind an error, if there is one. (`io::Error::source` skips the error that it wraps.)
fn tls_error(error: &(dyn StdError + Send + Sync + 'static)) -> Option<rustls::Error> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    // Bounded: an error's causes are few, and a ring of them would be a fault of a library.
    for _ in 0..16 {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What a person can do about a TLS error.
fn advice(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<PinFault>() {
            Some(fault) => fault.to_string(),
            None => "its certificate was not accepted".to_owned(),
        },
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: renew it on the verifier, or correct this machine's clock".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: correct this machine's clock".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name or address: use the one that the verifier was set up with".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate was not issued by the pinned CA: someone may be in between".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a TLS client certificate, and none was sent".to_owned()
        }
        Error::AlertReceived(_) => {
            "it ended the handshake: it does not accept our certificate or TLS version".to_owned()
        }
        _ => "is it a TLS server, and the verifier's?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_behind_io_errors() {
        let inner = std::io::Error::other(rustls::Error::HandshakeNotComplete);
        let outer = std::io::Error::other(inner);
        let error = ClientError::of_exchange("v", true, outer);
        assert!(matches!(error, ClientError::Tls { source: rustls::Error::HandshakeNotComplete, .. }));
        let plain = ClientError::of_exchange("v", true, std::io::Error::other("refused"));
        assert!(matches!(plain, ClientError::Connect { .. }));
    }
}
