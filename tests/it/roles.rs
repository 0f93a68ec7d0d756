//! A role for each grant: made for its first session, followed while it lives, gone when it is over, whatever dies meanwhile.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate::demo::testkit::{ServerOptions, TestLogin};

use crate::support::{
    ACTS_AS, READER, Random, Raw, WRITER, Walls, code, counted, eventually, records, records_of, roles_gate_before, seed, suite,
    trials, value,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_has_its_own_role_while_it_lives_and_none_after() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let client = &session.client;
    assert_eq!(value(client, ACTS_AS).await.expect("a name"), READER);
    let role = value(client, "SELECT session_user").await.expect("a name");
    assert_eq!(role, format!("{}_ana@example.com", login.grant));
    assert_eq!(value(client, "SELECT count(*) FROM orders").await.expect("a count"), "2");
    assert_eq!(code(client, "SELECT pan FROM cards").await, "42501");
    assert_eq!(code(client, "INSERT INTO orders VALUES (3, 30)").await, "42501");
    assert_eq!(value(client, "SHOW work_mem").await.expect("a setting"), "2MB");
    suite(&walls.gate, &login)
        .await
        .expect("a second session under the same role");
    assert_eq!(walls.roles().await, "1");
    assert!((counted(&walls.gate, "tidegate_roles{target=\"shop\"}") - 1.0).abs() < f64::EPSILON);

    let status = walls.gate.json(&["target", "status", "shop"]).expect("a status");
    let told = &status["roles"][0];
    assert_eq!(
        (&told["role"], &told["grant"], &told["status"]),
        (&role.as_str().into(), &login.grant.as_str().into(), &"active".into())
    );
    assert_eq!(
        (&told["identity"], &told["can_login"]),
        (&"ana@example.com".into(), &true.into())
    );
    assert_eq!(
        (&status["made"], &status["left"], &status["elsewhere"]),
        (&1.into(), &0.into(), &0.into()),
        "{status}"
    );
    let table = walls.gate.command(&["target", "status", "shop"]).expect("a table");
    assert!(String::from_utf8_lossy(&table.stdout).contains(&role), "{table:?}");

    walls.revoke(&login);
    walls.empty().await;
    let changes = eventually("its end is on record", async || {
        let records = records_of(&walls.gate, &login.grant, "role_changed");
        let changes: Vec<String> = records
            .iter()
            .map(|record| record["change"].as_str().unwrap_or_default().to_owned())
            .collect();
        (changes.last()? == "retired").then_some(changes)
    })
    .await;
    assert_eq!(changes, ["made", "retired"]);
}

