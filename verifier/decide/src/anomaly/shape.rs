//! How far the last points are from every stretch of points before them: the nearest neighbour of a course of points, after KNN-CAD
//! (Burnaev and Ishimtsev 2016, arXiv 1608.04585), with a plain distance.

/// Points of a stretch.
pub(super) const STRETCH: usize = 16;
/// Stretches that it is compared with: the last ones.
const STRETCHES: usize = 64;
/// Points kept.
const KEPT: usize = STRETCH + STRETCHES;
/// Fewer stretches say nothing.
const LEAST: usize = 31;

/// The last points, to seven digits: context that a detector needs beside its state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recent {
    points: [f32; KEPT],
    len: u16,
    /// Points of the last stretch that are still to come after a gap.
    to_come: u16,
}

impl Default for Recent {
    fn default() -> Self {
        Self { points: [0.0; KEPT], len: 0, to_come: 0 }
    }
}

impl Recent {
    /// Takes a point and gives the distance of the stretch that it ends to the nearest one before; `None` while too few are known.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a distance")]
    pub(super) fn add(&mut self, value: f64) -> Option<f64> {
        let mut len = usize::from(self.len);
        if len >= KEPT {
            self.points.copy_within(1.., 0);
            len = KEPT - 1;
        }
        *self.points.get_mut(len)? = value as f32;
        len += 1;
        self.len = u16::try_from(len).unwrap_or(0);
        if self.to_come > 0 {
            self.to_come -= 1;
            return None;
        }
        let known = self.points.get(..len)?;
        let (before, last) = (known.get(..len.checked_sub(1)?)?, known.get(len.checked_sub(STRETCH)?..)?);
        let stretches = before.windows(STRETCH);
        if stretches.len() < LEAST {
            return None;
        }
        let distance = |stretch: &[f32]| stretch.iter().zip(last).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let nearest = stretches.map(distance).fold(f32::INFINITY, f32::min);
        nearest.is_finite().then(|| f64::from(nearest).sqrt())
    }

    /// After a gap: a stretch that spans it is no course of points, and says nothing.
    pub(super) fn begin_again(&mut self) {
        self.to_come = u16::try_from(STRETCH - 1).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_that_was_seen_is_near_and_a_new_one_is_far() {
        let mut recent = Recent::default();
        let saw = |at: usize| (at % 8) as f64;
        let mut apart = None;
        for at in 0..100 {
            apart = recent.add(saw(at));
            assert_eq!(apart.is_some(), at + 1 >= STRETCH + LEAST, "{at}");
        }
        assert_eq!(apart, Some(0.0));
        // The saw stands still for four points: each value was there, their order was not.
        let far = (0..4).filter_map(|_| recent.add(saw(99))).fold(0.0, f64::max);
        assert!(far > 5.0, "{far}");
        recent.begin_again();
        assert!((0..STRETCH - 1).all(|_| recent.add(-100.0).is_none()) && recent.add(-100.0).is_some());
    }
}
