//! Filter of the log's records: the one place that says what each condition means, for a record and for a segment's summary.
//!
//! It reads no files and has no memory. [`RecordJoiner`] has, for conditions that two records meet together; [`LinePrefilter`] says
//! what must stand in a line, before it is parsed, for a condition to be met.
//!
//! The law: conditions are joined by "and". Those on a statement (table, class, kind, text) and those on its outcome (SQLSTATE,
//! duration, rows) are met by the two together, those on a session (group, run) by its first record for all of them, those on a
//! grant (profile, break-glass) by the record that made it, or its request's, for all that happened under it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::IntoParams;

use super::event::{Event, ParameterValue, RowsChanged, SessionStarted, Statement, StatementKind, StatementOutcome};
use super::record::{EventName, LogRecord};
use super::sql_analysis::{AnalysisCache, CommandClass, TableName, words};
use super::summary::{Field, SegmentSummary};
use super::text::written;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};

mod joiner;
mod prefilter;

pub(super) use joiner::RecordJoiner;
pub(super) use prefilter::LinePrefilter;

/// Records that say with which profile, or how, a grant was made.
pub(super) const ORIGIN_EVENTS: [EventName; 3] = [EventName::GrantChanged, EventName::RequestChanged, EventName::SessionStarted];

/// Conditions on records, joined by "and". One that is not set holds for all.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Identity of the record.
    #[param(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// Group of the session's identity at the time of the grant.
    #[param(value_type = Option<String>)]
    pub group: Option<GroupName>,
    /// Grant of the record.
    #[param(value_type = Option<String>)]
    pub grant: Option<GrantId>,
    /// Session of the record.
    #[param(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// Run of the session: as the client said (`tidegate.run`), or the pipeline's token.
    pub run: Option<String>,
    /// On this target.
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    /// Profile of the grant or request.
    #[param(value_type = Option<String>)]
    pub profile: Option<ProfileName>,
    /// Break-glass only: grants that were opened without an approval, and their requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// After the record of this number.
    pub after: Option<u64>,
    /// Before the record of this number.
    pub before: Option<u64>,
    /// Earliest time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Text in the SQL, a parameter or another free text, without regard to case.
    pub text: Option<String>,
    /// Statements that name this table (`name` in any schema, or `schema.name`), or cannot be read and have the word.
    #[param(value_type = Option<String>)]
    pub table: Option<TableName>,
    /// Statements with a command of this class, as far as their text can be read or the server says so.
    #[param(value_type = Option<String>)]
    pub class: Option<CommandClass>,
    /// Executed statements that could not be read: only a part of their text is on record, it is not SQL as the gate knows it, or the
    /// server ran commands that are not in it. Each may be about any table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// Statements that came like this.
    #[param(value_type = Option<String>)]
    pub kind: Option<StatementKind>,
    /// Statements, refusals and endings with this SQLSTATE, or one that begins so (`42` is the whole class).
    pub sqlstate: Option<String>,
    /// Statements that took at least so long. Microseconds.
    pub min_duration_us: Option<u64>,
    /// Statements that took at most so long. Microseconds.
    pub max_duration_us: Option<u64>,
    /// Statements that returned or changed at least so many rows, of a portal all its Executes together.
    pub min_rows: Option<u64>,
    /// Statements that returned or changed at most so many rows, of a portal all its Executes together.
    pub max_rows: Option<u64>,
    /// Changed rows of this table: `name` in any schema, or `schema.name`.
    #[param(value_type = Option<String>)]
    pub changed: Option<TableName>,
    /// Changed rows with this value in a column of their key, before or after the change.
    pub key: Option<String>,
    /// Kind of the statement.
    #[param(value_type = Option<String>)]
    pub event: Option<EventName>,
}

impl Filter {
    /// Returns whether a record, looked at alone, meets all conditions. [`RecordJoiner`] also knows what belongs together.
    pub(super) fn matches(&self, record: &LogRecord, readings: &mut AnalysisCache) -> bool {
        self.wants_event(record)
            && self.in_time(record)
            && self.has_names(record)
            && self.has_result(record)
            && self.has_content(record, None, readings)
    }

    /// Returns the filter for statements that could not be analysed within the scope of this one, independent of their content.
    #[must_use]
    pub fn of_unread(&self) -> Self {
        Self {
            table: None,
            class: None,
            text: None,
            unread: true,
            ..self.clone()
        }
    }

