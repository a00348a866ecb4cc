//! The service's side: one connection, one request after the other.

use std::io::{Read, Write};

use quotary_common::cbor;

use super::{FRAME_BYTES_MAX, Hand, HandError, Reply, Request};

/// What one service does, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Queueing disciplines and rules of network egress.
    Egress,
    /// Soft limits of projects.
    Storage,
}

impl Duty {
    /// Its name on the command line and of its socket.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Storage => "storage",
        }
    }

    /// The one capability that it needs (capabilities(7)): its number.
    pub(super) const fn capability(self) -> u32 {
        match self {
            Self::Egress => 12,  // CAP_NET_ADMIN
            Self::Storage => 21, // CAP_SYS_ADMIN
        }
    }
}

/// Answers requests of one duty until the other side closes.
///
/// # Errors
/// [`HandError`] when the connection breaks, or its bytes are no frames.
pub fn serve(duty: Duty, hand: &mut dyn Hand, mut from: impl Read, mut to: impl Write) -> Result<(), HandError> {
    while let Some(bytes) = read_frame(&mut from)? {
        let reply = match cbor::from_bytes::<Request>(&bytes, FRAME_BYTES_MAX) {
            Ok(request) if request.duty() == duty => {
                hand.ask(&request).unwrap_or_else(|error| Reply::Failed(error.told()))
            }
            Ok(_) => Reply::Failed(format!("that is not the duty of {}", duty.name())),
            Err(_) => return Err(HandError::Form),
        };
        write_frame(&mut to, &cbor::to_bytes(&reply))?;
    }
    Ok(())
}

/// A frame: its length in four bytes, then so many bytes. `None` at the end.
pub(super) fn read_frame(from: &mut impl Read) -> Result<Option<Vec<u8>>, HandError> {
    let io = |source| HandError::Io { step: "read from the hand's connection", source };
    let mut head = [0_u8; 4];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(io(error)),
    }
    let length = u32::from_be_bytes(head);
    if usize::try_from(length).map_or(true, |length| length > FRAME_BYTES_MAX) {
        return Err(HandError::Form);
    }
    let mut bytes = Vec::new();
    // As it comes: nothing is set aside for a length that is only claimed.
    from.take(u64::from(length)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 == u64::from(length) { Ok(Some(bytes)) } else { Err(HandError::Form) }
}

pub(super) fn write_frame(to: &mut impl Write, bytes: &[u8]) -> Result<(), HandError> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= FRAME_BYTES_MAX).ok_or(HandError::Form)?;
    let written = to.write_all(&length.to_be_bytes()).and_then(|()| to.write_all(bytes)).and_then(|()| to.flush());
    written.map_err(|source| HandError::Io { step: "write to the hand's connection", source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::Seen;
    use super::*;

    #[derive(Debug)]
    struct Echo;
    impl Hand for Echo {
        fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
            match request {
                Request::LookAtEgress(names) if names.is_empty() => Err(HandError::Refused("nothing to see".into())),
                Request::LookAtEgress(_) => Ok(Reply::Egress(Seen::default())),
                _ => Ok(Reply::Done),
            }
        }
    }

    fn answers(frames: &[u8]) -> (Result<(), HandError>, Vec<Reply>) {
        let mut out = Vec::new();
        let served = serve(Duty::Egress, &mut Echo, frames, &mut out);
        let mut out = out.as_slice();
        let mut replies = Vec::new();
        while let Some(bytes) = read_frame(&mut out).unwrap() {
            replies.push(cbor::from_bytes(&bytes, FRAME_BYTES_MAX).unwrap());
        }
        (served, replies)
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, bytes).unwrap();
        out
    }

    #[test]
    fn each_request_has_its_answer_and_a_failure_is_one() {
        let mut frames = frame(&cbor::to_bytes(&Request::LookAtEgress(vec!["eth0".into()])));
        frames.extend(frame(&cbor::to_bytes(&Request::LookAtEgress(vec![]))));
        let (served, replies) = answers(&frames);
        served.unwrap();
        assert_eq!(replies, [Reply::Egress(Seen::default()), Reply::Failed("nothing to see".to_owned())]);
    }

    #[test]
    fn a_hand_does_its_own_duty_and_no_other() {
        let directory = super::super::Directory { path: "/srv/x".to_owned(), project: 1 };
        let (served, replies) = answers(&frame(&cbor::to_bytes(&Request::BringStorage(directory, 0, false))));
        served.unwrap();
        assert_eq!(replies, [Reply::Failed("that is not the duty of egress".to_owned())]);
    }

    #[test]
    fn what_is_no_frame_or_no_request_ends_the_connection() {
        for bad in [
            vec![0xff, 0xff, 0xff, 0xff, 1],
            vec![0, 0, 0, 9, 1, 2],
            frame(b"hello"),
            frame(&[]),
            frame(&[0x82, 0x18, 0x63, 0x80]),
        ] {
            let (served, replies) = answers(&bad);
            assert!(matches!(served, Err(HandError::Form)), "{bad:?}");
            assert!(replies.is_empty());
        }
    }
}
