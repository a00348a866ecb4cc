//! Random histories held against an independent small model of the rules ([`simple`]).
//!
//! A history is one change with its votes, edits, other rosters and rules coming into force, clock steps, crashes before
//! a commit and restarts, up to its approval and application. After every event both are asked, and must say the same;
//! what is applied must be the bytes that were signed.
//!
//! `QUOTARY_MODEL_SEED` repeats a run, `QUOTARY_MODEL_HISTORIES` sets how many there are, `QUOTARY_MODEL_FIRST` at which
//! to begin.

mod history;
mod pool;
mod simple;

use std::sync::atomic::{AtomicU64, Ordering};

use self::history::{History, Seen};
use self::pool::{Chance, Pool};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Runs histories on all cores and gives what was seen in them.
fn run(histories: u64, is_signed: bool) -> Seen {
    let of_clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seed = number("QUOTARY_MODEL_SEED").unwrap_or_else(of_clock);
    let histories = number("QUOTARY_MODEL_HISTORIES").unwrap_or(histories);
    let first = number("QUOTARY_MODEL_FIRST").unwrap_or(0);
    println!("{histories} histories: QUOTARY_MODEL_SEED={seed}");
    let pool = Pool::new(&mut Chance(seed), 40);
    let next = AtomicU64::new(first);
    let work = || {
        let mut seen = Seen::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + histories {
                return seen;
            }
            let mut chance = Chance(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
            chance.next();
            let name = format!("QUOTARY_MODEL_SEED={seed} QUOTARY_MODEL_FIRST={number} QUOTARY_MODEL_HISTORIES=1");
            seen.add(&History::new(&pool, chance, is_signed, name).run());
        }
    };
    std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().fold(Seen::default(), |mut all, thread| {
            all.add(&thread.join().unwrap());
            all
        })
    })
}

#[test]
fn no_history_is_approved_that_an_independent_model_rejects_or_applied_with_other_bytes_than_were_signed() {
    let seen = run(100_000, false);
    println!("{seen:?}");
    // A model that is never asked anything hard shows nothing.
    if number("QUOTARY_MODEL_HISTORIES").is_none() {
        assert!(seen.approved > 5_000 && seen.applied > 2_000 && seen.refused_at_apply > 300, "{seen:?}");
        assert!(seen.rejected > 10_000 && seen.expired > 5_000 && seen.pending > 100_000, "{seen:?}");
        assert!(seen.applied_authority > 10 && seen.applied_emergency > 200, "{seen:?}");
    }
}

#[test]
fn histories_with_real_signatures_say_the_same_also_to_an_agent() {
    let seen = run(2_000, true);
    println!("{seen:?}");
    if number("QUOTARY_MODEL_HISTORIES").is_none() {
        assert!(seen.approved > 100 && seen.agent_took > 50 && seen.agent_refused > 5, "{seen:?}");
    }
}
