//! Exclusive use of a target: one grant at a time, the others in line, first come, first served, whoever is killed meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::base::secret::Secret;
use tidegate::demo::testkit::{ServerOptions, TestGate, TestLogin};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{
    ANA, Raw, TARGET, Walls, admin, api, counted, eventually, policies, psql_command, records, records_of, suite, trials, user,
    value, within,
};

/// The writers exclude each other.
const WRITE: &str = "exclusive = \"write\"\n";
/// A writer excludes everybody.
const ALL: &str = "exclusive = \"all\"\n";

async fn walls(more: &str) -> Walls {
    Walls::build_with(&ServerOptions::default(), more).await
}

/// The grant as the operator sees it.
async fn shown(gate: &TestGate, grant: &str) -> Value {
    api(gate, &admin(gate), "GET", &format!("/v1/grants/{grant}"), &Value::Null)
        .await
        .good()
}

async fn revoke(gate: &TestGate, grant: &str) {
    let path = format!("/v1/grants/{grant}/revoke");
    api(gate, &admin(gate), "POST", &path, &json!({})).await.good();
}

/// Waits until a grant has this place in line.
async fn in_line(gate: &TestGate, grant: &str, place: u64) {
    eventually("a place in line", async || {
        let view = shown(gate, grant).await;
        (view["line"]["state"] == "waits" && view["line"]["place"] == place).then_some(())
    })
    .await;
}

/// The times of its sessions on record, in the order of the log: begin and end of each.
fn sessions(records: &[Value], grant: &str) -> Vec<(usize, usize)> {
    let at = |event: &str| {
        let is_it = |(_, record): &(usize, &Value)| record["event"] == event && record["grant"] == grant;
        records.iter().enumerate().filter(is_it).map(|(at, _)| at).collect::<Vec<_>>()
    };
    at("session_started").into_iter().zip(at("session_ended")).collect()
}

/// `TIDEGATE_EXCLUSIVE_JOBS` sets how many.
#[tokio::test(flavor = "multi_thread")]
async fn one_job_at_a_time_and_in_their_order() {
    let walls = walls(WRITE).await;
    let jobs = trials("TIDEGATE_EXCLUSIVE_JOBS", 8);
    let first = walls.grant("read-write", "1h");
    let mut holder = Raw::session(&walls.gate, &first).await;
    holder.backend().await;
    let mut grants = Vec::new();
    let mut running = Vec::new();
    for job in 0..jobs {
        let login = walls.grant_of(&format!("job-{job}"), "read-write", "1h");
        let (grant, address) = (login.grant.clone(), walls.gate.address());
        let config = suite_config(&login);
        let token = admin(&walls.gate);
        let socket = walls.gate.folder().join("state/control.sock");
        running.push(tokio::spawn(async move {
            let session = tidegate::demo::testkit::DriverConnection::connect(address, &config, true)
                .await
                .expect("its turn comes");
            // What two of them at once would not leave as it was.
            let total = value(&session.client, "SELECT total FROM orders WHERE id = 1")
                .await
                .expect("a total");
            value(&session.client, "SELECT pg_sleep(0.02)").await.expect("a while");
            let next = total.parse::<u64>().expect("a number") + 1;
            let update = format!("UPDATE orders SET total = {next} WHERE id = 1");
            session.client.batch_execute(&update).await.expect("updated");
            crate::support::api_at(&socket, &token, "POST", &format!("/v1/grants/{grant}/revoke"), &json!({}))
                .await
                .good();
        }));
        in_line(&walls.gate, &login.grant, job + 1).await;
        grants.push(login.grant);
    }
    let waiting = counted(&walls.gate, "tidegate_line_grants{target=\"shop\"}");
    assert!((waiting - f64::from(u32::try_from(jobs).expect("few"))).abs() < f64::EPSILON);
    let status = walls.gate.command(&["session", "list"]).expect("the command");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        said.contains(&format!("shop: in use by {ANA} ({})", first.grant)) && said.contains("job-0"),
        "{said}"
    );
    revoke(&walls.gate, &first.grant).await;
    for job in running {
        within("the job is done", job).await.expect("no panic");
    }
    let all = eventually("all ends are on record", async || {
        let all = records(&walls.gate);
        let whole = grants.iter().all(|grant| sessions(&all, grant).len() == 1);
        whole.then_some(all)
    })
    .await;
    let mut before = sessions(&all, &first.grant)[0].1;
    for grant in &grants {
        let (began, ended) = sessions(&all, grant)[0];
        assert!(
            before < began && began < ended,
            "{grant} began at {began}, when the one before ended at {before}"
        );
        before = ended;
    }
    let took: Vec<&Value> = all.iter().filter(|record| record["change"] == "took").collect();
    let order: Vec<&str> = took.iter().filter_map(|record| record["grant"].as_str()).collect();
    let expected: Vec<&str> = std::iter::once(&first.grant).chain(&grants).map(String::as_str).collect();
    assert_eq!(order, expected);
    for (number, record) in took.iter().enumerate().skip(1) {
        assert_eq!(record["behind"], first.grant.as_str(), "{number}: {record}");
        assert!(record["waited_us"].as_u64().expect("a time") > 0, "{record}");
    }
    assert_eq!(
        walls.asks("SELECT total FROM orders WHERE id = 1").await,
        (10 + jobs).to_string()
    );
}

