//! The small shop database that the demo shows and the tests work on: customers, cards, orders.
//!
//! It knows nothing of the gate beyond the table of a configuration file that names it as a target.

use super::postgres::random_password;
use super::{LabError, Postgres};
use crate::secret::Secret;

/// 1,000 customers, 1,500 cards, 5,000 orders; the same every time.
const SCHEMA: &str = include_str!("shop.sql");

/// The shop on a throwaway server, and the account the gate uses there.
#[derive(Debug)]
pub struct Shop {
    account: &'static str,
    /// The account that ends sessions, if not `account`; it has the same password.
    admin: Option<&'static str>,
    password: Secret<String>,
    address: String,
}

impl Shop {
    /// The name of the database.
    pub const DATABASE: &str = "shop";
    /// The account of sessions that share one; it owns the database and is no superuser.
    pub const ROLE: &str = "shop_app";

    /// The account that ends these sessions.
    pub const ADMIN: &str = "shop_admin";

    /// An account that owns nothing: it may make roles and end backends, which is all a gate needs.
    pub const GATE: &str = "gate";

    /// Makes the database and its accounts.
    pub async fn make(server: &Postgres) -> Result<Self, LabError> {
        let password = random_password()?;
        let client = server.client("postgres").await?;
        // Letters and digits only: it needs no quoting.
        let accounts = format!(
            "CREATE ROLE {} LOGIN PASSWORD '{2}'; CREATE ROLE {1} LOGIN PASSWORD '{2}'; GRANT pg_signal_backend, pg_read_all_stats TO {1}",
            Self::ROLE,
            Self::ADMIN,
            password.expose()
        );
        client.batch_execute(&accounts).await?;
        let database = format!("CREATE DATABASE {} OWNER {}", Self::DATABASE, Self::ROLE);
        client.batch_execute(&database).await?;
        // As its role, which is to own the tables.
        let schema = format!("BEGIN; SET LOCAL ROLE {}; {SCHEMA} COMMIT;", Self::ROLE);
        server.batch(Self::DATABASE, &schema).await?;
        Ok(Self {
            account: Self::ROLE,
            admin: Some(Self::ADMIN),
            password,
            address: server.address().to_string(),
        })
    }

    /// The same shop for a gate whose profiles have roles of their own: it logs in as [`Shop::GATE`], which this makes.
    pub async fn behind_roles(self, server: &Postgres) -> Result<Self, LabError> {
        let password = random_password()?;
        let account = format!(
            "CREATE ROLE {gate} LOGIN CREATEROLE PASSWORD '{}'; GRANT pg_signal_backend TO {gate}",
            password.expose(),
            gate = Self::GATE,
        );
        server.batch(Self::DATABASE, &account).await?;
        Ok(Self {
            account: Self::GATE,
            admin: None,
            password,
            ..self
        })
    }

    /// The account's password.
    #[must_use]
    pub fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// The file beside the configuration that [`Shop::target_table`] names: its name and its content.
    #[must_use]
    pub fn password_file(&self) -> (&'static str, &str) {
        ("shop.password", self.password.expose())
    }

    /// The shop as a target of a configuration file; `more` are further lines of its table.
    #[must_use]
    pub fn target_table(&self, name: &str, more: &str) -> String {
        let file = self.password_file().0;
        let admin = self
            .admin
            .map(|admin| format!("admin_user = \"{admin}\"\nadmin_password_file = \"{file}\"\n"))
            .unwrap_or_default();
        format!(
            "[targets.{name}]\naddress = \"{}\"\ndatabase = \"{}\"\nuser = \"{}\"\npassword_file = \"{file}\"\n{admin}{more}\n",
            self.address,
            Self::DATABASE,
            self.account,
        )
    }
}
