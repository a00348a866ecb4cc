//! What a young series leans on: its application's or its tenant's other series, and what its grant declared.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_decide::forecast::{Likes, Member, Rungs, Shortfall, can_speak};
use quotary_decide::history::{Measure, Owner, SeriesKey};

/// Whose series are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose<'a> {
    Application(&'a Name),
    Tenant(&'a Name),
}

/// Whose series it is, if anybody's.
type OwnerOf<'a> = dyn Fn(&SeriesKey) -> Option<&'a Owner> + 'a;

/// Series that can speak for others, by whose they are and of what; only of those that a young series asks for.
pub(super) struct Kin<'a> {
    owner_of: &'a OwnerOf<'a>,
    likes: BTreeMap<(Whose<'a>, Measure), Likes<'a>>,
}

fn whose(owner: &Owner) -> impl Iterator<Item = Whose<'_>> {
    let application = owner.application.as_ref().map(Whose::Application);
    application.into_iter().chain(owner.tenant.as_ref().map(Whose::Tenant))
}

/// Whether no upper rung answers: the series leans on its kin.
fn is_young(rungs: &Rungs) -> bool {
    rungs.model.is_none() && rungs.ewma.is_none()
}

impl<'a> Kin<'a> {
    /// Gathers what young series may lean on. `closed` has the closed steps of each series, `asked` what the rungs said of each, in the
    /// same order.
    pub(super) fn of(
        closed: &'a [(&'a SeriesKey, Vec<Option<f64>>)],
        asked: &[(Rungs, Option<Shortfall>)],
        owner_of: &'a OwnerOf<'a>,
    ) -> Self {
        let mut members: BTreeMap<(Whose<'a>, Measure), Vec<Member<'a>>> = BTreeMap::new();
        for ((key, _), _) in closed.iter().zip(asked).filter(|(_, (rungs, _))| is_young(rungs)) {
            for whose in owner_of(key).into_iter().flat_map(whose) {
                members.entry((whose, key.measure)).or_default();
            }
        }
        let nobody_asks = members.is_empty();
        for (key, values) in closed.iter().filter(|(_, values)| !nobody_asks && can_speak(values)) {
            let (Some(host), Some(owner)) = (key.host, owner_of(key)) else { continue };
            for whose in whose(owner) {
                if let Some(members) = members.get_mut(&(whose, key.measure)) {
                    members.push(Member { host, values });
                }
            }
        }
        let likes = members.into_iter().map(|(of, members)| (of, Likes::of(&members))).collect();
        Self { owner_of, likes }
    }

    /// Points of series like this one, if it is young: of its application, or else of its tenant.
    pub(super) fn like(&self, key: &SeriesKey, rungs: &Rungs) -> Vec<f64> {
        let (Some(host), Some(owner), true) = (key.host, (self.owner_of)(key), is_young(rungs)) else {
            return Vec::new();
        };
        let of = |whose| self.likes.get(&(whose, key.measure)).map_or_else(Vec::new, |likes| likes.for_host(&host));
        whose(owner).map(of).find(|points| !points.is_empty()).unwrap_or_default()
    }

    /// What the grant of a series' application declared, if that says anything of this resource.
    pub(super) fn declared(&self, key: &SeriesKey) -> Option<f64> {
        let amount = (self.owner_of)(key)?.declared.get(key.measure.resource()?)?;
        #[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
        let amount = amount as f64;
        Some(amount)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::id::HostId;
    use quotary_common::units::{ResourceKind, Resources};
    use quotary_decide::forecast::{Calibration, Forecast, Ladder, Method, Past};
    use quotary_decide::history::Subject;

    use super::*;

    fn key(host: u8, cgroup: &str) -> SeriesKey {
        let subject = Subject::Cgroup(cgroup.to_owned());
        SeriesKey { host: Some(HostId::new([host; 32])), subject, measure: ResourceKind::Cpu.into() }
    }

    /// Each cgroup's name begins with its application's.
    fn owner(application: &str, tenant: &str) -> Owner {
        let declared = Resources { cpu_millicores: Some(700), ..Resources::default() };
        Owner { application: Name::new(application), tenant: Name::new(tenant), declared }
    }

    /// What the newest of these series is told without a model.
    fn told(series: &[(SeriesKey, Vec<Option<f64>>)]) -> Option<Forecast> {
        let owners = [owner("web", "shop"), owner("batch", "shop"), owner("db", "bank")];
        let of = |key: &SeriesKey| {
            let name = key.subject.cgroup()?;
            owners.iter().find(|owner| owner.application.as_ref().is_some_and(|of| name.starts_with(of.as_str())))
        };
        let closed: Vec<_> = series.iter().map(|(key, values)| (key, values.clone())).collect();
        let past = |values| Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values };
        let pasts: Vec<_> = closed.iter().map(|(_, values)| past(values)).collect();
        let ladder = Ladder::new(None);
        let asked = ladder.rungs(&pasts);
        let kin = Kin::of(&closed, &asked, &of);
        let ((key, _), (rungs, _)) = (closed.last().unwrap(), asked.last().unwrap());
        let none = Calibration::NONE;
        ladder.answer(pasts.last().unwrap(), rungs, (&none, &none), &kin.like(key, rungs), kin.declared(key))
    }

    fn median(forecast: &Forecast) -> f64 {
        forecast.quantiles.steps()[0][4]
    }

    #[test]
    fn a_young_series_leans_on_its_application_elsewhere_then_its_tenant_then_its_request() {
        let old = |host, cgroup, used| (key(host, cgroup), vec![Some(used); 60]);
        let mut series: Vec<_> = (1..=3).map(|host| old(host, "web/a", 100.0)).collect();
        series.extend((1..=3).map(|host| old(host, "batch/a", 900.0)));
        series.extend((1..=5).map(|host| old(host, "db/a", 5.0)));
        let with = |cgroup: &str, own: Vec<Option<f64>>| {
            let mut all = series.clone();
            all.push((key(9, cgroup), own));
            told(&all).unwrap()
        };
        let web = with("web/new", vec![]);
        assert_eq!((web.method, web.is_insufficient()), (Method::Climatology, true));
        assert!((median(&web) - 100.0).abs() < 1e-9);
        assert!((median(&with("db/new", vec![])) - 5.0).abs() < 1e-9);
        // Three hosts of the tenant speak, one of the application does not make a majority.
        series.truncate(4);
        let batch = series.len();
        series[batch - 1] = old(4, "batch/a", 900.0);
        let mut all = series.clone();
        all.push((key(9, "batch/new"), vec![]));
        assert!((median(&told(&all).unwrap()) - 100.0).abs() < 1e-9, "the middle of 100, 100, 100 and 900");
        // Nobody to lean on: what was declared.
        let alone = told(&[(key(9, "web/new"), vec![])]).unwrap();
        assert_eq!((alone.method, alone.is_insufficient(), alone.history_rows), (Method::Declared, true, 0));
        assert!((median(&alone) - 700.0).abs() < 1e-9);
        assert!(told(&[(key(9, "unknown"), vec![])]).is_none());
    }

    #[test]
    fn a_series_with_a_past_of_its_own_leans_on_nobody() {
        let mut series: Vec<_> = (1..=3).map(|host| (key(host, "web/a"), vec![Some(900.0); 60])).collect();
        series.push((key(9, "web/new"), vec![Some(10.0); 30]));
        let told = told(&series).unwrap();
        assert_eq!(told.method, Method::Ewma);
        assert!((median(&told) - 10.0).abs() < 1e-9);
    }
}
