//! Undo of recorded changes: statements that give rows the values that they had before, the last change first.
//!
//! It reads no log and runs nothing; [`apply`] does. Each statement names the values that the change left, so it changes no row
//! that somebody has changed since.
//!
//! INVARIANT: a value that is masked, hashed or not on record is never written back; a statement has no character that controls a
//! terminal.

mod apply;
mod statement;

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

pub use apply::{UndoConflict, UndoResult, apply};

use crate::audit::event::{RowChange, RowOperation, RowValues, RowsChanged};
use crate::database::rights::capture::writing_settings;
use crate::model::names::EnumOrUnknown;
use statement::RowStatements;

/// Returns the statements that set what the others need, at the beginning of their transaction.
#[must_use]
pub fn settings() -> Vec<String> {
    let mut settings = writing_settings();
    settings.push("SET LOCAL standard_conforming_strings = on".to_owned());
    settings
}

/// Statements that undo changes, and the changes that cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UndoPlan {
    /// Statements, in the order in which they are to run.
    pub steps: Vec<UndoStep>,
    /// Changes that cannot be undone from the log.
    pub lost: Vec<LostChange>,
}

/// Undo of the change of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoStep {
    /// Number of the client's message, from that of the last change on. Within a message another order is as good.
    #[serde(skip)]
    pub message: usize,
    /// Number of the record with the change.
    pub record: u64,
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Operation that is undone.
    pub operation: EnumOrUnknown<RowOperation>,
    /// Key of the row before the change (of a new row: after it); all values if the table has no primary key.
    pub key: RowValues,
    /// Statement. It changes no row if the row is not as the change left it.
    pub sql: String,
    /// Query with a row if the row is already as it was before the change.
    #[serde(skip)]
    pub check: String,
}

/// Change that cannot be undone from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostChange {
    /// Number of the record with the change.
    pub record: u64,
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
    /// Reason.
    pub reason: LostReason,
}

/// Reason why a change cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// Only the number of rows and a checksum are on record.
    #[error("too many rows to be recorded one by one")]
    TooManyRows,
    /// Only the length and hash of the row are on record.
    #[error("the row is too long to be recorded")]
    TooLong,
    /// A value that would have to be written back, or by which the row is found, is masked.
    #[error("a value is masked in the log")]
    Masked,
    /// The target's policy for parameters keeps values out of the log, or it hashes them.
    #[error("the log has no values, by the target's policy for parameters")]
    NoValues,
}

impl UndoPlan {
    /// Returns the plan for changes, given with the numbers of their records in the order in which they happened.
    ///
    /// Messages of clients are undone in reverse, each with all that its statements, cascades and triggers did. Rows that it deleted
    /// are put back forwards, and so are values that it changed: a cascade comes after the row that others refer to, and cannot be told
    /// from a statement. Rows that it added are removed in reverse.
    #[must_use]
    pub fn of(changes: &[(u64, &RowsChanged)]) -> Self {
        let mut plan = Self::default();
        let mut messages: Vec<MessageUndo<'_>> = Vec::new();
        let mut places: HashMap<(u64, Timestamp), usize> = HashMap::new();
        for (record, event) in changes {
            let place = *places.entry((event.transaction, event.statement_at)).or_insert_with(|| {
                messages.push(MessageUndo::default());
                messages.len() - 1
            });
            if let Some(message) = messages.get_mut(place) {
                message.add(*record, event, &mut plan.lost);
            }
        }
        let steps = (0..).zip(messages.into_iter().rev());
        plan.steps = steps.flat_map(|(message, undo)| undo.steps(message)).collect();
        plan
    }
}

/// Undo of all changes of a client's message.
#[derive(Default)]
struct MessageUndo<'c> {
    /// Rows to put back, in the order in which they were deleted.
    deleted: Vec<RowUndo<'c>>,
    /// Rows whose values are to be set back, in the order in which they changed.
    updated: Vec<RowUndo<'c>>,
    /// Rows to remove, in the order in which they were added.
    added: Vec<RowUndo<'c>>,
    /// Places of updated rows, by table and key as statements before this one left them.
    places: HashMap<UpdatedRow<'c>, usize>,
    /// The same of this statement, which has updated each row once; and its change.
    fresh: Vec<(UpdatedRow<'c>, usize)>,
    change: u64,
}

