//! Provisioning connections, with the login of all of them.
//!
//! It does not know the statements run on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

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
    fn is_about_the_database(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let code = error.code().map_or("", tokio_postgres::error::SqlState::code);
        matches!(code, "3D000" | "55000" | "42501" | "28000")
    }
}

/// Runs a step that is to be done within a time limit.
pub(super) async fn within<T, E: From<ProvisionConnectError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = tokio::time::timeout(limit, step).await;
    done.unwrap_or_else(|_| Err(ProvisionConnectError::Timeout(limit).into()))
}

/// Open connection to a server; it is closed when this is dropped.
pub(super) struct ProvisionConnection {
    pub(super) client: Client,
    /// Task that drives the connection.
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl ProvisionConnection {
    /// Logs in to a database of the server as the target's sessions do, with the provisioning account. `options` override the
    /// role's own settings (`ALTER ROLE ... SET`), which any user of a shared account may change.
    pub(super) async fn open(
        target: &Arc<Target>,
        database: &str,
        application: &str,
        options: &str,
    ) -> Result<Self, ProvisionConnectError> {
        Self::open_as(target.provisioner(), target, database, application, options).await
    }

    /// Logs in as [`ProvisionConnection::open`] does, to the maintenance database, for connections that stay open. If that
    /// database refuses the gate, to the target's own.
    pub(super) async fn open_kept(target: &Arc<Target>, application: &str, options: &str) -> Result<Self, ProvisionConnectError> {
        let maintenance = &target.maintenance_database;
        match Self::open(target, maintenance, application, options).await {
            Err(error) if error.is_about_the_database() && *maintenance != target.database => {
                if target.warn_of_maintenance_database() {
                    tracing::warn!(
                        target_name = %target.name, maintenance_database = maintenance, error = %display_chain(&error),
                        "cannot connect to the maintenance database; connecting to the target's database instead, where the connections \
                         block DROP DATABASE; set maintenance_database to a database that the gate may connect to"
                    );
                }
                Self::open(target, &target.database, application, options).await
            }
            done => done,
        }
    }

    /// Logs in as [`ProvisionConnection::open`] does, with any account.
    pub(super) async fn open_as(
        account: &TargetAccount,
        target: &Arc<Target>,
        database: &str,
        application: &str,
        options: &str,
    ) -> Result<Self, ProvisionConnectError> {
        let transport = GuardedTransport::new(upstream::dial(target).await?, target.clone());
        let mut config = Config::new();
        config
            .user(&account.user)
            .dbname(database)
            .application_name(application)
            .options(options)
            // `dial` has negotiated TLS already.
            .ssl_mode(SslMode::Disable);
        if let Some(password) = &account.password {
            config.password(password.expose());
        }
        let (client, connection) = config.connect_raw(transport, NoTls).await?;
        let driver = tokio::spawn(connection);
        Ok(Self { client, driver })
    }

    pub(super) fn closed(&self) -> bool {
        self.client.is_closed() || self.driver.is_finished()
    }

    /// Closes the connection at once. A hanging one would stay until TCP gives it up.
    pub(super) fn abort(&self) {
        self.driver.abort();
    }
}

impl Drop for ProvisionConnection {
    fn drop(&mut self) {
        self.abort();
    }
}
