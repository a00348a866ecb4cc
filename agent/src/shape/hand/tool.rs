//! Starting a tool of the distribution: by absolute path, with input, bounded output and a deadline.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::HandError;

/// How long a tool may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes that are read of what it prints.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
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

/// Runs a tool with `input`; what it printed.
pub(in crate::shape) fn run(tool: Tool, arguments: &[&str], input: &str) -> Result<String, HandError> {
    let found = PLACES.iter().map(|place| Path::new(place).join(tool.name)).find(|path| path.is_file());
    let program = found.ok_or(HandError::NoTool { name: tool.name, package: tool.package })?;
    let (status, output, said) = run_program(&program, arguments, input, DEADLINE)?;
    if status.success() {
        return Ok(output);
    }
    let said = if said.trim().is_empty() { status.to_string() } else { said };
    Err(HandError::Tool { tool: tool.name, said: shortened(&said) })
}

fn run_program(
    program: &Path,
    arguments: &[&str],
    input: &str,
    deadline: Duration,
) -> Result<(ExitStatus, String, String), HandError> {
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
        let output = scope.spawn(move || bounded(stdout));
        let said = scope.spawn(move || bounded(stderr));
        let status = awaited(&mut child, deadline).map_err(io("wait for a tool"))?;
        Ok((status, output.join().unwrap_or_default(), said.join().unwrap_or_default()))
    })
}

/// Waits until the deadline, then ends it.
fn awaited(child: &mut Child, deadline: Duration) -> std::io::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() >= deadline {
            child.kill()?;
            return child.wait();
        }
        std::thread::sleep(LOOK);
    }
}

/// What comes, up to the bound; a tool that prints more finds its pipe closed.
fn bounded(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What came before a fault is what there is.
        let _ = from.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
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

    fn sh(script: &str, input: &str, deadline_ms: u64) -> (ExitStatus, String, String) {
        run_program(Path::new("/bin/sh"), &["-c", script], input, Duration::from_millis(deadline_ms)).unwrap()
    }

    #[test]
    fn input_goes_in_and_output_comes_back() {
        let (status, output, said) = sh("cat; echo oops >&2; exit 3", "one\ntwo\n", 5_000);
        assert_eq!((status.code(), output.as_str(), said.as_str()), (Some(3), "one\ntwo\n", "oops\n"));
    }

    #[test]
    fn a_tool_that_hangs_is_ended_and_one_that_prints_without_end_is_cut() {
        let (status, ..) = sh("exec sleep 60", "", 100);
        assert!(!status.success());
        let (_, output, _) = sh("exec yes", "", 5_000);
        assert_eq!(output.len() as u64, OUTPUT_BYTES_MAX);
    }

    #[test]
    fn a_tool_that_reads_nothing_is_no_fault() {
        let (status, ..) = sh("exit 0", &"x".repeat(1 << 20), 5_000);
        assert!(status.success());
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
