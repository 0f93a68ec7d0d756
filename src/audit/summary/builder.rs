//! Builder of summaries: takes the lines of a segment one after the other.
//!
//! It reads no file. Statements, outcomes and changes of transactions, which are most of a log, are read from their first bytes; other
//! lines are parsed. One text of each shape is analysed, and only as long as there are few.
//!
//! INVARIANT: a line that is not a record makes the summary one that excludes nothing, for readers have to report that line.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Field, MAX_SET_BYTES, SegmentSummary, is_listed};
use crate::audit::chain::{number, split};
use crate::audit::event::{Event, Statement, StatementKind, StatementOutcome};
use crate::audit::record::{LogRecord, event_of, number_field, string_field, time_of};
use crate::audit::sql_analysis::{AnalysisCache, CommandClass, hides_names, words};
use crate::audit::text::written;
use crate::protocol::lexer::shape;

/// Texts and shapes that are analysed, at most, and the bytes of them that are remembered. A log with more has any class and any word.
const MAX_TEXTS: usize = 1_000;
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Sessions and statements that are followed, at most: of a segment with more it is not known which outcomes are elsewhere.
const MAX_FOLLOWED: usize = 100_000;

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
    /// Statements that were analysed, as their lines have them from the kind up to the parameters; and the shapes of their texts, each
    /// with a NUL behind it.
    texts: HashSet<Box<[u8]>>,
    text_bytes: usize,
    readings: AnalysisCache,
}

