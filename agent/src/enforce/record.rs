//! The journal's records. Pure.
//!
//! Records are steps with their undo: what is about to be done ([`Record::Making`], [`Record::Writing`],
//! [`Record::Entering`], [`Record::Ending`]) is written and made to last before it is done; what came of it
//! ([`Record::Made`], [`Record::Wrote`], [`Record::Removed`]) after. So [`Held`](super::held::Held) always knows at least
//! everything that may have been done to the kernel, and the value that stood there before.

use minicbor::{Decode, Encode};
use quotary_common::envelope::{CgroupPath, ControlValue, Name};
use quotary_common::id::{BootId, DeploymentId, GrantId};
use quotary_common::lease::Lease;
use quotary_common::units::{Class, Resources};

use super::controls::Knob;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Record {
    /// A grant is held from now on.
    #[n(0)]
    Granted {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// Where its group stands, or would stand.
        #[n(1)]
        cgroup: CgroupPath,
        /// Until when.
        #[n(2)]
        lease: LeaseForm,
        /// Whose it is; absent in a journal from before it was kept there.
        #[n(3)]
        owner: Option<Owner>,
    },
    /// Its group is about to be made.
    #[n(1)]
    Making {
        /// The grant.
        #[n(0)]
        grant: GrantId,
    },
    /// Its group was made.
    #[n(2)]
    Made {
        /// The grant.
        #[n(0)]
        grant: GrantId,
    },
    /// A control is about to be written.
    #[n(3)]
    Writing {
        /// The grant whose group it is in.
        #[n(0)]
        grant: GrantId,
        /// Which.
        #[n(1)]
        knob: Knob,
        /// What stands there; absent when it cannot be read.
        #[n(2)]
        before: Option<ControlValue>,
        /// What is to stand there.
        #[n(3)]
        after: ControlValue,
    },
    /// A control was written, or the kernel refused.
    #[n(4)]
    Wrote {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// Which.
        #[n(1)]
        knob: Knob,
        /// What is read back.
        #[n(2)]
        actual: Option<ControlValue>,
    },
    /// Another writer changed a control: it is left alone from now on.
    #[n(5)]
    Contested {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// Which.
        #[n(1)]
        knob: Knob,
    },
    /// A process is about to be moved into the group.
    #[n(6)]
    Entering {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// The process, and where it came from.
        #[n(1)]
        entry: Entry,
    },
    /// It could not be moved, and is where it was.
    #[n(7)]
    NotEntered {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// The process.
        #[n(1)]
        pid: u32,
    },
    /// All grants that are not ending hold until then; what ended before the envelope that this lease counts
    /// from was built is known to the verifier.
    #[n(8)]
    Renewed {
        /// Until when.
        #[n(0)]
        lease: LeaseForm,
    },
    /// The host's epoch was raised: leases under a lower one hold nothing.
    #[n(9)]
    Fenced {
        /// The new epoch.
        #[n(0)]
        epoch: u64,
    },
    /// A grant is over, and its group about to be removed.
    #[n(10)]
    Ending {
        /// The grant.
        #[n(0)]
        grant: GrantId,
        /// Why.
        #[n(1)]
        reason: EndReason,
        /// On which boot.
        #[n(2)]
        boot_id: BootId,
        /// When, ms on its `CLOCK_BOOTTIME`.
        #[n(3)]
        at_ms: u64,
    },
    /// Its group is gone, and the grant forgotten.
    #[n(11)]
    Removed {
        /// The grant.
        #[n(0)]
        grant: GrantId,
    },
    /// The parent of our groups is about to be made or changed.
    #[n(12)]
    Preparing {
        /// The parent.
        #[n(0)]
        parent: CgroupPath,
        /// Whether it was not there, so that it is ours to remove.
        #[n(1)]
        made: bool,
    },
    /// The parent is gone again.
    #[n(13)]
    ParentRemoved,
    /// Controllers are about to be enabled for the children of a cgroup (version 2).
    #[n(14)]
    Enabling {
        /// The cgroup; `/` for the root.
        #[n(0)]
        cgroup: CgroupPath,
        /// What its `cgroup.subtree_control` shows.
        #[n(1)]
        before: ControlValue,
        /// What is written there.
        #[n(2)]
        after: ControlValue,
    },
    /// The host was enrolled: epochs of another enrolment say nothing any more.
    #[n(15)]
    Enrolled {
        /// The deployment that it belongs to from now on.
        #[n(0)]
        deployment: DeploymentId,
        /// The epoch that it begins with; it may be lower than the one before.
        #[n(1)]
        epoch: u64,
    },
}

/// Whose a grant is: it must last before its application is told of the grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Owner {
    /// Who asked, where that is known.
    #[n(0)]
    pub uid: Option<u32>,
    /// The application that it is for.
    #[n(1)]
    pub application: Name,
    /// The tenant that it is counted to.
    #[n(2)]
    pub tenant: Name,
    /// Its class.
    #[n(3)]
    pub class: Class,
    /// What was granted at first.
    #[n(4)]
    pub resources: Resources,
}

/// A lease, as the journal keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeaseForm {
    /// The boot whose clock counts.
    #[n(0)]
    pub boot_id: BootId,
    /// The fencing number.
    #[n(1)]
    pub epoch: u64,
    /// When it starts, ms on `CLOCK_BOOTTIME`.
    #[n(2)]
    pub start_ms: u64,
    /// How long it holds, ms.
    #[n(3)]
    pub lease_ms: u64,
}

impl From<&Lease> for LeaseForm {
    fn from(lease: &Lease) -> Self {
        Self { boot_id: lease.boot_id, epoch: lease.epoch, start_ms: lease.start_ms, lease_ms: lease.lease_ms }
    }
}
impl From<&LeaseForm> for Lease {
    fn from(form: &LeaseForm) -> Self {
        Self { boot_id: form.boot_id, epoch: form.epoch, start_ms: form.start_ms, lease_ms: form.lease_ms }
    }
}

/// A process that entered a group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Its pid.
    #[n(0)]
    pub pid: u32,
    /// Its start time, in clock ticks since boot.
    #[n(1)]
    pub start_time_ticks: u64,
    /// Its owner.
    #[n(2)]
    pub uid: Option<u32>,
    /// The cgroups that it came from.
    #[n(3)]
    pub origins: Vec<Origin>,
}

/// The cgroup of a process in one hierarchy: a line of `/proc/PID/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Origin {
    /// The hierarchy's controllers, joined by commas; empty on version 2.
    #[n(0)]
    pub controllers: Name,
    /// The path in it.
    #[n(1)]
    pub path: CgroupPath,
}

/// Why a grant ended on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EndReason {
    /// The last process left its group.
    #[n(0)]
    Empty,
    /// Its lease ran out.
    #[n(1)]
    LeaseExpired,
    /// It was given under another boot.
    #[n(2)]
    OtherBoot,
    /// The epoch was raised over it.
    #[n(3)]
    Fenced,
    /// The verifier's last set does not list it.
    #[n(4)]
    Withdrawn,
    /// The application gave it back.
    #[n(5)]
    Released,
    /// The agent stops.
    #[n(6)]
    Stopped,
    /// The agent no longer enforces.
    #[n(7)]
    NotEnforcing,
    /// Somebody removed its group.
    #[n(8)]
    Vanished,
    /// The host was enrolled anew: whoever gave it no longer speaks for this host.
    #[n(9)]
    EnrolledAnew,
}
