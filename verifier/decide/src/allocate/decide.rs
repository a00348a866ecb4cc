//! The decision: what one accepted envelope changes in the book.

use std::collections::BTreeMap;

use quotary_common::cbor::{Text, Version};
use quotary_common::envelope::{Envelope, Name, PendingRequest};
use quotary_common::grant::{Grant, RequestRefusal};
use quotary_common::id::{Digest, GrantId, HostId};
use quotary_common::leaf::GrantChange;
use quotary_common::limits::GRANTS_MAX;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::{ResourceKind, Resources};

use super::book::{Book, GrantRecord, HostShare};
use super::rules::{Identity, Rules};
use crate::profile::{Outlook, Profile, size};

/// What the decision rests on, beside the book.
pub struct Asked<'a> {
    /// The accepted envelope's claims.
    pub envelope: &'a Envelope,
    /// The host's epoch.
    pub epoch: u64,
    /// The zone that it is in may be granted to.
    pub trusted: bool,
    /// What is expected of each grant's application, by resource.
    pub outlooks: &'a BTreeMap<GrantId, BTreeMap<ResourceKind, Outlook>>,
    /// What policies allow an application of a tenant on this host.
    pub limits: &'a dyn Fn(&Name, &Name) -> Limits,
    /// A grant's size moves at most once in so many ms.
    pub dwell_ms: u64,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// What policies allow one unit of an application at most; absent amounts have no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// By the policies in force: no grant that is renewed goes above.
    pub now: Resources,
    /// The stricter of those and of what changes under way would put in force: no new grant goes above.
    pub coming: Resources,
}

/// No policy limits anything.
pub fn unlimited(_application: &Name, _tenant: &Name) -> Limits {
    Limits::default()
}

/// What changes. Applying it to the book is the caller's, after it is durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Grants given or changed, with what happened to them.
    pub changed: Vec<(GrantRecord, GrantChange)>,
    /// Grants that ended.
    pub ended: Vec<(GrantRecord, GrantChange)>,
    /// Requests that got nothing.
    pub refused: Vec<RequestRefusal>,
    /// All grants that the host holds from now on.
    pub grants: Vec<Grant>,
}

/// Decides the releases, renewals and requests of one accepted envelope, in that order.
///
/// A grant that an envelope after its giving does not hold is released. A renewal moves its size towards its
/// profile, if there is room. A request is granted its profile, or refused with the reason.
pub fn decide(book: &Book, rules: &Rules, asked: &Asked<'_>) -> Allocation {
    let host = asked.envelope.host;
    let empty = HostShare::default();
    let share = book.host(&host).unwrap_or(&empty);
    let mut work = Work { book, rules, share, host, delta: Deltas::default(), out: Allocation::default() };
    for entry in share.entries().filter(|entry| !entry.is_fenced()) {
        let record = &entry.record;
        let held = asked.envelope.held.contains(&record.grant.id);
        let asks_still = asked.envelope.requests.iter().any(|request| request.id == record.grant.request);
        if held || asks_still || asked.envelope.sequence <= record.given_sequence {
            work.renew(record, asked);
        } else {
            work.release(record);
        }
    }
    for request in asked.envelope.requests.iter() {
        let id = GrantId::for_request(&host, &request.id);
        if work.out.grants.iter().any(|grant| grant.id == id) {
            continue;
        }
        match work.admit(request, id, asked) {
            Ok(record) => work.give(record),
            Err(refusal) => work.out.refused.push(RequestRefusal { request: request.id, refusal }),
        }
    }
    work.out
}

/// How much more (or less) each sum is than the book says, by what was decided so far.
#[derive(Default)]
struct Deltas {
    host: [i128; 5],
    tenants: BTreeMap<String, [i128; 5]>,
    applications: BTreeMap<String, [i128; 5]>,
}

struct Work<'a> {
    book: &'a Book,
    rules: &'a Rules,
    share: &'a HostShare,
    host: HostId,
    delta: Deltas,
    out: Allocation,
}

