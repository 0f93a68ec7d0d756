//! Holders of grants who do what they can to stay, or to keep others' roles from going.

use super::*;

const GONE: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'";

/// A server that keeps prepared transactions.
async fn house_of_two_phases() -> House {
    let settings = vec![("max_prepared_transactions".to_owned(), "10".to_owned())];
    House::open_with(ServerOptions {
        settings,
        ..ServerOptions::default()
    })
    .await
}

/// Past the gate, with a password that the role gave itself.
async fn past(house: &House, role: &str, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(house.server.port());
    let (client, connection) = config
        .user(role)
        .password("mine")
        .dbname(database)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn all(client: &Client, statements: &[&str]) {
    for sql in statements {
        client
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// An own password that is not committed has the role's row locked: nobody else can change the role.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_left_open_keeps_nobody_in() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    let session = house.login(&account).await;
    all(&session, &["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"]).await;
    let intruder = past(&house, &account.user, "postgres").await;
    all(&intruder, &["BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'x'"]).await;
    lent.revoke(&house);
    house.wait_for("its role is gone", GONE, "0").await;
    assert!(intruder.simple_query("SELECT 1").await.is_err());
    assert!(session.simple_query("SELECT 1").await.is_err());
}

/// What is prepared is nobody's process any more; whoever prepares it may be the role itself or its profile's.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_left_prepared_keeps_no_role() {
    let house = house_of_two_phases().await;
    house
        .server
        .client("postgres")
        .await
        .unwrap()
        .simple_query("CREATE DATABASE elsewhere")
        .await
        .unwrap();
    let roles = house.roles();
    let as_itself = "SET ROLE NONE";
    for (change, prepared_as, database) in [
        ("PASSWORD 'x'", as_itself, "postgres"),
        ("PASSWORD 'x'", "SET ROLE \"tg_orders_read-only\"", "postgres"),
        ("SET work_mem = '1MB'", "SET ROLE \"tg_orders_read-only\"", "postgres"),
        ("PASSWORD 'x'", as_itself, "elsewhere"),
    ] {
        let lent = house.grant(LONG);
        let account = lent.account(&roles).await.unwrap();
        let session = house.login(&account).await;
        all(&session, &["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"]).await;
        let intruder = past(&house, &account.user, database).await;
        let change = format!("ALTER ROLE CURRENT_USER {change}");
        all(&intruder, &["BEGIN", &change, prepared_as, "PREPARE TRANSACTION 'kept'"]).await;
        assert_eq!(house.text("SELECT count(*) FROM pg_prepared_xacts").await, "1");
        lent.revoke(&house);
        house
            .wait_for(&format!("{change}, {prepared_as}, {database}"), GONE, "0")
            .await;
        assert_eq!(house.text("SELECT count(*) FROM pg_prepared_xacts").await, "0");
    }
    let members = "SELECT count(*) FROM pg_auth_members m WHERE roleid::regrole::text LIKE '%read-only%' AND to_jsonb(m)->>'set_option' IS DISTINCT FROM 'false'";
    assert_eq!(house.text(members).await, "0", "the account has left the profile's role");
}

/// Another's transactions are left alone, though they hold a role's row.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_prepared_is_not_touched() {
    let house = house_of_two_phases().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    lent.account(&roles).await.unwrap();
    let other = house.server.client("postgres").await.unwrap();
    all(
        &other,
        &["BEGIN", "ALTER ROLE other PASSWORD 'x'", "PREPARE TRANSACTION 'theirs'"],
    )
    .await;
    lent.revoke(&house);
    house.wait_for("its role is gone", GONE, "0").await;
    assert_eq!(house.text("SELECT gid FROM pg_prepared_xacts").await, "theirs");
}

