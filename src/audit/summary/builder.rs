//! Builder of summaries: takes the lines of a segment one after the other.
//!
//! It reads no file. Statements, outcomes and changes of transactions, which are most of a log, are read from their first bytes; other
//! lines are parsed. One text of each shape is analysed, and only as long as there are few.
//!
//! INVARIANT: a line that is not a record makes the summary one that excludes nothing, for readers have to report that line.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use memchr::memmem::Finder;

use super::{Field, MAX_SET_BYTES, SegmentSummary, is_listed};
use crate::audit::event::{Event, Statement, StatementKind};
use crate::audit::record::{LogRecord, string_field};
use crate::audit::session_line::{SessionLine, take_string};
use crate::audit::sql_analysis::{AnalysisCache, CommandClass, ParseFailure, SqlAnalysis, hides_names, words};
use crate::audit::text::written;
use crate::model::names::Vocabulary as _;
use crate::protocol::lexer::shape;

/// Texts and shapes that are analysed, at most, and the bytes of them that are remembered. A log with more has any class and any word.
const MAX_TEXTS: usize = 8_000;
const MAX_TEXT_BYTES: usize = 4 << 20;
/// Sessions and statements that are followed, at most: of a segment with more it is not known which outcomes are elsewhere.
const MAX_FOLLOWED: usize = 100_000;

static PARAMETERS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#","parameters":["#));
/// Analysis of a statement that is not analysed, for there were too many texts.
static NOT_ANALYSED: LazyLock<Arc<SqlAnalysis>> = LazyLock::new(|| Arc::new(SqlAnalysis::unparsed("", ParseFailure::NoText)));
static UNCERTAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#","text_uncertain":"#));

/// Collects the values of one segment.
#[derive(Debug, Default)]
pub(in crate::audit) struct SummaryBuilder {
    values: Values,
    last_seq: u64,
    first_time: String,
    last_time: String,
    /// A line was added.
    begun: bool,
    sessions: HashMap<Box<str>, Session>,
    /// Statements of all sessions that have no outcome so far.
    unanswered: usize,
    /// Knowledge from the segment before.
    before: Handover,
    /// Analyses of statements, as their lines have them from the kind up to the parameters; and of the shapes of their texts.
    texts: HashMap<Box<[u8]>, Arc<SqlAnalysis>>,
    text_bytes: usize,
}

/// A session as far as it stands in the segment.
#[derive(Debug, Default)]
struct Session {
    /// Its names as the last line had them.
    names: Box<[u8]>,
    /// Statements without an outcome so far, by their numbers.
    unanswered: BTreeMap<u64, OpenStatement>,
}

/// Statement without an outcome so far.
#[derive(Debug)]
struct OpenStatement {
    /// True for one that only parses: if that succeeds, no outcome comes.
    only_parses: bool,
    analysis: Arc<SqlAnalysis>,
}

/// Knowledge that the builder of a segment hands on to that of the next one.
#[derive(Debug, Default)]
pub(in crate::audit) struct Handover {
    /// Statements whose outcomes may stand in the next segment, by session and number.
    statements: HashMap<(Box<str>, u64), OpenStatement>,
    readings: AnalysisCache,
}

/// The sets of values, each with its size.
#[derive(Debug)]
struct Values(BTreeMap<Field, (BTreeSet<Box<str>>, usize)>);

impl Values {
    fn insert(&mut self, field: Field, value: &str) {
        let Some((values, bytes)) = self.0.get_mut(&field) else {
            return;
        };
        if values.contains(value) {
            return;
        }
        *bytes += value.len() + 3;
        if *bytes > MAX_SET_BYTES {
            self.0.remove(&field);
        } else {
            values.insert(value.into());
        }
    }

    fn has(&self, field: Field) -> bool {
        self.0.contains_key(&field)
    }

    fn give_up(&mut self, fields: &[Field]) {
        self.0.retain(|field, _| !fields.contains(field));
    }
}

impl Default for Values {
    fn default() -> Self {
        Self(Field::ALL.map(|field| (field, Default::default())).into())
    }
}

impl SummaryBuilder {
    /// Returns a builder for the segment that follows the one that this comes from.
    pub(in crate::audit) fn behind(before: Handover) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Adds a line, with its newline.
    pub(in crate::audit) fn add(&mut self, line: &[u8]) {
        let added = line.strip_suffix(b"\n").and_then(|line| {
            let taken = SessionLine::of(line).and_then(|taken| self.add_session_line(line, &taken));
            taken.or_else(|| self.add_record(&LogRecord::parse(line).ok()?))
        });
        if added.is_none() {
            self.give_up();
        }
    }

