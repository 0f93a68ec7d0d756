//! Drivers as they are published work through the gate; `make drivers` fetches them and runs this.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidegate::lab::Gate;
use tidegate::tls::ServerTls;

use crate::support::{House, TARGET, database, eventually, gate, grant, id, records_of};

/// A driver's script: its program, the script, the package it is about.
struct Driver {
    home: PathBuf,
    program: PathBuf,
    needs: &'static str,
}

/// The scripts that use a driver or a tool for a while, and the package each is about.
const SCRIPTS: [(&str, &str); 12] = [
    ("psycopg3.py", "psycopg"),
    ("psycopg2_.py", "psycopg2"),
    ("asyncpg_.py", "asyncpg"),
    ("sqlalchemy_.py", "sqlalchemy"),
    ("django_.py", "django"),
    ("pgcli_.py", "pgcli"),
    ("dbt_.py", "dbt"),
    ("node_pg.js", "pg"),
    ("postgres_js.js", "postgres"),
    ("knex_.js", "knex"),
    ("typeorm_.js", "typeorm"),
    ("sequelize_.js", "sequelize"),
];
/// All of them, or those that `DRIVER` names the beginning of.
fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let wanted = std::env::var("DRIVER").unwrap_or_default();
    SCRIPTS.into_iter().filter(move |(script, _)| script.starts_with(&wanted))
}

/// The drivers that log in by themselves, each once.
const DRIVERS: [&str; 4] = ["psycopg", "psycopg2", "asyncpg", "pg"];

impl Driver {
    fn of(script: &str, needs: &'static str) -> Self {
        let home = PathBuf::from(std::env::var_os("DRIVERS").expect("make drivers"));
        let program = if Path::new(script).extension().is_some_and(|kind| kind == "js") {
            PathBuf::from("node")
        } else {
            home.join("python/bin/python")
        };
        Self { home, program, needs }
    }

    fn node(&self) -> bool {
        self.program == Path::new("node")
    }

    fn is_there(&self) -> bool {
        let mut there = Command::new(&self.program);
        if self.node() {
            there.args(["-e", &format!("require('{}')", self.needs)]);
        } else {
            // A package that needs settings before it can be imported is there too.
            there.args([
                "-c",
                &format!(
                    "import importlib.util, sys; sys.exit(not importlib.util.find_spec('{}'))",
                    self.needs
                ),
            ]);
        }
        there.env("NODE_PATH", self.home.join("node_modules"));
        let there = there.status().is_ok_and(|status| status.success());
        if !there {
            println!("left out, {} is not installed", self.needs);
        }
        there
    }

    fn run(&self, gate: &Gate, script: &str, (user, password): (&str, &str)) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let mut command = Command::new(&self.program);
        command
            .arg(here.join(script))
            .env("NODE_PATH", self.home.join("node_modules"))
            .env("PGHOST", "127.0.0.1")
            .env("PGSSLROOTCERT", certificate(gate))
            .env("NODE_EXTRA_CA_CERTS", certificate(gate))
            .env("PGPORT", gate.port().to_string())
            .env("PGUSER", user)
            .env("PGPASSWORD", password)
            .env("PGDATABASE", TARGET);
        command
    }
}

/// What `tidegate env` would give a client to verify the gate by.
fn certificate(gate: &Gate) -> PathBuf {
    gate.folder().join("state/tls.crt")
}

#[test]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
fn published_drivers() {
    let gate = gate();
    for (script, needs) in scripts() {
        let driver = Driver::of(script, needs);
        if !driver.is_there() {
            continue;
        }
        for sslmode in ["disable", "verify-full"] {
            let login = grant(&gate, "10m");
            let mut command = driver.run(&gate, script, (&login.grant, login.secret.expose()));
            let ended = command.env("PGSSLMODE", sslmode).status().expect("it starts");
            let logged = records_of(&gate, &login.grant, "statement").len();
            println!("{script}, sslmode={sslmode}: {ended}, {logged} statements on record");
            assert!(ended.success() && logged > 10, "{script} with sslmode={sslmode}");
        }
    }
}

