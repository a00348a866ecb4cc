//! Starting a tool of the distribution: by absolute path, with input, bounded output and a deadline.

use std::cell::Cell;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::HandError;

/// How long a tool may take where no request bounds it.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes that a tool may print: `repquota` has a line of some sixty for each project of a file system.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;
/// Most bytes that are read of what it says beside that.
const SAID_BYTES_READ_MAX: u64 = 1 << 16;
/// Most bytes of what it says of a failure that are handed on.
const SAID_BYTES_MAX: usize = 500;

/// A tool of the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shape) struct Tool {
    /// Its name.
    pub(in crate::shape) name: &'static str,
    /// The package that brings it.
    pub(in crate::shape) package: &'static str,
}

/// Where distributions put such tools.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

thread_local! {
    /// Until when the tools of the request that this thread does may run; a thread does one request at a time.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does the work of one request, all of whose tools together may take as long as `limit`, or as what bounds it already.
/// The work is told when its time is over.
pub(super) fn within<T>(limit: Duration, work: impl FnOnce(Instant) -> T) -> T {
    let before = UNTIL.get();
    let until = Instant::now() + limit;
    let until = before.map_or(until, |before| before.min(until));
    UNTIL.set(Some(until));
    let done = work(until);
    UNTIL.set(before);
    done
}

/// Runs a tool with `input`; what it printed, all of it: more than can be read is an error.
pub(in crate::shape) fn run(tool: Tool, arguments: &[&str], input: &str) -> Result<String, HandError> {
    let found = PLACES.iter().map(|place| Path::new(place).join(tool.name)).find(|path| path.is_file());
    let program = found.ok_or(HandError::NoTool { name: tool.name, package: tool.package })?;
    let left = UNTIL.get().map_or(DEADLINE, |until| until.saturating_duration_since(Instant::now()));
    let slow = || {
        let told = format!("{} did not end in time", tool.name);
        HandError::Io { step: "do it", source: std::io::Error::new(std::io::ErrorKind::TimedOut, told) }
    };
    if left.is_zero() {
        return Err(slow());
    }
    let Ended { status, output, said } = run_program(&program, arguments, input, left)?;
    let status = status.ok_or_else(slow)?;
    let output = output.ok_or(HandError::TooMuch { tool: tool.name })?;
    if status.success() {
        return Ok(output);
    }
    let said = if said.trim().is_empty() { status.to_string() } else { said };
    Err(HandError::Tool { tool: tool.name, said: shortened(&said) })
}

/// How a tool ended.
struct Ended {
    /// `None`: it was ended at its deadline.
    status: Option<ExitStatus>,
    /// `None`: it printed more than is read.
    output: Option<String>,
    said: String,
}

fn run_program(program: &Path, arguments: &[&str], input: &str, deadline: Duration) -> Result<Ended, HandError> {
    let io = |step: &'static str| move |source| HandError::Io { step, source };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(io("start a tool"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It ends early when the tool does not want it all.
            let _ = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
        });
        let output = scope.spawn(move || bounded(stdout, OUTPUT_BYTES_MAX));
        let said = scope.spawn(move || bounded(stderr, SAID_BYTES_READ_MAX));
        let status = awaited(&mut child, deadline).map_err(io("wait for a tool"))?;
        let (output, is_whole) = output.join().unwrap_or_default();
        let (said, _) = said.join().unwrap_or_default();
        Ok(Ended { status, output: is_whole.then_some(output), said })
    })
}

/// Waits until the deadline, then ends it: `None`.
fn awaited(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= deadline {
            child.kill()?;
            return child.wait().map(|_| None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What comes, up to the bound, and whether that is all; a tool that prints more finds its pipe closed.
fn bounded(from: Option<impl Read>, bytes_max: u64) -> (String, bool) {
    let mut bytes = Vec::new();
    let read = from.map_or(Ok(0), |from| from.take(bytes_max + 1).read_to_end(&mut bytes));
    let is_whole = read.is_ok() && bytes.len() as u64 <= bytes_max;
    (String::from_utf8_lossy(&bytes).into_owned(), is_whole)
}

/// One line without control characters, and not too long.
fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= SAID_BYTES_MAX).last().unwrap_or(0);
    if line.len() <= SAID_BYTES_MAX { line } else { line.get(..end).unwrap_or_default().to_owned() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sh(script: &str, input: &str, deadline_ms: u64) -> Ended {
        run_program(Path::new("/bin/sh"), &["-c", script], input, Duration::from_millis(deadline_ms)).unwrap()
    }

    #[test]
    fn input_goes_in_and_output_comes_back() {
        let ended = sh("cat; echo oops >&2; exit 3", "one\ntwo\n", 5_000);
        assert_eq!((ended.status.unwrap().code(), ended.said.as_str()), (Some(3), "oops\n"));
        assert_eq!(ended.output.unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_tool_that_hangs_is_ended_and_what_one_prints_without_end_is_no_answer() {
        assert!(sh("exec sleep 60", "", 100).status.is_none());
        assert!(sh("exec yes", "", 5_000).output.is_none());
        let whole = bounded(Some(&[b'x'; 9][..]), 9);
        assert_eq!(whole, ("x".repeat(9), true));
        assert!(!bounded(Some(&[b'x'; 10][..]), 9).1);
    }

    #[test]
    fn a_tool_that_reads_nothing_is_no_fault() {
        assert!(sh("exit 0", &"x".repeat(1 << 20), 5_000).status.unwrap().success());
    }

    #[test]
    fn all_tools_of_a_request_have_one_deadline() {
        let sleep = Tool { name: "sleep", package: "coreutils" };
        let start = Instant::now();
        within(Duration::from_millis(300), |_| {
            // What bounds it from outside holds, whatever is allowed within.
            within(Duration::from_secs(60), |_| {
                run(sleep, &["0.05"], "").unwrap();
                assert!(run(sleep, &["60"], "").unwrap_err().is_timeout());
                assert!(run(sleep, &["0"], "").unwrap_err().is_timeout(), "its time is over");
            });
        });
        assert!(start.elapsed() < Duration::from_secs(10));
        run(sleep, &["0"], "").unwrap();
    }

    #[test]
    fn a_tool_that_is_not_installed_is_named_with_its_package() {
        let error = run(Tool { name: "quotary-no-such-tool", package: "nothing" }, &[], "").unwrap_err();
        assert_eq!(error.to_string(), "quotary-no-such-tool is not installed (package nothing)");
    }

    #[test]
    fn what_a_tool_said_is_one_short_line() {
        assert_eq!(shortened("a\n\tb  c\n"), "a b c");
        assert!(shortened(&"ä".repeat(400)).len() <= SAID_BYTES_MAX);
    }
}
