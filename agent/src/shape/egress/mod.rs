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
pub use self::form::{
    CLASSES_MAX, INTERFACES_MAX, Root, Seen, SeenClass, SeenInterface, Unwanted, Wanted, Wish, is_interface,
};
pub(super) use self::host::{bring, look, take_away};
use super::ShapeError;
use super::backend::Place;
use super::controller::{Actual, Value};
use super::hand::{Duty, Hand, HandError, Patience, Reply, Request, Work, hand_for};
use crate::clock;
use crate::enforce::group::GroupPath;

const CONTROL: ShapedControl = ShapedControl::NetworkEgress;
/// Most bytes of what the journal keeps of a class.
const NOTE_BYTES_MAX: usize = 4096;
/// Where it cannot be used, it is looked again so often whether it can, ms.
const LOOK_AGAIN_MS: u64 = 60_000;

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
    /// Those that the configuration names.
    named: Option<Vec<String>>,
    interfaces: Vec<String>,
    /// Those of them that were there at the last tick.
    present: Vec<String>,
    /// Why nothing can be limited now, in a sentence; what was limited can be let go all the same.
    why_not: Option<String>,
    looked_at_ms: u64,
    classes: BTreeMap<Target, Class>,
    /// Where targets are, since the journal needs it.
    places: BTreeMap<Target, GroupPath>,
    seen: Seen,
    /// Whether it was looked at since the last tick.
    is_fresh: bool,
    patience: Patience,
    flow: Flow,
}

impl Egress {
    /// The control on the host below `root`, on the interfaces that are named, or on those with hardware behind them.
    ///
    /// # Errors
    /// Why nobody could do it on this host, in a sentence.
    pub fn open(root: &Path, named: Option<&[String]>) -> Result<Self, String> {
        if !root.join("sys/fs/cgroup/cgroup.controllers").is_file() {
            return Err("it needs the unified cgroup tree (version 2)".to_owned());
        }
        Ok(Self::with(root, hand_for(root, Duty::Egress)?, named))
    }

    /// As [`Egress::open`], with a given hand.
    fn with(root: &Path, hand: Box<dyn Hand>, named: Option<&[String]>) -> Self {
        let mut egress = Self {
            root: root.to_path_buf(),
            hand,
            named: named.map(<[String]>::to_vec),
            interfaces: Vec::new(),
            present: Vec::new(),
            why_not: Some("nobody has looked yet".to_owned()),
            looked_at_ms: 0,
            classes: BTreeMap::new(),
            places: BTreeMap::new(),
            seen: Seen::default(),
            is_fresh: false,
            patience: Patience::default(),
            flow: Flow::default(),
        };
        egress.list();
        egress
    }

    /// Looks whether it can be used now: not done at the opening, so that what was left behind is let go first.
    pub(super) fn look_again(&mut self) {
        self.looked_at_ms = clock::boottime_ms();
        if let Err(error) = self.refresh() {
            self.why_not = Some(error.told());
        }
        if self.classes.is_empty() {
            self.hand.rest();
        }
    }

    /// Why nothing can be limited now; `None` where it can.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Which interfaces there are. Gives whether one came since.
    fn list(&mut self) -> bool {
        self.interfaces = interfaces_of(&self.root, self.named.as_deref());
        let is_there = |name: &&String| interfaces::is_there(&self.root, name);
        let present: Vec<String> = self.interfaces.iter().filter(is_there).cloned().collect();
        let has_new = present.iter().any(|name| !self.present.contains(name));
        self.present = present;
        has_new
    }

