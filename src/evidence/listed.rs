//! Lists of bounded length, for items of any type.

/// Number of items that one list holds: far more than a reader needs, and few enough to be held in memory.
const MOST: usize = 100_000;

/// List of bounded length that counts the items that did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// Items that fit, in order of arrival.
    pub items: Vec<T>,
    /// Number of items that did not fit.
    pub more: u64,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            more: 0,
        }
    }
}

impl<T> Listed<T> {
    /// Adds an item, or only counts it if the list is full.
    pub fn push(&mut self, item: T) {
        if self.items.len() < MOST {
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
