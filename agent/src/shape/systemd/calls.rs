//! What is asked of the systemd manager, and no more: the one seam to it.

use std::collections::BTreeMap;
use std::fmt;

use super::property::Assignment;
use crate::shape::ShapeError;

/// Slices above a unit that are looked at.
const DEPTH_MAX: usize = 16;

/// A unit as the manager tells of it.
#[derive(Debug, Clone)]
pub(in crate::shape) struct UnitSeen {
    /// Its own name: it may have been asked for by another.
    pub(in crate::shape) id: String,
    /// Its cgroup, from the root.
    pub(in crate::shape) control_group: String,
    /// Whether it was made at run time and has no file.
    pub(in crate::shape) is_transient: bool,
    /// The drop-ins that it is made of, as far as systemd has read them.
    pub(in crate::shape) drop_in_paths: Vec<String>,
    /// Whether it is a service with a network namespace of its own.
    pub(in crate::shape) has_own_network: bool,
    /// The slice above it; empty for the root.
    pub(in crate::shape) slice: String,
    /// At which pressure systemd-oomd kills it, thousandths, where it was told to.
    pub(in crate::shape) oomd: Option<u16>,
}

/// The systemd manager. Each call fails with [`ShapeError::Bus`] when it cannot be reached.
pub(in crate::shape) trait Manager: fmt::Debug + Send {
    /// A unit that runs; `None` for one that does not, or has no cgroup.
    fn unit(&self, unit: &str) -> Result<Option<UnitSeen>, ShapeError>;

    /// Sets properties until the next boot, all or none.
    fn set(&self, unit: &str, assignments: &[Assignment]) -> Result<(), ShapeError>;

    /// Has it read all unit files again.
    fn reload(&self) -> Result<(), ShapeError>;

    /// Asks for a scope in a slice, with this process in it and no limits. It comes about a little later.
    fn start_scope(&self, scope: &str, slice: &str, pid: u32, about: &str) -> Result<(), ShapeError>;

    /// Moves a process into a scope that is there.
    fn attach(&self, unit: &str, pid: u32) -> Result<(), ShapeError>;

    /// At which pressure systemd-oomd kills the unit: the least of its own limit and those of the slices above. What is
    /// found of a slice is kept in `slices`, and taken from there.
    fn oomd_limit_permille(
        &self,
        seen: &UnitSeen,
        slices: &mut BTreeMap<String, UnitSeen>,
    ) -> Result<Option<u16>, ShapeError> {
        let mut least = seen.oomd;
        let mut above = seen.slice.clone();
        for _ in 0..DEPTH_MAX {
            if above.is_empty() {
                break;
            }
            let slice = match slices.get(&above) {
                Some(known) => known.clone(),
                None => {
                    let Some(found) = self.unit(&above)? else { break };
                    slices.insert(above, found.clone());
                    found
                }
            };
            least = match (least, slice.oomd) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            above = slice.slice;
        }
        Ok(least)
    }
}
