//! Table of a report, for the page and for CSV. Pure.
//!
//! This module does not fill tables.

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
    pub head: &'static [&'static str],
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
