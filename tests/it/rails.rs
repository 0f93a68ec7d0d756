//! Guard rails as real clients meet them: the error, its words, what still works after it, what is on record.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidegate::app::Gate;
use tidegate::diagnostics::Diagnostics;
use tidegate::grant::Terms;
use tidegate::lab::{Driver, Shop};
use tidegate::names::ProfileName;
use tidegate::rails::{Rails, Rules};
use tidegate::session::{self, TargetRoom};
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use crate::support::{ANA, TARGET, database, eventually};

/// A gate in this process whose profile `careful` needs a WHERE, may not drop, and does nothing unknown.
struct Careful {
    gate: Gate,
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
        let gate = Gate::start(tidegate::config::load(&path).unwrap(), Diagnostics::default())
            .await
            .unwrap();
        let profile: ProfileName = "careful".parse().unwrap();
        let rules = Rules {
            statements: Some(vec!["!drop".to_owned()]),
            need_where: true,
            refuse_unknown: true,
            ..Rules::default()
        };
        let rails = HashMap::from([(Some(profile.clone()), Arc::new(Rails::new(&rules, profile.clone()).unwrap()))]);
        let before = gate.shared().rules.borrow().clone();
        let target = &TARGET.parse().unwrap();
        let room = &before.targets[target];
        let room = TargetRoom {
            target: Arc::clone(&room.target),
            terminator: room.terminator.clone(),
            roles: None,
            leftovers: room.leftovers.clone(),
            places: Arc::clone(&room.places),
            limit: room.limit,
            show: room.show.clone(),
            rails,
        };
        gate.shared().rules.send_replace(Arc::new(session::Rules {
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

    async fn connect(&self, profile: Option<ProfileName>) -> Driver {
        let (user, password) = self.grant(profile).await;
        let mut config = Config::new();
        config.user(&user).password(&password).dbname(TARGET);
        Driver::connect(self.gate.addresses()[0], &config, false).await.unwrap()
    }
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
    assert!(said.ends_with("there\n") && said.contains(Shop::DATABASE), "{said} {errors}");
    for words in [
        "ERROR:  the guard rails of profile \"careful\" do not allow this statement",
        "DETAIL:  Rule \"need_where\": DELETE without WHERE would change every row.",
        "HINT:  say which rows with WHERE; or ask for another profile (tidegate request)",
    ] {
        assert!(errors.contains(words), "no {words:?} in {errors}");
    }
    careful.gate.stop(Duration::from_secs(30)).await;
}
