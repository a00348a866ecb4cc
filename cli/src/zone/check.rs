//! `quotary zone check`: a dry run of zones that are not in force.

use std::path::{Path, PathBuf};

use quotary_common::limits::ZONE_CHECK_BODY_BYTES_MAX;
use quotary_common::wire::{
    Base64, CheckZones, ListHosts, NamedFile, ZoneCheckOutcome, ZoneCheckReply, ZoneCheckRequest, ZoneCheckView,
};
use serde::Deserialize;

use crate::args::ZoneCheckArgs;
use crate::exit::{Code, Failure};
use crate::present::{self, Align, Progress, Table};
use crate::session::Session;

/// Hosts in one call.
const HOSTS_AT_ONCE: usize = 16;

/// What is looked at here: which files must go along. The verifier judges the rest.
#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    zone: Vec<NamedZone>,
    #[serde(default)]
    ima: NamedIma,
}

#[derive(Debug, Deserialize)]
struct NamedZone {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct NamedIma {
    #[serde(default)]
    allow: Vec<PathBuf>,
    #[serde(default)]
    signers: Vec<PathBuf>,
}

/// Has the candidate tried, and shows how hosts would stand.
pub(crate) async fn check(session: &Session, args: &ZoneCheckArgs, json: bool) -> Result<(), Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Code::Unreadable, format!("{}: {error}", path.display()))
    };
    let candidate = std::fs::read_to_string(&args.file).map_err(|error| unreadable(&args.file, &error))?;
    let named: Named = toml::from_str(&candidate).map_err(|error| unreadable(&args.file, &error))?;
    let base = args.file.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for file in named.ima.allow.iter().chain(&named.ima.signers) {
        let path = base.join(file);
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let Some(name) = file.to_str() else { return Err(unreadable(&path, &"its name is not UTF-8")) };
        files.push(NamedFile { name: name.to_owned(), bytes: Base64(bytes) });
    }
    // As base64 text in JSON.
    let sent: usize = files.iter().map(|file| file.bytes.0.len() / 3 * 4 + 64).sum();
    if sent + candidate.len() > ZONE_CHECK_BODY_BYTES_MAX {
        let detail = format!("what is to be sent has {sent} bytes, at most {ZONE_CHECK_BODY_BYTES_MAX} are taken");
        return Err(unreadable(&args.file, &detail));
    }
    let mut hosts = Vec::new();
    for host in &args.hosts {
        hosts.push(session.host(host).await?);
    }
    if hosts.is_empty() {
        hosts = session.ask::<ListHosts>(&[]).await?.iter().map(|view| view.host).collect();
    }
    let reply = ask(session, ZoneCheckRequest { candidate, files, hosts, learned: Vec::new() }).await?;
    if json {
        present::json(&reply)?;
    } else if reply.faults.is_empty() {
        present::print_table(&table(&reply.hosts))?;
    }
    let order: Vec<String> = named.zone.into_iter().filter_map(|zone| zone.name).collect();
    verdict(&args.file, &reply, (&order, args.allow_unknown))
}

/// Asks for some hosts at a time: a verifier gives a call half a minute.
async fn ask(session: &Session, mut request: ZoneCheckRequest) -> Result<ZoneCheckReply, Failure> {
    let hosts = std::mem::take(&mut request.hosts);
    if hosts.is_empty() {
        // Nobody is enrolled: the file's faults are told all the same.
        return session.call::<CheckZones>(&[], &request).await;
    }
    let mut all = ZoneCheckReply { faults: Vec::new(), hosts: Vec::new(), learned: Vec::new() };
    let mut progress = Progress::new("hosts");
    for some in hosts.chunks(HOSTS_AT_ONCE) {
        request.hosts = some.to_vec();
        let reply = session.call::<CheckZones>(&[], &request).await?;
        if !reply.faults.is_empty() {
            return Ok(reply);
        }
        all.hosts.extend(reply.hosts);
        // What these would teach the zones holds for those that follow.
        request.learned.clone_from(&reply.learned);
        all.learned = reply.learned;
        progress.tell(all.hosts.len() as u64, hosts.len() as u64);
    }
    Ok(all)
}

fn verdict(file: &Path, reply: &ZoneCheckReply, (order, allow_unknown): (&[String], bool)) -> Result<(), Failure> {
    if !reply.faults.is_empty() {
        let faults: Vec<String> = reply.faults.iter().map(|fault| format!("  - {}", present::clean(fault))).collect();
        let what = format!("{} has {} fault(s):\n{}", file.display(), faults.len(), faults.join("\n"));
        return Err(Failure::new(Code::Refused, what));
    }
    let (worse, all) = (reply.hosts.iter().filter(|host| loses(host, order)).count(), reply.hosts.len());
    let unknown = reply.hosts.iter().filter(|host| host.outcome == ZoneCheckOutcome::Unknown).count();
    let mut said = Vec::new();
    if worse > 0 {
        said.push(format!("{worse} of {all} hosts would lose their zone"));
    }
    if unknown > 0 && !allow_unknown {
        said.push(format!("{unknown} of {all} hosts cannot be judged (--allow-unknown lets that be)"));
    }
    if said.is_empty() { Ok(()) } else { Err(Failure::new(Code::Refused, said.join("; "))) }
}

