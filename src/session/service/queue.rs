//! Which roles wait for a call: first those for which a process waits, in their order, then those that are refreshed ahead of
//! time, by the time at which they are due. A role is in one of the two at most.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::segment::Key;

/// The roles that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waited_for: VecDeque<Key>,
    due: BTreeSet<(u64, Key)>,
    places: HashMap<Key, Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    WaitedFor,
    Due(Planned),
}

/// A refresh ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// When, in nanoseconds since boot.
    pub(super) at: u64,
    /// Whether it is done in any case. Otherwise only if the role was used.
    pub(super) in_any_case: bool,
}

impl Queue {
    /// A process waits for the role.
    pub(super) fn add_waited_for(&mut self, key: Key) {
        if self.places.get(&key) != Some(&Place::WaitedFor) {
            self.remove(&key);
            self.waited_for.push_back(key);
            self.places.insert(key, Place::WaitedFor);
        }
    }

    /// The role is due at some time. An earlier plan for it counts no longer; a process that waits does.
    pub(super) fn plan(&mut self, key: Key, planned: Planned) {
        if self.places.get(&key) != Some(&Place::WaitedFor) {
            self.remove(&key);
            self.due.insert((planned.at, key));
            self.places.insert(key, Place::Due(planned));
        }
    }

    /// When the role is due.
    pub(super) fn planned(&self, key: &Key) -> Option<Planned> {
        match self.places.get(key) {
            Some(Place::Due(planned)) => Some(*planned),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        match self.places.remove(key) {
            Some(Place::WaitedFor) => self.waited_for.retain(|other| other != key),
            Some(Place::Due(planned)) => drop(self.due.remove(&(planned.at, *key))),
            None => {}
        }
    }

    /// How many processes' roles wait.
    pub(super) fn waited_for(&self) -> usize {
        self.waited_for.len()
    }

    /// Takes the first role for which a process waits.
    pub(super) fn pop_waited_for(&mut self) -> Option<Key> {
        let key = self.waited_for.pop_front()?;
        self.places.remove(&key);
        Some(key)
    }

    /// Puts the role back that was taken last.
    pub(super) fn push_back_first(&mut self, key: Key) {
        self.remove(&key);
        self.waited_for.push_front(key);
        self.places.insert(key, Place::WaitedFor);
    }

    /// When the next role is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next role that is due at `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(Key, Planned)> {
        let (at, key) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        match self.places.remove(&key) {
            Some(Place::Due(planned)) => Some((key, planned)),
            _ => Some((key, Planned { at, in_any_case: false })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        [number, 1, 1, 1]
    }

    fn at(at: u64) -> Planned {
        Planned { at, in_any_case: false }
    }

    #[test]
    fn who_is_waited_for_comes_once_and_in_order() {
        let mut queue = Queue::default();
        queue.plan(key(2), at(5));
        [1, 2, 3, 1, 2].into_iter().for_each(|number| queue.add_waited_for(key(number)));
        // A plan does not take a role from a process that waits.
        queue.plan(key(3), at(1));
        assert_eq!((queue.waited_for(), queue.next_due()), (3, None));
        assert_eq!(queue.pop_waited_for(), Some(key(1)));
        queue.push_back_first(key(1));
        queue.remove(&key(3));
        let order: Vec<Key> = std::iter::from_fn(|| queue.pop_waited_for()).collect();
        assert_eq!(order, [key(1), key(2)]);
        assert!(queue.places.is_empty());
    }

    #[test]
    fn who_is_due_comes_by_time() {
        let mut queue = Queue::default();
        queue.plan(key(1), at(9));
        queue.plan(key(2), Planned { at: 5, in_any_case: true });
        queue.plan(key(3), at(7));
        queue.plan(key(1), at(6));
        assert_eq!(queue.next_due(), Some(5));
        assert_eq!(queue.planned(&key(1)), Some(at(6)));
        assert_eq!(queue.pop_due(4), None);
        assert_eq!(queue.pop_due(6), Some((key(2), Planned { at: 5, in_any_case: true })));
        assert_eq!(queue.pop_due(6), Some((key(1), at(6))));
        assert_eq!(queue.pop_due(6), None);
        assert_eq!(queue.pop_due(7), Some((key(3), at(7))));
        assert!(queue.places.is_empty() && queue.due.is_empty());
    }
}
