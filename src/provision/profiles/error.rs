//! Why the roles of profiles could not be compared or brought in step, and whether trying again can help.
//!
//! It tries nothing.

use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::provision::link::LinkError;
use crate::rights::PlanError;
use crate::upstream::ConnectError;

/// Why the roles of profiles could not be compared or brought in step. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// There is no connection.
    #[error("cannot reach the target")]
    Dial(#[source] ConnectError),
    /// It did not log in in time.
    #[error("the target did not answer within {0:?}")]
    Timeout(Duration),
    /// The server refused something that is not a step.
    #[error("{}", said(.0))]
    Postgres(tokio_postgres::Error),
    /// The server refused a step.
    #[error("{sql}: {}", said(.error))]
    Step {
        /// The step.
        sql: String,
        /// What it said.
        error: tokio_postgres::Error,
    },
    /// The catalogue has something that cannot be read.
    #[error("cannot read the target's catalogue: {0}")]
    Catalogue(String),
    /// A name is taken.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The account cannot do all of it, so nothing was done.
    #[error("{}\nnothing was changed; use an account with these rights (--user), or change the profile", .0.join("\n"))]
    Blocked(Vec<String>),
    /// Somebody else has changed roles, and neither kept it nor gave it up.
    #[error(
        "another apply or change of roles does not end: {}; wait for it, or end it with SELECT pg_terminate_backend(PROCESS)",
        .0.join("; ")
    )]
    Busy(Vec<String>),
    /// What was done did not come to what was meant.
    #[error(
        "some statements had no effect, probably because of a concurrent change:\n{}\nnothing was changed; try again",
        .0.join("\n")
    )]
    NotReached(Vec<String>),
}

impl ProfilesError {
    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let (Self::Postgres(error) | Self::Step { error, .. }) = self else {
            return false;
        };
        let Some(said) = error.as_db_error() else {
            return error.is_closed();
        };
        // What is gone: the next look does not find it. What two change at once: the other is done by then. A restart: it ends.
        let passing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_OBJECT,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::DUPLICATE_OBJECT,
            SqlState::DUPLICATE_SCHEMA,
            SqlState::DUPLICATE_TABLE,
            SqlState::UNIQUE_VIOLATION,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        passing.contains(said.code()) || concurrently(said)
    }
}

/// The server's words for two that change one row of the catalogue (`simple_heap_update` in access/heap/heapam.c); it has no code
/// for it but that of an internal error.
fn concurrently(said: &DbError) -> bool {
    *said.code() == SqlState::INTERNAL_ERROR && said.message().starts_with("tuple concurrently")
        || said.message().starts_with("cache lookup failed")
}

/// What the server said, and what helps.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        return crate::causes::in_one_line(error);
    };
    let code = said.code();
    // A standby says so already when a transaction wants to write (check_transaction_read_only in commands/variable.c).
    let standby = *code == SqlState::FEATURE_NOT_SUPPORTED && said.message().ends_with("during recovery");
    let remedy = if standby || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        "; the server is read-only: set the primary server as the target's address"
    } else if *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::ADMIN_SHUTDOWN {
        "; the server is starting or stopping: try again"
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        "; a long statement or transaction blocks the change: try again"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "; use an account with this right (--user)"
    } else if *code == SqlState::DUPLICATE_OBJECT {
        "; it was created concurrently: drop it, or try again"
    } else if *code == SqlState::DEPENDENT_OBJECTS_STILL_EXIST {
        "; an object depends on a view with masks: drop it first"
    } else {
        ""
    };
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("the target reports: {}{detail}{remedy}", said.message())
}

impl From<tokio_postgres::Error> for ProfilesError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<LinkError> for ProfilesError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Dial(error) => Self::Dial(error),
            LinkError::Postgres(error) => Self::Postgres(error),
            LinkError::Timeout(limit) => Self::Timeout(limit),
        }
    }
}
