//! The accounts of a target: what `tidegate check` refuses of them, sessions that share one, and the connection that ends them.

use std::fs;
use std::time::Instant;

use tidegate::demo::testkit::{ServerOptions, TestGate, TestPostgres};

use crate::support::{
    Database, active, alive, binary, code, ended, eventually, gate_before, grant, records, start, suite, value, within,
};

/// The process ids of the connections that end sessions.
const ENDING: &str =
    "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE application_name = 'tidegate (ends sessions)'";

async fn asks(database: &Database, sql: &str) -> String {
    let client = database.server.client("postgres").await.expect("a connection");
    value(&client, sql).await.expect("an answer")
}

fn check(gate: &TestGate, arguments: &[&str]) -> (Option<i32>, String) {
    let output = gate.command(&[&["check"], arguments].concat()).expect("tidegate check");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Each with the SQL that mends it, which does.
#[tokio::test(flavor = "multi_thread")]
async fn check_refuses_accounts_that_are_more_than_a_profile() {
    let database = start(&ServerOptions::default());
    let gate = gate_before(&database, "profiles = [\"read-only\", \"read-write\"]\n", "");
    let (code, said) = check(&gate, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("\"shop_admin\" ends the sessions of \"shop_app\", and they cannot end its own"),
        "{said}"
    );
    for (harm, refused, mend) in [
        (
            "ALTER ROLE shop_app CREATEROLE",
            "has CREATEROLE",
            "ALTER ROLE \"shop_app\" NOCREATEROLE",
        ),
        (
            "ALTER ROLE shop_app BYPASSRLS",
            "has BYPASSRLS",
            "ALTER ROLE \"shop_app\" NOBYPASSRLS",
        ),
        (
            "GRANT pg_execute_server_program TO shop_app",
            "is a member of pg_execute_server_program",
            "REVOKE \"pg_execute_server_program\" FROM \"shop_app\"",
        ),
        (
            "GRANT pg_write_server_files TO shop_app",
            "is a member of pg_write_server_files",
            "REVOKE \"pg_write_server_files\" FROM \"shop_app\"",
        ),
        (
            "CREATE ROLE helpers; GRANT pg_read_server_files TO helpers; GRANT helpers TO shop_app",
            "is a member of pg_read_server_files",
            "REVOKE \"helpers\" FROM \"shop_app\"",
        ),
        (
            "CREATE ROLE deputies CREATEROLE; GRANT deputies TO shop_app",
            "may take the role \"deputies\", which has CREATEROLE",
            "REVOKE \"deputies\" FROM \"shop_app\"",
        ),
        (
            "ALTER ROLE shop_app SUPERUSER",
            "is a superuser",
            "ALTER ROLE \"shop_app\" NOSUPERUSER",
        ),
        (
            "GRANT shop_admin TO shop_app",
            "\"shop_app\" is a member of \"shop_admin\"",
            "REVOKE \"shop_admin\" FROM \"shop_app\"",
        ),
        (
            "GRANT pg_signal_backend TO shop_app",
            "is a member of pg_signal_backend",
            "REVOKE \"pg_signal_backend\" FROM \"shop_app\"",
        ),
        (
            "REVOKE pg_signal_backend FROM shop_admin",
            "missing: the right of \"shop_admin\" to end sessions",
            "GRANT pg_signal_backend TO \"shop_admin\"",
        ),
        (
            "REVOKE pg_read_all_stats FROM shop_admin",
            "missing: the right of \"shop_admin\" to see the start of a backend",
            "GRANT pg_read_all_stats TO \"shop_admin\"",
        ),
    ] {
        asks(&database, harm).await;
        // What a server lacks keeps its own sessions out, and no unit from starting.
        let (code, at_start) = if refused.starts_with("missing:") { (8, 0) } else { (1, 1) };
        assert_eq!(check(&gate, &["--start"]).0, Some(at_start), "{harm}");
        let (found, said) = check(&gate, &[]);
        assert_eq!(found, Some(code), "{harm}: {said}");
        assert!(said.contains(refused) && said.contains(mend), "{harm}: {said}");
        asks(&database, mend).await;
        let (code, said) = check(&gate, &[]);
        assert_eq!(code, Some(0), "after {mend}: {said}");
    }
    asks(&database, "ALTER ROLE shop_admin SUPERUSER").await;
    let (code, said) = check(&gate, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("\"shop_admin\", which ends sessions and creates roles, is a superuser"),
        "{said}"
    );
    asks(
        &database,
        "ALTER ROLE shop_admin NOSUPERUSER; ALTER ROLE shop_app PASSWORD 'another'",
    )
    .await;
    let (code, said) = check(&gate, &[]);
    assert_eq!(code, Some(8), "{said}");
    assert!(said.contains("a working login as \"shop_app\""), "{said}");
}

/// One account for sessions and for ending them: refused by `check`, said at the start, unless it is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_ends_its_own_sessions_has_to_be_accepted() {
    let database = start(&ServerOptions::default());
    let gate = |lines: &str| {
        let config = format!(
            "[targets.shop]\naddress = \"{}\"\nuser = \"shop_app\"\npassword_file = \"shop.password\"\n{lines}",
            database.server.address()
        );
        TestGate::start(binary(), &config, &[database.shop.password_file()]).expect("a gate")
    };
    let alone = gate("");
    for arguments in [&[] as &[&str], &["--offline"], &["--start"]] {
        let (code, said) = check(&alone, arguments);
        assert_eq!(code, Some(1), "{said}");
        for words in [
            "missing: a separate account that ends sessions",
            "admin_user = \"gate\"",
            "shared_account = \"accepted\"",
        ] {
            assert!(said.contains(words), "{words} not in {said}");
        }
    }
    let log = alone.log();
    assert!(
        log.contains("all sessions share the account `shop_app`, which also ends them"),
        "{log}"
    );
    let accepted = gate("shared_account = \"accepted\"\n");
    let (code, said) = check(&accepted, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the configuration accepts that"), "{said}");
    let log = accepted.log();
    assert!(!log.contains("share the account"), "{log}");
    // Accepting that is no leave for the rest.
    asks(&database, "ALTER ROLE shop_app CREATEROLE").await;
    assert_eq!(check(&accepted, &[]).0, Some(1));
}

/// What a tester can do with an account that all share: not stay, and not reach the connection that ends them.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_an_account_cannot_keep_the_gate_from_ending_it() {
    let database = start(&ServerOptions::default());
    let gate = gate_before(&database, "", "");
    let login = grant(&gate, "4s");
    let session = suite(&gate, &login).await.expect("a session");
    let client = &session.client;
    let began = Instant::now();
    eventually("the gate's connection", async || {
        let pid = asks(&database, ENDING).await;
        (!pid.is_empty()).then_some(())
    })
    .await;
    let end_it = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate (ends sessions)'";
    assert_eq!(code(client, end_it).await, "42501");
    assert_eq!(code(client, "ALTER ROLE shop_app PASSWORD 'mine'").await, "");
    let stay = "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(0.01); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$";
    let pid = value(client, "SELECT pg_backend_pid()").await.expect("a process");
    assert_eq!(within("its end", code(client, stay)).await, "57P01");
    println!(
        "a session that catches its cancellation has ended {:.1?} after its login",
        began.elapsed()
    );
    let end = ended(&gate, &login.grant).await;
    assert_eq!(
        (&end["ending"], &end["backend_gone"]),
        (&"expired".into(), &true.into()),
        "{end}"
    );
    assert!(!alive(&database, pid.parse().expect("a number")).await);
}

