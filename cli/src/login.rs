//! `quotary login`: keeps where the verifier is, how to know it, and the token.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use quotary_common::keys::deployment_of;
use quotary_common::wire::ShowStatus;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::args::LoginArgs;
use crate::credentials::{Credentials, CredentialsError, root_key};
use crate::exit::{Code, Failure};
use crate::present;
use crate::session::{Session, block_on, credentials_path};

/// Longest text that is read as a token, bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Reads the parts, asks the verifier whether it takes them, and keeps them.
pub(crate) fn login(args: &LoginArgs, credentials: Option<&Path>) -> Result<(), Failure> {
    let path = credentials_path(credentials)?;
    let new = gather(args)?;
    let session = Session::with(new)?;
    if !args.offline {
        block_on(check(&session))?;
    }
    session.credentials().store(&path)?;
    let verifier = &session.credentials().verifier;
    present::print(&format!("logged in to {verifier}; kept in {}\n", path.display()))?;
    if session.credentials().root_key.is_none() {
        eprintln!(
            "quotary: no root key is pinned: `quotary audit verify` takes the log's own, and nothing shows that a text which you \
             sign is of your deployment; log in again with --root-key (root.pub in the verifier's data directory)"
        );
    }
    Ok(())
}

fn gather(args: &LoginArgs) -> Result<Credentials, Failure> {
    if let Some(from) = &args.from {
        return Ok(Credentials::import(from)?);
    }
    let (Some(verifier), Some(ca_pin)) = (&args.verifier, args.ca_pin) else {
        return Err(Failure::new(Code::Usage, "give --from FILE, or --verifier URL and --ca-pin HEX"));
    };
    let root = args.root_key.as_deref().map(root_key).transpose()?;
    let token = match &args.token_file {
        Some(file) => {
            let read = |source| CredentialsError::Read { path: file.clone(), source };
            bounded(std::fs::File::open(file).map_err(read)?).map_err(read)?
        }
        None => pasted().map_err(|e| Failure::new(Code::Unreadable, format!("cannot read the token: {e}")))?,
    };
    Ok(Credentials::new(verifier.clone(), ca_pin, root, &token)?)
}

/// Whether the verifier takes the token, and is the one that the pinned root key stands for.
async fn check(session: &Session) -> Result<(), Failure> {
    let status = match session.ask::<ShowStatus>(&[]).await {
        Ok(status) => status,
        // A token for the log alone may not read the status; that it is known was answered.
        Err(failure) if failure.message().starts_with("forbidden") => return Ok(()),
        Err(failure) => return Err(failure),
    };
    match session.credentials().root_key.as_ref().map(deployment_of) {
        Some(ours) if ours != status.deployment => Err(Failure::new(
            Code::Refused,
            format!(
                "that verifier is of deployment {}, but the root key is {ours}'s: nothing was kept",
                status.deployment
            ),
        )),
        _ => Ok(()),
    }
}

fn bounded(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The token from standard input: all of it from a pipe, one unseen line from a terminal.
fn pasted() -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return bounded(stdin.lock());
    }
    eprint!("Paste the token, then Enter: ");
    let _unseen = Unseen::begin(&stdin)?;
    let mut line = Zeroizing::new(String::new());
    stdin.read_line(&mut line)?;
    eprintln!();
    Ok(line)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn begin(stdin: &io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Now, &unseen)?;
        Ok(Self(before))
    }
}
impl Drop for Unseen {
    fn drop(&mut self) {
        // Nothing can be done when the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
