use super::*;
use crate::database::rights::catalogue::ServerAccount;
use crate::database::rights::{capture_marker, capture_schema};

fn definition(patterns: &[&[&str]]) -> CaptureDefinition {
    let target = "orders".parse().unwrap();
    let parsed = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    CaptureDefinition {
        schema: capture_schema(&target),
        marker: capture_marker(&target),
        account: "gate".to_owned(),
        patterns: patterns.iter().map(parsed).collect(),
    }
}

fn table(name: &str, parents: &[&str]) -> CapturableTable {
    CapturableTable {
        schema: "shop".to_owned(),
        name: name.to_owned(),
        owner: "owner".to_owned(),
        parents: parents
            .iter()
            .map(|parent| ("shop".to_owned(), (*parent).to_owned()))
            .collect(),
        triggers: Vec::new(),
    }
}

fn snapshot() -> CatalogSnapshot {
    CatalogSnapshot {
        account: ServerAccount {
            name: "owner".to_owned(),
            create_schema: true,
            acts_as: vec!["owner".to_owned()],
            ..ServerAccount::default()
        },
        gate_roles: ["tg_orders_write".to_owned()].into(),
        ..CatalogSnapshot::default()
    }
}

fn planned(definition: &CaptureDefinition, there: &CaptureCatalog) -> ProfilePlan {
    let mut plan = ProfilePlan::default();
    compare(definition, there, &snapshot(), &mut plan).unwrap();
    plan
}

fn sql(plan: &ProfilePlan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.sql.as_str()).collect()
}

/// What there is once the plan of `definition` was run for these tables.
fn applied(definition: &CaptureDefinition, tables: &[CapturableTable]) -> CaptureCatalog {
    let function = |wanted: &WantedTrigger| StoreFunction {
        name: wanted.event.to_owned(),
        source: source(wanted, &definition.table()),
        settings: settings(wanted).map(|(name, value)| format!("{name}={value}")).collect(),
        is_definer: true,
    };
    let trigger = |wanted: &WantedTrigger| CaptureTrigger {
        name: definition.trigger_name(wanted),
        function: wanted.event.to_owned(),
        enabled: "A".to_owned(),
        kind: wanted.kind,
        transitions: wanted
            .transitions()
            .iter()
            .map(|clause| clause.rsplit(' ').next().unwrap().to_owned())
            .collect(),
        is_limited: false,
    };
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    CaptureCatalog {
        store: Some(ExistingStore {
            owner: "owner".to_owned(),
            comment: Some(definition.marker.clone()),
            columns: Some(columns.join(", ")),
            functions: TRIGGERS.iter().map(function).collect(),
            rights_of_others: Vec::new(),
            is_open: true,
        }),
        tables: tables
            .iter()
            .map(|table| CapturableTable {
                triggers: TRIGGERS.iter().map(trigger).collect(),
                ..table.clone()
            })
            .collect(),
    }
}

fn tables(tables: &[CapturableTable]) -> CaptureCatalog {
    CaptureCatalog {
        store: None,
        tables: tables.to_vec(),
    }
}

#[test]
fn a_database_without_a_store_gets_one() {
    let plan = planned(
        &definition(&[&["shop.*", "!shop.events"]]),
        &tables(&[table("orders", &[]), table("events", &[])]),
    );
    let sql = sql(&plan);
    assert!(plan.blocked.is_empty() && plan.warnings.is_empty(), "{plan:#?}");
    assert_eq!(sql[0], "CREATE SCHEMA \"tidegate_orders\"");
    assert_eq!(
        sql.iter().filter(|sql| sql.starts_with("CREATE OR REPLACE FUNCTION")).count(),
        4
    );
    assert_eq!(sql.iter().filter(|sql| sql.contains("FROM PUBLIC")).count(), 4, "{sql:#?}");
    let triggers: Vec<_> = sql.iter().filter(|sql| sql.starts_with("CREATE TRIGGER")).collect();
    assert_eq!(triggers.len(), 4);
    assert_eq!(
        *triggers[1],
        "CREATE TRIGGER \"~tidegate_orders update\" AFTER UPDATE ON \"shop\".\"orders\" REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows \
         FOR EACH STATEMENT EXECUTE FUNCTION \"tidegate_orders\".\"update\"()"
    );
    assert!(sql.iter().all(|sql| !sql.contains("events\"")), "{sql:#?}");
    assert!(sql.last().unwrap().matches("ENABLE ALWAYS TRIGGER").count() == 4);
}

