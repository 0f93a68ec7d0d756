//! `tidegate undo`: what a session changed is given back, by the SQL that is printed and by the command itself; what others changed
//! since stands in the way, row by row.

use std::process::Command;

use serde_json::Value;
use tidegate::base::secret::Secret;

use crate::changed_rows::{run, walls, walls_with};
use crate::support::{ANA, Walls, policies, records, user};

const START: &str = "
INSERT INTO shop.orders (id, status, total, note, at) SELECT g, 'open', g * 1.5, E'a\\nb''c', '2026-01-01' FROM generate_series(1, 5) AS g;
INSERT INTO shop.lines SELECT g * 10 + n, g, n FROM generate_series(1, 5) AS g, generate_series(1, 2) AS n;
INSERT INTO shop.plain VALUES (1, 'x'), (1, 'x'), (2, NULL); INSERT INTO shop.parted VALUES (5, 1), (150, 2);";

const WORK: [&str; 6] = [
    "UPDATE shop.orders SET status = 'closed', total = total + 1 WHERE id < 4; DELETE FROM shop.orders WHERE id = 2",
    "UPDATE shop.orders SET id = 40 WHERE id = 4; INSERT INTO shop.orders (id, status) VALUES (9, 'new')",
    "INSERT INTO shop.lines VALUES (99, 9, 1); UPDATE shop.lines SET n = n + 5 WHERE of = 1",
    "UPDATE shop.plain SET b = 'y' WHERE ctid = (SELECT ctid FROM shop.plain WHERE a = 1 LIMIT 1); DELETE FROM shop.plain WHERE a = 2",
    "UPDATE shop.parted SET id = 120 WHERE id = 5; DELETE FROM shop.parted WHERE id = 150",
    "TRUNCATE shop.lines",
];

/// All rows, as text.
async fn state(walls: &Walls) -> String {
    let mut all = String::new();
    for table in ["orders", "lines", "plain", "parted"] {
        let sql = format!("SELECT coalesce(string_agg(t::text, '|' ORDER BY t::text), '') FROM shop.{table} AS t");
        all = format!("{all}{table}: {}\n", walls.asks(&sql).await);
    }
    all
}

/// Returns the exit code, standard output and standard error.
fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("an answer");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_statements_give_the_start_state_back() {
    let walls = walls().await;
    walls.server.batch("shop", START).await.expect("rows");
    let before = state(&walls).await;
    let login = walls.grant("write", "10m");
    assert_eq!(run(&walls, &login, &WORK).await, [""; 6]);
    assert_ne!(state(&walls).await, before);
    let (exit, script, said) = ended(walls.gate.operator(&["undo", &login.grant]));
    assert_eq!(exit, Some(0), "{script}{said}");
    assert!(!script.contains("NOT UNDONE") && script.is_ascii(), "{script}");
    walls
        .server
        .batch("shop", &script)
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{script}"));
    assert_eq!(state(&walls).await, before, "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_since_stays() {
    let house = policies(
        r#"
@id("ask") permit (principal, action == Tidegate::Action::"request", resource);
@id("at-once") @max_duration("2h") permit (principal, action == Tidegate::Action::"auto-approve", resource);
@id("read") permit (principal, action == Tidegate::Action::"read-log", resource);
"#,
    );
    let walls = walls_with("", &format!("[policy]\ndir = \"{}\"\n", house.path().display())).await;
    let token = Secret::new(user(&walls.gate, ANA, &["qa"]).await);
    walls.server.batch("shop", START).await.expect("rows");
    let before = state(&walls).await;
    let login = walls.grant("write", "10m");
    assert_eq!(run(&walls, &login, &WORK).await, [""; 6]);
    let other = walls.grant("write", "10m");
    run(&walls, &other, &["UPDATE shop.orders SET status = 'mine' WHERE id = 3"]).await;
    let changed = state(&walls).await;

    let undo = |more: &[&str]| {
        let arguments = [&["undo", &login.grant, "--apply"], more].concat();
        ended(walls.gate.command_of(&token, &arguments))
    };
    let (exit, said, errors) = undo(&[]);
    assert_eq!(exit, Some(1), "{said}{errors}");
    assert!(
        said.contains("nothing was undone") && said.contains("shop.orders id=3"),
        "{said}"
    );
    assert!(said.contains("changed the row of shop.orders in se_"), "{said}");
    assert_eq!(state(&walls).await, changed);

    let (exit, said, errors) = undo(&["--skip-conflicts", "--json"]);
    assert_eq!(exit, Some(1), "{said}{errors}");
    let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(told["result"]["conflicts"][0]["step"]["key"]["id"], "3", "{told:#}");
    assert_eq!(told["changed_since"][0]["key"]["id"], "3", "{told:#}");
    walls
        .server
        .batch("shop", "UPDATE shop.orders SET status = 'open', total = 4.5 WHERE id = 3")
        .await
        .expect("an update");
    assert_eq!(state(&walls).await, before);
    // Once more: no row is as the changes left it, so nothing happens.
    let (exit, said, _) = undo(&[]);
    assert_eq!((exit, state(&walls).await), (Some(1), before), "{said}");
    // It was on record, each time under a grant of its own.
    let undone = records(&walls.gate)
        .into_iter()
        .filter(|record| record["application"] == "tidegate undo");
    let mut grants: Vec<_> = undone.map(|record| record["grant"].to_string()).collect();
    grants.dedup();
    assert_eq!(grants.len(), 3);
}