    /// Returns the number of texts and shapes that were analysed.
    #[cfg(test)]
    pub(super) fn analysed(&self) -> usize {
        self.texts.len()
    }

    /// Returns the summary of what was added, and what the next segment's builder has to know.
    pub(in crate::audit) fn finish(mut self) -> (SegmentSummary, Handover) {
        for (session, state) in &self.sessions {
            // A Parse that succeeds gets no outcome; one that fails may get it in the next segment.
            for statement in state.unanswered.keys() {
                self.values.insert(Field::Unanswered, &pair(session, *statement));
            }
        }
        let values = self.values.0.into_iter();
        let summary = SegmentSummary {
            last_seq: self.last_seq,
            first_time: self.first_time,
            last_time: self.last_time,
            values: values.map(|(field, (values, _))| (field, values)).collect(),
        };
        let open = self.sessions.into_iter().flat_map(|(session, state)| {
            let statements = state.unanswered.into_iter();
            statements.map(move |(number, statement)| ((session.clone(), number), statement))
        });
        let handover = Handover {
            statements: open.collect(),
            readings: self.before.readings,
        };
        (summary, handover)
    }

    /// Makes the summary exclude nothing.
    fn give_up(&mut self) {
        self.values.0.clear();
        (self.last_seq, self.begun) = (u64::MAX, true);
        self.first_time.clear();
        "~".clone_into(&mut self.last_time);
    }

    fn add_place(&mut self, seq: u64, time: &str) {
        if !std::mem::replace(&mut self.begun, true) {
            time.clone_into(&mut self.first_time);
        }
        self.last_seq = self.last_seq.max(seq);
        if time < self.first_time.as_str() {
            time.clone_into(&mut self.first_time);
        }
        if time > self.last_time.as_str() {
            time.clone_into(&mut self.last_time);
        }
    }

