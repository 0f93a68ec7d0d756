//! Drivers as they are published work through the gate: those that `tests/drivers/setup.sh` has fetched. `make test` has it fetch three of
//! them, `make drivers` all. What is not there is left out.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidegate::base::tls::ServerTls;
use tidegate::demo::testkit::{ServerOptions, TestGate};

use crate::support::{House, TARGET, Walls, database, eventually, gate, grant, id, records_of};

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
/// Tells whether it is one of those that `DRIVER` names the beginning of; all are, if it is not set.
fn is_wanted(name: &str) -> bool {
    std::env::var("DRIVER").map_or(true, |wanted| name.starts_with(&wanted))
}

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    SCRIPTS.into_iter().filter(|(script, _)| is_wanted(script))
}

/// The folder that `tests/drivers/setup.sh` fills.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/drivers")
}

/// The drivers that log in by themselves, each once.
const DRIVERS: [&str; 4] = ["psycopg", "psycopg2", "asyncpg", "pg"];

impl Driver {
    fn of(script: &str, needs: &'static str) -> Self {
        let home = home();
        let program = match Path::new(script).extension().and_then(|kind| kind.to_str()) {
            Some("js") => PathBuf::from("node"),
            Some("java") => PathBuf::from("java"),
            _ => home.join("python/bin/python"),
        };
        Self { home, program, needs }
    }

    fn java(&self) -> bool {
        self.program == Path::new("java")
    }

    /// The class path of Debian's packages.
    fn jars() -> String {
        JARS.map(|jar| format!("/usr/share/java/{jar}")).join(":")
    }

    fn node(&self) -> bool {
        self.program == Path::new("node")
    }

    fn is_there(&self) -> bool {
        let mut there = Command::new(&self.program);
        if self.node() {
            there.args(["-e", &format!("require('{}')", self.needs)]);
        } else if self.java() {
            // It compiles the script, which takes a JDK.
            there.args(["-cp", &Self::jars(), "--add-modules", "jdk.compiler", "-version"]);
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
        there.env("NODE_PATH", self.home.join("node_modules")).stderr(Stdio::null());
        let jars = || JARS.iter().all(|jar| Path::new("/usr/share/java").join(jar).exists());
        let there = (!self.java() || jars()) && there.status().is_ok_and(|status| status.success());
        if !there {
            println!("left out, {} is not installed", self.needs);
        }
        there
    }

    fn run(&self, gate: &TestGate, script: &str, (user, password): (&str, &str)) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let mut command = Command::new(&self.program);
        if self.java() {
            command.args(["-cp", &Self::jars()]);
        }
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

/// The pools of drivers and query builders: the script, its first argument, and the package it is about.
const POOLS: [(&str, &str, &str); 10] = [
    ("pools.py", "psycopg", "psycopg_pool"),
    ("pools.py", "psycopg2", "psycopg2"),
    ("pools.py", "asyncpg", "asyncpg"),
    ("pools.py", "sqlalchemy", "sqlalchemy"),
    ("pools.py", "django", "django"),
    ("pools.js", "pg", "pg"),
    ("pools.js", "postgres", "postgres"),
    ("pools.js", "knex", "knex"),
    ("pools.js", "typeorm", "typeorm"),
    ("pools.js", "sequelize", "sequelize"),
];

/// Where Debian's packages of pgJDBC and HikariCP put what they have.
const JARS: [&str; 4] = ["postgresql.jar", "HikariCP.jar", "slf4j-api.jar", "slf4j-nop.jar"];

/// What `tidegate env` would give a client to verify the gate by.
fn certificate(gate: &TestGate) -> PathBuf {
    gate.folder().join("state/tls.crt")
}

#[test]
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

/// Each pool under the preset that is there for it, with a role of its grant at the database: what it says by itself passes, what is refused
/// costs it no connection.
#[tokio::test(flavor = "multi_thread")]
async fn published_pools_work_under_the_presets() {
    let rails = "[targets.shop.profiles.read-only.rails]\nstatements = [\"@read\"]\n\
                 [targets.shop.profiles.read-write.rails]\nstatements = [\"@write\"]\n";
    let walls = Walls::build_with(&ServerOptions::default(), rails).await;
    for (script, kind, needs) in POOLS.into_iter().chain([("Pool.java", "hikari", "HikariCP")]) {
        let driver = Driver::of(script, needs);
        if !is_wanted(kind) || !driver.is_there() {
            continue;
        }
        for (profile, mode) in [("read-only", "read"), ("read-write", "write")] {
            let login = walls.grant(profile, "10m");
            let mut command = driver.run(&walls.gate, script, (&login.grant, login.secret.expose()));
            command.args([kind, mode]).env("PGSSLMODE", "verify-full");
            let ended = tokio::task::spawn_blocking(move || command.status().expect("it starts"))
                .await
                .expect("it ends");
            let outcomes = records_of(&walls.gate, &login.grant, "outcome");
            let refused = outcomes.iter().filter(|outcome| outcome["rule"] == "statements").count();
            let sessions = records_of(&walls.gate, &login.grant, "session_started").len();
            println!(
                "{kind} under @{mode}: {ended}, {} outcomes, {refused} refused, {sessions} sessions",
                outcomes.len()
            );
            assert!(ended.success() && outcomes.len() > 200, "{kind} under @{mode}");
            assert_eq!(refused > 0, mode == "read", "{kind} under @{mode}");
            // pg-pool throws away each connection that had an error in `pool.query`.
            assert!(sessions <= 4 || kind == "pg", "{kind} under @{mode} lost connections");
        }
    }
}

/// A gate that shows another certificate than the one that was given is not spoken to.
#[test]
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
