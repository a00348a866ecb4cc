//! How much a tick does, and whose turn it is: a host with hundreds of targets, or a manager that is slow, must not keep the
//! enforcement thread from its leases and from giving a sign of life.

use std::time::{Duration, Instant};

use quotary_common::plan::Target;

/// How long one tick begins plans, and how long it moves targets; what is left waits for the next.
pub(super) const WORK_MAX: Duration = Duration::from_millis(500);
/// Targets that are decided, journaled and written together; so many are done in any tick.
pub(super) const TOGETHER: usize = 64;

/// The time that one tick has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    from: Instant,
    most: Duration,
}

impl Budget {
    /// From now on.
    pub(super) fn of(most: Duration) -> Self {
        Self { from: Instant::now(), most }
    }

    /// Whether it is used up.
    pub(super) fn is_spent(&self) -> bool {
        self.from.elapsed() >= self.most
    }
}

/// Targets, in their order, so that those after the one that was last come first.
pub(super) fn in_turn(mut targets: Vec<Target>, last: Option<&Target>) -> Vec<Target> {
    if let Some(last) = last {
        let next = targets.partition_point(|target| target <= last);
        targets.rotate_left(next);
    }
    targets
}

#[cfg(test)]
mod tests {
    use quotary_common::envelope::Name;

    use super::*;

    fn targets(names: &[&str]) -> Vec<Target> {
        names.iter().map(|name| Target::Unit(Name::lossy(name))).collect()
    }

    #[test]
    fn who_was_last_is_last_again_even_if_it_is_gone() {
        let all = targets(&["a", "b", "d"]);
        assert_eq!(in_turn(all.clone(), None), all);
        assert_eq!(in_turn(all.clone(), targets(&["a"]).first()), targets(&["b", "d", "a"]));
        assert_eq!(in_turn(all.clone(), targets(&["c"]).first()), targets(&["d", "a", "b"]));
        assert_eq!(in_turn(all.clone(), targets(&["d"]).first()), all);
        assert!(in_turn(Vec::new(), targets(&["d"]).first()).is_empty());
    }
}
