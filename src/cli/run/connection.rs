//! Connection of this program itself to a database, through the gate, with a login of a grant.

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::super::client::ControlClient;
use super::verification::VerificationVariables;
use crate::base::tls::{ClientTls, TlsMode};
use crate::control::model::{EmptyBody, GrantLoginBody};
use crate::database::upstream;
use crate::model::ids::GrantId;

/// Returns a new login of a grant.
pub(super) async fn login(client: &ControlClient, grant: &GrantId) -> anyhow::Result<GrantLoginBody> {
    Ok(client.post(&format!("/v1/grants/{grant}/login"), &EmptyBody {}).await?)
}

/// Connects with a new login of the grant, and works there. The connection ends with the work.
pub(super) async fn connected<T>(
    client: &ControlClient,
    grant: &GrantId,
    application: &str,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let login = login(client, grant).await?;
    let verification = VerificationVariables::of(&login, client);
    let wanted = verification.sslmode.name();
    // libpq's `allow` is the only mode that is none of the gate's.
    let mode = TlsMode::ALL.into_iter().find(|mode| mode.name() == wanted);
    let tls = ClientTls::new(mode.unwrap_or(TlsMode::Require), verification.root_certificates.as_deref())?;
    let place = format!("{}:{}", login.host, login.port);
    let tcp = TcpStream::connect((&*login.host, login.port))
        .await
        .with_context(|| format!("cannot connect to the gate at {place}"))?;
    let transport = upstream::start_tls(&tls, &login.host, tcp)
        .await
        .with_context(|| format!("cannot begin TLS with the gate at {place}"))?;
    let mut config = Config::new();
    config
        .user(&login.user)
        .password(&login.secret)
        .dbname(&login.database)
        .application_name(application)
        .options("-c tidegate.welcome=off")
        // It has begun already.
        .ssl_mode(SslMode::Disable);
    let (database, connection) = config.connect_raw(transport, NoTls).await?;
    let driver = tokio::spawn(connection);
    let worked = work(&database).await;
    drop(database);
    // It says goodbye to the gate.
    let _ = driver.await;
    worked
}
