//! What every store must do, as one suite that each implementation runs.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use quotary_common::id::HostId;
use quotary_common::limits::LEAF_BYTES_MAX;

const A: Table = Table::new("a");
const B: Table = Table::new("b");
const HERE: Partition = Partition::Deployment;

fn shard(number: u8) -> Partition {
    Partition::of_host(&HostId::new([number; 32]))
}

fn keys(rows: &[Row]) -> Vec<&[u8]> {
    rows.iter().map(|row| row.key.as_slice()).collect()
}

fn ok(store: &mut dyn Store, batch: Batch) -> Committed {
    store.commit(&[batch]).unwrap().remove(0).unwrap()
}

fn a_value_is_read_back_replaced_and_removed(store: &mut dyn Store) {
    assert_eq!(store.get(A, HERE, b"k").unwrap(), None);
    ok(store, Batch::default().put(A, HERE, b"k", b"one").put(B, HERE, b"k", b"other table"));
    ok(store, Batch::default().put(A, HERE, b"k", b"two").put(A, shard(0), b"k", b"other partition"));
    assert_eq!(store.get(A, HERE, b"k").unwrap().unwrap(), b"two");
    assert_eq!(store.get(A, shard(0), b"k").unwrap().unwrap(), b"other partition");
    assert_eq!(store.get(B, HERE, b"k").unwrap().unwrap(), b"other table");
    ok(store, Batch::default().delete(A, HERE, b"k").delete(A, HERE, b"never there"));
    assert_eq!(store.get(A, HERE, b"k").unwrap(), None);
    assert!(store.get(A, shard(0), b"k").unwrap().is_some());
}

fn deletes_come_before_puts_and_the_later_put_stands(store: &mut dyn Store) {
    ok(store, Batch::default().put(A, HERE, b"k", b"one").put(A, HERE, b"k", b"two").delete(A, HERE, b"k"));
    assert_eq!(store.get(A, HERE, b"k").unwrap().unwrap(), b"two");
}

fn a_refused_batch_leaves_no_trace_and_takes_no_other_with_it(store: &mut dyn Store) {
    let group = [
        Batch::default().put(A, HERE, b"1", b"x").leaf(b"first".to_vec()),
        Batch::default()
            .put(A, HERE, b"2", b"x")
            .delete(A, HERE, b"1")
            .leaf(b"never".to_vec())
            .expect(A, HERE, b"1", Expect::Present)
            .expect(A, HERE, b"1", Expect::Absent),
        Batch::default().put(A, HERE, b"3", b"x").leaf(b"second".to_vec()).leaf(b"third".to_vec()),
    ];
    let outcomes = store.commit(&group).unwrap();
    assert_eq!(outcomes[0], Ok(Committed { first_leaf: 0, leaves: 1 }));
    let refused = Precondition { table: A, partition: HERE, key: b"1".to_vec(), expect: Expect::Absent };
    assert_eq!(outcomes[1], Err(Conflict::Precondition { index: 1, precondition: refused }));
    assert_eq!(outcomes[2], Ok(Committed { first_leaf: 1, leaves: 2 }));
    assert_eq!(keys(&store.scan(&Scan::all(A)).unwrap()), [b"1", b"3"]);
    assert_eq!(store.leaves(0, 10).unwrap(), [&b"first"[..], b"second", b"third"]);
}

fn preconditions_see_what_the_batches_before_wrote(store: &mut dyn Store) {
    let step = |from: Expect, to: &[u8]| Batch::default().expect(A, HERE, b"k", from).put(A, HERE, b"k", to);
    let outcomes = store
        .commit(&[
            step(Expect::Absent, b"1"),
            step(Expect::Absent, b"lost"),
            step(Expect::value(b"1"), b"2"),
            step(Expect::value(b"1"), b"lost"),
            step(Expect::Present, b"3"),
        ])
        .unwrap();
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert_eq!(store.get(A, HERE, b"k").unwrap().unwrap(), b"3");
    assert!(store.commit(&[step(Expect::value(b"2"), b"lost")]).unwrap()[0].is_err());
    let absent = Batch::default().expect(A, HERE, b"none", Expect::value(b""));
    assert!(store.commit(&[absent]).unwrap()[0].is_err(), "an absent row is not an empty value");
}

