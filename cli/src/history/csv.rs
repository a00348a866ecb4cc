//! CSV (RFC 4180) into one file, or into one for each series.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use quotary_common::id::HostId;
use quotary_common::wire::HistoryPoint;

use crate::exit::{Code, Failure};

const HEADER: &str = "timestamp,host,subject,resource,mean,max,samples,censored\n";

/// Where rows go.
pub(super) enum Out {
    /// All into one file.
    File { path: PathBuf, to: BufWriter<File> },
    /// Each series into a file of its own.
    Directory { path: PathBuf, names: BTreeSet<String> },
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Unreadable, format!("cannot write {}: {error}", path.display()))
}

/// A file that was not there before, with its header.
fn begin(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = File::options().write(true).create_new(true).open(path).map_err(|error| failed(path, &error))?;
    let mut to = BufWriter::new(file);
    to.write_all(HEADER.as_bytes()).map_err(|error| failed(path, &error))?;
    Ok(to)
}

impl Out {
    /// A new file, or a directory that is empty: one that is there, or is named with a `/` at its end.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let path = path.to_owned();
        if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            std::fs::create_dir_all(&path).map_err(|error| failed(&path, &error))?;
            let mut entries = std::fs::read_dir(&path).map_err(|error| failed(&path, &error))?;
            if entries.next().is_some() {
                // Of two exports in one place nobody could say which file is whose.
                let why = format!("{} is not empty: name a new directory, or an empty one", path.display());
                return Err(Failure::new(Code::Usage, why));
            }
            return Ok(Self::Directory { path, names: BTreeSet::new() });
        }
        let to = begin(&path)?;
        Ok(Self::File { path, to })
    }

    /// Writes one series.
    pub(super) fn series<'a>(
        &mut self,
        host: Option<&HostId>,
        (subject, resource): (&str, &str),
        points: impl Iterator<Item = &'a HistoryPoint>,
    ) -> Result<(), Failure> {
        let of = format!("{},{},{}", host.map(ToString::to_string).unwrap_or_default(), cell(subject), cell(resource));
        match self {
            Self::File { path, to } => rows(to, &of, points).map_err(|error| failed(path, &error)),
            Self::Directory { path, names } => {
                let name = free_name(names, host, subject, resource);
                let path = path.join(&name);
                names.insert(name);
                let mut to = begin(&path)?;
                rows(&mut to, &of, points).and_then(|()| to.flush()).map_err(|error| failed(&path, &error))
            }
        }
    }

    /// Ends; how many files there are.
    pub(super) fn finish(self) -> Result<u64, Failure> {
        match self {
            Self::File { path, mut to } => to.flush().map(|()| 1).map_err(|error| failed(&path, &error)),
            Self::Directory { names, .. } => Ok(names.len() as u64),
        }
    }
}

fn rows<'a>(to: &mut BufWriter<File>, of: &str, points: impl Iterator<Item = &'a HistoryPoint>) -> std::io::Result<()> {
    for point in points {
        let HistoryPoint { timestamp, mean, max, samples, censored, .. } = point;
        writeln!(to, "{},{of},{mean},{max},{samples},{}", cell(timestamp), u8::from(*censored))?;
    }
    Ok(())
}

/// A value as a cell: quoted where it holds what ends a cell.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// A file's name that says whose it is; what a name may not have becomes `_`, and a number tells the like apart.
fn free_name(names: &BTreeSet<String>, host: Option<&HostId>, subject: &str, resource: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-@".contains(c) { c } else { '_' };
    let subject: String = subject.trim_matches('/').chars().map(plain).take(120).collect();
    let host = host.map_or_else(|| "all".to_owned(), ToString::to_string);
    let resource: String = resource.chars().map(plain).take(40).collect();
    let name = |number: usize| match number {
        0 => format!("{host}-{subject}-{resource}.csv"),
        number => format!("{host}-{subject}-{resource}-{number}.csv"),
    };
    (0..).map(name).find(|name| !names.contains(name)).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn point() -> HistoryPoint {
        let timestamp = "2026-11-22T07:00:00Z".to_owned();
        HistoryPoint { timestamp, start_ms: 0, mean: 5, max: 9, samples: 60, censored: true }
    }

    #[test]
    fn one_file_has_every_series_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("h.csv");
        let mut out = Out::open(&path).unwrap();
        let host = HostId::of(&[b"h"]);
        out.series(Some(&host), ("/a,\"b\"", "cpu_millicores"), [point()].iter()).unwrap();
        out.series(None, ("pool:lab", "cpu_millicores"), [point()].iter()).unwrap();
        assert_eq!(out.finish().unwrap(), 1);
        let expected = format!(
            "{HEADER}2026-11-22T07:00:00Z,{host},\"/a,\"\"b\"\"\",cpu_millicores,5,9,60,1\n\
             2026-11-22T07:00:00Z,,pool:lab,cpu_millicores,5,9,60,1\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert!(Out::open(&path).is_err());
    }

    #[test]
    fn a_directory_gets_a_file_for_each_series_and_no_name_leaves_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut out = Out::open(&directory.path().join("new/")).unwrap();
        for subject in ["/../../x", "/..\\..\\x", "tenant:blue"] {
            out.series(None, (subject, "memory_bytes"), [point()].iter()).unwrap();
        }
        assert_eq!(out.finish().unwrap(), 3);
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path().join("new")).unwrap().collect::<Result<_, _>>().unwrap();
        names.sort_by_key(std::fs::DirEntry::file_name);
        let names: Vec<_> = names.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
        let expected =
            ["all-.._.._x-memory_bytes-1.csv", "all-.._.._x-memory_bytes.csv", "all-tenant_blue-memory_bytes.csv"];
        assert_eq!(names, expected);
        assert!(Out::open(&directory.path().join("new")).is_err(), "what is there stays as it is, and alone");
    }
}
