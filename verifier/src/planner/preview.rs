//! The plans of a change as people see them: those that are given, or those that would be.

use quotary_common::id::ChangeId;
use quotary_common::quorum::coverage::resource_of;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::ResourceKind;
use quotary_common::wire::{BandPoint, ChangePreview, CoursePreview};
use quotary_decide::forecast::QUANTILE_LEVELS;
use quotary_decide::policy::Unit;
use quotary_decide::shape::phase::Demand;
use quotary_decide::shape::{PlanRecord, UnitPlan};
use tokio::sync::Semaphore;

use super::{Demands, Sight};
use crate::core::Ground;
use crate::predict::Usual;

/// Courses that are shown at most.
const COURSES_MAX: usize = 512;
/// Previews at once.
const AT_ONCE_MAX: usize = 2;

/// Shows plans as they would be: a few at once, for each plans for the whole fleet.
#[derive(Debug)]
pub struct Previews {
    usual: Usual,
    places: Semaphore,
}

impl Previews {
    /// By what series usually want.
    pub fn new(usual: Usual) -> Self {
        Self { usual, places: Semaphore::new(AT_ONCE_MAX) }
    }

    /// What they are made from.
    pub(crate) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// The plans of a change, or those that it would have if it were approved now.
    ///
    /// # Errors
    /// `not-found`; `busy` while others look.
    pub(crate) async fn of(
        &self,
        sight: &Sight,
        id: &ChangeId,
        (ground, step_ms): (&Ground, u64),
    ) -> Result<ChangePreview, Refusal> {
        let Ok(_place) = self.places.try_acquire() else {
            let why = format!("{AT_ONCE_MAX} others are being shown plans: come back when they are");
            return Err(Refusal::new(Reason::Busy, why));
        };
        preview(sight, id, (ground, &self.usual, step_ms)).await
    }
}

async fn preview(
    sight: &Sight,
    id: &ChangeId,
    (ground, usual, step_ms): (&Ground, &Usual, u64),
) -> Result<ChangePreview, Refusal> {
    let kept = sight.book.change(id)?;
    let given: Vec<&PlanRecord> = sight
        .hosts
        .iter()
        .flat_map(|snapshot| &snapshot.plans)
        .filter(|record| record.over().is_none() && record.change() == Some(*id))
        .map(|record| &**record)
        .collect();
    let is_given = !given.is_empty();
    let effective_at_ms = kept.record().times.effective_at_ms;
    let rough = sight.preview(kept, &Demands::default());
    let of_given = |record: &&PlanRecord| {
        let plan = record.plan();
        sight.standing.units.iter().find(|unit| unit.host == plan.host && unit.target == plan.target)
    };
    let moving: Vec<&Unit> = match given.is_empty() {
        true => rough.plans.iter().map(|one| &one.unit).collect(),
        false => given.iter().filter_map(of_given).collect(),
    };
    let wanted: Vec<(&Unit, ResourceKind)> =
        moving.iter().flat_map(|unit| ResourceKind::ALL.map(|kind| (*unit, kind))).collect();
    let demands = Demands::gather(&wanted, sight, (ground, usual, step_ms), effective_at_ms).await;
    let (courses, without): (Vec<CoursePreview>, Vec<String>) = if given.is_empty() {
        let planned = sight.preview(kept, &demands);
        (planned.plans.iter().flat_map(courses_of).collect(), planned.without.iter().map(ToString::to_string).collect())
    } else {
        let of = |record: &PlanRecord| {
            let unit = of_given(&record);
            running(record, unit, &demands, sight.now_ms)
        };
        (given.into_iter().flat_map(of).collect(), Vec::new())
    };
    Ok(ChangePreview {
        id: id.to_string(),
        given: is_given,
        effective_at_ms,
        courses: courses.into_iter().take(COURSES_MAX).collect(),
        without,
    })
}

