//! Masks beside what people do with a database: its search path, qualified names, migrations, restores and dumps.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tidegate::demo::testkit::{TestLogin, TestPostgres};

use crate::support::{Raw, TARGET, Told, Walls, code, eventually, value};

const PROFILES: &str =
    "[targets.shop.profiles.masked]\nselect = [\"*.*\"]\nmask = { \"public.cards\" = { pan = \"partial\" } }\n";
const MASKED: &str = "************1111";

/// A server with masks applied, a gate before it, and a schema of the application's own.
async fn masked() -> Walls {
    let walls = Walls::bare(PROFILES).await;
    let setup = "CREATE SCHEMA app; CREATE TABLE app.customers (id int); INSERT INTO app.customers VALUES (1), (2), (3)";
    walls.server.batch("shop", setup).await.expect("a schema");
    good(&superuser(&walls, &["apply"], &[]));
    walls
}

/// `tidegate target`, as superuser; what comes behind `--` is a program of PostgreSQL's, as superuser too.
fn target_command(walls: &Walls, arguments: &[&str], program: &[&str]) -> Command {
    let (name, rest) = arguments.split_first().expect("a subcommand");
    let mut all = vec!["target", name, "shop", "--user", "postgres", "--password-env", "SUPERUSER"];
    all.extend(rest);
    let mut command = walls.gate.operator(&all);
    command.env("SUPERUSER", walls.server.password().expose());
    if let Some((program, arguments)) = program.split_first() {
        let path = walls.server.binaries().folder().join(program);
        command
            .arg("--")
            .arg(if path.exists() { path.as_path() } else { Path::new(program) })
            .args(arguments);
    }
    past_the_gate(&mut command, &walls.server);
    command
}

fn superuser(walls: &Walls, arguments: &[&str], program: &[&str]) -> Output {
    target_command(walls, arguments, program).output().expect("the command")
}

fn past_the_gate<'a>(command: &'a mut Command, server: &TestPostgres) -> &'a mut Command {
    command
        .env("PGHOST", server.folder())
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", server.superuser())
        .env("PGDATABASE", "shop")
}

fn good(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
}