/// A gate that shows another certificate than the one that was given is not spoken to.
#[test]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
fn published_drivers_verify_the_gate() {
    let (gate, other) = (gate(), tempfile::tempdir().expect("a folder"));
    ServerTls::self_signed(other.path(), &["127.0.0.1".to_owned()], jiff::Timestamp::now()).expect("a certificate");
    let other = other.path().join("tls.crt");
    for (script, needs) in scripts() {
        let driver = Driver::of(script, needs);
        if !driver.is_there() {
            continue;
        }
        let login = grant(&gate, "10m");
        let mut command = driver.run(&gate, script, (&login.grant, login.secret.expose()));
        command
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &other)
            .env("NODE_EXTRA_CA_CERTS", &other);
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).to_lowercase();
        assert!(!output.status.success() && said.contains("cert"), "{script}: {said}");
        assert_eq!(records_of(&gate, &login.grant, "session_started").len(), 0, "{script}");
    }
}

/// PostgreSQL's own tools, which are there wherever its server is.
#[test]
fn postgresqls_own_tools() {
    const SCRIPT: &str = "\\set id random(1, 1000)\nSELECT * FROM customers WHERE id = :id;\nSELECT count(*) FROM cards WHERE customer_id = :id;\n";
    let (gate, folder) = (gate(), tempfile::tempdir().expect("a folder"));
    let script = folder.path().join("pgbench.sql");
    std::fs::write(&script, SCRIPT).expect("a script");
    let script = script.to_str().expect("UTF-8");
    let pgbench = |mode| ["-n", "-c", "4", "-t", "25", "-M", mode, "-f", script];
    let tools: [(&str, &[&str], &str); 5] = [
        ("pgbench", &pgbench("simple"), "100/100"),
        ("pgbench", &pgbench("extended"), "100/100"),
        ("pgbench", &pgbench("prepared"), "100/100"),
        ("pg_dump", &["--schema=public"], "COPY public.customers"),
        ("pg_dump", &["--schema-only", "--table=orders"], "CREATE TABLE public.orders"),
    ];
    for (tool, arguments, expected) in tools {
        let login = grant(&gate, "10m");
        let program = database().server.binaries().tool(tool).expect("a tool of PostgreSQL");
        let output = Command::new(program)
            .args(arguments)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", gate.port().to_string())
            .env("PGUSER", &login.grant)
            .env("PGPASSWORD", login.secret.expose())
            .env("PGDATABASE", TARGET)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", certificate(&gate))
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(expected),
            "{tool} {arguments:?}: {output:?}"
        );
    }
}

/// Each waits through the first notice and a reminder, and is let in by the approval.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
async fn published_drivers_wait_for_an_approval() {
    let people = [
        ("psycopg", "qa"),
        ("psycopg2", "qa"),
        ("asyncpg", "qa"),
        ("pg", "qa"),
        ("lea", "leads"),
    ];
    let house = House::open(&people, "[access]\nlogin_notice = \"200ms\"\n", &[]).await;
    for needs in DRIVERS {
        let driver = Driver::of(if needs == "pg" { "wait.js" } else { "wait.py" }, needs);
        if !driver.is_there() {
            continue;
        }
        let who = driver.needs;
        let script = if driver.node() { "wait.js" } else { "wait.py" };
        let mut command = driver.run(&house.gate, script, (who, house.token(who)));
        command
            .arg(who)
            .env("PGDATABASE", format!("{TARGET}.read-write"))
            .env("PGSSLMODE", "verify-full")
            .env("PGOPTIONS", r"-c tidegate.reason=bug\ 17")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().expect("it starts");
        let pending = eventually("its request", async || {
            let path = format!("/v1/requests?status=pending&identity={who}");
            let found = house.call("lea", "GET", &path, &Value::Null).await.good();
            found["requests"].as_array().expect("requests").first().map(id)
        })
        .await;
        // Longer than until the reminder, of which nothing can be seen from here.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(running.try_wait().expect("its state").is_none(), "{who} did not wait");
        house.step("lea", &pending, "approve").await.good();
        let ended = running.wait_with_output().expect("it ends");
        println!("{who}: {}", ended.status);
        assert_eq!(ended.stdout, b"in\n", "{who}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