/// Over reloads with sessions open, with other settings each time: one connection for each server, and it ends them all.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_leave_one_connection_that_ends_sessions() {
    let database = start(&ServerOptions::default());
    let gate = gate_before(&database, "connect_timeout = \"10s\"\n", "");
    let login = grant(&gate, "10m");
    let mut sessions = vec![suite(&gate, &login).await.expect("a session")];
    let mut before = eventually("the connection", async || {
        Some(asks(&database, ENDING).await).filter(|pid| !pid.is_empty())
    })
    .await;
    for round in 1..=4_u32 {
        let config = fs::read_to_string(gate.config_file()).expect("the configuration");
        let from = format!("connect_timeout = \"{}s\"", 9 + round);
        assert!(config.contains(&from), "{config}");
        let to = format!("connect_timeout = \"{}s\"", 10 + round);
        fs::write(gate.config_file(), config.replace(&from, &to)).expect("written");
        gate.reload().expect("SIGHUP");
        let done = async || {
            let reloads = records(&gate).into_iter().filter(|record| record["event"] == "reloaded");
            (reloads.count() == round as usize).then_some(())
        };
        eventually("it is read", done).await;
        sessions.push(suite(&gate, &login).await.expect("a session"));
        before = eventually("one connection, with the new settings", async || {
            let now = asks(&database, ENDING).await;
            (now != before && !now.is_empty() && !now.contains(' ')).then_some(now)
        })
        .await;
    }
    for session in &sessions {
        assert_eq!(value(&session.client, "SELECT 1").await.expect("it goes on"), "1");
    }
    gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    eventually("all have ended", async || {
        let left = asks(&database, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop_app'").await;
        (left == "0").then_some(())
    })
    .await;
    assert!(active(&database, "SELECT 1").await.is_empty());
    assert_eq!(asks(&database, ENDING).await, before);
    // A session's end is on record when its backend is seen to be gone, so a little later than that.
    let ends = eventually("all ends are on record", async || {
        let mut ends = records(&gate);
        ends.retain(|record| record["event"] == "session_ended");
        (ends.len() == 5).then_some(ends)
    })
    .await;
    assert!(ends.iter().all(|end| end["backend_gone"] == true), "{ends:?}");
}

