//! `quotary audit …`: reading the log, copying it, checking a copy offline, and exporting a quote for other tools.
//!
//! Does: asks for leaves, tiles and evidence; keeps them as C2SP tlog-tiles files; hands a copy to
//! `quotary_decide::audit`, which is the verifier's own code, and shows what it found.
//! May assume: nothing about a copy or an answer; whose log it is follows from the deployment root key.
//! Promises: checking a copy asks nobody; a copy that was interrupted goes on where it stopped; what is missing
//! is told, and fails the check unless it was allowed.
//! Must never: call a log verified itself.

mod check;
mod copy;
mod export;
mod files;
mod key;

use std::path::{Path, PathBuf};

use quotary_common::leaf::Leaf;
use quotary_common::wire::{LeafView, ShowCheckpoint, ShowLeaf};

use crate::args::{AuditCommand, ListArgs, VerifyArgs};
use crate::credentials::{Credentials, root_key};
use crate::exit::{Code, Failure, with_causes};
use crate::now_ms;
use crate::present::{self, Align, Progress, Table};
use crate::session::{Session, block_on, credentials_path};
use crate::show::leaf;
use check::{Root, RootFrom};
pub(crate) use export::export;
pub(crate) use files::Directory;

/// The commands that ask the verifier.
pub(crate) async fn audit(session: &Session, command: AuditCommand, json: bool) -> Result<(), Failure> {
    match command {
        AuditCommand::List(args) => list(session, &args, json).await,
        AuditCommand::Show { leaf: number } => {
            let leaf = read(&session.ask::<ShowLeaf>(&[&number.to_string()]).await?)?;
            let value = leaf::json(number, &leaf);
            if json { present::json(&value) } else { present::print(&present::outline(&value)) }
        }
        AuditCommand::Fetch(args) => fetch(session, &args.directory, json).await,
        // Neither needs a session: `main` calls them by themselves.
        AuditCommand::Verify(_) | AuditCommand::Export(_) => Ok(()),
    }
}

fn read(view: &LeafView) -> Result<Leaf, Failure> {
    Leaf::from_bytes(&view.leaf.0)
        .map_err(|e| Failure::new(Code::Unreadable, format!("leaf {} is not readable: {}", view.n, with_causes(&e))))
}

async fn list(session: &Session, args: &ListArgs, json: bool) -> Result<(), Failure> {
    let view = session.ask::<ShowCheckpoint>(&[]).await?;
    let size = key::open(&view, session.credentials().root_key.as_ref())?.checkpoint.size();
    let from = args.from.unwrap_or_else(|| size.saturating_sub(args.limit));
    let to = from.saturating_add(args.limit).min(size);
    let mut leaves = Vec::new();
    let mut progress = Progress::new("leaves");
    for number in from..to {
        leaves.push((number, read(&session.ask::<ShowLeaf>(&[&number.to_string()]).await?)?));
        progress.tell(number - from + 1, to - from);
    }
    drop(progress);
    if json {
        return present::json(&leaves.iter().map(|(number, l)| leaf::json(*number, l)).collect::<Vec<_>>());
    }
    present::print_table(&table(&leaves, now_ms()))?;
    if to < size {
        eprintln!("quotary: {size} leaves in all; go on with --from {to}");
    }
    Ok(())
}

fn table(leaves: &[(u64, Leaf)], now_ms: u64) -> Table {
    let columns = [
        ("LEAF", Align::Right),
        ("WHEN", Align::Right),
        ("KIND", Align::Left),
        ("ACTOR", Align::Left),
        ("DECISION", Align::Left),
    ];
    let mut table = Table::new(&columns, "no such leaves");
    for (number, leaf) in leaves {
        table.row([
            number.to_string(),
            present::age(leaf.at_ms, now_ms),
            quotary_decide::audit::kind_of(&leaf.decision).to_owned(),
            leaf.actor.as_str().to_owned(),
            leaf::summary(leaf),
        ]);
    }
    table
}

async fn fetch(session: &Session, directory: &Path, json: bool) -> Result<(), Failure> {
    let to = Directory::create(directory)?;
    let mut progress = Progress::new("leaves copied");
    let pinned = session.credentials().root_key;
    let copied = copy::copy(session, &to, pinned.as_ref(), &mut |done, all| progress.tell(done, all)).await?;
    drop(progress);
    if json {
        return present::json(&copied);
    }
    present::print(&format!(
        "{} leaves in {}: {} files new, {} there before; {} evidences, {} not kept by the verifier any more\n",
        copied.size,
        directory.display(),
        copied.files_new,
        copied.files_known,
        copied.evidence,
        copied.evidence_missing
    ))
}

/// The root key that somebody pinned: on the command line, or in the credentials.
fn given_root(text: Option<&str>, credentials: Option<&Path>) -> Result<Option<Root>, Failure> {
    let given = text.map(root_key).transpose()?;
    let kept: Result<PathBuf, Failure> = credentials_path(credentials);
    // Offline nothing but the root key is taken from the credentials, and they may well not be there.
    let pinned = || kept.as_ref().ok().and_then(|path| Credentials::load(path).ok()).and_then(|c| c.root_key);
    Ok(match (given, pinned()) {
        (Some(key), _) => Some(Root { key, from: RootFrom::CommandLine }),
        (None, Some(key)) => Some(Root { key, from: RootFrom::Credentials }),
        (None, None) => None,
    })
}

/// Checks a copy, or a fresh one; the exit code.
pub(crate) fn verify(args: &VerifyArgs, credentials: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let root = given_root(args.root_key.as_deref(), credentials)?;
    let (directory, fresh) = match &args.directory {
        Some(directory) => (Directory::open(directory)?, None),
        None => {
            let fresh = tempfile::Builder::new().prefix("quotary-audit-").tempdir();
            let fresh = fresh.map_err(|e| Failure::new(Code::Unreadable, format!("cannot make a directory: {e}")))?;
            let session = Session::open(credentials)?;
            let to = Directory::create(fresh.path())?;
            let mut progress = Progress::new("leaves copied");
            let key = root.as_ref().map(|root| &root.key);
            block_on(copy::copy(&session, &to, key, &mut |done, all| progress.tell(done, all)))?;
            (to, Some(fresh))
        }
    };
    let mut progress = Progress::new("leaves checked");
    let outcome = check::check(&directory, root, now_ms(), &mut |done, all| progress.tell(done, all))?;
    drop(progress);
    drop(fresh);
    if json {
        present::json(&outcome)?
    } else {
        present::print(&outcome.text())?
    }
    Ok(if outcome.holds(args.allow_missing) { 0 } else { Code::Refused as u8 })
}
