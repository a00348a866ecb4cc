//! The agent's side of a hand that is a service: a connection that is opened when it is needed, and closed when nothing is held.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use quotary_common::cbor;

use super::serve::{read_frame, write_frame};
use super::{FRAME_BYTES_MAX, Hand, HandError, Reply, Request};

/// How long one answer may take: several tools in a row, each with its own deadline.
const ANSWER: Duration = Duration::from_secs(15);

/// The way to a service.
#[derive(Debug)]
pub struct Afar {
    socket: PathBuf,
    stream: Option<UnixStream>,
}

impl Afar {
    /// Behind a socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, stream: None }
    }

    fn once(&mut self, bytes: &[u8]) -> Result<Reply, HandError> {
        let io = |source| HandError::Io { step: "reach the hand's service", source };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket).map_err(io)?;
                stream.set_read_timeout(Some(ANSWER)).map_err(io)?;
                stream.set_write_timeout(Some(ANSWER)).map_err(io)?;
                stream
            }
        };
        write_frame(&mut stream, bytes)?;
        let answer = read_frame(&mut stream)?.ok_or(HandError::Io {
            step: "hear from the hand's service",
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })?;
        let reply = cbor::from_bytes(&answer, FRAME_BYTES_MAX).map_err(|_| HandError::Form)?;
        self.stream = Some(stream);
        Ok(reply)
    }
}

impl Hand for Afar {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        let bytes = cbor::to_bytes(request);
        let was_open = self.stream.is_some();
        let reply = match self.once(&bytes) {
            // The service was restarted meanwhile: every request says the whole of what is wanted, and may be said twice.
            Err(HandError::Io { .. }) if was_open => self.once(&bytes)?,
            other => other?,
        };
        match reply {
            Reply::Failed(why) => Err(HandError::Refused(why)),
            reply => Ok(reply),
        }
    }

    fn rest(&mut self) {
        self.stream = None;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::{Duty, serve};
    use super::*;

    #[derive(Debug)]
    struct Done;
    impl Hand for Done {
        fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
            match request {
                Request::LookAtEgress(names) if names.is_empty() => Err(HandError::Refused("no".to_owned())),
                _ => Ok(Reply::Done),
            }
        }
    }

    #[test]
    fn a_service_that_was_restarted_is_asked_again_and_its_refusals_are_errors() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let service = std::thread::spawn(move || {
            // The first connection serves one request and is gone, the second serves to its end.
            let (mut first, _) = listener.accept().unwrap();
            read_frame(&mut first).unwrap();
            write_frame(&mut first, &cbor::to_bytes(&Reply::Done)).unwrap();
            drop(first);
            let (second, _) = listener.accept().unwrap();
            serve(Duty::Egress, &mut Done, &second, &second).unwrap();
        });
        let mut afar = Afar::at(socket);
        let look = Request::LookAtEgress(vec!["eth0".to_owned()]);
        assert_eq!(afar.ask(&look).unwrap(), Reply::Done);
        assert_eq!(afar.ask(&look).unwrap(), Reply::Done);
        let refused = afar.ask(&Request::LookAtEgress(vec![])).unwrap_err();
        assert_eq!(refused.to_string(), "no");
        afar.rest();
        service.join().unwrap();
        assert!(afar.ask(&look).is_err(), "nobody is there");
    }
}
