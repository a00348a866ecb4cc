//! The journal of shaping: its records, and what they add up to. Pure.
//!
//! What is about to be written ([`Record::Writing`]) is made to last before it is written, with what stood there before; so
//! [`Held`] always knows everything that may have to be put back.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use quotary_common::envelope::CgroupPath;
use quotary_common::id::PlanId;
use quotary_common::lease::Lease;
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::steps::Steps;

use super::backend::{Prior, Undo};
use super::controller::{Kept, Standing, Value};
use super::storage;
use crate::enforce::record::LeaseForm;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) enum Record {
    /// A plan is followed from now on.
    #[n(0)]
    Taken {
        #[n(0)]
        target: Target,
        #[n(1)]
        plan: PlanId,
        #[n(2)]
        generation: u64,
        #[n(3)]
        cgroup: CgroupPath,
        #[n(4)]
        lease: LeaseForm,
    },
    /// All plans that are followed hold until then.
    #[n(1)]
    Renewed {
        #[n(0)]
        lease: LeaseForm,
    },
    /// A control is about to be written.
    #[n(2)]
    Writing {
        #[n(0)]
        target: Target,
        #[n(1)]
        control: ShapedControl,
        /// With the first write: what an undo puts back.
        #[n(2)]
        prior: Option<Prior>,
        #[n(3)]
        before: Option<Value>,
        #[n(4)]
        after: Value,
    },
    /// It was written, or refused.
    #[n(3)]
    Wrote {
        #[n(0)]
        target: Target,
        #[n(1)]
        control: ShapedControl,
        #[n(2)]
        actual: Option<Value>,
        /// What it made of the drop-in.
        #[cbor(n(3), with = "minicbor::bytes")]
        drop_in: Option<Vec<u8>>,
    },
    /// What the controller knows, for a restart of the agent.
    #[n(4)]
    Kept {
        #[n(0)]
        target: Target,
        #[n(1)]
        kept: Kept,
    },
    /// A control was put back.
    #[n(5)]
    Undone {
        #[n(0)]
        target: Target,
        #[n(1)]
        control: ShapedControl,
    },
    /// A target is no longer shaped, and everything of it was put back.
    #[n(6)]
    Ended {
        #[n(0)]
        target: Target,
    },
    /// A plan began once; nothing of it need stand now.
    #[n(7)]
    Begun {
        #[n(0)]
        target: Target,
        #[n(1)]
        plan: PlanId,
    },
    /// Everything of a target is about to be put back: whoever finds this puts it back to the end.
    #[n(8)]
    Ending {
        #[n(0)]
        target: Target,
    },
}

/// One target that is shaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldTarget {
    pub(super) plan: PlanId,
    pub(super) generation: u64,
    pub(super) cgroup: CgroupPath,
    pub(super) lease: Lease,
    pub(super) written: Steps<ShapedControl, Value>,
    pub(super) priors: BTreeMap<ShapedControl, Prior>,
    pub(super) kept: Option<Kept>,
    /// What our last writes made of drop-ins, by their paths.
    pub(super) ours: BTreeMap<String, Vec<u8>>,
    /// Whether it is being put back: then no lease keeps what is left of it.
    pub(super) is_ending: bool,
}

impl HeldTarget {
    /// Whether what was written last was left to another writer.
    fn is_contested(&self, control: ShapedControl) -> bool {
        let tracks = self.kept.iter().flat_map(|kept| &kept.tracks);
        tracks.filter(|track| track.control == control).any(|track| track.standing == Standing::Contested)
    }

    /// Whether the control was written, or one that the manager keeps in the same place: what stands there is ours.
    pub(super) fn has_prior_beside(&self, control: ShapedControl) -> bool {
        // cpu.weight and cpu.idle are one property of systemd's.
        let is_share = |control| matches!(control, ShapedControl::CpuWeight | ShapedControl::CpuIdle);
        self.priors.keys().any(|known| *known == control || (is_share(*known) && is_share(control)))
    }

    /// What may stand there by us: what was asked for last, and where that was refused what stood there before.
    fn written_last(&self, control: ShapedControl) -> Vec<Value> {
        let step = self.written.get(&control);
        step.into_iter().flat_map(|step| [Some(step.setpoint), step.before]).flatten().collect()
    }