/// Only who gave a privilege can take it away: also from a colleague's role, which was not asked.
#[tokio::test(flavor = "multi_thread")]
async fn gifts_from_colleagues_keep_no_role() {
    let house = House::open().await;
    house.text("GRANT CREATE ON SCHEMA shop TO \"tg_orders_read-only\"").await;
    let roles = house.roles();
    let (first, between, last) = (house.grant(LONG), house.grant(LONG), house.grant(LONG));
    let giving = first.account(&roles).await.unwrap();
    let handing = between.account(&roles).await.unwrap();
    let role = last.account(&roles).await.unwrap().user.clone();
    let session = house.login(&giving).await;
    for sql in [
        "SELECT lo_create(1)".to_owned(),
        format!("GRANT SELECT ON LARGE OBJECT 1 TO \"{role}\""),
        "CREATE TABLE t (a int, b int)".to_owned(),
        format!("GRANT SELECT (a), INSERT ON t TO \"{role}\""),
        format!("CREATE POLICY p ON t TO \"{role}\""),
        "CREATE FUNCTION f(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        format!("GRANT EXECUTE ON FUNCTION f TO \"{role}\""),
        "CREATE TYPE \"a \"\"type\" AS (a int)".to_owned(),
        format!("GRANT USAGE ON TYPE \"a \"\"type\" TO \"{role}\""),
        "SET ROLE NONE".to_owned(),
        format!("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO \"{role}\""),
        "SELECT lo_create(2)".to_owned(),
        format!(
            "GRANT SELECT ON LARGE OBJECT 2 TO \"{}\", \"tg_orders_read-only\" WITH GRANT OPTION",
            handing.user
        ),
    ] {
        all(&session, &[&sql]).await;
    }
    let session = house.login(&handing).await;
    let hand_on = format!("GRANT SELECT ON LARGE OBJECT 2 TO \"{role}\" WITH GRANT OPTION");
    all(&session, &[&hand_on, "SET ROLE NONE", &hand_on]).await;
    last.revoke(&house);
    let there = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
    house.wait_for("the role that was given", &there, "0").await;
    first.revoke(&house);
    between.revoke(&house);
    house.wait_for("the others", GONE, "0").await;
    let kept = "SELECT string_agg(DISTINCT lomowner::regrole::text, ' ') FROM pg_largeobject_metadata";
    assert_eq!(house.text(kept).await, format!("\"{HOLDER}\""));
}

/// Who came in past the gate can go into any database that lets everybody in, and leave something there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_another_database_is_the_profiles_too() {
    let house = House::open().await;
    let client = house.server.client("postgres").await.unwrap();
    client.simple_query("CREATE DATABASE elsewhere").await.unwrap();
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    let session = house.login(&account).await;
    all(&session, &["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"]).await;
    let intruder = past(&house, &account.user, "elsewhere").await;
    all(&intruder, &["SELECT lo_create(7)"]).await;
    lent.revoke(&house);
    house.wait_for("its role is gone", GONE, "0").await;
    let there = house.server.client("elsewhere").await.unwrap();
    let owner = one(&there, "SELECT lomowner::regrole FROM pg_largeobject_metadata").await;
    assert_eq!(owner, format!("\"{HOLDER}\""));
}

/// A role that somebody gave to the grant's inherits nothing, whatever it is called.
#[tokio::test(flavor = "multi_thread")]
async fn the_heir_is_the_profile() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    house
        .text(&format!("CREATE ROLE aaa; GRANT aaa TO \"{}\"", account.user))
        .await;
    let session = house.login(&account).await;
    all(&session, &["SET ROLE NONE", "SELECT lo_create(4711)"]).await;
    lent.revoke(&house);
    house.wait_for("its role is gone", GONE, "0").await;
    let heir = "SELECT lomowner::regrole FROM pg_largeobject_metadata";
    assert_eq!(house.text(heir).await, format!("\"{HOLDER}\""));
}

/// What the role of a grant owns, whose profile is gone, is nobody else's: it would run with the account's rights.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_profile_there_is_no_heir() {
    let house = House::open().await;
    house.text("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    let session = house.login(&account).await;
    let made = "CREATE FUNCTION public.left_behind() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'";
    all(&session, &[made, "SELECT lo_create(4711)"]).await;
    house
        .text(&format!("DROP OWNED BY \"{HOLDER}\"; DROP ROLE \"{HOLDER}\""))
        .await;
    lent.revoke(&house);
    house.wait_for("its role is gone", GONE, "0").await;
    let remains =
        "SELECT (SELECT count(*) FROM pg_proc WHERE proname = 'left_behind') + (SELECT count(*) FROM pg_largeobject_metadata)";
    assert_eq!(house.text(remains).await, "0");
}

