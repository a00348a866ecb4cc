//! The agent's side of a hand that is a service: a connection that is opened when it is needed, and closed when nothing is held.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quotary_common::cbor;

use super::serve::{read_frame, write_frame};
use super::{FRAME_BYTES_MAX, Hand, HandError, Reply, Request};

/// How long one answer may take: as long as the hand has for it ([`super::REQUEST`]), and for its start.
const ANSWER: Duration = Duration::from_secs(15);
/// A failure that took so long is one of time, whatever the hand says of it.
const SLOW: Duration = Duration::from_secs(5);

/// The way to a service.
#[derive(Debug)]
pub struct Afar {
    socket: PathBuf,
    stream: Option<UnixStream>,
    answer: Duration,
    slow: Duration,
}

impl Afar {
    /// Behind a socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, stream: None, answer: ANSWER, slow: SLOW }
    }

    fn once(&mut self, bytes: &[u8]) -> Result<Reply, HandError> {
        let io = |source| HandError::Io { step: "reach the hand's service", source };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket).map_err(io)?;
                stream.set_read_timeout(Some(self.answer)).map_err(io)?;
                stream.set_write_timeout(Some(self.answer)).map_err(io)?;
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
        let start = Instant::now();
        let reply = match self.once(&bytes) {
            // The service was restarted meanwhile: every request says the whole of what is wanted, and may be said twice. But one
            // that takes its time may still be at it.
            Err(error @ HandError::Io { .. }) if was_open && !error.is_timeout() => self.once(&bytes)?,
            other => other?,
        };
        match reply {
            Reply::Failed(why) if start.elapsed() >= self.slow => {
                // The next request would wait as long.
                self.stream = None;
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, why);
                Err(HandError::Io { step: "have it done in time", source })
            }
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

    #[test]
    fn a_service_that_does_not_answer_in_time_is_not_asked_a_second_time() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let service = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            read_frame(&mut first).unwrap();
            write_frame(&mut first, &cbor::to_bytes(&Reply::Done)).unwrap();
            // The second request is taken and never answered; the connection ends when nobody waits any more.
            read_frame(&mut first).unwrap().unwrap();
            assert_eq!(read_frame(&mut first).unwrap(), None);
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "another hand was asked for the same");
        });
        let mut afar = Afar { answer: Duration::from_millis(200), ..Afar::at(socket) };
        let look = Request::LookAtEgress(vec!["eth0".to_owned()]);
        assert_eq!(afar.ask(&look).unwrap(), Reply::Done);
        assert!(afar.ask(&look).unwrap_err().is_timeout());
        service.join().unwrap();
    }

    #[test]
    fn a_failure_that_took_long_counts_as_one_of_time() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let service = std::thread::spawn(move || {
            for _ in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                serve(Duty::Egress, &mut Done, &stream, &stream).unwrap();
            }
        });
        let mut afar = Afar { slow: Duration::ZERO, ..Afar::at(socket.clone()) };
        let error = afar.ask(&Request::LookAtEgress(vec![])).unwrap_err();
        assert!(error.is_timeout() && error.told().contains(": no"), "{}", error.told());
        let mut afar = Afar::at(socket);
        assert!(!afar.ask(&Request::LookAtEgress(vec![])).unwrap_err().is_timeout());
        afar.rest();
        service.join().unwrap();
    }
}
