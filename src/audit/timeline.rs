//! Timeline of a session from its beginning to its end: request, decisions, statements, and the ending.
//!
//! This module finds no records (the reader does) and leaves none out.
//!
//! INVARIANT: a statement without an outcome is shown as such, never as one that ran; numbers are those of the records, and if
//! the session's own end record counts differently, both are shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{Event, SessionEnded, StatementOutcome, StatementResult, Who};
use super::filter::Filter;
use super::record::{EventName, LogRecord};
use super::render::{self, RecordColumns};
use super::rollbacks::Rollbacks;
use super::sql_analysis::{AnalysisCache, CommandClass, ParseFailure, SqlAnalysis, TableName};
use crate::base::visible;
use crate::model::ids::GrantId;

/// Text for a statement whose result is unknown.
pub const OUTCOME_UNKNOWN: &str = "outcome unknown";

/// Timeline of a session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionTimeline {
    /// Session with its identity and grant; `None` if there is no record of the session.
    #[serde(flatten)]
    pub who: Option<Who>,
    /// Records of its request and grant, in order: request, decisions, changes of the grant.
    pub background: Vec<LogRecord>,
    /// Records of the session without statements and outcomes: start, cancel requests, end.
    pub events: Vec<LogRecord>,
    /// Statements of the session, in order.
    pub statements: Vec<TimelineStatement>,
    /// Totals of the statements.
    pub totals: StatementTotals,
}

/// Statement with its outcome.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TimelineStatement {
    /// Intent record; absent if only the outcome is among the records read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<LogRecord>,
    /// Outcome record; `None`: unknown.
    pub outcome: Option<LogRecord>,
    /// SQLSTATE with which its transaction failed after it ran, so that it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// Analysis of its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<Arc<SqlAnalysis>>,
}

/// Numbers of statements by their outcomes. Texts that were only prepared do not count: they were not executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeCounts {
    /// Number of statements executed, or sent for execution.
    pub statements: u64,
    /// Number of statements that were not executed, in addition to those: see [`StatementResult::Skipped`].
    pub skipped: u64,
    /// Number of statements that failed.
    pub failed: u64,
    /// Number of statements that ran and were rolled back because their transaction failed later.
    pub rolled_back: u64,
    /// Number of statements without a known outcome.
    pub outcome_unknown: u64,
    /// Number of statements whose text could not be parsed, or does not show what it runs.
    pub not_read: u64,
}

impl OutcomeCounts {
    /// Counts a statement with its result; `read`: the analysis of its text is complete. Returns false if it was skipped.
    pub(super) fn add(&mut self, result: StatementResult, rolled_back: bool, read: bool) -> bool {
        match result {
            StatementResult::Skipped => {
                self.skipped += 1;
                return false;
            }
            StatementResult::Failed => self.failed += 1,
            StatementResult::Unknown => self.outcome_unknown += 1,
            StatementResult::Completed | StatementResult::Suspended => {}
        }
        self.statements += 1;
        self.rolled_back += u64::from(rolled_back);
        self.not_read += u64::from(!read);
        true
    }
}

/// Totals of a session's statements; statements that were skipped count as such only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatementTotals {
    /// Numbers by outcome.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
    /// Number of rows returned or changed.
    pub rows: u64,
    /// Number of rows sent to the client.
    pub rows_sent: u64,
    /// Number of bytes of the responses.
    pub bytes: u64,
    /// Tables that the statements name.
    pub tables: Vec<TableName>,
    /// Classes of the commands.
    pub classes: Vec<CommandClass>,
}

impl SessionTimeline {
    /// Returns the filters that find the background of a session in the log: the records of its grant, and of its request.
    #[must_use]
    pub fn background_of_grant(grant: &GrantId) -> [Filter; 3] {
        let changes = |event| Filter {
            event: Some(event),
            grant: Some(grant.clone()),
            ..Filter::default()
        };
        [
            changes(EventName::GrantChanged),
            changes(EventName::RequestChanged),
            about(EventName::DecisionMade, grant.as_str()),
        ]
    }