fn leaves_are_numbered_without_gaps_in_the_order_of_their_batches(store: &mut dyn Store) {
    for group in 0..5_u8 {
        let batch = |batch| Batch::default().leaf(vec![group, batch, 0]).leaf(vec![group, batch, 1]);
        let batches: Vec<Batch> = (0..7_u8).map(batch).collect();
        for (place, outcome) in store.commit(&batches).unwrap().into_iter().enumerate() {
            let first_leaf = u64::from(group) * 14 + place as u64 * 2;
            assert_eq!(outcome, Ok(Committed { first_leaf, leaves: 2 }));
        }
    }
    assert_eq!(store.leaf_count().unwrap(), 70);
    assert_eq!(store.leaf(33).unwrap().unwrap(), [2, 2, 1]);
    assert_eq!(store.leaf(70).unwrap(), None);
    assert_eq!(store.leaf(u64::MAX).unwrap(), None);
    assert_eq!(store.leaves(68, 10).unwrap(), [[4, 6, 0], [4, 6, 1]]);
    assert_eq!(store.leaves(3, 2).unwrap(), [[0, 1, 1], [0, 2, 0]]);
    assert!(store.leaves(u64::MAX, 1).unwrap().is_empty());
}

fn the_closing_batch_sees_the_outcomes_and_shares_the_transaction(store: &mut dyn Store) {
    let batches = [
        Batch::default().put(A, HERE, b"1", b"").leaf(b"own".to_vec()),
        Batch::default().expect(A, HERE, b"none", Expect::Present),
    ];
    let group = store
        .commit_group(&batches, &mut |outcomes| {
            let shared = outcomes.iter().map(|outcome| u8::from(outcome.is_ok())).collect();
            Some(Batch::default().leaf(shared))
        })
        .unwrap();
    assert_eq!(group.closing, Some(Committed { first_leaf: 1, leaves: 1 }));
    assert_eq!(store.leaf(1).unwrap().unwrap(), [1, 0]);
}

fn a_refused_closing_batch_undoes_the_group(store: &mut dyn Store) {
    let batch = Batch::default().put(A, HERE, b"1", b"").leaf(b"own".to_vec());
    let refused = store.commit_group(&[batch], &mut |_| Some(Batch::default().leaf(Vec::new())));
    assert!(matches!(refused, Err(StoreError::Closing(Conflict::Size { what: "leaf", .. }))), "{refused:?}");
    assert_eq!(store.get(A, HERE, b"1").unwrap(), None);
    assert_eq!(store.leaf_count().unwrap(), 0);
    assert_eq!(ok(store, Batch::default().leaf(b"x".to_vec())), Committed { first_leaf: 0, leaves: 1 });
}

fn keys_are_any_bytes_and_sort_as_bytes(store: &mut dyn Store) {
    let all: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a\0b", b"a\xff", b"b", b"\xff", b"\xff\xff"];
    for key in all.iter().rev() {
        ok(store, Batch::default().put(A, HERE, *key, *key));
    }
    assert_eq!(keys(&store.scan(&Scan::all(A)).unwrap()), all);
    assert_eq!(store.get(A, HERE, b"\0").unwrap().unwrap(), b"\0");
}

