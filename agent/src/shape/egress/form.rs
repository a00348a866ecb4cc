//! What is wanted of the kernel, and what it shows: plain forms, checked where they are used. Pure.

use minicbor::{Decode, Encode};

use crate::enforce::group::GroupPath;

/// Most targets whose egress is moved at once.
pub const CLASSES_MAX: usize = 256;
/// Most interfaces.
pub const INTERFACES_MAX: usize = 64;
/// The class of all that no plan moves.
pub(super) const OTHERS: u16 = 0xfff0;
/// Longest name of an interface (`IFNAMSIZ` without its end).
const NAME_BYTES_MAX: usize = 15;
/// The least and the greatest rate that a class can have, bits per second.
const RATE_BITS: std::ops::RangeInclusive<u64> = 8..=1 << 50;

/// What should be there of targets that are limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Wanted {
    /// On these interfaces.
    #[n(0)]
    pub interfaces: Vec<String>,
    /// One class for each target.
    #[n(1)]
    pub classes: Vec<Wish>,
    /// Whether the rules are to be loaded anew even if there are some: the kernel found the groups of the old ones when it
    /// took them.
    #[n(2)]
    pub load: bool,
    /// The class that may be changed where it is there with another rate, or is gone: others have been seen so, and left so.
    #[n(3)]
    pub touched: Option<u16>,
}

/// What should be there no longer, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Unwanted {
    /// These classes; with the last of an interface all that is ours goes from it.
    #[n(0)]
    pub minors: Vec<u16>,
    /// What is looked at then.
    #[n(1)]
    pub interfaces: Vec<String>,
}

/// One target's class.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Wish {
    /// Its number: a multiple of 16, so that the lowest bits, which other disciplines look at, say "best effort".
    #[n(0)]
    pub minor: u16,
    /// Bits per second.
    #[n(1)]
    pub rate_bits: u64,
    /// The cgroup whose packets are in it.
    #[n(2)]
    pub cgroup: String,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Seen {
    /// Each interface that was asked for.
    #[n(0)]
    pub interfaces: Vec<SeenInterface>,
    /// Whether our table of rules is there.
    #[n(1)]
    pub has_table: bool,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SeenInterface {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Whose its root queueing discipline is.
    #[n(1)]
    pub root: Root,
    /// Our classes.
    #[n(2)]
    pub classes: Vec<SeenClass>,
}

/// Whose a root queueing discipline is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Root {
    /// There is no such interface.
    #[n(0)]
    Absent,
    /// The kernel's own default: it has no handle.
    #[n(1)]
    Default,
    /// Ours.
    #[n(2)]
    Ours,
    /// An administrator's: kind and handle.
    #[n(3)]
    Foreign(#[n(0)] String),
}

/// One of our classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SeenClass {
    /// Its number.
    #[n(0)]
    pub minor: u16,
    /// Bits per second.
    #[n(1)]
    pub rate_bits: u64,
    /// Bytes that it has sent.
    #[n(2)]
    pub sent_bytes: u64,
}

impl Seen {
    /// A class as each interface has it; `None` for one that lacks it.
    pub fn class(&self, minor: u16) -> impl Iterator<Item = Option<&SeenClass>> {
        let there = self.interfaces.iter().filter(|interface| interface.root != Root::Absent);
        there.map(move |interface| interface.classes.iter().find(|class| class.minor == minor))
    }
}

/// What is wanted, checked: only this is made into words for tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckedWanted(Wanted);

impl std::ops::Deref for CheckedWanted {
    type Target = Wanted;
    fn deref(&self) -> &Wanted {
        &self.0
    }
}

impl CheckedWanted {
    /// The same with the rules of these classes only, classes in any case.
    pub(super) fn rules_where(&self, is_there: impl Fn(&GroupPath) -> bool) -> Vec<(GroupPath, u16)> {
        let of = |wish: &Wish| Some((GroupPath::parse(&wish.cgroup)?, wish.minor));
        self.0.classes.iter().filter_map(of).filter(|(group, _)| is_there(group)).collect()
    }
}

/// Checks what is wanted; what is wrong with it, otherwise.
pub(super) fn check(wanted: Wanted) -> Result<CheckedWanted, String> {
    if wanted.classes.is_empty() {
        return Err("no class is wanted: what is not wanted is taken away".to_owned());
    }
    if wanted.interfaces.len() > INTERFACES_MAX || wanted.classes.len() > CLASSES_MAX {
        return Err("more interfaces or classes than there may be".to_owned());
    }
    if let Some(name) = wanted.interfaces.iter().find(|name| !is_interface(name)) {
        return Err(format!("{name:?} is no name of an interface"));
    }
    for (index, wish) in wanted.classes.iter().enumerate() {
        if !is_minor(wish.minor) {
            return Err(format!("{:#x} is no number of a class", wish.minor));
        }
        if wanted.classes.iter().skip(index + 1).any(|other| other.minor == wish.minor) {
            return Err(format!("class {:#x} is wanted twice", wish.minor));
        }
        if !RATE_BITS.contains(&wish.rate_bits) {
            return Err(format!("{} bits per second is no rate", wish.rate_bits));
        }
        if !is_group(&wish.cgroup) {
            return Err(format!("{:?} cannot stand in a rule", wish.cgroup));
        }
    }
    Ok(CheckedWanted(wanted))
}

/// Whether a number is one of a target's class.
pub(super) const fn is_minor(minor: u16) -> bool {
    minor != 0 && minor < OTHERS && minor.is_multiple_of(16)
}

/// Whether a text is a plain name of an interface: no word of a tool's language, no blank, no sign.
pub fn is_interface(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a path can stand between quotes in a rule: nft knows no escapes there, and takes `*` for a pattern.
pub(super) fn is_group(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.:-@\\+~,=".contains(&byte);
    path.len() <= 1024 && path.bytes().all(is_plain) && GroupPath::parse(path).is_some()
}
