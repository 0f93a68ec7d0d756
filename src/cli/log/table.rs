//! Records as rows of a spreadsheet.
//!
//! INVARIANT: no cell begins like a formula, whatever SQL it contains, since a spreadsheet would run it (CWE-1236).

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::audit::event::Event;
use crate::audit::evidence::harmless;
use crate::audit::sql_analysis::{AnalysisCache, SqlAnalysis};
use crate::audit::{LogRecord, render};
use crate::cli::render::visible;

/// Columns of a record.
pub(super) const RECORD_HEADER: [&str; 23] = [
    "seq",
    "time",
    "event",
    "identity",
    "target",
    "grant",
    "session",
    "statement",
    "kind",
    "classes",
    "tables",
    "result",
    "sqlstate",
    "rows",
    "duration_us",
    "text",
    "not_read",
    "length",
    "hmac_sha256",
    "profile",
    "masked_tables",
    "rows_sent",
    "portal_rows_sent",
];

/// Returns a record's cells; times are in UTC.
#[expect(clippy::too_many_lines, reason = "one line for each column")]
pub(super) fn cells(record: &LogRecord, readings: &mut AnalysisCache) -> [String; 23] {
    let event = &record.event;
    let text = |thing: Option<String>| thing.unwrap_or_default();
    let (mut number, mut kind, mut result, mut rows, mut duration) = <(String, String, String, String, String)>::default();
    let (mut length, mut hash) = <(String, String)>::default();
    let (mut masked, mut sent, mut portal_sent) = <(String, String, String)>::default();
    let mut reading: Option<Arc<SqlAnalysis>> = None;
    let mut words = render::columns(record, &TimeZone::UTC).text;
    match event {
        Event::Statement(statement) => {
            number = statement.statement.to_string();
            kind = name(&statement.kind);
            reading = Some(readings.of_statement(statement));
            if let Some(sql) = &statement.sql {
                words = visible(&sql.text.0);
                length = sql.length.map(|length| length.to_string()).unwrap_or_default();
                hash = sql.hmac_sha256.clone().unwrap_or_default().into_owned();
            }
        }
        Event::Outcome(outcome) => {
            number = outcome.statement.to_string();
            result = name(&outcome.result);
            rows = outcome.rows.to_string();
            sent = outcome.rows_sent.to_string();
            portal_sent = text(outcome.portal_rows_sent.map(|rows| rows.to_string()));
            duration = outcome.duration_us.to_string();
        }
        Event::SessionStarted(started) => masked = started.masked_tables.to_string(),
        Event::SessionEnded(ended) => {
            sent = ended.rows_sent.to_string();
            rows = ended.rows.to_string();
            duration = ended.duration_us.to_string();
        }
        _ => {}
    }
    let of_reading = |list: fn(&SqlAnalysis) -> Vec<String>| {
        reading
            .as_ref()
            .map(|reading| visible(&list(reading).join(" ")))
            .unwrap_or_default()
    };
    [
        record.seq.to_string(),
        record.time.to_string(),
        event.name().as_str().to_owned(),
        text(event.identity().map(ToString::to_string)),
        text(event.target().map(ToString::to_string)),
        text(event.grant().map(ToString::to_string)),
        text(event.session().map(ToString::to_string)),
        number,
        kind,
        of_reading(|reading| reading.classes.iter().map(|class| class.as_str().to_owned()).collect()),
        of_reading(|reading| reading.tables.iter().map(ToString::to_string).collect()),
        result,
        visible(event.sqlstate().unwrap_or_default()),
        rows,
        duration,
        words,
        reading
            .as_ref()
            .and_then(|reading| reading.unparsed)
            .map(|why| name(&why))
            .unwrap_or_default(),
        length,
        visible(&hash),
        text(event.profile().map(ToString::to_string)),
        masked,
        sent,
        portal_sent,
    ]
}

/// Returns the name that the log uses for a value.
fn name(value: &impl serde::Serialize) -> String {
    let name = serde_json::to_value(value).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
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
