//! A quote that `tpm2_quote` makes on a running swtpm, judged by `quotary inspect quote`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A software TPM on a socket in a directory; it ends with the test.
struct Swtpm {
    child: Child,
    socket: std::path::PathBuf,
}

impl Swtpm {
    fn start(directory: &Path) -> Self {
        let socket = directory.join("tpm");
        // If the test is killed the TPM ends too. The tools look for the control socket under the name with `.ctrl`.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", directory.display())])
            .args(["--server", &format!("type=unixio,path={}", socket.display())])
            .args(["--ctrl", &format!("type=unixio,path={}", directory.join("tpm.ctrl").display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    /// Runs a tool of tpm2-tools against it, in the directory.
    fn tool(&mut self, directory: &Path, words: &[&str]) {
        let due = Instant::now() + Duration::from_secs(20);
        while !self.socket.exists() {
            assert!(self.child.try_wait().unwrap().is_none() && Instant::now() < due, "swtpm does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = Command::new(words[0])
            .args(&words[1..])
            .current_dir(directory)
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.socket.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes a restricted signing key of the endorsement hierarchy, and leaves its context, public area and PEM.
    fn make_ak(&mut self, directory: &Path, algorithm: &str) {
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
        self.tool(
            directory,
            &["tpm2_createprimary", "-Q", "-C", "e", "-G", algorithm, "-a", attributes, "-c", "ak.ctx"],
        );
        for (form, file) in [("pem", "ak.pem"), ("tss", "ak.tpm2b")] {
            // No resource manager is between: what a tool loaded must go before the next.
            self.tool(directory, &["tpm2_flushcontext", "-t"]);
            self.tool(directory, &["tpm2_readpublic", "-Q", "-c", "ak.ctx", "-f", form, "-o", file]);
        }
        self.tool(directory, &["tpm2_flushcontext", "-t"]);
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tools_are_missing() -> bool {
    let is_there = |tool: &&str| Command::new(*tool).arg("--version").output().is_ok();
    let missing = !["setpriv", "swtpm", "tpm2_quote"].iter().all(is_there);
    if missing {
        eprintln!("skipped: tools/install-packages installs swtpm and tpm2-tools");
    }
    missing
}

/// The exit code and the report of `quotary inspect quote` on what is in the directory.
fn inspect(directory: &Path, key: &str, nonce: &str) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_quotary"))
        .args(["inspect", "quote", "--ak", key, "--message", "quote.msg", "--signature", "quote.sig"])
        .args(["--pcrs", "quote.pcrs", "--nonce", nonce, "--json"])
        .current_dir(directory)
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_quote_made_now_by_tpm2_quote_verifies_and_shows_an_extended_pcr() {
    if tools_are_missing() {
        return;
    }
    for algorithm in ["ecc:ecdsa-sha256:null", "rsa2048:rsassa-sha256:null"] {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let mut tpm = Swtpm::start(directory);
        tpm.make_ak(directory, algorithm);
        let digest = "5a".repeat(32);
        tpm.tool(directory, &["tpm2_pcrextend", &format!("10:sha256={digest}")]);
        for form in ["serialized", "values"] {
            let words = ["tpm2_quote", "-Q", "-c", "ak.ctx", "-l", "sha256:0,7,10", "-q", "5f1e00ff", "-g", "sha256"];
            let files = ["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs", "-F", form];
            tpm.tool(directory, &[&words[..], &files].concat());
            tpm.tool(directory, &["tpm2_flushcontext", "-t"]);
            for key in ["ak.pem", "ak.tpm2b"] {
                let (code, said) = inspect(directory, key, "5f1e00ff");
                assert_eq!((code, &said["verified"]), (Some(0), &true.into()), "{algorithm} {form} {key}: {said}");
                let extended = [[0; 32], [0x5a; 32]].concat();
                let expected = quotary_common::id::Digest::of(&[&extended]).hex();
                assert_eq!(said["pcrs"]["sha256"]["10"], expected, "{algorithm} {form}");
                assert_eq!(said["attest"]["extra_data"], "5f1e00ff");
            }
            let (code, said) = inspect(directory, "ak.pem", "5f1e00fe");
            assert_eq!((code, &said["reasons"][0]["code"]), (Some(1), &"extra-data".into()), "{said}");
        }
    }
}
