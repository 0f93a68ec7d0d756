//! Plans from catalogues that are made up.

use super::catalogue::{
    CatalogColumn, CatalogObject, CatalogSnapshot, DefaultRight, ExistingRole, HeldPrivilege, Membership, ObjectKind,
    ObjectNature, OtherObject, RowPolicy, ServerAccount,
};
use super::*;

const MARKER: &str = "tidegate profile orders/read-only";

fn object(kind: ObjectKind, schema: &str, name: &str) -> CatalogObject {
    let may: &[&str] = match kind {
        ObjectKind::Database => &["CONNECT", "TEMPORARY", "CREATE"],
        ObjectKind::Schema => &["USAGE", "CREATE"],
        ObjectKind::Table => &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
        ObjectKind::Sequence => &["USAGE", "SELECT", "UPDATE"],
        ObjectKind::Routine => &["EXECUTE"],
    };
    CatalogObject {
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
        nature: ObjectNature::Plain,
        policies: Vec::new(),
    }
}

fn table(name: &str, columns: &[&str]) -> CatalogObject {
    let column = |name: &&str| CatalogColumn {
        name: (*name).to_owned(),
        kind: "text".to_owned(),
    };
    CatalogObject {
        columns: columns.iter().map(column).collect(),
        ..object(ObjectKind::Table, "shop", name)
    }
}

fn held(role: Option<&str>, privilege: &str) -> HeldPrivilege {
    HeldPrivilege {
        role: role.map(str::to_owned),
        privilege: privilege.to_owned(),
        column: None,
        grantor: "owner".to_owned(),
        grantable: false,
    }
}

