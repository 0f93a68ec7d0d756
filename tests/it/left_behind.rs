//! What a grant could leave to others: functions and views that run with its profile's rights, default privileges, gifts.
//!
//! Each is tried through the gate, under a grant, with profiles as `tidegate target apply` makes them.

use tidegate::demo::testkit::DriverConnection;

use crate::support::{Walls, code, eventually, records_of, value};

const NO: &str = "42501";

const PROFILES: &str = "
[targets.shop.profiles.read-only]
select = [\"public.orders\", \"public.cards(id)\"]
execute = [\"public.*\"]
[targets.shop.profiles.read-write]
select = [\"public.*\"]
insert = [\"public.*\"]
update = [\"public.*\"]
delete = [\"public.*\"]
create = [\"public\"]
";

/// One that shows less of the same tables than the other.
const MASKED: &str = "
[targets.shop.profiles.read-only]
select = [\"public.*\"]
mask = { \"public.cards\" = { pan = \"partial\" } }
[targets.shop.profiles.read-write]
select = [\"public.*\"]
insert = [\"public.*\"]
create = [\"public\"]
";

async fn walls() -> Walls {
    applied(PROFILES).await
}

async fn applied(profiles: &str) -> Walls {
    let walls = Walls::bare(profiles).await;
    std::fs::write(walls.gate.folder().join("owner.password"), walls.server.password().expose()).expect("a file");
    let (code, said) = target(&walls, "apply");
    assert_eq!(code, Some(0), "{said}");
    walls
}

/// As superuser.
fn target(walls: &Walls, what: &str) -> (Option<i32>, String) {
    let password = walls.gate.folder().join("owner.password");
    let password = password.to_str().expect("UTF-8");
    let command = ["target", what, "shop", "--user", "postgres", "--password-file", password];
    let output = walls.gate.command(&command).expect("the command");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

async fn run(session: &DriverConnection, sql: &str) {
    session
        .client
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_made_gives_nobody_its_profiles_rights() {
    let walls = walls().await;
    let (_, reader) = walls.session("read-only").await;
    let (login, writer) = walls.session("read-write").await;
    run(
        &writer,
        "CREATE FUNCTION leak() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT pan FROM public.cards';
         CREATE VIEW peek AS SELECT pan FROM cards; CREATE TABLE copy AS SELECT * FROM cards",
    )
    .await;
    assert_eq!(
        value(&writer.client, "SELECT leak()").await.expect("its own"),
        "4111111111111111"
    );
    let ways = ["SELECT leak()", "SELECT * FROM peek", "SELECT * FROM copy"];
    for way in ways {
        assert_eq!(code(&reader.client, way).await, NO, "{way}");
    }
    assert_eq!(target(&walls, "plan").0, Some(0));

    // Given on purpose, it is drift with its remedy, and is taken back when the grant ends.
    run(
        &writer,
        "GRANT EXECUTE ON FUNCTION leak() TO PUBLIC; GRANT SELECT ON peek TO PUBLIC; GRANT SELECT (pan) ON copy TO PUBLIC;
         GRANT SELECT ON copy TO colleague",
    )
    .await;
    assert_eq!(
        value(&reader.client, "SELECT leak()").await.expect("for now"),
        "4111111111111111"
    );
    let (code_of_plan, said) = target(&walls, "plan");
    assert_eq!(code_of_plan, Some(7), "{said}");
    for words in [
        "REVOKE ALL ON ROUTINE public.leak() FROM PUBLIC CASCADE",
        "REVOKE ALL ON TABLE public.peek FROM PUBLIC CASCADE",
        "REVOKE ALL ON TABLE public.copy FROM \"colleague\", PUBLIC CASCADE",
        "it runs with the profile's rights for every user",
    ] {
        assert!(said.contains(words), "{words} not in {said}");
    }
    walls.gate.reload().expect("SIGHUP, so that it looks now");
    eventually("the status names it", async || {
        let status = walls.gate.command(&["target", "status", "shop"]).expect("the command");
        let shown = String::from_utf8_lossy(&status.stdout).into_owned();
        shown
            .contains("REVOKE ALL ON ROUTINE public.leak() FROM PUBLIC")
            .then_some(())
    })
    .await;
    walls.revoke(&login);
    for way in ways {
        eventually(way, async || (code(&reader.client, way).await == NO).then_some(())).await;
    }
    eventually("nothing is left of it", async || {
        (target(&walls, "plan").0 == Some(0)).then_some(())
    })
    .await;
    let undone = eventually("it is on record", async || {
        let changes = records_of(&walls.gate, &login.grant, "role_changed");
        changes.into_iter().find(|record| record["change"] == "undone")
    })
    .await;
    assert!(
        undone["detail"].as_str().expect("words").contains("public.leak()"),
        "{undone}"
    );

    // `execute` with a wildcard does not mean it, also where who applies may give everything.
    let (code_of_apply, said) = target(&walls, "apply");
    assert_eq!(code_of_apply, Some(0), "{said}");
    assert!(said.contains("public.leak() was made under tg_shop_read-write"), "{said}");
    assert_eq!(code(&reader.client, "SELECT leak()").await, NO);
    // Other grants of the profile go on with it.
    let (_, next) = walls.session("read-write").await;
    assert_eq!(
        value(&next.client, "SELECT leak()").await.expect("its profile's"),
        "4111111111111111"
    );
}

/// Patterns match what sessions of another profile made, and the superuser who applies may give it; it is not given.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_masked_table_is_its_profiles_alone() {
    let walls = applied(MASKED).await;
    let (login, writer) = walls.session("read-write").await;
    run(
        &writer,
        "CREATE TABLE copy AS SELECT * FROM cards; CREATE VIEW peek AS SELECT pan FROM cards; CREATE MATERIALIZED VIEW kept AS TABLE cards;
         CREATE SEQUENCE numbers",
    )
    .await;
    let (code_of_apply, said) = target(&walls, "apply");
    assert_eq!(code_of_apply, Some(0), "{said}");
    let (_, reader) = walls.session("read-only").await;
    assert_eq!(
        value(&reader.client, "SELECT pan FROM cards").await.expect("a mask"),
        "************1111"
    );
    let ways = ["SELECT * FROM copy", "SELECT * FROM peek", "SELECT * FROM kept"];
    for way in ways {
        assert_eq!(code(&reader.client, way).await, NO, "{way}");
    }
    // Given by its maker, it is the other profile's for no longer than the grant.
    run(&writer, "GRANT SELECT ON copy, peek, kept TO \"tg_shop_read-only\"").await;
    for way in ways {
        assert_eq!(
            value(&reader.client, way).await.expect("for now"),
            if way.contains("peek") { "4111111111111111" } else { "1" }
        );
    }
    assert_eq!(target(&walls, "plan").0, Some(7));
    walls.revoke(&login);
    for way in ways {
        eventually(way, async || (code(&reader.client, way).await == NO).then_some(())).await;
    }
    eventually("nothing is left of it", async || {
        (target(&walls, "plan").0 == Some(0)).then_some(())
    })
    .await;
    // Its own profile goes on with it.
    let (_, next) = walls.session("read-write").await;
    assert_eq!(
        value(&next.client, "SELECT pan FROM copy").await.expect("its profile's"),
        "4111111111111111"
    );
}

/// A trigger that a session put on a table of others runs as whoever writes there: not beyond the grant, and no write fails by its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_goes_with_the_grant_that_made_it() {
    let walls = applied(&format!("{PROFILES}trigger = [\"public.orders\"]\n")).await;
    let (_, said) = target(&walls, "plan");
    assert!(said.contains("`trigger` lets sessions put code on public.orders"), "{said}");
    let (login, writer) = walls.session("read-write").await;
    run(
        &writer,
        "CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC;
         CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END';
         CREATE TRIGGER spy BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION spy()",
    )
    .await;
    let owner = walls.server.client("shop").await.expect("the owner");
    let write = "UPDATE orders SET total = total WHERE id = 1";
    value(&owner, write).await.expect("a write");
    let seen = "SELECT count(*) FROM seen WHERE who = 'postgres'";
    assert_eq!(walls.asks(seen).await, "1");
    let (code_of_plan, said) = target(&walls, "plan");
    assert_eq!(code_of_plan, Some(7), "{said}");
    assert!(said.contains("the trigger spy on public.orders"), "{said}");
    // Somebody works on the table when the grant ends: the trigger does nothing any more, and goes when they are through.
    value(&owner, &format!("BEGIN; {write}")).await.expect("a transaction");
    walls.revoke(&login);
    let undone = async |what: &str| {
        eventually(what, async || {
            let changes = records_of(&walls.gate, &login.grant, "role_changed");
            let detail = |record: &serde_json::Value| record["detail"].as_str().is_some_and(|detail| detail.contains(what));
            changes
                .iter()
                .any(|record| record["change"] == "undone" && detail(record))
                .then_some(())
        })
        .await;
    };
    undone("CREATE OR REPLACE FUNCTION public.spy() RETURNS trigger").await;
    undone("REVOKE ALL ON TABLE public.seen FROM PUBLIC CASCADE").await;
    let there = "SELECT count(*) FROM pg_trigger WHERE tgname = 'spy'";
    assert_eq!(walls.asks(there).await, "1", "the table is in use");
    walls.asks("UPDATE orders SET total = total WHERE id = 2").await;
    assert_eq!(walls.asks(seen).await, "1", "nobody looks any more");
    value(&owner, "COMMIT").await.expect("the end of it");
    undone("DROP FUNCTION IF EXISTS public.spy() CASCADE").await;
    assert_eq!(walls.asks(there).await, "0");
    value(&owner, write).await.expect("a write");
    assert_eq!(walls.asks(seen).await, "2", "of the writes while the grant lived");
    eventually("nothing is left of it", async || {
        (target(&walls, "plan").0 == Some(0)).then_some(())
    })
    .await;
}

/// Also what was given while no gate looked is undone, by `apply`.
#[tokio::test(flavor = "multi_thread")]
async fn apply_takes_back_what_was_given_away_before() {
    let walls = walls().await;
    walls
        .asks(
            "SET ROLE \"tg_shop_read-write\"; CREATE FUNCTION old() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
             GRANT EXECUTE ON FUNCTION old() TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
             ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM \"tg_shop_read-write\"",
        )
        .await;
    let (_, reader) = walls.session("read-only").await;
    assert_eq!(code(&reader.client, "SELECT old()").await, "");
    let (code_of_plan, said) = target(&walls, "plan");
    assert_eq!(code_of_plan, Some(7), "{said}");
    assert!(said.contains("a session changed the default privileges of tables"), "{said}");
    assert_eq!(target(&walls, "apply").0, Some(0));
    assert_eq!(target(&walls, "plan").0, Some(0));
    assert_eq!(code(&reader.client, "SELECT old()").await, NO);
    let (_, writer) = walls.session("read-write").await;
    run(
        &writer,
        "CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (1);
         CREATE FUNCTION fresh() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    )
    .await;
    assert_eq!(code(&reader.client, "SELECT fresh()").await, NO);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_privileges_go_with_the_grant_that_set_them() {
    let walls = walls().await;
    let defaults = "SELECT coalesce(string_agg(format('%s %s %s', defaclrole::regrole, defaclobjtype, defaclacl), '; ' ORDER BY 1), '') FROM pg_default_acl";
    let before = walls.asks(defaults).await;
    let (reading, reader) = walls.session("read-only").await;
    run(
        &reader,
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO colleague;
         ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC;
         SET ROLE NONE; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC",
    )
    .await;
    let (writing, writer) = walls.session("read-write").await;
    run(
        &writer,
        "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC, colleague; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    )
    .await;
    assert_ne!(walls.asks(defaults).await, before);
    assert_eq!(target(&walls, "plan").0, Some(7));
    walls.revoke(&reading);
    walls.revoke(&writing);
    eventually("they are as they were", async || {
        (walls.asks(defaults).await == before).then_some(())
    })
    .await;
    assert_eq!(target(&walls, "plan").0, Some(0));
    walls.empty().await;
}
