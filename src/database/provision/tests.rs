use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{Client, NoTls};

use super::*;
use crate::base::secret::Secret;
use crate::base::tls::{ClientTls, TlsMode};
use crate::demo::testkit::{ServerOptions, TestPostgres};

/// A server with an ordinary account, as a target has.
struct Server {
    postgres: TestPostgres,
    password: Secret<String>,
}

struct Session {
    client: Client,
    backend: Backend,
}

impl Server {
    async fn start() -> Self {
        let postgres = tokio::task::spawn_blocking(|| TestPostgres::start(&ServerOptions::default()).unwrap())
            .await
            .unwrap();
        postgres
            .batch(
                "postgres",
                "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE other LOGIN PASSWORD 'app'",
            )
            .await
            .unwrap();
        Self {
            postgres,
            password: Secret::new("app".to_owned()),
        }
    }

    fn terminator(&self, clock: &Clock) -> Terminator {
        Terminator::spawn(target(self.postgres.port(), Some(&self.password)), clock.clone())
    }

    async fn session(&self, user: &str) -> Session {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.postgres.port())
            .user(user)
            .password(self.password.expose())
            .dbname("postgres")
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let backend = Backend {
            pid,
            opened: Instant::now(),
            role: None,
        };
        Session { client, backend }
    }

    /// How many backends of the account are there, its terminator aside.
    async fn backends(&self) -> i64 {
        let client = self.postgres.client("postgres").await.unwrap();
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND application_name NOT LIKE 'tidegate%'";
        client.query_one(count, &[]).await.unwrap().get(0)
    }
}

fn target(port: u16, password: Option<&Secret<String>>) -> Arc<Target> {
    let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
    let name = "orders".parse().unwrap();
    let mut target = Target::new(name, "127.0.0.1".to_owned(), "postgres".to_owned(), "app".to_owned(), tls);
    target.port = port;
    target.account.password = password.cloned();
    Arc::new(target)
}

fn clock() -> Clock {
    Clock::system(None)
}

/// The product's figure, without the gate: 200 sessions that end at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_are_ended_at_once() {
    let server = Server::start().await;
    let terminator = server.terminator(&clock());
    let mut sessions = Vec::new();
    for _ in 0..200 {
        sessions.push(server.session("app").await);
    }
    let mut backends = Vec::new();
    let mut sleepers = Vec::new();
    for session in sessions {
        backends.push(session.backend.clone());
        sleepers.push(tokio::spawn(async move {
            assert!(session.client.batch_execute("SELECT pg_sleep(3600)").await.is_err());
            // Like the gate's: open until the backend closes it.
            (Instant::now(), session)
        }));
    }
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let observer = server.postgres.client("postgres").await.unwrap();
    while observer.query_one(asleep, &[]).await.unwrap().get::<_, i64>(0) < 200 {
        tokio::task::yield_now().await;
    }

    let start = Instant::now();
    let ends: Vec<_> = backends.iter().map(|backend| terminator.end(backend.clone())).collect();
    let gone = futures_util::future::join_all(ends).await;
    assert!(gone.iter().all(|gone| gone.confirmed));
    let mut took: Vec<_> = gone.iter().map(|gone| gone.at - start).collect();
    took.sort();
    let ended = futures_util::future::join_all(sleepers).await;
    let mut told: Vec<_> = ended.iter().map(|ended| ended.as_ref().unwrap().0 - start).collect();
    told.sort();
    println!(
        "200 backends in pg_sleep: statements ended: p50 {:?}, all {:?}; confirmed gone: p50 {:?}, all {:?}",
        told[100], told[199], took[100], took[199]
    );
    assert_eq!(server.backends().await, 0);
    assert!(
        took[199] < Duration::from_secs(2),
        "far beyond what a busy machine explains: {:?}",
        took[199]
    );
}

#[tokio::test]
async fn others_are_left_alone() {
    let server = Server::start().await;
    let terminator = server.terminator(&clock());
    let ours = server.session("app").await;
    let foreign = server.session("other").await;
    assert!(terminator.end(ours.backend.clone()).await.confirmed);
    // Of another role: not ours to end, and not ours.
    assert!(terminator.end(foreign.backend.clone()).await.confirmed);
    assert!(foreign.client.batch_execute("SELECT 1").await.is_ok());
    // Nobody has this process id.
    let nobody = Backend {
        pid: 1,
        opened: Instant::now(),
        role: None,
    };
    assert!(terminator.end(nobody).await.confirmed);
}

#[tokio::test]
async fn leftovers_are_reaped_unless_their_process_is_another_now() {
    let server = Server::start().await;
    let clock = clock();
    let terminator = server.terminator(&clock);
    let (left, reused) = (server.session("app").await, server.session("app").await);
    let leftover = |letter, session: &Session, opened_at| OpenSession {
        session: SessionId::from_random([letter; 10]),
        grant: "gr_0000000000".parse().unwrap(),
        identity: "ana".parse().unwrap(),
        target: "orders".parse().unwrap(),
        backend_pid: session.backend.pid,
        opened_at,
    };
    let now = clock.now();
    let long_ago: Timestamp = now - Duration::from_hours(1);
    let reaped = terminator
        .reap(&[leftover(1, &left, now), leftover(2, &reused, long_ago)])
        .await;
    assert!(reaped.iter().all(|reaped| reaped.confirmed), "{reaped:?}");
    assert_eq!(reaped[1].session, SessionId::from_random([2; 10]));
    assert!(left.client.batch_execute("SELECT 1").await.is_err());
    assert!(reused.client.batch_execute("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn a_lost_connection_is_made_anew() {
    let server = Server::start().await;
    let terminator = server.terminator(&clock());
    let first = server.session("app").await;
    assert!(terminator.end(first.backend.clone()).await.confirmed);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tidegate%ends%'";
    server.postgres.batch("postgres", kill).await.unwrap();
    let second = server.session("app").await;
    assert!(terminator.end(second.backend.clone()).await.confirmed);
    assert_eq!(server.backends().await, 0);
}

#[tokio::test]
async fn an_order_is_carried_out_though_nobody_waits() {
    let server = Server::start().await;
    let terminator = server.terminator(&clock());
    let session = server.session("app").await;
    drop(terminator.end(session.backend.clone()));
    drop(terminator);
    assert!(session.client.batch_execute("SELECT pg_sleep(3600)").await.is_err());
}

#[tokio::test]
async fn what_nobody_can_confirm_is_not_confirmed() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let terminator = Terminator::spawn(target(port, None), clock());
    let start = Instant::now();
    let gone = terminator
        .end(Backend {
            pid: 4711,
            opened: start,
            role: None,
        })
        .await;
    assert!(!gone.confirmed);
    let took = gone.at - start;
    assert!((TERMINATE_TIMEOUT..TERMINATE_TIMEOUT * 2).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_backend_not_confirmed_in_time_is_not_forgotten() {
    let server = Server::start().await;
    let session = server.session("app").await;
    server.postgres.batch("postgres", "ALTER ROLE app NOLOGIN").await.unwrap();
    let terminator = server.terminator(&clock());
    assert!(!terminator.end(session.backend.clone()).await.confirmed);
    assert_eq!(server.backends().await, 1);
    server.postgres.batch("postgres", "ALTER ROLE app LOGIN").await.unwrap();
    // It goes on though nobody can give orders any more.
    drop(terminator);
    let sleep = session.client.batch_execute("SELECT pg_sleep(3600)");
    let ended = tokio::time::timeout(TERMINATE_TIMEOUT * 4, sleep).await;
    assert!(ended.expect("the backend lives on").is_err());
}
