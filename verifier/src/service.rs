//! What the service manager is told (sd_notify(3)): ready, alive, stopping; and where it has put credentials.
//!
//! Alive means that the writer's thread has answered in its turn. Without a service manager (no `NOTIFY_SOCKET` in the
//! environment) nothing is told.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::core::Queue;

/// Longest pause between two questions to the writer.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Whatever carries states to the service manager.
trait Tell: Fn(&[NotifyState<'_>]) -> io::Result<()> + Send {}
impl<T: Fn(&[NotifyState<'_>]) -> io::Result<()> + Send> Tell for T {}

/// Where the service manager has put credentials for this process, if it has.
pub fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Tells that connections are taken from now on.
pub fn ready(status: &str) {
    say(&send, &[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells again and again that the writer answers, for as long as it does, and in the end that the verifier stops.
pub async fn tell_life(queue: Queue, stop: CancellationToken) {
    life(queue, stop, send, sd_notify::watchdog_enabled()).await;
}

async fn life(queue: Queue, stop: CancellationToken, tell: impl Tell, watchdog: Option<Duration>) {
    while let Some(watchdog) = watchdog {
        let answered = async {
            tokio::time::sleep((watchdog / 4).min(PAUSE_MAX)).await;
            queue.is_answered().await
        };
        // A writer that hangs is waited for here: nothing is told meanwhile, and the watchdog ends the process.
        let is_alive = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            is_alive = answered => is_alive,
        };
        if !is_alive {
            break;
        }
        say(&tell, &[NotifyState::Watchdog]);
    }
    // Whoever sends commands is gone before the writer may end.
    drop(queue);
    stop.cancelled().await;
    say(&tell, &[NotifyState::Stopping, NotifyState::Status("stopping in order")]);
}

/// Sends states to the service manager that the environment names. Never waits, which `sd_notify::notify` does when the
/// manager does not read: then the word is lost, and the next one tells as much.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(text.as_bytes(), path).map(drop)
}

fn say(tell: &impl Tell, what: &[NotifyState<'_>]) {
    if let Err(error) = tell(what) {
        tracing::warn!(%error, "the service manager cannot be told how the verifier fares");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::core::Command;

    /// A real way to the socket at `path`.
    fn way_to(path: PathBuf) -> impl Tell {
        move |states: &[NotifyState<'_>]| {
            let text: String = states.iter().map(|state| format!("{state}\n")).collect();
            UnixDatagram::unbound()?.send_to(text.as_bytes(), &path).map(drop)
        }
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 4096];
        let mut lines = Vec::new();
        while let Ok(length) = socket.recv(&mut bytes) {
            lines.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
        }
        lines
    }

    /// What is heard in 300 ms (less than a socket's queue holds) of a writer that answers `answers` questions and then hangs, and what after the stop.
    async fn told(answers: usize) -> (Vec<String>, Vec<String>) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (queue, mut commands) = Queue::new();
        let stop = CancellationToken::new();
        let telling = tokio::spawn(life(queue, stop.clone(), way_to(path), Some(Duration::from_millis(200))));
        let writer = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            let mut answered = 0;
            while let Some(command) = commands.recv().await {
                match command {
                    Command::Answer { answer } if answered < answers => {
                        answered += 1;
                        answer.send(Ok(())).unwrap();
                    }
                    command => unanswered.push(command),
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = heard(&socket);
        stop.cancel();
        telling.await.unwrap();
        // The writer ends, since nobody can ask it any more.
        writer.await.unwrap();
        (before, heard(&socket))
    }

    #[tokio::test]
    async fn a_writer_that_answers_is_alive_and_one_that_hangs_is_not() {
        let (before, after) = told(usize::MAX).await;
        assert!(before.len() >= 3 && before.iter().all(|line| line == "WATCHDOG=1"), "{before:?}");
        let stopping = ["STOPPING=1", "STATUS=stopping in order"];
        assert_eq!(after, stopping);
        assert_eq!(told(2).await, (vec!["WATCHDOG=1".to_owned(); 2], stopping.map(str::to_owned).to_vec()));
    }
}
