//! Signals, and which of them the command has already got.
//!
//! quotary and the command share a process group, so pipes, job control and reading from the terminal work as
//! without quotary. What the terminal sends (INT, QUIT, TSTP, WINCH) then reaches both; passing it on would give
//! it to the command twice, and a second Ctrl-C means "at once" to many programs. A process in the terminal's
//! foreground therefore passes these on no further; everywhere else they were sent to quotary alone, and go on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{self, SignalKind};

/// Every signal that is passed on.
const PASSED_ON: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::TSTP,
    Signal::CONT,
];

/// The signals that were sent to this process.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Listens to all that are not ignored: what `nohup` and the like had ignored stays so for the command too.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status")?);
        let mut streams = Vec::new();
        for signal in PASSED_ON {
            if ignored >> (signal.as_raw() - 1) & 1 == 0 {
                streams.push((signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?));
            }
        }
        Ok(Self(streams))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits, while there is no command yet, for a signal that ends us; the exit code.
    pub(super) async fn before_start(&mut self) -> u8 {
        loop {
            match self.next().await {
                Signal::WINCH | Signal::CONT => {}
                Signal::TSTP => stop_ourselves(),
                signal => return code_of_signal(signal.as_raw()),
            }
        }
    }
}

/// The exit code that stands for a signal, as shells have it.
pub(super) fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or(0).wrapping_add(128)
}

/// Passes a signal on to the command, unless it has it already; stops ourselves when the command is to stop.
pub(super) fn pass_on(signal: Signal, command: Pid) {
    if !has_it_already(signal, in_foreground()) {
        // The command is not reaped yet, so its pid is its own; that it may just have ended is no failure.
        let _ = kill_process(command, signal);
    }
    if signal == Signal::TSTP {
        stop_ourselves();
    }
}

/// Stops this process too, so that the shell sees the job stopped. CONT wakes it, and is passed on.
fn stop_ourselves() {
    let _ = kill_process(getpid(), Signal::STOP);
}

fn has_it_already(signal: Signal, in_foreground: bool) -> bool {
    in_foreground && matches!(signal, Signal::INT | Signal::QUIT | Signal::TSTP | Signal::WINCH)
}

/// Whether our process group is the foreground one of our terminal.
fn in_foreground() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|tty| tcgetpgrp(&tty).is_ok_and(|group| group == getpgrp()))
}

/// The set of ignored signals (bit n-1 for signal n) in `/proc/self/status`.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_keyboard_sends_reaches_the_command_once() {
        for signal in [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH] {
            assert!(has_it_already(signal, true) && !has_it_already(signal, false), "{signal:?}");
        }
        for signal in [Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2, Signal::CONT] {
            assert!(!has_it_already(signal, true), "{signal:?}");
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_kernels_form() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t1\n";
        assert_eq!(ignored(status), 1 << 12 | 1);
        assert_eq!(ignored("nothing"), 0);
    }

    #[test]
    fn a_signals_code_is_that_of_shells() {
        assert_eq!(code_of_signal(15), 143);
        assert_eq!(code_of_signal(2), 130);
    }
}
