//! Triggers of a captured table, and the text of the functions that they run.
//!
//! The text depends on the store's name alone: one function serves all tables. INVARIANT: what is captured does not depend on the
//! settings of the session that fires a trigger; a function holds no more than a limited number of rows in memory.

use crate::database::rights::role::quoted_text;

/// Maximum number of rows of one statement whose images are captured. A statement that changes more is captured as their number
/// and a checksum.
const MAX_IMAGES: u32 = 10_000;
/// Maximum length of an image, in bytes. A longer one is captured as its length and its SHA-256.
const MAX_IMAGE_BYTES: u32 = 8 << 10;
/// Columns that the functions write.
const INSERTED: &str =
    "role, backend, transaction, statement_at, depth, relation, schema_name, table_name, operation, columns, rows, old, new";

/// Settings that determine how values are written as text.
pub(super) const WRITING: &[(&str, &str)] = &[
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
];

/// Trigger that a captured table has for one event.
pub(super) struct WantedTrigger {
    /// Word for the event: in the trigger's name, and its function's.
    pub(super) event: &'static str,
    /// Event and time, as in `CREATE TRIGGER`.
    pub(super) fires: &'static str,
    /// `tgtype`: BEFORE 2, INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32 (src/include/catalog/pg_trigger.h).
    pub(super) kind: i16,
    has_old: bool,
    has_new: bool,
}

/// Triggers of a captured table. TRUNCATE has no transition tables: its trigger reads the rows before they are gone.
pub(super) const TRIGGERS: [WantedTrigger; 4] = [
    WantedTrigger {
        event: "insert",
        fires: "AFTER INSERT",
        kind: 4,
        has_old: false,
        has_new: true,
    },
    WantedTrigger {
        event: "update",
        fires: "AFTER UPDATE",
        kind: 16,
        has_old: true,
        has_new: true,
    },
    WantedTrigger {
        event: "delete",
        fires: "AFTER DELETE",
        kind: 8,
        has_old: true,
        has_new: false,
    },
    WantedTrigger {
        event: "truncate",
        fires: "BEFORE TRUNCATE",
        kind: 34,
        has_old: false,
        has_new: false,
    },
];

/// Returns the body of a trigger's function, which writes to the table `store`.
pub(super) fn source(wanted: &WantedTrigger, store: &str) -> String {
    if wanted.event == "truncate" {
        return truncate_source(store);
    }
    let rows = |has: bool, table: &str| if has { images(table) } else { "NULL::text[]".to_owned() };
    let sum = |has: bool, table: &str| if has { checksum(table) } else { "NULL".to_owned() };
    let counted = if wanted.has_new { "new" } else { "old" };
    format!(
        "
DECLARE
    change bigint;
    images bigint;
BEGIN
    INSERT INTO {store} ({INSERTED})
    SELECT session_user, pg_backend_pid(), pg_current_xact_id(), statement_timestamp(), pg_trigger_depth(),
        TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, {names}, cardinality(c.{counted}), c.old, c.new
    FROM (SELECT {old} AS old, {new} AS new OFFSET 0) AS c
    WHERE cardinality(c.{counted}) > 0
    RETURNING id, rows INTO change, images;
    IF images > {MAX_IMAGES} THEN
        UPDATE {store} SET old = NULL, new = NULL, rows = (SELECT count(*) FROM {counted}_rows),
            old_sum = {old_sum}, new_sum = {new_sum} WHERE id = change;
    END IF;
    RETURN NULL;
END",
        names = column_names("TG_RELID"),
        old = rows(wanted.has_old, "old_rows"),
        new = rows(wanted.has_new, "new_rows"),
        old_sum = sum(wanted.has_old, "old_rows"),
        new_sum = sum(wanted.has_new, "new_rows"),
    )
}

/// Returns the body of the function for TRUNCATE. It fires for each partition of a truncated table, so it reads the rows of
/// the one table only. Rows beyond the limit are counted, and not read.
fn truncate_source(store: &str) -> String {
    let insert = format!(
        "INSERT INTO {store} ({INSERTED}) \
         SELECT session_user, pg_backend_pid(), pg_current_xact_id(), statement_timestamp(), $4, $1, $2, $3, 'TRUNCATE', {names}, \
         CASE WHEN cardinality(c.old) > {MAX_IMAGES} THEN (SELECT count(*) FROM ONLY %1$s) ELSE cardinality(c.old) END, \
         CASE WHEN cardinality(c.old) <= {MAX_IMAGES} THEN c.old END, NULL \
         FROM (SELECT {old} AS old OFFSET 0) AS c WHERE cardinality(c.old) > 0",
        store = store.replace('%', "%%"),
        names = column_names("$1"),
        old = images("ONLY %1$s"),
    );
    format!(
        "
BEGIN
    EXECUTE format({}, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME))
    USING TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME, pg_trigger_depth();
    RETURN NULL;
END",
        quoted_text(&insert)
    )
}

impl WantedTrigger {
    /// Returns the clauses that name its transition tables.
    pub(super) fn transitions(&self) -> Vec<&'static str> {
        let clauses = [
            (self.has_old, "OLD TABLE AS old_rows"),
            (self.has_new, "NEW TABLE AS new_rows"),
        ];
        clauses
            .into_iter()
            .filter_map(|(has, clause)| has.then_some(clause))
            .collect()
    }
}

/// Returns the settings of a function.
pub(super) fn settings(wanted: &WantedTrigger) -> impl Iterator<Item = (&'static str, &'static str)> {
    // Rows hidden by row security would be truncated all the same: the function fails instead.
    let reads = (wanted.event == "truncate").then_some(("row_security", "off"));
    let path = [("search_path", "pg_catalog, pg_temp")];
    path.into_iter().chain(WRITING.iter().copied()).chain(reads)
}

/// Returns the expression for the names of a table's columns, in order.
fn column_names(relation: &str) -> String {
    format!(
        "ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)"
    )
}

/// Returns the expression for the images of a table's rows. Transition tables keep the order in which rows were changed, and an
/// UPDATE adds the old and the new row together (`AfterTriggerSaveEvent` in commands/trigger.c), so images at the same place
/// belong together.
fn images(table: &str) -> String {
    format!(
        "ARRAY(SELECT CASE WHEN octet_length(i.image) > {MAX_IMAGE_BYTES} \
         THEN '#' || octet_length(i.image) || ' ' || encode(sha256(convert_to(i.image, 'UTF8')), 'hex') ELSE i.image END \
         FROM (SELECT (captured.*)::text AS image FROM {table} AS captured LIMIT {}) AS i)",
        MAX_IMAGES + 1
    )
}

/// Returns the expression for a checksum of a table's rows, which is independent of their order.
fn checksum(table: &str) -> String {
    format!("(SELECT sum(hashtextextended((captured.*)::text, 0)) FROM {table} AS captured)")
}
