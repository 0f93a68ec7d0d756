use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{DriverConnection, ServerAuth, ServerOptions, ServerTlsOption, ShopFixture, TestPostgres};

/// Tells [`the_owner`] to be one.
const OWNER: &str = "TIDEGATE_LAB_OWNER";

fn start(options: &ServerOptions) -> TestPostgres {
    TestPostgres::start(options).expect("a throwaway server")
}

fn server_pid(server: &Path) -> Option<i32> {
    let file = fs::read_to_string(server.join("data/postmaster.pid")).ok()?;
    file.lines().next()?.parse().ok()
}

fn alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Polls for up to ten seconds.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test]
async fn starts_answers_and_leaves_nothing() {
    let server = start(&ServerOptions::default());
    let client = server.client("postgres").await.expect("a connection");
    let row = client.query_one("show fsync", &[]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "off");
    let folder = server.folder().to_owned();
    let pid = server_pid(&folder).expect("a process id");
    assert!(alive(pid));
    drop(server);
    assert!(!folder.exists());
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_killed_server_starts_again_on_its_data() {
    let settings = vec![("synchronous_commit".to_owned(), "on".to_owned())];
    let mut server = start(&ServerOptions {
        settings,
        ..ServerOptions::default()
    });
    let folder = server.folder().to_owned();
    server
        .batch("postgres", "create table t as select 1 as a")
        .await
        .expect("a table");
    let before = server_pid(&folder);
    server.kill().expect("kill -9");
    assert!(server.client("postgres").await.is_err());
    for how in [TestPostgres::kill, TestPostgres::stop] {
        server.start_again().expect("the server again");
        let client = server.client("postgres").await.expect("a connection");
        let row = client.query_one("select a from t", &[]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), 1);
        assert_ne!(server_pid(&folder), before);
        how(&server).expect("its end");
    }
    server.start_again().expect("the server again");
    let pid = server_pid(&folder).expect("a process id");
    drop(server);
    assert!(!folder.exists());
    assert!(!alive(pid));
}

#[tokio::test]
async fn demands_the_password_over_tcp() {
    for auth in [ServerAuth::Scram, ServerAuth::Md5, ServerAuth::Password] {
        let server = start(&ServerOptions {
            auth,
            ..ServerOptions::default()
        });
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.port()).user(server.superuser());
        config.password("wrong");
        assert!(config.connect(tokio_postgres::NoTls).await.is_err(), "{auth:?}");
        config.password(server.password().expose());
        assert!(config.connect(tokio_postgres::NoTls).await.is_ok(), "{auth:?}");
    }
}

#[tokio::test]
async fn takes_settings_and_tls() {
    let server = start(&ServerOptions {
        tls: ServerTlsOption::Required,
        settings: vec![("cluster_name".to_owned(), "it's me".to_owned())],
        hba: vec!["host all nobody all reject".to_owned()],
        ..ServerOptions::default()
    });
    let client = server.client("postgres").await.expect("a connection");
    let row = client.query_one("show ssl", &[]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "on");
    let row = client.query_one("show cluster_name", &[]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "it's me");
    assert!(server.ca_file().is_file());
    let mut config = tokio_postgres::Config::new();
    config.user(server.superuser()).password(server.password().expose());
    assert!(DriverConnection::connect(server.address(), &config, false).await.is_err());
    let mut driver = DriverConnection::connect(server.address(), &config, true)
        .await
        .expect("a connection over TLS");
    driver
        .client
        .batch_execute("do $$ begin raise notice 'hello'; end $$")
        .await
        .expect("a notice");
    assert_eq!(driver.notice().await.expect("the notice").message(), "hello");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and client_addr is not null";
    client.batch_execute(end).await.expect("its end");
    let error = driver.closed().await.expect("the server's last words");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57P01"));
}

#[tokio::test]
async fn the_shop_is_as_large_as_it_says() {
    let server = start(&ServerOptions::default());
    let shop = ShopFixture::make(&server).await.expect("the shop");
    let client = server.client(ShopFixture::DATABASE).await.expect("a connection");
    let counts = "select (select count(*) from customers), (select count(*) from cards), (select count(*) from orders),
                  (select count(distinct tableowner) from pg_tables where schemaname = 'public' and tableowner = 'shop_app')";
    let row = client.query_one(counts, &[]).await.expect("a row");
    let counts: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
    assert_eq!(counts, [1000, 1500, 5000, 1]);
    let table = shop.target_table("orders", "");
    assert!(table.starts_with("[targets.orders]\n") && !table.contains(shop.password().expose()));
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let failure = TestPostgres::start(&ServerOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..ServerOptions::default()
    });
    match failure.map_err(|error| error.to_string()) {
        Err(log) if log.contains("did not start; its log ends with") => {
            assert!(log.contains("no_such_setting"), "{log}");
            // The log names the folder it is in.
            let folder = log
                .split(['"', '\''])
                .find(|part| part.contains("tidegate-lab-"))
                .unwrap_or_default();
            assert!(folder.is_empty() || !Path::new(folder).exists(), "{folder}");
        }
        other => panic!("{other:?}"),
    }
}

/// Not a test by itself: the process that [`a_killed_owner_leaves_nothing`] kills.
#[test]
fn the_owner() {
    if let Some(file) = std::env::var_os(OWNER) {
        let server = start(&ServerOptions::default());
        fs::write(&file, server.folder().to_string_lossy().as_bytes()).expect("a file to write to");
        std::thread::sleep(Duration::from_mins(1));
    }
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let told = tempfile::NamedTempFile::new().expect("a temporary file");
    let program = std::env::current_exe().expect("our own path");
    let mut owner = Command::new(program)
        .args(["--exact", "demo::testkit::tests::the_owner"])
        .env(OWNER, told.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    eventually("the server is up", || {
        fs::metadata(told.path()).is_ok_and(|file| file.len() > 0)
    });
    let folder = fs::read_to_string(told.path()).expect("the server's folder");
    let pid = server_pid(Path::new(&folder)).expect("a process id");
    assert!(alive(pid));
    owner.kill().expect("kill -9");
    owner.wait().expect("its end");
    eventually("the server is gone", || !alive(pid));
    eventually("the folder is gone", || !Path::new(&folder).exists());
}

#[test]
fn an_owner_killed_while_the_server_is_being_made_leaves_nothing() {
    let temporary = tempfile::tempdir_in("/tmp").expect("a temporary folder");
    // Another account must be able to enter it.
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("its mode");
    let program = std::env::current_exe().expect("our own path");
    for wait in [20, 100, 250, 400, 550] {
        let mut owner = Command::new(&program)
            .args(["--exact", "demo::testkit::tests::the_owner"])
            .env(OWNER, "/dev/null")
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let folder = || fs::read_dir(temporary.path()).ok().and_then(|mut entries| entries.next());
        eventually("the folder is there", || folder().is_some());
        std::thread::sleep(Duration::from_millis(wait));
        owner.kill().expect("kill -9");
        owner.wait().expect("its end");
        eventually("the folder is gone", || folder().is_none());
    }
}
