//! `quotary evidence show`: one evidence, decoded from the very bytes that are kept.

mod json;

use std::path::Path;

use quotary_common::envelope::{ApplicationReport, ClaimedEnvelope, EnforcementWrite, Envelope};
use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::metric::MetricWindows;
use quotary_common::tpm::Quote;
use quotary_common::wire::ShowEvidence;

use crate::agent::word;
use crate::exit::{Code, Failure, with_causes};
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;

/// Shows it, or writes its bytes.
pub(crate) async fn one(
    session: &Session,
    host: &str,
    digest: Option<Digest>,
    out: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let host = session.host(host).await?;
    let named = digest.map_or_else(|| "latest".to_owned(), |digest| digest.hex());
    let view = session.ask::<ShowEvidence>(&[&host.hex(), &named]).await?;
    let bytes = view.evidence.0;
    let name = Evidence::digest(&bytes);
    if name != view.digest || digest.is_some_and(|wanted| wanted != name) {
        return Err(Failure::new(
            Code::Refused,
            format!("the verifier answered other bytes: their digest is {}", name.hex()),
        ));
    }
    if let Some(path) = out {
        std::fs::write(path, &bytes)
            .map_err(|e| Failure::new(Code::Unreadable, format!("cannot write {}: {e}", path.display())))?;
        return present::print(&format!(
            "{} bytes written to {}; sha256 {}\n",
            bytes.len(),
            path.display(),
            name.hex()
        ));
    }
    let unreadable = |error: &dyn std::error::Error| {
        Failure::new(Code::Unreadable, format!("evidence {} is not readable: {}", name.hex(), with_causes(error)))
    };
    let evidence = Evidence::from_bytes(&bytes).map_err(|e| unreadable(&e))?;
    let envelope = ClaimedEnvelope::parse(evidence.envelope.as_slice()).map_err(|e| unreadable(&e))?;
    let quote = Quote::parse(&evidence.attest).map_err(|e| unreadable(&e))?;
    if as_json {
        return present::json(&json::whole(name, &evidence, &envelope, &quote));
    }
    let mut facts = Facts::default();
    facts.add("evidence", name.hex());
    add_claims(&mut facts, &envelope);
    let clock = &quote.clock;
    let safe = if clock.safe { "" } else { ", not safe (power was lost)" };
    facts.add(
        "TPM clock",
        format!("{} ms, reset {}, restart {}{safe}", clock.clock_ms, clock.reset_count, clock.restart_count),
    );
    present::print(&facts.render())?;
    print_tables(envelope.claims())
}

/// Shows what an envelope by itself claims.
pub(crate) fn envelope(envelope: &ClaimedEnvelope) -> Result<(), Failure> {
    let mut facts = Facts::default();
    add_claims(&mut facts, envelope);
    present::print(&facts.render())?;
    print_tables(envelope.claims())
}

fn print_tables(claims: &Envelope) -> Result<(), Failure> {
    for (title, table) in tables(claims) {
        present::print(&format!("\n{title}\n"))?;
        present::print_table(&table)?;
    }
    Ok(())
}

fn add_claims(facts: &mut Facts, envelope: &ClaimedEnvelope) {
    let claims = envelope.claims();
    facts.add("envelope", envelope.digest().hex());
    facts.add("host", format!("{} ({})", claims.host, claims.facts.hostname));
    facts.add("sequence", format!("{} after {}", claims.sequence, claims.predecessor.hex()));
    let os = claims.facts.os.as_ref().map_or("-", |os| os.as_str());
    facts.add("system", format!("{os}, kernel {}", claims.facts.kernel));
    let (cpu, memory) = (claims.facts.cpu_millicores, claims.facts.memory_bytes);
    facts.add("states", format!("{} CPUs, {}", present::amount("cpu_millicores", cpu), present::bytes(memory)));
    facts.add("agent", claims.agent_version.as_str());
    let backend = &claims.backend;
    facts.add(
        "enforcement",
        format!("{}, {}, cgroup {}", word(&backend.mode), word(&backend.kind), word(&backend.hierarchy)),
    );
    let seen = claims.checkpoint.map(|c| format!("{} leaves, root {}", c.size, c.root.hex()));
    facts.add("log seen", seen.unwrap_or_else(|| "none yet".to_owned()));
    facts.add("grants held", claims.held.len().to_string());
}

