//! What the kernel and the tools of quotas print. Pure; whatever comes, nothing here panics.

use super::form::{Limits, Mounted};

/// Where a path is mounted, by `mountinfo` (proc(5)): the last of the deepest mount points that hold it.
pub(super) fn mounted(mountinfo: &str, path: &str) -> Option<Mounted> {
    let mut best: Option<Mounted> = None;
    for mount in mountinfo.lines().filter_map(mount) {
        let inside = path.strip_prefix(mount.point.trim_end_matches('/'));
        let holds = inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if holds && best.as_ref().is_none_or(|best| mount.point.len() >= best.point.len()) {
            best = Some(mount);
        }
    }
    best
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPER-OPTIONS`
fn mount(line: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let (kind, device, options) = (after.next()?, after.next()?, after.next()?);
    let options = options.split(',').map(str::to_owned).collect();
    Some(Mounted { point: unescaped(point), kind: kind.to_owned(), device: unescaped(device), options })
}

/// Where a file system is mounted now that was mounted at `path`, or held it: the same device at the same place, else anywhere,
/// else whatever is there.
pub(super) fn again(mountinfo: &str, path: &str, device: Option<&str>) -> Option<Mounted> {
    let there = mounted(mountinfo, path);
    let is_it = |mount: &Mounted| Some(mount.device.as_str()) == device;
    if there.as_ref().is_some_and(is_it) || device.is_none() {
        return there;
    }
    mountinfo.lines().rev().filter_map(mount).find(is_it).or(there)
}

/// Blanks and backslashes stand as `\040` and the like.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let code = escaped.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = escaped.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = escaped;
            }
        }
    }
    out + rest
}

/// A directory's project and whether what is made in it gets the same, by `lsattr -pd`: `PROJECT FLAGS PATH`.
pub(super) fn project(text: &str) -> Option<(u32, bool)> {
    let mut words = text.lines().next()?.split_ascii_whitespace();
    let (project, flags) = (words.next()?.parse().ok()?, words.next()?);
    Some((project, flags.contains('P')))
}

/// A project's limits, by the whole of `repquota -P -n -v -p -O csv`; new and without where it has no line. `None` where that
/// is no answer.
///
/// `Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace`
pub(super) fn limits(text: &str, project: u32) -> Option<Limits> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Project,"));
    let head: Vec<&str> = lines.next()?.split(',').collect();
    let column = |name: &str| head.iter().position(|word| *word == name);
    let wanted = ["BlockUsed", "BlockSoftLimit", "BlockHardLimit", "FileSoftLimit", "FileHardLimit"];
    let columns: Option<Vec<usize>> = wanted.into_iter().map(column).collect();
    let columns = columns?;
    let name = format!("#{project}");
    let Some(line) = lines.find(|line| line.split(',').next() == Some(name.as_str())) else {
        return Some(Limits { is_new: true, ..Limits::default() });
    };
    let words: Vec<&str> = line.split(',').collect();
    let mut numbers = columns.into_iter().map(|column| words.get(column)?.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (used_kib, soft_kib, hard_kib) = (next()?, next()?, next()?);
    Some(Limits { used_kib, soft_kib, hard_kib, soft_files: next()?, hard_files: next()?, is_new: false })
}
