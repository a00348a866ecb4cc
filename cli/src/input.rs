//! Files from outside, each read no further than its kind can reach.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::exit::{Code, Failure, with_causes};

/// A file's bytes, or those of standard input for `-`: at most `bytes_max`, whatever length it has or claims.
///
/// # Errors
/// It cannot be read, or there is more; the file is named.
pub fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let bytes = match path.as_os_str().as_encoded_bytes() {
        b"-" => bounded(io::stdin().lock(), bytes_max),
        _ => File::open(path).and_then(|file| bounded(file, bytes_max)),
    };
    let bytes = bytes.map_err(|error| unreadable(path, &error))?;
    match bytes {
        Some(bytes) => Ok(bytes),
        None => Err(Failure::new(
            Code::Unreadable,
            format!("{}: larger than the {bytes_max} bytes that are read", name(path)),
        )),
    }
}

/// Reads to the end; `None` if there is more.
fn bounded(from: impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// A file that is not what it should be.
pub(crate) fn unreadable(path: &Path, error: &dyn Error) -> Failure {
    Failure::new(Code::Unreadable, format!("{}: {}", name(path), with_causes(error)))
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_read_no_further_than_its_bound() {
        assert_eq!(bounded(io::repeat(7), 1000).unwrap(), None);
        assert_eq!(bounded(&[7; 1000][..], 1000).unwrap(), Some(vec![7; 1000]));
        let refused = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert!(refused.code() == 2 && refused.message().contains("1000 bytes"), "{}", refused.message());
    }

    #[test]
    fn a_missing_file_is_named() {
        let refused = read(Path::new("/nonexistent/quote.msg"), 1000).unwrap_err();
        assert!(refused.code() == 2 && refused.message().contains("/nonexistent/quote.msg"), "{}", refused.message());
    }
}
