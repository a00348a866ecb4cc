//! The calls to the systemd manager that are needed, and no more.

use std::time::Duration;

use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, Proxy};
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value as Variant};

use super::property::Assignment;
use crate::shape::ShapeError;

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// How long one call may take: a reload of a large host takes seconds.
const CALL: Duration = Duration::from_secs(25);
/// Slices above a unit that are looked at.
const DEPTH_MAX: usize = 16;

/// The connection to the manager.
#[derive(Debug)]
pub(in crate::shape) struct Bus {
    connection: Connection,
}

/// A unit as the manager tells of it.
#[derive(Debug, Clone)]
pub(super) struct UnitSeen {
    /// Its cgroup, from the root.
    pub(super) control_group: String,
    /// Whether it was made at run time and has no file.
    pub(super) is_transient: bool,
    /// The slice above it; empty for the root.
    slice: String,
    oomd: Option<u16>,
}

fn unreachable(source: zbus::Error) -> ShapeError {
    ShapeError::Bus(Box::new(source))
}

/// Opens a connection to the system bus.
pub(super) fn connection() -> Result<Connection, ShapeError> {
    Builder::system().and_then(|builder| builder.method_timeout(CALL).build()).map_err(unreachable)
}

/// The interface that has the resource properties of a unit.
fn interface_of(unit: &str) -> Option<&'static str> {
    match unit.rsplit_once('.')?.1 {
        "service" => Some("org.freedesktop.systemd1.Service"),
        "slice" => Some("org.freedesktop.systemd1.Slice"),
        "scope" => Some("org.freedesktop.systemd1.Scope"),
        _ => None,
    }
}

impl Bus {
    /// Connects to the system bus.
    pub(in crate::shape) fn connect() -> Result<Self, ShapeError> {
        Ok(Self { connection: connection()? })
    }

    fn manager(&self) -> Result<Proxy<'_>, ShapeError> {
        Proxy::new(&self.connection, DESTINATION, MANAGER_PATH, MANAGER).map_err(unreachable)
    }

    /// A unit that runs; `None` for one that does not, or has no cgroup.
    pub(super) fn unit(&self, unit: &str) -> Result<Option<UnitSeen>, ShapeError> {
        let Some(interface) = interface_of(unit) else { return Ok(None) };
        let path: OwnedObjectPath = match self.manager()?.call("GetUnit", &(unit,)) {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => {
                return Ok(None);
            }
            Err(source) => return Err(failed("tell of", unit, source)),
        };
        let about = Proxy::new(&self.connection, DESTINATION, path.clone(), UNIT).map_err(unreachable)?;
        let resources = Proxy::new(&self.connection, DESTINATION, path, interface).map_err(unreachable)?;
        let control_group: String = get(&resources, "ControlGroup", unit)?;
        if control_group.is_empty() {
            return Ok(None);
        }
        let policy: String = get(&resources, "ManagedOOMMemoryPressure", unit)?;
        let limit: u32 = get(&resources, "ManagedOOMMemoryPressureLimit", unit)?;
        Ok(Some(UnitSeen {
            control_group,
            is_transient: get(&about, "Transient", unit)?,
            slice: get(&resources, "Slice", unit)?,
            oomd: (policy == "kill").then(|| limit_permille(limit)),
        }))
    }

    /// At which pressure systemd-oomd kills the unit: the least of its own limit and those of the slices above.
    pub(super) fn oomd_limit_permille(&self, seen: &UnitSeen) -> Result<Option<u16>, ShapeError> {
        let mut least = seen.oomd;
        let mut above = seen.slice.clone();
        for _ in 0..DEPTH_MAX {
            if above.is_empty() {
                break;
            }
            let Some(slice) = self.unit(&above)? else { break };
            least = match (least, slice.oomd) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            above = slice.slice;
        }
        Ok(least)
    }

    /// Sets a property until the next boot.
    pub(super) fn set(&self, unit: &str, assignment: &Assignment) -> Result<(), ShapeError> {
        let properties = [(assignment.name, &assignment.value)];
        let set: zbus::Result<()> = self.manager()?.call("SetUnitProperties", &(unit, true, &properties[..]));
        set.map_err(|source| failed("set a property of", unit, source))
    }

    /// Has the manager read all unit files again.
    pub(super) fn reload(&self) -> Result<(), ShapeError> {
        let done: zbus::Result<()> = self.manager()?.call("Reload", &());
        done.map_err(|source| failed("reload", "its units", source))
    }

    /// Starts a unit that has no file, with units that go with it.
    pub(in crate::shape) fn start_transient(
        &self,
        unit: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, &[(&str, Variant<'_>)])],
    ) -> Result<(), ShapeError> {
        let started: zbus::Result<OwnedObjectPath> =
            self.manager()?.call("StartTransientUnit", &(unit, "replace", properties, auxiliary));
        started.map(drop).map_err(|source| failed("start", unit, source))
    }

    /// Stops a unit; one that is not there is stopped.
    pub(in crate::shape) fn stop(&self, unit: &str) -> Result<(), ShapeError> {
        let stopped: zbus::Result<OwnedObjectPath> = self.manager()?.call("StopUnit", &(unit, "replace"));
        match stopped {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
            Err(source) => Err(failed("stop", unit, source)),
            Ok(_) => Ok(()),
        }
    }
}

/// systemd scales a fraction to 32 bits.
fn limit_permille(scaled: u32) -> u16 {
    // Never told to: oomd's default of 60 % holds.
    if scaled == 0 {
        return 600;
    }
    u16::try_from(u64::from(scaled) * 1000 / u64::from(u32::MAX)).unwrap_or(1000)
}

fn get<T>(proxy: &Proxy<'_>, property: &'static str, unit: &str) -> Result<T, ShapeError>
where
    T: TryFrom<OwnedValue>,
    T::Error: Into<zbus::Error>,
{
    proxy.get_property(property).map_err(|source| failed("tell of", unit, source))
}

fn failed(step: &'static str, unit: &str, source: zbus::Error) -> ShapeError {
    ShapeError::Systemd { step, unit: unit.to_owned(), source: Box::new(source) }
}
