//! What the host says it is and has: read once, at the start.

use std::path::Path;

use quotary_common::envelope::{HostFacts, Name};
use quotary_common::id::BootId;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::error::SampleError;
use super::file::Files;
use super::host::{parse_meminfo, parse_stat};
use super::reader::is_running_host;

/// The facts of the running host (`root` is `/`) from `sysinfo`, those of a tree from its files.
///
/// # Errors
/// [`SampleError`] when a file is missing or garbled, or `sysinfo` cannot tell.
pub fn facts(root: &Path) -> Result<HostFacts, SampleError> {
    let mut files = Files::default();
    let os = os_name(root, &mut files)?;
    if is_running_host(root) {
        return running_facts(os);
    }
    let kernel_directory = root.join("proc/sys/kernel");
    let hostname = required_text(&mut files, &kernel_directory, "hostname")?;
    let kernel = required_text(&mut files, &kernel_directory, "osrelease")?;
    let proc = root.join("proc");
    let stat = files.parse(&proc, "", "stat", parse_stat)?;
    let (_, cpus) = stat.ok_or_else(|| SampleError::Missing { path: proc.join("stat") })?;
    let meminfo = files.parse(&proc, "", "meminfo", parse_meminfo)?;
    let (_, memory_bytes) = meminfo.ok_or_else(|| SampleError::Missing { path: proc.join("meminfo") })?;
    Ok(HostFacts {
        hostname: Name::lossy(hostname.trim()),
        kernel: Name::lossy(kernel.trim()),
        cpu_millicores: cpus.saturating_mul(1000),
        memory_bytes,
        os,
    })
}

fn running_facts(os: Option<Name>) -> Result<HostFacts, SampleError> {
    let fact = |fact: &'static str| move |source: sysinfo::Error| SampleError::Fact { fact, source };
    let wanted =
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()).with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted).map_err(fact("CPUs and memory"))?;
    Ok(HostFacts {
        hostname: Name::lossy(&System::host_name().map_err(fact("name"))?),
        kernel: Name::lossy(&System::kernel_version().map_err(fact("kernel release"))?),
        cpu_millicores: (system.cpus().len() as u64).saturating_mul(1000),
        memory_bytes: system.total_memory(),
        os,
    })
}

/// The boot id under `root`.
///
/// # Errors
/// [`SampleError`] when the file is missing or not a UUID.
pub fn boot_id(root: &Path) -> Result<BootId, SampleError> {
    let mut files = Files::default();
    let text = required_text(&mut files, &root.join("proc/sys/kernel/random"), "boot_id")?;
    BootId::parse(&text).ok_or_else(|| SampleError::Malformed { path: files.path().to_path_buf(), what: "a UUID" })
}

fn required_text(files: &mut Files, directory: &Path, name: &str) -> Result<String, SampleError> {
    files.text(directory, name)?.ok_or_else(|| SampleError::Missing { path: directory.join(name) })
}

/// `PRETTY_NAME` of os-release(5), which `sysinfo` does not give.
fn os_name(root: &Path, files: &mut Files) -> Result<Option<Name>, SampleError> {
    for directory in ["etc", "usr/lib"] {
        if let Some(text) = files.text(&root.join(directory), "os-release")? {
            let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
            return Ok(value.map(|value| Name::lossy(&unquoted(value))));
        }
    }
    Ok(None)
}

/// A shell value: quotes around it go, and each backslash that protects a character.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
    let mut out = String::new();
    let mut is_protected = false;
    for c in inner.chars() {
        if c == '\\' && !is_protected {
            is_protected = true;
            continue;
        }
        is_protected = false;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretty_name_loses_its_quotes() {
        assert_eq!(unquoted("\"Debian GNU/Linux 12 (bookworm)\""), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(unquoted("'Fedora'"), "Fedora");
        assert_eq!(unquoted(r#""A \"B\" \\ C""#), r#"A "B" \ C"#);
        assert_eq!(unquoted("Arch"), "Arch");
        assert_eq!(unquoted("\""), "\"");
    }
}
