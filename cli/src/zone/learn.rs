//! `quotary zone learn`: a zone's boot requirement, as a known-good host shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quotary_common::evidence::Evidence;
use quotary_common::wire::{ShowAppraisal, ShowEvidence};
use quotary_decide::attest::{USERSPACE_PCRS, carried_records};
use quotary_decide::eventlog::{Bank, EventLog, MeasureLog, ProblemCode, Replay, Stage, boot_stages, secure_boot};

use crate::args::LearnArgs;
use crate::exit::{Code, Failure};
use crate::present;
use crate::session::Session;

/// What is judged by other means than blessed measurements.
const LEFT_OUT: [Stage; 4] = [Stage::Marker, Stage::SecureBoot, Stage::BootConfiguration, Stage::Other];

/// The TCG's id of the bank that zones look at.
const SHA256: u16 = 0x000B;

/// What a zone's file says of a boot.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Learned {
    secure_boot: Option<bool>,
    pcrs: BTreeSet<u8>,
    stages: BTreeMap<&'static str, Vec<(String, String)>>,
    accept: BTreeSet<&'static str>,
    /// What the running system measured; absent where none of its PCRs was quoted.
    userspace: Option<Vec<(String, String)>>,
    /// Quoted PCRs of the running system that do not follow from the logs: left out.
    not_carried: BTreeSet<u8>,
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
    let without = || unreadable(format!("evidence {} has no boot log", digest.hex()));
    let log = evidence.boot_log.as_deref().ok_or_else(without)?;
    let log = EventLog::parse(log).map_err(|error| unreadable(error.to_string()))?;
    let mut learned = learned(&log);
    let quoted = evidence.pcr_values.iter().filter(|value| value.hash_alg == SHA256);
    let quoted = quoted.map(|value| (value.index, value.value.as_slice()));
    let quoted: BTreeMap<u8, &[u8]> = quoted.filter(|(index, _)| USERSPACE_PCRS.contains(index)).collect();
    if !quoted.is_empty() {
        let measured = MeasureLog::parse(evidence.measure_log.as_deref().unwrap_or_default());
        let measured = measured.map_err(|error| unreadable(error.to_string()))?;
        of_userspace(&mut learned, &log.replay(), &measured, &quoted);
    }
    if json { present::json(&learned) } else { present::print(&toml(&args.zone, &learned)) }
}

fn learned(log: &EventLog<'_>) -> Learned {
    let boot = secure_boot(log);
    let mut out = Learned { secure_boot: boot.state, pcrs: (0..10).collect(), ..Learned::default() };
    let codes = |problem: &quotary_decide::eventlog::Problem| ProblemCode::code(problem.code);
    out.accept = log.problems().iter().chain(&boot.problems).map(codes).collect();
    for measurement in boot_stages(log).measurements() {
        if LEFT_OUT.contains(&measurement.stage) {
            continue;
        }
        out.pcrs.insert(measurement.pcr);
        let hex = data_encoding::HEXLOWER.encode(&measurement.digest);
        let said = measurement.text.as_ref().map_or("", |text| text.as_str());
        let of_stage = out.stages.entry(measurement.stage.name()).or_default();
        if !of_stage.iter().any(|(known, _)| *known == hex) {
            of_stage.push((hex, said.to_owned()));
        }
    }
    out
}

/// The records of the measure log that the `quoted` PCRs carry, each once: digest, and what it says. What stands behind
/// them in the log was not measured, as far as the quote proves, and must not be blessed.
fn of_userspace(learned: &mut Learned, replay: &Replay, log: &MeasureLog, quoted: &BTreeMap<u8, &[u8]>) {
    let mut carried = Vec::new();
    for (pcr, value) in quoted {
        match carried_records(replay, log, *pcr, value) {
            Some(records) => {
                learned.pcrs.insert(*pcr);
                carried.extend(records);
            }
            None => {
                learned.not_carried.insert(*pcr);
            }
        }
    }
    if learned.not_carried.len() == quoted.len() {
        return;
    }
    carried.sort_by_key(|record| record.number());
    let mut out: Vec<(String, String)> = Vec::new();
    for record in carried {
        let Some(digest) = record.digest(Bank::Sha256) else { continue };
        let hex = data_encoding::HEXLOWER.encode(digest.as_bytes());
        // Where the digests are not those of the words, anything may have been measured.
        let claimed = if record.text_measured() { "" } else { "(claimed) " };
        let said = record.text().map_or("", |text| text.as_str());
        if !out.iter().any(|(known, _)| *known == hex) {
            out.push((hex, format!("PCR {}: {claimed}{said}", record.pcr())));
        }
    }
    learned.userspace = Some(out);
}

