//! Clients: the installed psql, and tokio-postgres as a test suite would use it.

use std::io::Write;
use std::process::{Command, Stdio};

use tidegate::demo::testkit::{DriverConnection, TestGate, TestLogin};
use tokio_postgres::Config;

use super::{TARGET, database};

/// Output and exit code of psql.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) output: String,
    pub(crate) errors: String,
    /// 0: success; 1: a fatal error of its own; 2: the connection went bad; 3: an error in a script with ON_ERROR_STOP.
    pub(crate) code: Option<i32>,
}

/// Runs psql through the gate, with the script on its standard input; `arguments` are added (`-c`, `-v`, `-At`). Blocks.
pub(crate) fn psql(gate: &TestGate, login: &TestLogin, sslmode: &str, arguments: &[&str], script: &str) -> Said {
    let program = database().server.binaries().tool("psql").expect("psql is part of PostgreSQL");
    let connection = format!(
        "host=127.0.0.1 port={} dbname={TARGET} user={} sslmode={sslmode} connect_timeout=15",
        gate.port(),
        login.grant
    );
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(["--no-psqlrc", "--pset=pager=off", "--dbname", &connection])
        .args(arguments)
        .env("PGPASSWORD", login.secret.expose())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql starts");
    // It may end before it has read all of it.
    let _ = child.stdin.take().expect("its input").write_all(script.as_bytes());
    let output = child.wait_with_output().expect("psql ends");
    Said {
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

/// Opens a test suite's connection over TLS.
pub(crate) async fn suite(gate: &TestGate, login: &TestLogin) -> anyhow::Result<DriverConnection> {
    DriverConnection::connect(gate.address(), &config(login), true).await
}

/// Opens a test suite's connection in clear (the default allows it from this machine).
pub(crate) async fn suite_in_clear(gate: &TestGate, login: &TestLogin) -> anyhow::Result<DriverConnection> {
    DriverConnection::connect(gate.address(), &config(login), false).await
}

fn config(login: &TestLogin) -> Config {
    let mut config = Config::new();
    config.user(&login.grant).password(login.secret.expose()).dbname(TARGET);
    config
}
