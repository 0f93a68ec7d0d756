//! Connection on which backends of a target are ended, with its one query; and the login of all provisioning connections.
//!
//! It does not wait for backends to go and does not repeat a query: the terminator does.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::guard::GuardedTransport;
use crate::base::error_chain::display_chain;
use crate::database::upstream::{self, Target, TargetAccount};

/// Error of opening or using a provisioning connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProvisionConnectError {
    #[error("the target cannot be reached: {0}")]
    Dial(#[from] upstream::ConnectError),
    #[error("{0}")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl ProvisionConnectError {
    /// Returns true if the server refused the database rather than the account: `invalid_catalog_name`,
    /// `object_not_in_prerequisite_state` (it takes no connections), `insufficient_privilege` (no CONNECT),
    /// `invalid_authorization_specification` (no line for it in pg_hba.conf).
    pub(super) fn is_about_the_database(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let code = error.code().map_or("", tokio_postgres::error::SqlState::code);
        matches!(code, "3D000" | "55000" | "42501" | "28000")
    }
}

/// Connection with the query prepared and its catalogue caches warm.
pub(super) struct ProvisionConnection {
    client: Client,
    statement: Statement,
    driver: ConnectionDriver,
    /// User name of the target's own account.
    account: String,
}

/// Task that drives a connection.
pub(super) type ConnectionDriver = JoinHandle<Result<(), tokio_postgres::Error>>;

/// Question about one backend.
pub(super) struct BackendQuery {
    pub(super) pid: i32,
    /// Age of the session; its backend is older.
    pub(super) age: Duration,
    /// True to end the backend, false to look only. (`pg_terminate_backend` stops its statement too: wherever a statement can be
    /// stopped, SIGTERM is checked before SIGINT, `ProcessInterrupts` in tcop/postgres.c. An additional cancel would only make
    /// the backend clean up twice.)
    pub(super) end: bool,
    /// Role it is logged in as; `None`: the target's own account.
    pub(super) role: Option<Arc<str>>,
}

/// Existing process that is logged in as one of the gate's roles.
pub(super) struct BackendSeen {
    pub(super) pid: i32,
    /// True if it is old enough to be the session's backend.
    pub(super) ours: bool,
}

/// Time limit of connecting and of an answer, which is a scan of shared memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0";

/// Query that looks at backends and ends them. A backend's age is compared with the session's age: each side measures with its
/// own clock, so the clocks need not agree, and 5 seconds of drift or of a step of the server's clock are tolerated. A younger
/// process has the process id of one that is gone. Only processes of the session's role or of the target's own account are
/// considered; others are not the gate's to end. (If the account may not see the start of a process, which takes
/// `pg_read_all_stats`, the process counts as the session's.)
const BACKEND_QUERY: &str = "
    SELECT w.pid, ours, CASE WHEN ours AND w.stop THEN pg_terminate_backend(w.pid) END
    FROM unnest($1::int4[], $2::float8[], $3::bool[], $4::text[]) AS w (pid, age, stop, role)
    JOIN pg_stat_activity AS a ON a.pid = w.pid AND a.usename IN ($5, w.role)
    CROSS JOIN LATERAL (
        SELECT coalesce(extract(epoch FROM clock_timestamp() - a.backend_start)::float8 + 5 >= w.age, true) AS ours
    ) AS o";

impl ProvisionConnection {
    /// Connects as the target's sessions do, with the provisioning account.
    pub(super) async fn open(target: &Arc<Target>) -> Result<Self, ProvisionConnectError> {
        tokio::time::timeout(ANSWER_TIMEOUT, Self::connect(target))
            .await
            .unwrap_or(Err(ProvisionConnectError::Timeout(ANSWER_TIMEOUT)))
    }

    async fn connect(target: &Arc<Target>) -> Result<Self, ProvisionConnectError> {
        let (client, driver) = kept_client(target, "tidegate (ends sessions)", OPTIONS).await?;
        let statement = client.prepare(BACKEND_QUERY).await?;
        let link = Self {
            client,
            statement,
            driver,
            account: target.account.user.clone(),
        };
        link.query(&[]).await?;
        Ok(link)
    }

