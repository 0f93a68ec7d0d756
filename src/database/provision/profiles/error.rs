//! Errors of comparing roles of profiles and of bringing them in step, with the remedy, and the test whether a retry can help.
//!
//! It retries nothing.

use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::database::provision::connection::ProvisionConnectError;
use crate::database::rights::PlanError;
use crate::database::upstream::ConnectError;

const READ_ONLY_REMEDY: &str = "; the server is read-only: set the primary server as the target's address";

/// Error of comparing the roles of profiles or bringing them in step. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// The connection failed.
    #[error("cannot reach the target")]
    Dial(#[source] ConnectError),
    /// The login did not complete within this time.
    #[error("the target did not answer within {0:?}")]
    Timeout(Duration),
    /// The server refused a statement that is not a step.
    #[error("{}", said(.0))]
    Postgres(tokio_postgres::Error),
    /// The server refused a step.
    #[error("{sql}: {}", said(.error))]
    Step {
        /// SQL of the step.
        sql: String,
        /// Error of the server.
        error: tokio_postgres::Error,
    },
    /// A row of the catalogue cannot be parsed.
    #[error("cannot read the target's catalogue: {0}")]
    Catalogue(String),
    /// A name is taken.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The account cannot make all changes, so none was made.
    #[error("{}\nnothing was changed; use an account with these rights (--user), or change the profile", .0.join("\n"))]
    Blocked(Vec<String>),
    /// Another transaction that has changed roles is still open.
    #[error(
        "another apply or change of roles does not end: {}; wait for it, or end it with SELECT pg_terminate_backend(PROCESS)",
        .0.join("; ")
    )]
    Busy(Vec<String>),
    /// The database does not match the definitions after the changes.
    #[error(
        "some statements had no effect, probably because of a concurrent change:\n{}\nnothing was changed; try again",
        .0.join("\n")
    )]
    NotReached(Vec<String>),
}

impl ProfilesError {
    /// Returns true if a retry may succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let (Self::Postgres(error) | Self::Step { error, .. }) = self else {
            return false;
        };
        let Some(said) = error.as_db_error() else {
            return error.is_closed();
        };
        // A vanished object is absent in the next look, a concurrent change is complete by then, and a restart ends.
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

/// Returns true for the server's messages about two concurrent changes of one catalogue row (`simple_heap_update` in
/// access/heap/heapam.c); their only code is that of an internal error.
fn concurrently(said: &DbError) -> bool {
    *said.code() == SqlState::INTERNAL_ERROR && said.message().starts_with("tuple concurrently")
        || said.message().starts_with("cache lookup failed")
}

/// Returns the server's message with a remedy.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut told = crate::base::error_chain::display_chain(error);
        // The driver has no kind for it.
        if told.ends_with("password missing") {
            told.push_str(": the server wants one (--password-file or --password-env beside --user, else password_file in the configuration)");
        }
        return told;
    };
    // A standby reports this already when a transaction wants to write (check_transaction_read_only in commands/variable.c).
    let standby = *said.code() == SqlState::FEATURE_NOT_SUPPORTED && said.message().ends_with("during recovery");
    let remedy = match *said.code() {
        _ if standby => READ_ONLY_REMEDY,
        SqlState::READ_ONLY_SQL_TRANSACTION => READ_ONLY_REMEDY,
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN => "; the server is starting or stopping: try again",
        SqlState::LOCK_NOT_AVAILABLE => "; a long statement or transaction blocks the change: try again",
        SqlState::INSUFFICIENT_PRIVILEGE => "; use an account with this right (--user)",
        SqlState::DUPLICATE_OBJECT => "; it was created concurrently: drop it, or try again",
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST => "; an object depends on a view with masks: drop it first",
        _ => "",
    };
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("the target reports: {}{detail}{remedy}", said.message())
}

impl From<tokio_postgres::Error> for ProfilesError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<ProvisionConnectError> for ProfilesError {
    fn from(error: ProvisionConnectError) -> Self {
        match error {
            ProvisionConnectError::Dial(error) => Self::Dial(error),
            ProvisionConnectError::Postgres(error) => Self::Postgres(error),
            ProvisionConnectError::Timeout(limit) => Self::Timeout(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that asks for a password, and an account without one.
    #[tokio::test]
    async fn a_password_that_is_missing_is_said_with_where_it_goes() {
        let (near, mut far) = tokio::io::duplex(1024);
        let server = async move {
            let mut startup = [0; 4];
            far.read_exact(&mut startup).await.unwrap();
            far.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
            far
        };
        let config = {
            let mut config = tokio_postgres::Config::new();
            config.user("postgres").ssl_mode(tokio_postgres::config::SslMode::Disable);
            config
        };
        let (connected, _server) = tokio::join!(config.connect_raw(near, tokio_postgres::NoTls), server);
        let Err(error) = connected else { panic!("let in") };
        let told = ProfilesError::from(error).to_string();
        assert!(
            told.contains("password missing: the server wants one (--password-file"),
            "{told}"
        );
    }
}