fn a_prefix_bounds_a_scan_on_both_sides(store: &mut dyn Store) {
    let all: [&[u8]; 7] = [b"a", b"ab", b"ab\0", b"ab\xff\xff", b"ac", b"\xff", b"\xff\xff\x01"];
    for key in all {
        ok(store, Batch::default().put(A, HERE, key, b"").put(A, shard(9), key, b"").put(B, HERE, key, b""));
    }
    let with = |prefix: &[u8]| store.scan(&Scan::all(A).partition(HERE).prefix(prefix)).unwrap();
    assert_eq!(keys(&with(b"ab")), [&b"ab"[..], b"ab\0", b"ab\xff\xff"]);
    assert_eq!(keys(&with(b"\xff")), [&b"\xff"[..], b"\xff\xff\x01"]);
    assert_eq!(keys(&with(b"\xff\xff")), [b"\xff\xff\x01"]);
    assert_eq!(with(b"b").len(), 0);
    assert_eq!(with(b"").len(), 7);
    assert_eq!(store.scan(&Scan::all(A).prefix(*b"ab")).unwrap().len(), 6, "in all partitions");
}

fn a_scan_goes_by_partition_then_key_and_pages_through_all(store: &mut dyn Store) {
    let partitions = [HERE, shard(0), shard(1), shard(255)];
    let mut expected = Vec::new();
    for partition in partitions {
        for key in 0..5_u8 {
            ok(store, Batch::default().put(A, partition, [key], [key]));
            expected.push((partition, vec![key]));
        }
    }
    for size in [1, 2, 3, 7, 100] {
        let mut found: Vec<(Partition, Vec<u8>)> = Vec::new();
        let mut page = Scan::all(A).limit(size);
        loop {
            let rows = store.scan(&page).unwrap();
            let Some(last) = rows.last() else { break };
            assert!(rows.len() <= size);
            page = page.after(last);
            found.extend(rows.into_iter().map(|row| (row.partition, row.key)));
        }
        assert_eq!(found, expected, "pages of {size}");
    }
    assert!(store.scan(&Scan::all(A).limit(0)).unwrap().is_empty());
    assert_eq!(store.scan(&Scan::all(A).partition(shard(1))).unwrap().len(), 5);
}

fn sizes_are_held_to_their_bounds_and_the_largest_go_through(store: &mut dyn Store) {
    let value = vec![7; VALUE_BYTES_MAX];
    let key = vec![8; KEY_BYTES_MAX];
    let leaf = vec![9; LEAF_BYTES_MAX];
    ok(store, Batch::default().put(A, HERE, key.clone(), value.clone()).leaf(leaf.clone()));
    assert_eq!(store.get(A, HERE, &key).unwrap().unwrap(), value);
    assert_eq!(store.leaf(0).unwrap().unwrap(), leaf);
    let long = [key.as_slice(), b"x"].concat();
    let refused = [
        Batch::default().put(A, HERE, b"k", [value.as_slice(), b"x"].concat()),
        Batch::default().put(A, HERE, long.clone(), b""),
        Batch::default().delete(A, HERE, long.clone()),
        Batch::default().expect(A, HERE, long, Expect::Absent),
        Batch::default().put(A, HERE, b"k", b"").leaf([leaf.as_slice(), b"x"].concat()),
        Batch::default().put(A, HERE, b"k", b"").leaf(Vec::new()),
    ];
    for outcome in store.commit(&refused).unwrap() {
        assert!(matches!(outcome, Err(Conflict::Size { .. })), "{outcome:?}");
    }
    assert_eq!(store.get(A, HERE, b"k").unwrap(), None);
    assert_eq!(store.leaf_count().unwrap(), 1);
}

fn one_read_gathers_a_bounded_number_of_bytes_and_paging_gets_the_rest(store: &mut dyn Store) {
    let rows = READ_BYTES_MAX / VALUE_BYTES_MAX + 5;
    for key in 0..rows {
        ok(store, Batch::default().put(A, shard(3), key.to_be_bytes(), vec![1; VALUE_BYTES_MAX]));
    }
    let page = store.scan(&Scan::all(A)).unwrap();
    assert_eq!(page.len(), READ_BYTES_MAX / VALUE_BYTES_MAX);
    assert_eq!(store.scan(&Scan::all(A).after(page.last().unwrap())).unwrap().len(), 5);
}

