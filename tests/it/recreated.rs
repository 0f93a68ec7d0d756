//! A target's database is dropped, copied, closed and restored while the gate runs, as it would be without one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use tidegate::demo::testkit::{ServerOptions, TestPostgres};

use crate::support::{ACCOUNT, Raw, Walls, code, eventually, suite, value};

/// One of PostgreSQL's own programs, as superuser, past the gate.
fn tool(server: &TestPostgres, program: &str, arguments: &[&str]) -> Output {
    Command::new(server.binaries().folder().join(program))
        .args(arguments)
        .env("PGHOST", server.folder())
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", server.superuser())
        .output()
        .expect("the program")
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the gate has open at the server, each by its name and database.
async fn kept(walls: &Walls) -> Vec<(String, String)> {
    let client = walls.server.client("postgres").await.expect("a connection");
    let query = format!(
        "SELECT application_name, datname FROM pg_stat_activity WHERE usename = '{ACCOUNT}' AND application_name LIKE 'tidegate (%'
         AND application_name <> 'tidegate (profiles)'"
    );
    let rows = client.query(&query, &[]).await.expect("the activity");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn superuser(walls: &Walls, sql: &str) {
    walls
        .server
        .client("postgres")
        .await
        .expect("a connection")
        .batch_execute(sql)
        .await
        .expect(sql);
}

async fn refused(walls: &Walls, code: &str, words: &str) {
    let login = walls.grant("read-only", "10m");
    Raw::refused(&walls.gate, &login)
        .await
        .says("FATAL", code, &[words, "The server behind \"shop\" says so"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_dropped_copied_and_restored_while_the_gate_runs() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    drop(session);
    walls.revoke(&login);
    walls.empty().await;
    eventually("what is kept is in the maintenance database", async || {
        let kept = kept(&walls).await;
        (!kept.is_empty() && kept.iter().all(|(_, database)| database == "postgres")).then_some(())
    })
    .await;

    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("shop.dump");
    let file = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    done(&tool(&walls.server, "pg_dump", &["-Fc", "-f", &file(&dump), "shop"]));
    superuser(&walls, "CREATE DATABASE copied TEMPLATE shop").await;
    superuser(&walls, "DROP DATABASE copied").await;
    // In the midst of logins, and with a reload.
    walls.session("read-only").await;
    walls.gate.reload().expect("a reload");
    eventually("nobody is in", async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND usename LIKE 'gr\\_%'";
        (value(&walls.server.client("postgres").await.ok()?, count).await.ok()? == "0").then_some(())
    })
    .await;
    superuser(&walls, "DROP DATABASE shop").await;
    refused(&walls, "3D000", "database \"shop\" does not exist").await;

    superuser(&walls, "CREATE DATABASE shop").await;
    done(&tool(&walls.server, "pg_restore", &["-d", "shop", &file(&dump)]));
    let (_, session) = walls.session("read-only").await;
    assert_eq!(
        value(&session.client, "SELECT count(*) FROM orders").await.expect("a count"),
        "2"
    );
    assert_eq!(
        code(&session.client, "SELECT pan FROM cards").await,
        "42501",
        "its rights came with the dump"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_targets_own_refusal_keeps_its_code_and_words() {
    let walls = Walls::build().await;
    superuser(&walls, "ALTER DATABASE shop ALLOW_CONNECTIONS false").await;
    refused(&walls, "55000", "database \"shop\" is not currently accepting connections").await;
    superuser(&walls, "ALTER DATABASE shop ALLOW_CONNECTIONS true CONNECTION LIMIT 0").await;
    refused(&walls, "53300", "too many connections for database \"shop\"").await;
    superuser(&walls, "ALTER DATABASE shop CONNECTION LIMIT -1").await;
    walls.session("read-only").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_no_second_connection() {
    let walls = Walls::build().await;
    let (login, _session) = walls.session("read-only").await;
    for _ in 0..5 {
        walls.gate.reload().expect("a reload");
        suite(&walls.gate, &login).await.expect("a session");
    }
    let (other, session) = walls.session("read-write").await;
    drop(session);
    walls.revoke(&other);
    eventually("one connection of each kind", async || {
        let kept = kept(&walls).await;
        let kinds: BTreeSet<&String> = kept.iter().map(|(name, _)| name).collect();
        (kept.len() == kinds.len() && kept.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_maintenance_database_the_targets_own_serves() {
    let walls = Walls::build_with(&ServerOptions::default(), "").await;
    superuser(&walls, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await;
    let gate = crate::support::roles_gate_before(&walls.server, "");
    let login = gate
        .grant(
            crate::support::ANA,
            crate::support::TARGET,
            "10m",
            &["--profile", "read-only"],
        )
        .expect("a grant");
    let session = suite(&gate, &login).await.expect("a session");
    assert_eq!(
        value(&session.client, "SELECT count(*) FROM orders").await.expect("a count"),
        "2"
    );
    assert_eq!(
        gate.log().matches("cannot connect to the maintenance database").count(),
        1,
        "{}",
        gate.log()
    );
    let check = gate.command(&["check"]).expect("the command");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("GRANT CONNECT ON DATABASE \"postgres\" TO \"gate\""), "{said}");
    gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    eventually("its role is gone", async || {
        let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'";
        (value(&walls.server.client("postgres").await.ok()?, roles).await.ok()? == "0").then_some(())
    })
    .await;
}
