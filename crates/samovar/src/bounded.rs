//! A map that holds a bounded number of entries: a new one takes the place of the one that was used longest ago.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map of at most `ENTRIES_MAX` entries.
#[derive(Clone, Debug)]
pub(crate) struct BoundedMap<K, V, const ENTRIES_MAX: usize> {
    /// Each with the number of its last use.
    entries: HashMap<K, (u64, V)>,
    uses: u64,
}

impl<K, V, const ENTRIES_MAX: usize> Default for BoundedMap<K, V, ENTRIES_MAX> {
    fn default() -> Self {
        Self { entries: HashMap::new(), uses: 0 }
    }
}

impl<K: Clone + Eq + Hash, V, const ENTRIES_MAX: usize> BoundedMap<K, V, ENTRIES_MAX> {
    /// The entry, which counts as used.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    /// The entry, which counts as used.
    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    /// The entry, which does not count as used.
    pub(crate) fn peek<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry, made where there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room_for(&key);
        self.uses += 1;
        let uses = self.uses;
        let (used, value) = self.entries.entry(key).or_insert_with(|| (uses, make()));
        *used = uses;
        value
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.make_room_for(&key);
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
    }

    /// The same, unless another entry would have to make room.
    pub(crate) fn insert_if_free(&mut self, key: K, value: V) {
        if self.entries.len() < ENTRIES_MAX || self.entries.contains_key(&key) {
            self.insert(key, value);
        }
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key).map(|(_, value)| value)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// All entries, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// All entries, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(_, value)| value)
    }

    fn make_room_for(&mut self, key: &K) {
        if self.entries.len() < ENTRIES_MAX || self.entries.contains_key(key) {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_used_longest_ago_makes_room() {
        let mut map = BoundedMap::<_, _, 2>::default();
        map.insert("a", 1);
        map.insert("b", 2);
        assert_eq!(map.get("a"), Some(&1));
        *map.get_or_insert_with("c", || 3) += 1;
        assert_eq!((map.peek("a"), map.peek("b"), map.peek("c")), (Some(&1), None, Some(&4)));
        map.insert("a", 5);
        assert_eq!(map.values().count(), 2, "one that is there already needs no room");
        map.insert("d", 6);
        assert_eq!((map.peek("a"), map.peek("c"), map.peek("d")), (Some(&5), None, Some(&6)));
        map.insert_if_free("e", 7);
        assert_eq!((map.peek("e"), map.values().count()), (None, 2));
        assert_eq!((map.remove("d"), map.remove("d")), (Some(6), None));
        map.insert_if_free("e", 7);
        assert_eq!(map.peek("e"), Some(&7));
    }
}