fn suite_config(login: &TestLogin) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.user(&login.grant).password(login.secret.expose()).dbname(TARGET);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_and_its_window_stays_closed() {
    let walls = walls(WRITE).await;
    let (holder, first) = walls.session("read-write").await;
    // Readers are in nobody's way, and a second session of the holder is not either.
    let (_, _reader) = walls.session("read-only").await;
    suite(&walls.gate, &holder).await.expect("another session of the same grant");

    let more = ["--profile", "read-write", "--activate-within", "90s"];
    let login = walls.gate.grant("ben@example.com", TARGET, "10m", &more).expect("a grant");
    let (mut ben, told) = Raw::waiting(&walls.gate, &login).await;
    told.says(
        "NOTICE",
        "01000",
        &[
            "waiting for \"shop\"",
            "next in line",
            &format!("in use by {ANA} under grant {}", holder.grant),
            " until ",
        ],
    );
    let third = walls.grant_of("cleo@example.com", "read-write", "10m");
    let (cleo, told) = Raw::waiting(&walls.gate, &third).await;
    told.says("NOTICE", "01000", &["number 2 in line"]);
    let view = shown(&walls.gate, &login.grant).await;
    assert_eq!(view["status"], "ready", "the window is not open");
    let at = |view: &Value, field: &str| {
        view[field]
            .as_str()
            .expect("a time")
            .parse::<jiff::Timestamp>()
            .expect("a time")
    };
    let left = at(&view, "activate_by").duration_since(at(&view, "created_at"));
    assert!(left.as_secs() >= 590, "it does not lapse while it waits: {view}");
    let list = walls.gate.command(&["grant", "list"]).expect("the command");
    let said = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(said.contains("1st in line") && said.contains("exclusive"), "{said}");

    // One that goes leaves the line; so does one whose grant ends, which is told why.
    drop(cleo);
    eventually("it has left", async || {
        shown(&walls.gate, &third.grant).await["line"].is_null().then_some(())
    })
    .await;
    let fourth = walls.grant_of("dan@example.com", "read-write", "10m");
    let (mut dan, _) = Raw::waiting(&walls.gate, &fourth).await;
    revoke(&walls.gate, &fourth.grant).await;
    dan.last_word().await.0.says("FATAL", "28000", &["was revoked"]);

    drop(first);
    revoke(&walls.gate, &holder.grant).await;
    ben.until(b'Z').await;
    let view = shown(&walls.gate, &login.grant).await;
    let window = at(&view, "until").duration_since(at(&view, "activated_at"));
    assert_eq!(window.as_secs(), 600, "all of its window is left: {view}");
    assert_eq!(view["line"]["state"], "uses");
    let left = records_of(&walls.gate, &third.grant, "line_changed");
    let steps: Vec<&Value> = left.iter().map(|record| &record["change"]).collect();
    assert_eq!(steps, ["waits", "left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_it_alone_waits_for_all_and_lets_nobody_by() {
    let walls = walls(ALL).await;
    let (reader, session) = walls.session("read-only").await;
    let alone = walls.grant_of("ben@example.com", "read-write", "10m");
    let (mut ben, told) = Raw::waiting(&walls.gate, &alone).await;
    told.says("NOTICE", "01000", &[&reader.grant]);
    let late = walls.grant_of("cleo@example.com", "read-only", "10m");
    let (mut cleo, told) = Raw::waiting(&walls.gate, &late).await;
    told.says("NOTICE", "01000", &["number 2 in line"]);
    // The use of a reader is not kept for it.
    drop(session);
    ben.until(b'Z').await;
    let mut answer = Box::pin(cleo.until(b'Z'));
    let early = tokio::time::timeout(Duration::from_millis(600), &mut answer).await;
    assert!(early.is_err(), "let in beside one that works alone");
    revoke(&walls.gate, &alone.grant).await;
    answer.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_frees_its_place_at_once_and_one_that_comes_again_has_it_still() {
    let walls = walls(WRITE).await;
    let login = walls.grant("read-write", "1h");
    let mut command = psql_command(
        &walls.gate,
        &login.grant,
        login.secret.expose(),
        TARGET,
        "",
        "SELECT pg_sleep(600) AS held",
    );
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut psql = command.spawn().expect("psql starts");
    eventually("it works", async || {
        (shown(&walls.gate, &login.grant).await["live_sessions"] == 1).then_some(())
    })
    .await;
    let next = walls.grant_of("ben@example.com", "read-write", "1h");
    let (mut ben, _) = Raw::waiting(&walls.gate, &next).await;
    psql.kill().expect("SIGKILL");
    let killed = Instant::now();
    psql.wait().expect("its end");
    ben.until(b'Z').await;
    let took = killed.elapsed();
    println!("the place of a killed holder was free {took:.1?} after its end");
    assert!(took < Duration::from_secs(2), "{took:?}");

    // Between two clients that leave in order, the place is kept.
    ben.write(|out| postgres_protocol::message::frontend::terminate(out)).await;
    assert!(ben.frame().await.is_none());
    let third = walls.grant_of("cleo@example.com", "read-write", "1h");
    let (mut cleo, told) = Raw::waiting(&walls.gate, &third).await;
    told.says("NOTICE", "01000", &[&next.grant]);
    Raw::session(&walls.gate, &next).await;
    revoke(&walls.gate, &next.grant).await;
    cleo.until(b'Z').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_crash_leaves_it_taken() {
    let mut walls = walls(WRITE).await;
    let (holder, _session) = walls.session("read-write").await;
    let next = walls.grant_of("ben@example.com", "read-write", "1h");
    let (_ben, _) = Raw::waiting(&walls.gate, &next).await;
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    // The one that used it comes first, whoever is faster.
    let (mut ben, told) = Raw::waiting(&walls.gate, &next).await;
    told.says("NOTICE", "01000", &[&holder.grant]);
    let session = suite(&walls.gate, &holder).await.expect("it is still its turn");
    drop(session);
    revoke(&walls.gate, &holder.grant).await;
    ben.until(b'Z').await;

    // One that has ended meanwhile holds nothing.
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    revoke(&walls.gate, &next.grant).await;
    let third = walls.grant_of("cleo@example.com", "read-write", "1h");
    Raw::session(&walls.gate, &third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_bounded() {
    let more = format!(
        "{WRITE}[access]\nlogin_wait = \"8s\"\n[limits]\ngrants_in_line = 2\ngrants_in_line_per_identity = 1\nwaiting_logins_per_identity = 2\n"
    );
    let walls = walls(&more).await;
    let (holder, _session) = walls.session("read-write").await;
    let refused = async |login: &TestLogin, options: &str| {
        let raw = Raw::connect(&walls.gate).await;
        let parameters = [("database", TARGET), ("options", options)];
        match raw.login_with(login, &parameters).await {
            Ok(_) => panic!("let in"),
            Err(told) => told,
        }
    };
    let ben = walls.grant_of("ben", "read-write", "1h");
    refused(&ben, "-c tidegate.wait=0")
        .await
        .says("FATAL", "55006", &["is in use by", &holder.grant, "tidegate exec wait"]);
    let began = Instant::now();
    let (mut waiting, _) = Raw::waiting(&walls.gate, &ben).await;
    let second = walls.grant_of("ben", "read-write", "1h");
    refused(&second, "")
        .await
        .says("FATAL", "53300", &["too many grants of ben wait in line"]);
    let cleo = walls.grant_of("cleo", "read-write", "1h");
    let (_cleo, _) = Raw::waiting(&walls.gate, &cleo).await;
    let dan = walls.grant_of("dan", "read-write", "1h");
    refused(&dan, "")
        .await
        .says("FATAL", "53300", &["too many grants wait in line for \"shop\""]);
    // All logins of one grant have one place, and no more of them wait than may.
    let (_again, _) = Raw::waiting(&walls.gate, &ben).await;
    refused(&ben, "").await.says("FATAL", "53300", &["too many logins of ben"]);
    waiting.last_word().await.0.says("FATAL", "55006", &["was next in line"]);
    assert!(began.elapsed() >= Duration::from_secs(8));
    let record = eventually("the refusal is on record", async || {
        records_of(&walls.gate, &ben.grant, "refused")
            .into_iter()
            .find(|record| record["ending"] == "target_in_use")
    })
    .await;
    assert_eq!((&record["identity"], &record["sqlstate"]), (&"ben".into(), &"55006".into()));
}

/// A gate where Ana's requests for the exclusive profile are granted at once.
struct Pipeline {
    walls: Walls,
    token: Secret<String>,
    _policies: tempfile::TempDir,
}

impl Pipeline {
    async fn open() -> Self {
        let policies = policies(
            r#"
@id("ask") permit (principal, action == Tidegate::Action::"request", resource);
@id("at-once") @max_duration("2h") permit (principal, action == Tidegate::Action::"auto-approve", resource);
"#,
        );
        let walls = walls(&format!("{WRITE}[policy]\ndir = \"{}\"\n", policies.path().display())).await;
        let token = Secret::new(user(&walls.gate, ANA, &["qa"]).await);
        Self {
            walls,
            token,
            _policies: policies,
        }
    }

    /// `tidegate exec` of a shell script.
    fn exec(&self, script: &str) -> Child {
        let arguments = ["exec", "shop/read-write", "--for", "10m", "--", "sh", "-c", script];
        let mut command = Command::from(self.walls.gate.command_of(&self.token, &arguments));
        command.current_dir(self.walls.gate.folder());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("the program starts")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.walls.gate.folder().join(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_queues_and_has_the_target_to_its_end() {
    let pipeline = Pipeline::open().await;
    // It connects to nothing, and has it all the same.
    let mut first = pipeline.exec("touch began; while [ ! -e go ]; do sleep 0.05; done");
    eventually("the first one runs", async || pipeline.file("began").exists().then_some(())).await;
    let mut second = pipeline.exec("touch second; psql -XAtc 'SELECT 42'");
    let mut errors = BufReader::new(second.stderr.take().expect("its errors")).lines();
    let line = eventually("it says what it waits for", async || {
        let line = errors.next_line().await.expect("text").expect("a line");
        line.contains("next in line").then_some(line)
    })
    .await;
    assert!(line.contains(&format!("shop is in use by {ANA}")), "{line}");
    // Longer than a use without clients is kept after a break.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!pipeline.file("second").exists(), "it waits");
    std::fs::write(pipeline.file("go"), "").expect("a file");
    assert!(within("the first ends", first.wait()).await.expect("its end").success());
    let output = within("the second ends", second.wait_with_output()).await.expect("its end");
    assert_eq!(output.stdout, b"42\n");
    let took: Vec<String> = records(&pipeline.walls.gate)
        .iter()
        .filter(|record| record["change"] == "took")
        .map(|record| record["grant"].as_str().expect("a grant").to_owned())
        .collect();
    assert!(took.len() == 2 && took[0] != took[1], "each has a grant of its own: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_exec_frees_its_place() {
    let pipeline = Pipeline::open().await;
    let mut first = pipeline.exec("touch began; exec sleep 600");
    eventually("the first one runs", async || pipeline.file("began").exists().then_some(())).await;
    let second = pipeline.exec("touch second");
    eventually("the second waits", async || {
        let line = &counted(&pipeline.walls.gate, "tidegate_line_grants{target=\"shop\"}");
        (*line > 0.5).then_some(())
    })
    .await;
    first.start_kill().expect("SIGKILL");
    let killed = Instant::now();
    eventually("the second runs", async || pipeline.file("second").exists().then_some(())).await;
    let took = killed.elapsed();
    println!("the place of a killed exec was free {took:.1?} after its end");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let output = within("it ends", second.wait_with_output()).await.expect("its end");
    assert!(output.status.success(), "{output:?}");
}