/// As dbt, pgAdmin and others do with a second connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_and_cancels_others_of_its_own_grant_and_no_more() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let second = suite(&walls.gate, &login).await.expect("a second session");
    let (_, colleague) = walls.session("read-only").await;
    let pid = value(&second.client, "SELECT pg_backend_pid()").await.expect("a pid");
    let runs = tokio::spawn(async move { code(&second.client, "SELECT pg_sleep(600) AS theirs").await });
    let query = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'");
    eventually("its statement is seen", async || {
        let seen = value(&session.client, &query).await.unwrap_or_default();
        (seen == "SELECT pg_sleep(600) AS theirs").then_some(())
    })
    .await;
    let cancel = format!("SELECT pg_cancel_backend({pid})");
    assert_eq!(code(&colleague.client, &cancel).await, "42501");
    assert_eq!(value(&session.client, &cancel).await.expect("cancelled"), "t");
    assert_eq!(runs.await.expect("a code"), "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_grant_made_belongs_to_its_profile() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-write").await;
    session
        .client
        .batch_execute("CREATE TABLE notes (a int); CREATE VIEW v AS SELECT 1")
        .await
        .expect("made");
    walls.revoke(&login);
    walls.empty().await;
    let owners =
        walls.asks("SELECT string_agg(DISTINCT relowner::regrole::text, ', ') FROM pg_class WHERE relname IN ('notes', 'v')");
    assert_eq!(owners.await, format!("\"{WRITER}\""));
    let (_, next) = walls.session("read-write").await;
    next.client
        .batch_execute("INSERT INTO notes VALUES (1); DROP TABLE notes")
        .await
        .expect("the next one goes on with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_limit_is_the_profiles() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-write").await;
    let limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user";
    assert_eq!(value(&session.client, limit).await.expect("a limit"), "3");
    let more = [
        suite(&walls.gate, &login).await.expect("a second"),
        suite(&walls.gate, &login).await.expect("a third"),
    ];
    Raw::refused(&walls.gate, &login)
        .await
        .says("FATAL", "53300", &["At most 3 at once"]);
    drop(more);
    // Backends that are just going are waited for.
    for _ in 0..10 {
        let quick = [suite(&walls.gate, &login).await, suite(&walls.gate, &login).await];
        assert!(quick.iter().all(Result::is_ok), "{quick:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_and_shortened_reach_the_server() {
    let walls = Walls::build().await;
    let (login, _session) = walls.session("read-only").await;
    let left = "SELECT round(extract(epoch FROM rolvaliduntil - now()) / 60) FROM pg_roles WHERE rolname LIKE 'gr\\_%'";
    assert_eq!(walls.asks(left).await, "10");
    walls
        .gate
        .json(&["grant", "extend", &login.grant, "--by", "10m"])
        .expect("extended");
    eventually("later", async || (walls.asks(left).await == "20").then_some(())).await;
    walls
        .gate
        .json(&["grant", "shorten", &login.grant, "--by", "15m"])
        .expect("shortened");
    eventually("sooner", async || (walls.asks(left).await == "5").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_the_account_lacks() {
    let walls = Walls::build().await;
    let check = |arguments: &[&str]| {
        let output = walls.gate.command(&[&["check"], arguments].concat()).expect("tidegate check");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`gate` may create roles") && said.contains("pg_hba"), "{said}");
    assert!(
        said.contains("warning: tcp_user_timeout is 0: if the gate's machine fails"),
        "{said}"
    );
    walls.asks("ALTER SYSTEM SET tcp_user_timeout = '60s'").await;
    walls.asks("SELECT pg_reload_conf()").await;
    eventually("check sees it", async || {
        check(&[]).1.contains("end after tcp_user_timeout, 60000 ms").then_some(())
    })
    .await;
    walls
        .asks("GRANT SELECT ON pg_hba_file_rules TO gate; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO gate")
        .await;
    let (_, said) = check(&[]);
    assert!(
        said.contains("admits all roles from other hosts") && said.contains("host all all all"),
        "{said}"
    );
    walls
        .asks("ALTER ROLE gate NOCREATEROLE; REVOKE pg_signal_backend FROM gate")
        .await;
    walls.asks("ALTER ROLE \"tg_shop_read-write\" RENAME TO away").await;
    let (code, said) = check(&["--start"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check(&[]);
    assert_eq!(code, Some(8), "{said}");
    for words in [
        "not ready: shop",
        "missing: the right of `gate` to create roles",
        "GRANT pg_signal_backend TO \"gate\"",
        "tidegate target apply shop",
    ] {
        assert!(said.contains(words), "{words} not in {said}");
    }
    assert_eq!(check(&["--offline"]).0, Some(0));
}

/// Every role may change its own password, and an administrator may drop it.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_tampered_with_is_made_anew() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    let client = &session.client;
    value(client, "SET ROLE NONE; ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        .await
        .expect("its own");
    let second = suite(&walls.gate, &login).await.expect("the gate's again");
    assert_eq!(value(client, "SELECT 1").await.expect("the first goes on"), "1");
    let role = value(client, "SELECT session_user").await.expect("a name");
    drop((session, second));
    let there = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    eventually("they are gone", async || (walls.asks(&there).await == "0").then_some(())).await;
    walls.asks(&format!("DROP ROLE \"{role}\"")).await;
    let third = suite(&walls.gate, &login).await.expect("made anew");
    assert_eq!(value(&third.client, ACTS_AS).await.expect("a name"), READER);
}

/// Without its role no session begins, and what there was of it is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_be_made_is_a_refusal() {
    let walls = Walls::build().await;
    walls.asks("ALTER ROLE gate NOCREATEROLE").await;
    let login = walls.grant("read-only", "10m");
    let told = Raw::refused(&walls.gate, &login).await;
    told.says("FATAL", "08006", &["no role could be made", "shop", "tidegate check"]);
    assert_eq!(walls.roles().await, "0");
    let changes = records_of(&walls.gate, &login.grant, "role_changed");
    assert_eq!(
        (changes[0]["change"].as_str(), changes[1]["change"].as_str()),
        (Some("made"), Some("not_made"))
    );
    assert!(records_of(&walls.gate, &login.grant, "session_started").is_empty());
    walls.asks("ALTER ROLE gate CREATEROLE").await;
    suite(&walls.gate, &login).await.expect("let in now, under the same grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_dies_leaves_nothing_that_is_over() {
    let mut walls = Walls::build().await;
    let (over, _first) = walls.session("read-only").await;
    let (alive, second) = walls.session("read-only").await;
    let lasting = value(&second.client, "SELECT session_user").await.expect("a name");
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    // As an hour later would be: the store says that it is over.
    let store = rusqlite::Connection::open(walls.gate.folder().join("state/ledger.sqlite")).expect("the store");
    let past = "UPDATE grants SET until = activated_at + 1000 WHERE id = ?1";
    assert_eq!(store.execute(past, [&over.grant]).expect("changed"), 1);
    drop(store);
    walls.gate.start_again().expect("a gate");
    eventually("only the living one's role", async || {
        (walls.roles().await == "1").then_some(())
    })
    .await;
    let there = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'gr\\_%'";
    eventually("nobody is logged in", async || (walls.asks(there).await == "0").then_some(())).await;
    let again = suite(&walls.gate, &alive).await.expect("it goes on");
    assert_eq!(value(&again.client, "SELECT session_user").await.expect("a name"), lasting);
    walls.revoke(&alive);
    walls.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_no_role() {
    let walls = Walls::build().await;
    let (_, _session) = walls.session("read-only").await;
    walls.gate.terminate().expect("SIGTERM");
    eventually("it has stopped", async || walls.gate.ended().then_some(())).await;
    assert_eq!(walls.roles().await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gates_on_one_server_leave_each_other_alone() {
    let mut walls = Walls::build().await;
    let other = roles_gate_before(&walls.server, "");
    let theirs = other
        .grant("bo", "shop", "10m", &["--profile", "read-only"])
        .expect("a grant");
    let session = suite(&other, &theirs).await.expect("a session");
    let (login, _own) = walls.session("read-only").await;
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls.gate.start_again().expect("a gate");
    walls.revoke(&login);
    eventually("its own is gone", async || (walls.roles().await == "1").then_some(())).await;
    assert_eq!(value(&session.client, "SELECT 1").await.expect("it lives"), "1");
}

/// `kill -9` of the gate or of a backend (which makes the server restart) at random points of a grant's life;
/// `TIDEGATE_KILLS` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_nothing_is_left_that_is_over() {
    let mut walls = Walls::build_with(&lasting(), "").await;
    let mut random = Random::new(seed());
    for round in 0..trials("TIDEGATE_KILLS", 4) {
        let login = walls.grant("read-only", "10m");
        let after = Duration::from_millis(random.below(700) as u64);
        let gate = &walls.gate;
        let life = async {
            if let Ok(session) = suite(gate, &login).await {
                let _ = session.client.simple_query("SELECT pg_sleep(600)").await;
            }
        };
        let _ = tokio::time::timeout(after, life).await;
        let whom = ["a backend", "the gate"][random.below(2)];
        if whom == "a backend" {
            let pid = walls
                .asks("SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
                .await;
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        } else {
            walls.gate.kill().expect("kill -9");
            eventually("it is dead", async || walls.gate.ended().then_some(())).await;
            walls.gate.start_again().expect("a gate");
        }
        let there = walls.roles().await;
        walls.revoke(&login);
        walls.empty().await;
        println!("round {round}: {whom} after {after:?}; {there} roles were there, nothing is left");
    }
}

/// What a role of its own adds to a connect, beside the same connect under a role that is there.
#[tokio::test(flavor = "multi_thread")]
async fn activation_adds_little() {
    let walls = Walls::build_with(&ServerOptions::default(), "").await;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..trials("TIDEGATE_GRANTS", 20) {
        let login = walls.grant("read-only", "10m");
        for times in [&mut first, &mut second] {
            let start = Instant::now();
            let session = suite(&walls.gate, &login).await.expect("a session");
            value(&session.client, "SELECT total FROM orders WHERE id = 1")
                .await
                .expect("a row");
            times.push(start.elapsed());
        }
    }
    first.sort();
    second.sort();
    let middle = |times: &[Duration]| times[times.len() / 2];
    println!(
        "to the first row: {:.1?} with the role being made, {:.1?} with it there (p50): {:.1?} more",
        middle(&first),
        middle(&second),
        middle(&first).saturating_sub(middle(&second))
    );
    assert!(
        middle(&first) < middle(&second) + Duration::from_millis(300),
        "far beyond what a busy machine explains"
    );
}

/// The whole way as an operator has it: profiles in the configuration, applied by the owner of the tables, checked, used.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_configuration_to_masked_rows() {
    let walls = Walls::bare(
        "[targets.shop.profiles.read-only]\nselect = [\"public.orders\", \"public.cards\"]\n\
         [targets.shop.profiles.read-only.mask]\n\"public.cards\" = { pan = \"partial\" }\n",
    )
    .await;
    let login = walls
        .gate
        .grant("ana", "shop", "10m", &["--profile", "read-only"])
        .expect("a grant");
    Raw::refused(&walls.gate, &login)
        .await
        .says("FATAL", "08006", &["no role could be made"]);
    let password = walls.gate.folder().join("owner.password");
    std::fs::write(&password, walls.server.password().expose()).expect("a file");
    let password = password.to_str().expect("UTF-8");
    let apply = ["target", "apply", "shop", "--user", "postgres", "--password-file", password];
    let applied = walls.gate.command(&apply).expect("tidegate target apply");
    assert!(applied.status.success(), "{applied:?}");
    let checked = walls.gate.command(&["check"]).expect("tidegate check");
    assert!(checked.status.success(), "{checked:?}");

    let session = suite(&walls.gate, &login).await.expect("a session");
    let card = value(&session.client, "SELECT pan FROM cards").await.expect("a card");
    assert_eq!(card, "************1111");
    assert_eq!(code(&session.client, "SELECT pan FROM public.cards").await, "42501");
    assert_eq!(
        value(&session.client, "SELECT count(*) FROM orders").await.expect("a count"),
        "2"
    );
    walls.revoke(&login);
    walls.empty().await;
}

/// Also for a grant that names no profile: it has the narrowest one's role, and its rails.
#[tokio::test(flavor = "multi_thread")]
async fn guard_rails_are_those_of_the_grants_profile() {
    let rails = "[targets.shop.profiles.read-only.rails]\nstatements = [\"select\"]\n\
                 [targets.shop.profiles.read-write.rails]\nneed_where = true\n";
    let walls = Walls::build_with(&ServerOptions::default(), rails).await;
    let (login, writer) = walls.session("read-write").await;
    assert_eq!(code(&writer.client, "DELETE FROM orders").await, "42501");
    assert_eq!(code(&writer.client, "DELETE FROM orders WHERE id = 2").await, "");
    let rules = eventually("the refusal is on record", async || {
        let outcomes = records_of(&walls.gate, &login.grant, "outcome");
        let rules = outcomes
            .iter()
            .filter_map(|record| record["rule"].as_str().map(str::to_owned));
        Some(rules.collect::<Vec<_>>()).filter(|rules| !rules.is_empty())
    })
    .await;
    assert_eq!(rules, ["need_where"]);

    let unnamed = walls.gate.grant("ana@example.com", "shop", "10m", &[]).expect("a grant");
    let reader = suite(&walls.gate, &unnamed).await.expect("a session");
    assert_eq!(value(&reader.client, ACTS_AS).await.expect("a name"), READER);
    assert_eq!(code(&reader.client, "SHOW work_mem").await, "42501");
}

/// `kill -9` of the postmaster at random points, while grants come and go; of the gate with it every other time.
/// `TIDEGATE_CRASHES` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_server_was_doing_when_it_crashed_nothing_is_left() {
    let mut walls = Walls::build_with(&lasting(), "").await;
    let mut random = Random::new(seed());
    for round in 0..trials("TIDEGATE_CRASHES", 5) {
        let logins: Vec<_> = (0..4).map(|_| walls.grant("read-only", "10m")).collect();
        let first_end = Duration::from_millis(random.below(300) as u64);
        let crash = Duration::from_millis(random.below(900) as u64);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                for login in &logins {
                    let (walls, runtime) = (&walls, &runtime);
                    scope.spawn(move || runtime.block_on(live(walls, login)));
                }
                // Half of them end while the others begin.
                scope.spawn(|| {
                    std::thread::sleep(first_end);
                    logins.iter().take(2).for_each(|login| walls.revoke(login));
                });
                std::thread::sleep(crash);
                walls.server.kill().expect("kill -9");
            });
        });
        let whom = ["the server", "the server and the gate"][random.below(2)];
        if whom == "the server and the gate" {
            walls.gate.kill().expect("kill -9");
            eventually("it is dead", async || walls.gate.ended().then_some(())).await;
        }
        walls.server.start_again().expect("the server again");
        if walls.gate.ended() {
            walls.gate.start_again().expect("the gate again");
        }
        let there = walls.roles().await;
        let next = walls.grant("read-only", "10m");
        let session = eventually("a new login", async || suite(&walls.gate, &next).await.ok()).await;
        assert_eq!(value(&session.client, ACTS_AS).await.expect("a name"), READER);
        for login in logins.iter().skip(2).chain([&next]) {
            walls.revoke(login);
        }
        walls.empty().await;
        println!("round {round}: {whom} after {crash:?}; {there} roles were there, nothing is left");
    }
}

/// A session until something ends it.
async fn live(walls: &Walls, login: &TestLogin) {
    if let Ok(session) = suite(&walls.gate, login).await {
        let _ = session.client.simple_query("SELECT pg_sleep(600)").await;
    }
}

async fn unreachable(walls: &Walls, login: &TestLogin) {
    let told = Raw::refused(&walls.gate, login).await;
    told.says("FATAL", "08001", &["cannot be reached", "try again"]);
}

/// A server that has what it said was committed, also after a crash.
fn lasting() -> ServerOptions {
    ServerOptions {
        settings: vec![("synchronous_commit".to_owned(), "on".to_owned())],
        ..ServerOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_a_refusal_until_it_is_back() {
    let mut walls = Walls::build_with(&lasting(), "").await;
    let (over, _session) = walls.session("read-only").await;
    let login = walls.grant("read-only", "10m");
    walls.server.stop().expect("stopped");
    unreachable(&walls, &login).await;
    // One that is still reading its log says 57P03 to everybody: for as long as it is told to.
    let data = walls.server.folder().join("data");
    std::fs::write(data.join("standby.signal"), "").expect("a file");
    std::fs::write(data.join("postgresql.auto.conf"), "hot_standby = off").expect("a setting");
    walls.server.start_again().expect("the server again");
    let told = Raw::refused(&walls.gate, &login).await;
    // In its own words, which differ with its version and with how far it is.
    told.says(
        "FATAL",
        "57P03",
        &["the database system is ", "The server behind \"shop\" says so"],
    );
    walls.revoke(&over);
    walls.server.stop().expect("stopped");
    std::fs::remove_file(data.join("standby.signal")).expect("removed");
    std::fs::write(data.join("postgresql.auto.conf"), "").expect("no setting");
    walls.server.start_again().expect("the server again");
    let session = suite(&walls.gate, &login).await;
    let session = session.unwrap_or_else(|error| panic!("let in now, under the same grant: {error:?}\n{}", walls.gate.log()));
    assert_eq!(value(&session.client, ACTS_AS).await.expect("a name"), READER);
    eventually("only its role", async || (walls.roles().await == "1").then_some(())).await;
    walls.revoke(&login);
    walls.empty().await;
}

/// A standby takes no role: whoever would need one is refused, and told why, until it is promoted.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_a_refusal_until_it_is_promoted() {
    let mut walls = Walls::build_with(&lasting(), "").await;
    let (over, _session) = walls.session("read-only").await;
    let login = walls.grant("read-only", "10m");
    walls.server.stop().expect("stopped");
    std::fs::write(walls.server.folder().join("data/standby.signal"), "").expect("a file");
    walls.server.start_again().expect("a standby");
    assert_eq!(walls.asks("SELECT pg_is_in_recovery()").await, "t");
    let told = Raw::refused(&walls.gate, &login).await;
    told.says("FATAL", "25006", &["read-only", "shop", "no role can be made", "primary"]);
    assert!(records_of(&walls.gate, &login.grant, "session_started").is_empty());
    assert_eq!(walls.roles().await, "1", "the other grant's");
    let checked = walls.gate.command(&["check"]).expect("tidegate check");
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(
        !checked.status.success() && said.contains("missing: a writable server; this one is read-only"),
        "{said}"
    );
    // Its end has to wait, and does.
    walls.revoke(&over);
    eventually("that it is left is on record", async || {
        let changes = records_of(&walls.gate, &over.grant, "role_changed");
        changes.iter().any(|record| record["change"] == "left").then_some(())
    })
    .await;
    walls.asks("SELECT pg_promote()").await;
    let session = suite(&walls.gate, &login).await;
    let session = session.unwrap_or_else(|error| panic!("let in now, under the same grant: {error:?}\n{}", walls.gate.log()));
    assert_eq!(value(&session.client, ACTS_AS).await.expect("a name"), READER);
    walls.revoke(&login);
    walls.empty().await;
}

/// A reload that gives the target another account: the roles that are there go on, and so do their sessions.
#[tokio::test(flavor = "multi_thread")]
async fn another_account_takes_the_roles_over_and_nobody_is_thrown_out() {
    let walls = Walls::build().await;
    let (login, session) = walls.session("read-only").await;
    walls
        .asks("CREATE ROLE gate2 LOGIN CREATEROLE PASSWORD 'gate'; GRANT pg_signal_backend, gate TO gate2")
        .await;
    let config = std::fs::read_to_string(walls.gate.config_file()).expect("the configuration");
    let changed = config.replace("user = \"gate\"", "user = \"gate2\"");
    assert_ne!(changed, config);
    std::fs::write(walls.gate.config_file(), changed).expect("written");
    walls.gate.reload().expect("SIGHUP");
    eventually("it is in force", async || {
        let reloaded = records(&walls.gate)
            .into_iter()
            .find(|record| record["event"] == "reloaded")?;
        assert_eq!(reloaded["accepted"], true, "{reloaded}");
        Some(())
    })
    .await;
    let second = suite(&walls.gate, &login).await.expect("a second session");
    for client in [&session.client, &second.client] {
        assert_eq!(value(client, ACTS_AS).await.expect("it lives"), READER);
    }
    assert_eq!(walls.roles().await, "1");
    walls.revoke(&login);
    walls.empty().await;
}
