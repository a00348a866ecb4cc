//! A boot log's measurements against the blessed ones of each stage that a zone names.
//!
//! What a stage's list says of is told by the PCR, which the quote covers. PCRs 8 and 9 serve several stages, and only an
//! event's words say which: GRUB strips its prefix before it hashes, and of a file it hashes the content, not the path. A
//! host that rewrites such words moves a measurement into a stage that nobody looks at. So there the words decide
//! nothing: once a zone names a stage of such a PCR, every measurement in it is in a list of the stages named.
//!
//! Every other PCR has one stage, whatever its events say of themselves. Markers, which no zone needs to bless, are known by
//! their digest, and only in PCRs 0 to 7.

use std::collections::{BTreeMap, BTreeSet};

use super::logs::{LogFinding, finding};
use crate::eventlog::{BootStages, Measurement, Stage};

/// Blessed measurements by stage.
type Blessed = BTreeMap<Stage, BTreeSet<[u8; 32]>>;

/// What speaks against a zone that blesses `blessed`; `is_proven` says whether a PCR is held against the log for it.
///
/// A stage is there when one of its own list was measured into one of its PCRs: whatever the words say.
pub(super) fn findings(stages: &BootStages, blessed: &Blessed, is_proven: impl Fn(u8) -> bool) -> Vec<LogFinding> {
    let mut findings = Vec::new();
    // Of these is told already, or one is there.
    let mut met = BTreeSet::new();
    for measurement in stages.measurements() {
        let lists: Vec<_> = blessed.iter().filter(|(stage, _)| may_hold(**stage, measurement)).collect();
        if lists.is_empty() {
            continue;
        }
        let event = Some(measurement.event.into());
        if !is_proven(measurement.pcr) {
            let (name, pcr) = (measurement.stage.name(), measurement.pcr);
            let detail = format!("stage {name}: PCR {pcr} is not quoted: add it to the zone's pcrs");
            findings.push(finding("stage-not-quoted", event, &detail));
            met.insert(measurement.stage);
            continue;
        }
        let mut is_blessed = false;
        for (stage, _) in lists.iter().filter(|(_, list)| list.contains(&measurement.digest)) {
            is_blessed = true;
            met.insert(**stage);
        }
        if !is_blessed {
            findings.push(finding("stage-unknown", event, &unknown(measurement)));
            met.insert(measurement.stage);
        }
    }
    for stage in blessed.keys().filter(|stage| !met.contains(stage)) {
        let detail = format!("stage {}: the log has no measurement of its list", stage.name());
        findings.push(finding("stage-missing", None, &detail));
    }
    findings
}

/// Whether the list of `stage` may hold this measurement. Markers are known by their digest, so they are no others.
fn may_hold(stage: Stage, measurement: &Measurement) -> bool {
    match measurement.stage {
        Stage::Marker => stage == Stage::Marker,
        _ => stage.lives_in(measurement.pcr),
    }
}

/// The digest stands before the words: these are cut first.
fn unknown(measurement: &Measurement) -> String {
    let (name, pcr) = (measurement.stage.name(), measurement.pcr);
    let hex = data_encoding::HEXLOWER.encode(&measurement.digest);
    let said = measurement.text.as_ref().map_or("", |text| text.as_str());
    if Stage::is_told_by_words(pcr) {
        format!("stage {name} by unmeasured words (PCR {pcr}): {hex} is not blessed: {said}")
    } else {
        format!("stage {name}: {hex} is not among the zone's: {said}")
    }
}
