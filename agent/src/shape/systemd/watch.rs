//! Hears of reloads and of units that come and go, so that what is known of them is looked up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zbus::MatchRule;
use zbus::blocking::{MessageIterator, Proxy};

use super::bus::connection;
use crate::shape::ShapeError;

/// Signals that may wait: what matters is that there was one.
const WAITING_MAX: usize = 64;

/// Whether anything changed since it was asked last.
#[derive(Debug)]
pub(super) struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Starts to listen, in a thread that ends with the connection.
    pub(super) fn start() -> Result<Self, ShapeError> {
        let bus = |source| ShapeError::Bus(Box::new(source));
        let connection = connection()?;
        let manager = Proxy::new(
            &connection,
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        );
        // Without a subscriber the manager sends nothing.
        let subscribed: zbus::Result<()> = manager.and_then(|manager| manager.call("Subscribe", &()));
        subscribed.map_err(bus)?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.systemd1")
            .and_then(|rule| rule.interface("org.freedesktop.systemd1.Manager"))
            .map(|rule| rule.build())
            .map_err(bus)?;
        let signals = MessageIterator::for_match_rule(rule, &connection, Some(WAITING_MAX)).map_err(bus)?;
        let changed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&changed);
        let listen = move || {
            for signal in signals.flatten() {
                let header = signal.header();
                let member = header.member().map(|member| member.as_str().to_owned()).unwrap_or_default();
                if matches!(member.as_str(), "Reloading" | "UnitNew" | "UnitRemoved") {
                    told.store(true, Ordering::Release);
                }
            }
            tracing::warn!("systemd's signals are heard no longer: units are still looked at each second");
        };
        std::thread::Builder::new().name("units".to_owned()).stack_size(128 * 1024).spawn(listen).map_err(
            |source| ShapeError::File { step: "start the thread that hears of", path: "units".into(), source },
        )?;
        Ok(Self(changed))
    }

    /// Whether there was a change; asked again, there was none.
    pub(super) fn take_changed(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
