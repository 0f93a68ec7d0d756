//! Plans from catalogues that are made up.

use super::catalogue::{Account, Column, DefaultRight, Held, Kind, Nature, Object, Role, Snapshot};
use super::*;

const MARKER: &str = "tidegate profile orders/read-only";

fn object(kind: Kind, schema: &str, name: &str) -> Object {
    let may: &[&str] = match kind {
        Kind::Database => &["CONNECT", "TEMPORARY", "CREATE"],
        Kind::Schema => &["USAGE", "CREATE"],
        Kind::Table => &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
        Kind::Sequence => &["USAGE", "SELECT", "UPDATE"],
        Kind::Routine => &["EXECUTE"],
    };
    Object {
        kind,
        schema: schema.to_owned(),
        name: name.to_owned(),
        arguments: String::new(),
        owner: "owner".to_owned(),
        may_grant: may.iter().map(|&may| may.to_owned()).collect(),
        held: Vec::new(),
        columns: Vec::new(),
        parents: Vec::new(),
        reads: Vec::new(),
        comment: None,
        definition: None,
        nature: Nature::Plain,
    }
}

fn table(name: &str, columns: &[&str]) -> Object {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: "text".to_owned(),
    };
    Object {
        columns: columns.iter().map(column).collect(),
        ..object(Kind::Table, "shop", name)
    }
}

