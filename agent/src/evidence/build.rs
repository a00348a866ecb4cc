//! Builds an envelope within its bounds. Pure.

use quotary_common::cbor::{self, Bounded, CborError};
use quotary_common::envelope::{
    Backend, ClaimedEnvelope, EnforcementWrite, Envelope, EnvelopeVersion, Event, EventKind, HostFacts, Name,
    PendingRequest, WitnessedCheckpoint,
};
use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId};
use quotary_common::limits::{
    APPLICATIONS_MAX, CONTROLLERS_MAX, ENVELOPE_BYTES_MAX, EVENTS_MAX, NAME_BYTES_MAX, REQUESTS_MAX, WRITES_MAX,
};
use quotary_common::metric::MetricWindows;

use super::{Place, fit};
use crate::sample::{ApplicationWindows, Windows};

/// What windows may exceed their estimate by: lengths of lists, and the event that counts what was left out.
const MARGIN_BYTES: usize = 1024;
/// What writes may take of an envelope; the rest waits for the next.
const WRITES_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 4;
/// What requests may take; those left out are stated when earlier ones have their answer.
const REQUESTS_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 4;
/// What events may take; those left out are counted.
const EVENTS_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 8;
/// What the rest may take beside windows: the frame, its controls, and the grants in use.
const REST_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 8;
const _: () = assert!(WRITES_BYTES_MAX + REQUESTS_BYTES_MAX + EVENTS_BYTES_MAX + REST_BYTES_MAX < ENVELOPE_BYTES_MAX);
const _: () =
    assert!(APPLICATIONS_MAX * 34 + CONTROLLERS_MAX * (NAME_BYTES_MAX + 8) + 8 * NAME_BYTES_MAX < REST_BYTES_MAX);

/// Who speaks, and on what host: the parts of an envelope that rarely change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The deployment this is meant for.
    pub deployment: DeploymentId,
    /// The host that speaks.
    pub host: HostId,
    /// The kernel's boot id.
    pub boot_id: BootId,
    /// SHA-256 of the SubjectPublicKeyInfo of the TLS client key.
    pub tls_key: Digest,
    /// The checkpoint to witness.
    pub checkpoint: Option<WitnessedCheckpoint>,
    /// The agent's version.
    pub agent_version: Name,
    /// `CLOCK_BOOTTIME` now, ms: a lease that answers counts from here.
    pub built_at_ms: u64,
    /// How the agent enforces.
    pub backend: Backend,
    /// What the host says it has.
    pub facts: HostFacts,
}

/// What happened since the last envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Metric windows and the sampler's events.
    pub windows: Windows,
    /// Other events.
    pub events: Vec<Event>,
    /// Enforcement writes, oldest first.
    pub writes: Vec<EnforcementWrite>,
    /// Requests that wait.
    pub requests: Vec<PendingRequest>,
    /// Grants in use.
    pub held: Vec<GrantId>,
}

/// The envelope at `place`, and the writes that wait for the next since this one is full.
///
/// # Errors
/// [`CborError::TooLarge`] when even without windows it exceeds its bounds, which its other bounds exclude.
pub fn build(
    frame: Frame,
    place: Place,
    contents: Contents,
) -> Result<(ClaimedEnvelope, Vec<EnforcementWrite>), CborError> {
    let Contents { mut windows, events, mut writes, mut requests, held } = contents;
    let now_ms = frame.built_at_ms;
    let waiting = writes.split_off(that_fit(&writes, WRITES_MAX, WRITES_BYTES_MAX));
    requests.truncate(that_fit(&requests, requests.len(), REQUESTS_BYTES_MAX));
    let mut events = merge(std::mem::take(&mut windows.events), events);
    let (requests, requests_left_out) = Bounded::<_, REQUESTS_MAX>::truncating(requests);
    let (held, held_left_out) = Bounded::<_, APPLICATIONS_MAX>::truncating(held);
    let mut left_out = (requests_left_out + held_left_out) as u64;
    // One place is for the event that counts what was left out.
    let events_kept = that_fit(&events, EVENTS_MAX - 1, EVENTS_BYTES_MAX);
    left_out += (events.len() - events_kept) as u64;
    events.truncate(events_kept);
    let (writes, _) = Bounded::<_, WRITES_MAX>::truncating(writes);
    let mut envelope = Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: frame.deployment,
        host: frame.host,
        boot_id: frame.boot_id,
        sequence: place.sequence,
        predecessor: place.predecessor,
        tls_key: frame.tls_key,
        checkpoint: frame.checkpoint,
        agent_version: frame.agent_version,
        built_at_ms: now_ms,
        backend: frame.backend,
        host_windows: MetricWindows::default(),
        applications: Bounded::default(),
        events: Bounded::truncating(events.clone()).0,
        writes,
        requests,
        held,
        facts: frame.facts,
    };
    let taken_bytes = cbor::to_bytes(&envelope).len() + MARGIN_BYTES;
    let windows = fit(windows, ENVELOPE_BYTES_MAX.saturating_sub(taken_bytes), now_ms);
    left_out += windows.events.iter().map(|event| event.count).sum::<u64>();
    count_event(&mut events, EventKind::LeftOut, left_out, now_ms);
    envelope.events = Bounded::truncating(events).0;
    envelope.host_windows = MetricWindows::truncating(&windows.host).0;
    let reports = windows.applications.into_iter().map(ApplicationWindows::into_report).collect();
    envelope.applications = Bounded::truncating(reports).0;
    Ok((envelope.seal()?, waiting))
}

/// How many items, the first ones first, go into so many bytes.
fn that_fit<T: minicbor::Encode<()>>(items: &[T], count_max: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    items
        .iter()
        .take(count_max)
        .take_while(|item| {
            bytes += cbor::to_bytes(item).len();
            bytes <= bytes_max
        })
        .count()
}

/// One event per kind and cgroup.
fn merge(mut events: Vec<Event>, more: Vec<Event>) -> Vec<Event> {
    for event in more {
        add_event(&mut events, event);
    }
    events
}

/// Adds an event: to the count of the same kind and cgroup, if there is one.
pub(crate) fn add_event(events: &mut Vec<Event>, event: Event) {
    match events.iter_mut().find(|other| other.kind == event.kind && other.cgroup == event.cgroup) {
        Some(other) => {
            other.count = other.count.saturating_add(event.count);
            other.at_ms = other.at_ms.max(event.at_ms);
        }
        None => events.push(event),
    }
}

/// Counts an event of the host, `count` times, if any.
pub(crate) fn count_event(events: &mut Vec<Event>, kind: EventKind, count: u64, at_ms: u64) {
    if count > 0 {
        add_event(events, Event { kind, cgroup: None, count, at_ms });
    }
}