    /// Returns the filters that find the background of the request in these records of a grant.
    #[must_use]
    pub fn background_of_request(of_grant: &[LogRecord]) -> Vec<Filter> {
        let request = of_grant.iter().find_map(|record| match &record.event {
            Event::RequestChanged(changed) => Some(changed.request.as_str()),
            _ => None,
        });
        let both = |request| [EventName::RequestChanged, EventName::DecisionMade].map(|event| about(event, request));
        request.map(both).into_iter().flatten().collect()
    }

    /// Combines records: those of the session, and those of its grant and request. Each may come in any order, and twice.
    #[must_use]
    pub fn of(session: Vec<LogRecord>, background: Vec<LogRecord>) -> Self {
        let mut readings = AnalysisCache::default();
        let who = session.iter().find_map(|record| record.event.who().cloned());
        let (mut events, mut statements) = (Vec::new(), BTreeMap::<u64, TimelineStatement>::new());
        let mut undone = Rollbacks::default();
        for record in in_order(session) {
            undone.add(&record);
            let number = match &record.event {
                Event::Statement(statement) => statement.statement,
                Event::Outcome(outcome) => outcome.statement,
                _ => {
                    events.push(record);
                    continue;
                }
            };
            let told = statements.entry(number).or_default();
            if let Event::Statement(statement) = &record.event {
                told.reading = Some(readings.of_statement(statement));
                told.statement = Some(record);
            } else {
                told.outcome = Some(record);
            }
        }
        let mut statements: Vec<_> = statements.into_values().collect();
        for told in &mut statements {
            told.rolled_back = told.undone_by(&undone);
            told.compare();
        }
        Self {
            who,
            background: in_order(background)
                .into_iter()
                .filter(|record| record.event.session().is_none())
                .collect(),
            events,
            totals: StatementTotals::of(&statements),
            statements,
        }
    }

    /// Returns the timeline as lines for people, in the order of time, with times in this zone; safe for a terminal.
    #[must_use]
    pub fn lines(&self, zone: &TimeZone) -> Vec<String> {
        let others = self.background.iter().chain(&self.events);
        let mut told: Vec<(u64, String)> = others.map(|record| (record.seq, line(record, zone))).collect();
        told.extend(self.statements.iter().filter_map(|told| told.line(zone)));
        told.sort_by_key(|(seq, _)| *seq);
        let mut lines = vec![self.heading(), String::new()];
        lines.extend(told.into_iter().map(|(_, line)| line));
        lines.push(String::new());
        lines.extend(self.totals.lines());
        let ended = self.events.iter().find_map(|record| match &record.event {
            Event::SessionEnded(ended) => Some(ended.as_ref()),
            _ => None,
        });
        lines.push(ended.map_or_else(
            || "It has not ended, or the gate died before it could say so.".to_owned(),
            ending,
        ));
        lines
    }

    /// Returns the timeline as one line of JSON that is safe to display.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(visible::json(&serde_json::to_string(self)?).into_owned())
    }

    fn heading(&self) -> String {
        let Some(who) = &self.who else {
            return "There is no record of this session.".to_owned();
        };
        let started = self
            .events
            .iter()
            .any(|record| matches!(record.event, Event::SessionStarted(_)));
        let mut heading = format!(
            "Session {} of {} on {}, under grant {}",
            who.session,
            who.identity,
            render::place(who),
            who.grant
        );
        if !started {
            heading.push_str(" (its start is not in what was read)");
        }
        heading
    }
}

/// Returns a filter for the events of a kind that mention an id.
fn about(event: EventName, id: &str) -> Filter {
    Filter {
        event: Some(event),
        text: Some(id.to_owned()),
        ..Filter::default()
    }
}

fn in_order(mut records: Vec<LogRecord>) -> Vec<LogRecord> {
    records.sort_by_key(|record| record.seq);
    records.dedup_by_key(|record| record.seq);
    records
}

fn line(record: &LogRecord, zone: &TimeZone) -> String {
    let RecordColumns { time, event, text, .. } = render::columns(record, zone);
    format!("{time}  {event:<16}  {text}")
}

fn ending(ended: &SessionEnded) -> String {
    let rows = format!("{} statements, {} rows", ended.statements, ended.rows);
    let late = ended
        .overshoot_us
        .map(|late| format!(", confirmed gone {} after its end was due", render::span(late)));
    format!(
        "It ended after {}: {} ({}), transaction {}; the gate counted {rows}{}.",
        render::span(ended.duration_us),
        visible::start(ended.ending.as_str(), 100),
        visible::start(&ended.sqlstate, 5),
        visible::start(ended.fate.as_str(), 100),
        late.unwrap_or_default()
    )
}