/// A reload can change which profile is the narrowest, or the account: what is made anew has one profile, and whoever is in stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_over_has_one_profile_and_keeps_its_sessions() {
    let house = House::open().await;
    house
        .text("SET ROLE gate; CREATE ROLE \"tg_orders_narrower\" NOLOGIN; COMMENT ON ROLE \"tg_orders_narrower\" IS 'tidegate profile orders/narrower'")
        .await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let former = lent.account(&roles).await.unwrap();
    let session = house.login(&former).await;
    house
        .text(&format!("SET ROLE gate; GRANT \"tg_orders_narrower\" TO \"{}\"", former.user))
        .await;
    let anew = house.roles();
    let account = lent.account(&anew).await.unwrap();
    assert_eq!(account.user, former.user);
    assert_eq!(one(&session, ACTS_AS).await, HOLDER);
    let holders =
        "SELECT string_agg(DISTINCT roleid::regrole::text, ' ') FROM pg_auth_members WHERE member::regrole::text LIKE '%gr\\_%'";
    assert_eq!(house.text(holders).await, format!("\"{HOLDER}\""));
}

/// One that cannot be ended yet can let somebody in still.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_role_that_is_over_is_ended() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    let session = house.login(&account).await;
    all(&session, &["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"]).await;
    house.text("ALTER ROLE gate NOCREATEROLE").await;
    lent.revoke(&house);
    let limit = Instant::now() + Duration::from_secs(20);
    while roles.counted().left == 0 {
        assert!(Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        session.simple_query("SELECT 1").await.is_err(),
        "ended, though the door is open"
    );
    // As if its next try were far off.
    let slot = roles.0.slots.lock().values().next().cloned().unwrap();
    let turn = slot.turn.lock().await;
    let intruder = past(&house, &account.user, "postgres").await;
    let nobody = HashSet::new();
    let first = roles.reconcile(|_| None, &nobody, false).await.unwrap();
    assert_eq!((first.suspects, first.intruders), (1, 0));
    for since in roles.0.strangers.lock().values_mut() {
        *since -= ReconcileResult::LATER;
    }
    assert_eq!(roles.reconcile(|_| None, &nobody, false).await.unwrap().intruders, 1);
    assert!(intruder.simple_query("SELECT 1").await.is_err());
    drop(turn);
    house.text("ALTER ROLE gate CREATEROLE").await;
    house.wait_for("its role is gone", GONE, "0").await;
}

/// All roles of a target are ended over one connection: what one of them waits for, the others do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_stays_delays_nobody_else() {
    let house = House::open().await;
    let roles = house.roles();
    let mut held = Vec::new();
    let locker = house.server.client("postgres").await.unwrap();
    all(&locker, &["BEGIN"]).await;
    for number in 0..8 {
        let lent = house.grant(LONG);
        let account = lent.account(&roles).await.unwrap();
        // Whoever gives a role something has it locked against being dropped, for as long as that is not committed.
        let give = format!("CREATE TABLE t{number} (); GRANT SELECT ON t{number} TO \"{}\"", account.user);
        all(&locker, &[&give]).await;
        held.push(lent);
    }
    let free = house.grant(LONG);
    let role = free.account(&roles).await.unwrap().user.clone();
    for lent in &held {
        lent.revoke(&house);
    }
    free.revoke(&house);
    let revoked = Instant::now();
    let there = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
    house.wait_for("the free one", &there, "0").await;
    let took = revoked.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    all(&locker, &["ROLLBACK"]).await;
    house.wait_for("the others", GONE, "0").await;
}

/// They are handed over one after the other, and none is told to be left for another's sake.
#[tokio::test(flavor = "multi_thread")]
async fn many_legacies_at_once_are_no_trouble() {
    let house = House::open().await;
    let roles = house.roles();
    let mut lents = Vec::new();
    for number in 0..8 {
        let lent = house.grant(LONG);
        let session = house.login(&lent.account(&roles).await.unwrap()).await;
        all(&session, &["SET ROLE NONE", &format!("SELECT lo_create({number} + 1)")]).await;
        lents.push(lent);
    }
    for lent in &lents {
        lent.revoke(&house);
    }
    house.wait_for("their roles are gone", GONE, "0").await;
    let heirs = "SELECT string_agg(DISTINCT lomowner::regrole::text, ' ') FROM pg_largeobject_metadata";
    assert_eq!(house.text(heirs).await, format!("\"{HOLDER}\""));
    let log = house.log();
    assert_eq!((log.matches("\"made\"").count(), log.matches("\"left\"").count()), (8, 0));
}
