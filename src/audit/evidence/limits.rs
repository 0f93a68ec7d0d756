//! Limits of what a report holds in memory, however large or hostile a log is. Pure.
//!
//! Callers count what is beyond a limit.

/// Number of grants, requests, roles and sessions that are followed at once: twice as many as anybody would read about.
pub(super) const MAX_FOLLOWED: usize = 200_000;
/// Number of characters that are kept of a text: four times the longest reason that a gate accepts.
const MAX_TEXT_CHARS: usize = 4_000;
/// Number of policies and of approvers that are shown with one access.
pub(super) const MAX_NAMED: usize = 100;

/// Returns a text, cut to [`MAX_TEXT_CHARS`].
pub(super) fn kept(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}
