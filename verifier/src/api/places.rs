//! Places for connections: strangers may fill a part of them, and one address a part of that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Strangers have one place in so many of all, and one address one in so many of the strangers'.
const SHARE: usize = 4;

/// All places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    strangers: Arc<Semaphore>,
    hosts: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    address_max: usize,
}

/// A connection's place; given back when it goes.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stranger { address: IpAddr, _permit: OwnedSemaphorePermit },
    Host { _permit: OwnedSemaphorePermit },
}

impl Places {
    /// `connections_max` places in all, at least two.
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        let strangers = (connections_max / SHARE).max(1);
        Arc::new(Self {
            strangers: Arc::new(Semaphore::new(strangers)),
            hosts: Arc::new(Semaphore::new(connections_max.saturating_sub(strangers).max(1))),
            by_address: Mutex::default(),
            address_max: (strangers / SHARE).max(1),
        })
    }

    /// A stranger's place, if its address and all strangers together have one left.
    pub(super) fn stranger(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let permit = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_address.entry(address).or_default();
        if *taken >= self.address_max {
            return None;
        }
        *taken += 1;
        Some(Place { places: Arc::clone(self), kind: Kind::Stranger { address, _permit: permit } })
    }

    fn leave(&self, address: &IpAddr) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_address.get_mut(address) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                by_address.remove(address);
            }
        }
    }
}

impl Place {
    /// The connection has shown an enrolled key: it moves to a host's place, if there is one.
    pub(super) fn becomes_host(&mut self) {
        let Kind::Stranger { address, .. } = self.kind else { return };
        if let Ok(permit) = Arc::clone(&self.places.hosts).try_acquire_owned() {
            self.kind = Kind::Host { _permit: permit };
            self.places.leave(&address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Kind::Stranger { address, .. } = &self.kind {
            self.places.leave(address);
        }
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_fills_only_its_share_and_strangers_only_theirs() {
        let places = Places::new(64);
        let one: Vec<_> = std::iter::from_fn(|| places.stranger(address("192.0.2.1"))).collect();
        assert_eq!(one.len(), 4);
        assert!(places.stranger(address("::ffff:192.0.2.1")).is_none());
        let others: Vec<_> = (2..200).filter_map(|n| places.stranger(address(&format!("192.0.2.{n}")))).collect();
        assert_eq!(one.len() + others.len(), 16);
        drop(one);
        assert!(places.stranger(address("192.0.2.1")).is_some());
    }

    #[test]
    fn a_host_makes_room_for_strangers() {
        let places = Places::new(16);
        let mut first = places.stranger(address("2001:db8::1")).unwrap();
        assert!(places.stranger(address("2001:db8::2")).is_none(), "one /64 is one address");
        first.becomes_host();
        first.becomes_host();
        let second = places.stranger(address("2001:db8::2")).unwrap();
        drop(first);
        assert!(places.stranger(address("2001:db8::3")).is_none());
        drop(second);
        assert!(places.by_address.lock().unwrap().is_empty());
    }
}
