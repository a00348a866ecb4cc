//! What a change covers: which targets, and between which values each of their resources may move.

use std::fmt::Write as _;
use std::str::FromStr;

use crate::cbor::Text;
use crate::envelope::{CgroupPath, Name};
use crate::id::HostId;
use crate::units::{Class, ResourceKind};

/// How an agent recognises a target of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This unit.
    Unit(Name),
    /// Every group at or below this path.
    Cgroup(CgroupPath),
    /// Whatever runs under this uid.
    Uid(u32),
}

/// What holds before and after; absent: nothing is said (no limit, no guarantee).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Before the change, in the resource's unit.
    pub before: Option<u64>,
    /// From its effective time on.
    pub after: Option<u64>,
}

/// One target and the spans of its resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// The application.
    pub application: Name,
    /// Its tenant.
    pub tenant: Name,
    /// On which host; absent: on every one.
    pub host: Option<HostId>,
    /// Which of the host's targets.
    pub reach: Reach,
    /// Its class.
    pub class: Class,
    /// Guarantees by resource, in the order of [`ResourceKind::ALL`].
    pub guarantee: [Option<Span>; 5],
    /// Limits by resource, in the order of [`ResourceKind::ALL`].
    pub limit: [Option<Span>; 5],
}

/// A line that does not say what is covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not what a change covers: application, tenant, target, class, and spans of resources")]
pub struct CoverFault;

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let amount = |amount: Option<u64>| amount.map_or_else(|| "none".to_owned(), |amount| amount.to_string());
        write!(f, "{}>{}", amount(self.before), amount(self.after))
    }
}

impl FromStr for Span {
    type Err = CoverFault;
    fn from_str(text: &str) -> Result<Self, CoverFault> {
        let amount = |text: &str| match text {
            "none" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| CoverFault),
        };
        let (before, after) = text.split_once('>').ok_or(CoverFault)?;
        Ok(Self { before: amount(before)?, after: amount(after)? })
    }
}

impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = format!("application={} tenant={}", self.application, self.tenant);
        if let Some(host) = self.host {
            let _ = write!(line, " host={}", host.hex());
        }
        let _ = match &self.reach {
            Reach::Unit(unit) => write!(line, " unit={unit}"),
            Reach::Cgroup(path) => write!(line, " cgroup={path}"),
            Reach::Uid(uid) => write!(line, " uid={uid}"),
        };
        let _ = write!(line, " class={}", self.class);
        for (kind, guarantee, limit) in self.spans() {
            if let Some(span) = guarantee {
                let _ = write!(line, " {}.guarantee={span}", kind.unit_name());
            }
            if let Some(span) = limit {
                let _ = write!(line, " {}.limit={span}", kind.unit_name());
            }
        }
        f.write_str(&line)
    }
}

impl FromStr for Cover {
    type Err = CoverFault;
    /// Reads a line; its order is held by writing it again (a text is canonical or none).
    fn from_str(text: &str) -> Result<Self, CoverFault> {
        let mut parts = text.split(' ').map(|part| part.split_once('=').ok_or(CoverFault)).peekable();
        let mut value = |key: &str| -> Result<Option<&str>, CoverFault> {
            let is_next = parts.peek().is_some_and(|part| part.as_ref().is_ok_and(|(name, _)| *name == key));
            if is_next { parts.next().transpose().map(|part| part.map(|(_, value)| value)) } else { Ok(None) }
        };
        let application = value("application")?.and_then(token).ok_or(CoverFault)?;
        let tenant = value("tenant")?.and_then(token).ok_or(CoverFault)?;
        let host = value("host")?.map(str::parse).transpose().map_err(|_| CoverFault)?;
        let reach = match (value("unit")?, value("cgroup")?, value("uid")?) {
            (Some(unit), None, None) => Reach::Unit(token(unit).ok_or(CoverFault)?),
            (None, Some(path), None) if is_group(path) => Reach::Cgroup(token(path).ok_or(CoverFault)?),
            (None, None, Some(uid)) => Reach::Uid(uid.parse().map_err(|_| CoverFault)?),
            _ => return Err(CoverFault),
        };
        let class = value("class")?.ok_or(CoverFault)?.parse().map_err(|_| CoverFault)?;
        let mut cover = Self { application, tenant, host, reach, class, guarantee: [None; 5], limit: [None; 5] };
        for kind in ResourceKind::ALL {
            let of = |what: &str| format!("{}.{what}", kind.unit_name());
            cover.guarantee[kind as usize] = value(&of("guarantee"))?.map(str::parse).transpose()?;
            cover.limit[kind as usize] = value(&of("limit"))?.map(str::parse).transpose()?;
        }
        if parts.peek().is_some() { Err(CoverFault) } else { Ok(cover) }
    }
}

/// A text without white space, so that a line has as many parts as it seems to have.
fn token<const MAX: usize>(text: &str) -> Option<Text<MAX>> {
    let is_plain = !text.is_empty() && !text.contains(char::is_whitespace);
    Text::new(text).filter(|_| is_plain)
}

/// Whether a path is absolute, not the root, and has no part that leads elsewhere.
fn is_group(path: &str) -> bool {
    let leads_here = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(leads_here))
}

impl Cover {
    /// Resource by resource: guarantee and limit.
    pub fn spans(&self) -> impl Iterator<Item = (ResourceKind, Option<Span>, Option<Span>)> + '_ {
        ResourceKind::ALL.into_iter().map(|kind| (kind, self.guarantee[kind as usize], self.limit[kind as usize]))
    }
}