/// Whether the host would be worse off; zones stand best first in `order`.
fn loses(host: &ZoneCheckView, order: &[String]) -> bool {
    let place = |zone: &Option<String>| order.iter().position(|name| Some(name) == zone.as_ref());
    match host.outcome {
        ZoneCheckOutcome::Leaves | ZoneCheckOutcome::IsRevoked => true,
        ZoneCheckOutcome::Moves => match (place(&host.zone_now), place(&host.zone_then)) {
            (Some(now), Some(then)) => then > now,
            // The zone that it is in is to be no more: whether the other is worse, nobody can say.
            _ => false,
        },
        _ => false,
    }
}

fn table(hosts: &[ZoneCheckView]) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("NAME", Align::Left),
        ("OUTCOME", Align::Left),
        ("NOW", Align::Left),
        ("THEN", Align::Left),
        ("WHY", Align::Left),
    ];
    let mut table = Table::new(&columns, "no hosts are enrolled");
    let or_none = |zone: &Option<String>| zone.clone().unwrap_or_else(|| "-".to_owned());
    for host in hosts {
        table.row([
            host.id.clone(),
            or_none(&host.hostname),
            outcome(host.outcome).to_owned(),
            or_none(&host.zone_now),
            or_none(&host.zone_then),
            why(host),
        ]);
    }
    table
}

fn why(host: &ZoneCheckView) -> String {
    if let Some(unknown) = &host.unknown {
        return unknown.clone();
    }
    let mut told: Vec<String> = host.failed.iter().map(|refusal| refusal.detail.clone()).collect();
    told.extend(host.warnings.iter().map(|warning| format!("warning {}: {}", warning.code, warning.detail)));
    if host.teaches {
        told.push("it would teach the zone its reference values".to_owned());
    }
    told.join("; ")
}

const fn outcome(outcome: ZoneCheckOutcome) -> &'static str {
    match outcome {
        ZoneCheckOutcome::Stays => "stays",
        ZoneCheckOutcome::Moves => "moves",
        ZoneCheckOutcome::Leaves => "leaves",
        ZoneCheckOutcome::IsRevoked => "is revoked",
        ZoneCheckOutcome::Enters => "enters",
        ZoneCheckOutcome::StaysOut => "stays out",
        ZoneCheckOutcome::Unknown => "unknown",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_common::id::HostId;

    fn host(outcome: ZoneCheckOutcome, now: Option<&str>, then: Option<&str>) -> ZoneCheckView {
        ZoneCheckView {
            host: HostId::of(&[b"an EK"]),
            id: "h-a".to_owned(),
            hostname: None,
            outcome,
            zone_now: now.map(str::to_owned),
            zone_then: then.map(str::to_owned),
            teaches: false,
            failed: Vec::new(),
            warnings: Vec::new(),
            evidence: None,
            unknown: None,
        }
    }

    #[test]
    fn a_host_that_is_worse_off_fails_the_check() {
        let order = ["sealed".to_owned(), "lab".to_owned()];
        let judged = |host| {
            let reply = ZoneCheckReply { faults: vec![], hosts: vec![host], learned: vec![] };
            verdict(Path::new("z.toml"), &reply, (&order, false))
        };
        assert!(judged(host(ZoneCheckOutcome::Moves, Some("sealed"), Some("lab"))).is_err());
        assert!(judged(host(ZoneCheckOutcome::Moves, Some("lab"), Some("sealed"))).is_ok());
        assert!(judged(host(ZoneCheckOutcome::Moves, Some("gone"), Some("lab"))).is_ok());
        assert!(judged(host(ZoneCheckOutcome::Leaves, Some("lab"), None)).is_err());
        assert!(judged(host(ZoneCheckOutcome::IsRevoked, None, None)).is_err());
        assert!(judged(host(ZoneCheckOutcome::StaysOut, None, None)).is_ok());
        let faulty =
            ZoneCheckReply { faults: vec!["zone a: is there twice".to_owned()], hosts: vec![], learned: vec![] };
        assert!(
            verdict(Path::new("z.toml"), &faulty, (&order, false)).unwrap_err().message().contains("is there twice")
        );
    }

    #[test]
    fn a_host_that_cannot_be_judged_fails_the_check_unless_that_is_allowed() {
        let hosts = vec![host(ZoneCheckOutcome::Unknown, Some("lab"), None), host(ZoneCheckOutcome::Stays, None, None)];
        let reply = ZoneCheckReply { faults: vec![], hosts, learned: vec![] };
        let failure = verdict(Path::new("z.toml"), &reply, (&[], false)).unwrap_err();
        assert!(failure.message().contains("1 of 2 hosts cannot be judged"), "{}", failure.message());
        assert_eq!(failure.code(), 1);
        assert!(verdict(Path::new("z.toml"), &reply, (&[], true)).is_ok());
    }
}
