//! The quorum rules: what a change of each criticality takes (QuorumPolicyMap).

use std::collections::BTreeSet;

use super::criticality::Criticality;
use super::document::{Faults, Table, digest_of, read};
use super::roster::{Word, is_word, version, word, words};
use crate::id::Digest;
use crate::limits::{APPROVALS_MAX, ESCALATIONS_MAX, PEOPLE_MAX, ROLES_MAX, RULE_SECONDS_MAX};

/// What a change of one criticality takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// How many people must approve in all.
    pub approvals: usize,
    /// How many of them must have a role; nobody counts for two.
    pub roles: Vec<(Word, usize)>,
    /// Roles whose members may vote.
    pub approvers: BTreeSet<Word>,
    /// People and roles that may not, beside requester, last editor and who applies.
    pub exclude: BTreeSet<Word>,
    /// So long after it was proposed it may be approved, ms.
    pub approve_within_ms: u64,
    /// So long after its approval it may be applied, ms.
    pub apply_within_ms: u64,
    /// So long at least from approval to the effective time, ms.
    pub delay_ms_min: u64,
    /// So many rejections block.
    pub vetoes: usize,
    /// Whether an approval must come from a security key that somebody touched.
    pub requires_user_presence: bool,
    /// Who may approve too when time goes by, the earliest first.
    pub escalation: Vec<Escalation>,
}

/// A step of escalation: adds people who may approve, never lowers what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// So long after the change was proposed, ms.
    pub after_ms: u64,
    /// Roles whose members may approve from then on.
    pub add_roles: BTreeSet<Word>,
    /// People who may.
    pub add_people: BTreeSet<Word>,
    /// Where it is told, an address.
    pub webhook: Option<String>,
    /// Which named command is run to tell it.
    pub command: Option<Word>,
}

/// What breaking the glass takes: an emergency change that ends by itself and is reviewed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// Whose members may.
    pub role: Word,
    /// How many of them; two at least where the criticality is critical.
    pub approvals: usize,
    /// How long it may last, ms.
    pub lasts_ms_max: u64,
    /// The review that follows.
    pub review: Review,
}

impl BreakGlass {
    /// How many break the glass for a change of a criticality: never one alone where that is critical.
    pub fn approvals_at(&self, criticality: Criticality) -> usize {
        let least = if criticality == Criticality::Critical { 2 } else { 1 };
        self.approvals.max(least)
    }
}

/// What a freeze takes: one member of the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Whose members may.
    pub role: Word,
    /// How long it may last, ms.
    pub lasts_ms_max: u64,
    /// The review that follows.
    pub review: Review,
}

/// The review of what was done in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Review {
    /// So long after the approval it must be done, ms.
    pub within_ms: u64,
    /// By so many people.
    pub approvals: usize,
}

/// Rules that hold together: made only by [`Rules::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    bytes: Vec<u8>,
    digest: Digest,
    version: u64,
    by_criticality: [Rule; 4],
    break_glass: Option<BreakGlass>,
    freeze: Option<Freeze>,
}

impl Rules {
    /// Reads `quorum.toml`.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        let (version, by_criticality, break_glass, freeze) = read(bytes, |root| {
            let version = version(root);
            let levels = root.table("criticality");
            let levels = root.required("criticality", levels).and_then(read_levels);
            let break_glass = root.table("break_glass").map(read_break_glass);
            let freeze = root.table("freeze").map(read_freeze);
            // An emergency table that does not read is a fault already, so that `None` here is never its end.
            Some((version?, levels?, break_glass.flatten(), freeze.flatten()))
        })?;
        Ok(Self { bytes: bytes.to_vec(), digest: digest_of(bytes), version, by_criticality, break_glass, freeze })
    }

    /// The document's exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Its identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// Its number, greater than that of the rules before.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// The rule for a criticality.
    pub fn rule(&self, criticality: Criticality) -> &Rule {
        &self.by_criticality[criticality as usize]
    }
    /// What breaking the glass takes; `None`: nobody may.
    pub fn break_glass(&self) -> Option<&BreakGlass> {
        self.break_glass.as_ref()
    }
    /// What a freeze takes; `None`: nobody may.
    pub fn freeze(&self) -> Option<&Freeze> {
        self.freeze.as_ref()
    }
}

/// The four rules, an absent one taken from the next higher criticality.
fn read_levels(mut levels: Table<'_>) -> Option<[Rule; 4]> {
    let names = ["low", "medium", "high", "critical"];
    let found = names.map(|name| levels.table(name).map(|table| read_rule(table)));
    let [low, medium, high, critical] = found;
    let Some(critical) = critical else {
        levels
            .fault("critical", "is missing: an absent criticality takes the next higher one, and this is the highest");
        return None;
    };
    let critical = critical?;
    let high = high.unwrap_or_else(|| Some(critical.clone()))?;
    let medium = medium.unwrap_or_else(|| Some(high.clone()))?;
    let low = low.unwrap_or_else(|| Some(medium.clone()))?;
    let rules = [low, medium, high, critical];
    for (pair, name) in rules.windows(2).zip(&names[1..]) {
        if let [lower, higher] = pair {
            for what in what_is_less(lower, higher) {
                levels.fault(name, format!("asks for less than a lower criticality: {what}"));
            }
        }
    }
    Some(rules)
}

