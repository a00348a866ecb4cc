//! Whose turn it is: of the hands of one duty one works at a time, and only for somebody who still waits for it.
//!
//! A hand goes on when the agent has given up waiting, and the agent's next request goes to another one. Without turns both
//! would look and set at once, and what was asked for first could be what stands in the end.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{RecvFlags, recv};

use super::tool::within;
use super::{Hand, HandError, REQUEST, Reply, Request};

/// How often a hand looks whether the one before has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A hand that takes its turn for each request.
#[derive(Debug)]
pub struct InTurn<H, C> {
    hand: H,
    turn: File,
    asker: C,
}

impl<H: Hand, C: AsFd + Send + std::fmt::Debug> InTurn<H, C> {
    /// A hand whose turns go by a lock on `directory`, which nobody but root may open, for the asker at the other end of a
    /// connection.
    ///
    /// # Errors
    /// [`HandError::Io`] when the directory cannot be opened.
    pub fn new(hand: H, directory: &Path, asker: C) -> Result<Self, HandError> {
        let turn = File::open(directory)
            .map_err(|source| HandError::Io { step: "open the directory that hands take turns by", source })?;
        Ok(Self { hand, turn, asker })
    }

    fn take_turn(&self, until: Instant) -> Result<(), HandError> {
        loop {
            match flock(&self.turn, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(LOOK);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(HandError::Refused("another hand is still at work".to_owned()));
                }
                Err(error) => return Err(HandError::Io { step: "wait for a turn", source: error.into() }),
            }
        }
    }
}

impl<H: Hand, C: AsFd + Send + std::fmt::Debug> Hand for InTurn<H, C> {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        within(REQUEST, |until| {
            self.take_turn(until)?;
            // From here on whoever asks after this one waits for it: the order is that of asking.
            let done = if is_waited_for(&self.asker) {
                self.hand.ask(request)
            } else {
                Err(HandError::Refused("nobody waits for it any more: it was not done".to_owned()))
            };
            // A lock that cannot be given back ends with this process.
            let _ = flock(&self.turn, FlockOperation::Unlock);
            done
        })
    }
}

/// Whether the other end of a connection is still open.
fn is_waited_for(connection: impl AsFd) -> bool {
    let mut byte = [0_u8; 1];
    let peeked = recv(connection, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    // Nothing to read yet is what a connection shows that waits for an answer.
    !matches!(peeked, Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts who works at once, and how much was done.
    #[derive(Debug, Clone, Default)]
    struct Slow {
        at_work: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        done: Arc<AtomicUsize>,
    }

    impl Hand for Slow {
        fn ask(&mut self, _: &Request) -> Result<Reply, HandError> {
            let now = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(30));
            self.at_work.fetch_sub(1, Ordering::SeqCst);
            self.done.fetch_add(1, Ordering::SeqCst);
            Ok(Reply::Done)
        }
    }

    fn request() -> Request {
        Request::LookAtEgress(Vec::new())
    }

    #[test]
    fn two_hands_of_one_duty_never_work_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let slow = Slow::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (slow, directory) = (slow.clone(), temp.path());
                scope.spawn(move || {
                    let (asker, _agent) = UnixStream::pair().unwrap();
                    let mut hand = InTurn::new(slow, directory, asker).unwrap();
                    for _ in 0..3 {
                        assert_eq!(hand.ask(&request()).unwrap(), Reply::Done);
                    }
                });
            }
        });
        assert_eq!((slow.most.load(Ordering::SeqCst), slow.done.load(Ordering::SeqCst)), (1, 9));
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_done() {
        let temp = tempfile::tempdir().unwrap();
        let slow = Slow::default();
        let (asker, agent) = UnixStream::pair().unwrap();
        let mut hand = InTurn::new(slow.clone(), temp.path(), asker).unwrap();
        hand.ask(&request()).unwrap();
        drop(agent);
        assert!(hand.ask(&request()).unwrap_err().to_string().contains("nobody waits"));
        assert_eq!(slow.done.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn without_its_directory_there_is_no_hand() {
        let (asker, _agent) = UnixStream::pair().unwrap();
        assert!(InTurn::new(Slow::default(), Path::new("/no/such/directory"), asker).is_err());
    }
}
