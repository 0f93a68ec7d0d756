//! Texts of people and clients, made visible and cut to a length.
//!
//! It escapes no markup: maud does.

use crate::base::visible;

/// Number of characters of a text in a list.
const MAX_CUT_CHARS: usize = 120;
/// Number of characters of a text that a page is about: more than the longest reason.
const MAX_SHOWN_CHARS: usize = 2_000;

/// Returns a text for the page that it is about.
pub(in crate::console) fn shown(text: &str) -> String {
    visible::start(text, MAX_SHOWN_CHARS)
}

/// Returns the beginning of a text, for a list.
pub(in crate::console) fn cut(text: &str) -> String {
    visible::start(text, MAX_CUT_CHARS)
}

/// Returns a number with the word for what is counted: `1 session`, `3 sessions`.
pub(in crate::console) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

/// Joins names: `ana, bo`.
pub(in crate::console) fn names<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| shown(&name.to_string())).collect();
    names.join(", ")
}
