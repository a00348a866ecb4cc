//! Opening a data directory: lock, file mode, pragmas, identity, schema, integrity.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{SqliteReader, SqliteStore, failed};
use crate::store::StoreError;

/// The database's file in the data directory.
const DATABASE_FILE: &str = "quotary.db";
/// The file whose lock means "a verifier writes here".
const LOCK_FILE: &str = "quotary.lock";
/// `QTRY`: tells our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x5154_5259;
/// Raised with every change of the schema.
const SCHEMA_VERSION: i32 = 1;
/// How long a statement waits for a lock that a checkpoint may hold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is folded back into the database after so many pages (16 MiB): large values make a smaller one busy.
const CHECKPOINT_PAGES: i64 = 4_000;
/// Prepared statements kept per connection (there are fewer).
const STATEMENTS_MAX: usize = 32;

/// Rows have a rowid so that large values are appended and only the small index is written in random places.
const SCHEMA: &str = "
    CREATE TABLE row (
        id INTEGER PRIMARY KEY,
        table_name TEXT NOT NULL,
        partition INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX row_by_key ON row (table_name, partition, key);
    CREATE TABLE leaf (
        number INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL
    ) STRICT;
";

impl SqliteStore {
    /// Opens a data directory for writing; makes directory (mode 0700) and database (mode 0600) if there are none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open; [`StoreError::Foreign`], [`StoreError::Schema`]
    /// or [`StoreError::Damaged`] when the file is not one that this program may write to.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let fault = |step, path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::File { step, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(fault("make the data directory", directory))?;
        let lock = lock(directory)?;
        let database = directory.join(DATABASE_FILE);
        // Made before SQLite sees it: its WAL and shared-memory files take the mode of the database.
        let file = private_file(&database).map_err(fault("open the database file", &database))?;
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(fault("make private and durable", &database))?;
        drop(file);
        let mut connection = connect(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        identify(&mut connection, &database)?;
        check(&connection, &database)?;
        Ok(Self { connection, database, _lock: lock })
    }

    /// The store of a data directory, for reading only, while another process may write it.
    ///
    /// # Errors
    /// [`StoreError`] when there is none, or none of ours.
    pub fn open_reader(directory: &Path) -> Result<SqliteReader, StoreError> {
        let database = directory.join(DATABASE_FILE);
        let connection = reader(&database)?;
        match identity(&connection, &database)? {
            Identity::Ours => Ok(SqliteReader { connection }),
            Identity::Empty => Err(StoreError::Foreign { path: database, found: 0 }),
        }
    }
}

/// Opens or makes a file that only its owner may read.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK_FILE);
    let file = match private_file(&path) {
        Ok(file) => file,
        Err(source) => return Err(StoreError::File { step: "open the lock file", path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(StoreError::File { step: "lock", path, source }),
    }
}

/// A read-only connection.
pub(super) fn reader(database: &Path) -> Result<Connection, StoreError> {
    connect(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(database: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(database, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(failed("open the database"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| connection.pragma_update(None, "trusted_schema", false))
        .and_then(|()| connection.pragma_update(None, "cell_size_check", true))
        .map_err(failed("configure the connection"))?;
    Ok(connection)
}

enum Identity {
    Empty,
    Ours,
}

fn identity(connection: &Connection, database: &Path) -> Result<Identity, StoreError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let objects = || connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let read = || Ok((number("application_id")?, number("user_version")?, objects()?));
    let (application, version, objects) = match read() {
        Ok(found) => found,
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) =>
        {
            return Err(StoreError::Damaged { path: database.to_path_buf(), finding: error.to_string() });
        }
        Err(source) => return Err(StoreError::Sqlite { step: "read the database's identity", source }),
    };
    match (application, version) {
        (0, 0) if objects == 0 => Ok(Identity::Empty),
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(Identity::Ours),
        (APPLICATION_ID, found) => {
            Err(StoreError::Schema { path: database.to_path_buf(), found, known: SCHEMA_VERSION })
        }
        (found, _) => Err(StoreError::Foreign { path: database.to_path_buf(), found }),
    }
}

/// Makes the schema in an empty file; refuses a file that is not ours. Sets WAL with a sync at every commit.
fn identify(connection: &mut Connection, database: &Path) -> Result<(), StoreError> {
    let found = identity(connection, database)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(failed("switch to write-ahead logging"))?;
    if mode != "wal" {
        return Err(StoreError::FileSystem { path: database.to_path_buf(), mode });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed("ask for synced commits"))?;
    connection
        .pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
        .map_err(failed("set how often the log is folded back"))?;
    if matches!(found, Identity::Empty) {
        let create = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()
        };
        create(connection).map_err(failed("make the schema"))?;
    }
    Ok(())
}

fn check(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let finding: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed("check the database"))?;
    if finding == "ok" { Ok(()) } else { Err(StoreError::Damaged { path: database.to_path_buf(), finding }) }
}