    /// Returns true if sessions are chosen by their first record only.
    pub(super) fn by_session(&self) -> bool {
        self.group.is_some() || self.run.is_some()
    }

    /// Returns true if a session's first record meets the conditions on sessions.
    pub(super) fn wants_session(&self, started: &SessionStarted) -> bool {
        let in_group = |wanted: &GroupName| started.groups.iter().any(|group| group == wanted.as_str());
        self.group.as_ref().is_none_or(in_group) && (self.run.is_none() || self.run == started.run)
    }

    /// The first records of the sessions in which there may be something that is wanted.
    pub(super) fn of_sessions(&self) -> Self {
        Self {
            group: self.group.clone(),
            session: self.session.clone(),
            run: self.run.clone(),
            until: self.until,
            ..self.of_origins(EventName::SessionStarted)
        }
    }

    /// The records of this kind that say with which profile, or how, grants came to be under which there may be something that is
    /// wanted.
    pub(super) fn of_origins(&self, event: EventName) -> Self {
        Self {
            identity: self.identity.clone(),
            grant: self.grant.clone(),
            target: self.target.clone(),
            event: Some(event),
            ..Self::default()
        }
    }

    /// Returns true if records of a grant are chosen by the records of its origin only.
    pub(super) fn by_grant(&self) -> bool {
        self.profile.is_some() || self.break_glass
    }

    /// Returns the grant that this record shows to be one that is wanted.
    pub(super) fn wanted_grant<'e>(&self, event: &'e Event<'_>) -> Option<&'e GrantId> {
        match event {
            Event::GrantChanged(change) => Some(&change.grant).filter(|_| !self.break_glass && self.has_profile(event)),
            Event::SessionStarted(started) => Some(&started.who.grant).filter(|_| !self.break_glass && self.has_profile(event)),
            Event::RequestChanged(request) => request.grant.as_ref().filter(|_| self.has_origin(event)),
            _ => None,
        }
    }

    /// Returns true if the record itself meets the conditions on profile and break-glass.
    pub(super) fn has_origin(&self, event: &Event<'_>) -> bool {
        let broken = matches!(event, Event::RequestChanged(request) if request.break_glass);
        (broken || !self.break_glass) && self.has_profile(event)
    }

    fn has_profile(&self, event: &Event<'_>) -> bool {
        fits(self.profile.as_ref(), event.profile())
    }

    /// Returns true if each record is chosen by its own content alone.
    #[must_use]
    pub fn looks_at_each_alone(&self) -> bool {
        !self.asks_for_content() && !self.asks_for_result() && !self.by_session() && !self.by_grant()
    }

    /// Returns true if a condition is set that only a statement can meet (or, by its text, an event that is neither statement nor
    /// outcome).
    pub(super) fn asks_for_content(&self) -> bool {
        self.text.is_some() || self.asks_for_statement()
    }

    /// Returns true if a condition is set that a statement can meet only by its outcome.
    #[must_use]
    pub fn asks_for_result(&self) -> bool {
        self.sqlstate.is_some() || self.asks_for_measures()
    }

    /// Returns true if a condition is set that only a statement can meet.
    fn asks_for_statement(&self) -> bool {
        self.kind.is_some() || self.asks_for_commands()
    }

    /// Returns true if a condition is set that a statement may meet by its outcome's command tags instead of its text.
    fn asks_for_commands(&self) -> bool {
        self.class.is_some() || self.table.is_some() || self.unread
    }

    fn asks_for_measures(&self) -> bool {
        let limits = [self.min_duration_us, self.max_duration_us, self.min_rows, self.max_rows];
        limits.iter().any(Option::is_some)
    }

    fn wants_event(&self, record: &LogRecord) -> bool {
        self.event.is_none_or(|wanted| wanted == record.event.name())
    }

    /// Returns true if a record of this number may be wanted.
    fn has_number(&self, seq: u64) -> bool {
        self.after.is_none_or(|after| seq > after) && self.before.is_none_or(|before| seq < before)
    }

    fn in_time(&self, record: &LogRecord) -> bool {
        self.has_number(record.seq)
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
    }

    /// Returns the names and ids that every record has to have, the rarest first.
    fn names(&self) -> impl Iterator<Item = (Field, &str)> {
        let names = [
            (Field::Session, self.session.as_ref().map(SessionId::as_str)),
            (Field::Grant, self.grant.as_ref().map(GrantId::as_str)),
            (Field::Identity, self.identity.as_ref().map(IdentityName::as_str)),
            (Field::Target, self.target.as_ref().map(TargetName::as_str)),
        ];
        names.into_iter().filter_map(|(field, name)| Some((field, name?)))
    }

