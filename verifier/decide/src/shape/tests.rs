#![expect(clippy::unwrap_used, reason = "tests")]

mod book;
mod draft;
mod of_change;
mod settle;
mod steer;

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{DeploymentId, HostId, PlanId};
use quotary_common::leaf::PlanChange;
use quotary_common::limits::SIGNED_BYTES_MAX;
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};
use quotary_common::sign::SigningKey;
use quotary_common::wire::PlanState;

use super::*;

const HOST: HostId = HostId::new([2; 32]);
const DAY_MS: u64 = 24 * 3_600_000;

fn key() -> SigningKey {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([7; 32]);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

fn plan(id: u8, unit: &str, generation: u64, ends_at_ms: Option<u64>) -> PlanRecord {
    let setpoints = Bounded::new(vec![Setpoint { at_ms: 2_000, value: 50 }]).unwrap();
    let plan = Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HOST,
        id: PlanId::new([id; 32]),
        epoch: 3,
        target: Target::Unit(Name::lossy(unit)),
        generation,
        starts_at_ms: 1_000,
        effective_at_ms: 2_000,
        ends_at_ms,
        not_after_ms: 9_000,
        courses: Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 0,
        overrides: false,
        decision: None,
    };
    PlanRecord::new(check(plan).unwrap(), &key(), "token t-x", 900)
}

fn given(book: &PlanBook) -> Vec<PlanId> {
    book.given(&HOST).map(|record| record.plan().id).collect()
}

#[test]
fn a_row_reads_back_as_the_plan_that_was_signed() {
    let record = plan(1, "a.service", 5, Some(8_000));
    let read = PlanRecord::from_bytes(&record.to_bytes(), SIGNED_BYTES_MAX).unwrap();
    assert_eq!(read, record);
    let signed = quotary_common::sign::Signed::from_bytes(read.signed()).unwrap();
    assert_eq!(&signed.verify::<Plan>(&key().public()).unwrap(), record.plan());
    let mut torn = record.to_bytes();
    torn.pop();
    assert!(PlanRecord::from_bytes(&torn, SIGNED_BYTES_MAX).is_err());
    assert!(record.summary().contains("cpu-weight 50 weight"), "{}", record.summary());
}

#[test]
fn a_plan_waits_moves_is_in_force_and_is_over() {
    let mut book = PlanBook::default();
    book.put(plan(1, "a.service", 5, Some(8_000)));
    let state = |book: &PlanBook, now_ms| book.get(&HOST, &PlanId::new([1; 32])).unwrap().state(now_ms);
    assert_eq!(
        [999, 1_000, 1_999, 2_000].map(|now_ms| state(&book, now_ms)),
        [PlanState::Waiting, PlanState::Moving, PlanState::Moving, PlanState::InForce]
    );
    assert!(book.expire(7_999).is_empty());
    let ended = book.expire(8_000);
    assert_eq!(ended.first().unwrap().over(), Some((PlanChange::Ended, 8_000)));
    assert_eq!((state(&book, 8_000), given(&book).len()), (PlanState::Over, 0));
    assert!(book.expire(9_000).is_empty(), "a plan ends once");
    assert!(book.forget(8_000 + DAY_MS - 1).is_empty());
    assert_eq!(book.forget(8_000 + DAY_MS).len(), 1);
    assert_eq!(book.of_host(&HOST).count(), 0);
}

#[test]
fn a_plan_without_an_end_is_given_until_somebody_ends_it() {
    let mut book = PlanBook::default();
    book.put(plan(1, "a.service", 5, None));
    book.put(plan(2, "b.service", 6, None));
    assert!(book.expire(u64::MAX).is_empty());
    assert_eq!(given(&book), [PlanId::new([1; 32]), PlanId::new([2; 32])]);
    let ended = book.end(&HOST, PlanChange::Cancelled, 7, |record| record.plan().id == PlanId::new([1; 32]));
    assert_eq!(ended.iter().map(|record| record.over()).collect::<Vec<_>>(), [Some((PlanChange::Cancelled, 7))]);
    assert_eq!(given(&book), [PlanId::new([2; 32])]);
    assert!(book.end(&HOST, PlanChange::Cancelled, 8, |record| record.plan().id == PlanId::new([1; 32])).is_empty());
    assert_eq!(book.last_generation(&HOST, &Target::Unit(Name::lossy("a.service"))), 5, "what is over counts");
    assert_eq!(book.last_generation(&HOST, &Target::Unit(Name::lossy("c.service"))), 0);
}
