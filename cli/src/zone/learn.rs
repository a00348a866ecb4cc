//! `quotary zone learn`: a zone's boot requirement, as a known-good host shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quotary_common::evidence::Evidence;
use quotary_common::wire::{ShowAppraisal, ShowEvidence};
use quotary_decide::eventlog::{EventLog, ProblemCode, Stage, boot_stages, secure_boot};

use crate::args::LearnArgs;
use crate::exit::{Code, Failure};
use crate::present;
use crate::session::Session;

/// What is judged by other means than blessed measurements.
const LEFT_OUT: [Stage; 4] = [Stage::Marker, Stage::SecureBoot, Stage::BootConfiguration, Stage::Other];

/// What a zone's file says of a boot.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Learned {
    secure_boot: Option<bool>,
    stages: BTreeMap<&'static str, Vec<(String, String)>>,
    accept: BTreeSet<&'static str>,
}

/// Prints the zone that `args` asks for.
pub(crate) async fn learn(session: &Session, args: &LearnArgs, json: bool) -> Result<(), Failure> {
    let id = session.host(&args.host).await?;
    let view = session.ask::<ShowAppraisal>(&[&id.hex()]).await?;
    let without = "the host has sent no boot log: give some zone a [zone.boot] table, so that the verifier asks for it";
    let digest = view.boot_log_evidence.ok_or_else(|| Failure::new(Code::Refused, without))?;
    let kept = session.ask::<ShowEvidence>(&[&id.hex(), &digest.hex()]).await?;
    let unreadable = |what: String| Failure::new(Code::Unreadable, what);
    if Evidence::digest(&kept.evidence.0) != digest {
        return Err(Failure::new(Code::Refused, "the verifier answered other evidence than was asked for"));
    }
    let evidence = Evidence::from_bytes(&kept.evidence.0).map_err(|error| unreadable(error.to_string()))?;
    let log = evidence.boot_log.ok_or_else(|| unreadable(format!("evidence {} has no boot log", digest.hex())))?;
    let log = EventLog::parse(&log).map_err(|error| unreadable(error.to_string()))?;
    let learned = learned(&log);
    if json { present::json(&learned) } else { present::print(&toml(&args.zone, &learned)) }
}

fn learned(log: &EventLog<'_>) -> Learned {
    let boot = secure_boot(log);
    let mut out = Learned { secure_boot: boot.state, ..Learned::default() };
    let codes = |problem: &quotary_decide::eventlog::Problem| ProblemCode::code(problem.code);
    out.accept = log.problems().iter().chain(&boot.problems).map(codes).collect();
    for measurement in boot_stages(log).measurements() {
        if LEFT_OUT.contains(&measurement.stage) {
            continue;
        }
        let hex = data_encoding::HEXLOWER.encode(&measurement.digest);
        let said = measurement.text.as_ref().map_or("", |text| text.as_str());
        let of_stage = out.stages.entry(measurement.stage.name()).or_default();
        if !of_stage.iter().any(|(known, _)| *known == hex) {
            of_stage.push((hex, said.to_owned()));
        }
    }
    out
}

fn toml(zone: &str, learned: &Learned) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = format!("[[zone]]\nname = {}\n", quoted(zone));
    out += "pcrs = \"sha256:0,1,2,3,4,5,6,7,8,9\"\nrequire_ek_certificate = true\n\n[zone.boot]\n";
    if let Some(on) = learned.secure_boot {
        let _ = writeln!(out, "secure_boot = {on}");
    }
    if !learned.accept.is_empty() {
        let codes: Vec<String> = learned.accept.iter().map(|code| quoted(code)).collect();
        let _ = writeln!(out, "# What this host's log has; every zone that takes it accepts these.");
        let _ = writeln!(out, "accept = [{}]", codes.join(", "));
    }
    out += "\n[zone.boot.stages]\n";
    for (stage, measurements) in &learned.stages {
        let _ = writeln!(out, "{stage} = [");
        for (hex, said) in measurements {
            let comment = if said.is_empty() { String::new() } else { format!(" # {}", present::clean(said)) };
            let _ = writeln!(out, "  \"{hex}\",{comment}");
        }
        out += "]\n";
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_booted_is_a_zone_in_toml() {
        let log = include_bytes!("../../../tests/data/attestation/eventlogs/rhel8-uefi.bin");
        let learned = learned(&EventLog::parse(log).unwrap());
        assert_eq!(learned.secure_boot, Some(true));
        assert!(learned.stages.contains_key("boot-application") && learned.stages.contains_key("kernel"));
        let text = toml("measured", &learned);
        let read: toml::Table = text.parse().unwrap();
        let zone = &read["zone"].as_array().unwrap()[0];
        assert_eq!(zone["boot"]["secure_boot"].as_bool(), Some(true));
        let kernels = zone["boot"]["stages"]["kernel"].as_array().unwrap();
        assert!(!kernels.is_empty() && kernels.iter().all(|hex| hex.as_str().unwrap().len() == 64));
    }
}
