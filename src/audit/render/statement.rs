//! Short descriptions of statements and their outcomes.

use std::fmt::Write as _;

use super::{MIN_SQL_CHARS, begin, span};
use crate::audit::event::{
    ParameterValue, SqlText, Statement, StatementKind, StatementOutcome, StatementResult, TransactionStatus,
};
use crate::audit::sql_analysis::AnalysisCache;
use crate::audit::timeline::OUTCOME_UNKNOWN;

pub(super) fn statement_text(statement: &Statement<'_>) -> String {
    let mut text = format!("#{} ", statement.statement);
    match (statement.kind, statement.function) {
        (StatementKind::Parse, _) => text.push_str("prepare "),
        (kind @ (StatementKind::Bind | StatementKind::Describe | StatementKind::Close), _) => text.extend([kind.as_str(), " "]),
        (StatementKind::FunctionCall, function) => {
            let _ = write!(text, "function {} ", function.unwrap_or(0));
        }
        _ => {}
    }
    match &statement.sql {
        Some(sql) => {
            text.push_str(&not_shown(statement, sql));
            text.extend([begin(&sql.text.0), cut_note(sql).as_str()]);
        }
        None if statement.prepared.is_none() => {}
        None => {
            let _ = write!(
                text,
                "(prepared elsewhere as {:?})",
                statement.prepared.as_ref().map_or("", |name| name.0.as_ref())
            );
        }
    }
    for (is_so, note) in [
        (statement.text_uncertain, " (text uncertain)"),
        (statement.continued, " (continued)"),
        (statement.opaque, " (opaque)"),
    ] {
        text.push_str(if is_so { note } else { "" });
    }
    for (number, parameter) in (1..).zip(statement.parameters.iter().take(20)) {
        let _ = match parameter {
            ParameterValue::Null => write!(text, " ${number}=NULL"),
            ParameterValue::Redacted => write!(text, " ${number}=***"),
            ParameterValue::Blanked { length, .. } => write!(text, " ${number}=*** ({length} bytes)"),
            ParameterValue::Hashed(hash) => write!(text, " ${number}=#{}", begin(hash)),
            ParameterValue::Text(value) => write!(text, " ${number}='{}'", begin(&value.0)),
            ParameterValue::Long { start, length, .. } => write!(text, " ${number}='{}…' ({length} bytes)", begin(&start.0)),
            ParameterValue::Binary { hex, .. } => write!(text, " ${number}=\\x{}", begin(hex)),
        };
    }
    let listed = statement.parameters.len();
    let count = statement.parameter_count.map_or(listed, |count| count as usize);
    if count > listed.min(20) {
        let _ = write!(text, " and {} more", count - listed.min(20));
    }
    text
}

/// Returns a summary to put before a text that is too long to be shown: its end may be the relevant part.
fn not_shown(statement: &Statement<'_>, sql: &SqlText<'_>) -> String {
    if sql.text.0.chars().nth(MIN_SQL_CHARS).is_none() && !sql.is_cut() {
        return String::new();
    }
    let reading = AnalysisCache::default().of_statement(statement);
    let mut classes: Vec<&str> = reading.classes.iter().map(|class| class.as_str()).collect();
    classes.extend((!reading.is_read()).then_some("not read"));
    let bytes = sql.length.unwrap_or(sql.text.0.len() as u64);
    format!("({bytes} bytes: {}) ", classes.join(", "))
}

pub(super) fn outcome_text(outcome: &StatementOutcome<'_>) -> String {
    let result = match outcome.result {
        StatementResult::Unknown => OUTCOME_UNKNOWN,
        known => known.as_str(),
    };
    let mut text = format!("#{} {result}", outcome.statement);
    if let Some(code) = &outcome.sqlstate {
        text.extend([" ", code.0.as_ref()]);
    }
    if let Some(rule) = &outcome.rule {
        text.extend([", refused by rule ", begin(&rule.0)]);
    }
    for tag in outcome.tags.iter().take(20) {
        text.extend([" ", begin(&tag.0)]);
    }
    let portal = outcome
        .portal_rows_sent
        .map(|rows| format!(" ({rows} of its portal)"))
        .unwrap_or_default();
    let _ = write!(
        text,
        ", {} rows{portal}, {} bytes in {}",
        outcome.rows,
        outcome.bytes,
        span(outcome.duration_us)
    );
    if let Some(status @ (TransactionStatus::Open | TransactionStatus::Failed)) = outcome.transaction {
        let _ = write!(text, ", transaction {status}");
    }
    text
}

fn cut_note(sql: &SqlText<'_>) -> String {
    let bytes = sql.length.map(|length| format!("({length} bytes)")).unwrap_or_default();
    match (sql.is_cut(), sql.unclear) {
        (true, _) => format!("… {bytes}"),
        (false, true) => format!(" (literals unclear) {bytes}"),
        (false, false) => String::new(),
    }
}
