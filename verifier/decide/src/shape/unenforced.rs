//! What a change asks for and hosts cannot do: told before anybody approves it.

use std::collections::BTreeMap;

use quotary_common::envelope::Mode;
use quotary_common::id::HostId;
use quotary_common::plan::{ShapedControl, Target};

use super::of_change::{LACKING, would_move};
use crate::policy::{Edit, Enforcing, Holding, PolicyResourceMap, Standing, Unit};

/// Lines at most: the rest is counted.
const LINES_MAX: usize = 20;

/// What of an edit of the policies of `map` nobody will enforce, by what hosts stated last: a line for each host and reason, in words.
pub fn unenforced(map: &PolicyResourceMap, edit: &Edit, standing: &Standing) -> Vec<String> {
    let after_map = edit.applied_to(map);
    let (before, after) = (standing.held(map), standing.held(&after_map));
    let is_own = |holding: &Holding| holding.policy.name == *edit.name();
    let mut found: BTreeMap<(HostId, String), Vec<&Target>> = BTreeMap::new();
    for ((unit, before), after) in standing.units.iter().zip(&before.holdings).zip(&after.holdings) {
        let Some(enforcing) = standing.enforcing.get(&unit.host) else { continue };
        if !before.iter().chain(after).any(is_own) {
            continue;
        }
        let moving = would_move(before.as_ref(), after.as_ref(), unit);
        for why in against(enforcing, unit, &moving) {
            found.entry((unit.host, why)).or_default().push(&unit.target);
        }
    }
    let count = found.len();
    let line = |((host, why), targets): ((HostId, String), Vec<&Target>)| {
        let more = targets.len().saturating_sub(1);
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        let target = targets.first().map(ToString::to_string).unwrap_or_default();
        format!("not enforced on {host}, for {target}{others}: {why}")
    };
    let mut lines: Vec<String> = found.into_iter().take(LINES_MAX).map(line).collect();
    if count > LINES_MAX {
        lines.push(format!("not enforced: and {} more", count - LINES_MAX));
    }
    lines
}

/// Why some of the controls that would move on a unit will not.
fn against(enforcing: &Enforcing, unit: &Unit, moving: &[ShapedControl]) -> Vec<String> {
    if moving.is_empty() {
        return Vec::new();
    }
    if let Err(why) = Enforcing::can_set(enforcing.backend, &unit.target) {
        return vec![why.to_owned()];
    }
    let mode = match enforcing.mode {
        Mode::Enforce => None,
        Mode::DryRun => Some("its agent only shows what it would set (`mode = \"dry-run\"`)"),
        Mode::Observe => Some("its agent only reports (`mode = \"observe\"`)"),
    };
    let lacking = moving.iter().filter(|control| enforcing.lacks.contains(control));
    mode.map(str::to_owned).into_iter().chain(lacking.map(|control| format!("{control}: {LACKING}"))).collect()
}
