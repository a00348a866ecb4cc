//! Network egress of targets: a class of HTB for each, into which a rule of nftables puts the packets of its cgroup.
//!
//! Does: keeps one class per target on each interface that traffic leaves by, and the one table whose rules give packets
//! to them; reads back what the kernel shows; loads the rules anew when a target's cgroup is another than before.
//! May assume: a unified cgroup tree; one agent per host.
//! Promises: what it touches is the root discipline of interfaces that have the kernel's default, and one table of its
//! own; packets' marks stay whose they are; with no target nothing of it is there.
//! Must never: replace an administrator's queueing discipline, or name a table, chain or handle that is not its own.
//!
//! The limit holds on each interface by itself. Why so: docs/decisions/0012-network-egress.md.

mod flow;
mod form;
mod host;
mod interfaces;
mod parse;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use quotary_common::cbor;
use quotary_common::envelope::CgroupPath;
use quotary_common::plan::{ShapedControl, Target};

use self::flow::Flow;
pub use self::form::{CLASSES_MAX, INTERFACES_MAX, Root, Seen, SeenClass, SeenInterface, Wanted, Wish, is_interface};
pub(super) use self::host::{bring, look};
use super::ShapeError;
use super::backend::Place;
use super::controller::{Actual, Value};
use super::hand::{Duty, Hand, HandError, Reply, Request, hand_for};
use crate::clock;
use crate::enforce::group::GroupPath;

const CONTROL: ShapedControl = ShapedControl::NetworkEgress;
/// Most bytes of what the journal keeps of a class.
const NOTE_BYTES_MAX: usize = 4096;

/// What the journal keeps of a class, so that a restarted agent knows its own again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Note {
    #[n(0)]
    minor: u16,
    #[n(1)]
    cgroup: CgroupPath,
}

/// One target's class.
#[derive(Debug)]
struct Class {
    minor: u16,
    /// Bits per second; `None` while nothing limits it.
    rate_bits: Option<u64>,
    cgroup: GroupPath,
    /// The run of the cgroup for which its rule was loaded.
    loaded: Option<String>,
    /// It stood in the journal: what the kernel shows is its rate.
    is_recalled: bool,
    flow: Flow,
}

/// The control.
#[derive(Debug)]
pub struct Egress {
    root: PathBuf,
    hand: Box<dyn Hand>,
    interfaces: Vec<String>,
    classes: BTreeMap<Target, Class>,
    /// Where targets are, since the journal needs it.
    places: BTreeMap<Target, GroupPath>,
    seen: Seen,
    /// Whether it was looked at since the last tick.
    is_fresh: bool,
    /// The hand did not answer since the last tick: nobody waits for it again before the next.
    is_silent: bool,
    flow: Flow,
}

impl Egress {
    /// The control on the host below `root`, on the interfaces that are named, or on those with hardware behind them.
    ///
    /// # Errors
    /// Why this host has it not, in a sentence.
    pub fn open(root: &Path, named: Option<&[String]>) -> Result<Self, String> {
        if !root.join("sys/fs/cgroup/cgroup.controllers").is_file() {
            return Err("it needs the unified cgroup tree (version 2)".to_owned());
        }
        let interfaces = interfaces_of(root, named);
        if interfaces.is_empty() {
            return Err("no interface has hardware behind it: name some in egress_interfaces".to_owned());
        }
        let hand = hand_for(root, Duty::Egress)?;
        Self::with(root, hand, interfaces)
    }

    /// As [`Egress::open`], with a given hand.
    fn with(root: &Path, hand: Box<dyn Hand>, interfaces: Vec<String>) -> Result<Self, String> {
        let mut egress = Self {
            root: root.to_path_buf(),
            hand,
            interfaces,
            classes: BTreeMap::new(),
            places: BTreeMap::new(),
            seen: Seen::default(),
            is_fresh: false,
            is_silent: false,
            flow: Flow::default(),
        };
        egress.refresh().map_err(|error| error.told())?;
        for interface in &egress.seen.interfaces {
            match &interface.root {
                Root::Default | Root::Ours => {}
                Root::Absent => return Err(format!("{} is not there", interface.name)),
                Root::Foreign(what) => {
                    let name = &interface.name;
                    return Err(format!(
                        "{name} has a queueing discipline of an administrator ({what}), which is left alone"
                    ));
                }
            }
        }
        egress.hand.rest();
        Ok(egress)
    }