    fn has_names(&self, record: &LogRecord) -> bool {
        self.names().all(|(field, name)| field.of(&record.event) == Some(name)) && self.has_change(&record.event)
    }

    /// Returns true if a condition is set that only changed rows can meet.
    fn asks_for_change(&self) -> bool {
        self.changed.is_some() || self.key.is_some()
    }

    fn has_change(&self, event: &Event<'_>) -> bool {
        if !self.asks_for_change() {
            return true;
        }
        let Event::RowsChanged(event) = event else { return false };
        let is_table = |wanted: &TableName| {
            wanted.name == event.table && wanted.schema.as_ref().is_none_or(|schema| *schema == event.schema)
        };
        self.changed.as_ref().is_none_or(is_table)
            && self
                .key
                .as_ref()
                .is_none_or(|key| event.changes.iter().any(|change| change.has_key(key)))
    }

    /// The conditions that an outcome cannot meet by itself: of how its statement came and what was in it. `outcome` is the
    /// statement's, if it is known.
    fn has_content(&self, record: &LogRecord, outcome: Option<&StatementOutcome<'_>>, readings: &mut AnalysisCache) -> bool {
        let statement = match &record.event {
            Event::Statement(statement) => Some(statement),
            _ => None,
        };
        self.kind
            .is_none_or(|kind| statement.is_some_and(|statement| statement.came_as(kind)))
            && self.text.as_ref().is_none_or(|text| contains_text(&record.event, text))
            && (!self.asks_for_commands() || statement.is_some_and(|statement| self.has_reading(statement, outcome, readings)))
    }

    fn has_reading(
        &self,
        statement: &Statement<'_>,
        outcome: Option<&StatementOutcome<'_>>,
        readings: &mut AnalysisCache,
    ) -> bool {
        let reading = readings.of_statement(statement);
        let reading = outcome.map_or(Cow::Borrowed(&*reading), |outcome| reading.with_outcome(outcome));
        let text = statement.sql.as_ref().map_or("", |sql| sql.text.0.as_ref());
        self.class.is_none_or(|class| reading.classes.contains(&class))
            && (!self.unread || (statement.kind.executes() && !reading.is_read()))
            && self.table.as_ref().is_none_or(|table| reading.may_name(table, text))
    }

    fn has_result(&self, record: &LogRecord) -> bool {
        (self.sqlstate.is_none() || record.event.sqlstate().is_some_and(|code| self.wants_sqlstate(code)))
            && match &record.event {
                Event::Outcome(outcome) => self.has_measures(Some(outcome.duration_us), Some(outcome.rows_in_all())),
                _ => !self.asks_for_measures(),
            }
    }

    fn wants_sqlstate(&self, code: &str) -> bool {
        let is_beginning = |wanted: &String| code.get(..wanted.len()).is_some_and(|code| code.eq_ignore_ascii_case(wanted));
        self.sqlstate.as_ref().is_none_or(is_beginning)
    }

    /// Returns true if an outcome of this duration and so many rows, as far as they are known, is within the limits.
    fn has_measures(&self, duration_us: Option<u64>, rows: Option<u64>) -> bool {
        let within = |found: Option<u64>, least: Option<u64>, most: Option<u64>| {
            found.is_none_or(|found| least.is_none_or(|least| found >= least) && most.is_none_or(|most| found <= most))
        };
        within(duration_us, self.min_duration_us, self.max_duration_us) && within(rows, self.min_rows, self.max_rows)
    }
}

/// Summaries of a segment and of those before and behind it, as far as there are any that can be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours<'s> {
    pub(super) before: Option<&'s SegmentSummary>,
    pub(super) this: &'s SegmentSummary,
    pub(super) behind: Option<&'s SegmentSummary>,
}

