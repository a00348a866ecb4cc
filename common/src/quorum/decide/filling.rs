//! Required roles filled by people, each of whom fills one place.

/// How many of each role's places stay empty when people fill as many as can be filled.
///
/// `counts` are the places of each role; `roles_of` has for each person a bit for each role. A greedy assignment could
/// waste somebody who alone has another role, so places are handed on along augmenting paths (Kuhn's algorithm).
pub(super) fn unfilled(counts: &[usize], roles_of: &[u32]) -> Vec<usize> {
    let mut empty = vec![0; counts.len()];
    // Which role each person fills, if any.
    let mut fills: Vec<Option<usize>> = vec![None; roles_of.len()];
    for (role, count) in counts.iter().enumerate() {
        for _ in 0..*count {
            let mut seen = vec![false; roles_of.len()];
            if !fill(role, roles_of, &mut fills, &mut seen)
                && let Some(empty) = empty.get_mut(role)
            {
                *empty += 1;
            }
        }
    }
    empty
}

/// Finds somebody for a place of `role`, who may leave another place if somebody else can take that.
fn fill(role: usize, roles_of: &[u32], fills: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for person in 0..roles_of.len() {
        if roles_of[person] & (1 << role) == 0 || std::mem::replace(&mut seen[person], true) {
            continue;
        }
        let is_free = match fills[person] {
            None => true,
            Some(other) => fill(other, roles_of, fills, seen),
        };
        if is_free {
            fills[person] = Some(role);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether every place can be filled, by trying every person for every place.
    fn can_fill(places: &[usize], roles_of: &[u32], taken: u32) -> bool {
        let Some((role, rest)) = places.split_first() else { return true };
        let can = |person: &usize| taken & (1 << person) == 0 && roles_of[*person] & (1 << role) != 0;
        (0..roles_of.len()).filter(can).any(|person| can_fill(rest, roles_of, taken | (1 << person)))
    }

    #[test]
    fn required_roles_are_filled_by_matching_and_not_greedily() {
        // The first person has both roles, the second only the first one: greedily, the second role would stay empty.
        assert_eq!(unfilled(&[1, 1], &[0b11, 0b01]), [0, 0]);
        assert_eq!(unfilled(&[1, 1], &[0b01, 0b11]), [0, 0]);
        assert_eq!(unfilled(&[1, 1], &[0b11]), [0, 1]);
        assert_eq!(unfilled(&[2], &[1]), [1]);
        assert_eq!(unfilled(&[], &[1]), [0; 0]);
    }

    proptest! {
        #[test]
        fn all_places_are_filled_exactly_when_some_assignment_fills_them(
            counts in prop::collection::vec(0usize..3, 0..4),
            roles_of in prop::collection::vec(0u32..16, 0..7),
        ) {
            let places: Vec<usize> = counts.iter().enumerate().flat_map(|(role, n)| vec![role; *n]).collect();
            let empty: usize = unfilled(&counts, &roles_of).iter().sum();
            prop_assert_eq!(empty == 0, can_fill(&places, &roles_of, 0));
        }
    }
}
