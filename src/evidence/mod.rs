//! What others are given of the log: evidence for auditors, and tables for their tools.
//!
//! It decides nothing and changes nothing in the log; whether the log is whole is [`crate::audit::verify`]'s to say.
//!
//! The law: what is shown was counted from records, in one pass, and what was left out (records that could not be read, rows that
//! were too many) is said where it would have stood.

mod collect;
mod controls;
mod database;
mod grants;
mod house;
mod html;
mod limits;
mod listed;
mod report;
mod sheets;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod unread;

pub use collect::Collector;
pub use html::{alarms, figures, page};
pub use report::{Listed, Period, Report};
pub use sheets::{SheetError, harmless, write};
pub use tables::{Row, Table, tables};
