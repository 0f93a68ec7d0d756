//! Connection on which roles are managed: opened on demand, and reopened after a failure. It is in the maintenance database,
//! because roles belong to the server.
//!
//! It does not know the statements run on it. INVARIANT: every statement has an answer within [`STEP_TIMEOUT`].

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::base::clock::Clock;
use crate::database::provision::connection;
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
            return Self::Unreachable(crate::base::error_chain::display_chain(&error));
        };
        let detail = said.detail().map(|detail| format!(": {}", detail.replace('\n', ", ")));
        Self::Server {
            code: said.code().code().to_owned(),
            message: format!("{}{}", said.message(), detail.unwrap_or_default()),
        }
    }
}

/// Shared connection, opened on demand.
pub(super) struct RoleConnection {
    name: &'static str,
    /// Open connection; locked while it is opened.
    open: Mutex<Option<Arc<OpenConnection>>>,
}

/// Result of a login.
type LoginResult = Result<(Client, connection::ConnectionDriver), connection::ProvisionConnectError>;

/// Open connection.
pub(super) struct OpenConnection {
    client: Client,
    driver: connection::ConnectionDriver,
    target: Arc<Target>,
    /// Difference of the server's clock to gate time; positive if it is ahead.
    ahead: SignedDuration,
}

impl RoleConnection {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            open: Mutex::new(None),
        }
    }

    /// Returns the connection, and opens it if necessary.
    pub(super) async fn session(&self, target: &Arc<Target>, clock: &Clock) -> Result<Arc<OpenConnection>, RoleFault> {
        let mut open = self.open.lock().await;
        if let Some(session) = open.as_ref().filter(|session| session.good(target)) {
            return Ok(Arc::clone(session));
        }
        *open = None;
        let session = Arc::new(OpenConnection::open_kept(target, self.name, clock).await?);
        *open = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Runs statements in one transaction. If the connection turns out to be dead before it has returned anything, runs them once
    /// more on a new one.
    pub(super) async fn run(&self, target: &Arc<Target>, clock: &Clock, sql: &str) -> Result<Vec<SimpleQueryRow>, RoleFault> {
        let session = self.session(target, clock).await?;
        let answer = session.run(sql).await;
        if !session.client.is_closed() {
            return answer;
        }
        match answer {
            Err(fault) if fault.unreachable() => self.session(target, clock).await?.run(sql).await,
            answer => answer,
        }
    }
}

impl OpenConnection {
    /// Opens a connection to any database of the server, for one task.
    pub(super) async fn open_in(target: &Arc<Target>, database: &str, name: &str, clock: &Clock) -> Result<Self, RoleFault> {
        Self::open(target, connection::client_in(target, database, name, OPTIONS), clock).await
    }

    /// Opens a connection that may stay open.
    pub(super) async fn open_kept(target: &Arc<Target>, name: &str, clock: &Clock) -> Result<Self, RoleFault> {
        Self::open(target, connection::kept_client(target, name, OPTIONS), clock).await
    }

    /// Logs in as an account, and out again.
    pub(super) async fn try_login(target: &Arc<Target>, account: &TargetAccount, name: &str) -> Result<(), RoleFault> {
        let login = connection::login(target, account, &target.database, name, OPTIONS);
        let (client, driver) = tokio::time::timeout(STEP_TIMEOUT, login)
            .await
            .map_err(|_| late())?
            .map_err(not_opened)?;
        drop(client);
        driver.abort();
        Ok(())
    }

    async fn open(target: &Arc<Target>, login: impl Future<Output = LoginResult>, clock: &Clock) -> Result<Self, RoleFault> {
        let opened = tokio::time::timeout(STEP_TIMEOUT, Self::set_up(target, login, clock)).await;
        opened.unwrap_or_else(|_| Err(late()))
    }

    async fn set_up(target: &Arc<Target>, login: impl Future<Output = LoginResult>, clock: &Clock) -> Result<Self, RoleFault> {
        let (client, driver) = login.await.map_err(not_opened)?;
        let mut session = Self {
            client,
            driver,
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
        let Ok(answer) = tokio::time::timeout(STEP_TIMEOUT, self.client.simple_query(sql)).await else {
            // A hanging connection is not used again.
            self.driver.abort();
            return Err(late());
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

    fn good(&self, target: &Arc<Target>) -> bool {
        Arc::ptr_eq(&self.target, target) && !self.client.is_closed() && !self.driver.is_finished()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn not_opened(error: connection::ProvisionConnectError) -> RoleFault {
    match error {
        connection::ProvisionConnectError::Postgres(error) => RoleFault::from(error),
        other => RoleFault::Unreachable(crate::base::error_chain::display_chain(&other)),
    }
}

fn late() -> RoleFault {
    RoleFault::Unreachable(format!("no answer within {STEP_TIMEOUT:?}"))
}
