//! Lists of bounded length, for items of any type.

/// Number of items that one list holds: far more than a reader needs, and few enough to be held in memory.
const MAX_ITEMS: usize = 100_000;

/// List of bounded length that counts the items that did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedList<T> {
    /// Items that fit, in order of arrival.
    pub items: Vec<T>,
    /// Number of items that did not fit.
    pub more: u64,
}

impl<T> Default for BoundedList<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            more: 0,
        }
    }
}

impl<T> BoundedList<T> {
    /// Adds an item, or only counts it if the list is full.
    pub fn push(&mut self, item: T) {
        if self.items.len() < MAX_ITEMS {
            self.items.push(item);
        } else {
            self.more += 1;
        }
    }

    /// Returns the number of items, with those that did not fit.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.more + self.items.len() as u64
    }
}