    /// Ends the backends that are to be ended, and returns those that exist.
    pub(super) async fn ask(&self, asked: &[BackendQuery]) -> Result<Vec<BackendSeen>, ProvisionConnectError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.query(asked))
            .await
            .unwrap_or(Err(ProvisionConnectError::Timeout(ANSWER_TIMEOUT)))
    }

    async fn query(&self, asked: &[BackendQuery]) -> Result<Vec<BackendSeen>, ProvisionConnectError> {
        let pids: Vec<i32> = asked.iter().map(|asked| asked.pid).collect();
        let ages: Vec<f64> = asked.iter().map(|asked| asked.age.as_secs_f64()).collect();
        let ends: Vec<bool> = asked.iter().map(|asked| asked.end).collect();
        let roles: Vec<Option<&str>> = asked.iter().map(|asked| asked.role.as_deref()).collect();
        let parameters: [&(dyn ToSql + Sync); 5] = [&pids, &ages, &ends, &roles, &self.account];
        let rows = self.client.query(&self.statement, &parameters).await?;
        let seen = |row: &tokio_postgres::Row| {
            Ok(BackendSeen {
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

impl Drop for ProvisionConnection {
    fn drop(&mut self) {
        // Otherwise a hanging connection would stay until TCP gives it up.
        self.driver.abort();
    }
}

/// Logs in to the target's database as the target's sessions do, with the provisioning account. The caller has to end the task
/// that drives the connection. `options` override the role's own settings (`ALTER ROLE ... SET`), which any user of a shared
/// account may change.
pub(super) async fn client(
    target: &Arc<Target>,
    application: &str,
    options: &str,
) -> Result<(Client, ConnectionDriver), ProvisionConnectError> {
    client_in(target, &target.database, application, options).await
}

/// Logs in as [`client`] does, but to the maintenance database, for connections that stay open. If that database refuses the
/// gate, to the target's own.
pub(super) async fn kept_client(
    target: &Arc<Target>,
    application: &str,
    options: &str,
) -> Result<(Client, ConnectionDriver), ProvisionConnectError> {
    let maintenance = &target.maintenance_database;
    match client_in(target, maintenance, application, options).await {
        Err(error) if error.is_about_the_database() && *maintenance != target.database => {
            if target.warn_of_maintenance_database() {
                tracing::warn!(
                    target_name = %target.name, maintenance_database = maintenance, error = %display_chain(&error),
                    "cannot connect to the maintenance database; connecting to the target's database instead, where the connections \
                     block DROP DATABASE; set maintenance_database to a database that the gate may connect to"
                );
            }
            client(target, application, options).await
        }
        done => done,
    }
}

/// Logs in as [`client`] does, to any database of the server.
pub(super) async fn client_in(
    target: &Arc<Target>,
    database: &str,
    application: &str,
    options: &str,
) -> Result<(Client, ConnectionDriver), ProvisionConnectError> {
    login(target, target.provisioner(), database, application, options).await
}

/// Logs in to any database as any account.
pub(super) async fn login(
    target: &Arc<Target>,
    account: &TargetAccount,
    database: &str,
    application: &str,
    options: &str,
) -> Result<(Client, ConnectionDriver), ProvisionConnectError> {
    let transport = GuardedTransport::new(upstream::dial(target).await?, target.clone());
    let mut config = config(account);
    let (client, connection) = config
        .dbname(database)
        .application_name(application)
        .options(options)
        .connect_raw(transport, NoTls)
        .await?;
    Ok((client, tokio::spawn(connection)))
}

fn config(account: &TargetAccount) -> Config {
    let mut config = Config::new();
    config
        .user(&account.user)
        // `dial` has negotiated TLS already.
        .ssl_mode(SslMode::Disable);
    if let Some(password) = &account.password {
        config.password(password.expose());
    }
    config
}
