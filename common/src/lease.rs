//! A lease with an epoch: the one mechanism behind grants, trust, shard ownership, and fences (design §3).
//!
//! It counts on `CLOCK_BOOTTIME`, which suspend does not stop and nobody sets, within one boot. A grant is
//! worth nothing past its lease.

use serde::{Deserialize, Serialize};

use crate::id::BootId;

/// Until when something holds, on one boot's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The boot whose clock counts.
    pub boot_id: BootId,
    /// The fencing number under which it was given.
    pub epoch: u64,
    /// When it starts, ms.
    pub start_ms: u64,
    /// How long it holds, ms.
    pub lease_ms: u64,
}

/// Whether a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// It holds for so many ms more.
    Running {
        /// What is left, ms; at least 1.
        left_ms: u64,
    },
    /// Its time is over.
    Expired,
    /// Another boot: its clock says nothing here.
    OtherBoot,
    /// The epoch was raised since.
    Fenced,
}

impl Lease {
    /// When it ends, ms on `CLOCK_BOOTTIME`; the instant itself is outside.
    pub fn end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.lease_ms)
    }

    /// Whether it holds at `now_ms` of `boot_id`, when the host's epoch is `epoch`.
    pub fn state(&self, boot_id: BootId, epoch: u64, now_ms: u64) -> LeaseState {
        if self.boot_id != boot_id {
            LeaseState::OtherBoot
        } else if self.epoch < epoch {
            LeaseState::Fenced
        } else if now_ms < self.end_ms() {
            LeaseState::Running { left_ms: self.end_ms() - now_ms }
        } else {
            LeaseState::Expired
        }
    }

    /// Whether it holds.
    pub fn is_running(&self, boot_id: BootId, epoch: u64, now_ms: u64) -> bool {
        matches!(self.state(boot_id, epoch, now_ms), LeaseState::Running { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId::new([1; 16]);

    #[test]
    fn a_lease_ends_at_its_last_millisecond_with_its_boot_or_with_a_higher_epoch() {
        let lease = Lease { boot_id: BOOT, epoch: 2, start_ms: 1000, lease_ms: 300 };
        assert_eq!(lease.state(BOOT, 2, 1299), LeaseState::Running { left_ms: 1 });
        assert_eq!(lease.state(BOOT, 2, 1300), LeaseState::Expired);
        assert_eq!(lease.state(BootId::new([2; 16]), 2, 1100), LeaseState::OtherBoot);
        assert_eq!(lease.state(BOOT, 3, 1100), LeaseState::Fenced);
        assert!(lease.is_running(BOOT, 1, 1100));
    }

    #[test]
    fn an_endless_lease_does_not_wrap() {
        let lease = Lease { boot_id: BOOT, epoch: 0, start_ms: 5, lease_ms: u64::MAX };
        assert!(lease.is_running(BOOT, 0, u64::MAX - 1));
    }
}