/// Schema, table and key.
type UpdatedRow<'c> = (&'c str, &'c str, RowValues);

/// Change of a row that is to be undone.
struct RowUndo<'c> {
    record: u64,
    event: &'c RowsChanged,
    change: RowChange,
}

impl<'c> MessageUndo<'c> {
    fn steps(self, message: usize) -> impl Iterator<Item = UndoStep> {
        let added = self.added.into_iter().rev();
        let rows = self.deleted.into_iter().chain(self.updated).chain(added);
        rows.filter_map(move |row| row.step(message))
    }

    fn add(&mut self, record: u64, event: &'c RowsChanged, lost: &mut Vec<LostChange>) {
        let mut lose = |rows, reason| {
            lost.push(LostChange {
                record,
                schema: event.schema.clone(),
                table: event.table.clone(),
                rows,
                reason,
            });
        };
        if event.changes.is_empty() {
            return lose(event.rows, LostReason::TooManyRows);
        }
        for change in &event.changes {
            if let Some(reason) = obstacle(event, change) {
                lose(1, reason);
                continue;
            }
            let row = RowUndo {
                record,
                event,
                change: change.clone(),
            };
            match (&change.old, &change.new) {
                (_, None) => self.deleted.push(row),
                (None, Some(_)) => self.added.push(row),
                (Some(_), Some(_)) => self.update(row),
            }
        }
    }

    /// Adds an updated row: with what statements of the message before changed of it.
    fn update(&mut self, row: RowUndo<'c>) {
        if row.event.change != self.change {
            self.change = row.event.change;
            self.places.extend(self.fresh.drain(..));
        }
        let at = |key| (row.event.schema.as_str(), row.event.table.as_str(), key);
        let now = at(key_now(&row.change));
        let known = self.places.remove(&at(row.change.key.clone()));
        self.fresh.push((now, known.unwrap_or(self.updated.len())));
        let Some(earlier) = known.and_then(|place| self.updated.get_mut(place)) else {
            return self.updated.push(row);
        };
        let (old, new) = (&mut earlier.change.old, &mut earlier.change.new);
        for (column, value) in row.change.old.into_iter().flatten() {
            old.get_or_insert_default().entry(column).or_insert(value);
        }
        new.get_or_insert_default().extend(row.change.new.into_iter().flatten());
    }
}

impl RowUndo<'_> {
    /// Returns the step; `None` if nothing but computed columns changed.
    fn step(self, message: usize) -> Option<UndoStep> {
        let statements = RowStatements::of(self.event, &self.change)?;
        Some(UndoStep {
            message,
            record: self.record,
            schema: self.event.schema.clone(),
            table: self.event.table.clone(),
            operation: self.event.operation.clone(),
            key: statements.key,
            sql: statements.undo,
            check: statements.check,
        })
    }
}

/// Returns the key of a row after its change.
fn key_now(change: &RowChange) -> RowValues {
    let mut key = change.key.clone();
    for (column, value) in change.new.iter().flatten() {
        if let Some(now) = key.get_mut(column) {
            now.clone_from(value);
        }
    }
    key
}

/// Returns the reason why the change of a row cannot be undone.
fn obstacle(event: &RowsChanged, change: &RowChange) -> Option<LostReason> {
    if change.old_digest.is_some() || change.new_digest.is_some() {
        return Some(LostReason::TooLong);
    }
    if event.hashed || !change.columns.is_empty() || (change.old.is_none() && change.new.is_none()) {
        return Some(LostReason::NoValues);
    }
    let is_masked = |column: &String| event.masked.contains(column);
    let has_masked = |values: &RowValues| values.keys().any(is_masked);
    // A new row is found by its key; without one, by all of its values.
    let needed = match (&change.old, &change.new) {
        (Some(old), _) => has_masked(old) || has_masked(&change.key),
        (None, Some(new)) if change.key.is_empty() => has_masked(new),
        (None, _) => has_masked(&change.key),
    };
    needed.then_some(LostReason::Masked)
}

#[cfg(test)]
mod tests;
