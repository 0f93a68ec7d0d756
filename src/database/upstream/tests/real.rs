//! A real PostgreSQL, of the version installed.

use rustls::ProtocolVersion;

use super::*;
use crate::demo::testkit;
use crate::protocol::scram::{ITERATIONS, SALT_BYTES, Verifier};

const ROLES: &str = "
    CREATE ROLE plain LOGIN PASSWORD 'sesame';
    CREATE ROLE clear LOGIN PASSWORD 'sesame';
    CREATE ROLE free LOGIN PASSWORD 'sesame';
    CREATE ROLE nobody NOLOGIN PASSWORD 'sesame';
    CREATE ROLE busy LOGIN PASSWORD 'sesame' CONNECTION LIMIT 0;
    CREATE ROLE heavy LOGIN PASSWORD 'SCRAM-SHA-256$200000:QUFBQUFBQUFBQUFBQUFBQQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
    SET password_encryption = 'md5';
    CREATE ROLE old LOGIN PASSWORD 'sesame';";

async fn server(tls: testkit::ServerTlsOption) -> testkit::TestPostgres {
    let hba = [
        "host all old all md5",
        "host all clear all password",
        "host all free all trust",
    ];
    let options = testkit::ServerOptions {
        tls,
        hba: hba.map(str::to_owned).to_vec(),
        ..testkit::ServerOptions::default()
    };
    let server = testkit::TestPostgres::start(&options).unwrap();
    server.batch("postgres", ROLES).await.unwrap();
    server
}

/// Runs a query that gives one value; the value as text.
async fn ask(connected: &mut Connected, sql: &str) -> String {
    let mut query = BytesMut::new();
    postgres_protocol::message::frontend::query(sql, &mut query).unwrap();
    connected.transport.write_all(&query).await.unwrap();
    connected.transport.flush().await.unwrap();
    let mut value = String::new();
    loop {
        let mut header = [0; 5];
        connected.transport.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        connected.transport.read_exact(&mut body).await.unwrap();
        match header[0] {
            b'D' => value = String::from_utf8(body[6..].to_vec()).unwrap(),
            b'E' => value = format!("error: {}", String::from_utf8_lossy(&body)),
            b'Z' => return value,
            _ => {}
        }
    }
}

fn with_tls(target: &mut Target, mode: TlsMode, server: &testkit::TestPostgres) {
    let ca = server.ca_file();
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    target.tls = ClientTls::new(mode, verifies.then_some(ca.as_path())).unwrap();
}

