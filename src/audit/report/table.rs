//! Table of a report, for the page, for Markdown, for a terminal and for CSV: its columns, and a row for each item. Pure.
//!
//! This module has no texts of its own. INVARIANT: every cell is made visible here, once, for all that show it.

use crate::base::columns::{ColumnSpec, cut, cut_or_less, less, whole};
use crate::base::visible::visible;

/// Table of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTable {
    /// Name in links, and of the CSV file without its extension.
    pub name: &'static str,
    /// Title above the table.
    pub title: &'static str,
    /// Description of what the table shows and does not show.
    pub note: String,
    /// Names of the columns.
    pub head: Vec<&'static str>,
    /// Rows that fit.
    pub rows: Vec<TableRow>,
    /// Number of rows that did not fit.
    pub more: u64,
}

/// Row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// Texts, one for each column.
    pub cells: Vec<String>,
    /// True if the row needs attention.
    pub remarkable: bool,
}

/// Name of a column, and its cell in the row of an item.
type ReportColumn<T> = (&'static str, fn(T) -> String);

impl ReportTable {
    /// Returns a table without columns and rows.
    pub(in crate::audit) fn of(name: &'static str, title: &'static str, note: impl Into<String>) -> Self {
        Self {
            name,
            title,
            note: note.into(),
            head: Vec::new(),
            rows: Vec::new(),
            more: 0,
        }
    }

    /// Fills the table with these columns and a row for each item.
    pub(in crate::audit) fn filled<T: Copy>(self, items: impl IntoIterator<Item = T>, columns: &[ReportColumn<T>]) -> Self {
        self.marked(items, |_| false, columns)
    }

    /// Fills the table as [`Self::filled`] does; some items need attention.
    pub(in crate::audit) fn marked<T: Copy>(
        mut self,
        items: impl IntoIterator<Item = T>,
        remarkable: impl Fn(T) -> bool,
        columns: &[ReportColumn<T>],
    ) -> Self {
        self.head = columns.iter().map(|(name, _)| *name).collect();
        self.rows.extend(items.into_iter().map(|item| TableRow {
            cells: columns.iter().map(|(_, cell)| visible(&cell(item))).collect(),
            remarkable: remarkable(item),
        }));
        self
    }

    /// Puts the rows that need attention before the others.
    pub(in crate::audit) fn remarkable_first(mut self) -> Self {
        self.rows.sort_by_key(|row| !row.remarkable);
        self
    }

    /// Adds a number of rows that did not fit.
    pub(in crate::audit) fn and_more(self, more: u64) -> Self {
        Self { more, ..self }
    }

    /// Returns the columns with their priorities where there is no room for all of them: on the page, in a terminal.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnSpec> {
        self.head.iter().map(|name| column(name)).collect()
    }
}

/// Returns the priority of a column. Ids are whole and stay; columns that say who, where and what are cut at most; the others
/// are dropped, those with the highest number first.
fn column(name: &'static str) -> ColumnSpec {
    match name {
        "grant" | "session" | "role" | "wanted" | "rule" | "count" | "state" | "ending" | "control" | "sqlstate" | "took"
        | "in a row" => whole(name),
        "test" | "statement" => cut(name, 16),
        "table" | "green" | "red" | "only in" | "see" | "at" => cut(name, 12),
        "identity" | "name given" | "what" | "why" => cut(name, 12),
        "target" | "reviewed by" | "detail" | "asks" | "shown here" | "not shown here" | "found" => cut(name, 10),
        "reason" => cut_or_less(name, 12, 1),
        "profile" => less(name, 2),
        "approvers" => cut_or_less(name, 10, 3),
        "statements" | "how" | "time" => less(name, 4),
        "run" => cut_or_less(name, 8, 4),
        "meaning" => cut_or_less(name, 12, 5),
        "number" | "longest" => less(name, 6),
        "id" => less(name, 9),
        "made at" | "late s" | "confirmed gone" | "gone after s" | "logins past the gate" => less(name, 5),
        "ends or ended" | "could be used until" | "last" => less(name, 6),
        "sessions" => less(name, 7),
        "rows" | "from" => less(name, 8),
        "trouble" | "by" => cut_or_less(name, 10, 8),
        "revoked" | "review" => cut_or_less(name, 10, 9),
        "first" | "gone at" => less(name, 10),
        "ticket" => cut_or_less(name, 8, 10),
        "policies" => cut_or_less(name, 14, 11),
        "opened at" | "grant over at" | "reviewed at" => less(name, 12),
        "made by" => cut_or_less(name, 10, 13),
        "moved" => less(name, 14),
        "window s" => less(name, 15),
        "last use" => less(name, 16),
        "first use" => less(name, 17),
        "policy set" => cut_or_less(name, 12, 18),
        _ => less(name, 3),
    }
}
