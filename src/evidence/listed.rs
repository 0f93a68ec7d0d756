//! Lists of bounded length.
//!
//! They hold anything, and look at nothing.

/// The most that one list holds: far more than anybody reads, and little enough to be held in memory.
const MOST: usize = 100_000;

/// A list that knows how many did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The first of them.
    pub items: Vec<T>,
    /// How many more there were.
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
    /// Takes one more.
    pub fn push(&mut self, item: T) {
        if self.items.len() < MOST {
            self.items.push(item);
        } else {
            self.more += 1;
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.more + self.items.len() as u64
    }
}
