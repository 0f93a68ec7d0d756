//! Capture of changed rows: the store that a target has in its database, and the triggers that write to it.
//!
//! It connects to nothing. The triggers fire once for each statement and read all its rows from transition tables, so a statement
//! costs one row in the store, whatever it changes. PostgreSQL allows transition tables for one event of a trigger only (`CREATE
//! TRIGGER`), so a table has a trigger for each.
//!
//! INVARIANT: a role other than the store's owner and the target's account has no right in the store; the functions run with the
//! rights of the account that applied, and with settings of their own, so that a session's settings change nothing that is
//! captured; the triggers fire always, whatever `session_replication_role` says; the store is never dropped while it has a change
//! that is not on record.

mod functions;

use std::collections::BTreeSet;

use serde::Deserialize;

use super::catalogue::{CatalogSnapshot, comment_on};
use super::pattern::Pattern;
use super::plan::{PlanError, ProfilePlan};
use super::role::{RoleName, quoted, quoted_text};
use super::view::default_grantees;
use functions::{TRIGGERS, WantedTrigger, settings, source};

/// Returns the statements with which a transaction writes values as text as captured images have them.
#[must_use]
pub fn writing_settings() -> Vec<String> {
    let one = |(name, value): &(&str, &str)| format!("SET LOCAL {name} = {}", quoted_text(value));
    functions::WRITING.iter().map(one).collect()
}

/// Name of the table of the store.
pub const CHANGES: &str = "changes";

/// Columns of the table, as the catalogue shows them.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "bigint"),
    ("role", "text"),
    ("backend", "integer"),
    ("transaction", "xid8"),
    ("statement_at", "timestamp with time zone"),
    ("depth", "integer"),
    ("relation", "oid"),
    ("schema_name", "text"),
    ("table_name", "text"),
    ("operation", "text"),
    ("columns", "text[]"),
    ("rows", "bigint"),
    ("old", "text[]"),
    ("new", "text[]"),
    ("old_sum", "numeric"),
    ("new_sum", "numeric"),
];

/// Tables of a target whose changes are captured, and the store for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureDefinition {
    /// Schema of the store.
    pub schema: RoleName,
    /// Comment that marks the schema as the gate's.
    pub marker: String,
    /// The target's account, which moves changes from the store to the log.
    pub account: String,
    /// Patterns of each profile that has some. The exclusions of a profile apply to its own.
    pub patterns: Vec<Vec<Pattern>>,
}

/// Part of a database's catalogue that capture is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureCatalog {
    /// Schema with the name of the store, if there is one.
    pub store: Option<ExistingStore>,
    /// Tables of the database, with the triggers of this store on them.
    pub tables: Vec<CapturableTable>,
}

/// Existing schema with the name of a store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExistingStore {
    /// Role that owns it.
    pub owner: String,
    /// Comment on it.
    pub comment: Option<String>,
    /// Columns of its table, like `id bigint, role text`; `None` if there is no table.
    pub columns: Option<String>,
    /// Functions in it.
    pub functions: Vec<StoreFunction>,
    /// Rights of roles other than its owner and the account, each as written after `REVOKE ALL ON`.
    pub rights_of_others: Vec<String>,
    /// True if the account may read and empty it.
    pub is_open: bool,
}

/// Function in a store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoreFunction {
    /// Name of the function.
    pub name: String,
    /// Text of its body.
    pub source: String,
    /// Its settings, as the catalogue has them: `name=value`.
    pub settings: Vec<String>,
    /// True if it runs with its owner's rights.
    pub is_definer: bool,
}

/// Table that can be captured: an ordinary or partitioned one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CapturableTable {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Role that owns it.
    pub owner: String,
    /// Tables that it is a part of (partitioning, inheritance), by schema and name.
    pub parents: Vec<(String, String)>,
    /// Triggers on it that run a function of the store.
    pub triggers: Vec<CaptureTrigger>,
}

/// Existing trigger that runs a function of the store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CaptureTrigger {
    /// Name of the trigger.
    pub name: String,
    /// Name of the function.
    pub function: String,
    /// Mode by `session_replication_role` (`tgenabled`): `A` is always.
    pub enabled: String,
    /// Event, level and time (`tgtype`).
    pub kind: i16,
    /// Names of its transition tables.
    pub transitions: Vec<String>,
    /// True if it has a condition, or is limited to some columns.
    pub is_limited: bool,
}

