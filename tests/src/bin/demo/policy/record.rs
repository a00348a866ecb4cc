//! `summary.json`: what the policy demo saw, for programs.

use quotary_common::plan::Setpoint;
use serde::Serialize;

use crate::summary::RefusedLine;

/// Everything, under the names that others read.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// The change, and SHA-256 of its text.
    pub(super) change: ChangeLine,
    /// Every vote on it, in the order in which they came.
    pub(super) votes: Vec<VoteLine>,
    pub(super) plan: PlanLine,
    /// How far at most from when its plan arrives, at the effective time, a group came to stand at its target, ms.
    pub(super) alignment_ms: u64,
    /// The kernel's values, group by group.
    pub(super) actual: Vec<ActualLine>,
    /// What was refused, or not counted.
    pub(super) refused: Vec<RefusedLine>,
    /// Whether the kernel has the values again that it had before the change.
    pub(super) restored: bool,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct ChangeLine {
    pub(super) id: String,
    pub(super) sha256: String,
    pub(super) criticality: String,
    pub(super) impact: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct VoteLine {
    pub(super) person: String,
    pub(super) counted: bool,
    pub(super) reason: String,
}

/// The plans of the change; instants are Unix ms.
#[derive(Debug, Default, Serialize)]
pub(super) struct PlanLine {
    pub(super) setpoints: Vec<CourseLine>,
    pub(super) start: u64,
    pub(super) effective_at: u64,
}

/// The setpoints of one group.
#[derive(Debug, Serialize)]
pub(super) struct CourseLine {
    pub(super) application: String,
    pub(super) target: String,
    pub(super) control: String,
    pub(super) unit: String,
    pub(super) setpoints: Vec<Setpoint>,
}

/// One group, as the demo read it from the kernel.
#[derive(Debug, Serialize)]
pub(super) struct ActualLine {
    pub(super) application: String,
    pub(super) tenant: String,
    pub(super) cgroup: String,
    pub(super) control: String,
    /// Before the change.
    pub(super) before: u64,
    /// What the plan ends at.
    pub(super) target: u64,
    /// A second after the effective time.
    pub(super) actual: u64,
    /// When it came to stand at the target, ms after its plan (before it: less than 0).
    pub(super) aligned_ms: i64,
    /// The greatest step between two looks, a second apart, while it moved.
    pub(super) largest_step: u64,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_names_that_others_read() {
        let summary = Summary {
            votes: vec![VoteLine { person: "bob".to_owned(), counted: true, reason: "counted".to_owned() }],
            plan: PlanLine {
                setpoints: vec![CourseLine {
                    application: "web".to_owned(),
                    target: "/q/web".to_owned(),
                    control: "memory-high".to_owned(),
                    unit: "bytes".to_owned(),
                    setpoints: vec![Setpoint { at_ms: 9, value: 7 }],
                }],
                start: 1,
                effective_at: 9,
            },
            ..Summary::default()
        };
        let json = serde_json::to_value(&summary).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        for name in ["votes", "plan", "alignment_ms", "actual", "refused", "restored"] {
            assert!(keys.contains(&name), "{name} is not in {keys:?}");
        }
        assert_eq!(json["votes"][0]["counted"], true);
        assert_eq!((&json["plan"]["start"], &json["plan"]["effective_at"]), (&1.into(), &9.into()));
        assert_eq!(json["plan"]["setpoints"][0]["setpoints"][0]["value"], 7);
        assert_eq!(json["restored"], false, "until it is seen");
    }
}