    fn add_session_line(&mut self, line: &[u8], taken: &SessionLine<'_>) -> Option<()> {
        self.add_place(taken.seq, taken.time);
        self.values.insert(Field::Event, taken.event);
        let session = taken.session;
        let known = self.sessions.get(session);
        if known.is_none_or(|known| *known.names != *taken.names_text) {
            for (field, name) in [
                (Field::Session, session),
                (Field::Grant, taken.grant),
                (Field::Identity, taken.identity),
                (Field::Target, taken.target),
            ] {
                self.values.insert(field, name);
            }
            if let Some(session) = self.session(session) {
                session.names = taken.names_text.into();
            }
        }
        match taken.event {
            "statement" => {
                let written = StatementFields::of(taken.rest)?;
                let kind = StatementKind::from_name(str::from_utf8(written.kind).ok()?)?;
                let analysis = self.add_text(line, &written)?;
                self.statement(session, taken.statement, kind, analysis);
                Some(())
            }
            "outcome" => {
                let (sqlstate, tags) = result_of(taken.rest)?;
                self.add_sqlstate(sqlstate);
                self.outcome(session, taken.statement, classes_of(tags));
                Some(())
            }
            _ => {
                self.add_sqlstate(string_field(taken.rest, br#""sqlstate":""#));
                Some(())
            }
        }
    }

    fn add_sqlstate(&mut self, code: Option<&str>) {
        let Some(code) = code else { return };
        self.values.insert(Field::Sqlstate, code);
        if code.contains('\\') {
            self.values.give_up(&[Field::Sqlstate]);
        }
    }

    fn add_record(&mut self, record: &LogRecord) -> Option<()> {
        self.add_place(record.seq, &written(record.time)?);
        let event = &record.event;
        for field in Field::ALL {
            field.of(event).into_iter().for_each(|value| self.values.insert(field, value));
        }
        match event {
            Event::Statement(statement) => {
                let analysis = self.add_analysis(statement);
                let session = statement.who.session.as_str();
                self.statement(session, statement.statement, statement.kind, analysis);
            }
            Event::Outcome(outcome) => {
                let ran = outcome.tags.iter().map(|tag| Some(CommandClass::of_tag(&tag.0)));
                self.outcome(outcome.who.session.as_str(), outcome.statement, ran);
            }
            Event::SessionEnded(ended) => {
                if let Some(session) = self.sessions.remove(ended.who.session.as_str()) {
                    self.unanswered -= session.unanswered.len();
                }
            }
            Event::GateStarted(_) => self.forget_sessions(),
            Event::RowsChanged(changed) => {
                for word in words(&changed.table).filter(|word| is_listed(word)) {
                    self.values.insert(Field::Word, &word.to_ascii_lowercase());
                }
            }
            _ => {}
        }
        Some(())
    }

    fn session(&mut self, session: &str) -> Option<&mut Session> {
        if self.sessions.len() >= MAX_FOLLOWED || self.unanswered >= MAX_FOLLOWED {
            self.values.give_up(&[Field::Unanswered, Field::Late]);
            self.forget_sessions();
        }
        if !self.sessions.contains_key(session) {
            self.sessions.insert(session.into(), Session::default());
        }
        self.sessions.get_mut(session)
    }

    fn forget_sessions(&mut self) {
        self.sessions.clear();
        self.before.statements.clear();
        self.unanswered = 0;
    }

    fn statement(&mut self, session: &str, statement: u64, kind: StatementKind, analysis: Arc<SqlAnalysis>) {
        if kind.executes() && !analysis.is_read() {
            self.values.insert(Field::Unread, &pair(session, statement));
        }
        let Some(session) = self.session(session) else { return };
        let only_parses = kind == StatementKind::Parse;
        let before = session.unanswered.insert(statement, OpenStatement { only_parses, analysis });
        self.unanswered += usize::from(before.is_none());
    }

    /// Adds an outcome; `ran` has the classes of the commands that the server ran, as far as they can be told.
    fn outcome(&mut self, session: &str, statement: u64, ran: impl Iterator<Item = Option<CommandClass>> + Clone) {
        for class in ran.clone() {
            match class {
                Some(class) => self.values.insert(Field::Class, class.as_str()),
                None => self.values.give_up(&[Field::Class]),
            }
        }
        let Some(state) = self.session(session) else { return };
        let had = state.unanswered.len();
        let mut answered = state.unanswered.remove(&statement);
        // What was only to be parsed before this one was parsed, and gets no outcome. Others may get theirs later: a Bind that fails
        // is numbered late.
        if answered.is_some() {
            state
                .unanswered
                .retain(|number, open| !open.only_parses || *number > statement);
        }
        let count = had - state.unanswered.len();
        self.unanswered -= count;
        if answered.is_none() {
            self.values.insert(Field::Late, &pair(session, statement));
            answered = self.before.statements.remove(&(session.into(), statement));
        }
        let agrees =
            |open: OpenStatement| ran.clone().all(|class| class.is_some()) && !open.analysis.is_contradicted_by(ran.flatten());
        if !answered.is_some_and(agrees) {
            self.values.insert(Field::Unread, &pair(session, statement));
        }
    }

    /// Returns the analysis of a statement, and adds its classes and words if there was none like it before; `None` if the line is no
    /// record.
    fn add_text(&mut self, line: &[u8], fields: &StatementFields<'_>) -> Option<Arc<SqlAnalysis>> {
        if !self.values.has(Field::Class) && !self.values.has(Field::Word) {
            return Some(Arc::clone(&NOT_ANALYSED));
        }
        let written = fields.written;
        if let Some(known) = self.texts.get(written) {
            return Some(Arc::clone(known));
        }
        let text = fields.plain_text();
        let shape = text.as_deref().and_then(|text| shape(text.as_bytes()));
        let known = shape.as_deref().and_then(|shape| self.texts.get(shape)).map(Arc::clone);
        if let (Some(text), Some(known)) = (&text, known) {
            self.add_values_of(text);
            return Some(known);
        }
        let Event::Statement(statement) = LogRecord::parse(line).ok()?.event else {
            return None;
        };
        let analysis = self.add_analysis(&statement);
        // Where it is not complete, all words of each text count.
        let shape = shape.filter(|_| analysis.is_complete());
        for key in shape.as_deref().into_iter().chain([written]) {
            self.text_bytes += key.len();
            self.texts.insert(key.into(), Arc::clone(&analysis));
        }
        if self.texts.len() >= MAX_TEXTS || self.text_bytes > MAX_TEXT_BYTES {
            self.values.give_up(&[Field::Class, Field::Word, Field::Unread]);
            self.texts.clear();
        }
        Some(analysis)
    }

    /// Adds the words that a text may have and others of its shape have not: those of its literals and comments.
    fn add_values_of(&mut self, text: &str) {
        if memchr::memchr3(b'\'', b'/', b'-', text.as_bytes()).is_some() {
            self.add_words_of(text);
        }
    }

    /// Adds the words of a statement's text, in which a name may be hidden.
    fn add_words_of(&mut self, text: &str) {
        if hides_names(text) {
            self.values.give_up(&[Field::Word]);
        }
        self.add_words(text);
    }

    fn add_words(&mut self, text: &str) {
        for word in words(text).filter(|word| is_listed(word)) {
            if !self.values.has(Field::Word) {
                return;
            }
            self.values.insert(Field::Word, &word.to_ascii_lowercase());
        }
    }

    /// Adds the classes and the words of a statement, and returns its analysis.
    fn add_analysis(&mut self, statement: &Statement<'_>) -> Arc<SqlAnalysis> {
        let reading = self.before.readings.of_statement(statement);
        reading
            .classes
            .iter()
            .for_each(|class| self.values.insert(Field::Class, class.as_str()));
        let text = statement.sql.as_ref().map_or("", |sql| sql.text.0.as_ref());
        self.add_words_of(text);
        // Of a name that is longer than PostgreSQL keeps, the text has another word than the analysis.
        for table in &reading.tables {
            self.add_words(&table.name);
        }
        reading
    }
}

/// Returns the classes of an outcome's command tags, from the first quote on; `None` for one that cannot be told, which is the last.
fn classes_of(mut tags: &[u8]) -> impl Iterator<Item = Option<CommandClass>> + Clone {
    std::iter::from_fn(move || {
        let tag = tags.strip_prefix(b"\"")?;
        let (text, behind) = tag.split_at_checked(memchr::memchr(b'"', tag).unwrap_or(tag.len()))?;
        let text = str::from_utf8(text).ok().filter(|tag| !tag.contains('\\'));
        tags = match text {
            Some(_) => behind.strip_prefix(b"\",").unwrap_or_default(),
            None => &[],
        };
        Some(text.map(CommandClass::of_tag))
    })
}

/// Fields of a statement's line behind its number, which differs each time.
struct StatementFields<'l> {
    kind: &'l [u8],
    /// From the kind up to the parameters.
    written: &'l [u8],
    /// The text with its quotes; absent if more than it determines how it is read.
    text: Option<&'l [u8]>,
}

impl<'l> StatementFields<'l> {
    fn of(rest: &'l [u8]) -> Option<Self> {
        let (kind, behind) = take_string(rest, br#","kind":""#)?;
        let text = behind.strip_prefix(br#","sql":{"text":"#);
        let text = text.and_then(|text| text.split_at_checked(string_end(text)? + 1));
        let flags = text.map_or(behind, |(_, behind)| behind);
        let parameters = PARAMETERS.find(flags).unwrap_or(flags.len());
        let (flags, parameters) = flags.split_at_checked(parameters)?;
        let is_plain = flags.starts_with(b"}") && UNCERTAIN.find(flags).is_none();
        Some(Self {
            kind,
            written: rest.get(..rest.len() - parameters.len())?,
            text: text.map(|(text, _)| text).filter(|_| is_plain),
        })
    }

    /// Returns the text; `None` if more determines how it is read.
    fn plain_text(&self) -> Option<Cow<'l, str>> {
        let text = self.text?;
        if memchr::memchr(b'\\', text).is_some() {
            return serde_json::from_slice(text).ok().map(Cow::Owned);
        }
        let inside = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        str::from_utf8(inside).ok().map(Cow::Borrowed)
    }
}

/// Returns the SQLSTATE of an outcome, from its line behind the statement's number, and its tags from the first quote on; `None` if the line
/// is not as a gate writes it.
fn result_of(rest: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (_, mut rest) = take_string(rest, br#","result":""#)?;
    let mut sqlstate = None;
    if let Some((code, behind)) = take_string(rest, br#","sqlstate":""#) {
        (sqlstate, rest) = (Some(str::from_utf8(code).ok()?), behind);
    }
    if let Some((_, behind)) = take_string(rest, br#","rule":""#) {
        rest = behind;
    }
    match rest.strip_prefix(br#","tags":["#) {
        Some(tags) => Some((sqlstate, tags)),
        None => rest.starts_with(br#","rows":"#).then_some((sqlstate, &[])),
    }
}

/// Returns the position of the quote that ends the JSON string at the start of these bytes.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// Returns the text of a statement's session and number there.
fn pair(session: &str, statement: u64) -> String {
    format!("{session} {statement}")
}
