//! Planner: makes the plans of changes outside of the writer, and looks after them until they are aligned.
//!
//! Does: each second looks at the changes as they were committed; makes plans of those that were approved, makes running ones anew when demand or the actual is
//! off, sees to it that every unit has the plan of the policy in force for it (what came later, what was taken back, what an emergency stood before), and ends those that nothing stands behind any more; and hands all of it to the writer. Holds use against
//! the thresholds of policies.
//! May assume: that what it reads was committed. What it hands over may be outdated by then: the writer looks again.
//! Promises: the same reading gives the same plans; what is left out is told in the log.
//! Must never: write; decide whether a change may be.

mod absent;
mod demand;
mod left_out;
mod look;
mod preview;
mod staging;
mod steering;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quotary_common::id::{ChangeId, DeploymentId, HostId};
use quotary_common::units::ResourceKind;
use quotary_decide::change;
use quotary_decide::policy::{PolicyResourceMap, Standing, Unit};
use quotary_decide::shape::phase::Demand;
use quotary_decide::shape::{HostNow, PlanRecord, Planned, Scene, Wanted, plans_of};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::core::{Ground, HostSnapshot, Place, Queue, View};
use crate::predict::Usual;

use self::absent::Absent;
use self::staging::Staging;
use self::steering::Steering;
pub use self::watching::Watched;
use self::watching::Watching;
pub use demand::Demands;
pub use left_out::LeftOut;
pub use preview::Previews;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// What plans are made from, as it was committed at one instant.
pub struct Sight {
    deployment: DeploymentId,
    /// Policies, changes, and who decides.
    pub book: Arc<change::Book>,
    /// The policies with all that is under way put in force.
    to_come: PolicyResourceMap,
    /// Every host.
    pub hosts: Vec<Arc<HostSnapshot>>,
    /// Hosts, and what runs on them.
    pub standing: Standing,
    /// When, Unix ms.
    pub now_ms: u64,
}

impl Sight {
    /// What is there now.
    pub(crate) fn new(deployment: DeploymentId, view: &View, ground: &Ground, now_ms: u64) -> Self {
        let (book, hosts) = (view.changes(), view.hosts());
        let standing = ground.standing(hosts.iter().map(|snapshot| Place::of(snapshot)));
        let to_come = book.map_to_come();
        Self { deployment, book, to_come, hosts, standing, now_ms }
    }

    /// Works on what plans are made from.
    pub(crate) fn with_scene<T>(&self, demands: &Demands, work: impl FnOnce(&Scene<'_>) -> T) -> T {
        let now = |snapshot: &'_ Arc<HostSnapshot>| (snapshot.host.record.host, Arc::clone(snapshot));
        let kept: BTreeMap<HostId, Arc<HostSnapshot>> = self.hosts.iter().map(now).collect();
        let hosts = kept.iter().map(|(id, one)| (*id, HostNow { host: &one.host, plans: &one.plans })).collect();
        let demand = |unit: &Unit, kind: ResourceKind| -> Demand { demands.of(unit, kind) };
        work(&Scene {
            deployment: self.deployment,
            map: self.book.map(),
            standing: &self.standing,
            hosts: &hosts,
            demand: &demand,
            now_ms: self.now_ms,
        })
    }

    /// The plans of a change that are given, with their hosts.
    fn given(&self, change: ChangeId) -> impl Iterator<Item = (&HostSnapshot, &PlanRecord)> {
        let all = self.hosts.iter().flat_map(|snapshot| snapshot.plans.iter().map(move |plan| (&**snapshot, &**plan)));
        all.filter(move |(_, record)| record.over().is_none() && record.change() == Some(change))
    }

    /// Those that lead on to what the change says, by its newest decision: none that holds it where it is.
    fn running(&self, kept: &change::Kept) -> impl Iterator<Item = (&HostSnapshot, &PlanRecord)> {
        let id = kept.text().change().id;
        self.given(id).filter(move |(_, record)| {
            !self.book.is_of_freeze(&id, record.made_at_ms()) && record.plan().decision.as_deref() == kept.decision()
        })
    }

    /// The plans that a change would have if they were made now.
    pub(crate) fn preview(&self, kept: &change::Kept, demands: &Demands) -> Planned {
        let Some(edit) = kept.edit() else { return Planned::default() };
        let shaping = kept.shaping(&self.book);
        let wanted = Wanted { change: kept.text().change(), edit, shaping: &shaping, decision: kept.decision() };
        self.with_scene(demands, |scene| plans_of(&wanted, scene))
    }
}

/// What is remembered of changes that move. After a restart it begins anew.
#[derive(Debug, Default)]
struct Moving {
    steering: Steering,
    staging: Staging,
    absent: Absent,
}

/// Makes plans.
pub struct Planner {
    pub(crate) deployment: DeploymentId,
    pub(crate) view: Arc<View>,
    pub(crate) ground: Ground,
    pub(crate) usual: Usual,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) step_ms: u64,
    pub(crate) watched: Watched,
    pub(crate) left_out: LeftOut,
}

impl Planner {
    /// Works until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut moving = Moving::default();
        let mut watching = Watching::default();
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {
                    let sight = Sight::new(self.deployment, &self.view, &self.ground, self.clock.now_ms());
                    self.look(&sight, &mut moving).await;
                    watching.look(&sight, &self.queue, &self.watched);
                }
            }
        }
    }
}
