//! An answer that goes on, line by line, each within a bound.

use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Largest line that is read, bytes.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineFault {
    /// The connection broke.
    Broken(hyper::Error),
    /// A line has more than [`LINE_BYTES_MAX`] bytes.
    TooLong,
}

/// The lines of a body.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    read: Vec<u8>,
    scanned: usize,
}

impl Lines {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, read: Vec::new(), scanned: 0 }
    }

    /// The next line without what ends it (LF or CR LF); `None` when the other end has ended the answer. May be
    /// cancelled without loss.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, LineFault> {
        loop {
            if let Some(line) = self.line() {
                return Ok(Some(line));
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(LineFault::TooLong);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(LineFault::Broken(error)),
                None if self.read.is_empty() => return Ok(None),
                None => self.read.push(b'\n'),
            }
        }
    }

    /// The first whole line of what was read.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.read[self.scanned..].iter().position(|byte| *byte == b'\n');
        match end {
            None => {
                self.scanned = self.read.len();
                None
            }
            Some(end) => {
                let mut line: Vec<u8> = self.read.drain(..=self.scanned + end).collect();
                self.scanned = 0;
                line.truncate(line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).map_or(line.len(), <[u8]>::len));
                Some(line)
            }
        }
    }
}
