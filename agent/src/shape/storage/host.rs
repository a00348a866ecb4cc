//! Looking at a project and setting its soft limit on this host, by the tools of quotas.

use std::path::Path;

use super::form::{Directory, Limits, Mounted, PROJECTS, PutBack, WRITTEN_MAX, is_directory};
use super::parse;
use crate::shape::hand::{HandError, Tool, run};

const LSATTR: Tool = Tool { name: "lsattr", package: "e2fsprogs" };
const REPQUOTA: Tool = Tool { name: "repquota", package: "quota" };
const SETQUOTA: Tool = Tool { name: "setquota", package: "quota" };
/// The most that a limit can be, KiB: 2^60 bytes.
const LIMIT_KIB_MAX: u64 = 1 << 50;
/// File systems round limits to their blocks, KiB.
const ROUNDING_KIB: u64 = 64;

/// Where a directory is mounted; why no project has a limit there, otherwise.
pub(super) fn mounted(root: &Path, path: &str) -> Result<Mounted, String> {
    let there = root.join(path.trim_start_matches('/'));
    match std::fs::canonicalize(&there) {
        Ok(real) if real == there && real.is_dir() => {}
        Ok(_) => return Err(format!("{path} is no directory, or leads through a link")),
        Err(error) => return Err(format!("{path} cannot be entered: {error}")),
    }
    let mounted =
        parse::mounted(&mountinfo(root), path).ok_or_else(|| format!("it cannot be told where {path} is mounted"))?;
    if let Some(why) = mounted.why_not() {
        return Err(why);
    }
    if mounted.point == path {
        return Err(format!("{path} is a whole file system: name a directory in it"));
    }
    Ok(mounted)
}

fn mountinfo(root: &Path) -> String {
    std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default()
}

/// What a directory's project uses and may use.
pub(in crate::shape) fn look(root: &Path, directory: &Directory) -> Result<Limits, HandError> {
    let mounted = checked(root, directory)?;
    limits(&mounted, directory.project)
}

/// Sets the soft limit of a directory's project; the others stay as they are.
pub(in crate::shape) fn bring(
    root: &Path,
    directory: &Directory,
    soft_kib: u64,
    may_be_new: bool,
) -> Result<(), HandError> {
    if soft_kib > LIMIT_KIB_MAX {
        return Err(HandError::Refused(format!("{soft_kib} KiB is no limit")));
    }
    let mounted = checked(root, directory)?;
    let limits = limits(&mounted, directory.project)?;
    set(&mounted, directory.project, limits, soft_kib, may_be_new)
}

/// Puts the soft limit of a project back where what was written last still stands; the limits that stand then.
///
/// It needs the file system, and nothing of the directory: that may be gone, a link, or of no project by now.
pub(in crate::shape) fn put_back(root: &Path, wanted: &PutBack) -> Result<Limits, HandError> {
    let Directory { path, project } = &wanted.directory;
    if !is_directory(path) || !PROJECTS.contains(project) || wanted.soft_kib > LIMIT_KIB_MAX {
        return Err(HandError::Refused(format!("{path:?} with project {project} is no directory of a project")));
    }
    if wanted.written_kib.len() > WRITTEN_MAX {
        return Err(HandError::Refused("that is more than was written".to_owned()));
    }
    let (mounted, is_sure) = place_of(&mountinfo(root), wanted).map_err(HandError::Refused)?;
    let limits = limits(&mounted, *project)?;
    match next(&limits, wanted) {
        Next::Nothing => Ok(limits),
        Next::Leave if is_sure => Ok(limits),
        Next::Leave => {
            let point = &mounted.point;
            Err(HandError::Refused(format!("another file system than that of {path} is mounted at {point}")))
        }
        Next::Set => {
            set(&mounted, *project, limits, wanted.soft_kib, false)?;
            Ok(Limits { soft_kib: wanted.soft_kib, ..limits })
        }
    }
}

/// What is to be done to put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It stands there already.
    Nothing,
    /// Ours stands there.
    Set,
    /// Somebody else's stands there.
    Leave,
}

pub(super) fn next(limits: &Limits, wanted: &PutBack) -> Next {
    let is_ours = |written: &u64| match (*written, limits.soft_kib) {
        (0, stands) => stands == 0,
        // No limit is nobody's rounding.
        (_, 0) => false,
        (written, stands) => written.abs_diff(stands) <= ROUNDING_KIB,
    };
    if limits.soft_kib == wanted.soft_kib {
        Next::Nothing
    } else if wanted.written_kib.iter().any(is_ours) {
        Next::Set
    } else {
        Next::Leave
    }
}

/// Where the file system of a project is mounted now, and whether it is known to be the one from before.
pub(super) fn place_of(mountinfo: &str, wanted: &PutBack) -> Result<(Mounted, bool), String> {
    let PutBack { directory, mount_point, device, .. } = wanted;
    let path = mount_point.as_ref().unwrap_or(&directory.path);
    let found = parse::again(mountinfo, path, device.as_deref());
    let mounted = found.ok_or_else(|| format!("the file system of {} is not mounted", directory.path))?;
    if let Some(why) = mounted.why_not() {
        return Err(why);
    }
    // A note of a version before says no device: then the path is all that is known.
    let is_sure = device.as_ref().is_none_or(|device| *device == mounted.device);
    Ok((mounted, is_sure))
}

fn set(mounted: &Mounted, project: u32, limits: Limits, soft_kib: u64, may_be_new: bool) -> Result<(), HandError> {
    let words = words(project, limits, soft_kib, may_be_new)?;
    let mut arguments = vec!["-P"];
    arguments.extend(words.iter().map(String::as_str));
    arguments.push(&mounted.point);
    run(SETQUOTA, &arguments, "").map(drop)
}

/// `PROJECT SOFT HARD SOFT-FILES HARD-FILES`: setquota sets all of them at once, so that all have to be known.
pub(super) fn words(project: u32, limits: Limits, soft_kib: u64, may_be_new: bool) -> Result<[String; 5], HandError> {
    if limits.is_new && !may_be_new {
        return Err(HandError::Refused(format!("repquota does not say the limits of project {project}")));
    }
    let Limits { hard_kib, soft_files, hard_files, .. } = limits;
    Ok([u64::from(project), soft_kib, hard_kib, soft_files, hard_files].map(|number| number.to_string()))
}

/// (`repquota` cannot be asked for one project; `quota` can, and says with its exit code that a limit is exceeded.)
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
