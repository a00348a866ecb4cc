//! What is said of a point.

/// The label of a row of which nothing is said yet.
pub const WARMING_UP: &str = "warming-up";

/// What is odd about a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is away from where the series was, and alone.
    Spike,
    /// The series has gone away from where it was for long.
    LevelShift,
    /// One value, for longer than ever.
    Flatline,
    /// Means that rise for longer than ever.
    Leak,
    /// Many small surprises, closer together than they used to be.
    UnusualDensity,
    /// A course of points like none before.
    UnusualShape,
}

impl Kind {
    /// As in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::LevelShift => "level-shift",
            Self::Flatline => "flatline",
            Self::Leak => "leak",
            Self::UnusualDensity => "unusual-density",
            Self::UnusualShape => "unusual-shape",
        }
    }
}

/// The figures behind a kind, in the series' unit but for [`Kind::Flatline`] (points) and [`Kind::UnusualDensity`] (nats).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// What was to be expected: a level; the longest run; the usual density; the greatest distance of a shape from its nearest.
    pub expected: f64,
    /// What came.
    pub came: f64,
    /// Over how many points.
    pub points: u32,
}

/// What is said of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// 0 to 1, ascending in surprise; [`super::LINE_SCORE`] is the line; 0 while warming up, in a gap, and for what is part of an alarm before.
    pub score: f64,
    /// The surprise behind it, nats; also in refractory time.
    pub nats: f64,
    /// What is odd; `None` unless the score is over the line.
    pub kind: Option<Kind>,
    /// The figures behind the kind.
    pub figures: Option<Figures>,
    /// Whether too little is known yet to alarm.
    pub is_warming_up: bool,
}

impl Judgement {
    pub(super) const NOTHING: Self = Self { score: 0.0, nats: 0.0, kind: None, figures: None, is_warming_up: false };

    /// The kind's name, `warming-up`, or `none`.
    pub const fn label(&self) -> &'static str {
        match self.kind {
            Some(kind) => kind.name(),
            None if self.is_warming_up => WARMING_UP,
            None => "none",
        }
    }
}
