//! Bounds of what a report holds in memory, however large or hostile a log is: of texts, of lists, of groups. Pure.
//!
//! INVARIANT: what is beyond a bound is counted.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of grants, requests, roles and sessions that are followed at once: twice as many as anybody would read about.
pub(in crate::audit) const MAX_FOLLOWED: usize = 200_000;
/// Number of policies and of approvers that are shown with one access.
pub(in crate::audit) const MAX_NAMED: usize = 100;
/// Number of groups that are counted separately; a client that uses a new name for each login could fill memory.
pub(in crate::audit) const MAX_GROUPS: usize = 20_000;
/// Number of characters that are kept of a text: four times the longest reason that a gate accepts.
const MAX_TEXT_CHARS: usize = 4_000;
/// Number of items that one list holds: far more than a reader needs, and few enough to be held in memory.
const MAX_ITEMS: usize = 100_000;

/// Returns a text, cut to [`MAX_TEXT_CHARS`].
pub(in crate::audit) fn kept(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// List of bounded length that counts the items that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoundedList<T> {
    /// Items that fit, in order.
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
    /// Returns a list of the first `most` items; `more` is the number of items that are missing already.
    pub(in crate::audit) fn first(mut items: Vec<T>, most: usize, more: u64) -> Self {
        let beyond = items.len().saturating_sub(most) as u64;
        items.truncate(most);
        Self {
            items,
            more: more + beyond,
        }
    }

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

/// Group of equal things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<T> {
    /// Thing that they have in common.
    pub of: T,
    /// Number of them.
    pub count: u64,
    /// Time of the first one.
    pub first: Timestamp,
    /// Time of the last one.
    pub last: Timestamp,
}

impl<T> BoundedList<Group<T>> {
    /// Returns the number of things in all groups, with those in groups that did not fit.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.more + self.items.iter().map(|group| group.count).sum::<u64>()
    }
}

/// Accumulator of groups.
#[derive(Debug)]
pub(in crate::audit) struct Groups<T> {
    counted: HashMap<T, (u64, Timestamp, Timestamp)>,
    more: u64,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self {
            counted: HashMap::new(),
            more: 0,
        }
    }
}

impl<T: Hash + Ord> Groups<T> {
    /// Counts `count` equal things, which happened between these times.
    pub(in crate::audit) fn add(&mut self, of: T, count: u64, (first, last): (Timestamp, Timestamp)) {
        if self.counted.len() >= MAX_GROUPS && !self.counted.contains_key(&of) {
            self.more += count;
            return;
        }
        let group = self.counted.entry(of).or_insert((0, first, last));
        *group = (group.0 + count, group.1.min(first), group.2.max(last));
    }

    /// Returns the groups, the largest first.
    pub(in crate::audit) fn finish(self) -> BoundedList<Group<T>> {
        let groups = self.counted.into_iter();
        let mut items: Vec<_> = groups
            .map(|(of, (count, first, last))| Group { of, count, first, last })
            .collect();
        items.sort_by(|a, b| (b.count, a.first, &a.of).cmp(&(a.count, b.first, &b.of)));
        BoundedList { items, more: self.more }
    }
}