fn courses_of(one: &UnitPlan) -> Vec<CoursePreview> {
    let plan = one.plan.plan();
    let course = |way: &quotary_decide::shape::Way| CoursePreview {
        host: one.unit.host,
        application: one.unit.application.as_str().to_owned(),
        target: one.unit.target.clone(),
        control: way.control,
        unit: way.control.unit().to_owned(),
        now: Some(way.now.unwrap_or(way.phased.transition().from)),
        starts_at_ms: plan.starts_at_ms,
        setpoints: way.phased.setpoints().to_vec(),
        band: band(&way.demand, plan.starts_at_ms, plan.effective_at_ms),
        method: method(&way.demand),
    };
    one.ways.iter().map(course).collect()
}

fn running(record: &PlanRecord, unit: Option<&Unit>, demands: &Demands, now_ms: u64) -> Vec<CoursePreview> {
    let plan = record.plan();
    let course = |course: &quotary_common::plan::Course| {
        let demand =
            unit.zip(resource_of(course.control)).map(|(unit, kind)| demands.of(unit, kind)).unwrap_or_default();
        let first = course.setpoints.first().map(|first| first.value)?;
        Some(CoursePreview {
            host: plan.host,
            application: unit.map(|unit| unit.application.as_str().to_owned()).unwrap_or_default(),
            target: plan.target.clone(),
            control: course.control,
            unit: course.control.unit().to_owned(),
            now: record.checked().setpoint(course.control, first, now_ms),
            starts_at_ms: plan.starts_at_ms,
            setpoints: course.setpoints.to_vec(),
            band: band(&demand, plan.starts_at_ms, plan.effective_at_ms),
            method: method(&demand),
        })
    };
    plan.courses.iter().filter_map(course).collect()
}

/// The forecast over the window, a point at the middle of each of its stretches.
fn band(demand: &Demand, from_ms: u64, until_ms: u64) -> Vec<BandPoint> {
    let level = |wanted: f64| QUANTILE_LEVELS.iter().position(|level| (*level - wanted).abs() < 1e-9);
    let [Some(p50), Some(p90), Some(p99)] = [0.5, 0.9, 0.99].map(level) else { return Vec::new() };
    let within = demand.stretches().iter().filter(|stretch| stretch.until_ms > from_ms && stretch.from_ms < until_ms);
    let point = |stretch: &quotary_decide::shape::phase::Stretch| BandPoint {
        at_ms: stretch.from_ms.max(from_ms) / 2 + stretch.until_ms.min(until_ms) / 2,
        p50: stretch.quantiles[p50],
        p90: stretch.quantiles[p90],
        p99: stretch.quantiles[p99],
    };
    within.map(point).collect()
}

fn method(demand: &Demand) -> String {
    if demand.is_empty() { "none: a straight line".to_owned() } else { "forecast".to_owned() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use quotary_decide::change::Book;
    use quotary_decide::policy::Standing;

    use super::*;
    use crate::predict::Feed;

    #[tokio::test]
    async fn who_comes_while_as_many_look_as_may_is_told_to_come_back() {
        let hosts = std::collections::BTreeMap::new();
        let standing = Standing { hosts, units: Vec::new(), overcommit_percent: 100, ..Standing::default() };
        let deployment = quotary_common::id::DeploymentId::of(&[b"tests"]);
        let sight = Sight {
            deployment,
            book: Arc::new(Book::default()),
            to_come: Default::default(),
            hosts: Vec::new(),
            standing,
            now_ms: 1,
        };
        let previews = Previews::new(Usual::new(Feed::new().0));
        let configuration = "name = 'v1'\ndata_dir = 'data'\nlisten = '127.0.0.1:0'\nurl = 'https://localhost:7443'\n[[zone]]\nname = 'measured'";
        let config = crate::config::parse(configuration, Path::new("/x"), Path::new("verifier.toml")).unwrap();
        let (rules, zones) = (Arc::new(config.rules), Arc::new(config.zones));
        let ground = Ground { rules, zones, forecasts: Default::default() };
        let reason =
            async || previews.of(&sight, &ChangeId::new([1; 32]), (&ground, 1)).await.err().map(|why| why.reason);
        assert_eq!(reason().await, Some(Reason::NotFound));
        let others = previews.places.try_acquire_many(2);
        assert_eq!(reason().await, Some(Reason::Busy));
        drop(others);
        assert_eq!(reason().await, Some(Reason::NotFound));
    }
}