/// In what a rule asks for less than another.
fn what_is_less(lower: &Rule, higher: &Rule) -> Vec<String> {
    let mut less = Vec::new();
    if higher.approvals < lower.approvals {
        less.push(format!("{} approvals, not {}", higher.approvals, lower.approvals));
    }
    for (role, count) in &lower.roles {
        let asked = higher.roles.iter().find(|(other, _)| other == role).map_or(0, |(_, count)| *count);
        if asked < *count {
            less.push(format!("{asked} people with role `{role}`, not {count}"));
        }
    }
    if higher.delay_ms_min < lower.delay_ms_min {
        less.push("a shorter least delay".to_owned());
    }
    if higher.vetoes > lower.vetoes {
        less.push(format!("{} rejections to block, not {}", higher.vetoes, lower.vetoes));
    }
    if lower.requires_user_presence && !higher.requires_user_presence {
        less.push("no user presence".to_owned());
    }
    if let Some(word) = lower.exclude.difference(&higher.exclude).next() {
        less.push(format!("`{word}` is not excluded"));
    }
    less
}

fn seconds(table: &mut Table<'_>, field: &'static str, from: u64) -> Option<u64> {
    table.integer(field, from..=RULE_SECONDS_MAX).map(|seconds| seconds * 1000)
}

fn required_seconds(table: &mut Table<'_>, field: &'static str) -> Option<u64> {
    let ms = seconds(table, field, 1);
    table.required(field, ms)
}

fn count(table: &mut Table<'_>, field: &'static str) -> Option<usize> {
    table.integer(field, 1..=APPROVALS_MAX).and_then(|count| usize::try_from(count).ok())
}

fn read_rule(mut table: Table<'_>) -> Option<Rule> {
    let approvals = count(&mut table, "approvals");
    let approvals = table.required("approvals", approvals);
    let roles = read_role_counts(&mut table);
    let approvers = words(&mut table, "approvers", ROLES_MAX);
    if approvers.is_empty() && !table.has("approvers") {
        table.fault("approvers", "is missing: name the roles whose members may vote");
    } else if approvers.is_empty() {
        table.fault("approvers", "must name one role at least");
    }
    let exclude = words(&mut table, "exclude", PEOPLE_MAX);
    let approve_within_ms = required_seconds(&mut table, "approve_within_s");
    let apply_within_ms = required_seconds(&mut table, "apply_within_s");
    let delay_ms_min = seconds(&mut table, "delay_s_min", 0);
    let vetoes = count(&mut table, "vetoes");
    let requires_user_presence = table.boolean("require_user_presence");
    let escalation = read_escalation(&mut table);
    let required: usize = roles.iter().map(|(_, count)| count).sum();
    if let Some(approvals) = approvals
        && required > approvals
    {
        table.fault("roles", format!("ask for {required} people, and `approvals` for {approvals} only"));
    }
    Some(Rule {
        approvals: approvals?,
        roles,
        approvers,
        exclude,
        approve_within_ms: approve_within_ms?,
        apply_within_ms: apply_within_ms?,
        delay_ms_min: delay_ms_min.unwrap_or(0),
        vetoes: vetoes.unwrap_or(1),
        requires_user_presence: requires_user_presence.unwrap_or(false),
        escalation,
    })
}

fn read_role_counts(table: &mut Table<'_>) -> Vec<(Word, usize)> {
    let mut roles = Vec::new();
    for (item, count) in table.counts("roles", ROLES_MAX, 1..=APPROVALS_MAX) {
        let role = Word::new(item.text).filter(|word| is_word(word.as_str()));
        match role.zip(usize::try_from(count).ok()) {
            Some(role) => roles.push(role),
            None => table.fault_of(&item, "is not the name of a role"),
        }
    }
    roles
}

fn read_escalation(rule: &mut Table<'_>) -> Vec<Escalation> {
    let mut steps: Vec<Escalation> = Vec::new();
    for mut table in rule.tables("escalation", ESCALATIONS_MAX) {
        let after_ms = required_seconds(&mut table, "after_s");
        let add_roles = words(&mut table, "add_roles", ROLES_MAX);
        let add_people = words(&mut table, "add_people", PEOPLE_MAX);
        let webhook = table.text("webhook", 512).map(str::to_owned);
        if webhook.as_ref().is_some_and(|to| !to.starts_with("https://") && !to.starts_with("http://")) {
            table.fault("webhook", "must be an address that begins with https:// or http://");
        }
        let command = if table.has("command") { word(&mut table, "command") } else { None };
        if add_roles.is_empty() && add_people.is_empty() && webhook.is_none() && command.is_none() {
            table.fault_here("neither adds anybody nor tells anybody");
        }
        let Some(after_ms) = after_ms else { continue };
        if steps.last().is_some_and(|last| after_ms <= last.after_ms) {
            table.fault("after_s", "must be later than the step before");
        }
        steps.push(Escalation { after_ms, add_roles, add_people, webhook, command });
    }
    steps
}

fn read_review(table: &mut Table<'_>) -> Option<Review> {
    let within_ms = required_seconds(table, "review_within_s");
    let approvals = count(table, "review_approvals");
    let approvals = table.required("review_approvals", approvals);
    Some(Review { within_ms: within_ms?, approvals: approvals? })
}

fn read_break_glass(mut table: Table<'_>) -> Option<BreakGlass> {
    let role = word(&mut table, "role");
    let approvals = count(&mut table, "approvals");
    let approvals = table.required("approvals", approvals);
    let lasts_ms_max = required_seconds(&mut table, "lasts_s_max");
    let review = read_review(&mut table);
    Some(BreakGlass { role: role?, approvals: approvals?, lasts_ms_max: lasts_ms_max?, review: review? })
}

fn read_freeze(mut table: Table<'_>) -> Option<Freeze> {
    let role = word(&mut table, "role");
    let lasts_ms_max = required_seconds(&mut table, "lasts_s_max");
    let review = read_review(&mut table);
    Some(Freeze { role: role?, lasts_ms_max: lasts_ms_max?, review: review? })
}
