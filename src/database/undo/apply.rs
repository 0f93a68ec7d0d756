//! Runs the statements of a plan in one transaction, and tells for each row what stands in the way.
//!
//! A statement that a constraint refuses is tried again after the others of its message: foreign keys and unique values may need
//! another order.
//!
//! INVARIANT: with a conflict nothing is changed, unless conflicts are to be left out.

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::{UndoPlan, UndoStep, settings};

/// Result of running a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoResult {
    /// True if the transaction was committed.
    pub committed: bool,
    /// Number of changes that were undone.
    pub undone: usize,
    /// Number of changes whose rows were already as before: a cascade or somebody else has undone them.
    pub already: usize,
    /// Changes that were not undone.
    pub conflicts: Vec<UndoConflict>,
}

/// Change whose row is not as it left it, or that the database refuses to undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoConflict {
    /// Step that was not done.
    pub step: UndoStep,
    /// Reason, as the database has it.
    pub reason: String,
}

/// State of a step after an attempt.
enum Attempt {
    Undone,
    Already,
    /// Another order may help.
    Blocked(String),
    Refused(String),
}

/// Undoes changes in one transaction, which is committed if there is no conflict, or if these are to be left out.
///
/// Fails if the connection ends, or the database refuses the commit; then nothing is changed.
pub async fn apply(client: &Client, plan: &UndoPlan, skip_conflicts: bool) -> Result<UndoResult, Error> {
    client.batch_execute(&format!("BEGIN; {}", settings().join("; "))).await?;
    let mut result = UndoResult {
        committed: false,
        undone: 0,
        already: 0,
        conflicts: Vec::new(),
    };
    let mut blocked: Vec<(&UndoStep, String)> = Vec::new();
    for message in plan.steps.chunk_by(|one, next| one.message == next.message) {
        let mut open: Vec<&UndoStep> = blocked.iter().map(|(step, _)| *step).chain(message).collect();
        loop {
            let before = open.len();
            blocked.clear();
            for step in open {
                match attempt(client, step).await? {
                    Attempt::Undone => result.undone += 1,
                    Attempt::Already => result.already += 1,
                    Attempt::Blocked(reason) => blocked.push((step, reason)),
                    Attempt::Refused(reason) => result.conflicts.push(UndoConflict {
                        step: step.clone(),
                        reason,
                    }),
                }
            }
            open = blocked.iter().map(|(step, _)| *step).collect();
            if open.is_empty() || open.len() == before {
                break;
            }
        }
    }
    result
        .conflicts
        .extend(blocked.into_iter().map(|(step, reason)| UndoConflict {
            step: step.clone(),
            reason,
        }));
    result.committed = result.conflicts.is_empty() || skip_conflicts;
    client
        .batch_execute(if result.committed { "COMMIT" } else { "ROLLBACK" })
        .await?;
    Ok(result)
}

async fn attempt(client: &Client, step: &UndoStep) -> Result<Attempt, Error> {
    let sql = format!("SAVEPOINT undo; {}; RELEASE SAVEPOINT undo", step.sql);
    let reason = match client.simple_query(&sql).await {
        Ok(messages) => {
            // Of the savepoint, of the statement, and of the release.
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
                _ => None,
            });
            if rows.max().unwrap_or_default() > 0 {
                return Ok(Attempt::Undone);
            }
            "the row is not as the change left it".to_owned()
        }
        Err(error) => {
            let Some(refusal) = error.as_db_error().filter(|_| !client.is_closed()) else {
                return Err(error);
            };
            client
                .batch_execute("ROLLBACK TO SAVEPOINT undo; RELEASE SAVEPOINT undo")
                .await?;
            let reason = format!("{} ({})", refusal.message(), refusal.code().code());
            let is_order = [
                SqlState::FOREIGN_KEY_VIOLATION,
                SqlState::UNIQUE_VIOLATION,
                SqlState::EXCLUSION_VIOLATION,
            ];
            if !is_order.contains(refusal.code()) {
                return Ok(Attempt::Refused(reason));
            }
            reason
        }
    };
    let found = client.simple_query(&step.check).await?;
    let is_there = found.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_)));
    Ok(if is_there {
        Attempt::Already
    } else {
        Attempt::Blocked(reason)
    })
}