#[test]
fn what_is_applied_is_in_step_and_what_is_changed_is_not() {
    let definition = definition(&[&["shop.*"]]);
    let there = applied(&definition, &[table("orders", &[])]);
    assert_eq!(planned(&definition, &there).steps, []);
    let differs = |change: &dyn Fn(&mut CaptureCatalog)| {
        let mut changed = there.clone();
        change(&mut changed);
        let plan = planned(&definition, &changed);
        plan.steps.iter().map(|step| step.sql.clone()).collect::<Vec<_>>().join("; ")
    };
    let disabled = differs(&|there| "D".clone_into(&mut there.tables[0].triggers[2].enabled));
    assert_eq!(
        disabled,
        "ALTER TABLE \"shop\".\"orders\" ENABLE ALWAYS TRIGGER \"~tidegate_orders delete\""
    );
    let dropped = differs(&|there| drop(there.tables[0].triggers.remove(0)));
    assert!(
        dropped.starts_with("CREATE TRIGGER") && dropped.contains("ENABLE ALWAYS"),
        "{dropped}"
    );
    let limited = differs(&|there| there.tables[0].triggers[0].is_limited = true);
    assert!(limited.starts_with("DROP TRIGGER"), "{limited}");
    let rewritten = differs(&|there| there.store.as_mut().unwrap().functions[0].source.clear());
    assert!(
        rewritten.starts_with("CREATE OR REPLACE FUNCTION \"tidegate_orders\".\"insert\""),
        "{rewritten}"
    );
    let invoker = differs(&|there| there.store.as_mut().unwrap().functions[0].is_definer = false);
    assert!(invoker.starts_with("CREATE OR REPLACE"), "{invoker}");
    let open = differs(&|there| {
        there
            .store
            .as_mut()
            .unwrap()
            .rights_of_others
            .push("TABLE s.changes FROM ana".to_owned())
    });
    assert_eq!(open, "REVOKE ALL ON TABLE s.changes FROM ana CASCADE");
    let old = differs(&|there| there.store.as_mut().unwrap().columns = Some("id bigint".to_owned()));
    assert!(old.starts_with("DO $keep$") && old.contains("DROP TABLE"), "{old}");
    let shut = differs(&|there| there.store.as_mut().unwrap().is_open = false);
    assert!(shut.contains("GRANT SELECT, UPDATE, DELETE ON"), "{shut}");
}

#[test]
fn partitions_are_captured_with_the_whole_and_tables_of_sessions_are_not() {
    let mut made = table("made", &[]);
    "tg_orders_write".clone_into(&mut made.owner);
    let there = tables(&[
        table("orders", &[]),
        table("orders_1", &["orders"]),
        table("orders_2", &["orders"]),
        made,
    ]);
    let plan = planned(&definition(&[&["shop.orders", "!shop.orders_2"], &["shop.made"]]), &there);
    let on = |name: &str| {
        plan.steps
            .iter()
            .any(|step| step.sql.contains(&format!("ON \"shop\".\"{name}\"")))
    };
    assert!(on("orders") && on("orders_1") && !on("orders_2") && !on("made"), "{plan:#?}");
    let plan = planned(&definition(&[&["other.*"]]), &there);
    assert_eq!(plan.warnings, ["`capture` matches no table"]);
}

#[test]
fn off_removes_every_trace_but_no_change_that_is_not_on_record() {
    let on = definition(&[&["shop.*"]]);
    let there = applied(&on, &[table("orders", &[])]);
    let plan = planned(&definition(&[]), &there);
    let sql = sql(&plan);
    assert_eq!(sql.iter().filter(|sql| sql.starts_with("DROP TRIGGER")).count(), 4);
    let kept = sql.iter().position(|sql| sql.starts_with("DO $keep$")).unwrap();
    let dropped = sql.iter().position(|sql| sql.starts_with("DROP TABLE")).unwrap();
    assert!(kept < dropped);
    assert_eq!(*sql.last().unwrap(), "DROP SCHEMA \"tidegate_orders\"");
    assert_eq!(planned(&definition(&[]), &tables(&[table("orders", &[])])).steps, []);
}

#[test]
fn what_the_account_may_not_do_blocks() {
    let mut foreign = table("orders", &[]);
    "somebody".clone_into(&mut foreign.owner);
    let plan = planned(&definition(&[&["shop.*"]]), &tables(&[foreign]));
    assert_eq!(
        plan.blocked,
        ["owner may not change the triggers of table shop.orders, owned by somebody; apply as somebody or a superuser (--user)"]
    );
    let mut there = applied(&definition(&[&["shop.*"]]), &[]);
    there.store.as_mut().unwrap().comment = None;
    let mut plan = ProfilePlan::default();
    let error = compare(&definition(&[&["shop.*"]]), &there, &snapshot(), &mut plan).unwrap_err();
    assert!(error.to_string().starts_with("the schema tidegate_orders exists"), "{error}");
}
