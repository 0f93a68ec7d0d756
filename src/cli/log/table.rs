//! Records as rows of a spreadsheet.
//!
//! INVARIANT: no cell begins like a formula, whatever SQL it contains, since a spreadsheet would run it (CWE-1236).

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::audit::event::{Event, SessionEnded, SessionStarted, Statement, StatementOutcome};
use crate::audit::evidence::harmless;
use crate::audit::sql_analysis::{AnalysisCache, SqlAnalysis};
use crate::audit::{LogRecord, render};
use crate::cli::render::{joined, visible};

/// Record, taken apart for its columns.
struct RecordRow<'a> {
    record: &'a LogRecord,
    statement: Option<&'a Statement<'static>>,
    outcome: Option<&'a StatementOutcome<'a>>,
    started: Option<&'a SessionStarted>,
    ended: Option<&'a SessionEnded>,
    analysis: Option<Arc<SqlAnalysis>>,
}

/// Function that makes the text of a cell, if the record has it.
type RecordCell = fn(&RecordRow<'_>) -> Option<String>;

/// Columns of a record, with the functions that make a cell; times are in UTC.
const COLUMNS: [(&str, RecordCell); 23] = [
    ("seq", |row| Some(row.record.seq.to_string())),
    ("time", |row| Some(row.record.time.to_string())),
    ("event", |row| Some(row.record.event.name().as_str().to_owned())),
    ("identity", |row| Some(row.record.event.identity()?.to_string())),
    ("target", |row| Some(row.record.event.target()?.to_string())),
    ("grant", |row| Some(row.record.event.grant()?.to_string())),
    ("session", |row| Some(row.record.event.session()?.to_string())),
    ("statement", |row| {
        number(
            row.statement.map(|statement| statement.statement),
            row.outcome.map(|outcome| outcome.statement),
        )
    }),
    ("kind", |row| name(&row.statement?.kind)),
    ("classes", |row| {
        let classes = row.analysis.as_ref()?.classes.iter();
        Some(visible(&joined(classes.map(|class| class.as_str()), " ")))
    }),
    ("tables", |row| Some(visible(&joined(&row.analysis.as_ref()?.tables, " ")))),
    ("result", |row| name(&row.outcome?.result)),
    ("sqlstate", |row| Some(visible(row.record.event.sqlstate()?))),
    ("rows", |row| {
        number(row.outcome.map(|outcome| outcome.rows), row.ended.map(|ended| ended.rows))
    }),
    ("duration_us", |row| {
        number(
            row.outcome.map(|outcome| outcome.duration_us),
            row.ended.map(|ended| ended.duration_us),
        )
    }),
    ("text", |row| {
        match row.statement.and_then(|statement| statement.sql.as_ref()) {
            Some(sql) => Some(visible(&sql.text.0)),
            None => Some(render::columns(row.record, &TimeZone::UTC).text),
        }
    }),
    ("not_read", |row| name(&row.analysis.as_ref()?.unparsed?)),
    ("length", |row| number(row.statement?.sql.as_ref()?.length, None)),
    ("hmac_sha256", |row| {
        Some(visible(row.statement?.sql.as_ref()?.hmac_sha256.as_ref()?))
    }),
    ("profile", |row| Some(row.record.event.profile()?.to_string())),
    ("masked_tables", |row| Some(row.started?.masked_tables.to_string())),
    ("rows_sent", |row| {
        number(
            row.outcome.map(|outcome| outcome.rows_sent),
            row.ended.map(|ended| ended.rows_sent),
        )
    }),
    ("portal_rows_sent", |row| number(row.outcome?.portal_rows_sent, None)),
];

/// Returns the names of a record's columns.
pub(super) fn header() -> [&'static str; 23] {
    COLUMNS.map(|(name, _)| name)
}

/// Returns a record's cells.
pub(super) fn cells(record: &LogRecord, readings: &mut AnalysisCache) -> Vec<String> {
    let mut row = RecordRow {
        record,
        statement: None,
        outcome: None,
        started: None,
        ended: None,
        analysis: None,
    };
    match &record.event {
        Event::Statement(statement) => {
            row.analysis = Some(readings.of_statement(statement));
            row.statement = Some(statement);
        }
        Event::Outcome(outcome) => row.outcome = Some(outcome),
        Event::SessionStarted(started) => row.started = Some(started.as_ref()),
        Event::SessionEnded(ended) => row.ended = Some(ended.as_ref()),
        _ => {}
    }
    COLUMNS.iter().map(|(_, cell)| cell(&row).unwrap_or_default()).collect()
}

/// Returns the number that there is.
fn number(one: Option<u64>, other: Option<u64>) -> Option<String> {
    one.or(other).map(|number| number.to_string())
}

/// Returns the name that the log uses for a value.
fn name(value: &impl serde::Serialize) -> Option<String> {
    Some(serde_json::to_value(value).ok()?.as_str()?.to_owned())
}

/// Formats cells as a line of CSV, without its end.
pub(super) fn csv_line<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(cells.into_iter().map(|cell| harmless(cell.as_ref()).into_owned()))?;
    let line = String::from_utf8(writer.into_inner()?)?;
    Ok(line.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless() {
        assert_eq!(csv_line(["a,b", "=1", "say \"x\""]).unwrap(), "\"a,b\",'=1,\"say \"\"x\"\"\"");
    }
}