impl Work<'_> {
    fn account(&mut self, grant: &Grant, from: &Resources, to: &Resources) {
        let tenant = self.delta.tenants.entry(grant.tenant.as_str().to_owned()).or_default();
        let application = self.delta.applications.entry(grant.application.as_str().to_owned()).or_default();
        for kind in ResourceKind::ALL {
            let more = i128::from(to.get(kind).unwrap_or(0)) - i128::from(from.get(kind).unwrap_or(0));
            let index = kind as usize;
            self.delta.host[index] += more;
            tenant[index] += more;
            application[index] += more;
        }
    }

    fn release(&mut self, record: &GrantRecord) {
        self.account(&record.grant, &record.grant.resources, &Resources::default());
        self.out.ended.push((record.clone(), GrantChange::Released));
    }

    /// A grant moves towards its profile and, where policies cut it, back towards what it would be without them as soon as they allow more.
    fn renew(&mut self, record: &GrantRecord, asked: &Asked<'_>) {
        let none = BTreeMap::new();
        let outlooks = asked.outlooks.get(&record.grant.id).unwrap_or(&none);
        let dwelt = asked.now_ms.saturating_sub(record.sized_at_ms) >= asked.dwell_ms;
        let mut next = record.clone();
        let mut wanted = record.uncut.unwrap_or(record.grant.resources);
        if dwelt && !outlooks.is_empty() {
            let profile = size(&record.requested, record.grant.class, outlooks);
            if moved(&wanted, &profile.resources) {
                wanted = profile.resources;
                next.why = why(&profile);
                next.model = model(&profile);
            }
        }
        let limits = (asked.limits)(&record.grant.application, &record.grant.tenant);
        let allowed = cut(&wanted, &limits.now);
        let held = self.within(&record.grant, &allowed, &limits.coming);
        // A host that is not trusted keeps what it has, and gets no more.
        let held = if asked.trusted { held } else { cut(&held, &record.grant.resources) };
        // What policies cut is remembered until it is back: without a forecast nothing else says how much that was.
        next.uncut = Some(wanted).filter(|wanted| (record.uncut.is_some() || allowed != *wanted) && held != *wanted);
        let has = &record.grant.resources;
        let grows = cut(has, &held) == *has;
        let is_trifle = grows && held != allowed && !moved(has, &held);
        if held == *has || is_trifle {
            self.out.grants.push(record.grant.clone());
        } else {
            let limit = next.uncut.map(|_| if allowed == wanted { BY_ROOM } else { BY_POLICY });
            next.why = Text::lossy(&format!("{}{}", plain(next.why.as_str()), limit.unwrap_or_default()));
            (next.grant.resources, next.sized_at_ms) = (held, asked.now_ms);
            self.account(&next.grant, has, &held);
            self.out.grants.push(next.grant.clone());
            self.out.changed.push((next, GrantChange::Resized));
        }
    }

    /// The wanted size, each amount cut to what there is room for and, where it grows, to `coming`; what a grant has it keeps.
    fn within(&self, grant: &Grant, wanted: &Resources, coming: &Resources) -> Resources {
        let mut out = *wanted;
        for kind in ResourceKind::ALL {
            let (Some(want), Some(has)) = (wanted.get(kind), grant.resources.get(kind)) else { continue };
            if want > has {
                let identity = (&grant.tenant, &grant.application);
                let room = self.room(kind, identity).map_or(0, |(room, _)| room);
                let most = coming.get(kind).map_or(want, |coming| want.min(coming)).max(has);
                out.set(kind, Some(has.saturating_add(room.min(most - has))));
            }
        }
        out
    }

    /// What may still be granted of one resource, and which bound is the narrowest. `None`: not in the inventory.
    fn room(&self, kind: ResourceKind, (tenant, application): (&Name, &Name)) -> Option<(u64, Reason)> {
        let index = kind as usize;
        let left = |bound: u64, used: u64, delta: i128| {
            let left = i128::from(bound) - i128::from(used) - delta;
            u64::try_from(left.max(0)).unwrap_or(u64::MAX)
        };
        let capacity = self.share.capacity.get(kind)?;
        let mut best =
            (left(self.rules.grantable(capacity), self.share.granted(kind), self.delta.host[index]), Reason::Capacity);
        let sums = [
            (
                self.rules.tenant_quota(tenant, kind),
                self.book.tenant(tenant, kind),
                self.delta.tenants.get(tenant.as_str()),
            ),
            (
                self.rules.application_quota(application, kind),
                self.book.application(application, kind),
                self.delta.applications.get(application.as_str()),
            ),
        ];
        for (quota, used, delta) in sums {
            if let Some(quota) = quota {
                let room = left(quota, used, delta.map_or(0, |delta| delta[index]));
                if room < best.0 {
                    best = (room, Reason::Quota);
                }
            }
        }
        Some(best)
    }

    fn admit(&self, request: &PendingRequest, id: GrantId, asked: &Asked<'_>) -> Result<GrantRecord, Refusal> {
        if self.share.get(&id).is_some() {
            // Its capacity is held on for whoever may still run under it.
            return Err(Refusal::new(
                Reason::Epoch,
                "this request's grant was revoked with the host's epoch: ask anew",
            ));
        }
        if !asked.trusted {
            return Err(Refusal::new(Reason::Zone, "the host is in no trust zone now: see `quotary host show`"));
        }
        let identity = self.rules.identify(request).ok_or_else(|| {
            Refusal::new(
                Reason::Quota,
                format!(
                    "no application rule matches uid {} in {}: add one to the verifier's configuration",
                    request.uid, request.cgroup
                ),
            )
        })?;
        if request.class < identity.class_best {
            return Err(Refusal::new(
                Reason::Quota,
                format!("{} may ask for {} at best, not {}", identity.application, identity.class_best, request.class),
            ));
        }
        if request.resources == Resources::default() {
            return Err(Refusal::new(
                Reason::Malformed,
                "the request asks for nothing: state cpu, memory, disk or network",
            ));
        }
        if self.out.grants.len() >= GRANTS_MAX {
            return Err(Refusal::new(
                Reason::Capacity,
                format!("the host holds {GRANTS_MAX} grants, no more are possible"),
            ));
        }
        let profile = size(&request.resources, request.class, &BTreeMap::new());
        let limits = (asked.limits)(&identity.application, &identity.tenant);
        let resources = cut(&profile.resources, &limits.coming);
        self.check_room(&resources, &identity)?;
        let uncut = Some(profile.resources).filter(|uncut| resources != *uncut);
        let by_policy = uncut.map(|_| BY_POLICY).unwrap_or_default();
        Ok(GrantRecord {
            version: Version,
            host: self.host,
            grant: Grant {
                id,
                request: request.id,
                application: identity.application,
                tenant: identity.tenant,
                class: request.class,
                resources,
            },
            requested: request.resources,
            epoch: asked.epoch,
            given_sequence: asked.envelope.sequence,
            sized_at_ms: asked.now_ms,
            why: Text::lossy(&format!("{}{by_policy}", why(&profile))),
            model: model(&profile),
            uncut,
        })
    }

    fn check_room(&self, wanted: &Resources, identity: &Identity) -> Result<(), Refusal> {
        for kind in ResourceKind::ALL {
            let Some(want) = wanted.get(kind) else { continue };
            let unit = kind.unit_name();
            let (room, bound) = self
                .room(kind, (&identity.tenant, &identity.application))
                .ok_or_else(|| Refusal::new(Reason::Capacity, format!("the host's inventory states no {unit}")))?;
            if want > room {
                let whose = match bound {
                    Reason::Quota => format!("the quota of {} or its tenant {}", identity.application, identity.tenant),
                    _ => "the host's inventory".to_owned(),
                };
                return Err(Refusal::new(bound, format!("{want} {unit} asked for, {room} left in {whose}")));
            }
        }
        Ok(())
    }

    fn give(&mut self, record: GrantRecord) {
        self.account(&record.grant, &Resources::default(), &record.grant.resources);
        self.out.grants.push(record.grant.clone());
        self.out.changed.push((record, GrantChange::Given));
    }
}

