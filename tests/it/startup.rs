//! What a client says in its startup packet, and what it is told of it: settings, spellings of a profile, its name, the welcome.

use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate::demo::testkit::{ServerOptions, ShopFixture, TestGate, TestLogin};

use crate::support::{
    ANA, Frame, House, Raw, TARGET, Told, Walls, binary, database, ended, eventually, gate, gate_before, grant, records_of, said,
    start,
};

/// The login's notices, and the session.
async fn let_in(gate: &TestGate, login: &TestLogin, parameters: &[(&str, &str)]) -> (Vec<Told>, Raw) {
    let mut raw = Raw::connect(gate).await;
    let all = [&[("user", login.grant.as_str())], parameters].concat();
    raw.startup(&all).await;
    let proved = raw
        .prove(
            login.secret.expose(),
            postgres_protocol::authentication::sasl::ChannelBinding::unsupported(),
        )
        .await;
    proved.unwrap_or_else(|told| panic!("refused: {told:?}"));
    let mut notices = Vec::new();
    loop {
        match raw.frame().await {
            Some(Frame { kind: b'Z', .. }) => return (notices, raw),
            Some(Frame { kind: b'N', body }) => notices.push(Told::read(&body)),
            Some(Frame { kind: b'E', body }) => panic!("refused: {:?}", Told::read(&body)),
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
}

/// The first value that a query gives.
async fn asked(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql).await;
    let row = raw.until(b'D').await;
    raw.until(b'Z').await;
    String::from_utf8(row.body[6..].to_vec()).expect("text")
}

async fn refused(gate: &TestGate, login: &TestLogin, parameters: &[(&str, &str)]) -> Told {
    match Raw::connect(gate).await.login_with(login, parameters).await {
        Ok(_) => panic!("let in"),
        Err(told) => told,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_may_set_may_come_with_its_startup_packet() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let settings = [
        ("client_min_messages", "warning"),
        ("jit", "off"),
        ("work_mem", "5MB"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("row_security", "off"),
        ("bytea_output", "escape"),
        ("statement_timeout", "0"),
        ("standard_conforming_strings", "off"),
        ("app.tenant", "7"),
    ];
    let packet = [&[("database", TARGET)], &settings[..]].concat();
    let (_, mut raw) = let_in(&gate, &login, &packet).await;
    let written: Vec<String> = settings.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    let written = written.join(" ");
    let (_, mut by_options) = let_in(&gate, &login, &[("database", TARGET), ("options", &written)]).await;
    for (name, value) in settings {
        let show = format!("SHOW {name}");
        assert_eq!(asked(&mut raw, &show).await, value, "{name}");
        assert_eq!(asked(&mut by_options, &show).await, value, "{name} in options");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_refused_by_its_own_name_and_for_the_true_reason() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let options = |options: &'static str| [("database", TARGET), ("options", options)];
    // What only superusers may set: the server's own words.
    let told = refused(&gate, &login, &options("-c session_preload_libraries=x")).await;
    told.says(
        "FATAL",
        "42501",
        &["permission denied to set parameter \"session_preload_libraries\""],
    );
    let told = refused(&gate, &login, &options("-c no_such_setting=x")).await;
    told.says(
        "FATAL",
        "42704",
        &["unrecognized configuration parameter \"no_such_setting\""],
    );
    let told = refused(&gate, &login, &options("-c max_connections=7")).await;
    told.says("FATAL", "55P02", &["\"max_connections\""]);
    // What is the gate's to say.
    let told = refused(&gate, &login, &options("-c session_authorization=postgres")).await;
    told.says(
        "FATAL",
        "42501",
        &["\"session_authorization\" is not allowed", "role of its grant"],
    );
    let told = refused(&gate, &login, &options("-c tcp_keepalives_idle=0")).await;
    told.says("FATAL", "42501", &["\"tcp_keepalives_idle\"", "The gate sets it itself"]);
    // A server would read these as fields of the packet: another connection than the one that was let in.
    for (packet, name) in [
        ("-c replication=true", "replication"),
        ("-c options=-crole=postgres", "options"),
        ("-c user=postgres", "user"),
        ("-c DATABASE=postgres", "DATABASE"),
    ] {
        let told = refused(&gate, &login, &options(packet)).await;
        told.says(
            "FATAL",
            "42704",
            &[&format!("\"{name}\" is not allowed"), "field of the startup packet"],
        );
    }
    let told = refused(&gate, &login, &options("-c tidegate.reason=fix the totals")).await;
    told.says(
        "FATAL",
        "42601",
        &["\"the\" in `options`", r"a space in options is written `\ `"],
    );
    let told = refused(&gate, &login, &options("-d 5")).await;
    told.says("FATAL", "42601", &["switch \"-d\"", "-c name=value"]);
    let told = refused(&gate, &login, &options("-c jit")).await;
    told.says("FATAL", "42601", &["\"jit\" in `options` is not name=value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_named_in_every_spelling_and_a_target_by_its_own_name_first() {
    let dotted = database()
        .shop
        .target_table("\"shop.read-only\"", "profiles = [\"read-only\"]\n");
    let house = House::open(&[("ana", "qa")], &dotted, &[]).await;
    let sql = "SELECT current_database()";
    let psql = async |dbname: &str, options: &str| {
        let options = format!(r"-c tidegate.reason=bug\ 17 {options}");
        said(crate::support::psql_as(
            &house.gate,
            "ana",
            house.token("ana"),
            dbname,
            &options,
            sql,
        ))
        .await
    };
    for (dbname, options) in [
        ("shop/read-only", ""),
        ("shop%2Fread-only", ""),
        ("shop", "-c tidegate.profile=read-only"),
    ] {
        let said = psql(dbname, options).await;
        assert_eq!(said.output, "shop\n", "{dbname}: {said:?}");
        assert!(!said.errors.contains("waits"), "{said:?}");
    }
    let granted = |grants: Vec<Value>| -> Vec<String> {
        let of = |grant: &Value| format!("{} {}", grant["target"], grant["profile"]);
        grants.iter().map(of).collect()
    };
    assert_eq!(granted(house.grants().await), ["\"shop\" \"read-only\""]);
    // The one is a target of its own, the other a profile of the shop; neither is let in at once, which is how they can be told.
    for dbname in ["shop.read-only", "shop.read-write"] {
        let said = psql(dbname, "-c tidegate.wait=0").await;
        assert!(said.errors.contains("has to be approved first"), "{said:?}");
    }
    let pending = house
        .call("operator", "GET", "/v1/requests?status=pending", &Value::Null)
        .await
        .good();
    let mut asked_for: Vec<_> = pending["requests"]
        .as_array()
        .expect("requests")
        .iter()
        .map(|request| {
            let of = |key: &str| request[key].as_str().expect("a name").to_owned();
            (of("target"), of("profile"))
        })
        .collect();
    asked_for.sort();
    let expected = [("shop", "read-write"), ("shop.read-only", "read-only")];
    assert_eq!(
        asked_for,
        expected.map(|(target, profile)| (target.to_owned(), profile.to_owned()))
    );

    // With a grant's secret as well; there its database may also be called as the server calls it.
    let login = house
        .gate
        .grant(ANA, TARGET, "10m", &["--profile", "read-only"])
        .expect("a grant");
    for dbname in ["shop", "shop/read-only", "shop%2fread-only"] {
        let (_, mut raw) = let_in(&house.gate, &login, &[("database", dbname)]).await;
        assert_eq!(asked(&mut raw, sql).await, "shop", "{dbname}");
    }
    for dbname in ["shop.read-only", "shop.read-write"] {
        let told = refused(&house.gate, &login, &[("database", dbname)]).await;
        assert_eq!(told.code, "28000", "{dbname}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_also_called_as_its_database_is() {
    let table = database().shop.target_table("\"qa.shop\"", "profiles = [\"reader\"]\n");
    let gate = TestGate::start(binary(), &table, &[database().shop.password_file()]).expect("a gate");
    let login = gate.grant(ANA, "qa.shop", "10m", &["--profile", "reader"]).expect("a grant");
    for dbname in ["qa.shop", "qa.shop.reader", "qa.shop/reader", "shop", "shop.reader"] {
        let (_, mut raw) = let_in(&gate, &login, &[("database", dbname)]).await;
        assert_eq!(asked(&mut raw, "SELECT current_database()").await, "shop", "{dbname}");
    }
    let told = refused(&gate, &login, &[("database", "qa.shop.writer")]).await;
    told.says("FATAL", "28000", &["not for profile \"writer\"", "dbname=qa.shop.reader"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_application_name_is_no_news_and_the_grant_stays_to_be_seen() {
    let gate = gate_before(database(), "", "[session]\nwelcome = false\n");
    let login = grant(&gate, "10m");
    // Cut within a character, as it would come out.
    for name in ["n".repeat(60), "ä".repeat(40)] {
        let (notices, mut raw) = let_in(&gate, &login, &[("database", TARGET), ("application_name", &name)]).await;
        assert_eq!(notices, [], "{name}");
        let shown = asked(&mut raw, "SELECT current_setting('application_name')").await;
        assert!(shown.starts_with(&login.grant) && shown.len() <= 63, "{shown}");
    }
    // Whatever the client calls itself later: with roles of their own, sessions show whose they are by their user.
    let walls = Walls::build().await;
    let login = walls.grant("read-only", "10m");
    let mut raw = Raw::session(&walls.gate, &login).await;
    let seen = "SELECT usename || ' ' || application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(asked(&mut raw, "SET application_name = 'suite'; SELECT 1").await, "1");
    let seen = asked(&mut raw, seen).await;
    let id = login.grant.split('.').next().expect("an id");
    assert!(seen.starts_with(id) && seen.ends_with(" suite"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_do_without_the_welcome() {
    let (with, without) = (gate(), gate_before(database(), "", "[session]\nwelcome = false\n"));
    for (gate, options, welcomed) in [
        (&with, "", true),
        (&with, "-c tidegate.welcome=off", false),
        (&without, "", false),
        (&without, "-c tidegate.welcome=on", true),
    ] {
        let login = grant(gate, "10m");
        let (notices, _) = let_in(gate, &login, &[("database", TARGET), ("options", options)]).await;
        let told = notices.iter().any(|notice| notice.message.contains("under grant"));
        assert_eq!(told, welcomed, "{options}: {notices:?}");
    }
    let login = grant(&with, "10m");
    let told = refused(
        &with,
        &login,
        &[("database", TARGET), ("options", "-c tidegate.welcome=quiet")],
    )
    .await;
    told.says("FATAL", "22023", &["tidegate.welcome", "on or off"]);
}

/// Quotes of every kind, a backslash, what SQL and JSON take amiss, letters outside ASCII; and the longest there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_called_as_their_provider_calls_them() {
    let walls = Walls::build().await;
    let longest = "ö".repeat(127);
    for name in [r#"auth0|Zoë O'B\"r$$;--"#, &longest] {
        // By a grant of their own role, which is made, used, ended and dropped.
        let login = walls.grant_of(name, "read-only", "10m");
        let mut raw = Raw::session(&walls.gate, &login).await;
        let user = asked(&mut raw, "SELECT session_user").await;
        let id = login.grant.split('.').next().expect("an id");
        assert!(user.starts_with(id) && user.is_ascii(), "{user}");
        // On record under the name, and found by it.
        let json_name = serde_json::to_string(name).expect("JSON");
        eventually("it is found", async || {
            let log = ["log", "--identity", name, "--text", "session_user", "--output", "json"];
            let said = walls.gate.command(&log).expect("the command");
            assert!(said.status.success(), "{said:?}");
            String::from_utf8_lossy(&said.stdout).contains(&json_name).then_some(())
        })
        .await;
        let listed = walls.gate.command(&["grant", "list", "--identity", name]).expect("a list");
        assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "{listed:?}");
        walls.revoke(&login);
        raw.until(b'E').await;

        // By their own token, as the user of a login.
        let token = crate::support::user(&walls.gate, name, &["qa"]).await;
        let mut raw = Raw::connect(&walls.gate).await;
        raw.startup(&[("user", name), ("database", TARGET), ("options", "-c tidegate.wait=0")])
            .await;
        let asked_for = raw.frame().await.expect("a question");
        assert_eq!(
            (asked_for.kind, &asked_for.body[..4]),
            (b'R', &[0, 0, 0, 3][..]),
            "the token is asked for"
        );
        raw.write(|out| postgres_protocol::message::frontend::password_message(token.as_bytes(), out).expect("fits"))
            .await;
        let (told, _) = raw.last_word().await;
        // Nothing permits anything here: the name is known, and that is what the answer is about.
        assert_eq!(told.code, "28000", "{told:?}");
        for verb in ["disable", "enable"] {
            let done = walls.gate.command(&["user", verb, name]).expect("the command");
            assert!(done.status.success(), "{done:?}");
        }
    }
    walls.empty().await;
}

/// A base backup and a stream of WAL, by the tools that name a database `replication`; the stream ends with its grant.
#[tokio::test(flavor = "multi_thread")]
async fn replication_by_postgresqls_own_tools() {
    let (database, folder) = (start(&ServerOptions::default()), tempfile::tempdir().expect("a folder"));
    let replicates = format!("ALTER ROLE {} REPLICATION", ShopFixture::ROLE);
    database
        .server
        .batch("postgres", &replicates)
        .await
        .expect("a role that may replicate");
    let gate = gate_before(&database, "replication = true", "");
    let login = grant(&gate, "10m");
    let run = |tool: &str, arguments: &[&str], to: &str| {
        let mut command = Command::new(database.server.binaries().tool(tool).expect("a tool of PostgreSQL"));
        command
            .args([
                "-d",
                &format!("dbname={TARGET} sslmode=require"),
                "-h",
                "127.0.0.1",
                "-U",
                &login.grant,
            ])
            .args(["-p", &gate.port().to_string(), "-D"])
            .arg(folder.path().join(to))
            .args(arguments)
            .env("PGPASSWORD", login.secret.expose())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let backup = run(
        "pg_basebackup",
        &["--checkpoint=fast", "--wal-method=stream", "--no-sync"],
        "backup",
    );
    let output = backup.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(folder.path().join("backup/global/pg_control").exists());

    std::fs::create_dir(folder.path().join("wal")).expect("a folder");
    let mut receiving = run("pg_receivewal", &["--no-loop", "--no-sync"], "wal");
    eventually("WAL comes", async || {
        assert!(receiving.try_wait().expect("its state").is_none(), "it has ended");
        let files = std::fs::read_dir(folder.path().join("wal")).expect("the folder");
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().ends_with(".partial"))
            .then_some(())
    })
    .await;
    gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    let output = receiving.wait_with_output().expect("it ends");
    assert!(String::from_utf8_lossy(&output.stderr).contains("was revoked"), "{output:?}");
    let sqls = records_of(&gate, &login.grant, "statement");
    for command in ["BASE_BACKUP", "START_REPLICATION"] {
        let on_record = |record: &Value| record["sql"]["text"].as_str().is_some_and(|text| text.starts_with(command));
        assert!(sqls.iter().any(on_record), "{command} in {sqls:?}");
    }
    ended(&gate, &login.grant).await;
}
