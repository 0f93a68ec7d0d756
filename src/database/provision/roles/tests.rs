//! Roles against a real server: which one is `PG_BIN`'s, or the machine's (`make versions` takes 13 to 18 in turn).

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::*;
use crate::audit;
use crate::base::tls::{ClientTls, TlsMode};
use crate::database::rights::quoted;
use crate::demo::testkit::{ServerOptions, TestPostgres};
use crate::model::grant::{self, GrantChange, Terms};

mod stubborn;

const HOLDER: &str = "tg_orders_read-only";
/// The profiles whose rights a session has.
const ACTS_AS: &str = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname LIKE 'tg\\_%' AND pg_has_role(oid, 'USAGE')";
const LONG: Duration = Duration::from_mins(10);

/// A server with an account that may make roles and no more, and a profile it has made.
struct House {
    server: TestPostgres,
    folder: tempfile::TempDir,
    journal: Journal,
    clock: Clock,
}

/// A grant that can be changed.
struct Lent(watch::Sender<Arc<Grant>>);

impl House {
    async fn open() -> Self {
        Self::open_with(ServerOptions::default()).await
    }

    async fn open_with(options: ServerOptions) -> Self {
        let server = tokio::task::spawn_blocking(move || TestPostgres::start(&options).unwrap())
            .await
            .unwrap();
        let setup = "
            CREATE ROLE gate LOGIN CREATEROLE PASSWORD 'gate'; GRANT pg_signal_backend TO gate;
            CREATE ROLE other LOGIN PASSWORD 'other';
            CREATE SCHEMA shop; CREATE TABLE shop.orders (id int); INSERT INTO shop.orders VALUES (1);
            SET ROLE gate; CREATE ROLE \"tg_orders_read-only\" NOLOGIN;
            COMMENT ON ROLE \"tg_orders_read-only\" IS 'tidegate profile orders/read-only'; RESET ROLE;
            GRANT USAGE ON SCHEMA shop TO \"tg_orders_read-only\"; GRANT SELECT ON shop.orders TO \"tg_orders_read-only\"";
        server.batch("postgres", setup).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system(None);
        let journal = journal(folder.path(), &clock);
        Self {
            server,
            folder,
            journal,
            clock,
        }
    }

    fn target(&self) -> Arc<Target> {
        let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
        let mut target = Target::new(
            "orders".parse().unwrap(),
            "127.0.0.1".to_owned(),
            "postgres".to_owned(),
            "gate".to_owned(),
            tls,
        );
        target.port = self.server.port();
        target.account.password = Some(crate::base::secret::Secret::new("gate".to_owned()));
        Arc::new(target)
    }

    /// As a start of the gate makes them.
    fn roles(&self) -> GrantRoles {
        self.roles_of(&self.journal, false)
    }

    fn roles_of(&self, journal: &Journal, creates: bool) -> GrantRoles {
        let profile = RoleProfile {
            name: "read-only".parse().unwrap(),
            connections: None,
            settings: vec![
                ("statement_timeout".to_owned(), "30s".to_owned()),
                ("search_path".to_owned(), "shop, public".to_owned()),
            ],
            views: None,
            copy: None,
            creates,
        };
        GrantRoles::new(self.target(), vec![profile], journal.clone(), self.clock.clone())
    }

    fn grant(&self, window: Duration) -> Lent {
        self.grant_for(window, "ana@example.com")
    }

    fn grant_for(&self, window: Duration, identity: &str) -> Lent {
        let mut random = [0; 10];
        getrandom::fill(&mut random).unwrap();
        let terms = Terms {
            identity: identity.parse().unwrap(),
            target: "orders".parse().unwrap(),
            reason: None,
            window,
            activate_within: LONG,
            deadline: None,
            max_sessions: 4,
            client_network: None,
            profile: Some("read-only".parse().unwrap()),
            request: None,
        };
        let now = self.clock.now();
        let grant = grant::create(GrantId::from_random(random), terms, "ops", now).unwrap();
        let grant = grant::apply(&grant, &GrantChange::Activate, now).unwrap();
        Lent(watch::Sender::new(Arc::new(grant)))
    }