    /// All that has to be put back.
    pub(super) fn undos(&self, target: &Target) -> Vec<Undo> {
        let of = |(control, prior): (&ShapedControl, &Prior)| Undo {
            target: target.clone(),
            control: *control,
            prior: match control {
                ShapedControl::Storage => storage::prior_with(prior, &self.written_last(*control)),
                _ => prior.clone(),
            },
            is_contested: self.is_contested(*control),
            ours: prior.drop_in_path.as_ref().and_then(|path| self.ours.get(path).cloned()),
        };
        self.priors.iter().map(of).collect()
    }
}

/// What the journal adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) targets: BTreeMap<Target, HeldTarget>,
    /// Which plan of each target has begun, whatever came of it since; as long as that is given.
    pub(super) begun: BTreeMap<Target, PlanId>,
}

impl Held {
    /// Adds one record. A record about a target that is not held changes nothing.
    pub(super) fn add(&mut self, record: &Record) {
        match record {
            Record::Taken { target, plan, generation, cgroup, lease } => {
                let held = self.targets.entry(target.clone()).or_insert_with(|| HeldTarget {
                    plan: *plan,
                    generation: *generation,
                    cgroup: cgroup.clone(),
                    lease: lease.into(),
                    written: Steps::default(),
                    priors: BTreeMap::new(),
                    kept: None,
                    ours: BTreeMap::new(),
                    is_ending: false,
                });
                (held.plan, held.generation, held.lease) = (*plan, *generation, lease.into());
                held.is_ending = false;
                self.begun.insert(target.clone(), *plan);
            }
            Record::Renewed { lease } => self.targets.values_mut().for_each(|held| held.lease = lease.into()),
            Record::Writing { target, control, prior, before, after } => {
                let Some(held) = self.targets.get_mut(target) else { return };
                if let Some(prior) = prior {
                    held.priors.entry(*control).or_insert_with(|| prior.clone());
                }
                held.written.announced(*control, *before, *after);
            }
            Record::Wrote { target, control, actual, drop_in } => {
                let Some(held) = self.targets.get_mut(target) else { return };
                held.written.concluded(control, *actual);
                let path = held.priors.get(control).and_then(|prior| prior.drop_in_path.clone());
                if let (Some(path), Some(bytes)) = (path, drop_in) {
                    held.ours.insert(path, bytes.clone());
                }
            }
            Record::Kept { target, kept } => {
                if let Some(held) = self.targets.get_mut(target) {
                    held.kept = Some(kept.clone());
                }
            }
            Record::Undone { target, control } => {
                if let Some(held) = self.targets.get_mut(target) {
                    held.written.undone(control);
                    held.priors.remove(control);
                }
            }
            Record::Ended { target } => {
                self.targets.remove(target);
            }
            Record::Begun { target, plan } => {
                self.begun.insert(target.clone(), *plan);
            }
            Record::Ending { target } => {
                if let Some(held) = self.targets.get_mut(target) {
                    held.is_ending = true;
                }
            }
        }
    }

