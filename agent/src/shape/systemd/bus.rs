//! The calls to the systemd manager that are needed, and no more.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zbus::blocking::connection::Builder;
use zbus::blocking::proxy::Builder as ProxyBuilder;
use zbus::blocking::{Connection, Proxy};
use zbus::proxy::CacheProperties;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value as Variant};

use super::calls::{Manager, UnitSeen};
use super::property::Assignment;
use crate::shape::ShapeError;

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// How long one call may take. A reload of a large host takes seconds; one that takes longer is done all the same.
const CALL: Duration = Duration::from_secs(10);
/// After a call without an answer none is made for so long: a manager that hangs must not keep whoever asks for each of hundreds of
/// units, past its watchdog.
const SILENCE: Duration = Duration::from_secs(30);
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The way to the manager: a connection that is made when it is needed, and anew after it broke.
#[derive(Debug, Default)]
pub(in crate::shape) struct Bus(Mutex<Way>);

#[derive(Debug, Default)]
struct Way {
    connection: Option<Connection>,
    /// Nothing is asked before.
    silent_until: Option<Instant>,
}

fn unreachable(source: zbus::Error) -> ShapeError {
    ShapeError::Bus(Box::new(source))
}

/// Opens a connection to the system bus.
pub(super) fn connection() -> Result<Connection, ShapeError> {
    Builder::system().and_then(|builder| builder.method_timeout(CALL).build()).map_err(unreachable)
}

/// An object of systemd's. Kept properties would cost more than they save: the first look would ask for all of them, some
/// hundred of a service, and have the manager tell of each change.
fn object(
    connection: &Connection,
    path: OwnedObjectPath,
    interface: &'static str,
) -> Result<Proxy<'static>, ShapeError> {
    let builder: zbus::Result<ProxyBuilder<'static, Proxy<'static>>> =
        ProxyBuilder::new(connection).destination(DESTINATION).and_then(|builder| builder.path(path));
    let named = builder.and_then(|builder| builder.interface(interface));
    named.and_then(|builder| builder.cache_properties(CacheProperties::No).build()).map_err(unreachable)
}

/// The manager itself.
pub(super) fn manager(connection: &Connection) -> Result<Proxy<'static>, ShapeError> {
    let path = OwnedObjectPath::try_from(MANAGER_PATH).map_err(|source| unreachable(source.into()))?;
    object(connection, path, MANAGER)
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
    fn connection(&self) -> Result<Connection, ShapeError> {
        let mut way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if way.silent_until.is_some_and(|until| Instant::now() < until) {
            return Err(ShapeError::Silent);
        }
        if let Some(connection) = way.connection.as_ref() {
            return Ok(connection.clone());
        }
        let connection = connection()?;
        way.connection = Some(connection.clone());
        Ok(connection)
    }

    fn manager(&self) -> Result<Proxy<'static>, ShapeError> {
        manager(&self.connection()?)
    }

    /// What a call that failed means; a connection that broke is made anew with the next.
    fn failed(&self, step: &'static str, unit: &str, source: zbus::Error) -> ShapeError {
        if let zbus::Error::InputOutput(error) = &source {
            let mut way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            way.connection = None;
            way.silent_until = (error.kind() == ErrorKind::TimedOut).then(|| Instant::now() + SILENCE);
        }
        failed(step, unit, source)
    }

    fn get<T>(&self, proxy: &Proxy<'_>, property: &'static str, unit: &str) -> Result<T, ShapeError>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        proxy.get_property(property).map_err(|source| self.failed("tell of", unit, source))
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
        started.map(drop).map_err(|source| self.failed("start", unit, source))
    }

    /// Whether the manager knows a unit by this name now.
    pub(in crate::shape) fn is_loaded(&self, unit: &str) -> Result<bool, ShapeError> {
        let found: zbus::Result<OwnedObjectPath> = self.manager()?.call("GetUnit", &(unit,));
        match found {
            Ok(_) => Ok(true),
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => Ok(false),
            Err(source) => Err(self.failed("tell of", unit, source)),
        }
    }

    /// Whether there is a file of a unit, or of a template.
    pub(in crate::shape) fn has_file(&self, unit: &str) -> Result<bool, ShapeError> {
        let state: zbus::Result<String> = self.manager()?.call("GetUnitFileState", &(unit,));
        match state {
            Ok(state) => Ok(!state.starts_with("masked") && state != "bad"),
            // The manager answers with an error where there is none.
            Err(zbus::Error::MethodError(..)) => Ok(false),
            Err(source) => Err(self.failed("tell of", unit, source)),
        }
    }

    /// Stops a unit; one that is not there is stopped.
    pub(in crate::shape) fn stop(&self, unit: &str) -> Result<(), ShapeError> {
        let stopped: zbus::Result<OwnedObjectPath> = self.manager()?.call("StopUnit", &(unit, "replace"));
        match stopped {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => Ok(()),
            Err(source) => Err(self.failed("stop", unit, source)),
            Ok(_) => Ok(()),
        }
    }
}

