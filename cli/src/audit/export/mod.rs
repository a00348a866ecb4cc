//! `quotary audit export`: one accepted evidence as files that stock tools check.
//!
//! Does: finds the verdict and the enrolment in the log, takes the evidence, writes the forms of tpm2-tools, openssl and
//! sha256sum with the commands to run, and lets the verifier's own code judge what it wrote.
//! May assume: nothing about the log or the evidence but the checkpoint's signature.
//! Promises: the same files from the verifier and from a copy; bytes that are not the named evidence are refused; a quote
//! that does not verify is written all the same, and told by exit code 1.
//! Must never: overwrite a file, or vouch for the leaves it took the key from.

mod content;
mod find;

#[cfg(test)]
mod tests;

use std::path::Path;

use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::sign::PublicKey;
use quotary_decide::inspect::Finding;
use serde::Serialize;

use super::copy::LogSource;
use super::files::Directory;
use super::given_root;
use crate::args::ExportArgs;
use crate::exit::{Code, Failure};
use crate::present::{self, Facts, Progress};
use crate::session::{Session, block_on, named};
use content::content;
use find::{Wanted, find, hosts};

/// What was written.
#[derive(Debug, Serialize)]
struct Exported {
    host: quotary_common::id::HostId,
    sequence: u64,
    evidence: Digest,
    verdict_leaf: u64,
    enrolled_leaf: u64,
    directory: String,
    files: Vec<&'static str>,
    verified: bool,
    reasons: Vec<Finding>,
}

/// Exports, and says what it is worth; the exit code.
pub(crate) fn export(args: &ExportArgs, credentials: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let root = given_root(args.root_key.as_deref(), credentials)?.map(|root| root.key);
    let exported = match &args.from {
        Some(copy) => {
            let copy = Directory::open(copy)?;
            block_on(async {
                let wanted = match exactly(&args.id) {
                    Some(wanted) => wanted,
                    None => meant(&hosts(&copy, root.as_ref()).await?, &args.id)?,
                };
                write(&copy, root.as_ref(), wanted, &args.directory).await
            })?
        }
        None => {
            let session = Session::open(credentials)?;
            block_on(async {
                let wanted = match exactly(&args.id) {
                    Some(wanted) => wanted,
                    None => Wanted(*session.host(&args.id).await?.as_bytes()),
                };
                write(&session, root.as_ref(), wanted, &args.directory).await
            })?
        }
    };
    if json {
        present::json(&exported)?
    } else {
        present::print(&exported.text())?
    }
    Ok(if exported.verified { 0 } else { Code::Refused as u8 })
}

/// An id in full.
fn exactly(id: &str) -> Option<Wanted> {
    id.parse::<Digest>().ok().map(|digest| Wanted(*digest.as_bytes()))
}

fn meant(hosts: &[quotary_common::id::HostId], id: &str) -> Result<Wanted, Failure> {
    let host = named(hosts, id).map_err(|what| Failure::new(Code::Refused, what))?;
    Ok(Wanted(*host.as_bytes()))
}

async fn write<S: LogSource>(
    from: &S,
    pinned: Option<&PublicKey>,
    wanted: Wanted,
    to: &Path,
) -> Result<Exported, Failure> {
    let mut progress = Progress::new("leaves searched");
    let found = find(from, pinned, wanted, &mut |done, all| progress.tell(done, all)).await?;
    drop(progress);
    let verdict = &found.verdict;
    let name = verdict.evidence.hex();
    let Some(bytes) = from.evidence(&verdict.host, &verdict.evidence).await? else {
        return Err(Failure::new(Code::Refused, format!("evidence {name} is not kept any more")));
    };
    if Evidence::digest(&bytes) != verdict.evidence {
        return Err(Failure::new(Code::Refused, format!("what is kept as evidence {name} has another SHA-256")));
    }
    let content = content(&bytes, &found)?;
    let directory = Directory::create(to)?;
    if !directory.is_empty()? {
        return Err(Failure::new(Code::Usage, format!("{} is not empty: name a new directory", to.display())));
    }
    for (name, bytes) in &content.files {
        directory.write(name, bytes)?;
    }
    Ok(Exported {
        host: verdict.host,
        sequence: verdict.sequence,
        evidence: verdict.evidence,
        verdict_leaf: found.verdict_leaf,
        enrolled_leaf: found.enrolled_leaf,
        directory: to.display().to_string(),
        files: content.files.iter().map(|(name, _)| *name).collect(),
        verified: content.report.verified,
        reasons: content.report.reasons,
    })
}

impl Exported {
    /// For people.
    fn text(&self) -> String {
        let mut facts = Facts::default();
        facts.add("evidence", self.evidence.hex());
        facts.add("host", format!("{}, sequence {}", self.host, self.sequence));
        facts.add("leaves", format!("{} (verdict), {} (enrolment)", self.verdict_leaf, self.enrolled_leaf));
        facts.add("files", format!("{} in {}", self.files.len(), self.directory));
        for reason in &self.reasons {
            facts.add("refused", format!("{}: {}", reason.code, reason.detail));
        }
        let verdict = if self.verified { "the quote verifies" } else { "THE QUOTE DOES NOT VERIFY" };
        format!("{}\n{verdict}; README.txt says how other tools check it, check.sh does it\n", facts.render())
    }
}