    /// The fewest records that add up to the same, as far as it matters: what to put back, and where each target stands.
    pub(super) fn records(&self) -> Vec<Record> {
        let begun = |(target, plan): (&Target, &PlanId)| Record::Begun { target: target.clone(), plan: *plan };
        let mut records: Vec<Record> = self.begun.iter().map(begun).collect();
        for (target, held) in &self.targets {
            let lease = LeaseForm::from(&held.lease);
            let (plan, generation, cgroup) = (held.plan, held.generation, held.cgroup.clone());
            records.push(Record::Taken { target: target.clone(), plan, generation, cgroup, lease });
            for (control, step) in held.written.iter() {
                let control = *control;
                let prior = held.priors.get(&control).cloned();
                let (before, after) = (step.before, step.setpoint);
                let path = prior.as_ref().and_then(|prior| prior.drop_in_path.as_ref());
                let drop_in = path.and_then(|path| held.ours.get(path).cloned());
                if step.baseline != step.before || (drop_in.is_some() && !step.ended) {
                    let (target, prior) = (target.clone(), prior.clone());
                    records.push(Record::Writing { target, control, prior, before: step.baseline, after });
                }
                if !step.ended && drop_in.is_some() {
                    let (target, drop_in) = (target.clone(), drop_in.clone());
                    records.push(Record::Wrote { target, control, actual: None, drop_in });
                }
                records.push(Record::Writing { target: target.clone(), control, prior, before, after });
                if step.ended {
                    records.push(Record::Wrote { target: target.clone(), control, actual: step.actual, drop_in });
                }
            }
            records.extend(held.kept.iter().map(|kept| Record::Kept { target: target.clone(), kept: kept.clone() }));
            records.extend(held.is_ending.then(|| Record::Ending { target: target.clone() }));
        }
        records
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::BootId;

    use super::*;

    fn target() -> Target {
        Target::Unit(Name::lossy("a.service"))
    }

    fn lease(lease_ms: u64) -> LeaseForm {
        LeaseForm { boot_id: BootId::new([1; 16]), epoch: 1, start_ms: 0, lease_ms }
    }

    fn prior(text: &str) -> Prior {
        Prior {
            value: Value::Unlimited,
            drop_in: Some(text.as_bytes().to_vec()),
            drop_in_path: Some("/run/x".to_owned()),
            note: Some(vec![1, 2]),
        }
    }

    fn taken() -> Record {
        let (plan, cgroup) = (PlanId::new([3; 32]), CgroupPath::lossy("/a.service"));
        Record::Taken { target: target(), plan, generation: 1, cgroup, lease: lease(9) }
    }

    fn writing(prior: Option<Prior>, before: Value, after: u64) -> Record {
        let (control, after) = (ShapedControl::MemoryHigh, Value::Value(after));
        Record::Writing { target: target(), control, prior, before: Some(before), after }
    }

    fn story() -> Vec<Record> {
        vec![
            taken(),
            writing(Some(prior("first")), Value::Unlimited, 300),
            Record::Wrote {
                target: target(),
                control: ShapedControl::MemoryHigh,
                actual: Some(Value::Value(300)),
                drop_in: Some(vec![7]),
            },
            Record::Kept { target: target(), kept: Kept { held_ms: 7, ..Kept::default() } },
            writing(Some(prior("second")), Value::Value(300), 200),
            Record::Renewed { lease: lease(99) },
        ]
    }

    fn held(records: &[Record]) -> Held {
        let mut held = Held::default();
        records.iter().for_each(|record| held.add(record));
        held
    }

    #[test]
    fn what_is_put_back_is_what_stood_there_first() {
        let held = held(&story());
        let one = held.targets.get(&target()).unwrap();
        let undo = Undo {
            target: target(),
            control: ShapedControl::MemoryHigh,
            prior: prior("first"),
            is_contested: false,
            ours: Some(vec![7]),
        };
        assert_eq!(one.undos(&target()), [undo]);
        assert_eq!(one.lease.lease_ms, 99);
        assert!(!one.written.get(&ShapedControl::MemoryHigh).unwrap().ended);
    }

    #[test]
    fn every_beginning_of_the_journal_knows_what_may_have_been_written() {
        let story = story();
        for end in 0..=story.len() {
            let held = held(&story[..end]);
            let announced = story[..end].iter().any(|record| matches!(record, Record::Writing { .. }));
            let undos: usize = held.targets.iter().map(|(target, one)| one.undos(target).len()).sum();
            assert_eq!(undos, usize::from(announced), "after {end} records");
        }
    }

    #[test]
    fn the_fewest_records_mean_the_same() {
        let once = held(&story());
        assert_eq!(held(&once.records()), once);
        let mut over = story();
        over.push(Record::Ending { target: target() });
        let ending = held(&over);
        assert!(ending.targets.get(&target()).unwrap().is_ending);
        assert_eq!(held(&ending.records()), ending);
        assert!(!held(&[ending.records(), vec![taken()]].concat()).targets.get(&target()).unwrap().is_ending);
        over.push(Record::Undone { target: target(), control: ShapedControl::MemoryHigh });
        assert!(held(&over).targets.get(&target()).unwrap().priors.is_empty());
        over.push(Record::Ended { target: target() });
        let begun = Record::Begun { target: target(), plan: PlanId::new([3; 32]) };
        assert_eq!(held(&over).records(), [begun], "all that is left of it");
        assert!(held(&over).targets.is_empty());
    }

    #[test]
    fn records_are_read_back_as_they_were_written() {
        for record in story() {
            let bytes = quotary_common::cbor::to_bytes(&record);
            assert_eq!(quotary_common::cbor::from_bytes::<Record>(&bytes, 65_536).unwrap(), record);
        }
    }
}
