//! What only the durable store must do: files, identity, one writer, and nothing lost when it is killed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::store::{Expect, Reader, Scan, Store};

const ROWS: Table = Table::new("rows");
const COUNTER: Table = Table::new("counter");
const HERE: Partition = Partition::Deployment;
/// Tells the re-executed test binary where to write until it is killed.
const CHILD_VARIABLE: &str = "QUOTARY_STORE_TEST_DIRECTORY";

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory).unwrap()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("not/there/yet");
    open(&below).commit(&[Batch::default().put(ROWS, HERE, b"k", b"v").leaf(b"l".to_vec())]).unwrap();
    let mut store = open(&below);
    assert_eq!(store.get(ROWS, HERE, b"k").unwrap().unwrap(), b"v");
    let next = store.commit(&[Batch::default().leaf(b"m".to_vec())]).unwrap().remove(0).unwrap();
    assert_eq!(next, Committed { first_leaf: 1, leaves: 1 });
}

#[test]
fn only_the_owner_may_read_any_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut store = open(&data);
    store.commit(&[Batch::default().put(ROWS, HERE, b"k", b"v")]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|path| path.ends_with("quotary.db-wal")), "{files:?}");
    for path in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    drop(first);
    open(directory.path());
}

#[test]
fn a_reader_of_the_directory_reads_beside_the_writer_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert!(SqliteStore::open_reader(directory.path()).is_err(), "there is none yet");
    let mut store = open(directory.path());
    let reader = SqliteStore::open_reader(directory.path()).unwrap();
    store.commit(&[Batch::default().leaf(b"l".to_vec())]).unwrap();
    assert_eq!(reader.leaf_count().unwrap(), 1);
    assert!(reader.connection.execute("DELETE FROM leaf", []).is_err());
}

#[test]
fn a_reader_holds_no_commit_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.commit(&[Batch::default().leaf(b"l".to_vec())]).unwrap();
    let reader = SqliteStore::open_reader(directory.path()).unwrap();
    let reading = reader.connection.unchecked_transaction().unwrap();
    assert_eq!(leaf_count(&reading).unwrap(), 1);
    let begun = std::time::Instant::now();
    store.commit(&[Batch::default().leaf(b"m".to_vec())]).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(leaf_count(&reading).unwrap(), 1, "its snapshot stays");
}

#[test]
fn every_commit_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let pragma = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2, "FULL");
    let mode: String = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    type IsExpected = fn(&StoreError) -> bool;
    let cases: [(&str, IsExpected); 4] = [
        ("PRAGMA user_version = 99; PRAGMA application_id = 1364480601;", |e| {
            matches!(e, StoreError::Schema { found: 99, known: 1, .. })
        }),
        ("PRAGMA application_id = 7;", |e| matches!(e, StoreError::Foreign { found: 7, .. })),
        ("CREATE TABLE other (x);", |e| matches!(e, StoreError::Foreign { found: 0, .. })),
        ("PRAGMA user_version = 1;", |e| matches!(e, StoreError::Foreign { found: 0, .. })),
    ];
    for (sql, is_expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quotary.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = SqliteStore::open(directory.path()).unwrap_err();
        assert!(is_expected(&refused), "{sql}: {refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{sql}");
    }
}

#[test]
fn damage_is_found_when_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quotary.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");

    std::fs::remove_file(&path).unwrap();
    let mut store = open(directory.path());
    for key in 0..200_u8 {
        store.commit(&[Batch::default().put(ROWS, HERE, [key], vec![key; 600])]).unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(3) {
        page[..16].fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

/// Row and leaf `number`: the leaf is the number and a digest, the row's value a length that varies.
fn content(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 131 % 6000).unwrap();
    [&number.to_be_bytes()[..], &vec![number.to_be_bytes()[7]; length]].concat()
}

fn batch(number: u64) -> Batch {
    let counter = |number: u64| number.to_be_bytes();
    let expect = if number == 0 { Expect::Absent } else { Expect::value(&counter(number - 1)) };
    let shard = Partition::of_host(&quotary_common::id::HostId::of(&[&number.to_be_bytes()]));
    Batch::default()
        .expect(COUNTER, HERE, b"last", expect)
        .put(COUNTER, HERE, b"last", counter(number))
        .put(ROWS, shard, number.to_be_bytes(), content(number))
        .leaf(content(number))
}

/// Not a test of its own: the process that the next one kills. Without the variable it does nothing.
#[test]
fn child_that_commits_until_killed() {
    let Ok(directory) = std::env::var(CHILD_VARIABLE) else { return };
    let mut store = open(Path::new(&directory));
    let mut next = store.leaf_count().unwrap();
    let mut out = std::io::stdout();
    loop {
        let group: Vec<Batch> = (next..next + 8).map(batch).collect();
        assert!(store.commit(&group).unwrap().iter().all(Result::is_ok));
        next += 8;
        writeln!(out, "\nacknowledged {next}").unwrap();
        out.flush().unwrap();
    }
}

struct Killed(Child);
impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL; if it is gone already, so much the better.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Runs the child for `life` after its first acknowledgement, kills it, returns the last number it acknowledged.
fn run_and_kill(directory: &Path, life: Duration) -> u64 {
    let path = module_path!().split_once("::").unwrap().1;
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{path}::child_that_commits_until_killed"), "--nocapture"])
            .env(CHILD_VARIABLE, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let acknowledged = |line: String| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok());
    let first = lines.by_ref().find_map(acknowledged).unwrap();
    std::thread::sleep(life);
    drop(child);
    lines.filter_map(acknowledged).last().unwrap_or(first)
}

#[test]
fn nothing_acknowledged_is_lost_and_state_and_leaves_agree_when_the_writer_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..12_u64 {
        // Spread over several group commits and checkpoints.
        let acknowledged = run_and_kill(directory.path(), Duration::from_micros(round * 7919 % 60_000));
        let store = open(directory.path());
        let count = store.leaf_count().unwrap();
        assert!(count >= acknowledged, "round {round}: {acknowledged} acknowledged, {count} there");
        assert_eq!(count % 8, 0, "round {round}: a group is whole");
        let last = store.get(COUNTER, HERE, b"last").unwrap().unwrap();
        assert_eq!(last, (count - 1).to_be_bytes(), "round {round}");
        let mut rows = Vec::new();
        let mut page = Scan::all(ROWS);
        loop {
            let found = store.scan(&page).unwrap();
            let Some(last) = found.last() else { break };
            page = page.after(last);
            rows.extend(found);
        }
        assert_eq!(rows.len() as u64, count, "round {round}: one row for each leaf");
        assert!(
            rows.iter().all(|row| row.value == content(u64::from_be_bytes(row.key.as_slice().try_into().unwrap())))
        );
        for number in 0..count {
            assert_eq!(store.leaf(number).unwrap().unwrap(), content(number), "round {round}");
        }
    }
}