/// A session as far as it stands in the segment.
#[derive(Debug, Default)]
struct Session {
    /// Its names as the last line had them.
    names: Box<[u8]>,
    /// The numbers of statements without an outcome so far, and whether each only parses: if that succeeds, no outcome comes.
    unanswered: BTreeMap<u64, bool>,
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

/// A line of a session, taken apart without parsing it.
struct SessionLine<'l> {
    seq: u64,
    time: &'l str,
    event: &'l str,
    /// Session, grant, identity and target, and the bytes they stand in.
    names: [(Field, &'l str); 4],
    names_text: &'l [u8],
    /// The statement's number, and what stands behind the names up to the mark of the chain.
    statement: u64,
    rest: &'l [u8],
}

impl<'l> SessionLine<'l> {
    /// Takes a line apart; `None` if it is of another kind, or not as a gate writes it.
    fn of(line: &'l [u8]) -> Option<Self> {
        let (body, _) = split(line)?;
        let (time, rest) = time_of(body)?;
        let (event, rest) = event_of(rest)?;
        if !time.ends_with('Z') || !matches!(event, b"statement" | b"outcome" | b"transaction_changed") {
            return None;
        }
        let start = rest.strip_prefix(b"\"")?;
        let mut rest = start;
        let mut name = |key: &[u8]| {
            let value = rest.strip_prefix(key)?;
            let (value, behind) = value.split_at_checked(memchr::memchr(b'"', value)?)?;
            rest = behind.strip_prefix(b"\"")?;
            // With an escape it is not the value itself.
            str::from_utf8(value).ok().filter(|value| !value.contains('\\'))
        };
        let names = [
            (Field::Session, name(br#","session":""#)?),
            (Field::Grant, name(br#","grant":""#)?),
            (Field::Identity, name(br#","identity":""#)?),
            (Field::Target, name(br#","target":""#)?),
        ];
        Some(Self {
            seq: number(line)?,
            time,
            event: str::from_utf8(event).ok()?,
            names,
            names_text: start.get(..start.len() - rest.len())?,
            statement: number_field(rest, br#","statement":"#)?,
            rest,
        })
    }
}

impl SummaryBuilder {
    /// Adds a line, with its newline.
    pub(in crate::audit) fn add(&mut self, line: &[u8]) {
        let added = line.strip_suffix(b"\n").and_then(|line| match SessionLine::of(line) {
            Some(taken) => self.add_session_line(line, &taken),
            None => self.add_record(&LogRecord::parse(line).ok()?),
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

    /// Returns the summary of what was added.
    pub(in crate::audit) fn finish(mut self) -> SegmentSummary {
        for (session, state) in &self.sessions {
            // A Parse that succeeds gets no outcome; one that fails may get it in the next segment.
            for statement in state.unanswered.keys() {
                self.values.insert(Field::Unanswered, &pair(session, *statement));
            }
        }
        let values = self.values.0.into_iter();
        SegmentSummary {
            last_seq: self.last_seq,
            first_time: self.first_time,
            last_time: self.last_time,
            values: values.map(|(field, (values, _))| (field, values)).collect(),
        }
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
        let [(_, session), ..] = taken.names;
        let known = self.sessions.get(session);
        if known.is_none_or(|known| *known.names != *taken.names_text) {
            taken.names.iter().for_each(|(field, name)| self.values.insert(*field, name));
            if let Some(session) = self.session(session) {
                session.names = taken.names_text.into();
            }
        }
        if taken.event == "statement" {
            let only_parses = string_field(taken.rest, br#","kind":""#) == Some("parse");
            self.statement(session, taken.statement, only_parses);
            return self.add_text(line, taken.rest);
        }
        if let Some(code) = string_field(taken.rest, br#""sqlstate":""#) {
            self.values.insert(Field::Sqlstate, code);
            if code.contains('\\') {
                self.values.give_up(&[Field::Sqlstate]);
            }
        }
        if taken.event == "outcome" {
            self.outcome(session, taken.statement);
            self.add_tags(taken.rest);
        }
        Some(())
    }

    fn add_record(&mut self, record: &LogRecord) -> Option<()> {
        self.add_place(record.seq, &written(record.time)?);
        let event = &record.event;
        for field in Field::ALL {
            field.of(event).into_iter().for_each(|value| self.values.insert(field, value));
        }
        match event {
            Event::Statement(statement) => {
                let session = statement.who.session.as_str();
                self.statement(session, statement.statement, statement.kind == StatementKind::Parse);
                self.add_analysis(statement);
            }
            Event::Outcome(outcome) => {
                self.outcome(outcome.who.session.as_str(), outcome.statement);
                self.add_tags_of(outcome);
            }
            Event::SessionEnded(ended) => {
                if let Some(session) = self.sessions.remove(ended.who.session.as_str()) {
                    self.unanswered -= session.unanswered.len();
                }
            }
            Event::GateStarted(_) => self.forget_sessions(),
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
        self.unanswered = 0;
    }

    fn statement(&mut self, session: &str, statement: u64, only_parses: bool) {
        let Some(session) = self.session(session) else { return };
        let before = session.unanswered.insert(statement, only_parses);
        self.unanswered += usize::from(before.is_none());
    }

    fn outcome(&mut self, session: &str, statement: u64) {
        let Some(state) = self.session(session) else { return };
        let had = state.unanswered.len();
        let known = state.unanswered.remove(&statement).is_some();
        // What was only to be parsed before this one was parsed, and gets no outcome. Others may get theirs later: a Bind that fails
        // is numbered late.
        if known {
            state
                .unanswered
                .retain(|number, only_parses| !*only_parses || *number > statement);
        }
        let answered = had - state.unanswered.len();
        self.unanswered -= answered;
        if !known {
            self.values.insert(Field::Late, &pair(session, statement));
        }
    }

    /// Analyses a statement, if there was none like it before.
    fn add_text(&mut self, line: &[u8], rest: &[u8]) -> Option<()> {
        if !self.values.has(Field::Class) && !self.values.has(Field::Word) {
            return Some(());
        }
        let end = memchr::memmem::find(rest, br#","parameters":["#).unwrap_or(rest.len());
        // Behind the statement's number, which differs each time.
        let start = memchr::memmem::find(rest, br#","kind":""#)?;
        let written = rest.get(start..end)?;
        if self.texts.contains(written) {
            return Some(());
        }
        let text = plain_text(written);
        let shape = text.as_deref().and_then(|text| shape(text.as_bytes())).map(|mut shape| {
            shape.push(0);
            shape
        });
        if let (Some(text), Some(true)) = (&text, shape.as_deref().map(|shape| self.texts.contains(shape))) {
            self.add_values_of(text);
            return Some(());
        }
        let Event::Statement(statement) = LogRecord::parse(line).ok()?.event else {
            return None;
        };
        let is_complete = self.add_analysis(&statement);
        // Where it is not, all words of each text count.
        for key in shape.filter(|_| is_complete).as_deref().into_iter().chain([written]) {
            self.text_bytes += key.len();
            self.texts.insert(key.into());
        }
        if self.texts.len() >= MAX_TEXTS || self.text_bytes > MAX_TEXT_BYTES {
            self.values.give_up(&[Field::Class, Field::Word]);
            self.texts.clear();
        }
        Some(())
    }

    /// Adds the words that a text may have and others of its shape have not: those of its literals and comments.
    fn add_values_of(&mut self, text: &str) {
        if text.contains(['\'', '/', '-']) {
            self.add_words(text);
        }
    }

    fn add_words(&mut self, text: &str) {
        for word in words(text).filter(|word| is_listed(word)) {
            if !self.values.has(Field::Word) {
                return;
            }
            self.values.insert(Field::Word, &word.to_ascii_lowercase());
        }
    }

    /// Adds the classes and the words of a statement; returns true if its tables are all that it can name.
    fn add_analysis(&mut self, statement: &Statement<'_>) -> bool {
        let reading = self.readings.of_statement(statement);
        reading
            .classes
            .iter()
            .for_each(|class| self.values.insert(Field::Class, class.as_str()));
        let text = statement.sql.as_ref().map_or("", |sql| sql.text.0.as_ref());
        if hides_names(text) {
            self.values.give_up(&[Field::Word]);
        }
        self.add_words(text);
        // Of a name that is longer than PostgreSQL keeps, the text has another word than the analysis.
        for table in &reading.tables {
            self.add_words(&table.name);
        }
        reading.is_complete()
    }

    /// Adds the classes of an outcome's command tags.
    fn add_tags(&mut self, rest: &[u8]) {
        const TAGS: &[u8] = br#","tags":["#;
        let Some(at) = memchr::memmem::find(rest, TAGS) else { return };
        let mut tags = rest.get(at + TAGS.len()..).unwrap_or_default();
        while let Some(tag) = tags.strip_prefix(b"\"") {
            let end = memchr::memchr(b'"', tag).unwrap_or(tag.len());
            let text = tag
                .get(..end)
                .and_then(|tag| str::from_utf8(tag).ok())
                .filter(|tag| !tag.contains('\\'));
            let Some(text) = text else {
                self.values.give_up(&[Field::Class]);
                return;
            };
            self.values.insert(Field::Class, CommandClass::of_tag(text).as_str());
            let behind = tag.get(end + 1..).unwrap_or_default();
            tags = behind.strip_prefix(b",").unwrap_or_default();
        }
    }

    fn add_tags_of(&mut self, outcome: &StatementOutcome<'_>) {
        let tags = outcome.tags.iter();
        tags.for_each(|tag| self.values.insert(Field::Class, CommandClass::of_tag(&tag.0).as_str()));
    }
}

/// Returns the text of a statement, as its line has it from the kind up to the parameters; `None` if more than the text determines how
/// it is read.
fn plain_text(written: &[u8]) -> Option<Cow<'_, str>> {
    const START: &[u8] = br#","sql":{"text":"#;
    let rest = written.get(memchr::memmem::find(written, START)? + START.len()..)?;
    let mut end = 1 + memchr::memchr(b'"', rest.get(1..)?)?;
    let is_escaped = memchr::memchr(b'\\', rest.get(..end)?).is_some();
    if is_escaped {
        end = string_end(rest)?;
    }
    let behind = rest.get(end + 1..)?.strip_prefix(b"}")?;
    if memchr::memmem::find(behind, b"text_uncertain").is_some() {
        return None;
    }
    if is_escaped {
        return serde_json::from_slice(rest.get(..=end)?).ok().map(Cow::Owned);
    }
    str::from_utf8(rest.get(1..end)?).ok().map(Cow::Borrowed)
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
