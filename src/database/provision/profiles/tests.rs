#![allow(clippy::too_many_lines, reason = "a test tells its story in one piece")]

use tokio_postgres::{Client, NoTls};

use super::*;
use crate::base::secret::Secret;
use crate::base::tls::{ClientTls, TlsMode};
use crate::database::rights::{ColumnMask, MaskedTable};
use crate::demo::testkit::{ServerOptions, TestPostgres};

const SHOP: &str = "
CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'p';
CREATE ROLE gate LOGIN CREATEROLE PASSWORD 'p';
CREATE DATABASE shop OWNER owner;
";

const TABLES: &str = "
SET ROLE owner;
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id serial PRIMARY KEY, what text, paid boolean DEFAULT false);
CREATE TABLE shop.cards (id int PRIMARY KEY, holder text, pan text, cvv int, expires date);
CREATE TABLE shop.\"Odd \"\"name\" (\"a b\" int);
CREATE VIEW shop.open_orders AS SELECT * FROM shop.orders WHERE NOT paid;
CREATE FUNCTION shop.total(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION shop.secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2';
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA shop FROM PUBLIC;
INSERT INTO shop.orders (what) VALUES ('a'), ('b');
INSERT INTO shop.cards VALUES (1, 'Ana', '4111111111111111', 123, '2030-01-01'), (2, 'Bo', '1234', 456, NULL);
";

struct Server {
    postgres: TestPostgres,
    /// As superuser, in the database.
    admin: Client,
}

impl Server {
    async fn start() -> Self {
        let postgres = tokio::task::spawn_blocking(|| TestPostgres::start(&ServerOptions::default()).unwrap())
            .await
            .unwrap();
        for statement in SHOP.split(";\n").filter(|statement| !statement.trim().is_empty()) {
            postgres.batch("postgres", statement).await.unwrap();
        }
        postgres.batch("shop", TABLES).await.unwrap();
        let admin = postgres.client("shop").await.unwrap();
        Self { postgres, admin }
    }

    fn target(&self, user: &str) -> Arc<Target> {
        let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
        let name = "orders".parse().unwrap();
        let mut target = Target::new(name, "127.0.0.1".to_owned(), "shop".to_owned(), user.to_owned(), tls);
        target.port = self.postgres.port();
        let password = if user == "postgres" {
            self.postgres.password().expose()
        } else {
            "p"
        };
        target.account.password = Some(Secret::new(password.to_owned()));
        Arc::new(target)
    }

    /// Somebody whose session starts in the profile's role, as a grant's does.
    async fn member(&self, profile: &str) -> Client {
        let role = profile_role(&"orders".parse().unwrap(), &profile.parse().unwrap());
        let name = format!("member_{}", profile.replace('-', "_"));
        let make = format!(
            "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN NOINHERIT PASSWORD 'p'; GRANT {} TO {name}",
            role.quoted()
        );
        self.admin.batch_execute(&make).await.unwrap();
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.postgres.port())
            .user(&name)
            .password("p")
            .dbname("shop")
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let start = format!("SET ROLE {role}; SET search_path = {role}, shop", role = role.quoted());
        client.batch_execute(&start).await.unwrap();
        client
    }

    async fn apply(&self, definitions: &ProfileDefinitions) -> TargetComparison {
        let done = apply(&self.target("owner"), definitions, |_, _| {}).await;
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn compare(&self, definitions: &ProfileDefinitions) -> TargetComparison {
        let compared = compare(&self.target("gate"), definitions).await;
        compared.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn definitions(profiles: &[(&str, &Rights)]) -> ProfileDefinitions {
    ProfileDefinitions {
        target: "orders".parse().unwrap(),
        account: "gate".to_owned(),
        profiles: profiles
            .iter()
            .map(|(name, rights)| ProfileDefinition {
                name: name.parse().unwrap(),
                rights: (*rights).clone(),
                settings: Vec::new(),
                capture: Vec::new(),
            })
            .collect(),
        elsewhere: Vec::new(),
    }
}

fn read_only() -> Rights {
    Rights {
        select: patterns(&["shop.*", "!shop.cards", "shop.cards(id, holder)"]),
        ..Rights::default()
    }
}

/// The statement's SQLSTATE, or what its first column says.
async fn tried(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            });
            rows.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

#[tokio::test]
async fn a_profile_has_what_it_says_and_nothing_else() {
    let server = Server::start().await;
    let (read_only, read_write) = (
        read_only(),
        Rights {
            select: patterns(&["shop.*"]),
            insert: patterns(&["shop.orders(what)"]),
            update: patterns(&["shop.orders", "!shop.orders(id)"]),
            delete: patterns(&["shop.orders"]),
            usage: patterns(&["shop.*"]),
            execute: patterns(&["shop.tot*"]),
            create: vec!["shop".parse().unwrap()],
            future: true,
            ..Rights::default()
        },
    );
    let both = definitions(&[("read-only", &read_only), ("read-write", &read_write)]);
    let before = server.compare(&both).await;
    assert!(before.profiles.iter().all(|compared| !compared.plan.in_step()));
    server.apply(&both).await;
    // Whoever looks, owner or gate: nothing is left to do.
    for user in ["owner", "gate"] {
        let after = compare(&server.target(user), &both).await.unwrap();
        assert!(after.in_step(), "{after:#?}");
    }
    let reader = server.member("read-only").await;
    assert_eq!(tried(&reader, "SELECT count(*) FROM shop.orders").await, "2");
    assert_eq!(tried(&reader, "SELECT count(*) FROM shop.\"Odd \"\"name\"").await, "0");
    assert_eq!(tried(&reader, "SELECT holder FROM shop.cards").await, "Ana Bo");
    assert_eq!(tried(&reader, "SELECT pan FROM shop.cards").await, "42501");
    assert_eq!(tried(&reader, "SELECT * FROM shop.cards").await, "42501");
    assert_eq!(tried(&reader, "SELECT 1 FROM shop.cards WHERE cvv = 123").await, "42501");
    for sql in [
        "INSERT INTO shop.orders (what) VALUES ('c')",
        "UPDATE shop.orders SET what = 'c'",
        "DELETE FROM shop.orders",
        "TRUNCATE shop.orders",
        "SELECT nextval('shop.orders_id_seq')",
        "SELECT shop.total(1, 'a')",
        "CREATE TABLE shop.mine ()",
        "COPY shop.orders FROM PROGRAM 'true'",
    ] {
        assert_eq!(tried(&reader, sql).await, "42501", "{sql}");
    }
    let writer = server.member("read-write").await;
    assert_eq!(
        tried(&writer, "INSERT INTO shop.orders (what) VALUES ('c') RETURNING id").await,
        "3"
    );
    assert_eq!(
        tried(&writer, "INSERT INTO shop.orders (id, what) VALUES (9, 'c')").await,
        "42501"
    );
    assert_eq!(
        tried(&writer, "UPDATE shop.orders SET paid = true WHERE id = 3 RETURNING what").await,
        "c"
    );
    assert_eq!(tried(&writer, "UPDATE shop.orders SET id = 4 WHERE id = 3").await, "42501");
    assert_eq!(tried(&writer, "DELETE FROM shop.orders WHERE id = 3 RETURNING id").await, "3");
    assert_eq!(tried(&writer, "SELECT shop.total(1, 'a')").await, "1");
    assert_eq!(tried(&writer, "SELECT shop.secret()").await, "42501");
    assert_eq!(
        tried(&writer, "CREATE TABLE shop.mine (id int); SELECT count(*) FROM shop.mine").await,
        "0"
    );
    // What the owner makes later is covered where the definition has no exclusion, and not where it has one.
    server
        .admin
        .batch_execute("SET ROLE owner; CREATE TABLE shop.later (id int); RESET ROLE")
        .await
        .unwrap();
    assert_eq!(tried(&writer, "SELECT count(*) FROM shop.later").await, "0");
    assert_eq!(tried(&reader, "SELECT count(*) FROM shop.later").await, "42501");
    // The profile's own table is its own: no difference of it, for nobody.
    let drifted = server.compare(&both).await;
    let steps: Vec<_> = drifted
        .profiles
        .iter()
        .flat_map(|compared| &compared.plan.steps)
        .map(|step| step.sql.as_str())
        .collect();
    assert_eq!(steps, ["GRANT SELECT ON TABLE \"shop\".\"later\" TO \"tg_orders_read-only\""]);
    assert_eq!(
        drifted.profiles[0].plan.blocked.len(),
        1,
        "{:?}",
        drifted.profiles[0].plan.blocked
    );
}

/// Whatever a session makes, and in whosever schema: nobody's definition means it, so it keeps nobody from applying.
#[tokio::test]
async fn what_sessions_make_keeps_nobody_from_applying() {
    let server = Server::start().await;
    let maker = Rights {
        create: vec!["shop".parse().unwrap()],
        ..Rights::default()
    };
    let reader = Rights {
        select: patterns(&["shop.*"]),
        usage: patterns(&["shop.*"]),
        execute: patterns(&["shop.*"]),
        future: true,
        ..Rights::default()
    };
    let both = definitions(&[("maker", &maker), ("reader", &reader)]);
    server.apply(&both).await;
    let session = server.member("maker").await;
    let made = "CREATE TABLE shop.mine (id serial); CREATE FUNCTION shop.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    session.batch_execute(made).await.unwrap();
    for user in ["owner", "postgres", "gate"] {
        let compared = compare(&server.target(user), &both).await.unwrap();
        assert!(compared.in_step(), "{user}: {compared:#?}");
        let done = apply(&server.target(user), &both, |_, _| {}).await;
        done.unwrap_or_else(|error| panic!("{user}: {error}"));
    }
    // A gift to the other profile, and one beforehand, are undone.
    let given = "GRANT SELECT ON shop.mine TO tg_orders_reader; ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO tg_orders_reader";
    session.batch_execute(given).await.unwrap();
    let other = server.member("reader").await;
    assert_eq!(tried(&other, "SELECT count(*) FROM shop.mine").await, "0");
    server.apply(&both).await;
    assert_eq!(tried(&other, "SELECT count(*) FROM shop.mine").await, "42501");
    session.batch_execute("CREATE TABLE shop.later (id int)").await.unwrap();
    assert_eq!(tried(&other, "SELECT count(*) FROM shop.later").await, "42501");
    assert!(server.compare(&both).await.in_step());
}

/// Code on a table of others, which runs as whoever writes there: it is told, taken away, and no write fails by it.
#[tokio::test]
async fn triggers_on_tables_of_others_are_taken_away() {
    let server = Server::start().await;
    let parts = "SET ROLE owner; CREATE TABLE shop.pay (id int) PARTITION BY RANGE (id);
        CREATE TABLE shop.pay_1 PARTITION OF shop.pay FOR VALUES FROM (0) TO (10); RESET ROLE";
    server.admin.batch_execute(parts).await.unwrap();
    let rights = Rights {
        trigger: patterns(&["shop.orders", "shop.pay*", "shop.open_orders"]),
        create: vec!["shop".parse().unwrap()],
        ..Rights::default()
    };
    let only = definitions(&[("maker", &rights)]);
    let done = server.apply(&only).await;
    let warnings = done.profiles[0].plan.warnings.join("\n");
    assert!(
        warnings.contains("`trigger` lets sessions put code on shop.open_orders, shop.orders, shop.pay"),
        "{warnings}"
    );
    let session = server.member("maker").await;
    let spy = "CREATE TABLE shop.seen (who text); GRANT INSERT ON shop.seen TO PUBLIC;
        CREATE FUNCTION shop.spy() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO shop.seen VALUES (current_user); RETURN coalesce(NEW, OLD); END';
        CREATE TRIGGER \"sp\"\"y\" BEFORE INSERT OR DELETE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.spy();
        CREATE TRIGGER spy AFTER INSERT ON shop.pay FOR EACH ROW EXECUTE FUNCTION shop.spy();
        CREATE TRIGGER spy INSTEAD OF INSERT ON shop.open_orders FOR EACH ROW EXECUTE FUNCTION shop.spy();
        CREATE TRIGGER own BEFORE DELETE ON shop.seen EXECUTE FUNCTION shop.spy()";
    let temporary = "CREATE FUNCTION pg_temp.peep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER peep BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION pg_temp.peep()";
    let writes = "SET ROLE owner; INSERT INTO shop.orders (what) VALUES ('x'); INSERT INTO shop.pay VALUES (1);
        INSERT INTO shop.open_orders (what) VALUES ('x'); DELETE FROM shop.orders WHERE what = 'x'; RESET ROLE";
    let seen = "SELECT count(*) FROM shop.seen WHERE who = 'owner'";
    let there = "SELECT count(*) FROM pg_trigger WHERE tgname IN ('sp\"y', 'spy', 'peep') AND (to_jsonb(pg_trigger)->>'tgparentid')::oid = 0";
    for (user, left, function) in [("owner", "0", "1"), ("postgres", "0", "1"), ("gate", "1", "0")] {
        session.batch_execute(spy).await.unwrap();
        session.batch_execute(temporary).await.unwrap();
        server.admin.batch_execute(writes).await.unwrap();
        assert_eq!(tried(&server.admin, seen).await, "4");
        let drifted = compare(&server.target(user), &only).await.unwrap();
        let plan = &drifted.profiles[0].plan;
        let told = plan.first(10).join("\n");
        for trigger in [
            "sp\"y on shop.orders",
            "spy on shop.pay,",
            "spy on shop.open_orders",
            "peep on shop.orders",
        ] {
            assert!(
                told.contains(&format!("the trigger {trigger}")),
                "{user}: {trigger} not in {told}"
            );
        }
        assert!(!told.contains("trigger own") && !told.contains("pay_1"), "{user}: {told}");
        let done = apply(&server.target(user), &only, |_, _| {}).await;
        done.unwrap_or_else(|error| panic!("{user}: {error}"));
        // What only the table's owner can take away goes with its session; nothing else is left, and writes go on.
        assert_eq!(tried(&server.admin, there).await, left, "{user}");
        server.admin.batch_execute("TRUNCATE shop.seen").await.unwrap();
        server.admin.batch_execute(writes).await.unwrap();
        assert_eq!(tried(&server.admin, seen).await, "0", "{user}");
        let functions = "SELECT count(*) FROM pg_proc WHERE proname = 'spy'";
        assert_eq!(tried(&server.admin, functions).await, function, "{user}");
        let clean =
            "DROP TRIGGER IF EXISTS peep ON shop.orders; DROP FUNCTION IF EXISTS shop.spy() CASCADE; DROP TABLE shop.seen;
            DELETE FROM shop.pay; DELETE FROM shop.orders WHERE what = 'x'";
        server.admin.batch_execute(clean).await.unwrap();
        session.batch_execute("DROP FUNCTION pg_temp.peep()").await.unwrap();
    }
}

/// What a session owns itself (its profile makes nothing, and everybody may) is its profile's, also while the grant lives.
#[tokio::test]
async fn what_a_live_grants_role_gave_away_is_told() {
    let server = Server::start().await;
    let (maker, reader) = (Rights::default(), read_only());
    let both = definitions(&[("maker", &maker), ("read-only", &reader)]);
    server.apply(&both).await;
    let made = "CREATE ROLE gr_1111111111_ana IN ROLE tg_orders_maker; GRANT CREATE, USAGE ON SCHEMA shop TO gr_1111111111_ana;
        COMMENT ON ROLE gr_1111111111_ana IS 'tidegate grant gr_1111111111 on orders gate lg_1111111111';
        SET ROLE gr_1111111111_ana; CREATE FUNCTION shop.leak() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
        CREATE TABLE shop.copy (pan text); GRANT SELECT ON shop.copy TO \"tg_orders_read-only\"; RESET ROLE";
    server.admin.batch_execute(made).await.unwrap();
    let drifted = compare(&server.target("owner"), &both).await.unwrap();
    let excess = drifted.profiles[0].plan.excess.join("\n");
    for said in [
        "may not act as gr_1111111111_ana; with an account that may: REVOKE ALL ON ROUTINE shop.leak() FROM PUBLIC CASCADE",
        "REVOKE ALL ON TABLE shop.copy FROM \"tg_orders_read-only\" CASCADE",
    ] {
        assert!(excess.contains(said), "{said} not in {excess}");
    }
    let warnings = drifted.profiles[1].plan.warnings.join("\n");
    assert!(
        warnings.contains("shop.copy was made under gr_1111111111_ana and was not granted"),
        "{warnings}"
    );
    apply(&server.target("postgres"), &both, |_, _| {}).await.unwrap();
    assert!(server.compare(&both).await.in_step());
    let session = server.member("read-only").await;
    for sql in ["SELECT shop.leak()", "SELECT * FROM shop.copy"] {
        assert_eq!(tried(&session, sql).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn what_is_beyond_the_definition_is_taken_away() {
    let server = Server::start().await;
    let rights = read_only();
    let only = definitions(&[("read-only", &rights)]);
    server.apply(&only).await;
    let drift = "
        GRANT SELECT, TRUNCATE ON shop.cards TO \"tg_orders_read-only\";
        GRANT INSERT (what) ON shop.orders TO \"tg_orders_read-only\";
        GRANT EXECUTE ON FUNCTION shop.secret() TO \"tg_orders_read-only\";
        GRANT USAGE ON SEQUENCE shop.orders_id_seq TO \"tg_orders_read-only\";
        GRANT CREATE ON SCHEMA shop TO \"tg_orders_read-only\";
        REVOKE SELECT ON shop.orders FROM \"tg_orders_read-only\";
        ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA shop GRANT SELECT ON TABLES TO \"tg_orders_read-only\";
        ALTER ROLE \"tg_orders_read-only\" LOGIN CREATEROLE;
        GRANT SELECT ON shop.open_orders TO \"tg_orders_read-only\" WITH GRANT OPTION;
        SET ROLE \"tg_orders_read-only\"; GRANT SELECT ON shop.open_orders TO PUBLIC; RESET ROLE;
        SET ROLE owner; CREATE ROLE helpers; GRANT helpers TO \"tg_orders_read-only\"; RESET ROLE";
    server.admin.batch_execute(drift).await.unwrap();
    // From 16 on only who made a role may say who is a member of it.
    let drifted = compare(&server.target("owner"), &only).await.unwrap();
    insta::assert_json_snapshot!(drifted.profiles[0].plan.steps);
    server.apply(&only).await;
    let after = server.compare(&only).await;
    assert!(
        after.in_step() && !after.everybody.join(" ").contains("open_orders"),
        "{after:#?}"
    );
    let reader = server.member("read-only").await;
    assert_eq!(tried(&reader, "SELECT holder FROM shop.cards").await, "Ana Bo");
    assert_eq!(tried(&reader, "SELECT pan FROM shop.cards").await, "42501");
}

#[tokio::test]
async fn what_others_give_stands_in_the_way_of_nothing() {
    let server = Server::start().await;
    let rights = read_only();
    let only = definitions(&[("read-only", &rights)]);
    server.apply(&only).await;
    // A stranger with things of their own, one who may hand on what is another's, and the account with things no profile names.
    let gifts = "
        CREATE ROLE stranger CREATEROLE; GRANT CREATE ON SCHEMA shop TO stranger; GRANT CREATE ON DATABASE shop TO stranger;
        GRANT USAGE ON SCHEMA shop TO gate; GRANT DELETE ON shop.orders TO gate WITH GRANT OPTION;
        GRANT USAGE ON LANGUAGE plpgsql TO \"tg_orders_read-only\";
        SET ROLE gate; GRANT DELETE ON shop.orders TO \"tg_orders_read-only\"; RESET ROLE;
        SET ROLE stranger; CREATE SCHEMA away; CREATE TABLE away.mine (id int); CREATE TYPE away.mood AS ENUM ('good');
        GRANT SELECT (id) ON away.mine TO \"tg_orders_read-only\"; GRANT USAGE ON SCHEMA away TO \"tg_orders_read-only\";
        GRANT USAGE ON TYPE away.mood TO \"tg_orders_read-only\" WITH GRANT OPTION;
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO \"tg_orders_read-only\";
        CREATE ROLE friends; GRANT friends TO \"tg_orders_read-only\";
        SELECT lo_create(16001); GRANT SELECT ON LARGE OBJECT 16001 TO \"tg_orders_read-only\"; RESET ROLE;
        SET ROLE owner; SELECT lo_create(16002); GRANT ALL ON LARGE OBJECT 16002 TO \"tg_orders_read-only\" WITH GRANT OPTION;
        CREATE TYPE shop.mood AS ENUM ('bad'); GRANT USAGE ON TYPE shop.mood TO \"tg_orders_read-only\"; RESET ROLE;
        SET ROLE \"tg_orders_read-only\"; GRANT SELECT ON LARGE OBJECT 16002 TO stranger; RESET ROLE;
        REVOKE SELECT ON shop.orders FROM \"tg_orders_read-only\"";
    server.admin.batch_execute(gifts).await.unwrap();
    let done = server.apply(&only).await;
    let steps: Vec<_> = done.profiles[0].plan.steps.iter().map(|step| step.sql.as_str()).collect();
    let role = "\"tg_orders_read-only\"";
    for sql in [
        format!("REVOKE ALL ON LARGE OBJECT 16002 FROM {role} CASCADE"),
        format!("REVOKE ALL ON TYPE shop.mood FROM {role} CASCADE"),
        format!("GRANT SELECT ON TABLE \"shop\".\"orders\" TO {role}"),
    ] {
        assert!(steps.contains(&sql.as_str()), "{sql} not in {steps:?}");
    }
    let left = compare(&server.target("owner"), &only).await.unwrap();
    assert!(!left.in_step() && left.profiles[0].plan.steps.is_empty(), "{left:#?}");
    let excess = left.profiles[0].plan.excess.join("\n");
    for said in [
        "as stranger: REVOKE ALL ON LARGE OBJECT 16001",
        "as stranger: REVOKE ALL ON TYPE away.mood",
        "as stranger: REVOKE SELECT (\"id\") ON TABLE \"away\".\"mine\"",
        "as stranger: REVOKE USAGE ON SCHEMA \"away\"",
        "as stranger: ALTER DEFAULT PRIVILEGES FOR ROLE \"stranger\" REVOKE SELECT ON TABLES",
        "ON LANGUAGE plpgsql",
    ] {
        assert!(excess.contains(said), "{said} not in\n{excess}");
    }
    // The gate may take what it gave itself; the owner may not.
    let as_gate = compare(&server.target("gate"), &only).await.unwrap();
    let told = |compared: &TargetComparison| format!("{:?}", compared.profiles[0].plan);
    assert!(told(&as_gate).contains("REVOKE DELETE") && told(&left).contains("as gate: REVOKE DELETE"));
    let reader = server.member("read-only").await;
    assert_eq!(tried(&reader, "SELECT 1 FROM shop.orders").await, "1 1");
    // A superuser can take all of it.
    let done = apply(&server.target("postgres"), &only, |_, _| {}).await.unwrap();
    let steps: Vec<_> = done.profiles[0].plan.steps.iter().map(|step| step.sql.as_str()).collect();
    assert!(steps.len() >= 6, "{steps:?}");
    let mine = server.admin.query_one(
        "SELECT has_column_privilege('tg_orders_read-only', 'away.mine', 'id', 'SELECT')",
        &[],
    );
    assert!(!mine.await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn who_stands_still_keeps_nobody_from_applying() {
    let server = Server::start().await;
    let rights = read_only();
    let only = definitions(&[("read-only", &rights)]);
    server.apply(&only).await;
    let reader = server.member("read-only").await;
    // Whatever number anybody takes a lock on: an apply asks for none of them.
    let lock = format!("SELECT pg_advisory_lock({})", i64::from_be_bytes(*b"tidegate"));
    assert_eq!(tried(&reader, &lock).await, "");
    let drift = "REVOKE SELECT ON shop.orders FROM \"tg_orders_read-only\"";
    server.admin.batch_execute(drift).await.unwrap();
    let limit = Duration::from_secs(10);
    let applied = tokio::time::timeout(limit, server.apply(&only)).await.unwrap();
    assert_eq!(applied.profiles[0].plan.steps.len(), 1);
    for sql in [TAKE_LOCK, "ALTER ROLE \"tg_orders_read-only\" CREATEROLE"] {
        assert_eq!(tried(&reader, sql).await, "42501", "{sql}");
    }
    // Who may make roles can hold it, and is named.
    server.admin.batch_execute(&format!("BEGIN; {TAKE_LOCK}")).await.unwrap();
    let impatient = server.postgres.client("shop").await.unwrap();
    impatient.batch_execute("SET lock_timeout = '50ms'; BEGIN").await.unwrap();
    let busy = take_lock(&impatient).await.unwrap_err().to_string();
    let pid: i32 = server.admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert!(busy.contains(&format!("process {pid}, user postgres, application")), "{busy}");
    server.admin.batch_execute("ROLLBACK").await.unwrap();
    let said = apply(&server.target("owner"), &only, |_, _| {}).await.unwrap();
    assert!(said.profiles[0].plan.steps.is_empty());
}

#[tokio::test]
async fn masks_are_shown_in_place_of_values() {
    let server = Server::start().await;
    let column = |name: &str, mask| (name.to_owned(), mask);
    let mut rights = Rights {
        select: patterns(&["shop.*"]),
        insert: patterns(&["shop.cards"]),
        masks: vec![MaskedTable {
            schema: "shop".to_owned(),
            name: "cards".to_owned(),
            columns: vec![
                column("holder", ColumnMask::Hash),
                column("pan", ColumnMask::Partial),
                column("cvv", ColumnMask::Constant("0".to_owned())),
                column("expires", ColumnMask::Null),
            ],
        }],
        ..Rights::default()
    };
    let masked = |rights: &Rights| definitions(&[("masked", rights)]);
    server.apply(&masked(&rights)).await;
    assert!(server.compare(&masked(&rights)).await.in_step());
    let tester = server.member("masked").await;
    assert_eq!(
        tried(&tester, "SELECT pan FROM cards ORDER BY id").await,
        "************1111 ****"
    );
    assert_eq!(
        tried(&tester, "SELECT count(cvv) FROM cards WHERE cvv = 0 AND expires IS NULL").await,
        "2"
    );
    assert_eq!(tried(&tester, "SELECT length(holder) FROM cards WHERE id = 1").await, "64");
    let hash = "SELECT encode(sha256('Ana'), 'hex') = holder FROM cards WHERE id = 1";
    assert_eq!(tried(&tester, hash).await, "f", "it is salted");
    assert_eq!(tried(&tester, "SELECT salt FROM \"tidegate salt\"").await, "42501");
    for sql in [
        "SELECT id FROM shop.cards",
        "SELECT count(*) FROM shop.cards",
        "UPDATE cards SET id = 3",
        "DELETE FROM cards",
    ] {
        assert_eq!(tried(&tester, sql).await, "42501", "{sql}");
    }
    let masked_column = "INSERT INTO cards (id, pan) VALUES (3, 'x')";
    assert_eq!(
        tried(&tester, masked_column).await,
        "0A000",
        "a masked column cannot be written"
    );
    assert_eq!(tried(&tester, "INSERT INTO cards (id) VALUES (3) RETURNING id").await, "3");
    // A column that is renamed is not shown until the definition says what it is now.
    server
        .admin
        .batch_execute("ALTER TABLE shop.cards RENAME pan TO number; ALTER TABLE shop.cards ADD note text")
        .await
        .unwrap();
    let refused = apply(&server.target("owner"), &masked(&rights), |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("a column pan that does not exist"), "{refused}");
    assert_eq!(tried(&tester, "SELECT pan FROM cards WHERE id = 1").await, "************1111");
    rights.masks[0].columns[1].0 = "number".to_owned();
    server.apply(&masked(&rights)).await;
    assert_eq!(
        tried(&tester, "SELECT number FROM cards WHERE id = 1").await,
        "************1111"
    );
    assert_eq!(tried(&tester, "SELECT count(*) FROM cards WHERE note IS NULL").await, "3");
    // A view that somebody changes is noticed and made anew.
    let view =
        "CREATE OR REPLACE VIEW \"tg_orders_masked\".cards AS SELECT id, holder, number, cvv, expires, note FROM shop.cards";
    let changed = format!("SET ROLE owner; DROP VIEW \"tg_orders_masked\".cards; {view}; RESET ROLE");
    server.admin.batch_execute(&changed).await.unwrap();
    assert!(!server.compare(&masked(&rights)).await.in_step());
    server.apply(&masked(&rights)).await;
    assert_eq!(
        tried(&tester, "SELECT number FROM cards WHERE id = 1").await,
        "************1111"
    );
    // Without masks nothing is left of them.
    rights.masks.clear();
    server.apply(&masked(&rights)).await;
    assert!(server.compare(&masked(&rights)).await.in_step());
    assert_eq!(
        tried(&tester, "SELECT number FROM shop.cards WHERE id = 1").await,
        "4111111111111111"
    );
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'tg_orders_masked'";
    assert_eq!(tried(&server.admin, left).await, "0");
}

#[tokio::test]
async fn partitions_give_no_more_than_their_table() {
    let server = Server::start().await;
    let parts = "SET ROLE owner;
        CREATE TABLE shop.pay (id int, iban text) PARTITION BY RANGE (id);
        CREATE TABLE shop.pay_1 PARTITION OF shop.pay FOR VALUES FROM (0) TO (10);
        CREATE VIEW shop.ibans AS SELECT iban FROM shop.pay;
        INSERT INTO shop.pay VALUES (1, 'DE00'); RESET ROLE";
    server.admin.batch_execute(parts).await.unwrap();
    let rights = Rights {
        select: patterns(&["shop.*", "!shop.pay(iban)"]),
        ..Rights::default()
    };
    let only = definitions(&[("read-only", &rights)]);
    let done = server.apply(&only).await;
    let reader = server.member("read-only").await;
    assert_eq!(tried(&reader, "SELECT id FROM shop.pay").await, "1");
    assert_eq!(tried(&reader, "SELECT id FROM shop.pay_1").await, "1");
    assert_eq!(tried(&reader, "SELECT iban FROM shop.pay").await, "42501");
    assert_eq!(tried(&reader, "SELECT iban FROM shop.pay_1").await, "42501");
    let warnings = &done.profiles[0].plan.warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("the view shop.ibans reads shop.pay")),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn what_is_kept_back_is_reached_by_no_other_way() {
    let server = Server::start().await;
    let tables = "SET ROLE owner; CREATE SCHEMA parts;
        CREATE TABLE shop.pay (id int, iban text) PARTITION BY RANGE (id);
        CREATE TABLE parts.pay_1 PARTITION OF shop.pay FOR VALUES FROM (0) TO (10);
        CREATE TABLE shop.base (id int); CREATE TABLE shop.child (secret text) INHERITS (shop.base);
        CREATE MATERIALIZED VIEW shop.copied AS SELECT iban FROM parts.pay_1;
        CREATE VIEW shop.inner_cards AS SELECT pan FROM shop.cards; CREATE VIEW shop.outer_cards AS SELECT * FROM shop.inner_cards;
        INSERT INTO shop.pay VALUES (1, 'DE00'); INSERT INTO shop.child VALUES (7, 'x'); RESET ROLE";
    server.admin.batch_execute(tables).await.unwrap();
    let masked = |schema: &str, table: &str, column: &str| MaskedTable {
        schema: schema.to_owned(),
        name: table.to_owned(),
        columns: vec![(column.to_owned(), ColumnMask::Null)],
    };
    let of = |texts: &[&str], masks: &[MaskedTable]| Rights {
        select: patterns(texts),
        masks: masks.to_vec(),
        future: true,
        ..Rights::default()
    };
    let refused = async |rights: &Rights| {
        let only = definitions(&[("read-only", rights)]);
        let refused = apply(&server.target("owner"), &only, |_, _| {}).await;
        refused.map(|done| done.profiles[0].plan.steps.len()).unwrap_err().to_string()
    };
    // A part kept back, the whole given.
    for rights in [
        of(&["*.*", "!parts.pay_1"], &[]),
        of(&["*.*", "!parts.pay_1(iban)"], &[]),
        of(&["*.*"], &[masked("parts", "pay_1", "iban")]),
    ] {
        let said = refused(&rights).await;
        assert!(
            said.contains("`select` grants shop.pay, and with it") && said.contains("parts.pay_1"),
            "{said}"
        );
    }
    let said = refused(&of(&["shop.*", "!shop.child"], &[])).await;
    assert!(
        said.contains("`select` grants shop.base, and with it what is excluded in its partitions or children: all of shop.child"),
        "{said}"
    );
    // The whole masked: its part is not given, a view of the part is told of, and what is made later is nobody's yet.
    let mut rights = of(&["*.*"], &[masked("shop", "pay", "iban"), masked("shop", "cards", "pan")]);
    let only = |rights: &Rights| definitions(&[("read-only", rights)]);
    let done = server.apply(&only(&rights)).await;
    let warnings = done.profiles[0].plan.warnings.join("\n");
    for said in [
        "the view shop.copied reads parts.pay_1",
        "the view shop.outer_cards reads shop.cards",
        "the view shop.inner_cards reads shop.cards",
        "`select` does not cover objects created later",
    ] {
        assert!(warnings.contains(said), "{said} not in\n{warnings}");
    }
    let later = "SET ROLE owner; CREATE TABLE parts.pay_2 PARTITION OF shop.pay FOR VALUES FROM (10) TO (20);
        CREATE VIEW parts.cards_again AS SELECT * FROM shop.cards; RESET ROLE";
    server.admin.batch_execute(later).await.unwrap();
    let reader = server.member("read-only").await;
    let around = ["shop.copied", "shop.inner_cards", "shop.outer_cards", "parts.cards_again"];
    for table in ["shop.pay", "parts.pay_1", "parts.pay_2"].into_iter().chain(around) {
        assert_eq!(tried(&reader, &format!("SELECT * FROM {table}")).await, "42501", "{table}");
    }
    assert_eq!(tried(&reader, "SELECT count(*) FROM pay WHERE iban IS NULL").await, "1");
    // Who names a view means it, and is told what it shows.
    rights.select.extend(patterns(&["shop.outer_cards"]));
    let done = server.apply(&only(&rights)).await;
    let warnings = done.profiles[0].plan.warnings.join("\n");
    assert!(warnings.contains("granted, since `select` names it"), "{warnings}");
    assert_eq!(tried(&reader, "SELECT * FROM shop.inner_cards").await, "42501");
    assert_ne!(tried(&reader, "SELECT * FROM shop.outer_cards").await, "42501");
    rights.select.pop();
    // Who masks a view names it, too.
    rights.masks.push(masked("shop", "inner_cards", "pan"));
    server.apply(&only(&rights)).await;
    assert_eq!(tried(&reader, "SELECT count(pan) FROM inner_cards").await, "0");
    rights.masks.pop();
    // A masked table by another name is nobody's either, until somebody says what it is called.
    server
        .admin
        .batch_execute("ALTER TABLE shop.cards RENAME TO plastic")
        .await
        .unwrap();
    let said = refused(&rights).await;
    assert!(said.contains("the mask of shop.cards matches no object"), "{said}");
    assert_eq!(tried(&reader, "SELECT pan FROM shop.plastic").await, "42501");
    let said = refused(&of(&["*.*", "!shop.cards"], &[])).await;
    assert!(said.contains("`!shop.cards` in `select` matches no object"), "{said}");
    rights.masks[1].name = "plastic".to_owned();
    server.apply(&only(&rights)).await;
    assert_eq!(tried(&reader, "SELECT count(pan) FROM plastic").await, "0");
}

#[tokio::test]
async fn settings_are_tried_before_anybody_needs_them() {
    let server = Server::start().await;
    let rights = read_only();
    let mut only = definitions(&[("read-only", &rights)]);
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    only.profiles[0].settings = vec![
        setting("Statement_Timeout", "30s"),
        setting("work_mem", "16MB"),
        setting("search_path", "\"tg_orders_read-only\", nowhere"),
        setting("shop.colour", "red"),
        setting("ignore_system_indexes", "on"),
    ];
    server.apply(&only).await;
    only.profiles[0].settings = vec![
        setting("work_mem", "much"),
        setting("work_mom", "16MB"),
        setting("default_transaction_isolation", "none"),
        setting("log_statement", "none"),
        setting("max_connections", "7"),
        setting("statement_timeout", "-5"),
    ];
    let said = apply(&server.target("owner"), &only, |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    for line in [
        "work_mem cannot be 'much': ",
        "work_mom cannot be '16MB': ",
        "default_transaction_isolation cannot be 'none': ",
        "log_statement cannot be 'none': gate may not set it",
        "max_connections cannot be '7': it is the whole server's",
        "statement_timeout cannot be '-5': ",
        "nothing was changed",
    ] {
        assert!(said.contains(line), "{line} not in\n{said}");
    }
}

#[tokio::test]
async fn a_profile_that_is_no_more_is_told_of() {
    let server = Server::start().await;
    let mut masked = read_only();
    masked.masks = vec![MaskedTable {
        schema: "shop".to_owned(),
        name: "cards".to_owned(),
        columns: vec![("holder".to_owned(), ColumnMask::Hash)],
    }];
    masked.create = vec!["shop".parse().unwrap()];
    let rights = read_only();
    let both = definitions(&[("read-only", &rights), ("old", &masked)]);
    assert_eq!(server.apply(&both).await.left, Vec::<String>::new());
    let made = "SET ROLE tg_orders_old; CREATE TABLE shop.kept (id int);
        CREATE FUNCTION shop.left_behind() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'; RESET ROLE;
        ALTER TABLE shop.kept OWNER TO owner";
    server.admin.batch_execute(made).await.unwrap();
    let left = server.compare(&definitions(&[("read-only", &rights)])).await.left;
    let [left] = left.as_slice() else { panic!("{left:?}") };
    let (_, sql) = left.split_once("uses it: ").unwrap();
    server.admin.batch_execute(sql).await.unwrap();
    let gone = "SELECT count(*) FROM pg_roles WHERE rolname = 'tg_orders_old'";
    assert_eq!(tried(&server.admin, gone).await, "0");
    assert_eq!(tried(&server.admin, "SELECT count(*) FROM shop.kept").await, "0", "{sql}");
    // What sessions made comes to run with nobody else's rights, least of all a superuser's.
    let left_behind = "SELECT count(*) FROM pg_proc WHERE proname = 'left_behind'";
    assert_eq!(tried(&server.admin, left_behind).await, "0", "{sql}");
}

#[tokio::test]
async fn the_salt_is_nobodys() {
    let server = Server::start().await;
    let before = "CREATE ROLE mallory LOGIN; SET ROLE owner;
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC, mallory; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC;
        RESET ROLE";
    server.admin.batch_execute(before).await.unwrap();
    let rights = Rights {
        select: patterns(&["shop.cards"]),
        masks: vec![MaskedTable {
            schema: "shop".to_owned(),
            name: "cards".to_owned(),
            columns: vec![("pan".to_owned(), ColumnMask::Hash)],
        }],
        ..Rights::default()
    };
    let only = definitions(&[("masked", &rights)]);
    server.apply(&only).await;
    assert!(server.compare(&only).await.in_step());
    let look = "SET ROLE mallory; SELECT salt FROM tg_orders_masked.\"tidegate salt\"";
    let others = "SELECT count(*) FROM (SELECT relacl AS acl, relowner AS owner FROM pg_class
        WHERE relnamespace = 'tg_orders_masked'::regnamespace UNION ALL
        SELECT nspacl, nspowner FROM pg_namespace WHERE nspname = 'tg_orders_masked') AS o CROSS JOIN LATERAL aclexplode(o.acl) AS a
        WHERE a.grantee <> o.owner AND a.grantee <> 'tg_orders_masked'::regrole";
    assert_eq!(tried(&server.admin, look).await, "42501");
    server.admin.batch_execute("RESET ROLE").await.unwrap();
    assert_eq!(tried(&server.admin, others).await, "0");
    // Given later, it is taken back, and what may have been seen is worth nothing.
    let salt = "SELECT salt FROM tg_orders_masked.\"tidegate salt\"";
    let seen = tried(&server.admin, salt).await;
    let given =
        "SET ROLE owner; GRANT USAGE ON SCHEMA tg_orders_masked TO PUBLIC; GRANT SELECT ON tg_orders_masked.cards TO mallory;
        GRANT SELECT (salt) ON tg_orders_masked.\"tidegate salt\" TO PUBLIC, tg_orders_masked; RESET ROLE";
    server.admin.batch_execute(given).await.unwrap();
    let drifted = server.compare(&only).await;
    assert!(!drifted.in_step());
    server.apply(&only).await;
    assert!(server.compare(&only).await.in_step());
    assert_eq!(tried(&server.admin, others).await, "0");
    assert_ne!(tried(&server.admin, salt).await, seen);
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'tg_orders_masked.\"tidegate salt\"'::regclass AND attacl::text <> '{}'";
    assert_eq!(tried(&server.admin, columns).await, "0");
}

#[tokio::test]
async fn what_is_not_the_gates_is_not_touched() {
    let server = Server::start().await;
    let rights = read_only();
    let only = definitions(&[("read-only", &rights)]);
    server
        .admin
        .batch_execute("CREATE ROLE \"tg_orders_read-only\"")
        .await
        .unwrap();
    for error in [
        compare(&server.target("gate"), &only).await.unwrap_err(),
        apply(&server.target("owner"), &only, |_, _| {}).await.unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.contains("exists and does not belong to the gate"), "{said}");
    }
    server
        .admin
        .batch_execute("DROP ROLE \"tg_orders_read-only\"; ALTER ROLE owner NOCREATEROLE")
        .await
        .unwrap();
    // The account has lost what it takes to make roles; then the server can only be read; nothing is there either time.
    let said = apply(&server.target("owner"), &only, |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("lacks CREATEROLE") && said.contains("nothing was changed"),
        "{said}"
    );
    let restrict = "ALTER ROLE owner CREATEROLE; ALTER DATABASE shop SET default_transaction_read_only = on";
    server.admin.batch_execute(restrict).await.unwrap();
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tg\\_%'";
    assert_eq!(tried(&server.admin, roles).await, "0");
    // A default of the database is not a server that can only be read: the transaction says what it wants.
    server.apply(&only).await;
    assert_eq!(tried(&server.admin, roles).await, "1");
    let gone = Arc::new({
        let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
        let mut target = Target::new(
            "orders".parse().unwrap(),
            "127.0.0.1".to_owned(),
            "shop".to_owned(),
            "gate".to_owned(),
            tls,
        );
        target.port = 1;
        target
    });
    let said = display_chain(&compare(&gone, &only).await.unwrap_err());
    assert!(said.contains("cannot reach"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_do_it_once_and_what_vanishes_is_not_there() {
    let server = Arc::new(Server::start().await);
    let rights = Rights {
        select: patterns(&["shop.*"]),
        ..Rights::default()
    };
    let only = Arc::new(definitions(&[("read-only", &rights)]));
    let run = || {
        let (server, only) = (Arc::clone(&server), Arc::clone(&only));
        tokio::spawn(async move { apply(&server.target("owner"), &only, |_, _| {}).await })
    };
    let (first, second) = (run(), run());
    let mut steps = Vec::new();
    for done in [first, second] {
        let done = done.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
        steps.push(done.profiles[0].plan.steps.len());
    }
    steps.sort_unstable();
    assert!(steps[0] == 0 && steps[1] > 0, "{steps:?}");
    // Tables come and go meanwhile. Either side can be the one that comes second to a row of the catalogue; this one shrugs.
    let others = server.postgres.client("shop").await.unwrap();
    for number in 0..10 {
        let applied = run();
        for turn in 0..5 {
            let name = format!("shop.t_{number}_{turn}");
            let make = format!("SET ROLE owner; CREATE TABLE {name} (id int)");
            let _ = others.batch_execute(&make).await;
            let _ = others.batch_execute(&format!("DROP TABLE IF EXISTS {name}")).await;
        }
        applied.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
    server.apply(&only).await;
    assert!(server.compare(&only).await.in_step());
}

/// How long it takes: `cargo test --lib thousand_tables -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints figures"]
async fn a_thousand_tables() {
    let server = Server::start().await;
    let make = "SET ROLE owner; DO 'BEGIN FOR n IN 1..1000 LOOP
        EXECUTE format(''CREATE TABLE shop.t%s (a int, b text, c text, d date, e int)'', n); END LOOP; END'; RESET ROLE";
    server.admin.batch_execute(make).await.unwrap();
    let rights = Rights {
        select: patterns(&["shop.*", "!shop.*(c)"]),
        insert: patterns(&["shop.*"]),
        ..Rights::default()
    };
    let only = definitions(&[("read-only", &rights)]);
    let clock = crate::base::clock::Clock::system(None);
    let begun = clock.moment().instant;
    let done = server.apply(&only).await;
    let applied = clock.moment().instant;
    assert!(server.compare(&only).await.in_step());
    println!(
        "1,000 tables, {} statements: applied in {:?}, compared in {:?}",
        done.profiles[0].plan.steps.len(),
        applied - begun,
        clock.moment().instant - applied
    );
}

#[tokio::test]
async fn what_is_made_under_a_profile_has_an_owner_beside_it() {
    let server = Server::start().await;
    let making = |owner: &str| Rights {
        select: patterns(&["shop.orders"]),
        create: vec!["shop".parse().unwrap()],
        owner: Some(owner.to_owned()),
        ..Rights::default()
    };
    let unknown = making("nobody");
    let blocked = server.compare(&definitions(&[("read-write", &unknown)])).await;
    let told = blocked.profiles[0].plan.blocked.join("\n");
    assert!(told.contains("the role nobody, the owner of objects"), "{told}");

    let made = making("owner");
    let definitions = definitions(&[("read-write", &made)]);
    server.apply(&definitions).await;
    assert!(server.compare(&definitions).await.in_step());
    let maker = server.member("read-write").await;
    assert_eq!(tried(&maker, "CREATE TABLE shop.notes AS SELECT 1 AS a").await, "");
    // As the nightly dump, and whoever migrates.
    let owner = server.postgres.client("shop").await.unwrap();
    assert_eq!(tried(&owner, "SET ROLE owner").await, "");
    for (sql, said) in [
        ("LOCK TABLE shop.notes IN ACCESS SHARE MODE", "25P01"),
        ("SELECT a FROM shop.notes", "1"),
        ("ALTER TABLE shop.notes ADD COLUMN b int", ""),
        ("DROP TABLE shop.notes", ""),
    ] {
        assert_eq!(tried(&owner, sql).await, said, "{sql}");
    }
}