fn toml(zone: &str, learned: &Learned) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = format!("[[zone]]\nname = {}\n", quoted(zone));
    let pcrs: Vec<String> = learned.pcrs.iter().map(u8::to_string).collect();
    let _ = writeln!(out, "pcrs = \"sha256:{}\"\nrequire_ek_certificate = true\n\n[zone.boot]", pcrs.join(","));
    if let Some(on) = learned.secure_boot {
        let _ = writeln!(out, "secure_boot = {on}");
    }
    if !learned.accept.is_empty() {
        let codes: Vec<String> = learned.accept.iter().map(|code| quoted(code)).collect();
        let _ = writeln!(out, "# What this host's log has; every zone that takes it accepts these.");
        let _ = writeln!(out, "accept = [{}]", codes.join(", "));
    }
    for pcr in &learned.not_carried {
        let _ = writeln!(out, "# PCR {pcr} is left out: it does not follow from boot log and measure log.");
    }
    if let Some(measurements) = &learned.userspace {
        out += "# What the running system measured; PCR 15 is each machine's own.\n";
        list(&mut out, "userspace", measurements);
    }
    out += "\n[zone.boot.stages]\n";
    for (stage, measurements) in &learned.stages {
        list(&mut out, stage, measurements);
    }
    out
}

fn list(out: &mut String, name: &str, measurements: &[(String, String)]) {
    let _ = writeln!(out, "{name} = [");
    for (hex, said) in measurements {
        let comment = if said.is_empty() { String::new() } else { format!(" # {}", present::clean(said)) };
        let _ = writeln!(out, "  \"{hex}\",{comment}");
    }
    *out += "]\n";
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
        assert!(zone["boot"].get("userspace").is_none(), "none of its PCRs was quoted");
    }

    fn record(pcr: u8, word: &str, measured: &str) -> String {
        let digest = quotary_common::id::Digest::of(&[measured.as_bytes()]).hex();
        format!(
            "\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content\":{{\"string\":\"{word}\"}}}}\n"
        )
    }

    #[test]
    fn what_quoted_pcrs_carry_of_the_measure_log_is_learned_once_each_and_nothing_behind_it() {
        let boot = EventLog::parse(include_bytes!("../../../tests/data/attestation/eventlogs/rhel8-uefi.bin")).unwrap();
        let replay = boot.replay();
        let extended = |pcr: u8, words: &[&str]| {
            let start = *replay.expected(Bank::Sha256, pcr).unwrap();
            let extend = |value: quotary_decide::eventlog::BankDigest, word: &&str| {
                let digest = Bank::Sha256.digest(&[word.as_bytes()]);
                Bank::Sha256.digest(&[value.as_bytes(), digest.as_bytes()])
            };
            words.iter().fold(start, extend)
        };
        let log = [
            record(11, "sysinit", "sysinit"),
            record(15, "machine-id:1", "machine-id:1"),
            record(11, "ready", "something else"),
            record(12, "a command line", "a command line"),
            record(11, "sysinit", "sysinit"),
            record(11, "an attacker's", "an attacker's"),
        ];
        let log = MeasureLog::parse(log.concat().as_bytes()).unwrap();
        let (eleven, twelve) =
            (extended(11, &["sysinit", "something else", "sysinit"]), extended(12, &["what no log has"]));
        let quoted = BTreeMap::from([(11, eleven.as_bytes()), (12, twelve.as_bytes())]);
        let mut learned = Learned { pcrs: (0..10).collect(), ..Learned::default() };
        of_userspace(&mut learned, &replay, &log, &quoted);
        let said: Vec<&str> = learned.userspace.iter().flatten().map(|(_, said)| said.as_str()).collect();
        assert_eq!(said, ["PCR 11: sysinit", "PCR 11: (claimed) ready"]);
        let text = toml("measured", &learned);
        assert!(text.contains("# PCR 12 is left out"), "{text}");
        let read: toml::Table = text.parse().unwrap();
        let zone = &read["zone"].as_array().unwrap()[0];
        assert_eq!(zone["boot"]["userspace"].as_array().unwrap().len(), 2);
        assert!(zone["pcrs"].as_str().unwrap().ends_with(",8,9,11"));
        let mut none = Learned::default();
        of_userspace(&mut none, &replay, &log, &BTreeMap::from([(12, twelve.as_bytes())]));
        assert!(none.userspace.is_none() && none.not_carried.contains(&12), "no PCR of it can be selected");
    }
}
