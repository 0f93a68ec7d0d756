//! Small shop database for the demo and the tests: customers, cards, orders.
//!
//! It knows nothing of the gate except the configuration table of a target.

use super::TestPostgres;
use super::postgres::random_password;
use crate::base::secret::Secret;

/// Script that creates 1,000 customers, 1,500 cards and 5,000 orders; always the same.
const SHOP_SCHEMA: &str = include_str!("shop.sql");

/// Shop database on a throwaway server, with the account that the gate uses there.
#[derive(Debug)]
pub struct ShopFixture {
    account: &'static str,
    /// Account that ends sessions, if not `account`; it has the same password.
    admin: Option<&'static str>,
    password: Secret<String>,
    address: String,
}

impl ShopFixture {
    /// Name of the database.
    pub const DATABASE: &str = "shop";
    /// Account that sessions share; it owns the database and is no superuser.
    pub const ROLE: &str = "shop_app";

    /// Account that ends these sessions.
    pub const ADMIN: &str = "shop_admin";

    /// Account that owns nothing: it may create roles and end backends, which is all a gate needs.
    pub const GATE: &str = "gate";

    /// Creates the database and its accounts.
    pub async fn make(server: &TestPostgres) -> anyhow::Result<Self> {
        let password = random_password()?;
        let client = server.client("postgres").await?;
        // Letters and digits only, so it needs no quoting.
        let accounts = format!(
            "CREATE ROLE {} LOGIN PASSWORD '{2}'; CREATE ROLE {1} LOGIN PASSWORD '{2}'; GRANT pg_signal_backend, pg_read_all_stats TO {1}",
            Self::ROLE,
            Self::ADMIN,
            password.expose()
        );
        client.batch_execute(&accounts).await?;
        let database = format!("CREATE DATABASE {} OWNER {}", Self::DATABASE, Self::ROLE);
        client.batch_execute(&database).await?;
        // Run as the shared role, which must own the tables.
        let schema = format!("BEGIN; SET LOCAL ROLE {}; {SHOP_SCHEMA} COMMIT;", Self::ROLE);
        server.batch(Self::DATABASE, &schema).await?;
        Ok(Self {
            account: Self::ROLE,
            admin: Some(Self::ADMIN),
            password,
            address: server.address().to_string(),
        })
    }

    /// Returns the same shop for a gate whose grants have their own roles: the gate logs in as [`ShopFixture::GATE`], which this
    /// creates.
    pub async fn behind_roles(self, server: &TestPostgres) -> anyhow::Result<Self> {
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

    /// Returns the account's password.
    #[must_use]
    pub fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// Returns the name and the content of the file that [`ShopFixture::target_table`] refers to, to be put beside the configuration.
    #[must_use]
    pub fn password_file(&self) -> (&'static str, &str) {
        ("shop.password", self.password.expose())
    }

    /// Returns the shop as a target of a configuration file; `more` are further lines of its table.
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