    async fn text(&self, sql: &str) -> String {
        let client = self.server.client("postgres").await.unwrap();
        let rows = client.simple_query(sql).await.unwrap();
        let row = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap_or_default()
    }

    /// All that is on record.
    fn log(&self) -> String {
        use std::io::Read as _;
        let mut log = String::new();
        for segment in audit::segment::list(&self.folder.path().join("audit")).unwrap() {
            segment.open().unwrap().read_to_string(&mut log).unwrap();
        }
        log
    }

    async fn roles_there(&self) -> String {
        self.text("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'").await
    }

    async fn wait_for(&self, what: &str, sql: &str, wanted: &str) {
        let limit = Instant::now() + Duration::from_secs(30);
        while self.text(sql).await != wanted {
            assert!(Instant::now() < limit, "{what}: {} instead of {wanted}", self.text(sql).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A session as the gate opens it.
    async fn login(&self, account: &TargetAccount) -> Client {
        let role = account.grant.as_ref().and_then(|of| of.role.as_ref());
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.server.port())
            .user(&account.user)
            .password(account.password.as_ref().unwrap().expose())
            .dbname("postgres")
            .options(role.map(|role| format!("-c role={role}")).unwrap_or_default());
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Lent {
    fn change(&self, house: &House, change: &GrantChange) {
        let next = grant::apply(&self.0.borrow(), change, house.clock.now()).unwrap();
        self.0.send_replace(Arc::new(next));
    }

    fn revoke(&self, house: &House) {
        let change = GrantChange::Revoke {
            by: "ops".to_owned(),
            reason: None,
        };
        self.change(house, &change);
    }

    async fn account(&self, roles: &GrantRoles) -> Result<Arc<TargetAccount>, RoleError> {
        roles.account(self.0.subscribe()).await
    }
}

fn journal(folder: &std::path::Path, clock: &Clock) -> Journal {
    Journal::open(&audit::JournalSettings::in_folder(folder), clock.clone()).unwrap()
}

async fn one(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_profile_and_nothing_else() {
    let house = House::open().await;
    for creates in [false, true] {
        is_its_profile(&house, creates).await;
    }
}

/// Where things are made, a session starts in the profile's role and has none of its rights but there.
async fn is_its_profile(house: &House, creates: bool) {
    let roles = house.roles_of(&house.journal, creates);
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    assert!(Arc::ptr_eq(&account, &lent.account(&roles).await.unwrap()), "made once");
    let session = house.login(&account).await;
    let user = if creates { HOLDER } else { &account.user };
    for back in [
        "SELECT 1",
        "RESET ROLE",
        "DISCARD ALL",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET ALL",
    ] {
        one(&session, back).await;
        assert_eq!(one(&session, "SELECT current_user").await, user, "after {back}");
        assert_eq!(one(&session, ACTS_AS).await, HOLDER, "after {back}");
        assert_eq!(one(&session, "SELECT count(*) FROM orders").await, "1", "after {back}");
    }
    assert_eq!(one(&session, "SHOW statement_timeout").await, "30s");
    one(&session, "SET ROLE NONE").await;
    let login = session.simple_query("SELECT * FROM shop.orders").await;
    assert_eq!(login.is_err(), creates, "the login itself");
    let attributes = format!(
        "SELECT concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit)
        FROM pg_roles WHERE rolname = '{}'",
        account.user
    );
    let inherits = if creates { "f" } else { "t" };
    assert_eq!(house.text(&attributes).await, format!("f {inherits} f f f f 8"));
    let members = format!(
        "SELECT string_agg(concat_ws(' ', roleid::regrole, to_jsonb(m)->>'inherit_option', to_jsonb(m)->>'set_option', admin_option), ', ')
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = '{}'",
        account.user
    );
    let said = house.text(&members).await;
    let later = format!(r#""{HOLDER}" {} true f"#, !creates);
    assert!(said == later || said == format!(r#""{HOLDER}" f"#), "{said}");
    let stored = format!(
        "SELECT left(rolpassword, 18) FROM pg_authid WHERE rolname = '{}'",
        account.user
    );
    let stored = house.text(&stored).await;
    assert_eq!(stored, "SCRAM-SHA-256$4096");
    assert!(
        !house
            .server
            .log()
            .contains(account.password.as_ref().unwrap().expose().as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn its_logins_end_when_the_grant_does_wherever_that_moves() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    lent.account(&roles).await.unwrap();
    let differs = |lent: &Lent| {
        format!(
            "SELECT abs(extract(epoch FROM rolvaliduntil - '{}')) < 1 FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
            lent.0.borrow().until().unwrap()
        )
    };
    house.wait_for("as granted", &differs(&lent), "t").await;
    lent.change(&house, &GrantChange::Extend(Duration::from_mins(15)));
    house.wait_for("later", &differs(&lent), "t").await;
    lent.change(&house, &GrantChange::ShortenBy(Duration::from_mins(20)));
    house.wait_for("sooner", &differs(&lent), "t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_a_window_closes_but_what_it_made() {
    let house = House::open().await;
    let roles = house.roles();
    let sizes = "SELECT concat_ws(' ', (SELECT count(*) FROM pg_authid), (SELECT count(*) FROM pg_auth_members),
        (SELECT count(*) FROM pg_shdepend), (SELECT count(*) FROM pg_shdescription), (SELECT count(*) FROM pg_db_role_setting),
        (SELECT count(*) FROM pg_default_acl), (SELECT sum(length(relacl::text)) FROM pg_class))";
    let before = house.text(sizes).await;
    let lent = house.grant(Duration::from_secs(2));
    let account = lent.account(&roles).await.unwrap();
    let session = house.login(&account).await;
    for sql in [
        "SET ROLE NONE",
        "SELECT lo_create(4711)",
        "ALTER ROLE CURRENT_USER SET work_mem = '1MB'",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "LISTEN news",
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE t (a int)",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "BEGIN",
    ] {
        session.simple_query(sql).await.unwrap();
    }
    assert!(session.simple_query("SELECT pg_sleep(3600)").await.is_err(), "it is ended");
    house
        .wait_for(
            "the role is gone",
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
            "0",
        )
        .await;
    let heir = house
        .text("SELECT lomowner::regrole FROM pg_largeobject_metadata WHERE oid = 4711")
        .await;
    assert_eq!(heir, format!("\"{HOLDER}\""));
    house.text("SELECT lo_unlink(4711)").await;
    assert_eq!(house.text(sizes).await, before);
    assert!(matches!(lent.account(&roles).await, Err(RoleError::Over)));
    assert_eq!(
        roles.counted(),
        RoleCounts {
            present: 0,
            made: 1,
            retired: 1,
            left: 0,
            intruders: 0
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_depend_on_is_not_dropped_and_the_role_can_log_nobody_in() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let role = lent.account(&roles).await.unwrap().user.clone();
    // What only the table's owner can take back.
    house.text(&format!("GRANT SELECT ON shop.orders TO \"{role}\"")).await;
    lent.revoke(&house);
    let cannot = "SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE 'gr\\_%'";
    house.wait_for("locked out", cannot, "f").await;
    let limit = Instant::now() + Duration::from_secs(20);
    while roles.counted().left == 0 {
        assert!(Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.text(&format!("REVOKE SELECT ON shop.orders FROM \"{role}\"")).await;
    house
        .wait_for(
            "tried again until it is gone",
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
            "0",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_be_made_is_not_made_in_part() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let ending = async |lent: &Lent| {
        let error = lent.account(&roles).await.unwrap_err();
        let grant = lent.0.borrow().clone();
        (error.ending(&grant, house.clock.now()), error.to_string())
    };
    let not_made = Ending::RoleNotMade {
        target: "orders".parse().unwrap(),
        read_only: false,
    };

    house.text("ALTER ROLE gate NOCREATEROLE").await;
    assert_eq!(ending(&lent).await.0, not_made);
    house.text("ALTER ROLE gate CREATEROLE").await;

    house.text("ALTER ROLE \"tg_orders_read-only\" RENAME TO away").await;
    let (said, why) = ending(&lent).await;
    assert_eq!(said, not_made);
    assert!(why.contains("tg_orders_read-only") && why.contains("42704"), "{why}");
    house.text("ALTER ROLE away RENAME TO \"tg_orders_read-only\"").await;

    let taken = house.grant_for(LONG, "bo");
    let name = grant_role(taken.0.borrow().identity(), taken.0.borrow().id());
    house.text(&format!("CREATE ROLE {} PASSWORD 'theirs'", name.quoted())).await;
    let before = house.text("SELECT md5(string_agg(a::text, '')) FROM pg_authid a").await;
    let (said, why) = ending(&taken).await;
    assert_eq!((said, why.contains("not created by this gate")), (not_made, true), "{why}");
    assert_eq!(
        house.text("SELECT md5(string_agg(a::text, '')) FROM pg_authid a").await,
        before
    );
    house.text(&format!("DROP ROLE {}", name.quoted())).await;

    house.text("ALTER SYSTEM SET default_transaction_read_only = on").await;
    house.text("SELECT pg_reload_conf()").await;
    house.wait_for("read-only", "SHOW default_transaction_read_only", "on").await;
    drop(roles.0.making.session(&house.target()).await);
    assert_eq!(house.roles_there().await, "0", "nothing in part");
    house
        .server
        .batch("postgres", "SET default_transaction_read_only = off; SELECT 1")
        .await
        .unwrap();
    lent.account(&house.roles()).await.map(drop).unwrap_err();
    assert_eq!(house.roles_there().await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_takes_over_what_lives_and_ends_what_does_not() {
    let house = House::open().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other_gate = journal(elsewhere.path(), &house.clock);
    let (alive, over) = (house.grant(LONG), house.grant(LONG));
    let theirs = house.grant(LONG);
    let (former, others) = (house.roles(), house.roles_of(&other_gate, false));
    let old = alive.account(&former).await.unwrap();
    let dead = over.account(&former).await.unwrap();
    let foreign = theirs.account(&others).await.unwrap();
    let (left, kept) = (house.login(&dead).await, house.login(&foreign).await);
    let stray = house.login(&old).await;
    let session: i32 = one(&stray, "SELECT pg_backend_pid()").await.parse().unwrap();

    // As after `kill -9`: nothing but the server and the store remember.
    let roles = house.roles();
    let alive_id = alive.0.borrow().id().clone();
    let live = |id: &GrantId| (*id == alive_id).then(|| alive.0.subscribe());
    let reaped = roles.reconcile(live, &HashSet::from([session]), true).await.unwrap();
    assert_eq!((reaped.found, reaped.over, reaped.intruders), (2, 1, 2), "{reaped:?}");
    // The former run's own session is no intruder's; who was logged in beside it is, on record.
    assert_eq!(roles.counted().intruders, 1);
    let log = house.log();
    assert_eq!(log.matches("intruder_ended").count(), 1);
    assert!(log.contains(", found at the gate's start, and no session"), "{log}");
    house
        .wait_for(
            "the dead one's role",
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
            "2",
        )
        .await;
    assert!(left.simple_query("SELECT 1").await.is_err());
    assert!(stray.simple_query("SELECT 1").await.is_err());
    assert!(kept.simple_query("SELECT 1").await.is_ok(), "another gate's is left alone");

    let new = alive.account(&roles).await.unwrap();
    assert_eq!(new.user, old.user);
    assert!(new.password != old.password);
    assert_eq!(one(&house.login(&new).await, ACTS_AS).await, HOLDER);
    alive.revoke(&house);
    house
        .wait_for("in the end", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'", "1")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_past_the_gate_is_ended() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = lent.account(&roles).await.unwrap();
    let (session, intruder) = (house.login(&account).await, house.login(&account).await);
    let held: i32 = one(&session, "SELECT pg_backend_pid()").await.parse().unwrap();
    let held = HashSet::from([held]);
    let live = |_: &GrantId| Some(lent.0.subscribe());
    let first = roles.reconcile(live, &held, false).await.unwrap();
    assert_eq!(
        (first.suspects, first.intruders),
        (1, 0),
        "it may be a session that is just being opened"
    );
    for since in roles.0.strangers.lock().values_mut() {
        *since -= ReconcileResult::LATER;
    }
    let second = roles.reconcile(live, &held, false).await.unwrap();
    assert_eq!((second.suspects, second.intruders), (0, 1));
    assert!(intruder.simple_query("SELECT 1").await.is_err());
    assert!(session.simple_query("SELECT 1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_no_role() {
    let house = House::open().await;
    let roles = house.roles();
    for _ in 0..3 {
        house.grant(LONG).account(&roles).await.map(drop).unwrap_or_default();
    }
    let lent = house.grant(LONG);
    lent.account(&roles).await.unwrap();
    roles.close().await;
    assert_eq!(house.roles_there().await, "0");
    assert!(lent.account(&roles).await.is_ok(), "made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_name_is_a_name() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant_for(LONG, &format!("{}@x:/+._-", "é".len().to_string().repeat(55)));
    let account = lent.account(&roles).await.unwrap();
    assert_eq!(account.user.len(), 63);
    assert_eq!(one(&house.login(&account).await, "SELECT session_user").await, account.user);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_come_and_go_and_the_catalogue_is_as_before() {
    let many = std::env::var("TIDEGATE_GRANTS").map_or(60, |number| number.parse().unwrap());
    let house = House::open().await;
    let roles = house.roles();
    let sizes = "SELECT concat_ws(' ', (SELECT count(*) FROM pg_authid), (SELECT count(*) FROM pg_auth_members),
        (SELECT count(*) FROM pg_shdepend), (SELECT count(*) FROM pg_shdescription), (SELECT sum(length(relacl::text)) FROM pg_class))";
    let before = house.text(sizes).await;
    let mut took = Vec::new();
    let begun = Instant::now();
    for round in 0..many / 20 {
        let mut lents = Vec::new();
        for _ in 0..20 {
            let lent = house.grant(LONG);
            let start = Instant::now();
            lent.account(&roles).await.unwrap();
            took.push(start.elapsed());
            lents.push(lent);
        }
        for lent in &lents {
            lent.revoke(&house);
        }
        if round % 10 == 9 {
            house
                .wait_for(
                    "they go",
                    "SELECT count(*) < 50 FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
                    "t",
                )
                .await;
        }
    }
    house
        .wait_for(
            "all are gone",
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\\_%'",
            "0",
        )
        .await;
    took.sort();
    println!(
        "{} grants came and went in {:.1?}; making a role: p50 {:.1?}, p99 {:.1?}",
        took.len(),
        begun.elapsed(),
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    assert_eq!(house.text(sizes).await, before);
}

/// A role can be called anything, line breaks included.
#[tokio::test]
async fn a_role_that_was_given_away_is_taken_back_whatever_the_other_is_called() {
    let house = House::open().await;
    let roles = house.roles();
    let lent = house.grant(LONG);
    let account = roles.account(lent.0.subscribe()).await.unwrap();
    let role = quoted(&account.user);
    let give = format!("CREATE ROLE \"ev\"\"il\nother\" LOGIN; SET ROLE gate; GRANT {role} TO \"ev\"\"il\nother\"");
    house.server.batch("postgres", &give).await.unwrap();
    let found = roles.look().await.unwrap();
    assert_eq!(found[0].given_to, ["ev\"il\nother"]);
    let grant = lent.0.subscribe();
    roles
        .reconcile(|_| Some(grant.clone()), &HashSet::new(), false)
        .await
        .unwrap();
    assert_eq!(roles.look().await.unwrap()[0].given_to, [""; 0]);
}
