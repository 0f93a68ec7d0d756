//! Ways out of a grant's rights, each tried against a real server, through the gate, under a grant.
//!
//! What the database itself stops needs no reading of SQL; what cannot be stopped there is shown to end with the grant.

use tidegate::demo::testkit::ServerOptions;
use tokio_postgres::{Client, NoTls};

use crate::support::{ACTS_AS, READER, Walls, code, eventually, records_of, suite, value};

/// No right: `insufficient_privilege`.
const NO: &str = "42501";

async fn is_still_the_reader(client: &Client, after: &str) {
    let said = value(client, ACTS_AS).await.expect("a name");
    assert_eq!(said, READER, "after {after}");
    assert_eq!(code(client, "SELECT pan FROM cards").await, NO, "after {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_role_can_be_taken() {
    let walls = Walls::build().await;
    let (_, session) = walls.session("read-only").await;
    for (sql, refused) in [
        ("SET ROLE postgres", NO),
        ("SET ROLE gate", NO),
        ("SET ROLE colleague", NO),
        ("SET ROLE \"tg_shop_read-write\"", NO),
        ("SET LOCAL ROLE postgres", NO),
        ("SELECT set_config('role', 'postgres', false)", NO),
        ("SET SESSION AUTHORIZATION postgres", NO),
        ("SET SESSION AUTHORIZATION gate", NO),
        ("RESET ROLE", ""),
        ("SET SESSION AUTHORIZATION DEFAULT", ""),
        ("RESET SESSION AUTHORIZATION", ""),
        ("RESET ALL", ""),
        ("DISCARD ALL", ""),
    ] {
        assert_eq!(code(&session.client, sql).await, refused, "{sql}");
        is_still_the_reader(&session.client, sql).await;
    }
    value(&session.client, "SET ROLE NONE").await.expect("no role");
    is_still_the_reader(&session.client, "SET ROLE NONE").await;
    // Where sessions start in the profile's role, there is less without it.
    let (_, writer) = walls.session("read-write").await;
    value(&writer.client, "SET ROLE NONE").await.expect("no role");
    assert_eq!(code(&writer.client, "SELECT * FROM orders").await, NO);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_given_to_oneself_or_others() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let role = value(&session.client, "SELECT session_user").await.expect("a name");
    for start in [format!("SET ROLE \"{READER}\""), "RESET ROLE".to_owned()] {
        value(&session.client, &start).await.expect("a role");
        for sql in [
            "ALTER ROLE CURRENT_USER SUPERUSER".to_owned(),
            "ALTER ROLE CURRENT_USER CREATEROLE".to_owned(),
            "ALTER ROLE CURRENT_USER CREATEDB".to_owned(),
            "ALTER ROLE CURRENT_USER BYPASSRLS".to_owned(),
            "ALTER ROLE CURRENT_USER REPLICATION".to_owned(),
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'".to_owned(),
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1".to_owned(),
            format!("ALTER ROLE \"{READER}\" LOGIN"),
            format!("ALTER ROLE \"{role}\" INHERIT"),
            "CREATE ROLE mine LOGIN".to_owned(),
            "ALTER ROLE colleague PASSWORD 'mine'".to_owned(),
            format!("GRANT \"tg_shop_read-write\" TO \"{role}\""),
            format!("GRANT \"{READER}\" TO colleague"),
            format!("GRANT gate TO \"{role}\""),
            "GRANT SELECT ON cards TO PUBLIC".to_owned(),
            format!("COMMENT ON ROLE \"{role}\" IS 'nobody''s'"),
            format!("DROP ROLE \"{role}\""),
        ] {
            let refused = code(&session.client, &sql).await;
            // 0LP01: `invalid_grant_operation`; 01007 would be a warning; 55006: the current user cannot be dropped.
            assert!(
                [NO, "0LP01", "55006"].contains(&refused.as_str()),
                "{start}; {sql}: {refused:?}"
            );
        }
    }
    // Until 14 a session may give away the role it logged in as; it is taken back, and goes with the grant.
    value(&session.client, "SET ROLE NONE").await.expect("no role");
    let given = code(&session.client, &format!("GRANT \"{role}\" TO colleague")).await;
    assert!(given.is_empty() || given == NO || given == "0LP01", "{given}");
    walls.revoke(&login);
    walls.empty().await;
    let members = "SELECT count(*) FROM pg_auth_members WHERE member = 'colleague'::regrole";
    assert_eq!(walls.asks(members).await, "0");
}

/// Logs in as a grant's role with a password that it gave itself, not through the gate.
async fn past(walls: &Walls, role: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(walls.server.port())
        .user(role)
        .password("mine")
        .dbname("shop");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn own_settings_and_an_own_password_end_with_the_grant() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    for sql in [
        "SET ROLE NONE",
        "ALTER ROLE CURRENT_USER SET search_path = evil",
        "ALTER ROLE CURRENT_USER SET statement_timeout = 0",
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
    ] {
        assert_eq!(code(&session.client, sql).await, "", "{sql}");
    }
    // With an own password one comes in past the gate, where the server lets one.
    let role = value(&session.client, "SELECT session_user").await.expect("a name");
    let intruder = past(&walls, &role).await.expect("past the gate");
    assert_eq!(value(&intruder, "SELECT 1").await.expect("it is in"), "1");
    walls.revoke(&login);
    eventually("it is ended with the grant", async || intruder.is_closed().then_some(())).await;
    walls.empty().await;
    assert!(past(&walls, &role).await.is_err());
    assert_eq!(walls.asks("SELECT count(*) FROM pg_db_role_setting").await, "0");
}

/// A change of one's own role that is not committed keeps everybody else from changing it, `NOLOGIN` included: in a transaction
/// that is left open, and in one that is left prepared, as the role itself or as the profile.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_own_role_that_is_not_committed_keeps_nobody_in() {
    let options = ServerOptions {
        settings: vec![("max_prepared_transactions".to_owned(), "5".to_owned())],
        ..ServerOptions::default()
    };
    let walls = Walls::build_with(&options, "").await;
    for last in [
        "SELECT 1",
        "PREPARE TRANSACTION 'mine'",
        "SET ROLE \"tg_shop_read-only\"; PREPARE TRANSACTION 'mine'",
    ] {
        let (login, session) = walls.session("read-only").await;
        let role = value(&session.client, "SELECT session_user").await.expect("a name");
        value(&session.client, "SET ROLE NONE; ALTER ROLE CURRENT_USER PASSWORD 'mine'")
            .await
            .expect("its own");
        let intruder = past(&walls, &role).await.expect("past the gate");
        value(&intruder, "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'another'")
            .await
            .expect("locked");
        for sql in last.split("; ") {
            assert_eq!(code(&intruder, sql).await, "", "{sql}");
        }
        walls.revoke(&login);
        eventually("it is ended with the grant", async || intruder.is_closed().then_some(())).await;
        walls.empty().await;
        assert_eq!(walls.asks("SELECT count(*) FROM pg_prepared_xacts").await, "0", "{last}");
    }
}

