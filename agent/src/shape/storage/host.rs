//! Looking at a project and setting its soft limit on this host, by the tools of quotas.

use std::path::Path;

use super::form::{Directory, Limits, Mounted, PROJECTS, is_directory};
use super::parse;
use crate::shape::hand::{HandError, Tool, run};

const LSATTR: Tool = Tool { name: "lsattr", package: "e2fsprogs" };
const REPQUOTA: Tool = Tool { name: "repquota", package: "quota" };
const SETQUOTA: Tool = Tool { name: "setquota", package: "quota" };
/// The most that a limit can be, KiB: 2^60 bytes.
const LIMIT_KIB_MAX: u64 = 1 << 50;

/// Where a directory is mounted; why no project has a limit there, otherwise.
pub(super) fn mounted(root: &Path, path: &str) -> Result<Mounted, String> {
    let there = root.join(path.trim_start_matches('/'));
    match std::fs::canonicalize(&there) {
        Ok(real) if real == there && real.is_dir() => {}
        Ok(_) => return Err(format!("{path} is no directory, or leads through a link")),
        Err(error) => return Err(format!("{path} cannot be entered: {error}")),
    }
    let mountinfo = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mounted =
        parse::mounted(&mountinfo, path).ok_or_else(|| format!("it cannot be told where {path} is mounted"))?;
    if let Some(why) = mounted.why_not() {
        return Err(why);
    }
    if mounted.point == path {
        return Err(format!("{path} is a whole file system: name a directory in it"));
    }
    Ok(mounted)
}

/// What a directory's project uses and may use.
pub(in crate::shape) fn look(root: &Path, directory: &Directory) -> Result<Limits, HandError> {
    let mounted = checked(root, directory)?;
    limits(&mounted, directory.project)
}

/// Sets the soft limit of a directory's project; the others stay as they are.
pub(in crate::shape) fn bring(root: &Path, directory: &Directory, soft_kib: u64) -> Result<(), HandError> {
    if soft_kib > LIMIT_KIB_MAX {
        return Err(HandError::Refused(format!("{soft_kib} KiB is no limit")));
    }
    let mounted = checked(root, directory)?;
    let Limits { hard_kib, soft_files, hard_files, .. } = limits(&mounted, directory.project)?;
    let words =
        [u64::from(directory.project), soft_kib, hard_kib, soft_files, hard_files].map(|number| number.to_string());
    let mut arguments = vec!["-P"];
    arguments.extend(words.iter().map(String::as_str));
    arguments.push(&mounted.point);
    run(SETQUOTA, &arguments, "").map(drop)
}

fn limits(mounted: &Mounted, project: u32) -> Result<Limits, HandError> {
    let report = run(REPQUOTA, &["-P", "-n", "-v", "-p", "-O", "csv", &mounted.point], "")?;
    parse::limits(&report, project).ok_or(HandError::Form)
}

/// The directory is what the request says it is.
fn checked(root: &Path, directory: &Directory) -> Result<Mounted, HandError> {
    let Directory { path, project } = directory;
    if !is_directory(path) || !PROJECTS.contains(project) {
        return Err(HandError::Refused(format!("{path:?} with project {project} is no directory of a project")));
    }
    let mounted = mounted(root, path).map_err(HandError::Refused)?;
    let told = run(LSATTR, &["-pd", "--", path], "")?;
    match parse::project(&told) {
        Some((found, true)) if found == *project => Ok(mounted),
        Some((found, is_inherited)) => {
            let inherited = if is_inherited { "" } else { ", which files made there do not get" };
            Err(HandError::Refused(format!(
                "{path} has project {found}{inherited}, not {project}: chattr -R -p {project} +P {path}"
            )))
        }
        None => Err(HandError::Form),
    }
}
