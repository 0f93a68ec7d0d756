//! Accesses to a table by identity, as a table for people and spreadsheets.
//!
//! It only formats.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::audit::table_access::{AccessLeftOut, TableAccess};
use crate::cli::render;
use crate::cli::table::{self, ColumnSpec, cut, less, whole};

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
            table::render(&SUMS.map(|(column, _)| column), &rows, table::width())
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
        let _ = write!(
            text,
            "\n\n{count} other statements could not be parsed and may have accessed it too ({}).\n`tidegate log --unread` shows them.",
            render::joined(unread.iter().map(of), ", ")
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

/// Function that formats a time.
type TimeFormat = fn(Timestamp) -> String;

/// Function that makes the text of a cell.
type CellText = fn(&TableAccess, TimeFormat) -> String;

/// Columns of the sums, with the functions that make a cell.
pub(super) const SUMS: [(ColumnSpec, CellText); 13] = [
    (cut("IDENTITY", 12), |sums, _| sums.identity.to_string()),
    (whole("TARGET"), |sums, _| sums.target.to_string()),
    (less("SESSIONS", 5), |sums, _| sums.sessions.len().to_string()),
    (whole("STATEMENTS"), |sums, _| sums.counts.statements.to_string()),
    (less("SKIPPED", 5), |sums, _| sums.counts.skipped.to_string()),
    (less("FAILED", 4), |sums, _| sums.counts.failed.to_string()),
    (less("ROLLED BACK", 4), |sums, _| sums.counts.rolled_back.to_string()),
    (less("OUTCOME UNKNOWN", 2), |sums, _| sums.counts.outcome_unknown.to_string()),
    (less("NOT READ", 1), |sums, _| {
        (sums.counts.not_read + sums.unread).to_string()
    }),
    (whole("ROWS"), |sums, _| sums.rows.to_string()),
    (less("FIRST", 3), |sums, time| time(sums.first)),
    (less("LAST", 1), |sums, time| time(sums.last)),
    (less("WHAT", 1), |sums, _| {
        render::joined(sums.classes.iter().map(|class| class.as_str()), " ")
    }),
];

/// Returns the cells of one identity.
pub(super) fn row(sums: &TableAccess, time: TimeFormat) -> Vec<String> {
    SUMS.iter().map(|(_, cell)| cell(sums, time)).collect()
}