#[tokio::test]
async fn logging_in() {
    let server = server(testkit::ServerTlsOption::Offered).await;
    let port = server.port();

    // SCRAM in clear; then once more with the keys kept.
    let target = a_target(port, "plain");
    for _ in 0..2 {
        let mut connected = connect_with(&target, &[("application_name", "psql"), ("DateStyle", "German")])
            .await
            .unwrap();
        assert_eq!(connected.transport.tls_version(), None);
        assert_eq!(
            (connected.status, connected.leftover.len(), connected.notices.len()),
            (b'I', 0, 0)
        );
        let reported = |name: &str| {
            let found = connected.parameters.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(reported("application_name").as_deref(), Some("gr_1111111111/psql"));
        assert_eq!(reported("DateStyle").as_deref(), Some("German, DMY"));
        assert_eq!(reported("session_authorization").as_deref(), Some("plain"));
        let pid = connected.backend.as_ref().unwrap().pid.to_string();
        assert_eq!(ask(&mut connected, "SELECT pg_backend_pid()").await, pid);
        assert_eq!(ask(&mut connected, "SHOW client_connection_check_interval").await, "1s");
        assert_eq!(ask(&mut connected, "SHOW tcp_keepalives_idle").await, "30");
    }

    // What PostgreSQL keeps of a password is what we would.
    let admin = server.client("postgres").await.unwrap();
    let row = admin
        .query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'plain'", &[])
        .await
        .unwrap();
    let kept: Verifier = row.get::<_, String>(0).parse().unwrap();
    assert!(kept == Verifier::derive(b"sesame", kept.salt(), kept.iterations()));
    assert_eq!((kept.salt().len(), kept.iterations()), (SALT_BYTES, ITERATIONS));

    // Every mode; PLUS on TLS.
    for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let mut target = a_target(port, "plain");
        with_tls(&mut target, mode, &server);
        let mut connected = connect_with(&target, &[]).await.unwrap();
        assert_eq!(connected.transport.tls_version(), Some(ProtocolVersion::TLSv1_3), "{mode}");
        assert_eq!(
            ask(&mut connected, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await,
            "TLSv1.3"
        );
    }
    let mut target = a_target(port, "plain");
    target.host = "127.0.0.1".to_owned();
    with_tls(&mut target, TlsMode::VerifyFull, &server);
    assert!(connect_with(&target, &[]).await.is_ok());
    // A certificate nobody here knows.
    let dir = tempfile::tempdir().unwrap();
    crate::base::tls::ServerTls::self_signed(
        dir.path(),
        &["localhost".to_owned()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    target.tls = ClientTls::new(TlsMode::VerifyFull, Some(&dir.path().join("tls.crt"))).unwrap();
    let (failed, ending) = failure(&target, &[]).await;
    assert!(matches!(failed, ConnectError::Tls { .. }), "{failed}");
    assert_eq!(ending, "target_refused");
    assert!(display_chain(&failed).contains("certificate"), "{}", display_chain(&failed));
}

#[tokio::test]
async fn ways_of_authentication() {
    let server = server(testkit::ServerTlsOption::Offered).await;
    let port = server.port();
    for (user, method, default) in [
        ("old", AuthMethod::Md5, false),
        ("clear", AuthMethod::Password, false),
        ("free", AuthMethod::Trust, true),
        ("plain", AuthMethod::ScramSha256, true),
    ] {
        let mut target = a_target(port, user);
        with_tls(&mut target, TlsMode::Require, &server);
        assert_eq!(connect_with(&target, &[]).await.is_ok(), default, "{method:?}");
        target.auth = [method].into_iter().collect();
        let mut connected = connect_with(&target, &[]).await.unwrap();
        assert_eq!(ask(&mut connected, "SELECT current_user").await, user);
        // Each of the others only.
        let others = [
            AuthMethod::Md5,
            AuthMethod::Password,
            AuthMethod::Trust,
            AuthMethod::ScramSha256,
        ];
        target.auth = others.into_iter().filter(|other| *other != method).collect();
        let (failed, ending) = failure(&target, &[]).await;
        assert!(
            matches!(failed, ConnectError::NotAllowed(asked) if asked == method.name()),
            "{failed}"
        );
        assert_eq!(ending, "target_refused");
    }
    let mut target = a_target(port, "clear");
    target.auth = [AuthMethod::Password].into_iter().collect();
    assert!(matches!(failure(&target, &[]).await.0, ConnectError::CleartextWithoutTls));
    target.account.user = "plain".to_owned();
    target.auth = a_target(1, "u").auth;
    target.account.password = None;
    assert!(matches!(failure(&target, &[]).await.0, ConnectError::NoPassword));
}

#[tokio::test]
async fn refusals() {
    let server = server(testkit::ServerTlsOption::Off).await;
    let port = server.port();
    let mut target = a_target(port, "plain");
    target.account.password = Some(Secret::new("wrong".to_owned()));
    let (failed, ending) = failure(&target, &[]).await;
    assert!(
        matches!(&failed, ConnectError::Refused { code, .. } if code == "28P01"),
        "{failed}"
    );
    assert_eq!(ending, "target_refused");

    for (user, code) in [("nobody", "28000"), ("busy", "53300"), ("missing", "28P01")] {
        let (failed, ending) = failure(&a_target(port, user), &[("DateStyle", "ISO")]).await;
        assert!(
            matches!(&failed, ConnectError::Refused { code: got, .. } if got == code),
            "{failed}"
        );
        let expected = if code == "53300" { "target_full" } else { "target_refused" };
        assert_eq!(ending, expected);
        assert_eq!(failed.is_account_limit(), code == "53300", "{failed:?}");
    }
    // More rounds than are good for us.
    let (failed, _) = failure(&a_target(port, "heavy"), &[]).await;
    assert!(display_chain(&failed).contains("200000"), "{}", display_chain(&failed));

    // Down.
    drop(server);
    let (failed, ending) = failure(&a_target(port, "plain"), &[]).await;
    assert!(matches!(failed, ConnectError::Unreachable { .. }), "{failed}");
    assert_eq!(ending, "target_unreachable");
    let mut target = a_target(port, "plain");
    target.host = "no-such-host.invalid".to_owned();
    assert!(matches!(failure(&target, &[]).await.0, ConnectError::Resolve { .. }));
}

#[tokio::test]
async fn a_server_without_tls_and_what_clients_ask_for() {
    let server = server(testkit::ServerTlsOption::Off).await;
    let port = server.port();
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let dir = tempfile::tempdir().unwrap();
        crate::base::tls::ServerTls::self_signed(
            dir.path(),
            &["localhost".to_owned()],
            crate::base::clock::Clock::system(None).now(),
        )
        .unwrap();
        let mut target = a_target(port, "plain");
        target.tls = ClientTls::new(mode, Some(&dir.path().join("tls.crt"))).unwrap();
        let (failed, ending) = failure(&target, &[]).await;
        assert!(matches!(failed, ConnectError::TlsRefused { .. }), "{failed}");
        assert_eq!(ending, "target_refused");
    }
    let mut target = a_target(port, "plain");
    target.tls = ClientTls::new(TlsMode::Prefer, None).unwrap();
    assert_eq!(connect_with(&target, &[]).await.unwrap().transport.tls_version(), None);

    // What is the client's own mistake, the client reads.
    for (setting, code) in [
        (("DateStyle", "nonsense"), "22023"),
        (("no_such_setting", "1"), "42704"),
        (("shared_buffers", "1"), "55P02"),
        (("log_statement", "all"), "42501"),
        (("role", "postgres"), "42501"),
    ] {
        let (failed, ending) = failure(&a_target(port, "plain"), &[setting]).await;
        let ConnectError::Startup { frame, code: said, .. } = &failed else {
            panic!("{setting:?}: {}", display_chain(&failed))
        };
        assert!(
            frame.starts_with(b"E") && String::from_utf8_lossy(frame).contains(&format!("C{code}\0")),
            "{frame:?}"
        );
        assert_eq!((ending, said.as_str()), ("target_closed", code));
    }
    // What names another user or database, or ends the packet early, is not sent.
    let odd = [
        ("user", "postgres"),
        ("database", "template1"),
        ("", "x"),
        ("_pq_.x", "1"),
        ("client_connection_check_interval", "0"),
    ];
    let mut connected = connect_with(&a_target(port, "plain"), &odd).await.unwrap();
    assert_eq!(
        ask(&mut connected, "SELECT current_user || current_database()").await,
        "plainpostgres"
    );
    assert_eq!(ask(&mut connected, "SHOW client_connection_check_interval").await, "1s");
}

#[tokio::test]
async fn many_at_once() {
    let server = server(testkit::ServerTlsOption::Offered).await;
    let mut target = a_target(server.port(), "plain");
    with_tls(&mut target, TlsMode::VerifyFull, &server);
    let logins = (0..40).map(|_| connect_with(&target, &[]));
    for connected in futures_util::future::join_all(logins).await {
        assert_eq!(connected.unwrap().status, b'I');
    }
}

#[tokio::test]
async fn cancelling() {
    let server = server(testkit::ServerTlsOption::Offered).await;
    for mode in [TlsMode::Disable, TlsMode::VerifyFull] {
        let mut target = a_target(server.port(), "plain");
        with_tls(&mut target, mode, &server);
        target.application_name = ApplicationName::Pass;
        let mut connected = connect_with(&target, &[("application_name", "sleeper")]).await.unwrap();
        let key = connected.backend.clone().unwrap();
        let watcher = server.client("postgres").await.unwrap();
        let running = async {
            // Until it is there: then there is something to cancel.
            let sleeping = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'sleeper' AND wait_event = 'PgSleep'";
            while watcher.query(sleeping, &[]).await.unwrap().is_empty() {}
            cancel(&target, &key).await
        };
        let (answer, sent) = tokio::join!(ask(&mut connected, "SELECT pg_sleep(60)"), running);
        sent.unwrap();
        assert!(answer.contains("C57014"), "{answer}");
        // A wrong key is answered the same way, and does nothing.
        let wrong = BackendKey {
            pid: key.pid,
            secret: vec![0; 4],
        };
        cancel(&target, &wrong).await.unwrap();
    }
    assert!(
        !format!(
            "{:?}",
            BackendKey {
                pid: 1,
                secret: vec![77]
            }
        )
        .contains("77")
    );
}

#[tokio::test]
async fn replication_when_asked_for() {
    let server = server(testkit::ServerTlsOption::Off).await;
    server.batch("postgres", "ALTER ROLE plain REPLICATION").await.unwrap();
    let mut connected = connect_with(&a_target(server.port(), "plain"), &[("replication", "database")])
        .await
        .unwrap();
    assert_eq!(ask(&mut connected, "SHOW client_connection_check_interval").await, "1s");
}
