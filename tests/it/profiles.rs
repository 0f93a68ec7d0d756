//! Profiles that say what they may do: planned, applied, and looked after by a running gate.

use std::process::Output;

use serde_json::Value;
use tidegate::demo::testkit::{ServerOptions, TestGate};

use crate::support::{Database, binary, eventually, start, told};

const PROFILES: &str = "
[targets.shop.profiles.read-only]
select = [\"public.*\", \"!public.cards\", \"public.cards(id)\", \"public.nothing_*\"]
[targets.shop.profiles.masked]
select = [\"public.*\"]
mask = { \"public.cards\" = { last_four = \"partial\" } }
";

/// A gate of a database of its own, for what changes there is everybody's.
fn gate(database: &Database) -> TestGate {
    let config = format!("{}{PROFILES}", database.shop.target_table("shop", ""));
    let superuser = ("superuser.password", database.server.password().expose().as_str());
    TestGate::start(binary(), &config, &[database.shop.password_file(), superuser]).expect("a gate")
}

fn target(gate: &TestGate, arguments: &[&str]) -> Output {
    let password = gate.folder().join("superuser.password");
    let as_superuser = ["--user", "postgres", "--password-file", password.to_str().expect("UTF-8")];
    gate.command(&[&["target"], arguments, &["shop"], &as_superuser].concat())
        .expect("the command")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_applied_and_looked_after() {
    let database = start(&ServerOptions::default());
    let gate = gate(&database);
    let drift = async |profile: &str, value: u8| {
        let line = format!("tidegate_profile_drift{{target=\"shop\",profile=\"{profile}\"}} {value}");
        eventually(&line, async || told(&gate, "metrics").contains(&line).then_some(())).await;
    };
    // The gate sees it at its start, and says it once.
    drift("read-only", 1).await;
    drift("masked", 1).await;
    let status = async |line: &str| {
        let status = || gate.command(&["target", "status", "shop"]).expect("the command");
        let shown = || String::from_utf8_lossy(&status().stdout).contains(line);
        eventually(line, async || shown().then_some(())).await;
    };
    status("Profile read-only: the database differs in ").await;
    let planned = target(&gate, &["plan"]);
    assert_eq!(planned.status.code(), Some(7));
    let text = String::from_utf8_lossy(&planned.stdout).into_owned();
    for line in [
        "read-only (role tg_shop_read-only): differs by",
        "CREATE ROLE \"tg_shop_read-only\" NOLOGIN",
        "GRANT SELECT (\"id\") ON TABLE \"public\".\"cards\" TO \"tg_shop_read-only\";  -- ",
        "note: `public.nothing_*` in `select` matches no object",
        "PUBLIC has CONNECT, TEMPORARY on the database",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    // The target's own account owns nothing: it is told so, and nothing is half done.
    let refused = gate.command(&["target", "apply", "shop"]).expect("the command");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("nothing was changed"), "{said}");

    let applied = target(&gate, &["apply", "--output", "json"]);
    assert_eq!(applied.status.code(), Some(0), "{}", String::from_utf8_lossy(&applied.stderr));
    assert!(
        json(&applied)["done"][0]["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() > 3)
    );
    let again = target(&gate, &["apply"]);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains("the database already matched its profiles"), "{said}");
    let planned = target(&gate, &["plan", "--output", "json"]);
    assert_eq!(
        (planned.status.code(), &json(&planned)["in_step"]),
        (Some(0), &Value::Bool(true))
    );

    // A look comes with every reload, too.
    gate.reload().expect("a reload");
    drift("read-only", 0).await;
    drift("masked", 0).await;
    let log = gate.log();
    assert_eq!(log.matches("the database differs from its profile").count(), 2, "{log}");
    assert_eq!(log.matches("matches its profile again").count(), 2, "{log}");
    status("Profile masked: the database matches (checked at ").await;

    // A change is noticed within seconds, and that it is undone.
    for (sql, value) in [
        ("GRANT DELETE ON orders TO \"tg_shop_read-only\"", 1),
        ("REVOKE DELETE ON orders FROM \"tg_shop_read-only\"", 0),
        ("CREATE TABLE later (a int)", 1),
        ("DROP TABLE later", 0),
    ] {
        database.server.batch("shop", sql).await.expect(sql);
        drift("read-only", value).await;
    }
    assert!(told(&gate, "metrics").contains("tidegate_profile_checked_timestamp_seconds{target=\"shop\"}"));

    // What somebody else gives is told, and nobody's apply is refused for it.
    let given = "GRANT USAGE ON LANGUAGE plpgsql TO \"tg_shop_read-only\"";
    database.server.batch("shop", given).await.expect("it is given");
    let applied = gate.command(&["target", "apply", "shop"]).expect("the command");
    let said = String::from_utf8_lossy(&applied.stdout).into_owned();
    assert_eq!(applied.status.code(), Some(7), "{said}");
    assert!(
        said.contains("read-only: granted by others: postgres granted it rights"),
        "{said}"
    );
}
