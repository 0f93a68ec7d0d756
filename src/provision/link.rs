//! The connection to a target on which backends are ended, and the one query for it; the login of all provisioning connections.
//!
//! It does not wait for backends to go and does not repeat itself: the terminator does.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::guard::Guarded;
use crate::causes::in_one_line;
use crate::upstream::{self, Account, Target};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the target cannot be reached: {0}")]
    Dial(#[from] upstream::ConnectError),
    #[error("{0}")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl LinkError {
    /// Returns true where the server said no to the database and not to the account: `invalid_catalog_name`,
    /// `object_not_in_prerequisite_state` (it takes no connections), `insufficient_privilege` (no CONNECT),
    /// `invalid_authorization_specification` (no line for it in pg_hba.conf).
    pub(super) fn is_about_the_database(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let code = error.code().map_or("", tokio_postgres::error::SqlState::code);
        matches!(code, "3D000" | "55000" | "42501" | "28000")
    }
}

/// A connection with the query prepared and its catalogue lookups warm.
pub(super) struct Link {
    client: Client,
    statement: Statement,
    driver: Driver,
    /// The target's own account.
    account: String,
}

/// The task that drives a connection.
pub(super) type Driver = JoinHandle<Result<(), tokio_postgres::Error>>;

/// A question about one backend.
pub(super) struct Asked {
    pub(super) pid: i32,
    /// The session's age: the backend is older.
    pub(super) age: Duration,
    /// Whether to end it, besides looking whether it is there. (`pg_terminate_backend` stops its statement too: SIGTERM is
    /// looked at before SIGINT wherever a statement can be stopped, `ProcessInterrupts` in tcop/postgres.c; a cancel as well
    /// would only make the backend clean up twice.)
    pub(super) end: bool,
    /// As which role it was logged in; `None`: as the target's own account.
    pub(super) role: Option<Arc<str>>,
}

/// A process that is there, under the gate's role.
pub(super) struct Seen {
    pub(super) pid: i32,
    /// Whether it is as old as the session, so that it can be the session's.
    pub(super) ours: bool,
}

/// How long connecting and an answer may take. The answer is a scan of shared memory.
const TIMEOUT: Duration = Duration::from_secs(2);
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0";

/// The backend's age is compared with the session's: each side measures with its own clock, so they need not agree; what they
/// drift apart, or a small step of the server's, is forgiven. A process too young has got the process id of one that is gone.
/// Only processes of the session's role are looked at, or of the target's own account: those of others are neither ours nor ours
/// to end. (An account that may not see when a process began, `pg_read_all_stats`, takes it for the session's.)
const QUERY: &str = "
    SELECT w.pid, ours, CASE WHEN ours AND w.stop THEN pg_terminate_backend(w.pid) END
    FROM unnest($1::int4[], $2::float8[], $3::bool[], $4::text[]) AS w (pid, age, stop, role)
    JOIN pg_stat_activity AS a ON a.pid = w.pid AND a.usename IN ($5, w.role)
    CROSS JOIN LATERAL (
        SELECT coalesce(extract(epoch FROM clock_timestamp() - a.backend_start)::float8 + 5 >= w.age, true) AS ours
    ) AS o";

impl Link {
    /// Connects the way the target's sessions do, as the account that provisions.
    pub(super) async fn open(target: &Arc<Target>) -> Result<Self, LinkError> {
        tokio::time::timeout(TIMEOUT, Self::connect(target))
            .await
            .unwrap_or(Err(LinkError::Timeout(TIMEOUT)))
    }

    async fn connect(target: &Arc<Target>) -> Result<Self, LinkError> {
        let (client, driver) = kept_client(target, "tidegate (ends sessions)", OPTIONS).await?;
        let statement = client.prepare(QUERY).await?;
        let link = Self {
            client,
            statement,
            driver,
            account: target.account.user.clone(),
        };
        link.query(&[]).await?;
        Ok(link)
    }

    /// Signals the backends that are to be, and tells which are there.
    pub(super) async fn ask(&self, asked: &[Asked]) -> Result<Vec<Seen>, LinkError> {
        tokio::time::timeout(TIMEOUT, self.query(asked))
            .await
            .unwrap_or(Err(LinkError::Timeout(TIMEOUT)))
    }

    async fn query(&self, asked: &[Asked]) -> Result<Vec<Seen>, LinkError> {
        let pids: Vec<i32> = asked.iter().map(|asked| asked.pid).collect();
        let ages: Vec<f64> = asked.iter().map(|asked| asked.age.as_secs_f64()).collect();
        let ends: Vec<bool> = asked.iter().map(|asked| asked.end).collect();
        let roles: Vec<Option<&str>> = asked.iter().map(|asked| asked.role.as_deref()).collect();
        let parameters: [&(dyn ToSql + Sync); 5] = [&pids, &ages, &ends, &roles, &self.account];
        let rows = self.client.query(&self.statement, &parameters).await?;
        let seen = |row: &tokio_postgres::Row| {
            Ok(Seen {
                pid: row.try_get(0)?,
                ours: row.try_get(1)?,
            })
        };
        rows.iter().map(seen).collect()
    }

    pub(super) fn closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A connection that hangs would otherwise stay for as long as TCP believes in it.
        self.driver.abort();
    }
}

/// Logs in the way the target's sessions do, as the account that provisions; the task that drives the connection is the caller's to end. A role's own settings (`ALTER
/// ROLE ... SET`, which whoever uses a shared account may do) must not reach it: `options` go before them.
pub(super) async fn client(target: &Arc<Target>, application: &str, options: &str) -> Result<(Client, Driver), LinkError> {
    client_in(target, &target.database, application, options).await
}

/// The same, in the maintenance database: for connections that are kept. Where that does not let the gate in, in the target's own.
pub(super) async fn kept_client(target: &Arc<Target>, application: &str, options: &str) -> Result<(Client, Driver), LinkError> {
    let maintenance = &target.maintenance_database;
    match client_in(target, maintenance, application, options).await {
        Err(error) if error.is_about_the_database() && *maintenance != target.database => {
            if target.warn_of_maintenance_database() {
                tracing::warn!(
                    target_name = %target.name, maintenance_database = maintenance, error = %in_one_line(&error),
                    "cannot connect to the maintenance database; connecting to the target's database instead, where the connections \
                     block DROP DATABASE; set maintenance_database to a database that the gate may connect to"
                );
            }
            client(target, application, options).await
        }
        done => done,
    }
}

/// The same, in any database of the server.
pub(super) async fn client_in(
    target: &Arc<Target>,
    database: &str,
    application: &str,
    options: &str,
) -> Result<(Client, Driver), LinkError> {
    login(target, target.provisioner(), database, application, options).await
}

/// The same, as any account.
pub(super) async fn login(
    target: &Arc<Target>,
    account: &Account,
    database: &str,
    application: &str,
    options: &str,
) -> Result<(Client, Driver), LinkError> {
    let transport = Guarded::new(upstream::dial(target).await?, target.clone());
    let mut config = config(account);
    let (client, connection) = config
        .dbname(database)
        .application_name(application)
        .options(options)
        .connect_raw(transport, NoTls)
        .await?;
    Ok((client, tokio::spawn(connection)))
}

fn config(account: &Account) -> Config {
    let mut config = Config::new();
    config
        .user(&account.user)
        // `dial` has settled TLS.
        .ssl_mode(SslMode::Disable);
    if let Some(password) = &account.password {
        config.password(password.expose());
    }
    config
}