/// Exclusion of whole segments, by what their summaries say.
///
/// The law: a segment is excluded only if no record of it is wanted, also for what stands in another segment. A statement and its
/// outcome may stand in two. Where the summaries prove that these are neighbours, the two are looked at together; where they do not,
/// only conditions that each record meets by itself exclude the segment.
impl Filter {
    /// Returns whether a record that is wanted may stand in this segment.
    pub(super) fn may_be_in(&self, Neighbours { before, this, behind }: Neighbours<'_>) -> bool {
        // Numbers only grow.
        if self
            .before
            .is_some_and(|end| before.is_some_and(|before| before.reaches(end.saturating_sub(1))))
        {
            return false;
        }
        let joins = self.asks_for_content() || self.asks_for_result();
        let has_event = |event: EventName| this.may_have(Field::Event, |found| found == event.as_str());
        // A run stands in the first record of a session alone.
        let begins_run = || {
            self.run
                .as_ref()
                .is_none_or(|run| this.may_have(Field::Run, |found| found == run))
        };
        // Where a result is asked for, the time of the outcome counts, which may stand in another segment.
        let by_itself = (self.asks_for_result() || self.is_before_until(this) && self.is_since(this))
            && self.names().all(|(field, name)| this.may_have(field, |found| found == name))
            && (joins || self.event.is_none_or(has_event))
            && (self.event != Some(EventName::SessionStarted) || begins_run())
            && (!self.asks_for_change() || has_event(EventName::RowsChanged))
            && self
                .changed
                .as_ref()
                .is_none_or(|table| words(&table.name).all(|word| this.may_have_word(word)));
        if !by_itself || !joins {
            return by_itself;
        }
        let behind = behind.filter(|behind| this.is_answered_by(behind));
        let before = before.filter(|before| before.is_answered_by(this));
        self.may_join(this, this)
            || (this.may_have(Field::Unanswered, |_| true) && behind.is_none_or(|behind| self.may_join(this, behind)))
            || (this.may_have(Field::Late, |_| true) && before.is_none_or(|before| self.may_join(before, this)))
    }

    /// Returns whether a statement of one segment and its outcome in another may be wanted. Where both are the same segment, also
    /// whether an event of another kind may.
    fn may_join(&self, statements: &SegmentSummary, outcomes: &SegmentSummary) -> bool {
        let has_class = |class: CommandClass| {
            let is_class = |found: &str| found == class.as_str();
            // The server may tell of one that the text does not have.
            statements.may_have(Field::Class, is_class) || outcomes.may_have(Field::Class, is_class)
        };
        // As `Reading::may_name` has it: a word of the name is one of the text.
        let has_table = |table: &TableName| words(&table.name).all(|word| statements.may_have_word(word));
        self.is_before_until(outcomes)
            && self.is_since(outcomes)
            && (self.sqlstate.is_none() || outcomes.may_have(Field::Sqlstate, |code| self.wants_sqlstate(code)))
            && self.class.is_none_or(has_class)
            && self.table.as_ref().is_none_or(has_table)
            && (!self.unread
                || [statements, outcomes]
                    .iter()
                    .any(|segment| segment.may_have(Field::Unread, |_| true)))
    }

    /// Returns whether a record of the segment may be as old as those that are wanted.
    fn is_before_until(&self, segment: &SegmentSummary) -> bool {
        TimeRange::of(self).is_before_until(segment.times().0)
    }

    /// Returns whether a record of the segment may be as young as those that are wanted.
    fn is_since(&self, segment: &SegmentSummary) -> bool {
        TimeRange::of(self).is_since(segment.times().1) && self.after.is_none_or(|after| segment.goes_beyond(after))
    }
}

/// The times that are asked for, as lines have them: the order of such texts is that of the times.
#[derive(Debug, Default)]
struct TimeRange {
    since: Option<String>,
    until: Option<String>,
}

impl TimeRange {
    fn of(filter: &Filter) -> Self {
        // Of a time between two microseconds a line has the earlier one.
        let next = |until: Timestamp| until.checked_add(jiff::Span::new().microseconds(1)).ok();
        Self {
            since: filter.since.and_then(written),
            until: filter.until.and_then(next).and_then(written),
        }
    }

    fn is_since(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| time >= since)
    }

    fn is_before_until(&self, time: &str) -> bool {
        self.until.as_deref().is_none_or(|until| time < until)
    }
}

fn fits<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
    wanted.is_none() || wanted == found
}

/// Returns true if one of the event's free texts contains the text.
fn contains_text(event: &Event<'_>, text: &str) -> bool {
    let needle = text.to_lowercase();
    texts(event).into_iter().any(|hay| hay.to_lowercase().contains(&needle))
}

/// Returns the length of an event's free texts.
pub(super) fn text_bytes(event: &Event<'_>) -> usize {
    texts(event).iter().map(|text| text.len()).sum()
}

