//! Every way a login is refused, by the packet the client gets: severity, SQLSTATE, and words a tester understands.

use postgres_protocol::authentication::sasl::ChannelBinding;
use postgres_protocol::message::frontend;
use serde_json::Value;
use tidegate::base::secret::Secret;
use tidegate::demo::testkit::{ServerOptions, TestGate, TestLogin};

use crate::support::{ANA, Plug, Raw, TARGET, database, eventually, gate, gate_before, gate_with, grant, records, start};

/// The record of the last refusal with this ending.
async fn on_record(gate: &TestGate, ending: &str) -> Value {
    eventually("the refusal is on record", async || {
        let mut all = records(gate);
        all.retain(|record| record["event"] == "refused" && record["ending"] == ending);
        all.pop()
    })
    .await
}

/// What a client reads that was refused with exactly these startup parameters, its secret proved if that is asked for.
async fn refused_with(gate: &TestGate, login: &TestLogin, parameters: &[(&str, &str)]) -> crate::support::Told {
    match Raw::connect(gate).await.login_with(login, parameters).await {
        Ok(_) => panic!("let in"),
        Err(told) => told,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_unknown_grant_are_the_same_to_a_stranger() {
    let gate = gate();
    let real = grant(&gate, "10m");
    let wrong = TestLogin {
        grant: real.grant.clone(),
        secret: Secret::new("wrong".to_owned()),
    };
    // The same length, and nobody's: one letter differs.
    let other = if real.grant.ends_with('2') { "3" } else { "2" };
    let unknown = TestLogin {
        grant: format!("{}{other}", &real.grant[..real.grant.len() - 1]),
        secret: Secret::new("wrong".to_owned()),
    };
    let (known, stranger) = (exchange(&gate, &wrong).await, exchange(&gate, &unknown).await);
    assert_eq!(known.1, stranger.1, "message types and lengths");
    let error = String::from_utf8(known.0).expect("text");
    let strange = String::from_utf8(stranger.0).expect("text");
    assert_eq!(error.replace(&wrong.grant, "?"), strange.replace(&unknown.grant, "?"));

    let told = Raw::refused(&gate, &wrong).await;
    told.says(
        "FATAL",
        "28P01",
        &["password authentication failed", &wrong.grant, "grant id"],
    );
    // The salt of a grant nobody has stays the same too: it would give it away otherwise.
    assert_eq!(salt(&gate, &unknown).await, salt(&gate, &unknown).await);
    assert_eq!(salt(&gate, &wrong).await, salt(&gate, &wrong).await);
    let record = on_record(&gate, "bad_secret").await;
    assert_eq!(
        (&record["grant"], &record["identity"]),
        (&Value::Null, &Value::Null),
        "{record}"
    );
}

/// The bytes of the refusal, and the kinds and lengths of all messages up to it.
async fn exchange(gate: &TestGate, login: &TestLogin) -> (Vec<u8>, Vec<(u8, usize)>) {
    let mut raw = Raw::connect(gate).await;
    raw.startup(&[("user", &login.grant), ("database", TARGET)]).await;
    let mut scram = postgres_protocol::authentication::sasl::ScramSha256::new(b"wrong", ChannelBinding::unsupported());
    let mut shape = Vec::new();
    while let Some(frame) = raw.frame().await {
        shape.push((frame.kind, frame.body.len()));
        match (frame.kind, frame.body.get(3)) {
            (b'E', _) => return (frame.body.to_vec(), shape),
            (b'R', Some(10)) => {
                let first = scram.message().to_vec();
                raw.write(|out| frontend::sasl_initial_response("SCRAM-SHA-256", &first, out).expect("fits"))
                    .await;
            }
            (b'R', Some(11)) => {
                scram.update(&frame.body[4..]).expect("a challenge");
                let proof = scram.message().to_vec();
                raw.write(|out| frontend::sasl_response(&proof, out).expect("fits")).await;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("closed without a word")
}

/// The challenge's salt and iteration count.
async fn salt(gate: &TestGate, login: &TestLogin) -> String {
    let mut raw = Raw::connect(gate).await;
    raw.startup(&[("user", &login.grant)]).await;
    raw.until(b'R').await;
    raw.write(|out| frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc", out).expect("fits"))
        .await;
    let challenge = raw.until(b'R').await;
    let text = String::from_utf8(challenge.body[4..].to_vec()).expect("text");
    text.split_once(",s=").expect("a salt").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_are_over_or_for_something_else_say_so_to_who_proves_the_secret() {
    let gate = gate();
    let lapsed = gate.grant(ANA, TARGET, "10m", &["--activate-within", "1s"]).expect("a grant");
    let expired = grant(&gate, "1s");
    let mut last = Raw::session(&gate, &expired).await;

    let login = grant(&gate, "10m");
    let wrong = [("database", "payroll")];
    let told = refused_with(&gate, &login, &wrong).await;
    told.says(
        "FATAL",
        "28000",
        &[
            &login.grant,
            "not for database \"payroll\"",
            "It is for \"shop\"",
            "dbname=shop",
        ],
    );
    // A mistyped name does not start the time.
    let shown = gate.json(&["grant", "show", &login.grant]).expect("the grant");
    assert_eq!(shown["status"], "ready", "{shown}");

    let elsewhere = gate
        .grant(ANA, TARGET, "10m", &["--client-network", "10.9.0.0/16"])
        .expect("a grant");
    let told = Raw::refused(&gate, &elsewhere).await;
    told.says(
        "FATAL",
        "28000",
        &[&elsewhere.grant, "not valid from this address", "network"],
    );
    let record = on_record(&gate, "address_refused").await;
    assert_eq!(record["client"], "127.0.0.1");

    let revoked = grant(&gate, "10m");
    gate.json(&["grant", "revoke", &revoked.grant, "--reason", "mistake"])
        .expect("revoked");
    let told = Raw::refused(&gate, &revoked).await;
    told.says("FATAL", "28000", &[&revoked.grant, "was revoked at 20", "new grant"]);

    last.until(b'E').await;
    let told = Raw::refused(&gate, &expired).await;
    told.says("FATAL", "28000", &[&expired.grant, "ended at 20", "ask for a new grant"]);

    eventually("it has lapsed", async || {
        let shown = gate.json(&["grant", "show", &lapsed.grant]).expect("the grant");
        (shown["status"] == "lapsed").then_some(())
    })
    .await;
    let told = Raw::refused(&gate, &lapsed).await;
    told.says(
        "FATAL",
        "28000",
        &[&lapsed.grant, "has lapsed", "had to be used first by 20", "new grant"],
    );
    let record = on_record(&gate, "lapsed").await;
    assert_eq!(
        (&record["grant"], &record["identity"]),
        (&Value::from(lapsed.grant.as_str()), &Value::from(ANA))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_startup_packet_may_not_hold_is_named() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let told = refused_with(&gate, &login, &[("database", TARGET), ("role", "postgres")]).await;
    told.says(
        "FATAL",
        "42501",
        &["startup parameter \"role\" is not allowed", "leave it out"],
    );
    on_record(&gate, "parameter_refused").await;
    let options = [("database", TARGET), ("options", "-c tidegate.reason=two words")];
    let told = refused_with(&gate, &login, &options).await;
    told.says("FATAL", "42601", &["\"words\" in `options`"]);
    on_record(&gate, "options_unreadable").await;
    let told = refused_with(&gate, &login, &[("database", TARGET), ("replication", "database")]).await;
    told.says(
        "FATAL",
        "42501",
        &["replication connections to \"shop\"", "replication = true"],
    );
    on_record(&gate, "replication_refused").await;
    // A value the target itself refuses: its own words, unchanged.
    let told = refused_with(&gate, &login, &[("database", TARGET), ("datestyle", "upside down")]).await;
    told.says("FATAL", "22023", &["invalid value for parameter \"DateStyle\""]);

    let mut nobody = Raw::connect(&gate).await;
    nobody.startup(&[("database", TARGET)]).await;
    nobody
        .last_word()
        .await
        .0
        .says("FATAL", "28000", &["no user name", "grant id"]);
    let mut old = Raw::connect(&gate).await;
    old.send(&[0, 0, 0, 9, 0, 2, 0, 0, 0]).await;
    old.last_word()
        .await
        .0
        .says("FATAL", "0A000", &["unsupported frontend protocol 2.0", "3.0 to 3.2"]);
    let mut broken = Raw::connect(&gate).await;
    broken.send(b"\0\0\0\x0f\0\x03\0\0user\0xx").await;
    broken.last_word().await.0.says("FATAL", "08P01", &["startup packet"]);
    for ending in ["no_user", "protocol_unsupported", "malformed"] {
        on_record(&gate, ending).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_refused_where_the_operator_says_so_and_a_stripped_binding_is_noticed() {
    let gate = gate_with("[tls]\nplaintext = \"refuse\"\n[limits]\nhandshake_timeout = \"400ms\"\n");
    let login = grant(&gate, "10m");
    let mut clear = Raw::connect(&gate).await;
    clear.startup(&[("user", &login.grant), ("database", TARGET)]).await;
    let (told, before) = clear.last_word().await;
    told.says("FATAL", "28000", &["requires TLS", "sslmode=require"]);
    assert_eq!(before, 0, "nothing of the login takes place in clear");

    // The client could bind to the TLS connection and was told that the gate cannot: somebody stands between.
    let mut stripped = Raw::connect_tls(&gate).await;
    stripped.startup(&[("user", &login.grant), ("database", TARGET)]).await;
    let told = stripped
        .prove(login.secret.expose(), ChannelBinding::unrequested())
        .await
        .expect_err("refused");
    told.says("FATAL", "28000", &["channel binding", "sslmode=verify-full"]);
    on_record(&gate, "binding_failed").await;

    let mut silent = Raw::connect_tls(&gate).await;
    silent
        .last_word()
        .await
        .0
        .says("FATAL", "57014", &["took longer than", "connect again"]);
    let record = on_record(&gate, "handshake_timeout").await;
    assert_eq!(record["sqlstate"], "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_are_told_of_what_and_how_many() {
    let gate = gate_before(database(), "max_sessions = 2", "");
    let single = gate.grant(ANA, TARGET, "10m", &["--max-sessions", "1"]).expect("a grant");
    let many = grant(&gate, "10m");
    let first = Raw::session(&gate, &single).await;
    let told = Raw::refused(&gate, &single).await;
    told.says(
        "FATAL",
        "53300",
        &[
            "too many sessions under grant",
            &single.grant,
            "At most 1 at once",
            "close another",
        ],
    );
    let second = Raw::session(&gate, &many).await;
    let told = Raw::refused(&gate, &many).await;
    told.says("FATAL", "53300", &["too many sessions on \"shop\"", "At most 2 at once"]);

    // Who proves no secret takes no place of those who do.
    let small = gate_with("[limits]\nconnections = 1\n");
    let login = grant(&small, "10m");
    let mut waiting = Raw::connect(&small).await;
    waiting.startup(&[("user", &login.grant)]).await;
    waiting.until(b'R').await;
    let only = Raw::session(&small, &login).await;
    let told = Raw::refused(&small, &login).await;
    told.says("FATAL", "53300", &["no connection slot left", "At most 1 at once"]);

    // A place is free again when its session is over.
    drop((first, second, waiting, only));
    eventually("a place is free", async || Raw::login(&gate, &single).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_or_refuses_us_is_told_without_its_secrets() {
    let shop = start(&ServerOptions::default());
    let plug = Plug::put(shop.server.address()).await;
    let own = |name: &str, address: &str, user: &str| {
        format!(
            "[targets.{name}]\naddress = \"{address}\"\ndatabase = \"shop\"\nuser = \"{user}\"\npassword_file = \"shop.password\"\n"
        )
    };
    let address = shop.server.address().to_string();
    let config = own("plugged", &plug.address().to_string(), "shop_app") + &own("stranger", &address, "nobody_here");
    let gate = TestGate::start(crate::support::binary(), &config, &[shop.shop.password_file()]).expect("a gate");
    let named = |target: &str| gate.grant(ANA, target, "10m", &[]).expect("a grant");

    let login = named("stranger");
    let told = refused_with(&gate, &login, &[]).await;
    told.says(
        "FATAL",
        "08006",
        &["database \"stranger\" does not let the gate in", "operator"],
    );
    let said = format!("{told:?}");
    assert!(!said.contains("nobody_here") && !said.contains(&address), "{said}");
    let record = on_record(&gate, "target_refused").await;
    assert!(
        record["detail"].as_str().is_some_and(|detail| detail.contains("28P01")),
        "{record}"
    );

    // Lost in the middle of a session: the client gets the reason, not just an end.
    let login = named("plugged");
    let mut session = match Raw::connect(&gate).await.login_with(&login, &[]).await {
        Ok(session) => session,
        Err(told) => panic!("{told:?}"),
    };
    session.query("SELECT pg_sleep(60)").await;
    eventually("it runs", async || crate::support::active(&shop, "pg_sleep(60)").await.pop()).await;
    plug.pull().await;
    let (told, _) = session.last_word().await;
    told.says("FATAL", "08006", &["connection to database \"plugged\" was lost"]);

    let told = refused_with(&gate, &login, &[]).await;
    told.says(
        "FATAL",
        "08001",
        &["database \"plugged\" cannot be reached", "the gate is up"],
    );
    assert!(!format!("{told:?}").contains("127.0.0.1"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_lets_nobody_in() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let store = rusqlite::Connection::open(gate.folder().join("state/ledger.sqlite")).expect("the store");
    store.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let told = Raw::refused(&gate, &login).await;
    told.says("FATAL", "58030", &["cannot read or write its grants", "operator"]);
    on_record(&gate, "ledger_failed").await;
    store.execute_batch("ROLLBACK").expect("the lock is gone");
    Raw::session(&gate, &login).await;
}