/// What is added to why a grant has its size, where policies cut it.
const BY_POLICY: &str = "; no more than policies allow";
/// The same where they do not any more, and what is free does not do.
const BY_ROOM: &str = "; policies allow more, which grows back as it becomes free";

/// Why a grant has its size, but for what cut it.
fn plain(why: &str) -> &str {
    [BY_POLICY, BY_ROOM].iter().fold(why, |why, cut| why.strip_suffix(cut).unwrap_or(why))
}

/// Amounts, each no more than its limit.
fn cut(amounts: &Resources, limit: &Resources) -> Resources {
    let mut out = *amounts;
    for kind in ResourceKind::ALL {
        if let (Some(amount), Some(most)) = (amounts.get(kind), limit.get(kind)) {
            out.set(kind, Some(amount.min(most)));
        }
    }
    out
}

/// A size moves only when some amount changes by a tenth or more: small noise is not worth a write.
fn moved(from: &Resources, to: &Resources) -> bool {
    from.amounts().into_iter().zip(to.amounts()).any(|pair| match pair {
        (Some(from), Some(to)) => from.abs_diff(to) >= (from / 10).max(1),
        (from, to) => from != to,
    })
}

fn model(profile: &Profile) -> Option<Digest> {
    profile.model_sha256.as_ref().and_then(|hex| hex.parse().ok())
}

fn why(profile: &Profile) -> Text<512> {
    let parts: Vec<String> = profile.why.iter().map(|(kind, why)| format!("{}: {why}", kind.unit_name())).collect();
    Text::lossy(&parts.join("; "))
}

#[cfg(test)]
#[path = "tests.rs"]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests;
