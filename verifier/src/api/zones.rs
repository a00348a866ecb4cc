//! Dry runs of zones.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use quotary_common::cbor::{self, Bounded};
use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::id::HostId;
use quotary_common::limits::{PCR_BANKS_MAX, PCR_COUNT};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, Base64, TaughtZone, ZoneCheckReply, ZoneCheckRequest};
use quotary_decide::attest::LearnedReferences;
use tokio_util::sync::CancellationToken;

use super::App;
use super::mount::Call;
use super::views::no_host;
use crate::config::candidate_zones;
use crate::core::{CheckError, DryZones, check_zones, learned};

/// Largest canonical form of a zone's values, in bytes: each has 64 at most, and what names it.
const VALUES_BYTES_MAX: usize = PCR_BANKS_MAX * PCR_COUNT * 80;

type Values = Bounded<PcrValue, { PCR_BANKS_MAX * PCR_COUNT }>;

pub(super) async fn check(call: Call<wire::CheckZones>) -> Result<ZoneCheckReply, Refusal> {
    let (app, body) = (call.app, call.body);
    let Ok(place) = Arc::clone(&app.zone_checks).try_acquire_owned() else {
        return Err(Refusal::new(Reason::Busy, "another dry run is under way: come back when it is done"));
    };
    // Who waits no more, and a verifier that stops, end the work: this future goes, and the guard with it.
    let stop = app.stop.child_token();
    let _stopped_with_the_call = stop.clone().drop_guard();
    // Long work: a signature for each evidence that is judged, and a walk through all that is kept.
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        run(&app, body, &stop)
    });
    done.await.map_err(|_| broken_off())?
}

fn broken_off() -> Refusal {
    Refusal::new(Reason::Unavailable, "the dry run was broken off")
}

fn run(app: &App, body: ZoneCheckRequest, stop: &CancellationToken) -> Result<ZoneCheckReply, Refusal> {
    let files = body.files.into_iter().map(|file| (PathBuf::from(file.name), file.bytes.0)).collect();
    let zones = match candidate_zones(&body.candidate, &files) {
        Ok(zones) => zones,
        Err(faults) => return Ok(ZoneCheckReply { faults, hosts: Vec::new(), learned: Vec::new() }),
    };
    let of_id = |id: &HostId| app.view.host(id).ok_or_else(|| no_host(&id.to_string()));
    let hosts = match body.hosts.as_slice() {
        [] => app.view.hosts(),
        named => named.iter().map(of_id).collect::<Result<_, _>>()?,
    };
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(%error, "a dry run of zones could not read the store");
        Refusal::new(Reason::Unavailable, "the store cannot be read now")
    };
    let taught_before = read_taught(&body.learned)?;
    let mut known = {
        let reader = app.reader.lock().unwrap_or_else(PoisonError::into_inner);
        learned(&**reader).map_err(|error| failed(&error))?
    };
    let in_truth: Vec<Name> = known.keys().cloned().collect();
    for (zone, values) in taught_before {
        // What a zone has learned in truth meanwhile counts.
        known.entry(zone).or_insert(values);
    }
    let dry = DryZones { zones: &zones, in_force: &app.ground.zones, now_ms: app.clock.now_ms() };
    let hosts = check_zones(&dry, &mut known, &hosts, &app.reader, stop).map_err(|error| match error {
        CheckError::Stopped => broken_off(),
        CheckError::Store(error) => failed(&error),
    })?;
    known.retain(|zone, _| !in_truth.contains(zone));
    Ok(ZoneCheckReply { faults: Vec::new(), hosts, learned: known.into_iter().map(tell_taught).collect() })
}

fn read_taught(taught: &[TaughtZone]) -> Result<LearnedReferences, Refusal> {
    let malformed = |zone: &str, why: &str| Refusal::new(Reason::Malformed, format!("learned, zone `{zone}`: {why}"));
    let one = |taught: &TaughtZone| -> Result<_, Refusal> {
        let name = Name::new(&taught.zone).ok_or_else(|| malformed("?", "not the name of a zone"))?;
        let values: Values = cbor::from_bytes(&taught.values.0, VALUES_BYTES_MAX)
            .map_err(|error| malformed(name.as_str(), &error.to_string()))?;
        Ok((name, values.into_vec()))
    };
    taught.iter().map(one).collect()
}

fn tell_taught((zone, values): (Name, Vec<PcrValue>)) -> TaughtZone {
    let values = Values::truncating(values).0;
    TaughtZone { zone: zone.as_str().to_owned(), values: Base64(cbor::to_bytes(&values)) }
}
