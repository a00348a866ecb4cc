//! Points of series like one another, for one that has none of its own.
//!
//! An application that starts on a host has used something elsewhere. What it used there is a number of series, each from a host that
//! may lie. So each host has one say, and the say of all is the median over hosts, level by level: while most of them are
//! sound, one that is not moves no level beyond what a sound one says.

use std::collections::BTreeMap;

use quotary_common::id::HostId;

use super::ewma::between;
use super::past::is_demand;

/// Hosts that have a say at most, the first by their id: a host cannot choose its id.
const HOSTS_MAX: usize = 32;
/// Other hosts that make a majority against one: fewer have no say.
const OTHERS_MIN: usize = 3;
/// Known points of a series that says something: as many as the EWMA rung wants.
const KNOWN_MIN: usize = 24;
/// Levels that are told, evenly spread from the least to the greatest.
const LEVELS: u32 = 20;

/// A series that may be like another.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The host that stated it.
    pub host: HostId,
    /// Its closed steps, oldest first; gaps are `None`.
    pub values: &'a [Option<f64>],
}

/// Whether a series has enough of its own to say something of others.
pub fn can_speak(values: &[Option<f64>]) -> bool {
    known(values).take(KNOWN_MIN).count() == KNOWN_MIN
}

/// What members say of series like them, made ready for many questions.
#[derive(Debug)]
pub struct Likes<'a> {
    /// Of each host the series of which most is known, the first of those, and how much that is.
    says: BTreeMap<HostId, (usize, &'a [Option<f64>])>,
    /// What the first hosts say by level: one more than count, so that one may be left out.
    lines: Vec<(HostId, Vec<f64>)>,
}

impl<'a> Likes<'a> {
    /// From series that are like one another. Cost: one pass, and the sorting of some thirty of them.
    pub fn of(members: &[Member<'a>]) -> Self {
        let mut says = BTreeMap::<HostId, (usize, &[Option<f64>])>::new();
        for member in members {
            let count = known(member.values).count();
            if count >= KNOWN_MIN {
                let said = says.entry(member.host).or_insert((0, member.values));
                if count > said.0 {
                    *said = (count, member.values);
                }
            }
        }
        let lines = says.iter().take(HOSTS_MAX + 1).map(|(host, (_, values))| (*host, line(values))).collect();
        Self { says, lines }
    }

    /// What a series on `host` may be expected to use: 21 points, ascending, evenly spread over the levels; none where too few have a
    /// say. The host's own series have one say too, and alone where others are too few: so a host moves itself.
    pub fn for_host(&self, host: &HostId) -> Vec<f64> {
        let own = self.says.get(host).map(|(_, values)| line(values));
        let others = self.says.len() - usize::from(own.is_some());
        let others = if others < OTHERS_MIN { 0 } else { HOSTS_MAX };
        let others = self.lines.iter().filter(|(other, _)| other != host).map(|(_, line)| line).take(others);
        let lines: Vec<&Vec<f64>> = others.chain(&own).collect();
        if lines.is_empty() {
            return Vec::new();
        }
        let middle = |level: usize| {
            let mut of_level: Vec<f64> = lines.iter().filter_map(|line| line.get(level).copied()).collect();
            let at = of_level.len() / 2;
            *of_level.select_nth_unstable_by(at, f64::total_cmp).1
        };
        (0..=LEVELS as usize).map(middle).collect()
    }
}

fn known(values: &[Option<f64>]) -> impl Iterator<Item = f64> {
    values.iter().flatten().copied().filter(|value| is_demand(*value))
}

/// A series' values by level.
fn line(values: &[Option<f64>]) -> Vec<f64> {
    let mut points: Vec<f64> = known(values).collect();
    points.sort_unstable_by(f64::total_cmp);
    (0..=LEVELS).map(|level| between(&points, f64::from(level) / f64::from(LEVELS))).collect()
}

#[cfg(test)]
#[path = "like_tests.rs"]
mod tests;
