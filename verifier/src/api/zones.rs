//! Dry runs of zones.

use std::path::PathBuf;
use std::sync::Arc;

use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, ZoneCheckReply};

use super::mount::Call;
use super::views::no_host;
use crate::config::candidate_zones;
use crate::core::{check_zones, learned};

pub(super) async fn check(call: Call<wire::CheckZones>) -> Result<ZoneCheckReply, Refusal> {
    let (app, body) = (call.app, call.body);
    let Ok(place) = Arc::clone(&app.zone_checks).try_acquire_owned() else {
        return Err(Refusal::new(Reason::Busy, "another dry run is under way: come back when it is done"));
    };
    // Long work: a signature for each evidence with logs, and a walk through all that is kept.
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        let files = body.files.into_iter().map(|file| (PathBuf::from(file.name), file.bytes.0)).collect();
        let zones = match candidate_zones(&body.candidate, &files) {
            Ok(zones) => zones,
            Err(faults) => return Ok(ZoneCheckReply { faults, hosts: Vec::new() }),
        };
        let of_id = |id: &quotary_common::id::HostId| app.view.host(id).ok_or_else(|| no_host(&id.to_string()));
        let hosts = match body.hosts.as_slice() {
            [] => app.view.hosts(),
            named => named.iter().map(of_id).collect::<Result<_, _>>()?,
        };
        let failed = |error: &dyn std::error::Error| {
            tracing::error!(%error, "a dry run of zones could not read the store");
            Refusal::new(Reason::Unavailable, "the store cannot be read now")
        };
        let known = {
            let reader = app.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            learned(&**reader).map_err(|error| failed(&error))?
        };
        let hosts = check_zones(&zones, known, &hosts, &app.reader, app.clock.now_ms());
        Ok(ZoneCheckReply { faults: Vec::new(), hosts: hosts.map_err(|error| failed(&error))? })
    });
    done.await.map_err(|_| Refusal::new(Reason::Unavailable, "the dry run was broken off"))?
}