fn a_reader_sees_each_commit_and_works_on_another_thread(store: &mut dyn Store) {
    let reader = store.reader().unwrap();
    assert_eq!(reader.leaf_count().unwrap(), 0);
    ok(store, Batch::default().put(A, HERE, b"k", b"v").leaf(b"l".to_vec()));
    let found = std::thread::spawn(move || {
        (reader.get(A, HERE, b"k").unwrap(), reader.leaves(0, 9).unwrap(), reader.scan(&Scan::all(A)).unwrap().len())
    });
    assert_eq!(found.join().unwrap(), (Some(b"v".to_vec()), vec![b"l".to_vec()], 1));
}

macro_rules! suite {
    ($($check:ident)*) => {
        mod memory {
            $(#[test] fn $check() { super::$check(&mut super::MemoryStore::new()); })*
        }
        mod sqlite {
            $(#[test] fn $check() {
                let directory = tempfile::tempdir().unwrap();
                super::$check(&mut super::SqliteStore::open(directory.path()).unwrap());
            })*
        }
    };
}
suite! {
    a_value_is_read_back_replaced_and_removed
    deletes_come_before_puts_and_the_later_put_stands
    a_refused_batch_leaves_no_trace_and_takes_no_other_with_it
    preconditions_see_what_the_batches_before_wrote
    leaves_are_numbered_without_gaps_in_the_order_of_their_batches
    the_closing_batch_sees_the_outcomes_and_shares_the_transaction
    a_refused_closing_batch_undoes_the_group
    keys_are_any_bytes_and_sort_as_bytes
    a_prefix_bounds_a_scan_on_both_sides
    a_scan_goes_by_partition_then_key_and_pages_through_all
    sizes_are_held_to_their_bounds_and_the_largest_go_through
    one_read_gathers_a_bounded_number_of_bytes_and_paging_gets_the_rest
    a_reader_sees_each_commit_and_works_on_another_thread
}

/// Few keys, partitions and values, so that batches meet each other.
fn any_batch() -> impl Strategy<Value = Batch> {
    let place = || (prop_oneof![Just(HERE), Just(shard(0)), Just(shard(7))], 0..4_u8);
    let expect = prop_oneof![Just(Expect::Absent), Just(Expect::Present), (0..3_u8).prop_map(|v| Expect::value(&[v]))];
    (
        prop::collection::vec((place(), 0..3_u8), 0..4),
        prop::collection::vec(place(), 0..2),
        prop::collection::vec((place(), expect), 0..2),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..3),
    )
        .prop_map(|(puts, deletes, expects, leaves)| {
            let batch = puts.into_iter().fold(Batch::default(), |batch, ((p, k), v)| batch.put(A, p, [k], [v]));
            let batch = deletes.into_iter().fold(batch, |batch, (p, k)| batch.delete(A, p, [k]));
            let batch = expects.into_iter().fold(batch, |batch, ((p, k), e)| batch.expect(A, p, [k], e));
            leaves.into_iter().fold(batch, Batch::leaf)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn both_stores_decide_and_hold_the_same(groups in prop::collection::vec(prop::collection::vec(any_batch(), 0..8), 0..6)) {
        let directory = tempfile::tempdir().unwrap();
        let (mut sqlite, mut memory) = (SqliteStore::open(directory.path()).unwrap(), MemoryStore::new());
        for group in groups {
            prop_assert_eq!(sqlite.commit(&group).unwrap(), memory.commit(&group).unwrap());
        }
        prop_assert_eq!(sqlite.scan(&Scan::all(A)).unwrap(), memory.scan(&Scan::all(A)).unwrap());
        prop_assert_eq!(sqlite.leaves(0, 1000).unwrap(), memory.leaves(0, 1000).unwrap());
    }
}
