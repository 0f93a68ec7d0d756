//! Reports for people: what those about the log are made of. Tables with their columns, bounds of what is held, and the layout of a
//! document as a page and as Markdown. Pure.
//!
//! This module reads no log and knows no subject: [`super::evidence`] and [`super::runs`] do. Terminals are laid out by the command
//! line.

mod bounded;
mod markdown;
mod page;
mod table;

pub use bounded::{BoundedList, Group};
pub(in crate::audit) use bounded::{Groups, MAX_FOLLOWED, MAX_GROUPS, MAX_NAMED, kept};
pub use markdown::markdown;
pub use page::page;
pub use table::{ReportTable, TableRow};

/// Report before it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDocument {
    /// Title of the window or tab.
    pub title: String,
    /// Heading above all.
    pub heading: String,
    /// Description below the heading: how and when it was made.
    pub note: String,
    /// Findings that need attention, as sentences.
    pub alarms: Vec<String>,
    /// Summary figures.
    pub figures: Vec<(&'static str, String)>,
    /// Tables, in reading order.
    pub tables: Vec<ReportTable>,
    /// Place of the rows and columns that have no room.
    pub elsewhere: Elsewhere,
}

/// Place where a reader finds the whole of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// CSV file of the table, beside the page.
    Csv,
    /// The same report as JSON.
    Json,
}

impl Elsewhere {
    /// Returns the place of a table's rows in words.
    #[must_use]
    pub fn of(self, table: &ReportTable) -> String {
        match self {
            Self::Csv => format!("{}.csv", table.name),
            Self::Json => format!("`{}` in the JSON", table.name),
        }
    }
}
