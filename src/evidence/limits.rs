//! Limits of what a report holds in memory, however much a log, or somebody who wrote one, has of it. Pure.
//!
//! What is beyond them is counted by who keeps them.

/// The most grants, requests, roles and sessions that are followed at once: as many as anybody reads about, twice.
pub(super) const MAX_FOLLOWED: usize = 200_000;
/// As much of a text is kept: a gate takes reasons of a quarter of it.
const MAX_TEXT_CHARS: usize = 4_000;
/// The most policies and approvers that one access is shown with.
pub(super) const MAX_NAMED: usize = 100;

/// A text as it is kept.
pub(super) fn kept(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}
