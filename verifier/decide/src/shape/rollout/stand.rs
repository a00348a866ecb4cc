//! Where a roll-out stands, and what a look at its guards says.

use minicbor::{Decode, Encode};

use super::Rollout;

/// What suffered: over some time, on the hosts that have the plan. As a limit: how much of each is let pass in one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Counts {
    /// Envelopes that told of a target throttled by its quota.
    #[n(0)]
    pub throttled: u64,
    /// Processes that ran out of memory.
    #[n(1)]
    pub out_of_memory: u64,
    /// Plans that pressure held or gave up.
    #[n(2)]
    pub pressed: u64,
    /// Controls that somebody else wrote.
    #[n(3)]
    pub contested: u64,
}

/// A guard of a roll-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// [`Counts::throttled`]
    Throttled,
    /// [`Counts::out_of_memory`]
    OutOfMemory,
    /// [`Counts::pressed`]
    Pressed,
    /// [`Counts::contested`]
    Contested,
}

impl std::fmt::Display for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Throttled => "throttled",
            Self::OutOfMemory => "out of memory",
            Self::Pressed => "under pressure",
            Self::Contested => "contested by another writer",
        })
    }
}

impl Counts {
    /// What came since `before`.
    pub const fn since(self, before: Self) -> Self {
        Self {
            throttled: self.throttled.saturating_sub(before.throttled),
            out_of_memory: self.out_of_memory.saturating_sub(before.out_of_memory),
            pressed: self.pressed.saturating_sub(before.pressed),
            contested: self.contested.saturating_sub(before.contested),
        }
    }

    fn each(&self) -> [(Guard, u64); 4] {
        [
            (Guard::Throttled, self.throttled),
            (Guard::OutOfMemory, self.out_of_memory),
            (Guard::Pressed, self.pressed),
            (Guard::Contested, self.contested),
        ]
    }

    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            throttled: self.throttled.saturating_add(other.throttled),
            out_of_memory: self.out_of_memory.saturating_add(other.out_of_memory),
            pressed: self.pressed.saturating_add(other.pressed),
            contested: self.contested.saturating_add(other.contested),
        }
    }
}

/// Where a roll-out stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    stage: usize,
    since_ms: u64,
    counts: Counts,
    halted: Option<Guard>,
}

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The stage goes on, at least until this instant, Unix ms.
    Hold {
        /// The earliest instant of the next stage.
        until_ms: u64,
    },
    /// This stage begins: its hosts get the plan.
    Begin {
        /// Which (0 is the first).
        stage: usize,
    },
    /// The last stage held: it is rolled out.
    Done,
    /// A guard was breached: no host gets it any more, and the way back is to be planned for those that have it.
    Halt {
        /// Which guard.
        guard: Guard,
        /// What was counted in this stage.
        counted: u64,
        /// What is let pass.
        most: u64,
    },
}

impl Stand {
    /// The first stage begins at `now_ms` (Unix ms).
    pub fn begin(now_ms: u64) -> Self {
        Self { stage: 0, since_ms: now_ms, counts: Counts::default(), halted: None }
    }

    /// A stage goes on after a restart: what was counted in it is lost, so that its guards must hold for the whole time again.
    pub fn resume(stage: usize, now_ms: u64) -> Self {
        Self { stage, ..Self::begin(now_ms) }
    }

    /// The stage that it is in.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// Takes in what was counted since the last look; `None` where nothing could be counted, which holds the stage and counts none of its time.
    pub fn look(&mut self, rollout: &Rollout, counted: Option<Counts>, now_ms: u64) -> Next {
        if let Some(counted) = counted {
            self.counts = self.counts.plus(counted);
        }
        let breached = || {
            let each = self.counts.each().into_iter().zip(rollout.most.each());
            each.map(|((guard, counted), (_, most))| (guard, counted, most))
                .find(|(guard, counted, most)| self.halted.map_or(counted > most, |halted| halted == *guard))
        };
        if let Some((guard, counted, most)) = breached() {
            self.halted = Some(guard);
            return Next::Halt { guard, counted, most };
        }
        if counted.is_none() {
            // The guards must be seen to hold for the whole time.
            self.since_ms = now_ms;
        }
        let until_ms = self.since_ms.saturating_add(rollout.hold_ms);
        if counted.is_none() || now_ms < until_ms {
            return Next::Hold { until_ms };
        }
        if self.stage + 1 >= rollout.stages() {
            return Next::Done;
        }
        *self = Self { stage: self.stage + 1, ..Self::begin(now_ms) };
        Next::Begin { stage: self.stage }
    }
}