impl CaptureDefinition {
    /// Returns true if the patterns of a profile match the table, or one that it is a part of: who writes to a partition itself
    /// fires the partition's triggers, and not those of the whole. INVARIANT: a table that sessions created is not captured; its
    /// owner could switch the triggers off.
    fn wants(&self, table: &CapturableTable, there: &CaptureCatalog, snapshot: &CatalogSnapshot) -> bool {
        let wanted = |patterns: &Vec<Pattern>| {
            let excluded = patterns.iter().filter(|pattern| pattern.excludes);
            !excluded
                .into_iter()
                .any(|pattern| pattern.matches(&table.schema, &table.name))
                && includes(patterns, table, &there.tables, MAX_LEVELS)
        };
        !snapshot.is_gate_role(&table.owner) && self.patterns.iter().any(wanted)
    }

    fn trigger_name(&self, wanted: &WantedTrigger) -> String {
        // Triggers fire in the order of their names. The last one of a statement, so that changes by other triggers of the same
        // statement are captured before it: their depth tells them apart.
        format!("~{} {}", self.schema, wanted.event)
    }

    fn function(&self, wanted: &WantedTrigger) -> String {
        format!("{}.{}", self.schema.quoted(), quoted(wanted.event))
    }

    fn table(&self) -> String {
        format!("{}.{CHANGES}", self.schema.quoted())
    }

    /// Returns the statement that creates a trigger.
    fn create_trigger(&self, wanted: &WantedTrigger, table: &str) -> String {
        let mut rows = wanted.transitions().join(" ");
        if !rows.is_empty() {
            rows = format!("REFERENCING {rows} ");
        }
        format!(
            "CREATE TRIGGER {} {} ON {table} {rows}FOR EACH STATEMENT EXECUTE FUNCTION {}()",
            quoted(&self.trigger_name(wanted)),
            wanted.fires,
            self.function(wanted)
        )
    }

    /// Returns the statement that creates or replaces a function.
    fn create_function(&self, wanted: &WantedTrigger) -> String {
        let settings = settings(wanted).map(|(name, value)| match name {
            // A list of names: with quotes around it, it would be one name.
            "search_path" => format!(" SET {name} = {value}"),
            _ => format!(" SET {name} = {}", quoted_text(value)),
        });
        let source = source(wanted, &self.table());
        let mut tag = String::from("$capture$");
        while source.contains(&tag) {
            tag.insert(1, '_');
        }
        format!(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{} AS {tag}{source}{tag}",
            self.function(wanted),
            settings.collect::<String>()
        )
    }

    /// Returns true if an existing function is as it should be.
    fn is_function(&self, wanted: &WantedTrigger, there: &StoreFunction) -> bool {
        let expected: BTreeSet<String> = settings(wanted)
            .map(|(name, value)| format!("{name}={value}").to_lowercase())
            .collect();
        let found: BTreeSet<String> = there.settings.iter().map(|setting| setting.to_lowercase()).collect();
        there.name == wanted.event && there.is_definer && there.source == source(wanted, &self.table()) && found == expected
    }

    /// Returns the statement that fails if a change in the store is not on record.
    fn keep_changes(&self) -> String {
        let message = quoted_text("changes in the store are not on record yet");
        let hint = quoted_text("Nothing was changed. A running gate moves them to its log within a minute; then apply again.");
        format!(
            "DO $keep$BEGIN IF EXISTS (SELECT FROM {}) THEN RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = {message}, HINT = {hint}; END IF; END$keep$",
            self.table()
        )
    }

    fn create_table(&self, plan: &mut ProfilePlan) {
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, kind)| match *name {
                "id" => format!("id {kind} GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
                name => format!("{name} {kind}"),
            })
            .collect();
        plan.step(
            format!("CREATE TABLE {} ({})", self.table(), columns.join(", ")),
            "holds changes until they are in the gate's log",
        );
        // Compression costs more time than it saves: the rows live for a second.
        plan.step(
            format!(
                "ALTER TABLE {} ALTER COLUMN old SET STORAGE EXTERNAL, ALTER COLUMN new SET STORAGE EXTERNAL",
                self.table()
            ),
            "saves the time for compressing images",
        );
    }
}

/// Maximum depth of inheritance that is followed.
const MAX_LEVELS: usize = 32;