/// A block of a file in `deploy`, from a line that ends with `head` on, without its indentation.
fn block(file: &str, head: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    let text = fs::read_to_string(path).expect("the example");
    let mut lines = text
        .lines()
        .skip_while(|line| !line.trim_end().ends_with(head))
        .skip(1)
        .peekable();
    let indent = lines.peek().map_or(0, |line| line.len() - line.trim_start().len());
    let inside =
        lines.take_while(|line| line.trim().is_empty() || line.len() - line.trim_start().len() >= indent && *line != "---");
    inside
        .map(|line| line.get(indent..).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What deploy/ shows, as it is there: its accounts, its targets, applied, checked; and a reader who runs no program.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_are_safe_as_they_are() {
    for (file, head) in [
        ("compose.yaml", "content: |"),
        ("kubernetes.yaml", "tidegate.toml: |"),
        ("README.md", "```toml"),
    ] {
        let server = TestPostgres::start(&ServerOptions::default()).expect("a throwaway PostgreSQL");
        server.batch("postgres", "CREATE DATABASE orders").await.expect("a database");
        // As psql does with it.
        let accounts = block(
            "accounts.sql",
            "once, as superuser, in the database. compose.yaml and kubernetes.yaml do, at its",
        );
        let accounts: Vec<&str> = accounts.lines().filter(|line| !line.starts_with('\\')).collect();
        let accounts = accounts
            .join("\n")
            .replace(":'owner_password'", "'owner'")
            .replace(":'gate_password'", "'gate'");
        server.batch("orders", &accounts).await.expect("the accounts");
        let tables = "SET ROLE orders_owner; CREATE TABLE customer (id int, name text); INSERT INTO customer VALUES (1, 'Ana')";
        server.batch("orders", tables).await.expect("the tables");

        let text = block(file, head);
        let text = text.split("```").next().expect("split has a first part");
        let target = text.split("[targets.orders]\n").nth(1).expect("a target");
        let target = target.split("[control]").next().expect("split has a first part");
        let target: Vec<&str> = target
            .lines()
            .filter(|line| !line.starts_with("address") && !line.starts_with("password_file"))
            .collect();
        // Under the name that the tests' clients go to.
        let config = format!(
            "[targets.shop]\naddress = \"{}\"\ndatabase = \"orders\"\npassword_file = \"gate.password\"\n{}\n",
            server.address(),
            target.join("\n").replace("[targets.orders.", "[targets.shop.")
        );
        let superuser = ("postgres.password", server.password().expose().as_str());
        let gate = TestGate::start(binary(), &config, &[("gate.password", "gate"), superuser]).expect("a gate");
        let (code_of_check, said) = check(&gate, &[]);
        assert_eq!(code_of_check, Some(8), "{file}: {said}");
        assert!(said.contains("create it with: tidegate target apply shop"), "{file}: {said}");
        let apply = ["target", "apply", "shop", "--user", "postgres", "--password-file", "-"];
        let mut apply = gate.operator(&apply);
        let password = fs::File::open(gate.folder().join("postgres.password")).expect("the file");
        let applied = apply.stdin(password).output().expect("tidegate target apply");
        assert!(applied.status.success(), "{file}: {applied:?}");
        let (code_of_check, said) = check(&gate, &[]);
        assert_eq!(code_of_check, Some(0), "{file}: {said}");

        let login = gate
            .grant("ana", "shop", "10m", &["--profile", "read-only"])
            .expect("a grant");
        let session = suite(&gate, &login).await.expect("a session");
        assert_eq!(
            value(&session.client, "SELECT name FROM customer").await.expect("a name"),
            "Ana"
        );
        for refused in [
            "COPY customer FROM PROGRAM 'echo 2'",
            "COPY customer TO '/tmp/customers'",
            "UPDATE customer SET name = 'Bo'",
            "CREATE TABLE mine (a int)",
            "SET ROLE gate",
            "SELECT pg_read_file('PG_VERSION')",
        ] {
            assert_eq!(code(&session.client, refused).await, "42501", "{file}: {refused}");
        }
    }
}
