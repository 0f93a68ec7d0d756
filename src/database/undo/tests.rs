use super::*;
use crate::audit::event::RowDigest;

fn values(pairs: &[(&str, Option<&str>)]) -> RowValues {
    let one = |(column, value): &(&str, Option<&str>)| ((*column).to_owned(), value.map(str::to_owned));
    pairs.iter().map(one).collect()
}

fn changed(table: &str, change: u64, depth: u32, changes: Vec<RowChange>) -> RowsChanged {
    let operation = match changes.first().map(|change| (change.old.is_some(), change.new.is_some())) {
        Some((false, true)) => RowOperation::Insert,
        Some((true, false)) => RowOperation::Delete,
        _ => RowOperation::Update,
    };
    RowsChanged {
        session: None,
        grant: None,
        identity: None,
        target: "orders".parse().unwrap(),
        profile: None,
        schema: "shop".to_owned(),
        table: table.to_owned(),
        operation: operation.into(),
        role: "app".to_owned(),
        backend_pid: 1,
        transaction: 1,
        change,
        depth,
        statement_at: Timestamp::from_second(i64::try_from(change).unwrap()).unwrap(),
        rows: changes.len() as u64,
        offset: 0,
        changes,
        old_checksum: None,
        new_checksum: None,
        hashed: false,
        masked: Vec::new(),
        generated: Vec::new(),
    }
}

fn row(key: &[(&str, Option<&str>)], old: Option<RowValues>, new: Option<RowValues>) -> RowChange {
    RowChange {
        key: values(key),
        old,
        new,
        ..RowChange::default()
    }
}

fn steps(changes: &[RowsChanged]) -> Vec<String> {
    let numbered: Vec<_> = (1..).zip(changes).collect();
    let plan = UndoPlan::of(&numbered);
    assert_eq!(plan.lost, []);
    plan.steps.into_iter().map(|step| step.sql).collect()
}

#[test]
fn each_operation_has_its_inverse() {
    let of_1 = &[("id", Some("1"))];
    let changes = [
        changed(
            "orders",
            1,
            1,
            vec![row(of_1, None, Some(values(&[("id", Some("1")), ("note", None)])))],
        ),
        changed(
            "orders",
            2,
            1,
            vec![row(
                of_1,
                Some(values(&[("note", None), ("status", Some("it's"))])),
                Some(values(&[("note", Some("")), ("status", Some("a \"b\", (c)\\"))])),
            )],
        ),
        // A changed key, which is found as it is now.
        changed(
            "orders",
            3,
            1,
            vec![row(
                &[("id", Some("1")), ("at", Some("x"))],
                Some(values(&[("id", Some("1")), ("n", Some("1"))])),
                Some(values(&[("id", Some("2")), ("n", Some("5"))])),
            )],
        ),
        changed("orders", 4, 1, vec![row(of_1, Some(values(&[("id", Some("1"))])), None)]),
    ];
    assert_eq!(
        steps(&changes),
        [
            r#"INSERT INTO "shop"."orders" ("id") OVERRIDING SYSTEM VALUE VALUES ('1')"#,
            r#"UPDATE "shop"."orders" SET "id" = '1', "n" = '1' WHERE "at" = 'x' AND "id" = '2' AND ROW("id", "n")::text = '(2,5)'"#,
            r#"UPDATE "shop"."orders" SET "note" = NULL, "status" = 'it''s' WHERE "id" = '1' AND ROW("note", "status")::text =  E'("","a ""b"", (c)\\\\")'"#,
            r#"DELETE FROM "shop"."orders" WHERE "id" = '1' AND ROW("id", "note")::text = '(1,)'"#,
        ]
    );
}