impl CaptureTrigger {
    /// Returns true if it is as this trigger should be, whenever it fires.
    fn is(&self, wanted: &WantedTrigger) -> bool {
        let names = wanted.transitions();
        let names: Vec<&str> = names.iter().filter_map(|clause| clause.rsplit(' ').next()).collect();
        self.kind == wanted.kind && self.function == wanted.event && self.transitions == names && !self.is_limited
    }
}

/// Returns true if an inclusion matches the table or one of those that it is a part of.
fn includes(patterns: &[Pattern], table: &CapturableTable, all: &[CapturableTable], levels: usize) -> bool {
    let own = patterns
        .iter()
        .any(|pattern| !pattern.excludes && pattern.matches(&table.schema, &table.name));
    let excluded = patterns
        .iter()
        .any(|pattern| pattern.excludes && pattern.matches(&table.schema, &table.name));
    let parent = |key: &(String, String)| all.iter().find(|other| (&other.schema, &other.name) == (&key.0, &key.1));
    own && !excluded
        || levels > 0
            && table
                .parents
                .iter()
                .filter_map(parent)
                .any(|parent| includes(patterns, parent, all, levels - 1))
}

/// Adds to a plan the changes that make a database capture what is defined, and nothing else.
pub fn compare(
    capture: &CaptureDefinition,
    there: &CaptureCatalog,
    snapshot: &CatalogSnapshot,
    plan: &mut ProfilePlan,
) -> Result<(), PlanError> {
    let is_ours = |store: &&ExistingStore| store.comment.as_deref() == Some(&*capture.marker);
    let store = there.store.as_ref().filter(is_ours);
    if capture.patterns.is_empty() {
        if let Some(store) = store {
            remove(capture, store, (there, snapshot), plan);
        }
        return Ok(());
    }
    if there.store.is_some() && store.is_none() {
        return Err(PlanError {
            what: "the schema",
            name: capture.schema.to_string(),
            marker: capture.marker.clone(),
        });
    }
    let before = plan.steps.len();
    make(capture, store, snapshot, plan);
    if plan.steps.len() > before {
        plan.blocked.extend(may_not(store, snapshot));
    }
    let mut captured = 0;
    for table in &there.tables {
        let wanted = capture.wants(table, there, snapshot);
        captured += usize::from(wanted);
        triggers(capture, table, wanted, snapshot, plan);
    }
    if captured == 0 {
        plan.warnings.push("`capture` matches no table".to_owned());
    }
    Ok(())
}

/// Plans the store: its schema, table and functions, and the rights on them.
fn make(capture: &CaptureDefinition, store: Option<&ExistingStore>, snapshot: &CatalogSnapshot, plan: &mut ProfilePlan) {
    let schema = capture.schema.quoted();
    let why = "only the gate may use the store of changes";
    let revoke = |plan: &mut ProfilePlan, what: &str, from: BTreeSet<String>| {
        if !from.is_empty() {
            let from: Vec<String> = from.into_iter().collect();
            plan.step(format!("REVOKE ALL ON {what} FROM {} CASCADE", from.join(", ")), why);
        }
    };
    let by_default = |kind: &str| default_grantees(snapshot, capture.schema.as_str(), kind);
    if let Some(store) = store {
        for right in &store.rights_of_others {
            plan.step(format!("REVOKE ALL ON {right} CASCADE"), why);
        }
    } else {
        plan.step(format!("CREATE SCHEMA {schema}"), "schema for the store of changes");
        plan.step(
            comment_on(&format!("SCHEMA {schema}"), &capture.marker),
            "marks it as owned by the gate",
        );
        revoke(plan, &format!("SCHEMA {schema}"), by_default("SCHEMAS"));
    }
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let there = store.and_then(|store| store.columns.as_deref());
    let is_new = there != Some(&*columns.join(", "));
    if is_new {
        if there.is_some() {
            plan.step(capture.keep_changes(), "a change in the store must not be lost");
            plan.step(
                format!("DROP TABLE {}", capture.table()),
                "another version of the gate made it",
            );
        }
        capture.create_table(plan);
        revoke(plan, &capture.table(), by_default("TABLES"));
        revoke(plan, &format!("ALL SEQUENCES IN SCHEMA {schema}"), by_default("SEQUENCES"));
    }
    for wanted in &TRIGGERS {
        let found = store.and_then(|store| store.functions.iter().find(|function| function.name == wanted.event));
        if found.is_some_and(|found| capture.is_function(wanted, found)) {
            continue;
        }
        plan.step(capture.create_function(wanted), "writes changes to the store");
        if found.is_none() {
            let mut from = by_default("ROUTINES");
            from.insert("PUBLIC".to_owned());
            revoke(plan, &format!("FUNCTION {}()", capture.function(wanted)), from);
        }
    }
    let is_open = store.is_some_and(|store| store.is_open && !is_new) || capture.account == snapshot.account.name;
    if !is_open {
        let account = quoted(&capture.account);
        let why = "lets the gate move changes to its log";
        plan.step(format!("GRANT USAGE ON SCHEMA {schema} TO {account}"), why);
        plan.step(
            format!("GRANT SELECT, UPDATE, DELETE ON {} TO {account}", capture.table()),
            why,
        );
    }
}