impl Manager for Bus {
    fn unit(&self, unit: &str) -> Result<Option<UnitSeen>, ShapeError> {
        let Some(interface) = interface_of(unit) else { return Ok(None) };
        let path: OwnedObjectPath = match self.manager()?.call("GetUnit", &(unit,)) {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => return Ok(None),
            Err(source) => return Err(self.failed("tell of", unit, source)),
        };
        let connection = self.connection()?;
        let about = object(&connection, path.clone(), UNIT)?;
        let resources = object(&connection, path, interface)?;
        let control_group: String = self.get(&resources, "ControlGroup", unit)?;
        if control_group.is_empty() {
            return Ok(None);
        }
        let policy: String = self.get(&resources, "ManagedOOMMemoryPressure", unit)?;
        let limit: u32 = self.get(&resources, "ManagedOOMMemoryPressureLimit", unit)?;
        let has_own_network = unit.ends_with(".service")
            && (self.get::<bool>(&resources, "PrivateNetwork", unit)?
                || !self.get::<String>(&resources, "NetworkNamespacePath", unit)?.is_empty());
        Ok(Some(UnitSeen {
            has_own_network,
            id: self.get(&about, "Id", unit)?,
            drop_in_paths: self.get(&about, "DropInPaths", unit)?,
            control_group,
            is_transient: self.get(&about, "Transient", unit)?,
            slice: self.get(&resources, "Slice", unit)?,
            oomd: (policy == "kill").then(|| limit_permille(limit)),
        }))
    }

    fn set(&self, unit: &str, assignments: &[Assignment]) -> Result<(), ShapeError> {
        let properties: Vec<(&str, &Variant<'_>)> = assignments.iter().map(|one| (one.name, &one.value)).collect();
        let set: zbus::Result<()> = self.manager()?.call("SetUnitProperties", &(unit, true, properties));
        set.map_err(|source| self.failed("set a property of", unit, source))
    }

    fn reload(&self) -> Result<(), ShapeError> {
        let done: zbus::Result<()> = self.manager()?.call("Reload", &());
        done.map_err(|source| self.failed("reload", "its units", source))
    }

    fn start_scope(&self, scope: &str, slice: &str, pid: u32, about: &str) -> Result<(), ShapeError> {
        let properties = [
            ("Description", Variant::from(about)),
            ("Slice", Variant::from(slice)),
            ("PIDs", Variant::from(vec![pid])),
            // Delegated, with no controllers to pass on: only then further processes can be attached.
            ("DelegateControllers", Variant::from(Vec::<String>::new())),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("CPUAccounting", Variant::Bool(true)),
            ("MemoryAccounting", Variant::Bool(true)),
            ("IOAccounting", Variant::Bool(true)),
        ];
        self.start_transient(scope, &properties, &[])
    }

    fn attach(&self, unit: &str, pid: u32) -> Result<(), ShapeError> {
        let attached: zbus::Result<()> = self.manager()?.call("AttachProcessesToUnit", &(unit, "", vec![pid]));
        attached.map_err(|source| self.failed("attach a process to", unit, source))
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

fn failed(step: &'static str, unit: &str, source: zbus::Error) -> ShapeError {
    ShapeError::Systemd { step, unit: unit.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn after_a_call_without_an_answer_nobody_is_asked_for_a_while() {
        let bus = Bus::default();
        let without = |kind: ErrorKind| zbus::Error::InputOutput(Arc::new(kind.into()));
        let _ = bus.failed("tell of", "a.service", without(ErrorKind::BrokenPipe));
        assert!(!matches!(bus.connection(), Err(ShapeError::Silent)), "one that broke is made anew");
        let told = bus.failed("tell of", "a.service", without(ErrorKind::TimedOut));
        assert!(told.is_away());
        assert!(matches!(bus.connection(), Err(ShapeError::Silent)));
        assert!(matches!(bus.reload(), Err(ShapeError::Silent)));
    }
}
