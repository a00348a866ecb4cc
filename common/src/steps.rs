//! Journaled steps: what is about to be done is known before it is done, and can be undone (design §3).
//!
//! Does: adds up announcements (*do*), what was read back (*check*), and what stood there before the first of them
//! (*undo*), per thing that is changed. The same wherever steps are journaled: a log of records is the owner's, this is what
//! they mean.
//! May assume: that an announcement is durable before the thing is changed.
//! Promises: whatever prefix of announcements a crash leaves, everything that may have been changed stands here, with what to
//! put back.
//! Must never: do anything.

use std::collections::BTreeMap;

/// One thing that is changed, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<V> {
    /// What stood there before the first step: what an undo puts back.
    pub baseline: Option<V>,
    /// What stood there before the last step.
    pub before: Option<V>,
    /// What was last asked for.
    pub setpoint: V,
    /// What was read back; `None` also when the step was cut short by a crash.
    pub actual: Option<V>,
    /// Whether the last step is known to have ended.
    pub ended: bool,
    /// Whether another writer changed it since.
    pub contested: bool,
}

/// Things that are changed, each under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps<K: Ord, V>(BTreeMap<K, Step<V>>);

impl<K: Ord, V> Default for Steps<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> std::ops::Deref for Steps<K, V> {
    type Target = BTreeMap<K, Step<V>>;
    fn deref(&self) -> &BTreeMap<K, Step<V>> {
        &self.0
    }
}

impl<K: Ord, V: Clone> Steps<K, V> {
    /// It is about to be changed from `before` to `after`.
    pub fn announced(&mut self, key: K, before: Option<V>, after: V) {
        let step = self.0.entry(key).or_insert_with(|| Step {
            baseline: before.clone(),
            before: None,
            setpoint: after.clone(),
            actual: None,
            ended: false,
            contested: false,
        });
        step.before = before;
        step.setpoint = after;
        step.actual = None;
        step.ended = false;
    }

    /// It was changed, or refused: what is read back. Without an announcement it says nothing.
    pub fn concluded(&mut self, key: &K, actual: Option<V>) {
        if let Some(step) = self.0.get_mut(key) {
            step.actual = actual;
            step.ended = true;
        }
    }

    /// Another writer changed it.
    pub fn contested(&mut self, key: &K) {
        if let Some(step) = self.0.get_mut(key) {
            step.contested = true;
        }
    }

    /// It was put back, and is known no more.
    pub fn undone(&mut self, key: &K) {
        self.0.remove(key);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_the_one_to_put_back_whatever_comes_after() {
        let mut steps = Steps::default();
        steps.concluded(&1, Some("never announced"));
        assert!(steps.is_empty());
        steps.announced(1, Some("max"), "200");
        assert!(!steps.get(&1).unwrap().ended, "a crash here leaves it open");
        steps.concluded(&1, Some("200"));
        steps.announced(1, Some("200"), "100");
        let step = steps.get(&1).unwrap();
        assert_eq!((step.baseline, step.before, step.setpoint, step.actual), (Some("max"), Some("200"), "100", None));
        assert!(!step.ended && !step.contested);
        steps.concluded(&1, None);
        steps.contested(&1);
        assert!(steps.get(&1).unwrap().ended && steps.get(&1).unwrap().contested);
        steps.undone(&1);
        assert!(steps.is_empty());
        steps.announced(1, None, "5");
        assert_eq!(steps.get(&1).unwrap().baseline, None, "a thing that is undone begins anew");
    }
}