fn snapshot() -> CatalogSnapshot {
    CatalogSnapshot {
        version: 150_004,
        account: ServerAccount {
            name: "owner".to_owned(),
            superuser: false,
            create_role: true,
            create_schema: true,
            acts_as: vec!["owner".to_owned()],
        },
        roles: Vec::new(),
        objects: vec![
            object(ObjectKind::Database, "shop_qa", "shop_qa"),
            object(ObjectKind::Schema, "shop", "shop"),
            object(ObjectKind::Schema, "audit", "audit"),
            table("cards", &["id", "last4", "pan"]),
            table("orders", &["id", "what"]),
            object(ObjectKind::Sequence, "shop", "orders_id_seq"),
            object(ObjectKind::Routine, "shop", "total"),
        ],
        ..CatalogSnapshot::default()
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn planned(rights: &Rights, snapshot: &CatalogSnapshot) -> ProfilePlan {
    let role = profile_role(&"orders".parse().unwrap(), &"read-only".parse().unwrap());
    let profile = PlannedProfile {
        role: &role,
        marker: MARKER,
        rights,
        account: "owner",
    };
    plan(&profile, snapshot).unwrap()
}

fn sql(plan: &ProfilePlan) -> String {
    let steps = plan.steps.iter().map(|step| step.sql.clone());
    let blocked = plan.blocked.iter().map(|why| format!("blocked: {why}"));
    let blocked = blocked.chain(plan.excess.iter().map(|why| format!("beyond: {why}")));
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
                column("pan", ColumnMask::Partial),
                column("last4", ColumnMask::Constant("it's \\".to_owned())),
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
    snapshot.roles.push(ExistingRole {
        name: role.to_owned(),
        comment: Some(MARKER.to_owned()),
        ..ExistingRole::default()
    });
    snapshot.objects[0].held = vec![held(Some(role), "CONNECT")];
    snapshot.objects[1].held = vec![held(Some(role), "USAGE")];
    // An exclusion of columns is for columns that come later, too: even a table that has none of them is given by columns.
    for (place, columns) in [(3, ["id", "last4"]), (4, ["id", "what"])] {
        snapshot.objects[place].held = columns
            .iter()
            .map(|column| HeldPrivilege {
                column: Some((*column).to_owned()),
                ..held(Some(role), "SELECT")
            })
            .collect();
    }
    let plan = planned(&rights, &snapshot);
    assert!(plan.in_step() && plan.steps.is_empty(), "{plan:#?}");
    // A right that is wanted is not wanted to be handed on.
    snapshot.objects[1].held[0].grantable = true;
    snapshot.objects[3].held[1].grantable = true;
    let options = planned(&rights, &snapshot);
    snapshot.objects[1].held[0].grantable = false;
    snapshot.objects[3].held[1].grantable = false;
    insta::assert_snapshot!("nothing_is_handed_on", sql(&options));
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
    snapshot.objects.push(CatalogObject {
        held: vec![held(Some(role), "SELECT")],
        ..object(ObjectKind::Table, "pg_catalog", "pg_authid")
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
    let mut definer = object(ObjectKind::Routine, "shop", "raise");
    (definer.nature, definer.held) = (ObjectNature::Definer, vec![held(None, "EXECUTE")]);
    snapshot.objects.push(definer);
    let mut maker = object(ObjectKind::Routine, "pg_catalog", "lo_create");
    (maker.arguments, maker.held) = ("oid".to_owned(), vec![held(None, "EXECUTE")]);
    snapshot.objects.push(maker);
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
            columns: vec![("pan".to_owned(), ColumnMask::Null)],
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

fn select(texts: &[&str]) -> Rights {
    Rights {
        select: patterns(texts),
        ..Rights::default()
    }
}

fn masked(name: &str, column: &str) -> MaskedTable {
    MaskedTable {
        schema: "shop".to_owned(),
        name: name.to_owned(),
        columns: vec![(column.to_owned(), ColumnMask::Null)],
    }
}

/// A table with parts in two generations, in another schema, and views of views of it.
fn family() -> CatalogSnapshot {
    let mut snapshot = snapshot();
    snapshot.objects.push(object(ObjectKind::Schema, "parts", "parts"));
    let part = |name: &str, schema: &str, parent: (&str, &str)| CatalogObject {
        schema: schema.to_owned(),
        parents: vec![(parent.0.to_owned(), parent.1.to_owned())],
        ..table(name, &["id", "iban"])
    };
    let view = |name: &str, reads: (&str, &str)| CatalogObject {
        reads: vec![(reads.0.to_owned(), reads.1.to_owned())],
        ..table(name, &["id"])
    };
    snapshot.objects.extend([
        table("pay", &["id", "iban"]),
        part("pay_1", "parts", ("shop", "pay")),
        part("pay_1_1", "parts", ("parts", "pay_1")),
        view("of_part", ("parts", "pay_1_1")),
        view("outer", ("shop", "inner")),
        view("inner", ("shop", "pay")),
    ]);
    snapshot
}

#[test]
fn a_table_is_given_no_more_than_its_parts() {
    for (texts, mask, said) in [
        (&["*.*", "!parts.pay_1_1"][..], None, "all of parts.pay_1_1"),
        (&["*.*", "!parts.pay_1_1(iban)"], None, "iban of parts.pay_1_1"),
        (&["shop.*", "parts.pay_1_1(id)"], None, "iban of parts.pay_1_1"),
        (&["*.*", "!shop.pay(iban)", "!parts.pay_1(id)"], None, "id of parts.pay_1"),
        (&["*.*"], Some("pay_1_1"), "iban of parts.pay_1_1"),
    ] {
        let mut rights = select(texts);
        rights.masks.extend(mask.map(|name| MaskedTable {
            schema: "parts".to_owned(),
            ..masked(name, "iban")
        }));
        let blocked = planned(&rights, &family()).blocked.join("\n");
        assert!(
            blocked.contains("`select` grants shop.pay, and with it") && blocked.contains(said),
            "{texts:?} {blocked}"
        );
    }
    // Writing is reached through a table no less.
    let rights = Rights {
        update: patterns(&["*.*", "!parts.pay_1"]),
        ..Rights::default()
    };
    let blocked = planned(&rights, &family()).blocked.join("\n");
    assert!(blocked.contains("`update` grants shop.pay"), "{blocked}");
    // What is kept back of the table is kept back of its parts; what is not meant at all is nobody's way around.
    for texts in [
        &["*.*", "!shop.pay(iban)"][..],
        &["*.*", "!shop.pay"],
        &["shop.*"],
        &["parts.*", "!parts.pay_1_1"],
    ] {
        let blocked = planned(&select(texts), &family()).blocked;
        let expected = usize::from(texts == ["parts.*", "!parts.pay_1_1"]);
        assert_eq!(blocked.len(), expected, "{texts:?} {blocked:?}");
    }
    let mut rights = select(&["*.*"]);
    rights.masks.push(masked("pay", "iban"));
    let plan = sql(&planned(&rights, &family()));
    assert!(!plan.contains("blocked") && !plan.contains("\"parts\".\"pay_1"), "{plan}");
}

#[test]
fn views_of_views_are_seen_through() {
    let warned = |rights: &Rights, view: &str, table: &str| {
        let warnings = planned(rights, &family()).warnings.join("\n");
        warnings.contains(&format!("the view {view} reads {table}"))
    };
    let mut rights = select(&["shop.*"]);
    assert!(!warned(&rights, "shop.outer", "") && !warned(&rights, "shop.of_part", ""));
    rights.masks.push(masked("pay", "iban"));
    for (view, table) in [
        ("shop.inner", "shop.pay"),
        ("shop.outer", "shop.pay"),
        ("shop.of_part", "parts.pay_1_1"),
    ] {
        assert!(warned(&rights, view, table), "{view}");
    }
    assert!(warned(&select(&["shop.*", "!shop.pay"]), "shop.outer", "shop.pay"));
    assert!(warned(&select(&["shop.*", "!shop.pay(iban)"]), "shop.outer", "shop.pay"));
    // A table's parts are read with it.
    assert!(warned(
        &select(&["shop.outer", "parts.*", "!parts.pay_1_1"]),
        "shop.outer",
        "parts.pay_1_1"
    ));
    // What keeps nothing back is no reason to warn.
    assert!(!warned(&select(&["shop.*", "!shop.*(nothing)"]), "shop.outer", ""));
}

#[test]
fn what_is_kept_back_by_name_has_to_be_there() {
    let blocked = |rights: &Rights| planned(rights, &snapshot()).blocked.join("\n");
    for (texts, said) in [
        (&["shop.*", "!shop.staff"][..], "`!shop.staff` in `select` matches no object"),
        (
            &["*.o*", "!shop.staff(pay)"],
            "`!shop.staff(pay)` in `select` matches no object",
        ),
        (
            &["shop.*", "!shop.cards(number)"],
            "excludes a column number that does not exist",
        ),
        (
            &["shop.cards", "!shop.cards(number)"],
            "excludes a column number that does not exist",
        ),
        (&["shop.*", "shop.cards(id)"], "add `!shop.cards`"),
        (&["shop.cards", "shop.cards(id)"], "add `!shop.cards`"),
    ] {
        let blocked = blocked(&select(texts));
        assert!(blocked.contains(said), "{texts:?} {blocked}");
    }
    for texts in [
        &["shop.*", "!shop.staff_*"][..],
        &["shop.*", "!*.staff"],
        &["shop.*", "!shop.*(number)"],
        &["shop.orders", "!shop.staff"],
        &["shop.*", "!shop.cards", "shop.cards(id)"],
        &["shop.*(id)", "shop.orders"],
        &["shop.orders", "!shop.cards(number)"],
    ] {
        assert_eq!(blocked(&select(texts)), "", "{texts:?}");
    }
    let functions = Rights {
        execute: patterns(&["shop.*", "!shop.raise"]),
        ..Rights::default()
    };
    assert!(blocked(&functions).contains("`!shop.raise` in `execute`"));
    let mut rights = select(&["shop.*"]);
    rights.masks.push(masked("old_cards", "pan"));
    let plan = planned(&rights, &snapshot());
    insta::assert_snapshot!(plan.blocked.join("\n"));
    assert!(plan.warnings.is_empty(), "it is said once: {:?}", plan.warnings);
    // Under its new name no pattern gives it.
    rights.select = patterns(&["shop.orders", "shop.old_cards"]);
    assert_eq!(blocked(&rights), "");
}

#[test]
fn nothing_is_given_beforehand_that_could_be_kept_back() {
    let later = |rights: &Rights| {
        let plan = sql(&planned(rights, &snapshot()));
        ["SELECT", "INSERT", "USAGE"].map(|privilege| plan.contains(&format!("IN SCHEMA \"audit\" GRANT {privilege} ON")))
    };
    let mut rights = Rights {
        select: patterns(&["audit.*", "shop.orders"]),
        insert: patterns(&["audit.*"]),
        usage: patterns(&["audit.*"]),
        future: true,
        ..Rights::default()
    };
    assert_eq!(later(&rights), [true; 3]);
    // Wherever the exception is: a part of shop.cards can be made in audit, and a view of it.
    for exception in ["!shop.cards", "!shop.cards(pan)", "shop.cards(id)"] {
        rights.select[1] = exception.parse().unwrap();
        assert_eq!(later(&rights), [false, true, true], "{exception}");
    }
    rights.select[1] = "shop.cards".parse().unwrap();
    rights.masks.push(masked("cards", "pan"));
    assert_eq!(later(&rights), [false, false, true]);
    let plan = planned(&rights, &snapshot());
    let warning = "`select`, `insert` does not cover objects created later";
    assert!(plan.warnings.iter().any(|said| said.contains(warning)), "{:?}", plan.warnings);
    // What was given before there was an exception is taken back.
    let mut snapshot = snapshot();
    snapshot.defaults.push(DefaultRight {
        owner: "owner".to_owned(),
        schema: Some("audit".to_owned()),
        kind: "TABLES".to_owned(),
        role: Some("tg_orders_read-only".to_owned()),
        privilege: "SELECT".to_owned(),
    });
    let plan = sql(&planned(&rights, &snapshot));
    assert!(plan.contains("IN SCHEMA \"audit\" REVOKE SELECT ON TABLES"), "{plan}");
}

#[test]
fn what_others_give_is_told_and_blocks_nothing() {
    let role = "tg_orders_read-only";
    let mut snapshot = snapshot();
    let member = |group: &str, grantor: &str| Membership {
        group: group.to_owned(),
        grantor: Some(grantor.to_owned()),
        may_leave: grantor == "owner",
    };
    let elsewhere = |what: &str, grantor: &str| OtherObject {
        what: what.to_owned(),
        grantor: grantor.to_owned(),
        may_take: grantor == "owner",
    };
    snapshot.roles.push(ExistingRole {
        name: role.to_owned(),
        comment: Some(MARKER.to_owned()),
        member_of: vec![member("friends", "stranger"), member("helpers", "owner")],
        elsewhere: vec![elsewhere("LARGE OBJECT 1", "owner"), elsewhere("LARGE OBJECT 2", "stranger")],
        ..ExistingRole::default()
    });
    let from = |grantor: &str, privilege: &str, column: Option<&str>| HeldPrivilege {
        column: column.map(str::to_owned),
        grantor: grantor.to_owned(),
        ..held(Some(role), privilege)
    };
    // Somebody whom the owner let hand it on, and an owner whom nobody asked.
    snapshot.objects[3].held = vec![
        from("owner", "SELECT", None),
        from("friend", "SELECT", Some("pan")),
        from("friend", "DELETE", None),
    ];
    snapshot.objects.push(CatalogObject {
        owner: "stranger".to_owned(),
        may_grant: Vec::new(),
        held: vec![from("stranger", "INSERT", Some("id"))],
        ..table("strange", &["id"])
    });
    snapshot.defaults.push(DefaultRight {
        owner: "stranger".to_owned(),
        schema: None,
        kind: "TABLES".to_owned(),
        role: Some(role.to_owned()),
        privilege: "SELECT".to_owned(),
    });
    let plan = planned(&select(&["shop.cards(id)"]), &snapshot);
    assert!(!plan.in_step());
    insta::assert_snapshot!(sql(&plan));
}

#[test]
fn the_salt_and_the_views_are_the_profiles_alone() {
    let role = "tg_orders_read-only";
    let mut rights = select(&["shop.cards"]);
    rights.masks.push(masked("cards", "pan"));
    rights.masks[0].columns[0].1 = ColumnMask::Hash;
    let mut snapshot = snapshot();
    for (kind, to) in [
        ("TABLES", None),
        ("TABLES", Some("mallory")),
        ("TABLES", Some(role)),
        ("SCHEMAS", None),
    ] {
        snapshot.defaults.push(DefaultRight {
            owner: "owner".to_owned(),
            schema: None,
            kind: kind.to_owned(),
            role: to.map(str::to_owned),
            privilege: "SELECT".to_owned(),
        });
    }
    insta::assert_snapshot!(sql(&planned(&rights, &snapshot)));
    // One that is there already.
    snapshot.defaults.clear();
    snapshot.objects.push(CatalogObject {
        comment: Some(MARKER.to_owned()),
        held: vec![held(Some(role), "USAGE"), held(Some("owner"), "USAGE")],
        ..object(ObjectKind::Schema, role, role)
    });
    let salt = |held: Vec<HeldPrivilege>| CatalogObject {
        schema: role.to_owned(),
        held,
        nature: ObjectNature::Materialized,
        ..table("tidegate salt", &["salt"])
    };
    snapshot.objects.push(salt(vec![held(Some("owner"), "SELECT")]));
    let plan = sql(&planned(&rights, &snapshot));
    assert!(!plan.contains("REVOKE") && !plan.contains("REFRESH"), "{plan}");
    for reader in [None, Some("mallory"), Some(role)] {
        snapshot.objects.pop();
        snapshot
            .objects
            .push(salt(vec![held(Some("owner"), "SELECT"), held(reader, "SELECT")]));
        let plan = sql(&planned(&rights, &snapshot));
        let from = reader.map_or_else(|| "PUBLIC".to_owned(), quoted);
        let revoke = format!("REVOKE ALL ON TABLE \"{role}\".\"tidegate salt\" FROM {from} CASCADE");
        assert!(plan.contains(&revoke) && plan.contains("REFRESH MATERIALIZED VIEW"), "{plan}");
        // One that was made before they were materialized views stays what it is.
        snapshot.objects.last_mut().unwrap().nature = ObjectNature::Plain;
        let plan = sql(&planned(&rights, &snapshot));
        assert!(
            plan.contains(&revoke) && plan.contains("UPDATE ") && !plan.contains("REFRESH"),
            "{plan}"
        );
    }
}

#[test]
fn row_security_that_will_not_hold_is_told() {
    let policy = |roles: &[&str], by_user| RowPolicy {
        name: "own_rows".to_owned(),
        everybody: roles.is_empty(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        by_user,
    };
    let told = |policies: Vec<RowPolicy>| {
        let mut snapshot = snapshot();
        let orders = snapshot.objects.iter_mut().find(|object| object.name == "orders").unwrap();
        (orders.nature, orders.policies) = (ObjectNature::RowSecurity, policies);
        let warnings = planned(&select(&["shop.orders"]), &snapshot).warnings;
        warnings
            .into_iter()
            .filter(|line| line.contains("row security"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let nothing = told(vec![policy(&["clerk"], false)]);
    assert!(
        nothing.contains("without a policy for tg_orders_read-only") && nothing.contains("CREATE POLICY"),
        "{nothing}"
    );
    assert!(told(Vec::new()).contains("without a policy for"));
    let by_user = told(vec![policy(&[], true)]);
    assert!(
        by_user.contains("own_rows") && by_user.contains("current_user is tg_orders_read-only for all of them"),
        "{by_user}"
    );
    assert_eq!(told(vec![policy(&["tg_orders_read-only"], false)]), "");
    assert_eq!(told(vec![policy(&[], false)]), "");
}

fn profile_there(snapshot: &mut CatalogSnapshot, may_join: bool) {
    snapshot.roles.push(ExistingRole {
        name: "tg_orders_read-only".to_owned(),
        comment: Some(MARKER.to_owned()),
        may_join,
        ..ExistingRole::default()
    });
}

/// What a profile's role owns is the profile's alone, whoever it was given to; functions come for nobody else.
#[test]
fn what_a_profile_owns_is_taken_back_from_others() {
    let rights = Rights {
        create: vec!["shop".parse().unwrap()],
        ..Rights::default()
    };
    let owner = "tg_orders_read-only".to_owned();
    let mut snapshot = snapshot();
    profile_there(&mut snapshot, true);
    snapshot.own_defaults = vec![
        OwnDefaults {
            owner: owner.clone(),
            schema: Some("sh\"op".to_owned()),
            kind: "TABLES".to_owned(),
            to: vec![None, Some("a\nb".to_owned())],
            is_ours: false,
        },
        OwnDefaults {
            owner: owner.clone(),
            schema: None,
            kind: "TYPES".to_owned(),
            to: Vec::new(),
            is_ours: false,
        },
    ];
    snapshot.given_away = vec![GivenAway {
        maker: owner.clone(),
        as_maker: false,
        owner,
        what: "ROUTINE shop.leak()".to_owned(),
        to: vec![None],
        as_owner: true,
    }];
    let undone = |snapshot: &CatalogSnapshot| {
        let steps = planned(&rights, snapshot).steps.into_iter().map(|step| step.sql);
        let own = steps.filter(|sql| sql.contains("DEFAULT PRIVILEGES") || sql.contains("leak"));
        own.collect::<Vec<_>>().join("\n\n")
    };
    insta::assert_snapshot!(undone(&snapshot));
    // Who may not hand the role out tells it, and is kept from nothing.
    snapshot.roles[0].may_join = false;
    assert!(
        planned(&rights, &snapshot).excess.len() == 4,
        "{}",
        sql(&planned(&rights, &snapshot))
    );
    // A superuser needs no membership.
    snapshot.account.superuser = true;
    assert!(!undone(&snapshot).contains("TO CURRENT_USER"));
    // As `apply` has it, there is nothing to do.
    snapshot.given_away.clear();
    snapshot.own_defaults.truncate(1);
    snapshot.own_defaults[0] = OwnDefaults {
        schema: None,
        kind: "ROUTINES".to_owned(),
        is_ours: true,
        ..snapshot.own_defaults[0].clone()
    };
    assert_eq!(undone(&snapshot), "");
}

const WRITER: &str = "tg_orders_read-write";

/// Things that sessions made in `shop`: under another profile, and under a grant that is live.
fn made_by_sessions(snapshot: &mut CatalogSnapshot) {
    let grant = "gr_1111111111_ana";
    snapshot.gate_roles = [WRITER.to_owned(), grant.to_owned()].into();
    let by = |owner: &str, object: CatalogObject| CatalogObject {
        owner: owner.to_owned(),
        ..object
    };
    let view = CatalogObject {
        reads: vec![("shop".to_owned(), "cards".to_owned())],
        ..table("peek", &["pan"])
    };
    let definer = CatalogObject {
        nature: ObjectNature::Definer,
        ..object(ObjectKind::Routine, "shop", "leak")
    };
    snapshot.objects.extend([
        by(WRITER, table("copy", &["pan"])),
        by(WRITER, view),
        by(WRITER, definer),
        by(WRITER, object(ObjectKind::Routine, "shop", "plain")),
        by(WRITER, object(ObjectKind::Sequence, "shop", "numbers")),
        by(grant, table("notes", &["pan"])),
        by(WRITER, object(ObjectKind::Schema, "theirs", "theirs")),
        CatalogObject {
            schema: "theirs".to_owned(),
            ..table("plans", &["id"])
        },
    ]);
}

/// No pattern means what sessions of others made, whoever applies: it may be a copy of what is kept back.
#[test]
fn what_sessions_of_others_made_is_not_given() {
    let mut snapshot = snapshot();
    snapshot.account.superuser = true;
    made_by_sessions(&mut snapshot);
    let rights = Rights {
        select: patterns(&["shop.*", "shop.copy", "shop.peek", "theirs.*"]),
        trigger: patterns(&["shop.copy"]),
        usage: patterns(&["shop.*"]),
        execute: patterns(&["shop.*", "shop.leak"]),
        schemas: Some(vec!["*".parse().unwrap()]),
        create: vec!["*".parse().unwrap()],
        masks: vec![masked("cards", "pan")],
        future: true,
        ..Rights::default()
    };
    let plan = planned(&rights, &snapshot);
    let steps = plan.steps.iter().map(|step| step.sql.as_str()).collect::<Vec<_>>().join("\n");
    for name in [
        "copy",
        "peek",
        "leak",
        "plain",
        "numbers",
        "notes",
        "ON SCHEMA \"theirs\"",
        WRITER,
        "gr_",
    ] {
        assert!(!steps.contains(name), "{name} in\n{steps}");
    }
    // What somebody else made in their schema is somebody else's.
    assert!(
        steps.contains("GRANT SELECT ON TABLE \"shop\".\"orders\", \"theirs\".\"plans\""),
        "{steps}"
    );
    assert_eq!(plan.blocked, [""; 0]);
    let warnings = plan.warnings.join("\n");
    for said in [
        "shop.copy, shop.peek, shop.leak(), shop.plain(), shop.numbers were made under tg_orders_read-write and were not granted",
        "shop.notes was made under gr_1111111111_ana and was not granted",
    ] {
        assert!(warnings.contains(said), "{said} not in\n{warnings}");
    }
    // What the role has of it all the same is taken from it.
    for object in snapshot.objects.iter_mut().filter(|object| object.owner == WRITER) {
        object.held = vec![HeldPrivilege {
            grantor: WRITER.to_owned(),
            ..held(Some("tg_orders_read-only"), "SELECT")
        }];
    }
    snapshot.account.acts_as.push(WRITER.to_owned());
    let plan = sql(&planned(&rights, &snapshot));
    assert!(
        plan.contains("REVOKE SELECT ON TABLE \"shop\".\"copy\", \"shop\".\"peek\" FROM"),
        "{plan}"
    );
}

/// Names that a session chose neither lift nor put up what stands in an apply's way.
#[test]
fn what_sessions_made_keeps_nothing_from_being_done_or_refused() {
    for owner in [WRITER, "tg_orders_read-only"] {
        let mut snapshot = snapshot();
        profile_there(&mut snapshot, true);
        snapshot.gate_roles = [owner.to_owned()].into();
        let theirs = |object: CatalogObject| CatalogObject {
            owner: owner.to_owned(),
            ..object
        };
        snapshot.objects.extend([
            theirs(table("staff", &["id"])),
            theirs(table("whole", &["id"])),
            theirs(CatalogObject {
                parents: vec![("shop".to_owned(), "whole".to_owned())],
                ..table("part", &["id"])
            }),
        ]);
        let blocked = |texts: &[&str]| planned(&select(texts), &snapshot).blocked.join("\n");
        assert!(blocked(&["shop.*", "!shop.staff"]).contains("`!shop.staff` in `select` matches no object"));
        assert_eq!(blocked(&["shop.*", "!shop.par*"]), "");
    }
}

/// Default privileges are for what owners make; what sessions make later is theirs alone, as what they have made.
#[test]
fn nothing_is_given_beforehand_of_what_sessions_make() {
    let mut snapshot = snapshot();
    snapshot.account.superuser = true;
    made_by_sessions(&mut snapshot);
    let rights = Rights {
        select: patterns(&["shop.*"]),
        usage: patterns(&["shop.*"]),
        execute: patterns(&["shop.*"]),
        future: true,
        ..Rights::default()
    };
    let plan = sql(&planned(&rights, &snapshot));
    assert!(
        plan.contains("FOR ROLE \"owner\" IN SCHEMA \"shop\" GRANT SELECT ON TABLES"),
        "{plan}"
    );
    assert!(
        !plan.contains("FOR ROLE \"tg_orders_read-write\"") && !plan.contains("FOR ROLE \"gr_"),
        "{plan}"
    );
}

/// What is to be done about a trigger of the profile's on a table of others.
fn about(trigger: &ForeignTrigger) -> ProfilePlan {
    let mut snapshot = snapshot();
    profile_there(&mut snapshot, true);
    snapshot.foreign_triggers = vec![trigger.clone()];
    planned(&Rights::default(), &snapshot)
}

/// On a table of somebody's whom the account may not act as.
fn trigger_of_another() -> ForeignTrigger {
    ForeignTrigger {
        owner: "tg_orders_read-only".to_owned(),
        maker: "tg_orders_read-only".to_owned(),
        as_maker: false,
        name: "sp\"y".to_owned(),
        table: "shop.orders".to_owned(),
        table_owner: "stranger".to_owned(),
        as_table_owner: false,
        function: "shop.spy()".to_owned(),
        temporary: false,
        is_quiet: false,
    }
}

/// A trigger runs as whoever writes to its table: it goes, by what the account may do about it.
#[test]
fn a_trigger_on_a_table_of_others_is_taken_away() {
    let trigger = ForeignTrigger {
        as_table_owner: true,
        ..trigger_of_another()
    };
    let first = about(&trigger).first(1).join("");
    for said in [
        "DROP TRIGGER IF EXISTS \"sp\"\"y\" ON shop.orders",
        "a session created the trigger sp\"y on shop.orders, which runs with the rights of every writer",
    ] {
        assert!(first.contains(said), "{said} not in {first}");
    }
    // Who is not the table's owner takes the function, which is the profile's.
    let with_function = sql(&about(&trigger_of_another()));
    let as_role = as_member("tg_orders_read-only", "DROP FUNCTION IF EXISTS shop.spy() CASCADE");
    assert!(with_function.contains(&as_role), "{with_function}");
    // While the table is in use, it does nothing.
    let said = trigger_of_another().quiet().unwrap();
    assert!(
        said.starts_with("CREATE OR REPLACE FUNCTION shop.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"),
        "{said}"
    );
    let quiet = ForeignTrigger {
        is_quiet: true,
        ..trigger_of_another()
    };
    assert_eq!(quiet.quiet(), None);
}

#[test]
fn a_trigger_is_for_who_may_take_it_away() {
    // Of a live grant's own it is that role; of a temporary function, which cannot be named, the table's owner.
    let of_grant = ForeignTrigger {
        maker: "gr_1111111111_ana".to_owned(),
        ..trigger_of_another()
    };
    let told = about(&of_grant).excess.join("\n");
    assert!(
        told.contains("may not act as gr_1111111111_ana; with an account that may: DROP FUNCTION"),
        "{told}"
    );
    let by_maker = ForeignTrigger {
        as_maker: true,
        ..of_grant
    };
    assert_eq!(about(&by_maker).excess, [""; 0]);
    let temporary = ForeignTrigger {
        temporary: true,
        as_maker: true,
        ..trigger_of_another()
    };
    let told = about(&temporary).excess.join("\n");
    assert!(
        told.contains("may not act as stranger; with an account that may: DROP TRIGGER"),
        "{told}"
    );
    // Another profile's is in the other's plan.
    let others = ForeignTrigger {
        owner: WRITER.to_owned(),
        ..trigger_of_another()
    };
    assert!(!sql(&about(&others)).contains("DROP"));
}

#[test]
fn what_a_trigger_comes_to_is_told() {
    let rights = Rights {
        trigger: patterns(&["shop.*", "!shop.cards"]),
        ..Rights::default()
    };
    let told = planned(&rights, &snapshot()).warnings.join("\n");
    assert!(
        told.contains(
            "`trigger` lets sessions put code on shop.orders; it sees whole rows and runs with the rights of every writer"
        ),
        "{told}"
    );
    assert!(
        !planned(&select(&["shop.*"]), &snapshot())
            .warnings
            .join("\n")
            .contains("`trigger`")
    );
}

/// Whoever is to own what is made under a profile is a member of its role; whoever else is one is told.
#[test]
fn the_owner_of_what_is_made_is_a_member_and_others_are_told() {
    let rights = Rights {
        select: patterns(&["shop.orders"]),
        create: vec!["shop".parse().unwrap()],
        owner: Some("shop_owner".to_owned()),
        ..Rights::default()
    };
    let mut snapshot = snapshot();
    let grant = "GRANT \"tg_orders_read-only\" TO \"shop_owner\"";
    let missing = planned(&rights, &snapshot);
    assert!(
        missing.blocked.iter().any(|why| why.contains("the role shop_owner")),
        "{missing:?}"
    );
    snapshot.owners.push("shop_owner".to_owned());
    let made = planned(&rights, &snapshot);
    assert!(made.steps.iter().any(|step| step.sql == grant), "{made:?}");
    snapshot.roles.push(ExistingRole {
        name: "tg_orders_read-only".to_owned(),
        comment: Some(MARKER.to_owned()),
        ..ExistingRole::default()
    });
    let others = planned(&rights, &snapshot);
    assert!(others.blocked.iter().any(|why| why.ends_with(grant)), "{others:?}");
    snapshot.roles[0].may_join = true;
    snapshot.roles[0].members = vec!["bo".to_owned()];
    let told = planned(&rights, &snapshot);
    assert!(told.steps.iter().any(|step| step.sql == grant), "{told:?}");
    assert!(told.warnings.iter().any(|why| why.contains("\"bo\" is a member")), "{told:?}");
    snapshot.roles[0].members = vec!["shop_owner".to_owned()];
    let member = planned(&rights, &snapshot);
    assert!(!sql(&member).contains("shop_owner"), "{member:?}");
}