impl TimelineStatement {
    /// Returns the sequence number by which it is sorted, and its line.
    fn line(&self, zone: &TimeZone) -> Option<(u64, String)> {
        let Some(record) = &self.statement else {
            let record = self.outcome.as_ref()?;
            return Some((record.seq, line(record, zone)));
        };
        let mut line = line(record, zone);
        // A text that was prepared has an outcome only if it failed.
        if self.outcome.is_some() || self.is_executed() {
            let outcome = self.outcome.as_ref().map(|record| render::columns(record, zone).text);
            let _ = write!(line, "\n{:47}-> {}", "", outcome.as_deref().unwrap_or(OUTCOME_UNKNOWN));
        }
        if self
            .reading
            .as_ref()
            .is_some_and(|reading| reading.unparsed == Some(ParseFailure::Contradicted))
        {
            line.push_str("; the server ran commands that were not read in the text");
        }
        if let Some(sqlstate) = &self.rolled_back {
            let _ = write!(line, "; then rolled back ({})", visible::start(sqlstate, 5));
        }
        Some((record.seq, line))
    }

    /// Compares the parsed commands with those that the server ran.
    fn compare(&mut self) {
        if let (Some(reading), Some(outcome)) = (&self.reading, self.known_outcome())
            && let Cow::Owned(compared) = reading.with_outcome(outcome)
        {
            self.reading = Some(Arc::new(compared));
        }
    }

    fn known_outcome(&self) -> Option<&StatementOutcome<'static>> {
        match &self.outcome.as_ref()?.event {
            Event::Outcome(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn undone_by(&self, undone: &Rollbacks) -> Option<String> {
        let outcome = self.known_outcome().filter(|outcome| outcome.result.ran())?;
        undone.of(&outcome.who.session, outcome.statement).map(str::to_owned)
    }

    fn is_executed(&self) -> bool {
        !matches!(&self.statement, Some(LogRecord { event: Event::Statement(statement), .. }) if !statement.kind.executes())
    }
}

impl StatementTotals {
    fn of(statements: &[TimelineStatement]) -> Self {
        let mut totals = Self::default();
        for told in statements.iter().filter(|told| told.is_executed()) {
            let outcome = told.known_outcome();
            let reading = told.reading.as_deref();
            let result = outcome.map_or(StatementResult::Unknown, StatementOutcome::execution);
            let read = reading.is_some_and(SqlAnalysis::is_complete);
            if !totals.counts.add(result, told.rolled_back.is_some(), read) {
                continue;
            }
            if let Some(outcome) = outcome {
                totals.rows += outcome.rows;
                totals.rows_sent += outcome.rows_sent;
                totals.bytes += outcome.bytes;
            }
            if let Some(reading) = reading {
                add_new(&mut totals.tables, &reading.tables);
                add_new(&mut totals.classes, &reading.classes);
            }
        }
        totals
    }

    fn lines(&self) -> Vec<String> {
        let counts = self.counts;
        let mut lines = vec![format!(
            "{} statements: {} failed, {} with {OUTCOME_UNKNOWN}; {} rows, {} bytes",
            counts.statements, counts.failed, counts.outcome_unknown, self.rows, self.bytes
        )];
        if counts.rolled_back > 0 {
            lines.push(format!(
                "{} of them ran and were rolled back, for their transaction failed later",
                counts.rolled_back
            ));
        }
        if counts.skipped > 0 {
            lines.push(format!("{} more were skipped: they were not executed", counts.skipped));
        }
        for (what, names) in [("What", listed(&self.classes)), ("Tables", listed(&self.tables))] {
            if !names.is_empty() {
                lines.push(format!("{what}: {}", visible::start(&names, 2000)));
            }
        }
        if counts.not_read > 0 {
            lines.push(format!(
                "{} statements have a text that could not be read or does not show what it runs: there may be more tables",
                counts.not_read
            ));
        }
        lines
    }
}

fn listed<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn add_new<T: PartialEq + Clone>(all: &mut Vec<T>, new: &[T]) {
    for one in new {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests;