/// A table for each part of the envelope that has something.
fn tables(claims: &Envelope) -> Vec<(&'static str, Table)> {
    let mut tables = vec![("Host", windows(&claims.host_windows))];
    if !claims.applications.is_empty() {
        tables.push(("Applications", applications(&claims.applications)));
    }
    if !claims.requests.is_empty() {
        tables.push(("Requests", requests(claims)));
    }
    if !claims.writes.is_empty() {
        tables.push(("Enforcement writes", writes(&claims.writes)));
    }
    if !claims.events.is_empty() {
        tables.push(("Events", events(claims)));
    }
    tables
}

const WINDOW_COLUMNS: [(&str, Align); 6] = [
    ("METRIC", Align::Left),
    ("OF", Align::Left),
    ("MEAN", Align::Right),
    ("P95", Align::Right),
    ("MAX", Align::Right),
    ("OVER", Align::Right),
];

fn windows(windows: &MetricWindows) -> Table {
    let mut table = Table::new(&WINDOW_COLUMNS, "no windows");
    for window in windows.iter() {
        let name = window.metric.name();
        table.row([
            name.clone(),
            window.label.as_ref().map_or("-", |label| label.as_str()).to_owned(),
            present::amount(&name, window.mean),
            present::amount(&name, window.p95),
            present::amount(&name, window.max),
            format!("{} ({} samples)", present::duration(window.duration_ms), window.samples),
        ]);
    }
    table
}

fn applications(applications: &[ApplicationReport]) -> Table {
    let columns = [
        ("CGROUP", Align::Left),
        ("UNIT", Align::Left),
        ("UID", Align::Right),
        ("GRANT", Align::Left),
        ("METRIC", Align::Left),
        ("MEAN", Align::Right),
        ("MAX", Align::Right),
    ];
    let mut table = Table::new(&columns, "no applications");
    for application in applications {
        for window in application.windows.iter() {
            let name = window.metric.name();
            table.row([
                application.cgroup.as_str().to_owned(),
                application.unit.as_ref().map_or("-", |unit| unit.as_str()).to_owned(),
                application.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
                application.grant.map_or_else(|| "-".to_owned(), |grant| grant.to_string()),
                name.clone(),
                present::amount(&name, window.mean),
                present::amount(&name, window.max),
            ]);
        }
    }
    table
}

fn requests(claims: &Envelope) -> Table {
    let columns = [
        ("REQUEST", Align::Left),
        ("NAME", Align::Left),
        ("UID", Align::Right),
        ("PID", Align::Right),
        ("CLASS", Align::Left),
        ("ASKS", Align::Left),
        ("CGROUP", Align::Left),
    ];
    let mut table = Table::new(&columns, "no requests");
    for request in claims.requests.iter() {
        table.row([
            request.id.to_string(),
            request.name.as_ref().map_or("-", |name| name.as_str()).to_owned(),
            request.uid.to_string(),
            request.pid.to_string(),
            request.class.to_string(),
            present::resources(&request.resources),
            request.cgroup.as_str().to_owned(),
        ]);
    }
    table
}