/// What a session gives to a colleague's role, which did not ask for it, does not keep that role.
#[tokio::test(flavor = "multi_thread")]
async fn a_colleagues_role_goes_whatever_it_was_given() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let (other, colleague) = walls.session("read-write").await;
    let role = value(&colleague.client, "SELECT session_user").await.expect("a name");
    for sql in [
        "SELECT lo_create(1)".to_owned(),
        format!("GRANT SELECT ON LARGE OBJECT 1 TO \"{role}\""),
        "SET ROLE NONE".to_owned(),
        "SELECT lo_create(2)".to_owned(),
        format!("GRANT UPDATE ON LARGE OBJECT 2 TO \"{role}\" WITH GRANT OPTION"),
    ] {
        assert_eq!(code(&session.client, &sql).await, "", "{sql}");
    }
    walls.revoke(&other);
    eventually("it is gone", async || (walls.roles().await == "1").then_some(())).await;
    walls.revoke(&login);
    walls.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_ends_who_came_in_past_the_gate() {
    let mut walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let role = value(&session.client, "SELECT session_user").await.expect("a name");
    value(&session.client, "SET ROLE NONE; ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        .await
        .expect("its own");
    let intruder = past(&walls, &role).await.expect("past the gate");
    let backend = value(&intruder, "SELECT pg_backend_pid()").await.expect("a number");
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    let _next = walls.session("read-only").await;
    assert!(
        intruder.simple_query("SELECT 1").await.is_err(),
        "ended before anybody was let in"
    );
    // On record, and the former run's own session is not taken for one.
    let changes = records_of(&walls.gate, &login.grant, "role_changed");
    let intruders: Vec<_> = changes.iter().filter(|record| record["change"] == "intruder_ended").collect();
    let [intruder] = intruders.as_slice() else {
        panic!("{changes:?}")
    };
    let detail = intruder["detail"].as_str().expect("words");
    assert!(
        detail.starts_with(&format!("backend {backend}, found at the gate's start")),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_triggers_and_programs_give_no_rights() {
    let walls = Walls::build().await;
    walls
        .asks("CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw")
        .await;
    let (_, session) = walls.session("read-only").await;
    let port = walls.server.port();
    let folder = walls.server.folder().display().to_string();
    for sql in [
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'".to_owned(),
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE c AS 'libc', 'system'".to_owned(),
        "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION f()".to_owned(),
        "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()".to_owned(),
        "CREATE RULE r AS ON SELECT TO orders DO INSTEAD DELETE FROM orders".to_owned(),
        "CREATE EXTENSION pg_stat_statements".to_owned(),
        "COPY orders TO PROGRAM 'true'".to_owned(),
        "COPY orders TO '/tmp/orders'".to_owned(),
        "COPY (SELECT pan FROM cards) TO STDOUT".to_owned(),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
        "SELECT lo_import('/etc/passwd')".to_owned(),
        "SELECT rolpassword FROM pg_authid".to_owned(),
        "SELECT query_to_xml('SELECT pan FROM cards', true, true, '')".to_owned(),
        "EXPLAIN ANALYZE DELETE FROM orders".to_owned(),
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone".to_owned(),
        "DO 'BEGIN DELETE FROM orders; END'".to_owned(),
        "SET session_replication_role = replica".to_owned(),
        "SET log_statement = 'none'".to_owned(),
        "SELECT pg_reload_conf()".to_owned(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gate'".to_owned(),
        format!("SELECT dblink_connect('host={folder} port={port} dbname=shop user=postgres')"),
        format!("SELECT dblink_connect('host=127.0.0.1 port={port} dbname=shop user=postgres')"),
        format!("SELECT dblink_connect('host=127.0.0.1 port={port} dbname=shop user=colleague password=guess')"),
        "CREATE SERVER back FOREIGN DATA WRAPPER postgres_fdw".to_owned(),
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw".to_owned(),
    ] {
        let refused = code(&session.client, &sql).await;
        // 2F003: `prohibited_sql_statement_attempted` (a password is required); 08001: the server says no to it.
        assert!([NO, "2F003", "08001"].contains(&refused.as_str()), "{sql}: {refused:?}");
    }
    // A function in its own temporary schema runs with its own rights, whatever it says.
    let own = "CREATE FUNCTION pg_temp.g() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS \
         'BEGIN RETURN (SELECT count(pan) FROM cards); END'";
    assert_eq!(code(&session.client, own).await, "");
    assert_eq!(code(&session.client, "SELECT pg_temp.g()").await, NO);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_when_the_grant_is_over() {
    let options = ServerOptions {
        settings: vec![("max_prepared_transactions".to_owned(), "5".to_owned())],
        ..ServerOptions::default()
    };
    let walls = Walls::build_with(&options, "").await;
    let (login, session) = walls.session("read-only").await;
    for (sql, wanted) in [
        ("SELECT pg_create_physical_replication_slot('mine')", NO),
        ("SELECT pg_create_logical_replication_slot('mine', 'test_decoding')", NO),
        ("SELECT pg_advisory_lock(42)", ""),
        ("LISTEN news", ""),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders", ""),
        ("CREATE TEMP TABLE mine (a int)", ""),
        ("SET ROLE NONE", ""),
        ("SELECT lo_create(4711)", ""),
        ("BEGIN; SELECT pg_advisory_xact_lock(43); PREPARE TRANSACTION 'mine'", ""),
        ("BEGIN", ""),
    ] {
        assert_eq!(code(&session.client, sql).await, wanted, "{sql}");
    }
    walls.revoke(&login);
    walls.empty().await;
    for (sql, left) in [
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"),
        ("SELECT count(*) FROM pg_prepared_xacts", "0"),
        ("SELECT count(*) FROM pg_replication_slots", "0"),
        (
            "SELECT lomowner::regrole FROM pg_largeobject_metadata WHERE oid = 4711",
            "\"tg_shop_read-only\"",
        ),
    ] {
        assert_eq!(walls.asks(sql).await, left, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opened_just_before_the_deadline_has_the_same_end() {
    let walls = Walls::build().await;
    let login = walls.grant("read-only", "2s");
    let mut opened = 0;
    while let Ok(session) = suite(&walls.gate, &login).await {
        opened += 1;
        // As some do: it is left to itself.
        tokio::spawn(async move { session.client.simple_query("SELECT pg_sleep(600)").await });
        if opened > 4 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if walls
            .asks("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'gr\\_%'")
            .await
            == "8"
        {
            break;
        }
    }
    assert!(opened > 0);
    walls.empty().await;
}