/// Returns the reason why the account cannot change the store.
fn may_not(store: Option<&ExistingStore>, snapshot: &CatalogSnapshot) -> Option<String> {
    match store {
        Some(store) => (!snapshot.acts_as(&store.owner)).then(|| {
            format!(
                "the store of changes belongs to {}; apply as that role or a superuser (--user)",
                store.owner
            )
        }),
        None => (!snapshot.account.create_schema).then(|| {
            format!(
                "{} may not create a schema for the store of changes: it lacks CREATE on the database",
                snapshot.account.name
            )
        }),
    }
}

/// Plans the triggers of one table.
fn triggers(
    capture: &CaptureDefinition,
    table: &CapturableTable,
    wanted: bool,
    snapshot: &CatalogSnapshot,
    plan: &mut ProfilePlan,
) {
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    let before = plan.steps.len();
    let (mut kept, mut enable) = (BTreeSet::new(), Vec::new());
    if wanted {
        for trigger in &TRIGGERS {
            let own = capture.trigger_name(trigger);
            let found = table.triggers.iter().find(|there| there.name == own && there.is(trigger));
            if let Some(found) = found {
                kept.insert(found.name.clone());
            }
            if found.is_none_or(|found| found.enabled != "A") {
                enable.push(format!("ENABLE ALWAYS TRIGGER {}", quoted(&own)));
            }
        }
    }
    for there in table.triggers.iter().filter(|there| !kept.contains(&there.name)) {
        let why = if wanted {
            "it is not as the gate made it"
        } else {
            "no profile captures the table"
        };
        plan.step(format!("DROP TRIGGER {} ON {name}", quoted(&there.name)), why);
    }
    for trigger in TRIGGERS.iter().filter(|_| wanted) {
        if !kept.contains(&capture.trigger_name(trigger)) {
            plan.step(capture.create_trigger(trigger, &name), "captures changes of the table");
        }
    }
    if !enable.is_empty() {
        plan.step(
            format!("ALTER TABLE {name} {}", enable.join(", ")),
            "session_replication_role must not switch capture off",
        );
    }
    if plan.steps.len() > before && !snapshot.acts_as(&table.owner) {
        plan.blocked.push(format!(
            "{} may not change the triggers of table {}.{}, owned by {}; apply as {3} or a superuser (--user)",
            snapshot.account.name, table.schema, table.name, table.owner
        ));
    }
}

/// Plans the removal of every trace.
fn remove(
    capture: &CaptureDefinition,
    store: &ExistingStore,
    (there, snapshot): (&CaptureCatalog, &CatalogSnapshot),
    plan: &mut ProfilePlan,
) {
    for table in &there.tables {
        triggers(capture, table, false, snapshot, plan);
    }
    let why = "no profile captures changes any more";
    if store.columns.is_some() {
        plan.step(capture.keep_changes(), "a change in the store must not be lost");
        plan.step(format!("DROP TABLE {}", capture.table()), why);
    }
    for function in &store.functions {
        let name = format!("{}.{}", capture.schema.quoted(), quoted(&function.name));
        plan.step(format!("DROP FUNCTION {name}()"), why);
    }
    // Fails if somebody else has put something there.
    plan.step(format!("DROP SCHEMA {}", capture.schema.quoted()), why);
    plan.blocked.extend(may_not(Some(store), snapshot));
}

#[cfg(test)]
mod tests;
