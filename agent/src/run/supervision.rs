//! What the service manager is told (sd_notify(3)): ready, alive, stopping, and how things stand.
//!
//! Without a service manager (no `NOTIFY_SOCKET` in the environment) nothing is told.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;

/// Longest text that is told: systemd shows one line.
const STATUS_CHARS_MAX: usize = 200;
/// What systemd may wait beyond the configured time of a stop.
const STOP_MARGIN: Duration = Duration::from_secs(10);

type Tell = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send;

/// The way to the service manager.
pub(super) struct Supervision {
    tell: Box<Tell>,
    /// Within which time it wants to hear that the agent is alive, ms; absent: it does not.
    watchdog_ms: Option<u64>,
    next_alive_ms: u64,
    status: String,
    is_deaf: bool,
}

impl Supervision {
    /// The way of this process, by its environment.
    pub(super) fn of_this_process() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Self::new(Box::new(send), watchdog)
    }

    pub(super) fn new(tell: Box<Tell>, watchdog: Option<Duration>) -> Self {
        let watchdog_ms = watchdog.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        Self { tell, watchdog_ms, next_alive_ms: 0, status: String::new(), is_deaf: false }
    }

    /// The sockets are open, and what a running lease covers is enforced.
    pub(super) fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.say(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Every part of the agent that must answer has answered just now. To be called as often as that is so.
    pub(super) fn alive(&mut self, now_ms: u64, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.say(&[NotifyState::Status(&one_line(status))]);
        }
        let Some(watchdog_ms) = self.watchdog_ms else { return };
        if now_ms >= self.next_alive_ms {
            self.say(&[NotifyState::Watchdog]);
            self.next_alive_ms = now_ms.saturating_add(watchdog_ms / 4);
        }
    }

    /// Everything is put back within `limit`: the watchdog may wait so long and some more.
    pub(super) fn stopping(&mut self, limit: Duration) {
        let status = NotifyState::Status("putting every limit back");
        let within = u32::try_from((limit + STOP_MARGIN).as_micros()).unwrap_or(u32::MAX);
        let watchdog = self.watchdog_ms.map(|_| [NotifyState::WatchdogUsec(within), NotifyState::Watchdog]);
        self.say(&[NotifyState::Stopping, status]);
        if let Some(longer) = watchdog {
            self.say(&longer);
        }
    }

    fn say(&mut self, what: &[NotifyState<'_>]) {
        match (self.tell)(what) {
            Ok(()) => self.is_deaf = false,
            // Once: it may be gone for a while, and nothing that the agent does depends on it.
            Err(error) if !self.is_deaf => {
                tracing::warn!(%error, "the service manager cannot be told how the agent fares");
                self.is_deaf = true;
            }
            Err(_) => {}
        }
    }
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

/// One line of a bounded length: a line break would begin another assignment.
fn one_line(text: &str) -> String {
    let line = text.chars().take(STATUS_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c });
    line.collect()
}

#[cfg(test)]
#[path = "supervision_tests.rs"]
mod tests;
