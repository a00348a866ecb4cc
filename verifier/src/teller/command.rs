//! A named command: a program with its arguments, no shell, what it is to tell on its standard input.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command did not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// It has no program.
    #[error("it has no program")]
    Empty,
    /// It cannot be started.
    #[error("it cannot be started: {0}")]
    Start(#[source] std::io::Error),
    /// It ended badly.
    #[error("it ended with {0}")]
    Status(std::process::ExitStatus),
    /// It took too long, and was killed.
    #[error("it did not end within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Runs a command with an empty environment but `PATH`; of what it prints nothing is read.
pub(super) async fn run(argv: &[String], body: &str) -> Result<(), CommandError> {
    let (program, arguments) = argv.split_first().ok_or(CommandError::Empty)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(CommandError::Start)?;
    let input = child.stdin.take();
    let work = async {
        if let Some(mut input) = input {
            // Who does not read it may end well all the same.
            let _unread = input.write_all(body.as_bytes()).await;
        }
        child.wait().await.map_err(CommandError::Start)
    };
    let status = tokio::time::timeout(TIMEOUT, work).await.map_err(|_| CommandError::Timeout)??;
    if status.success() { Ok(()) } else { Err(CommandError::Status(status)) }
}