/// A new session reads through the mask, and the database is as the profile says.
async fn masks_hold(walls: &Walls) {
    let (_, session) = walls.session("masked").await;
    assert_eq!(value(&session.client, "SELECT pan FROM cards").await.expect("a card"), MASKED);
    assert_eq!(code(&session.client, "SELECT pan FROM public.cards").await, "42501");
    good(&superuser(walls, &["plan"], &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_without_masks_holds_behind_the_views() {
    let walls = masked().await;
    let finds = async |sql: &str, customers: bool| {
        walls
            .server
            .client("shop")
            .await
            .expect("a connection")
            .batch_execute(sql)
            .await
            .expect(sql);
        let (_, session) = walls.session("masked").await;
        let found = code(&session.client, "SELECT count(*) FROM customers").await;
        assert_eq!(found, if customers { "" } else { "42P01" }, "{sql}");
        assert_eq!(
            value(&session.client, "SELECT pan FROM cards").await.expect("a card"),
            MASKED,
            "{sql}"
        );
    };
    finds("SELECT 1", false).await;
    finds("ALTER DATABASE shop SET search_path = app, public", true).await;
    // Any session of the profile may say this of its role, so it leads nobody else.
    finds("ALTER ROLE tg_shop_masked SET search_path = nowhere", true).await;
    finds("ALTER ROLE tg_shop_masked IN DATABASE shop SET search_path = nowhere", true).await;
    finds("ALTER DATABASE shop RESET ALL", false).await;
    finds("ALTER ROLE ALL SET search_path = \"$user\", app", true).await;
    let reset = "ALTER ROLE ALL RESET ALL";
    finds(reset, false).await;
    walls
        .server
        .client("shop")
        .await
        .expect("a connection")
        .batch_execute("ALTER SYSTEM SET search_path = public, app")
        .await
        .expect("set");
    walls.asks("SELECT pg_reload_conf()").await;
    eventually("the server's own path is another", async || {
        (walls.asks("SHOW search_path").await == "public, app").then_some(())
    })
    .await;
    finds("SELECT 1", true).await;

    // One that a client asks for when it connects.
    let login = walls.grant("masked", "10m");
    let mut raw = Raw::connect(&walls.gate)
        .await
        .login_with(&login, &[("database", TARGET), ("search_path", "public")])
        .await
        .expect("in");
    raw.query("SELECT pan FROM cards").await;
    assert!(raw.until(b'D').await.body.ends_with(MASKED.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_table_is_told_with_its_view() {
    let walls = masked().await;
    let login = walls.grant("masked", "10m");
    let mut raw = Raw::session(&walls.gate, &login).await;
    for sql in [
        "SELECT pan FROM public.cards",
        "SET search_path = public; SELECT pan FROM cards",
    ] {
        raw.query(sql).await;
        let told = Told::read(&raw.until(b'E').await.body);
        told.says(
            "ERROR",
            "42501",
            &["permission denied for table cards", "\"tg_shop_masked\".\"cards\""],
        );
        raw.until(b'Z').await;
    }
    raw.query("SELECT pan FROM tg_shop_masked.cards").await;
    assert!(raw.until(b'D').await.body.ends_with(MASKED.as_bytes()));
    raw.until(b'Z').await;
    raw.query("CREATE TABLE public.mine (a int)").await;
    let told = Told::read(&raw.until(b'E').await.body);
    assert_eq!(
        (told.code.as_str(), told.hint.as_str()),
        ("42501", ""),
        "others are as they were"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_work_is_done_under_lift() {
    let walls = masked().await;
    let migration = "ALTER TABLE cards ALTER COLUMN pan TYPE varchar(40)";
    let refused = walls.server.batch("shop", migration).await.expect_err("a view depends on it");
    assert!(
        refused.to_string().contains("view") || format!("{refused:?}").contains("view"),
        "{refused:?}"
    );
    good(&superuser(
        &walls,
        &["lift"],
        &["psql", "-v", "ON_ERROR_STOP=1", "-c", migration],
    ));
    let kind = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'cards'::regclass AND attname = 'pan'";
    assert_eq!(walls.asks(kind).await, "character varying(40)");
    masks_hold(&walls).await;

    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("shop.dump");
    let dump = dump.to_str().expect("UTF-8");
    let mut command = Command::new(walls.server.binaries().folder().join("pg_dump"));
    good(
        &past_the_gate(&mut command, &walls.server)
            .args(["-Fc", "-N", "tg_*", "-f", dump])
            .output()
            .expect("pg_dump"),
    );
    good(&superuser(
        &walls,
        &["lift"],
        &["pg_restore", "--clean", "--if-exists", "-d", "shop", dump],
    ));
    masks_hold(&walls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_come_back_however_the_command_ends() {
    let walls = masked().await;
    let failed = superuser(&walls, &["lift"], &["psql", "-c", "SELECT 1/0"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    masks_hold(&walls).await;
    let missing = superuser(&walls, &["lift"], &["/no/such/program"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    masks_hold(&walls).await;

    let (_, session) = walls.session("masked").await;
    let mut lift = target_command(&walls, &["lift"], &["sleep", "600"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the command");
    eventually("nothing is shown of a masked table", async || {
        (code(&session.client, "SELECT pan FROM cards").await == "42501").then_some(())
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(lift.id()).expect("a process id")).expect("a process");
    kill_process(pid, Signal::INT).expect("interrupted");
    let status = tokio::task::spawn_blocking(move || lift.wait().expect("it ends"))
        .await
        .expect("no panic");
    assert_eq!(status.code(), Some(130));
    masks_hold(&walls).await;

    // Who cannot apply does not lift.
    let ours = walls
        .gate
        .operator(&["target", "lift", "shop", "--", "true"])
        .output()
        .expect("the command");
    assert_eq!(ours.status.code(), Some(1), "{ours:?}");
    masks_hold(&walls).await;
}

/// pg_dump through the gate.
fn dumped(walls: &Walls, login: &TestLogin, more: &[&str]) -> Output {
    Command::new(walls.server.binaries().folder().join("pg_dump"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &walls.gate.port().to_string(),
            "-U",
            &login.grant,
            "-d",
            "shop",
        ])
        .args(more)
        .env("PGPASSWORD", login.secret.expose())
        .output()
        .expect("pg_dump")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_profile_dumps_what_it_may_read_with_rails_too() {
    let walls = Walls::bare(
        "[targets.shop.profiles.dump]\nselect = [\"public.*\"]\nsequence_select = [\"public.*\"]\nrails = { statements = [\"@read\"] }\n\
         [targets.shop.profiles.masked]\nselect = [\"public.*\"]\nsequence_select = [\"public.*\"]\n\
         mask = { \"public.cards\" = { pan = \"hash\" } }\nrails = { statements = [\"@read\"] }\n",
    )
    .await;
    let setup = "CREATE TABLE items (id serial PRIMARY KEY, order_id int REFERENCES orders, note text DEFAULT 'x');
        INSERT INTO items (order_id) VALUES (1), (2); CREATE VIEW open_items AS SELECT * FROM items WHERE note = 'x';
        CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql AS 'SELECT 2 * a'; CREATE INDEX ON items (note);
        CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE MATERIALIZED VIEW totals AS SELECT sum(total) AS total FROM orders";
    walls.server.batch("shop", setup).await.expect("more");
    good(&superuser(&walls, &["apply"], &[]));
    let dump = dumped(&walls, &walls.grant("dump", "10m"), &["-N", "tg_*"]);
    good(&dump);
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    for line in [
        "COPY public.orders (id, total) FROM stdin;",
        "4111111111111111",
        "SELECT pg_catalog.setval('public.items_id_seq', 2, true);",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    let dump = dumped(&walls, &walls.grant("masked", "10m"), &["-N", "tg_*", "-T", "public.cards"]);
    good(&dump);
    assert!(!String::from_utf8_lossy(&dump.stdout).contains("4111111111111111"));
}