#[test]
fn without_a_key_one_of_the_equal_rows_is_meant() {
    let key = &[("a", Some("1")), ("b", Some("x"))];
    let changes = [
        changed(
            "plain",
            1,
            1,
            vec![row(key, Some(values(&[("a", Some("1"))])), Some(values(&[("a", Some("2"))])))],
        ),
        changed("plain", 2, 1, vec![row(&[], None, Some(values(&[("a", Some("3"))])))]),
    ];
    let one = r#"(tableoid, ctid) = (SELECT tableoid, ctid FROM "shop"."plain" WHERE "#;
    assert_eq!(
        steps(&changes),
        [
            format!(r#"DELETE FROM "shop"."plain" WHERE {one}ROW("a")::text = '(3)' LIMIT 1)"#),
            format!(r#"UPDATE "shop"."plain" SET "a" = '1' WHERE {one}ROW("a", "b")::text = '(2,x)' LIMIT 1)"#),
        ]
    );
}

#[test]
fn what_a_cascade_deleted_comes_back_behind_what_it_refers_to() {
    let deleted = |table, change, depth, id| {
        changed(
            table,
            change,
            depth,
            vec![row(&[("id", Some(id))], Some(values(&[("id", Some(id))])), None)],
        )
    };
    let mut changes = [
        deleted("lines", 1, 1, "8"),
        deleted("orders", 2, 1, "1"),
        deleted("lines", 3, 1, "7"),
    ];
    changes[2].statement_at = changes[1].statement_at;
    let tables: Vec<String> = steps(&changes)
        .iter()
        .map(|sql| sql.chars().skip(20).take(6).collect())
        .collect();
    assert_eq!(tables, ["orders", "lines\"", "lines\""]);
}

#[test]
fn a_row_that_a_trigger_changed_once_more_is_set_back_once() {
    let change = |change, depth, from: &str, to: &str| {
        let (old, new) = (values(&[("n", Some(from))]), values(&[("n", Some(to))]));
        let changes = vec![row(&[("id", Some("1"))], Some(old), Some(new))];
        RowsChanged {
            statement_at: Timestamp::UNIX_EPOCH,
            ..changed("orders", change, depth, changes)
        }
    };
    assert_eq!(
        steps(&[change(2, 1, "1", "2"), change(1, 2, "2", "3")]),
        [r#"UPDATE "shop"."orders" SET "n" = '1' WHERE "id" = '1' AND ROW("n")::text = '(3)'"#]
    );
}

#[test]
fn what_cannot_be_seen_is_escaped() {
    let change = changed(
        "a\u{202e}\"b",
        1,
        1,
        vec![row(&[("id", Some("1"))], Some(values(&[("id", Some("1\n\u{1b}\\'"))])), None)],
    );
    assert_eq!(
        steps(&[change]),
        [r#"INSERT INTO "shop".U&"a\+00202E""b" ("id") OVERRIDING SYSTEM VALUE VALUES (E'1\U0000000A\U0000001B\\''')"#]
    );
}

#[test]
fn no_value_that_is_not_on_record_is_written_back() {
    let (key, old, new) = (
        &[("id", Some("1"))][..],
        values(&[("pan", Some("***"))]),
        values(&[("pan", None)]),
    );
    let update = || row(key, Some(old.clone()), Some(new.clone()));
    let masked = |changes| RowsChanged {
        masked: vec!["pan".to_owned()],
        ..changed("cards", 1, 1, changes)
    };
    let long = RowDigest {
        length: 9000,
        sha256: String::new(),
    };
    let too_long = RowChange {
        new_digest: Some(long),
        ..update()
    };
    for (event, reason) in [
        (masked(vec![update()]), LostReason::Masked),
        (masked(vec![row(key, Some(old.clone()), None)]), LostReason::Masked),
        (masked(vec![row(&[], None, Some(old.clone()))]), LostReason::Masked),
        (changed("cards", 1, 1, vec![too_long]), LostReason::TooLong),
        (changed("cards", 1, 1, Vec::new()), LostReason::TooManyRows),
        (changed("cards", 1, 1, vec![row(key, None, None)]), LostReason::NoValues),
        (
            RowsChanged {
                hashed: true,
                ..changed("cards", 1, 1, vec![update()])
            },
            LostReason::NoValues,
        ),
    ] {
        let plan = UndoPlan::of(&[(7, &event)]);
        assert_eq!((plan.steps, plan.lost.len(), plan.lost[0].reason), (Vec::new(), 1, reason));
    }
    // A new row is found by its key, and computed columns are left to PostgreSQL.
    let event = masked(vec![row(key, None, Some(values(&[("id", Some("1")), ("pan", Some("***"))])))]);
    assert_eq!(
        steps(&[event]),
        [r#"DELETE FROM "shop"."cards" WHERE "id" = '1' AND ROW("id")::text = '(1)'"#]
    );
    let event = RowsChanged {
        generated: vec!["twice".to_owned()],
        ..changed(
            "orders",
            1,
            1,
            vec![row(key, Some(values(&[("id", Some("1")), ("twice", Some("2"))])), None)],
        )
    };
    assert_eq!(
        steps(&[event]),
        [r#"INSERT INTO "shop"."orders" ("id") OVERRIDING SYSTEM VALUE VALUES ('1')"#]
    );
}
