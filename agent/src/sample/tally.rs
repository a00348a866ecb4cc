//! Counts what happened until the next envelope, in bounded memory. Pure.

use quotary_common::envelope::{Event, EventKind};
use quotary_common::limits::EVENTS_MAX;

/// Most events that wait: half of what an envelope carries, the rest is for other rooms.
pub(super) const EVENTS_HELD_MAX: usize = EVENTS_MAX / 2;

/// Events by kind and cgroup.
#[derive(Debug, Default)]
pub(super) struct EventTally {
    seen: Vec<Event>,
    /// The most things that were left out at one instant: the same ones each second count once.
    left_out_max: u64,
    /// Events that found no room.
    dropped: u64,
    left_out_at_ms: u64,
}

impl EventTally {
    /// Adds an event to those of its kind and cgroup.
    pub(super) fn add(&mut self, event: &Event) {
        let known = self.seen.iter_mut().find(|known| known.kind == event.kind && known.cgroup == event.cgroup);
        if let Some(known) = known {
            known.count = known.count.saturating_add(event.count);
            known.at_ms = known.at_ms.max(event.at_ms);
        } else if self.seen.len() < EVENTS_HELD_MAX - 1 {
            self.seen.push(event.clone());
        } else {
            self.dropped = self.dropped.saturating_add(1);
            self.left_out_at_ms = self.left_out_at_ms.max(event.at_ms);
        }
    }

    /// Notes that `count` things were left out of what was seen at `at_ms`.
    pub(super) fn left_out(&mut self, count: u64, at_ms: u64) {
        if count > 0 {
            self.left_out_max = self.left_out_max.max(count);
            self.left_out_at_ms = self.left_out_at_ms.max(at_ms);
        }
    }

    /// What was counted since it was last taken, at most [`EVENTS_HELD_MAX`].
    pub(super) fn take(&mut self) -> Vec<Event> {
        let taken = std::mem::take(self);
        let count = taken.left_out_max.saturating_add(taken.dropped);
        let mut events = taken.seen;
        if count > 0 {
            events.push(Event { kind: EventKind::LeftOut, cgroup: None, count, at_ms: taken.left_out_at_ms });
        }
        events
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_common::envelope::CgroupPath;

    fn event(cgroup: &str, count: u64, at_ms: u64) -> Event {
        Event { kind: EventKind::OomKill, cgroup: CgroupPath::new(cgroup), count, at_ms }
    }

    #[test]
    fn events_of_one_kind_and_cgroup_add_up() {
        let mut tally = EventTally::default();
        tally.add(&event("/a", 1, 10));
        tally.add(&event("/b", 1, 11));
        tally.add(&event("/a", 2, 12));
        assert_eq!(tally.take(), [event("/a", 3, 12), event("/b", 1, 11)]);
        assert_eq!(tally.take(), []);
    }

    #[test]
    fn the_same_things_left_out_each_second_count_once() {
        let mut tally = EventTally::default();
        for second in 0..30 {
            tally.left_out(3, second * 1000);
        }
        let events = tally.take();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].kind, events[0].count, events[0].at_ms), (EventKind::LeftOut, 3, 29_000));
    }

    #[test]
    fn more_events_than_there_is_room_for_are_counted_as_left_out() {
        let mut tally = EventTally::default();
        for n in 0..1000 {
            tally.add(&event(&format!("/{n}"), 1, n));
        }
        let events = tally.take();
        assert_eq!(events.len(), EVENTS_HELD_MAX);
        let last = events.last().unwrap();
        assert_eq!((last.kind, last.count), (EventKind::LeftOut, 1000 - EVENTS_HELD_MAX as u64 + 1));
    }
}
