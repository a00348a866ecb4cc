//! Exit codes, and how a failure becomes one (the list stands in `quotary --help`).

use std::error::Error;
use std::fmt::Write as _;

use quotary_client::ClientError;

/// What a command's exit code says. `quotary run` passes on its command's own code instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It was refused, or a check failed.
    Refused = 1,
    /// Something that was read is not what it should be.
    Unreadable = 2,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// A service cannot be reached or cannot answer now (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// The credential or the user may not do this (`EX_NOPERM`).
    NoPermission = 77,
}

/// A command that did not succeed: what is printed, and the exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// With a message of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as u8, message: message.into() }
    }
    /// With an exit code that is not one of ours: a shell's for a command that cannot be run.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
    /// From an error, its causes behind it.
    pub fn of(code: Code, error: &dyn Error) -> Self {
        Self::new(code, with_causes(error))
    }
    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
    /// What is printed.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// An error's message and those of its causes that say anything new, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    // Bounded: the causes of an error are few.
    for _ in 0..16 {
        let Some(cause) = next else { break };
        let said = cause.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}

/// The code of a failed exchange.
pub fn code_of(error: &ClientError) -> Code {
    match error {
        ClientError::Refused { status: 401 | 403, .. } => Code::NoPermission,
        ClientError::Refused { status: 429 | 503, .. } => Code::Unavailable,
        ClientError::Refused { .. } | ClientError::Tls { .. } => Code::Refused,
        ClientError::Connect { source, .. } if is_permission(source.as_ref()) => Code::NoPermission,
        ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Broken { .. } => Code::Unavailable,
        ClientError::Protocol { .. } | ClientError::Identity(_) | ClientError::Bearer => Code::Unreadable,
        ClientError::Url { .. } => Code::Usage,
    }
}

fn is_permission(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let mut failure = Self::of(code_of(&error), &error);
        if let ClientError::Refused { status: 401, .. } = error {
            failure.message.push_str(" (log in again with `quotary login`)");
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::reason::Reason;
    use quotary_common::wire;

    fn refused(reason: Reason) -> ClientError {
        let error = wire::Error { reason, detail: "so".to_owned(), retry: reason.retry() };
        ClientError::Refused { status: reason.http_status(), error }
    }

    #[test]
    fn refusals_have_the_code_of_their_kind() {
        assert_eq!(code_of(&refused(Reason::Capacity)), Code::Refused);
        assert_eq!(code_of(&refused(Reason::NotFound)), Code::Refused);
        assert_eq!(code_of(&refused(Reason::Forbidden)), Code::NoPermission);
        assert_eq!(code_of(&refused(Reason::Unavailable)), Code::Unavailable);
        let failure = Failure::from(refused(Reason::Unauthorised));
        assert_eq!(failure.code(), 77);
        assert!(failure.message().contains("quotary login"));
    }

    #[test]
    fn a_socket_that_may_not_be_opened_is_no_permission_and_a_missing_one_is_unavailable() {
        let connect = |kind: std::io::ErrorKind| ClientError::Connect {
            place: "the agent".to_owned(),
            source: Box::new(std::io::Error::from(kind)),
        };
        assert_eq!(code_of(&connect(std::io::ErrorKind::PermissionDenied)), Code::NoPermission);
        assert_eq!(code_of(&connect(std::io::ErrorKind::NotFound)), Code::Unavailable);
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("disk full");
        let error = ClientError::Broken { place: "v".to_owned(), source: Box::new(inner) };
        let text = with_causes(&error);
        assert!(text.ends_with("try again: disk full"), "{text}");
    }
}