    /// Why nothing can be limited, by what is there.
    fn judge(&self) -> Option<String> {
        if self.interfaces.is_empty() {
            return Some("no interface has hardware behind it: name some in egress_interfaces".to_owned());
        }
        let foreign = self.seen.interfaces.iter().find_map(|interface| match &interface.root {
            Root::Foreign(what) => Some((&interface.name, what)),
            _ => None,
        });
        if let Some((name, what)) = foreign {
            let whose = "a queueing discipline of an administrator";
            return Some(format!("{name} has {whose} ({what}), which is left alone"));
        }
        let is_there = self.seen.interfaces.iter().any(|interface| interface.root != Root::Absent);
        (!is_there).then(|| format!("none of its interfaces is there: {}", self.interfaces.join(", ")))
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
        self.is_fresh = false;
        self.patience.tick();
        let has_new = self.list();
        if self.why_not.is_some() && clock::boottime_ms().saturating_sub(self.looked_at_ms) >= LOOK_AGAIN_MS {
            self.look_again();
        }
        if self.classes.values().all(|class| class.rate_bits.is_none()) {
            return;
        }
        // Rules that somebody has flushed are left so: they are loaded anew with the next write, once the target is ours again.
        let is_stale = self.seen.has_table && self.classes.values().any(|class| self.is_stale(class));
        if (has_new || is_stale)
            && let Err(error) = self.bring(None, is_stale)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "egress was not limited for a cgroup or an interface that is new: it is tried again"
            );
        }
    }

    /// Whether a class's cgroup runs, and is another than the one that its rule was loaded for.
    fn is_stale(&self, class: &Class) -> bool {
        let instance = instance_of(&self.root, &class.cgroup).filter(|_| class.rate_bits.is_some());
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
        let minor = class.minor;
        let before = std::mem::replace(&mut class.rate_bits, rate_bits);
        class.is_recalled = false;
        let brought = match rate_bits {
            Some(_) => self.bring(Some(minor), before.is_none() || !self.seen.has_table),
            None => self.take_away(vec![minor]),
        };
        if brought.is_err()
            && let Some(class) = self.classes.get_mut(target)
        {
            class.rate_bits = before;
        }
        Ok(brought?)
    }

    /// Takes targets' classes away, all at once, from whatever interfaces have them; by the journal's notes where nobody recalls
    /// them.
    pub(super) fn undo(&mut self, targets: &[(Target, Option<Vec<u8>>)]) -> Result<(), HandError> {
        let noted = |note: &[u8]| cbor::from_bytes::<Note>(note, NOTE_BYTES_MAX).ok().map(|note| note.minor);
        let minor = |(target, note): &(Target, Option<Vec<u8>>)| {
            let known = self.classes.get(target).map(|class| class.minor);
            known.or_else(|| note.as_deref().and_then(noted))
        };
        self.take_away(targets.iter().filter_map(minor).collect())?;
        for (target, _) in targets {
            self.classes.remove(target);
        }
        if self.classes.is_empty() {
            self.hand.rest();
        }
        Ok(())
    }

    fn take_away(&mut self, minors: Vec<u16>) -> Result<(), HandError> {
        let interfaces = self.interfaces.clone();
        let reply = self.ask(&Request::TakeEgress(Unwanted { minors, interfaces }))?;
        self.take(reply)
    }

    /// Brings the kernel to what the classes say. Only a class that is `touched` is changed where it is another than it was made;
    /// `load` has rules loaded anew.
    fn bring(&mut self, touched: Option<u16>, load: bool) -> Result<(), HandError> {
        if self.classes.values().any(|class| class.is_recalled) {
            self.refresh()?;
        }
        let wish = |class: &Class| {
            let (minor, cgroup) = (class.minor, class.cgroup.as_str().to_owned());
            class.rate_bits.map(|rate_bits| Wish { minor, rate_bits, cgroup })
        };
        let classes: Vec<Wish> = self.classes.values().filter_map(wish).collect();
        let interfaces = self.interfaces.clone();
        let instances: Vec<Option<String>> =
            self.classes.values().map(|class| instance_of(&self.root, &class.cgroup)).collect();
        let reply = self.ask(&Request::BringEgress(Wanted { interfaces, classes, load, touched }))?;
        if load {
            for (class, instance) in self.classes.values_mut().zip(instances) {
                class.loaded = instance;
            }
        }
        self.take(reply)
    }

    /// Looks at what is there.
    fn refresh(&mut self) -> Result<(), HandError> {
        let reply = self.ask(&Request::LookAtEgress(self.interfaces.clone()))?;
        self.take(reply)
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        let work = if matches!(request, Request::TakeEgress(_)) { Work::Undo } else { Work::Write };
        let from_ms = clock::boottime_ms();
        if !self.patience.may(work, from_ms) {
            return Err(HandError::Refused(
                "the hand was slow or silent a moment ago: it is asked again later".to_owned(),
            ));
        }
        let reply = self.hand.ask(request);
        let is_timeout = reply.as_ref().is_err_and(HandError::is_timeout);
        self.patience.asked(work, from_ms, clock::boottime_ms(), is_timeout);
        reply
    }

    /// Takes note of what is there.
    fn take(&mut self, reply: Reply) -> Result<(), HandError> {
        let Reply::Egress(mut seen) = reply else { return Err(HandError::Form) };
        seen.interfaces.retain(|interface| self.interfaces.contains(&interface.name));
        (self.seen, self.is_fresh) = (seen, true);
        self.why_not = self.judge();
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
