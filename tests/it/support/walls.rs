//! Server for a single test, with roles of profiles, and a gate whose account may create roles and no more.
//!
//! It asserts nothing about the gate. The roles of the profiles are created here as `tidegate target apply` would.

use tidegate::demo::testkit::{DriverConnection, ServerOptions, TestGate, TestLogin, TestPostgres};
use tokio_postgres::SimpleQueryMessage;

use super::{TARGET, binary, eventually, suite};

/// The gate's account at the server.
pub(crate) const ACCOUNT: &str = "gate";
/// Role of the profile `read-only`.
pub(crate) const READER: &str = "tg_shop_read-only";
/// Query for the profiles whose rights a session has.
pub(crate) const ACTS_AS: &str =
    "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname LIKE 'tg\\_%' AND pg_has_role(oid, 'USAGE')";
/// Role of the profile `read-write`.
pub(crate) const WRITER: &str = "tg_shop_read-write";

const SETUP: &str = "
    CREATE ROLE gate LOGIN CREATEROLE PASSWORD 'gate'; GRANT pg_signal_backend TO gate;
    CREATE ROLE colleague LOGIN PASSWORD 'colleague';
    CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders VALUES (1, 10), (2, 20);
    CREATE TABLE cards (id int PRIMARY KEY, pan text); INSERT INTO cards VALUES (1, '4111111111111111');
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
";

const PROFILES: &str = r#"
    SET ROLE gate; CREATE ROLE "tg_shop_read-only" NOLOGIN; CREATE ROLE "tg_shop_read-write" NOLOGIN;
    COMMENT ON ROLE "tg_shop_read-only" IS 'tidegate profile shop/read-only';
    COMMENT ON ROLE "tg_shop_read-write" IS 'tidegate profile shop/read-write'; RESET ROLE;
    GRANT USAGE ON SCHEMA public TO "tg_shop_read-only", "tg_shop_read-write";
    GRANT SELECT ON orders TO "tg_shop_read-only"; GRANT SELECT (id) ON cards TO "tg_shop_read-only";
    GRANT SELECT, INSERT, UPDATE, DELETE ON orders, cards TO "tg_shop_read-write";
    GRANT CREATE ON SCHEMA public TO "tg_shop_read-write";
"#;

pub(crate) struct Walls {
    pub(crate) server: TestPostgres,
    pub(crate) gate: TestGate,
}

impl Walls {
    pub(crate) async fn build() -> Self {
        Self::build_with(&ServerOptions::default(), "").await
    }

    /// Starts server and gate; `more` are further tables of the gate's configuration.
    pub(crate) async fn build_with(options: &ServerOptions, more: &str) -> Self {
        let server = start(options).await;
        server.batch("shop", PROFILES).await.expect("profiles");
        let gate = gate_before(&server, more);
        Self { server, gate }
    }

    /// Starts a server without any profile's role, and a gate with these profiles.
    pub(crate) async fn bare(profiles: &str) -> Self {
        let server = start(&ServerOptions::default()).await;
        let gate = gate_with_profiles(&server, profiles);
        Self { server, gate }
    }

    /// Creates a grant for Ana with a profile.
    pub(crate) fn grant(&self, profile: &str, window: &str) -> TestLogin {
        self.grant_of(super::ANA, profile, window)
    }

    /// Creates a grant for an identity with a profile.
    pub(crate) fn grant_of(&self, identity: &str, profile: &str, window: &str) -> TestLogin {
        let more = ["--profile", profile];
        self.gate.grant(identity, TARGET, window, &more).expect("a grant")
    }

    /// Opens a session under a new grant.
    pub(crate) async fn session(&self, profile: &str) -> (TestLogin, DriverConnection) {
        let login = self.grant(profile, "10m");
        let session = suite(&self.gate, &login).await.expect("a session");
        (login, session)
    }

    /// Runs `tidegate target` on the shop as the superuser; returns its exit code and output.
    pub(crate) fn target(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let as_superuser = ["shop", "--user", "postgres", "--password-env", "SUPERUSER"];
        let mut command = self.gate.operator(&[&["target"], arguments, &as_superuser].concat());
        command.env("SUPERUSER", self.server.password().expose());
        let output = command.output().expect("the command");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn revoke(&self, login: &TestLogin) {
        self.gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    }

    /// Returns the first value of a query by the superuser; waits for a server that restarts.
    pub(crate) async fn asks(&self, sql: &str) -> String {
        let answer = async || match value(&self.server.client("shop").await.ok()?, sql).await {
            Err(error) if error.as_db_error().is_some_and(|said| !said.code().code().starts_with("57P")) => {
                panic!("{sql}: {error:?}")
            }
            answer => answer.ok(),
        };
        eventually("the server answers", answer).await
    }

    /// Returns the number of roles of grants.
    pub(crate) async fn roles(&self) -> String {
        self.asks("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'").await
    }

    /// Waits until no role of a grant exists, and no backend is logged in as one.
    pub(crate) async fn empty(&self) {
        let nothing = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%') + (SELECT count(*) FROM pg_stat_activity \
             WHERE usesysid NOT IN (SELECT oid FROM pg_authid) OR usename LIKE 'gr\\_%')";
        let left = async || {
            let client = self.server.client("shop").await.ok()?;
            (value(&client, nothing).await.ok()? == "0").then_some(())
        };
        eventually("nothing is left", left).await;
    }
}

async fn start(options: &ServerOptions) -> TestPostgres {
    let server = TestPostgres::start(options).expect("a throwaway PostgreSQL");
    server.batch("postgres", "CREATE DATABASE shop").await.expect("a database");
    server.batch("shop", SETUP).await.expect("tables and accounts");
    server
}

/// Starts another gate in front of the same server.
pub(crate) fn gate_before(server: &TestPostgres, more: &str) -> TestGate {
    let profiles = format!(
        "[targets.{TARGET}.profiles.read-only]\nselect = [\"public.orders\", \"public.cards(id)\"]\n\
         settings = {{ statement_timeout = \"30s\", work_mem = \"2MB\" }}\n\
         [targets.{TARGET}.profiles.read-write]\nselect = [\"public.*\"]\ninsert = [\"public.*\"]\nupdate = [\"public.*\"]\n\
         delete = [\"public.*\"]\ncreate = [\"public\"]\nconnection_limit = 3\n{more}"
    );
    gate_with_profiles(server, &profiles)
}

fn gate_with_profiles(server: &TestPostgres, profiles: &str) -> TestGate {
    let config = format!(
        "[targets.{TARGET}]\naddress = \"{}\"\ndatabase = \"shop\"\nuser = \"{ACCOUNT}\"\npassword_file = \"gate.password\"\n{profiles}",
        server.address()
    );
    TestGate::start(binary(), &config, &[("gate.password", "gate")]).expect("a gate")
}

/// Returns the first value of the first row; empty if there is none.
pub(crate) async fn value(client: &tokio_postgres::Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

/// Returns the SQLSTATE with which a statement fails; empty if it succeeds.
pub(crate) async fn code(client: &tokio_postgres::Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => String::new(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
