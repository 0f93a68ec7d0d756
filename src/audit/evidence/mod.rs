//! Reports made from the log: evidence for auditors, and tables for their tools.
//!
//! This module decides nothing and does not change the log; [`crate::audit::verify`] says whether the log is whole.
//!
//! INVARIANT: all that is shown was counted from records in one pass; what was left out (records that cannot be read, rows
//! beyond a limit) is reported in its place.

mod collect;
mod controls;
mod document;
mod grants;
mod operations;
mod report;
mod sheets;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod unread;

pub use collect::ReportCollector;
pub use document::document;
pub use report::{EvidenceReport, ReportPeriod};
pub use sheets::{SheetError, harmless, write};
pub use tables::tables;
