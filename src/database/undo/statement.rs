//! Statements for one row: the one that undoes its change, and the one that tells whether that has happened already.
//!
//! Values are compared as PostgreSQL writes a row (`record_out` in utils/adt/rowtypes.c), since not every type can be compared;
//! the primary key by its own type, so that its index finds the row.

use super::key_now;
use crate::audit::event::{RowChange, RowValues, RowsChanged};
use crate::base::visible::is_unseen;
use crate::database::rights::{quoted, quoted_text};

/// Statements for one row.
pub(super) struct RowStatements {
    /// Key of the row, as [`super::UndoStep::key`] has it.
    pub(super) key: RowValues,
    pub(super) undo: String,
    pub(super) check: String,
}

impl RowStatements {
    /// Returns the statements; `None` if there is nothing to undo.
    pub(super) fn of(event: &RowsChanged, change: &RowChange) -> Option<Self> {
        let table = format!("{}.{}", name(&event.schema), name(&event.table));
        let plain = |values: &RowValues| {
            let is_written = |column: &String| !event.generated.contains(column) && !event.masked.contains(column);
            let values = values.iter().filter(|(column, _)| is_written(column));
            values
                .map(|(column, value)| (column.clone(), value.clone()))
                .collect::<RowValues>()
        };
        let (old, new) = (change.old.as_ref().map(plain), change.new.as_ref().map(plain));
        let (undo, check) = match (&old, &new) {
            (Some(old), Some(new)) => update(&table, (&change.key, &key_now(change)), (old, new))?,
            (Some(old), None) => insert(&table, &change.key, old),
            (None, Some(new)) => delete(&table, &change.key, new),
            (None, None) => return None,
        };
        let key = if change.key.is_empty() {
            old.or(new).unwrap_or_default()
        } else {
            change.key.clone()
        };
        Some(Self { key, undo, check })
    }
}

/// Keys and values before the change and after it.
fn update(
    table: &str,
    (key, key_now): (&RowValues, &RowValues),
    (old, new): (&RowValues, &RowValues),
) -> Option<(String, String)> {
    if old.is_empty() {
        return None;
    }
    let set: Vec<String> = old
        .iter()
        .map(|(column, value)| format!("{} = {}", name(column), literal(value.as_deref())))
        .collect();
    // A table without a primary key has all columns as the key, so those that changed are among them.
    let is_keyed = !new.keys().all(|column| key.contains_key(column));
    let row = |key: &RowValues, values: &RowValues| {
        if is_keyed {
            format!("{} AND {}", equal(key), is_row(values))
        } else {
            is_row(key)
        }
    };
    let found = row(key_now, new);
    let found = if is_keyed { found } else { one_of(table, &found) };
    Some((
        format!("UPDATE {table} SET {} WHERE {found}", set.join(", ")),
        exists(table, &row(key, old)),
    ))
}

fn insert(table: &str, key: &RowValues, old: &RowValues) -> (String, String) {
    let (columns, values): (Vec<_>, Vec<_>) = old
        .iter()
        .map(|(column, value)| (name(column), literal(value.as_deref())))
        .unzip();
    let sql = if old.is_empty() {
        format!("INSERT INTO {table} DEFAULT VALUES")
    } else {
        let (columns, values) = (columns.join(", "), values.join(", "));
        format!("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})")
    };
    // Without a key there may have been more rows like it.
    let check = if key.is_empty() {
        NEVER.to_owned()
    } else {
        exists(table, &format!("{} AND {}", equal(key), is_row(old)))
    };
    (sql, check)
}

fn delete(table: &str, key: &RowValues, new: &RowValues) -> (String, String) {
    if key.is_empty() {
        return (
            format!("DELETE FROM {table} WHERE {}", one_of(table, &is_row(new))),
            NEVER.to_owned(),
        );
    }
    (
        format!("DELETE FROM {table} WHERE {} AND {}", equal(key), is_row(new)),
        format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM {table} WHERE {})", equal(key)),
    )
}

/// Query that never has a row.
const NEVER: &str = "SELECT 1 WHERE false";

fn exists(table: &str, condition: &str) -> String {
    format!("SELECT 1 WHERE EXISTS (SELECT FROM {table} WHERE {condition})")
}

/// Returns a condition for one row of those that meet a condition, in whatever partition it is.
fn one_of(table: &str, condition: &str) -> String {
    format!("(tableoid, ctid) = (SELECT tableoid, ctid FROM {table} WHERE {condition} LIMIT 1)")
}

fn equal(key: &RowValues) -> String {
    let one = |(column, value): (&String, &Option<String>)| format!("{} = {}", name(column), literal(value.as_deref()));
    key.iter().map(one).collect::<Vec<_>>().join(" AND ")
}

/// Returns the condition that columns have these values.
fn is_row(values: &RowValues) -> String {
    let columns: Vec<String> = values.keys().map(|column| name(column)).collect();
    let row: Vec<String> = values.values().map(|value| field(value.as_deref())).collect();
    let row = literal(Some(&format!("({})", row.join(","))));
    format!("ROW({})::text = {row}", columns.join(", "))
}

/// Writes a field as `record_out` does.
fn field(value: Option<&str>) -> String {
    let Some(value) = value else { return String::new() };
    let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || c.is_ascii_whitespace() || c == '\u{b}';
    if value.is_empty() || value.contains(special) {
        return format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\"\""));
    }
    value.to_owned()
}

/// Returns a value as a literal on one line. What cannot be seen is escaped, as `E'...'` has it.
fn literal(value: Option<&str>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    if !value.contains(is_unseen) {
        return quoted_text(value);
    }
    let escaped: String = value
        .chars()
        .map(|character| match character {
            '\'' => "''".to_owned(),
            '\\' => "\\\\".to_owned(),
            unseen if is_unseen(unseen) => format!("\\U{:08X}", u32::from(unseen)),
            plain => plain.to_string(),
        })
        .collect();
    format!("E'{escaped}'")
}

/// Returns a name in quotes. What cannot be seen is escaped, as `U&"..."` has it.
fn name(text: &str) -> String {
    if !text.contains(is_unseen) {
        return quoted(text);
    }
    let escaped: String = text
        .chars()
        .map(|character| match character {
            '"' => "\"\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            unseen if is_unseen(unseen) => format!("\\+{:06X}", u32::from(unseen)),
            plain => plain.to_string(),
        })
        .collect();
    format!("U&\"{escaped}\"")
}
