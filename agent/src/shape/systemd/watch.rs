//! Hears of reloads and of units that come and go, so that what is known of them is looked up again.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use zbus::blocking::MessageIterator;
use zbus::zvariant::OwnedObjectPath;
use zbus::{MatchRule, Message};

use super::bus::{connection, manager};
use crate::shape::ShapeError;

/// Signals that may wait: what matters is that there was one.
const WAITING_MAX: usize = 64;

/// Units that are remembered by name; more of them are all.
const CHANGED_MAX: usize = 256;

/// What may be another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// Everything: the manager has read its files again, or too much happened.
    All,
    /// Nothing is heard any more: everything, each time.
    Deaf,
    /// These units came or went.
    Units(BTreeSet<String>),
}

impl Changed {
    fn take(&mut self) -> Self {
        match self {
            Self::Deaf => Self::Deaf,
            _ => mem::replace(self, Self::Units(BTreeSet::new())),
        }
    }

    fn add(&mut self, unit: Option<String>) {
        match (&mut *self, unit) {
            (Self::Units(units), Some(unit)) if units.len() < CHANGED_MAX => {
                units.insert(unit);
            }
            (Self::Deaf, _) => {}
            _ => *self = Self::All,
        }
    }
}

/// What changed since it was asked last.
#[derive(Debug)]
pub(super) struct Watch(Arc<Mutex<Changed>>);

/// The unit that a signal tells of, if it is one that matters: `Some(None)` for all of them.
fn heard(signal: &Message) -> Option<Option<String>> {
    let header = signal.header();
    match header.member()?.as_str() {
        "Reloading" => Some(None),
        "UnitNew" | "UnitRemoved" => {
            let told = signal.body();
            Some(told.deserialize::<(String, OwnedObjectPath)>().ok().map(|(unit, _)| unit))
        }
        _ => None,
    }
}

impl Watch {
    /// Starts to listen, in a thread that ends with the connection.
    pub(super) fn start() -> Result<Self, ShapeError> {
        let bus = |source| ShapeError::Bus(Box::new(source));
        let connection = connection()?;
        // Without a subscriber the manager sends nothing.
        let subscribed: zbus::Result<()> = manager(&connection)?.call("Subscribe", &());
        subscribed.map_err(bus)?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.systemd1")
            .and_then(|rule| rule.interface("org.freedesktop.systemd1.Manager"))
            .map(|rule| rule.build())
            .map_err(bus)?;
        let signals = MessageIterator::for_match_rule(rule, &connection, Some(WAITING_MAX)).map_err(bus)?;
        let changed = Arc::new(Mutex::new(Changed::Units(BTreeSet::new())));
        let told = Arc::clone(&changed);
        let listen = move || {
            for unit in signals.flatten().filter_map(|signal| heard(&signal)) {
                told.lock().unwrap_or_else(PoisonError::into_inner).add(unit);
            }
            tracing::warn!("systemd's signals are heard no longer: units are asked for each time");
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Changed::Deaf;
        };
        std::thread::Builder::new().name("units".to_owned()).stack_size(128 * 1024).spawn(listen).map_err(
            |source| ShapeError::File { step: "start the thread that hears of", path: "units".into(), source },
        )?;
        Ok(Self(changed))
    }

    /// What changed; asked again, nothing did.
    pub(super) fn take_changed(&self) -> Changed {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn signal(member: &str, unit: &str) -> Message {
        let path = OwnedObjectPath::try_from("/org/freedesktop/systemd1/unit/u").unwrap();
        let builder = Message::signal("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", member).unwrap();
        builder.build(&(unit, path)).unwrap()
    }

    #[test]
    fn a_unit_that_comes_or_goes_is_told_by_its_name_and_a_reload_means_all() {
        assert_eq!(heard(&signal("UnitNew", "a.service")), Some(Some("a.service".to_owned())));
        assert_eq!(heard(&signal("UnitRemoved", "a.service")), Some(Some("a.service".to_owned())));
        assert_eq!(heard(&signal("Reloading", "")), Some(None));
        assert_eq!(heard(&signal("JobNew", "a.service")), None);
    }

    #[test]
    fn too_many_names_and_words_that_are_not_understood_mean_all() {
        let mut changed = Changed::Units(BTreeSet::new());
        for n in 0..CHANGED_MAX {
            changed.add(Some(format!("{n}.service")));
        }
        assert!(matches!(&changed, Changed::Units(units) if units.len() == CHANGED_MAX));
        changed.add(Some("more.service".to_owned()));
        assert_eq!(changed, Changed::All);
        changed.add(Some("again.service".to_owned()));
        assert_eq!(changed, Changed::All);
        let mut changed = Changed::Units(BTreeSet::new());
        changed.add(None);
        assert_eq!(changed.take(), Changed::All);
        assert_eq!(changed.take(), Changed::Units(BTreeSet::new()), "told once");
        let mut changed = Changed::Deaf;
        changed.add(Some("a.service".to_owned()));
        assert_eq!([changed.take(), changed.take()], [Changed::Deaf, Changed::Deaf]);
    }
}
