//! Connection on which roles are managed: opened on demand, and reopened after a failure. It is in the maintenance database,
//! because roles belong to the server.
//!
//! It does not know the statements run on it. INVARIANT: every statement has an answer within a time limit, [`STEP_TIMEOUT`] unless
//! it has another.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::database::provision::connection::{ProvisionConnectError, ProvisionConnection, within};
use crate::database::upstream::{Target, TargetAccount};

/// Time limit of one step, connecting included.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Settings of the connection. The statement timeout is more than a busy server needs for a row in a catalogue. All grants of a
/// target share a connection, so no statement waits long for a lock: a locked row is retried later. Catalogue names only
/// ([`PATH`]) from the first statement on; it is not set here because the session's initial value shows the server's own path.
const OPTIONS: &str = "-c statement_timeout=8s -c lock_timeout=250ms -c idle_in_transaction_session_timeout=8s \
     -c client_min_messages=error -c standard_conforming_strings=on -c datestyle=iso";

const PATH: &str = "SET search_path = pg_catalog";

/// Error of a statement that manages roles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleFault {
    /// The server cannot be reached, or does not answer.
    #[error("the target does not answer on the provisioning connection: {0}")]
    Unreachable(String),
    /// The server refused.
    #[error("{message} ({code})")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Message and detail.
        message: String,
    },
    /// This many backends of the role do not go.
    #[error("{0} backends of the role do not end")]
    Busy(usize),
}

impl RoleFault {
    /// Returns true if the error is about the server's availability, and not about the statement.
    #[must_use]
    pub fn unreachable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // connection_exception, and 57P0x: the server shuts down, or is not up yet.
            Self::Server { code, .. } => code.starts_with("08") || code.starts_with("57P0"),
            Self::Busy(_) => false,
        }
    }

    /// Returns true if a concurrent change of the catalogue interfered, so that a retry can help: `internal_error` with "tuple
    /// concurrently updated", `serialization_failure`, `deadlock_detected`, `lock_not_available`.
    pub(super) fn collided(&self) -> bool {
        match self {
            Self::Server { code, message } => {
                matches!(code.as_str(), "40001" | "40P01" | "55P03") || (code == "XX000" && message.contains("concurrently"))
            }
            Self::Unreachable(_) | Self::Busy(_) => false,
        }
    }

    /// Returns its SQLSTATE; empty if it has none.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Server { code, .. } => code,
            Self::Unreachable(_) | Self::Busy(_) => "",
        }
    }
}

impl From<tokio_postgres::Error> for RoleFault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return Self::Unreachable(display_chain(&error));
        };
        let detail = said.detail().map(|detail| format!(": {}", detail.replace('\n', ", ")));
        Self::Server {
            code: said.code().code().to_owned(),
            message: format!("{}{}", said.message(), detail.unwrap_or_default()),
        }
    }
}

impl From<ProvisionConnectError> for RoleFault {
    fn from(error: ProvisionConnectError) -> Self {
        match error {
            ProvisionConnectError::Postgres(error) => error.into(),
            other => Self::Unreachable(display_chain(&other)),
        }
    }
}

/// Shared connection, opened on demand.
pub(super) struct RoleConnection {
    name: &'static str,
    clock: Clock,
    /// Open connection; locked while it is opened.
    open: Mutex<Option<Arc<OpenConnection>>>,
}

/// Open connection.
pub(super) struct OpenConnection {
    connection: ProvisionConnection,
    target: Arc<Target>,
    /// Difference of the server's clock to gate time; positive if it is ahead.
    ahead: SignedDuration,
}

impl RoleConnection {
    pub(super) fn new(name: &'static str, clock: Clock) -> Self {
        Self {
            name,
            clock,
            open: Mutex::new(None),
        }
    }

    /// Returns the connection, and opens it if necessary.
    pub(super) async fn session(&self, target: &Arc<Target>) -> Result<Arc<OpenConnection>, RoleFault> {
        let mut open = self.open.lock().await;
        let good = |session: &&Arc<OpenConnection>| Arc::ptr_eq(&session.target, target) && !session.connection.closed();
        if let Some(session) = open.as_ref().filter(good) {
            return Ok(Arc::clone(session));
        }
        *open = None;
        let session = Arc::new(OpenConnection::open_kept(target, self.name, &self.clock).await?);
        *open = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Runs statements in one transaction. If the connection turns out to be dead before it has returned anything, runs them once
    /// more on a new one.
    pub(super) async fn run(&self, target: &Arc<Target>, sql: &str) -> Result<Vec<SimpleQueryRow>, RoleFault> {
        let session = self.session(target).await?;
        let answer = session.run(sql).await;
        if !session.connection.closed() {
            return answer;
        }
        match answer {
            Err(fault) if fault.unreachable() => self.session(target).await?.run(sql).await,
            answer => answer,
        }
    }
}

impl OpenConnection {
    /// Opens a connection to any database of the server, for one task.
    pub(super) async fn open_in(target: &Arc<Target>, database: &str, name: &str, clock: &Clock) -> Result<Self, RoleFault> {
        let login = ProvisionConnection::open(target, database, name, OPTIONS);
        within(STEP_TIMEOUT, Self::set_up(target, login, clock)).await
    }

    /// Opens a connection that may stay open.
    pub(super) async fn open_kept(target: &Arc<Target>, name: &str, clock: &Clock) -> Result<Self, RoleFault> {
        let login = ProvisionConnection::open_kept(target, name, OPTIONS);
        within(STEP_TIMEOUT, Self::set_up(target, login, clock)).await
    }

    /// Logs in as an account, and out again.
    pub(super) async fn try_login(target: &Arc<Target>, account: &TargetAccount, name: &str) -> Result<(), RoleFault> {
        let login = ProvisionConnection::open_as(account, target, &target.database, name, OPTIONS);
        Ok(within(STEP_TIMEOUT, login).await.map(drop)?)
    }

    async fn set_up(
        target: &Arc<Target>,
        login: impl Future<Output = Result<ProvisionConnection, ProvisionConnectError>>,
        clock: &Clock,
    ) -> Result<Self, RoleFault> {
        let mut session = Self {
            connection: login.await?,
            target: Arc::clone(target),
            ahead: SignedDuration::ZERO,
        };
        let rows = session
            .run(&format!(
                "{PATH}; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8"
            ))
            .await?;
        let theirs = rows.first().and_then(|row| row.get(0)).and_then(|micros| micros.parse().ok());
        if let Some(theirs) = theirs.and_then(|micros| Timestamp::from_microsecond(micros).ok()) {
            session.ahead = theirs.duration_since(clock.now());
        }
        Ok(session)
    }

    /// Runs statements as one string: one transaction, and one round trip (protocol: "Multiple Statements in a Simple Query").
    pub(super) async fn run(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, RoleFault> {
        self.run_within(sql, STEP_TIMEOUT).await
    }

    /// Runs statements as [`OpenConnection::run`] does, with a time limit of their own.
    pub(super) async fn run_within(&self, sql: &str, limit: Duration) -> Result<Vec<SimpleQueryRow>, RoleFault> {
        let Ok(answer) = tokio::time::timeout(limit, self.connection.client.simple_query(sql)).await else {
            // A hanging connection is not used again.
            self.connection.abort();
            return Err(ProvisionConnectError::Timeout(limit).into());
        };
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(answer?.into_iter().filter_map(row).collect())
    }

    /// Converts a gate time to the server's clock.
    pub(super) fn theirs(&self, time: Timestamp) -> Timestamp {
        time.checked_add(self.ahead).unwrap_or(time)
    }
}