fn writes(writes: &[EnforcementWrite]) -> Table {
    let columns = [
        ("CONTROL", Align::Left),
        ("BEFORE", Align::Left),
        ("ASKED", Align::Left),
        ("ACTUAL", Align::Left),
        ("EFFECTIVE", Align::Left),
        ("BACKEND", Align::Left),
        ("CGROUP", Align::Left),
    ];
    let mut table = Table::new(&columns, "no writes");
    for write in writes {
        let effective = match (write.dry_run, write.effective) {
            (true, _) => "not written (dry run)",
            (false, true) => "yes",
            (false, false) => "no (advisory)",
        };
        let value = |value: &Option<_>| value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([
            write.control.as_str().to_owned(),
            value(&write.before),
            write.after.as_str().to_owned(),
            value(&write.actual),
            effective.to_owned(),
            word(&write.backend),
            write.cgroup.as_str().to_owned(),
        ]);
    }
    table
}

fn events(claims: &Envelope) -> Table {
    let columns = [("EVENT", Align::Left), ("COUNT", Align::Right), ("CGROUP", Align::Left)];
    let mut table = Table::new(&columns, "no events");
    for event in claims.events.iter() {
        table.row([
            word(&event.kind),
            event.count.to_string(),
            event.cgroup.as_ref().map_or("host", |cgroup| cgroup.as_str()).to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_common::cbor::{Bounded, Text};
    use quotary_common::envelope::{Backend, BackendKind, EnvelopeVersion, Hierarchy, HostFacts, Mode};
    use quotary_common::id::{BootId, DeploymentId, HostId};
    use quotary_common::metric::{Metric, MetricWindow};
    use quotary_decide::inspect::claims_json;

    fn envelope() -> Envelope {
        let window = MetricWindow {
            metric: Metric::CpuMillicores,
            start_ms: 0,
            duration_ms: 15_000,
            samples: 15,
            mean: 250,
            max: 2_000,
            p95: 900,
            label: None,
        };
        let write = EnforcementWrite {
            plan: None,
            grant: None,
            cgroup: Text::lossy("/quotary/a"),
            backend: BackendKind::Direct,
            control: Text::lossy("memory.soft_limit_in_bytes"),
            before: None,
            after: Text::lossy("1"),
            actual: Some(Text::lossy("1")),
            effective: false,
            at_ms: 1,
            dry_run: false,
        };
        Envelope {
            version: EnvelopeVersion::WindowGroups,
            deployment: DeploymentId::of(&[b"d"]),
            host: HostId::of(&[b"h"]),
            boot_id: BootId::new([1; 16]),
            sequence: 1,
            predecessor: Digest::new([0; 32]),
            tls_key: Digest::of(&[b"k"]),
            checkpoint: None,
            agent_version: Text::lossy("0.1.0"),
            built_at_ms: 5,
            backend: Backend {
                kind: BackendKind::Direct,
                mode: Mode::Enforce,
                hierarchy: Hierarchy::V1,
                controls: Bounded::default(),
            },
            host_windows: MetricWindows::new(&[window]).unwrap(),
            applications: Bounded::default(),
            events: Bounded::default(),
            writes: Bounded::new(vec![write]).unwrap(),
            requests: Bounded::default(),
            held: Bounded::default(),
            facts: HostFacts {
                hostname: Text::lossy("edge"),
                kernel: Text::lossy("6.1"),
                cpu_millicores: 2_000,
                memory_bytes: 1 << 30,
                os: None,
            },
        }
    }

    #[test]
    fn windows_and_writes_are_shown_and_what_is_not_effective_says_so() {
        let tables = tables(&envelope());
        assert_eq!(tables.iter().map(|(title, _)| *title).collect::<Vec<_>>(), ["Host", "Enforcement writes"]);
        let text: String = tables.iter().map(|(_, table)| table.render(false)).collect();
        assert!(text.contains("250m") && text.contains("15 s (15 samples)"), "{text}");
        assert!(text.contains("no (advisory)"), "{text}");
    }

    #[test]
    fn json_holds_every_part_of_the_envelope() {
        let json = claims_json(&envelope());
        assert_eq!(json["host_windows"][0]["metric"], "cpu_millicores");
        assert_eq!(json["writes"][0]["effective"], false);
        assert_eq!(json.len(), 17, "one name for each key but the version");
    }
}
