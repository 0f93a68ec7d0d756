//! Accesses to a table by identity, as a table for people and spreadsheets.
//!
//! It only formats.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::audit::table_access::{AccessLeftOut, TableAccess};
use crate::cli::render;
use crate::cli::table::{ColumnSpec, cut, less, whole};

/// Returns the sums as text.
pub(super) fn text(sums: &[TableAccess]) -> String {
    let (by, unread): (Vec<_>, Vec<_>) = (
        sums.iter()
            .filter(|toucher| toucher.counts.statements + toucher.counts.skipped > 0)
            .collect(),
        sums.iter().filter(|toucher| toucher.unread > 0).collect(),
    );
    let mut text = match (by.is_empty(), unread.is_empty()) {
        (true, true) => "No access to this table in the log.".to_owned(),
        (true, false) => "No parsed statement uses this table.".to_owned(),
        (false, _) => {
            let rows: Vec<_> = by.iter().map(|toucher| row(toucher, render::time)).collect();
            render::table(SUMS_HEADER.map(column), &rows)
        }
    };
    let not_read: u64 = sums.iter().map(|toucher| toucher.counts.not_read).sum();
    if not_read > 0 {
        let _ = write!(
            text,
            "\n\n{not_read} of these statements contain the word, but could not be parsed or run SQL that their text does not show."
        );
    }
    if !unread.is_empty() {
        let count: u64 = unread.iter().map(|toucher| toucher.unread).sum();
        let of = |toucher: &&TableAccess| format!("{} on {}: {}", toucher.identity, toucher.target, toucher.unread);
        let each: Vec<_> = unread.iter().map(of).collect();
        let _ = write!(
            text,
            "\n\n{count} other statements could not be parsed and may have accessed it too ({}).\n`tidegate log --unread` shows them.",
            each.join(", ")
        );
    }
    text
}

/// Returns the message that the limits of the account were exceeded.
pub(super) fn left_out(left_out: &AccessLeftOut) -> String {
    let AccessLeftOut {
        statements,
        not_followed,
        sessions,
    } = left_out;
    format!(
        "The totals are incomplete: {statements} statements are in no sum, the outcomes of {not_followed} are missing, and {sessions} are not counted in SESSIONS. Narrow the search: --since, --until, --identity, --target."
    )
}

/// Returns a column with its priority, for tables that do not fit.
fn column(name: &'static str) -> ColumnSpec {
    match name {
        "IDENTITY" => cut(name, 12),
        "TARGET" | "STATEMENTS" | "ROWS" => whole(name),
        "SESSIONS" | "SKIPPED" => less(name, 5),
        "FAILED" | "ROLLED BACK" => less(name, 4),
        "FIRST" => less(name, 3),
        "OUTCOME UNKNOWN" => less(name, 2),
        _ => less(name, 1),
    }
}

pub(super) const SUMS_HEADER: [&str; 13] = [
    "IDENTITY",
    "TARGET",
    "SESSIONS",
    "STATEMENTS",
    "SKIPPED",
    "FAILED",
    "ROLLED BACK",
    "OUTCOME UNKNOWN",
    "NOT READ",
    "ROWS",
    "FIRST",
    "LAST",
    "WHAT",
];

pub(super) fn row(toucher: &TableAccess, time: impl Fn(Timestamp) -> String) -> [String; 13] {
    let classes: Vec<_> = toucher.classes.iter().map(|class| class.as_str()).collect();
    [
        toucher.identity.to_string(),
        toucher.target.to_string(),
        toucher.sessions.len().to_string(),
        toucher.counts.statements.to_string(),
        toucher.counts.skipped.to_string(),
        toucher.counts.failed.to_string(),
        toucher.counts.rolled_back.to_string(),
        toucher.counts.outcome_unknown.to_string(),
        (toucher.counts.not_read + toucher.unread).to_string(),
        toucher.rows.to_string(),
        time(toucher.first),
        time(toucher.last),
        classes.join(" "),
    ]
}