/// Returns the free texts of an event, which a search by text compares; those of a statement are its SQL, its name and its parameters.
fn texts<'e>(event: &'e Event<'_>) -> Vec<&'e str> {
    let named = |texts: &[Option<&'e str>]| texts.iter().copied().flatten().collect::<Vec<_>>();
    match event {
        Event::GateStarted(event) => vec![&event.version],
        Event::GateStopped {}
        | Event::SegmentBegan(_)
        | Event::Checkpoint(_)
        | Event::SegmentsRemoved(_)
        | Event::CancelRequested(_)
        | Event::BackendGone(_)
        | Event::Outcome(_)
        | Event::TransactionChanged(_) => Vec::new(),
        Event::JournalHealed(event) => named(&[event.detail.as_deref()]),
        Event::ClockSet(event) => named(&[Some(&event.by), event.reason.as_deref()]),
        Event::KeyChanged(event) => vec![&event.by],
        Event::Reloaded(event) => vec![&event.detail],
        Event::Refused(event) => named(&[
            Some(event.ending.as_str()),
            event.user.as_deref(),
            event.database.as_deref(),
            event.detail.as_deref(),
        ]),
        Event::RefusalsCounted(event) => named(&[event.network.as_deref(), Some(event.ending.as_str())]),
        Event::GrantChanged(event) => named(&[Some(event.change.as_str()), Some(&event.by), event.reason.as_deref()]),
        Event::GrantJoined(event) => vec![&event.reason],
        Event::RequestChanged(event) => {
            let mut texts = named(&[
                Some(event.request.as_str()),
                Some(event.change.as_str()),
                Some(event.by.as_str()),
                event.reason.as_deref(),
                event.ticket.as_deref(),
            ]);
            texts.extend(event.claims.values().map(String::as_str));
            texts
        }
        Event::DecisionMade(event) => vec![&event.action, &event.about],
        Event::RoleChanged(event) => named(&[Some(event.change.as_str()), Some(&event.role), event.detail.as_deref()]),
        Event::CopyChanged(event) => named(&[
            Some(event.change.as_str()),
            Some(&event.database),
            event.template.as_deref(),
            event.detail.as_deref(),
        ]),
        Event::LineChanged(event) => named(&[
            Some(event.change.as_str()),
            Some(event.mode.as_str()),
            event.behind.as_ref().map(GrantId::as_str),
            event.behind_identity.as_ref().map(IdentityName::as_str),
        ]),
        Event::UserChanged(event) => vec![event.change.as_str(), &event.by],
        Event::SignInChanged(event) => named(&[
            Some(event.sign_in.as_str()),
            Some(event.change.as_str()),
            Some(&event.by),
            Some(event.via.as_str()),
            event.reason.as_deref(),
        ]),
        Event::IdentityRefused(event) => named(&[event.claimed.as_deref(), Some(&event.detail)]),
        Event::PolicyLoaded(event) => vec![&event.detail],
        Event::SessionStarted(event) => named(&[event.application.as_deref(), event.copy.as_deref()]),
        Event::SessionEnded(event) => named(&[Some(event.ending.as_str()), event.detail.as_deref()]),
        Event::RowsChanged(event) => changed_texts(event),
        Event::Statement(statement) => {
            let sql = statement.sql.as_ref().map(|sql| sql.text.0.as_ref());
            sql.into_iter().chain(beside_sql(statement)).collect()
        }
    }
}

/// Returns the names and values of changed rows.
fn changed_texts(event: &RowsChanged) -> Vec<&str> {
    let mut texts = vec![event.schema.as_str(), &event.table, &event.role];
    for change in &event.changes {
        let values = [Some(&change.key), change.old.as_ref(), change.new.as_ref()];
        texts.extend(
            values
                .into_iter()
                .flatten()
                .flat_map(|values| values.values().flatten())
                .map(String::as_str),
        );
    }
    texts
}

/// Returns the texts of a statement that are not its SQL.
fn beside_sql<'e>(statement: &'e Statement<'_>) -> impl Iterator<Item = &'e str> {
    let parameters = statement.parameters.iter().filter_map(|parameter| match parameter {
        ParameterValue::Null | ParameterValue::Redacted | ParameterValue::Blanked { .. } => None,
        ParameterValue::Hashed(hash) => Some(hash.as_ref()),
        ParameterValue::Text(text) | ParameterValue::Long { start: text, .. } => Some(text.0.as_ref()),
        ParameterValue::Binary { hex, .. } => Some(hex.as_ref()),
    });
    let prepared = statement.prepared.as_ref().map(|name| name.0.as_ref());
    prepared.into_iter().chain(parameters)
}

#[cfg(test)]
mod tests;
