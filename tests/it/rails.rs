//! Guard rails as real clients meet them: the error, its words, what still works after it, what is on record.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidegate::app::RunningGate;
use tidegate::base::diagnostics::Diagnostics;
use tidegate::demo::testkit::{DriverConnection, ShopFixture};
use tidegate::gate::session::{self, TargetState};
use tidegate::gate::sql_filter::{FilterRules, SqlFilter};
use tidegate::model::grant::Terms;
use tidegate::model::names::ProfileName;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use crate::support::{ANA, TARGET, database, eventually};

/// A gate in this process whose profile `careful` needs a WHERE, may not drop, and does nothing unknown.
struct Careful {
    gate: RunningGate,
    folder: tempfile::TempDir,
    profile: ProfileName,
}

impl Careful {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shop = &database().shop;
        let (name, password) = shop.password_file();
        std::fs::write(folder.path().join(name), password).unwrap();
        let head = "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n";
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, format!("{head}{}", shop.target_table(TARGET, ""))).unwrap();
        let gate = RunningGate::start(tidegate::config::load(&path).unwrap(), Diagnostics::default())
            .await
            .unwrap();
        let profile: ProfileName = "careful".parse().unwrap();
        let rules = FilterRules {
            statements: Some(vec!["!drop".to_owned()]),
            need_where: true,
            refuse_unknown: true,
            refuse_unloggable: true,
            ..FilterRules::default()
        };
        let rails = HashMap::from([(
            Some(profile.clone()),
            Arc::new(SqlFilter::new(&rules, profile.clone()).unwrap()),
        )]);
        let before = gate.shared().rules.borrow().clone();
        let target = &TARGET.parse().unwrap();
        let room = &before.targets[target];
        let room = TargetState {
            target: Arc::clone(&room.target),
            terminator: room.terminator.clone(),
            changes: None,
            roles: None,
            leftovers: room.leftovers.clone(),
            places: Arc::clone(&room.places),
            limit: room.limit,
            show: room.show.clone(),
            rails,
            masked: HashMap::new(),
        };
        gate.shared().rules.send_replace(Arc::new(session::SessionRules {
            frontend: before.frontend.clone(),
            session: before.session.clone(),
            targets: HashMap::from([(target.clone(), Arc::new(room))]),
        }));
        Self { gate, folder, profile }
    }

    /// User and password of a grant under this profile.
    async fn grant(&self, profile: Option<ProfileName>) -> (String, String) {
        let terms = Terms {
            identity: ANA.parse().unwrap(),
            target: TARGET.parse().unwrap(),
            reason: None,
            window: Duration::from_mins(10),
            activate_within: Duration::from_mins(10),
            deadline: None,
            max_sessions: 5,
            client_network: None,
            profile,
            request: None,
        };
        let (grant, secret) = self.gate.shared().ledger.create(terms, "test").await.unwrap();
        (grant.id().to_string(), secret.expose().clone())
    }

    async fn connect(&self, profile: Option<ProfileName>) -> DriverConnection {
        self.connect_with(profile, "").await
    }

    async fn connect_with(&self, profile: Option<ProfileName>, options: &str) -> DriverConnection {
        let (user, password) = self.grant(profile).await;
        let mut config = Config::new();
        config.user(&user).password(&password).dbname(TARGET).options(options);
        DriverConnection::connect(self.gate.addresses()[0], &config, false)
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_no_room_for_is_refused() {
    let careful = Careful::start().await;
    let driver = careful.connect(Some(careful.profile.clone())).await;
    let client = &driver.client;
    let value = "x".repeat(200_000);
    for length in [70_000, 200_000] {
        let error = client
            .batch_execute(&format!("SELECT '{}'", &value[..length]))
            .await
            .unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
        // What cannot be read at all is refused for that.
        let rule = if length > 128 << 10 { "unknown" } else { "refuse_unloggable" };
        assert!(error.detail().is_some_and(|detail| detail.contains(rule)), "{error:?}");
    }
    let row = client.query_one("SELECT length($1::text)", &[&value]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 200_000, "a bound value may be of any length");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_is_refused_a_statement_and_goes_on() {
    let careful = Careful::start().await;
    let mut driver = careful.connect(Some(careful.profile.clone())).await;
    let client = &mut driver.client;
    client
        .batch_execute("CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        .await
        .unwrap();
    for sql in ["DELETE FROM t", "DROP TABLE t", "DO $$BEGIN END$$"] {
        for error in [
            client.batch_execute(sql).await.unwrap_err(),
            client.execute(sql, &[]).await.unwrap_err(),
        ] {
            let error = error.as_db_error().unwrap();
            assert_eq!(
                (error.severity(), error.code()),
                ("ERROR", &SqlState::INSUFFICIENT_PRIVILEGE),
                "{sql}"
            );
            assert!(error.message().contains("guard rails of profile \"careful\""), "{error:?}");
            assert!(error.detail().unwrap().starts_with("Rule \""), "{error:?}");
            assert!(error.hint().unwrap().contains("tidegate request"), "{error:?}");
        }
    }
    // A transaction fails as with any error.
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES ($1)", &[&3_i32]).await.unwrap();
    transaction.execute("UPDATE t SET n = $1", &[&4_i32]).await.unwrap_err();
    let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    // Pipelined: what was asked for at once.
    let before = client.prepare("SELECT n FROM t").await.unwrap();
    let (rows, refused, more) = tokio::join!(
        client.query(&before, &[]),
        client.prepare("DELETE FROM t"),
        client.query(&before, &[])
    );
    assert_eq!((rows.unwrap().len(), more.unwrap().len()), (2, 2));
    assert_eq!(refused.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    client.execute("DELETE FROM t WHERE n = 1", &[]).await.unwrap();
    // Another profile has no rails, nor has a grant without one.
    let other = careful.connect(None).await;
    other
        .client
        .batch_execute("CREATE TEMP TABLE t (n int); DELETE FROM t; DROP TABLE t")
        .await
        .unwrap();
    let rules = eventually("the refusals are on record", async || {
        let records = tidegate::audit::read(
            &careful.folder.path().join("state/audit"),
            &tidegate::audit::Filter::default(),
        )
        .ok()?;
        let outcomes = records.filter_map(|record| serde_json::to_value(record.ok()?.event).ok());
        let rules: Vec<String> = outcomes
            .filter_map(|event| Some(event["rule"].as_str()?.to_owned()))
            .collect();
        (rules.len() >= 8).then_some(rules)
    })
    .await;
    assert_eq!(
        rules,
        [
            "need_where",
            "need_where",
            "statements",
            "statements",
            "unknown",
            "unknown",
            "need_where",
            "need_where"
        ]
    );
    let metrics = careful.gate.shared().metrics.text();
    for (rule, count) in [("need_where", 4), ("statements", 2), ("unknown", 2)] {
        let line = format!("tidegate_rail_refusals_total{{target=\"{TARGET}\",profile=\"careful\",rule=\"{rule}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} not in {metrics}");
    }
    drop((driver, other));
    careful.gate.stop(Duration::from_secs(30)).await;
}

/// Whatever a literal looks like at first sight, and whatever the session's settings are.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_judged_as_the_target_reads_them() {
    // A function of PostgreSQL's own that runs a text: rails do not see what is in it.
    const TURNS_OFF: &str =
        "SELECT query_to_xml('SELECT set_config(''standard_conforming_strings'', ''off'', false)', true, true, '')";
    const ESCAPED: &str = r"SELECT '\', '; DELETE FROM t; --'";
    let careful = Careful::start().await;
    let refusal = |result: Result<(), tokio_postgres::Error>| {
        let error = result.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
        error.detail().unwrap().split('"').nth(1).unwrap().to_owned()
    };
    let driver = careful.connect(Some(careful.profile.clone())).await;
    let client = &driver.client;
    client
        .batch_execute("CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        .await
        .unwrap();
    let continued = client.batch_execute("SELECT E'a'\n'b\\''; DELETE FROM t; --'").await;
    assert_eq!(refusal(continued), "need_where");
    for sql in ["SELECT * FROM t FOR NO KEY UPDATE", "TABLE t", "SELECT (t).* FROM t", ESCAPED] {
        client.batch_execute(sql).await.unwrap();
    }
    // Pipelined, it is not known; once it is answered, the text is read as it is meant.
    let (turned, behind) = tokio::join!(client.batch_execute(TURNS_OFF), client.batch_execute(ESCAPED));
    turned.unwrap();
    assert!(["unknown", "need_where"].contains(&refusal(behind).as_str()));
    eventually("what was answered is known", async || {
        (refusal(client.batch_execute(ESCAPED).await) == "need_where").then_some(())
    })
    .await;
    let left = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 2);
    // What comes with the startup packet is followed from the first text on.
    let escaping = careful
        .connect_with(Some(careful.profile.clone()), "-c standard_conforming_strings=off")
        .await;
    assert_eq!(refusal(escaping.client.batch_execute(ESCAPED).await), "need_where");
    drop((driver, escaping));
    careful.gate.stop(Duration::ZERO).await;
}

/// What a text was read under is on record with it, so that the log is read in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_found_as_the_target_read_them() {
    let careful = Careful::start().await;
    let driver = careful.connect(None).await;
    driver
        .client
        .batch_execute("CREATE TEMP TABLE read_thus (n int); CREATE TEMP TABLE read_so (n int)")
        .await
        .unwrap();
    let off = r"SELECT '\', '; DELETE FROM read_thus; --'";
    for sql in [
        off,
        "SET standard_conforming_strings = off",
        off,
        "SELECT * FROM U&\"read\\005fso\"",
        "SELECT E'a'\n'b\\'' FROM read_so; --'",
    ] {
        driver.client.batch_execute(sql).await.unwrap();
    }
    drop(driver);
    let found = |table: &str| {
        let filter = tidegate::audit::Filter {
            table: Some(table.parse().unwrap()),
            ..tidegate::audit::Filter::default()
        };
        let records = tidegate::audit::read(&careful.folder.path().join("state/audit"), &filter).ok()?;
        let events = records.filter_map(|record| serde_json::to_value(record.ok()?.event).ok());
        let statements = events.filter(|event| event["event"] == "statement" && event["sql"]["text"] != serde_json::Value::Null);
        Some(statements.map(|event| event["sql"].clone()).skip(1).collect::<Vec<_>>())
    };
    let thus = eventually("all of it is on record", async || {
        let so = found("read_so")?;
        (so.len() == 2).then(|| found("read_thus"))?
    })
    .await;
    assert_eq!(
        thus,
        [serde_json::json!({ "text": off, "scs": "off" })],
        "only the second of the two"
    );
    careful.gate.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_what_to_do() {
    let careful = Careful::start().await;
    let (user, password) = careful.grant(Some(careful.profile.clone())).await;
    let port = careful.gate.addresses()[0].port();
    let program = database().server.binaries().tool("psql").unwrap();
    let script = "BEGIN; DELETE FROM nothing;\nSELECT 'here';\nROLLBACK;\nSELECT 'there'";
    let psql = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args(["--no-psqlrc", "-At", "-c", "\\conninfo"])
            .args(script.lines().flat_map(|line| ["-c", line]))
            .args([
                "--dbname",
                &format!("host=127.0.0.1 port={port} dbname={TARGET} user={user} sslmode=disable"),
            ])
            .env("PGPASSWORD", password)
            .output()
            .unwrap()
    });
    let output = psql.await.unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        said.ends_with("there\n") && said.contains(ShopFixture::DATABASE),
        "{said} {errors}"
    );
    for words in [
        "ERROR:  the guard rails of profile \"careful\" do not allow this statement",
        "DETAIL:  Rule \"need_where\": DELETE without WHERE would change every row.",
        "HINT:  say which rows with WHERE; or ask for another profile (tidegate request)",
    ] {
        assert!(errors.contains(words), "no {words:?} in {errors}");
    }
    careful.gate.stop(Duration::from_secs(30)).await;
}
