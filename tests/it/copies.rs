//! Databases of grants: each a copy of a template, made at the first connect, shared by the sessions of its grant, and gone with it.

use std::time::Duration;

use tidegate::demo::testkit::{DriverConnection, ServerOptions, TestLogin};

use crate::support::{
    ACCOUNT, Random, Raw, Told, Walls, code, counted, eventually, records_of, roles_gate_before, seed, suite, trials, value,
};

/// A profile whose grants work in copies of the template.
const SANDBOX: &str = "
[targets.shop.profiles.sandbox]
copy_of = \"shop_golden\"
select = [\"public.*\"]
insert = [\"public.*\"]
update = [\"public.*\"]
create = [\"public\"]
";
const COPIES: &str = "SELECT count(*) FROM pg_database WHERE datname LIKE 'gr\\_%'";

async fn superuser(walls: &Walls, sql: &str) {
    let client = walls.server.client("postgres").await.expect("a connection");
    client
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Without the right to make databases, and with a template that nobody has closed.
async fn bare(more: &str) -> Walls {
    let walls = Walls::build_with(&ServerOptions::default(), &format!("{SANDBOX}{more}")).await;
    eventually("the template is there", async || {
        let client = walls.server.client("postgres").await.ok()?;
        // The gate looks at the target's database every few seconds.
        client.batch_execute("CREATE DATABASE shop_golden TEMPLATE shop").await.ok()
    })
    .await;
    std::fs::write(walls.gate.folder().join("owner.password"), walls.server.password().expose()).expect("a file");
    let password = walls.gate.folder().join("owner.password");
    let apply = [
        "target",
        "apply",
        "shop",
        "--database",
        "shop_golden",
        "--user",
        "postgres",
        "--password-file",
        password.to_str().expect("UTF-8"),
    ];
    let output = walls.gate.command(&apply).expect("the command");
    assert!(output.status.success(), "{output:?}");
    superuser(&walls, "ALTER DATABASE shop_golden SET search_path = public, pg_catalog").await;
    superuser(&walls, "ALTER DATABASE shop_golden SET temp_tablespaces = ''").await;
    walls
}

async fn walls(more: &str) -> Walls {
    let walls = bare(more).await;
    superuser(&walls, "ALTER ROLE gate CREATEDB").await;
    superuser(
        &walls,
        "ALTER DATABASE shop_golden WITH IS_TEMPLATE true ALLOW_CONNECTIONS false",
    )
    .await;
    walls
}

/// Waits until there is no database of a grant and no role of one.
async fn nothing_left(walls: &Walls) {
    eventually("no database is left", async || {
        (walls.asks(COPIES).await == "0").then_some(())
    })
    .await;
    walls.empty().await;
}

async fn says(session: &DriverConnection, sql: &str) -> String {
    value(&session.client, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

/// The changes of the grant's database on record.
fn changes(walls: &Walls, login: &TestLogin) -> Vec<String> {
    let records = records_of(&walls.gate, &login.grant, "copy_changed");
    records
        .iter()
        .map(|record| record["change"].as_str().expect("a change").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_has_a_database_of_its_own_and_none_after() {
    let walls = walls("").await;
    let (login, session) = walls.session("sandbox").await;
    let copy = says(&session, "SELECT current_database()").await;
    assert!(copy.starts_with(&format!("{}_lg_", login.grant)), "{copy}");
    assert_eq!(says(&session, "SELECT count(*) FROM orders").await, "2");
    assert_eq!(says(&session, "SHOW search_path").await, "public, pg_catalog");
    session
        .client
        .batch_execute("INSERT INTO orders VALUES (3, 30); CREATE TABLE notes (a int); CREATE TEMP TABLE t (a int)")
        .await
        .expect("its own to change");
    assert_eq!(
        code(&session.client, "DELETE FROM orders").await,
        "42501",
        "the rights are the profile's"
    );
    let second = suite(&walls.gate, &login).await.expect("a second session of the grant");
    assert_eq!(says(&second, "SELECT current_database()").await, copy);
    assert_eq!(says(&second, "SELECT count(*) FROM orders").await, "3");

    let (other, colleague) = walls.session("sandbox").await;
    assert_eq!(says(&colleague, "SELECT count(*) FROM orders").await, "2");
    assert_ne!(says(&colleague, "SELECT current_database()").await, copy);
    assert_eq!(
        walls.asks("SELECT count(*) FROM orders").await,
        "2",
        "the target's own is as it was"
    );
    let may = format!("SELECT has_database_privilege('colleague', '{copy}', 'CONNECT')");
    assert_eq!(walls.asks(&may).await, "f");
    let may = format!("SELECT has_database_privilege(session_user, '{copy}', 'CONNECT')");
    assert_eq!(says(&colleague, &may).await, "f", "not even another grant of the profile");

    let status = walls.gate.json(&["target", "status", "shop"]).expect("a status");
    assert_eq!(status["copies"].as_array().expect("copies").len(), 2, "{status}");
    assert!(status["copies"][0]["bytes"].as_u64().expect("a size") > 0);
    let shown = walls.gate.command(&["target", "status", "shop"]).expect("the command");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&copy) && shown.contains("Databases of grants: 2 now; 2 made and 0 dropped"),
        "{shown}"
    );
    assert!((counted(&walls.gate, "tidegate_copies{target=\"shop\"}") - 2.0).abs() < f64::EPSILON);
    let started = records_of(&walls.gate, &login.grant, "session_started");
    assert!(started.iter().all(|record| record["copy"] == copy.as_str()), "{started:?}");

    walls.revoke(&other);
    eventually("one is gone", async || (walls.asks(COPIES).await == "1").then_some(())).await;
    assert_eq!(says(&second, "SELECT count(*) FROM orders").await, "3", "the other goes on");
    walls.revoke(&login);
    nothing_left(&walls).await;
    eventually("its end is on record", async || {
        (changes(&walls, &login) == ["made", "ready", "dropped"]).then_some(())
    })
    .await;
    // Ordinary profiles are in the target's own database.
    let (_, plain) = walls.session("read-only").await;
    assert_eq!(says(&plain, "SELECT current_database()").await, "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_in_use_is_waited_for_and_not_for_ever() {
    let walls = bare("[access]\nlogin_notice = \"1s\"\n").await;
    superuser(
        &walls,
        "ALTER ROLE gate CREATEDB; ALTER DATABASE shop_golden WITH IS_TEMPLATE true",
    )
    .await;
    let busy = walls.server.client("shop_golden").await.expect("a connection");
    let login = walls.grant("sandbox", "10m");
    let (mut raw, notice) = Raw::waiting(&walls.gate, &login).await;
    notice.says("NOTICE", "01000", &["shop_golden", &login.grant]);
    loop {
        let notice = raw.until(b'N').await;
        if Told::read(&notice.body).message.contains("is in use") {
            break;
        }
    }
    drop(busy);
    raw.until(b'Z').await;
    drop(raw);
    walls.revoke(&login);

    let _busy = walls.server.client("shop_golden").await.expect("a connection");
    let login = walls.grant("sandbox", "10m");
    let (mut raw, _) = Raw::waiting(&walls.gate, &login).await;
    raw.until(b'E').await;
    let record = eventually("it is on record", async || {
        records_of(&walls.gate, &login.grant, "refused").pop()
    })
    .await;
    assert_eq!(
        (&record["ending"], &record["sqlstate"]),
        (&"template_in_use".into(), &"55006".into())
    );
    assert_eq!(changes(&walls, &login), ["made", "not_made"]);
    let check = walls.gate.command(&["check"]).expect("the command");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        said.contains("ALTER DATABASE \"shop_golden\" WITH ALLOW_CONNECTIONS false"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_mended_without_a_restart() {
    let walls = bare("").await;
    let login = walls.grant("sandbox", "10m");
    Raw::refused(&walls.gate, &login).await.says(
        "FATAL",
        "08006",
        &["no copy of \"shop_golden\" could be made", "tidegate check"],
    );
    let check = walls.gate.command(&["check"]).expect("the command");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    for remedy in [
        format!("ALTER ROLE \"{ACCOUNT}\" CREATEDB"),
        "ALTER DATABASE \"shop_golden\" WITH IS_TEMPLATE true".to_owned(),
    ] {
        assert!(said.contains(&remedy), "{remedy} not in {said}");
    }
    superuser(
        &walls,
        "ALTER ROLE gate CREATEDB; ALTER DATABASE shop_golden WITH IS_TEMPLATE true",
    )
    .await;
    suite(&walls.gate, &login).await.expect("a session, now");
    superuser(&walls, "ALTER DATABASE shop_golden WITH IS_TEMPLATE false").await;
    superuser(&walls, "DROP DATABASE shop_golden").await;
    let second = walls.grant("sandbox", "10m");
    Raw::refused(&walls.gate, &second)
        .await
        .says("FATAL", "3D000", &["The template does not exist"]);
    // What was there goes on.
    suite(&walls.gate, &login).await.expect("a session in its copy");
    // One that somebody drops is made again, where it can be.
    superuser(&walls, "CREATE DATABASE shop_golden TEMPLATE template0").await;
    superuser(&walls, "ALTER DATABASE shop_golden WITH IS_TEMPLATE true").await;
    let copy = walls
        .asks("SELECT datname FROM pg_database WHERE datname LIKE 'gr\\_%'")
        .await;
    superuser(&walls, &format!("DROP DATABASE \"{copy}\" WITH (FORCE)")).await;
    suite(&walls.gate, &login).await.expect("a session in a new copy");
    walls.revoke(&login);
    walls.revoke(&second);
    nothing_left(&walls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn their_number_is_limited() {
    let walls = walls("").await;
    let config = walls.gate.config_file();
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, text.replacen("user = \"gate\"", "user = \"gate\"\ncopies = 1", 1)).expect("written");
    let reload = walls.gate.command(&["reload"]).expect("the command");
    assert!(reload.status.success(), "{reload:?}");
    let (login, _session) = walls.session("sandbox").await;
    let second = walls.grant("sandbox", "10m");
    Raw::refused(&walls.gate, &second).await.says(
        "FATAL",
        "53300",
        &[
            "too many grants have a database of their own on \"shop\"",
            "At most 1 at once",
        ],
    );
    walls.revoke(&login);
    eventually("there is room", async || suite(&walls.gate, &second).await.ok().map(drop)).await;
}

/// What a tester has there outlives the gate, in order or not, and another gate leaves it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_it_and_no_other_gate_drops_it() {
    let mut walls = walls("").await;
    let (login, session) = walls.session("sandbox").await;
    let copy = says(&session, "SELECT current_database()").await;
    session
        .client
        .batch_execute("INSERT INTO orders VALUES (3, 30)")
        .await
        .expect("a row");
    let another = roles_gate_before(&walls.server, SANDBOX);
    let status = another.json(&["target", "status", "shop"]).expect("a status");
    assert_eq!(
        (&status["elsewhere"], &status["copies"]),
        (&1.into(), &serde_json::Value::Null),
        "{status}"
    );
    drop(session);
    walls.gate.terminate().expect("SIGTERM");
    eventually("it has stopped", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    let session = suite(&walls.gate, &login).await.expect("a session");
    assert_eq!(says(&session, "SELECT count(*) FROM orders").await, "3");
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    let session = suite(&walls.gate, &login).await.expect("a session");
    assert_eq!(says(&session, "SELECT current_database()").await, copy);
    assert_eq!(says(&session, "SELECT count(*) FROM orders").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_no_gate_runs_is_dropped_by_the_next() {
    let mut walls = walls("").await;
    let login = walls.grant("sandbox", "8s");
    let _session = suite(&walls.gate, &login).await.expect("a session");
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    eventually("its window is over", async || {
        let over = format!(
            "SELECT rolvaliduntil < now() FROM pg_roles WHERE rolname LIKE '{}\\_%'",
            login.grant
        );
        (walls.asks(&over).await == "t").then_some(())
    })
    .await;
    assert_eq!(walls.asks(COPIES).await, "1");
    walls.gate.start_again().expect("a gate");
    nothing_left(&walls).await;
}

/// `TIDEGATE_COPY_KILLS` sets how often; each time three copies are being made, used or dropped.
#[tokio::test(flavor = "multi_thread")]
async fn no_kill_leaves_a_database() {
    let mut walls = walls("").await;
    let seed = seed();
    let mut random = Random::new(seed);
    let rounds = trials("TIDEGATE_COPY_KILLS", 3);
    let mut made = 0;
    for round in 0..rounds {
        let logins: Vec<TestLogin> = (0..3)
            .map(|n| walls.grant_of(&format!("job-{round}-{n}"), "sandbox", "10m"))
            .collect();
        made += logins.len();
        let address = walls.gate.address();
        let connecting = logins.iter().map(|login| {
            let mut config = tokio_postgres::Config::new();
            config.user(&login.grant).password(login.secret.expose()).dbname("shop");
            tokio::spawn(async move { DriverConnection::connect(address, &config, true).await.map(drop) })
        });
        let connecting: Vec<_> = connecting.collect();
        // At any moment of the making.
        tokio::time::sleep(Duration::from_millis(u64::try_from(random.below(700)).expect("few"))).await;
        if round % 2 == 1 {
            // Those that are there are being dropped.
            for login in &logins {
                walls.gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
            }
        }
        walls.gate.kill().expect("kill -9");
        for login in connecting {
            let _ = login.await.expect("no panic");
        }
        eventually("it is dead", async || walls.gate.ended().then_some(())).await;
        walls.gate.start_again().expect("a gate");
        for login in logins.iter().filter(|_| round % 2 == 0) {
            // Whatever is there of it is completed, or made anew.
            let session = suite(&walls.gate, login).await.expect("a session");
            assert_eq!(says(&session, "SELECT count(*) FROM orders").await, "2");
            drop(session);
            walls.gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
        }
    }
    nothing_left(&walls).await;
    println!("{made} copies in {rounds} kills (seed {seed}): none is left");
}