    /// Takes up what the journal knows of a target's class.
    pub(super) fn recall(&mut self, target: &Target, note: &[u8]) {
        let Ok(note) = cbor::from_bytes::<Note>(note, NOTE_BYTES_MAX) else { return };
        let Some(cgroup) = GroupPath::parse(note.cgroup.as_str()) else { return };
        let class = Class {
            minor: note.minor,
            rate_bits: None,
            cgroup,
            loaded: None,
            is_recalled: true,
            flow: Flow::default(),
        };
        self.classes.insert(target.clone(), class);
        self.is_fresh = false;
        self.adopt();
    }

    /// What a second brings: how much was sent, and cgroups that are others than before.
    pub(super) fn tick(&mut self) {
        self.flow.add(clock::boottime_ms(), interfaces::sent_bytes(&self.root, &self.interfaces));
        (self.is_fresh, self.is_silent) = (false, false);
        let is_stale = self.classes.values().any(|class| class.rate_bits.is_some() && self.is_stale(class));
        if is_stale && let Err(error) = self.bring(true) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "rules of egress were not loaded for a cgroup that is new: it is tried again"
            );
        }
    }

    /// Whether a class's cgroup runs, and is another than the one that its rule was loaded for.
    fn is_stale(&self, class: &Class) -> bool {
        let instance = instance_of(&self.root, &class.cgroup);
        instance.is_some() && instance != class.loaded
    }

    /// Notes where a target is, and looks at its class once a tick.
    pub(super) fn follow(&mut self, target: &Target, place: Option<&Place>) {
        let Some(place) = place else {
            self.places.remove(target);
            return;
        };
        self.places.insert(target.clone(), place.cgroup.clone());
        let Some(class) = self.classes.get_mut(target) else { return };
        if class.cgroup != place.cgroup {
            (class.cgroup, class.loaded) = (place.cgroup.clone(), None);
        }
        if !self.is_fresh
            && let Err(error) = self.refresh()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "egress cannot be looked at");
            // What nobody sees is not there.
            (self.seen, self.is_fresh) = (Seen::default(), true);
        }
    }

    /// What the control of the target in a cgroup shows.
    pub(super) fn actual(&self, cgroup: &GroupPath) -> Actual {
        let mut there = self.seen.interfaces.iter().filter(|interface| interface.root != Root::Absent).peekable();
        if there.peek().is_none() || there.any(|interface| matches!(interface.root, Root::Foreign(_))) {
            return Actual::Absent;
        }
        let Some(class) = self.class_in(cgroup).filter(|class| class.rate_bits.is_some()) else {
            return Actual::Unlimited;
        };
        if !self.seen.has_table || self.is_stale(class) {
            return Actual::Unlimited;
        }
        let rates: Option<Vec<u64>> = self.seen.class(class.minor).map(|seen| Some(seen?.rate_bits)).collect();
        // Where one interface lacks it, nothing limits what leaves there.
        rates.and_then(|rates| rates.into_iter().max()).map_or(Actual::Unlimited, Actual::Value)
    }

    /// What the target in a cgroup sends at most, bits per second: by its class, or by all that leaves the host.
    pub(super) fn used_bits(&self, cgroup: &GroupPath) -> Option<u64> {
        self.class_in(cgroup).and_then(|class| class.flow.most_bits()).or_else(|| self.flow.most_bits())
    }

    fn class_in(&self, cgroup: &GroupPath) -> Option<&Class> {
        self.classes.values().find(|class| class.cgroup == *cgroup)
    }

    /// Gives a target a class, and says what the journal has to keep of it.
    pub(super) fn prior(&mut self, target: &Target) -> Result<Vec<u8>, ShapeError> {
        let cgroup = self.places.get(target).cloned().ok_or(ShapeError::Unsupported(CONTROL))?;
        let minor = match self.classes.get(target) {
            Some(class) => class.minor,
            None => self.free_minor().ok_or(ShapeError::Unsupported(CONTROL))?,
        };
        let note = Note { minor, cgroup: cgroup.as_cgroup().clone() };
        self.classes.entry(target.clone()).or_insert_with(|| Class {
            minor,
            rate_bits: None,
            cgroup,
            loaded: None,
            is_recalled: false,
            flow: Flow::default(),
        });
        Ok(cbor::to_bytes(&note))
    }

    fn free_minor(&self) -> Option<u16> {
        let most = u16::try_from(CLASSES_MAX).unwrap_or(u16::MAX / 16);
        (1..=most).map(|number| number * 16).find(|minor| self.classes.values().all(|class| class.minor != *minor))
    }

    /// Limits a target, or lets it go.
    pub(super) fn write(&mut self, target: &Target, value: Value) -> Result<(), ShapeError> {
        let class = self.classes.get_mut(target).ok_or(ShapeError::Unsupported(CONTROL))?;
        let rate_bits = match value {
            // HTB counts bytes.
            Value::Value(bits) => Some((bits / 8).max(1) * 8),
            Value::Unlimited => None,
        };
        let before = std::mem::replace(&mut class.rate_bits, rate_bits);
        class.is_recalled = false;
        let brought = self.bring(before.is_some() != rate_bits.is_some());
        if brought.is_err()
            && let Some(class) = self.classes.get_mut(target)
        {
            class.rate_bits = before;
        }
        Ok(brought?)
    }

    /// Takes targets' classes away, all at once.
    pub(super) fn undo(&mut self, targets: &[Target]) -> Result<(), HandError> {
        let classes: Vec<(Target, Class)> =
            targets.iter().filter_map(|target| self.classes.remove_entry(target)).collect();
        let brought = self.bring(true);
        if brought.is_err() {
            self.classes.extend(classes);
        }
        brought
    }

    /// Brings the kernel to what the classes say; `load` has rules loaded anew even where the table is there.
    fn bring(&mut self, load: bool) -> Result<(), HandError> {
        if self.classes.values().any(|class| class.is_recalled) {
            self.refresh()?;
        }
        let wish = |class: &Class| {
            let (minor, cgroup) = (class.minor, class.cgroup.as_str().to_owned());
            class.rate_bits.map(|rate_bits| Wish { minor, rate_bits, cgroup })
        };
        let wishes: Vec<Wish> = self.classes.values().filter_map(wish).collect();
        let is_last = wishes.is_empty();
        // What is taken away is taken away wherever it may be: the interfaces may have been others when it was made.
        let interfaces = if is_last { interfaces::all(&self.root) } else { self.interfaces.clone() };
        let instances: Vec<Option<String>> =
            self.classes.values().map(|class| instance_of(&self.root, &class.cgroup)).collect();
        let reply = self.ask(&Request::BringEgress(Wanted { interfaces, classes: wishes, load }))?;
        if load {
            for (class, instance) in self.classes.values_mut().zip(instances) {
                class.loaded = instance;
            }
        }
        self.take(reply)?;
        if is_last && self.classes.is_empty() {
            self.hand.rest();
        }
        Ok(())
    }

    /// Looks at what is there.
    fn refresh(&mut self) -> Result<(), HandError> {
        let reply = self.ask(&Request::LookAtEgress(self.interfaces.clone()))?;
        self.take(reply)
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        if self.is_silent {
            return Err(HandError::Refused("the hand did not answer a moment ago".to_owned()));
        }
        let reply = self.hand.ask(request);
        self.is_silent = matches!(reply, Err(HandError::Io { .. }));
        reply
    }

    /// Takes note of what is there.
    fn take(&mut self, reply: Reply) -> Result<(), HandError> {
        let Reply::Egress(mut seen) = reply else { return Err(HandError::Form) };
        seen.interfaces.retain(|interface| self.interfaces.contains(&interface.name));
        (self.seen, self.is_fresh) = (seen, true);
        let now_ms = clock::boottime_ms();
        for class in self.classes.values_mut() {
            let sent = self.seen.class(class.minor).flatten().map(|seen| seen.sent_bytes);
            if let Some(bytes) = sent.reduce(u64::saturating_add) {
                class.flow.add(now_ms, bytes);
            }
        }
        self.adopt();
        Ok(())
    }

    /// A class that was recalled has the rate that the kernel shows.
    fn adopt(&mut self) {
        for class in self.classes.values_mut().filter(|class| class.is_recalled) {
            if let Some(seen) = self.seen.class(class.minor).flatten().next() {
                class.rate_bits = Some(seen.rate_bits);
                class.is_recalled = false;
            }
        }
    }
}

/// What any of the interfaces can send, bits per second: what "unlimited" is worth here.
pub fn link_bits(root: &Path, named: Option<&[String]>) -> u64 {
    interfaces::rate_bits(root, &interfaces_of(root, named))
}

fn interfaces_of(root: &Path, named: Option<&[String]>) -> Vec<String> {
    named.map_or_else(|| interfaces::with_hardware(root), <[String]>::to_vec)
}

/// What tells one run of a cgroup from the next; `None` where it is not there.
fn instance_of(root: &Path, cgroup: &GroupPath) -> Option<String> {
    let dir = root.join("sys/fs/cgroup").join(cgroup.relative());
    std::fs::symlink_metadata(dir).ok().filter(|facts| facts.is_dir()).map(|facts| facts.ino().to_string())
}