fn held(role: Option<&str>, privilege: &str) -> Held {
    Held {
        role: role.map(str::to_owned),
        privilege: privilege.to_owned(),
        column: None,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        version: 150_004,
        account: Account {
            name: "owner".to_owned(),
            superuser: false,
            create_role: true,
            create_schema: true,
            acts_as: vec!["owner".to_owned()],
        },
        roles: Vec::new(),
        objects: vec![
            object(Kind::Database, "shop_qa", "shop_qa"),
            object(Kind::Schema, "shop", "shop"),
            object(Kind::Schema, "audit", "audit"),
            table("cards", &["id", "last4", "pan"]),
            table("orders", &["id", "what"]),
            object(Kind::Sequence, "shop", "orders_id_seq"),
            object(Kind::Routine, "shop", "total"),
        ],
        defaults: Vec::new(),
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn planned(rights: &Rights, snapshot: &Snapshot) -> Plan {
    let role = profile_role(&"orders".parse().unwrap(), &"read-only".parse().unwrap());
    let profile = Profile {
        role: &role,
        marker: MARKER,
        rights,
        account: "owner",
    };
    plan(&profile, snapshot).unwrap()
}

fn sql(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| step.sql.clone());
    let blocked = plan.blocked.iter().map(|why| format!("blocked: {why}"));
    let warnings = plan.warnings.iter().map(|why| format!("warning: {why}"));
    steps.chain(blocked).chain(warnings).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_new_profile_is_made_whole() {
    let rights = Rights {
        select: patterns(&["shop.*", "!shop.cards", "shop.cards(id, last4)"]),
        insert: patterns(&["shop.orders"]),
        usage: patterns(&["shop.*"]),
        execute: patterns(&["shop.total"]),
        create: vec!["audit".parse().unwrap()],
        future: true,
        ..Rights::default()
    };
    insta::assert_snapshot!(sql(&planned(&rights, &snapshot())));
}

#[test]
fn masks_become_views() {
    let column = |name: &str, mask| (name.to_owned(), mask);
    let rights = Rights {
        select: patterns(&["shop.cards"]),
        masks: vec![MaskedTable {
            schema: "shop".to_owned(),
            name: "cards".to_owned(),
            columns: vec![
                column("pan", Mask::Partial),
                column("last4", Mask::Constant("it's \\".to_owned())),
            ],
        }],
        ..Rights::default()
    };
    insta::assert_snapshot!(sql(&planned(&rights, &snapshot())));
}

#[test]
fn what_the_account_cannot_do_is_said_before_anything_is_done() {
    let mut snapshot = snapshot();
    snapshot.account.create_role = false;
    snapshot.account.acts_as.clear();
    for object in &mut snapshot.objects {
        object.may_grant.clear();
    }
    snapshot.objects[0].held = vec![held(None, "CONNECT")];
    snapshot.version = 160_001;
    let rights = Rights {
        select: patterns(&["shop.orders", "shop.nothing", "nowhere.*"]),
        usage: patterns(&["shop.*"]),
        schemas: Some(vec!["shop".parse().unwrap(), "shpo".parse().unwrap()]),
        future: true,
        ..Rights::default()
    };
    insta::assert_snapshot!(sql(&planned(&rights, &snapshot)));
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let rights = Rights {
        select: patterns(&["shop.*", "!shop.*(pan)"]),
        ..Rights::default()
    };
    let mut snapshot = snapshot();
    let role = "tg_orders_read-only";
    snapshot.roles.push(Role {
        name: role.to_owned(),
        comment: Some(MARKER.to_owned()),
        ..Role::default()
    });
    snapshot.objects[0].held = vec![held(Some(role), "CONNECT")];
    snapshot.objects[1].held = vec![held(Some(role), "USAGE")];
    // An exclusion of columns is for columns that come later, too: even a table that has none of them is given by columns.
    for (place, columns) in [(3, ["id", "last4"]), (4, ["id", "what"])] {
        snapshot.objects[place].held = columns
            .iter()
            .map(|column| Held {
                column: Some((*column).to_owned()),
                ..held(Some(role), "SELECT")
            })
            .collect();
    }
    let plan = planned(&rights, &snapshot);
    assert!(plan.in_step() && plan.steps.is_empty(), "{plan:#?}");
    // The server's own and what others hold are nobody's business.
    snapshot.objects[4].held.push(held(Some("somebody"), "DELETE"));
    let later = |role: &str, schema: Option<&str>| DefaultRight {
        owner: "owner".to_owned(),
        schema: schema.map(str::to_owned),
        kind: "TABLES".to_owned(),
        role: Some(role.to_owned()),
        privilege: "SELECT".to_owned(),
    };
    snapshot.defaults = vec![later("somebody", None)];
    assert!(planned(&rights, &snapshot).in_step());
    // What is beyond the definition is not.
    snapshot.objects.push(Object {
        held: vec![held(Some(role), "SELECT")],
        ..object(Kind::Table, "pg_catalog", "pg_authid")
    });
    snapshot.defaults.push(later(role, None));
    snapshot.roles[0].powers.push("LOGIN".to_owned());
    insta::assert_snapshot!(sql(&planned(&rights, &snapshot)));
}

#[test]
fn everybody_is_not_forgotten() {
    let mut snapshot = snapshot();
    for (place, privileges) in [
        (0, &["CONNECT", "TEMPORARY"][..]),
        (1, &["CREATE", "USAGE"]),
        (4, &["SELECT"]),
        (6, &["EXECUTE"]),
    ] {
        snapshot.objects[place].held = privileges.iter().map(|privilege| held(None, privilege)).collect();
    }
    for number in 0..7 {
        let mut table = table(&format!("t{number}"), &["id"]);
        table.held = vec![held(None, "SELECT")];
        snapshot.objects.push(table);
    }
    let mut definer = object(Kind::Routine, "shop", "raise");
    (definer.nature, definer.held) = (Nature::Definer, vec![held(None, "EXECUTE")]);
    snapshot.objects.push(definer);
    insta::assert_snapshot!(everybody(&snapshot).join("\n"));
}

#[test]
fn exclusions_win_wherever_they_stand() {
    for order in [
        ["shop.*", "!shop.cards", "shop.cards(id)"],
        ["!shop.cards", "shop.cards(id)", "shop.*"],
        ["shop.cards(id)", "shop.*", "!shop.cards"],
    ] {
        let rights = Rights {
            select: patterns(&order),
            ..Rights::default()
        };
        let plan = sql(&planned(&rights, &snapshot()));
        assert!(
            plan.contains("GRANT SELECT (\"id\") ON TABLE \"shop\".\"cards\""),
            "{order:?}\n{plan}"
        );
        assert!(
            plan.contains("GRANT SELECT ON TABLE \"shop\".\"orders\" TO"),
            "{order:?}\n{plan}"
        );
    }
    // A pattern with wildcards does not bring back what is excluded.
    let rights = Rights {
        select: patterns(&["shop.*(id)", "!shop.cards"]),
        ..Rights::default()
    };
    assert!(!sql(&planned(&rights, &snapshot())).contains("\"cards\""));
}

#[test]
fn names_cannot_end_their_quotes() {
    let mut snapshot = snapshot();
    snapshot.objects.push(table("a\"; DROP TABLE x; --", &["b\"), (c"]));
    snapshot.objects.push(table("$seal$'%s", &["pan"]));
    let rights = Rights {
        select: patterns(&["shop.*", "!shop.*(nothing)"]),
        masks: vec![MaskedTable {
            schema: "shop".to_owned(),
            name: "$seal$'%s".to_owned(),
            columns: vec![("pan".to_owned(), Mask::Null)],
        }],
        ..Rights::default()
    };
    let plan = sql(&planned(&rights, &snapshot));
    assert!(
        plan.contains("GRANT SELECT (\"b\"\"), (c\") ON TABLE \"shop\".\"a\"\"; DROP TABLE x; --\" TO"),
        "{plan}"
    );
    assert!(
        plan.contains("DO $_seal$BEGIN EXECUTE format('COMMENT ON VIEW \"tg_orders_read-only\".\"$seal$''%%s\" IS %L'"),
        "{plan}"
    );
}
