//! Statement recorder for both directions of a session: it records an intent before each statement, an outcome after it.
//!
//! It changes and forwards no bytes: it decides whether a message may be forwarded, and whether unchanged. [`super::extended_query`]
//! determines the meaning of names, [`super::statement`] the recorded parts of a statement.
//!
//! INVARIANT: when [`StatementRecorder::client`] returns [`MessageFlow::Go`] for the last piece of a message that executes something, its intent is in
//! [`StatementRecorder::intents`] (that of a Parse at [`StatementRecorder::complete_intents`]); the relay holds that last byte back until the
//! log has it.

mod answers;
mod records;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
pub(super) use records::TargetLastWord;
use records::{ParseIntent, blank, no_outcome, of_parse, of_portal};

use super::extended_query::{ExtendedQueryState, NameLookup, NamedObject, PendingKind, server_name};
use super::filter::{Replacement, SessionFilter};
use super::lexer_settings::TrackedSettings;
use super::masked::MaskedTables;
use super::pace::ForwardingPace;
use super::registry::SentStatement;
use super::statement::{
    self, EntryWeight, Portal, PreparedStatement, ReadText, ReadingManner, RecordLimits, TextFollower, ValuesFollower,
};
use crate::audit::RecordBatch;
use crate::audit::event::{Event, OutsideText, Statement, StatementKind, StatementOutcome, StatementResult, Who};
use crate::audit::redact::SecretParameters;
use crate::base::clock::{Clock, Moment};
use crate::gate::sql_filter::StatementRefusal;
use crate::model::ending::Ending;
use crate::protocol::wire::frame::{BodyBuffer, BodyPiece};
use crate::protocol::wire::frontend::{Bind, Fields, Parse, WireValues};

/// Maximum number of bytes of a Bind or FunctionCall that are read for the record.
const MAX_BIND_BYTES: usize = 1 << 20;
/// Maximum number of bytes of a message of the target that are read.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Decision on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageFlow {
    /// The message may be forwarded.
    Go,
    /// Its last byte must wait until the target has answered the earlier messages; then call [`StatementRecorder::retry_held`].
    Hold,
    /// The client sent Terminate.
    Quit,
}

/// Totals of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SessionTotals {
    /// Number of executed statements.
    pub(super) statements: u64,
    /// Number of rows returned or changed.
    pub(super) rows: u64,
    /// Number of rows sent to the client.
    pub(super) rows_sent: u64,
    /// Number of bytes from the client.
    pub(super) bytes_in: u64,
    /// Number of bytes from the target.
    pub(super) bytes_out: u64,
}

/// Statement recorder of one session.
pub(super) struct StatementRecorder {
    who: Arc<Who>,
    keep: RecordLimits,
    clock: Clock,
    pub(super) extended: ExtendedQueryState,
    /// Guard rails of the profile, if it has any.
    pub(super) guard: Option<SessionFilter>,
    /// Tables that its profile sees through masks, if there are any.
    pub(super) masked: Option<Arc<MaskedTables>>,
    /// Settings under which the target reads texts.
    pub(super) settings: TrackedSettings,
    numbers: StatementNumbers,
    /// Parse without a record yet: an Execute of it, if it comes next, has one record with it.
    parsed: Option<Box<ParseIntent>>,
    /// Number of statements after `numbers.written` that `totals.statements` includes.
    unwritten: u64,
    /// Statements after `numbers.written` that the target drops.
    skipped: Vec<(u64, Moment)>,
    from_client: BodyBuffer,
    from_target: BodyBuffer,
    follow_text: Option<TextFollower>,
    follow_values: Option<ValuesFollower>,
    /// True if a text with secret parameters has come: an SQL `EXECUTE` may have the secrets.
    wary: bool,
    /// Refusal of the current message by a limit.
    over_limit: Option<Arc<StatementRefusal>>,
    /// Message whose last byte waits: its type and body.
    pub(super) held: Option<(u8, Vec<u8>)>,
    /// Intents to be written before anything is forwarded.
    pub(super) intents: RecordBatch,
    /// Outcomes to be written soon.
    pub(super) outcomes: RecordBatch,
    pub(super) totals: SessionTotals,
    /// Message by which the target announced the end of the session, if it was its last one.
    pub(super) last_word: Option<Box<TargetLastWord>>,
    /// Statement that was sent last, for those who watch the session.
    pub(super) sent: SentStatement,
    /// Set when the session is told to stop while a statement runs; true once that statement has completed.
    finished_since_stop: Option<bool>,
}

/// Numbers of a session's statements.
#[derive(Debug, Default)]
struct StatementNumbers {
    last: u64,
    /// Last number whose intent the journal has taken.
    written: u64,
    /// Numbers after `written` of messages that failed: they got their number when they failed.
    failed: Vec<u64>,
}

impl StatementNumbers {
    /// Assigns a number to a message because it failed. It has been forwarded, so its record need not wait.
    fn late(&mut self) -> u64 {
        let all_written = self.written == self.last;
        self.last += 1;
        if all_written {
            self.written = self.last;
        } else {
            self.failed.push(self.last);
        }
        self.last
    }
}

impl StatementRecorder {
    pub(super) fn new(who: Arc<Who>, keep: RecordLimits, clock: Clock) -> Self {
        let batch = || RecordBatch::of_session(Arc::clone(&who));
        Self {
            intents: batch(),
            outcomes: batch(),
            who,
            keep,
            clock,
            extended: ExtendedQueryState::default(),
            guard: None,
            masked: None,
            settings: TrackedSettings::new(),
            numbers: StatementNumbers::default(),
            parsed: None,
            unwritten: 0,
            skipped: Vec::new(),
            from_client: BodyBuffer::default(),
            from_target: BodyBuffer::default(),
            follow_text: None,
            follow_values: None,
            wary: false,
            over_limit: None,
            held: None,
            totals: SessionTotals::default(),
            last_word: None,
            sent: SentStatement::default(),
            finished_since_stop: None,
        }
    }
}

// Messages from the client.
impl StatementRecorder {
    /// Inspects a piece before [`StatementRecorder::client`] takes it. Returns its replacement if the guard rails or a limit refuse the
    /// message.
    pub(super) fn refuses(&mut self, piece: &BodyPiece<'_>) -> Option<Replacement> {
        if piece.first {
            self.over_limit = self.extended.over_limit(piece.tag);
        }
        let settings = &self.settings;
        let by_rails = self.guard.as_mut().and_then(|guard| guard.refuses(piece, settings));
        if self.over_limit.is_some() {
            // From the first byte on, because a message refused by a limit must have no effect: it may not even drop the unnamed
            // statement.
            return Some(Replacement::Unreadable);
        }
        by_rails
    }

    /// Processes the next piece of the client's stream.
    ///
    /// # Errors
    /// Fails with the ending if the client may not send this.
    pub(super) fn client(&mut self, piece: &BodyPiece<'_>, now: Moment) -> Result<MessageFlow, Ending> {
        if piece.tag == b'd' {
            self.extended.copy_data(piece.bytes.len() as u64);
            return Ok(MessageFlow::Go);
        }
        let bound = match piece.tag {
            b'Q' => self.keep.sql + 1,
            _ => MAX_BIND_BYTES.max(self.keep.sql),
        };
        self.follow(piece, bound);
        let mut gather = std::mem::take(&mut self.from_client);
        let flow = match gather.add(piece, bound) {
            Some(body) => self.message(piece.tag, body, now),
            None => Ok(MessageFlow::Go),
        };
        if piece.last && !piece.first {
            // An idle session holds no bytes of its earlier messages.
            gather.release();
        }
        self.from_client = gather;
        flow
    }

    /// Follows the text or the values of a message that is too long to be held.
    fn follow(&mut self, piece: &BodyPiece<'_>, bound: usize) {
        if piece.first {
            let (length, most, key) = (piece.length as usize, self.keep.parameter, &self.keep.key);
            let long = piece.whole().is_none() || length > self.keep.sql;
            self.follow_text = match piece.tag {
                b'Q' if long => Some(TextFollower::new(0, key)),
                b'P' if long => Some(TextFollower::new(1, key)),
                _ => None,
            };
            self.follow_values = match piece.tag {
                b'B' if length > bound => Some(ValuesFollower::of_bind(most, key)),
                b'F' if length > bound => Some(ValuesFollower::of_call(most, key)),
                _ => None,
            };
        }
        if let Some(follow) = &mut self.follow_text {
            follow.feed(piece.bytes);
        }
        if let Some(follow) = &mut self.follow_values {
            follow.feed(piece.bytes);
        }
    }

    /// Tries a held message again.
    ///
    /// # Errors
    /// The same as those of [`StatementRecorder::client`].
    pub(super) fn retry_held(&mut self, now: Moment) -> Result<MessageFlow, Ending> {
        match self.held.take() {
            Some((tag, body)) if self.must_wait(tag) => {
                self.held = Some((tag, body));
                Ok(MessageFlow::Hold)
            }
            Some((tag, body)) => self.message(tag, &body, now),
            None => Ok(MessageFlow::Go),
        }
    }

    fn hold(&mut self, tag: u8, body: &[u8]) -> MessageFlow {
        self.held = Some((tag, body.to_vec()));
        MessageFlow::Hold
    }

    fn message(&mut self, tag: u8, body: &[u8], now: Moment) -> Result<MessageFlow, Ending> {
        if self.extended.full() {
            return Ok(self.hold(tag, body));
        }
        if self.extended.out_of_place(tag) {
            return Err(Ending::Malformed {
                what: "a message that does not belong into COPY, or not between a failed COPY and its Sync",
            });
        }
        if self.must_wait(tag) {
            return Ok(self.hold(tag, body));
        }
        match tag {
            b'Q' => self.query(body, now),
            b'P' => self.parse(body, now)?,
            b'B' => return self.bind(body, now),
            b'E' => return Ok(self.execute(body, now)),
            b'F' => self.call(body, now),
            b'D' | b'C' if !self.extended.skipping => self.describe_or_close(tag, body, now),
            // PostgreSQL's error for these would be answered out of step with the Syncs around it.
            b'S' | b'H' if !body.is_empty() => {
                return Err(Ending::Malformed {
                    what: "a Sync or Flush with content",
                });
            }
            b'S' => self.extended.sync(now.instant),
            b'c' | b'f' => self.extended.copy_end(now.instant),
            b'X' => return Ok(MessageFlow::Quit),
            b'H' => self.extended.flush(),
            _ => {}
        }
        Ok(MessageFlow::Go)
    }

    /// Decides as [`ExtendedQueryState::waits`], for the last byte of a message whose beginning was forwarded: it cannot wait for
    /// answers that the target was not asked for.
    fn must_wait(&mut self, tag: u8) -> bool {
        self.extended.waits(tag) && (self.extended.pace == ForwardingPace::Still || !self.extended.unflushed)
    }

    /// Returns the conditions under which a text sent now is analysed.
    fn manner(&self, text: &[u8]) -> ReadingManner {
        ReadingManner {
            settings: self.settings.of(text),
            settled: self.settings.are_settled(),
            wary: self.wary,
        }
    }

    /// Returns the refusal of the current message by the guard rails, if they refuse it.
    fn refusal(&mut self) -> Option<Arc<StatementRefusal>> {
        self.guard.as_mut().and_then(SessionFilter::refusal)
    }

    /// Gives a statement its number. It `counts` if it is executed; even if it is not, its error ends a transaction.
    fn number(&mut self, counts: bool) -> u64 {
        self.complete_intents();
        self.numbers.last += 1;
        self.count(counts);
        self.settings.sent(self.numbers.last);
        self.numbers.last
    }

    fn count(&mut self, counts: bool) {
        self.totals.statements += u64::from(counts);
        self.unwritten += u64::from(counts);
    }

    /// Records the Parse whose Execute did not come next. To be called before [`StatementRecorder::intents`] are written.
    pub(super) fn complete_intents(&mut self) {
        if let Some(parsed) = self.parsed.take() {
            self.push_parse((parsed.number, parsed.time), &parsed.name, &parsed.prepared.read);
        }
    }

    fn push_parse(&mut self, (number, time): (u64, Timestamp), name: &[u8], read: &ReadText<'_>) {
        let intent = of_parse(&self.who, number, (name, self.settings.encoding()), read);
        self.intents.push(time, &Event::Statement(intent));
    }

    fn query(&mut self, body: &[u8], now: Moment) {
        let text = Fields::of(body).text_or_rest();
        let manner = self.manner(text);
        let read = statement::read(text, self.follow_text.take(), &self.keep, manner);
        self.wary |= read.secrets != SecretParameters::NONE;
        let refused = self.refusal();
        if refused.is_none() {
            self.extended.names_may_change(read.words);
        }
        let number = self.number(refused.is_none());
        self.sent.note(&read.sql.text.0);
        let intent = Statement {
            sql: Some(read.sql),
            opaque: read.opaque,
            ..blank(&self.who, number, StatementKind::Query)
        };
        self.intents.push(now.time, &Event::Statement(intent));
        if self.runs(number, now) {
            let deallocates = statement::deallocated(text).filter(|_| refused.is_none());
            let kind = PendingKind::Query { deallocates };
            self.extended.send(now.instant, Some(number), refused, kind);
        }
    }

    fn parse(&mut self, body: &[u8], now: Moment) -> Result<(), Ending> {
        let (follow, over_limit, refused) = (self.follow_text.take(), self.over_limit.take(), self.refusal());
        let Some(parse) = Parse::of(body) else {
            return self.unreadable(body, StatementKind::Parse, now);
        };
        let manner = self.manner(parse.text);
        let read = match self.extended.statement(&[]) {
            // Most clients have the same text parsed again and again.
            NameLookup::Known(before) if follow.is_none() && before.read.is_of(parse.text, manner) => Arc::clone(&before.read),
            _ => Arc::new(statement::read(parse.text, follow, &self.keep, manner).into_owned()),
        };
        // The statement is not executed yet.
        let number = self.number(false);
        self.wary |= read.secrets != SecretParameters::NONE;
        let runs = self.runs(number, now);
        if !runs || over_limit.is_some() {
            // No Execute can be of it.
            self.push_parse((number, now.time), parse.name, &read);
            if runs {
                self.extended
                    .send(now.instant, Some(number), over_limit, PendingKind::OverLimit);
            }
            return Ok(());
        }
        let prepared = PreparedStatement::new(read, self.extended.renamed, parse.types, &self.extended.quota);
        let prepared = Arc::new(prepared);
        self.parsed = Some(Box::new(ParseIntent {
            number,
            time: now.time,
            name: parse.name.into(),
            prepared: Arc::clone(&prepared),
        }));
        let name = server_name(parse.name).into();
        self.extended
            .send(now.instant, Some(number), refused, PendingKind::Parse { name, prepared });
        Ok(())
    }

    /// Notes a message whose names cannot be read: the server refuses it too, unless it only exceeds the length that is read.
    fn unreadable(&mut self, body: &[u8], kind: StatementKind, now: Moment) -> Result<(), Ending> {
        if body.len() >= MAX_BIND_BYTES {
            return Err(Ending::Malformed {
                what: "a name of more than a megabyte",
            });
        }
        if !self.extended.skipping {
            self.extended.send(now.instant, None, None, PendingKind::Malformed(kind));
        }
        Ok(())
    }

    fn bind(&mut self, body: &[u8], now: Moment) -> Result<MessageFlow, Ending> {
        let over_limit = self.over_limit.take();
        let Some(bind) = Bind::of(body) else {
            return self.unreadable(body, StatementKind::Bind, now).map(|()| MessageFlow::Go);
        };
        if self.extended.skipping {
            return Ok(MessageFlow::Go);
        }
        if over_limit.is_some() {
            self.extended.send(now.instant, None, over_limit, PendingKind::OverLimit);
            return Ok(MessageFlow::Go);
        }
        let prepared = match self.extended.statement(server_name(bind.statement)) {
            NameLookup::Wait => return Ok(self.hold(b'B', body)),
            NameLookup::Known(prepared) => Some(prepared),
            NameLookup::Unknown => None,
        };
        let kept = (&self.keep, self.settings.encoding());
        let (parameters, parameter_count) = match &bind.values {
            Some(values) => statement::list(values, self.follow_values.take().as_ref(), prepared.as_deref(), kept),
            None => (Vec::new(), None),
        };
        // SQL cannot rename the unnamed statement.
        let uncertain = prepared
            .as_ref()
            .is_some_and(|p| !bind.statement.is_empty() && p.renamed != self.extended.renamed);
        let portal = Portal {
            name: server_name(bind.statement).into(),
            prepared,
            uncertain: uncertain.into(),
            _weight: EntryWeight::new(&self.extended.quota, statement::size(&parameters)),
            parameters,
            parameter_count,
            executed: false.into(),
            rows_sent: 0.into(),
        };
        let kind = PendingKind::Bind {
            name: server_name(bind.portal).into(),
            portal: Arc::new(portal),
        };
        self.extended.send(now.instant, None, None, kind);
        Ok(MessageFlow::Go)
    }

    fn execute(&mut self, body: &[u8], now: Moment) -> MessageFlow {
        let name = Fields::of(body).text_or_rest();
        let portal = match self.extended.portal(server_name(name)) {
            NameLookup::Wait if !self.extended.skipping => return self.hold(b'E', body),
            NameLookup::Known(portal) => Some(portal),
            NameLookup::Unknown | NameLookup::Wait => None,
        };
        let parsed = self
            .parsed
            .take_if(|parsed| portal.as_deref().is_some_and(|portal| parsed.is_in(portal)));
        let number = match &parsed {
            Some(parsed) => {
                self.count(true);
                parsed.number
            }
            None => self.number(true),
        };
        let mut intent = Statement {
            with_parse: parsed.is_some(),
            portal: Some(OutsideText::of_encoded(name, self.settings.encoding())),
            ..blank(&self.who, number, StatementKind::Execute)
        };
        if let Some(portal) = portal.as_deref() {
            of_portal(&mut intent, portal, self.settings.encoding());
            intent.continued = portal.executed.load(Ordering::Relaxed);
        }
        self.sent.note(intent.sql.as_ref().map_or("", |sql| &*sql.text.0));
        self.intents.push(now.time, &Event::Statement(intent));
        if let Some(prepared) = portal.as_deref().and_then(|portal| portal.prepared.as_ref()) {
            self.extended.names_may_change(prepared.read.words);
        }
        if self.runs(number, now) {
            if let Some(portal) = &portal {
                // A pipelined Execute continues where this one stops; the answer shows whether the portal is finished.
                portal.executed.store(true, Ordering::Relaxed);
            }
            self.extended
                .send(now.instant, Some(number), None, PendingKind::Execute(portal));
        }
        MessageFlow::Go
    }

    fn call(&mut self, body: &[u8], now: Moment) {
        let mut fields = Fields::of(body);
        let function = fields.int32();
        let kept = (&self.keep, self.settings.encoding());
        let (parameters, parameter_count) = match WireValues::of(fields) {
            Some(values) => statement::list(&values, self.follow_values.take().as_ref(), None, kept),
            None => (Vec::new(), None),
        };
        let refused = self.refusal();
        let number = self.number(refused.is_none());
        self.sent.note("");
        let intent = Statement {
            parameters: parameters.into(),
            parameter_count,
            function,
            ..blank(&self.who, number, StatementKind::FunctionCall)
        };
        self.intents.push(now.time, &Event::Statement(intent));
        if self.runs(number, now) {
            self.extended.send(now.instant, Some(number), refused, PendingKind::Call);
        }
    }

    fn describe_or_close(&mut self, tag: u8, body: &[u8], now: Moment) {
        let kind = match (tag, NamedObject::of(body)) {
            (b'D', None) => PendingKind::Malformed(StatementKind::Describe),
            (_, None) => PendingKind::Malformed(StatementKind::Close),
            (b'D', Some(subject)) => {
                let prepared = match self.extended.statement(&subject.name) {
                    NameLookup::Known(prepared) if !subject.portal => Some(prepared),
                    _ => None,
                };
                PendingKind::Describe(subject, prepared)
            }
            (_, Some(subject)) => PendingKind::Close(subject),
        };
        self.extended.send(now.instant, None, None, kind);
    }

    /// Notes that the journal has taken all of [`StatementRecorder::intents`]: their outcomes may be recorded.
    pub(super) fn written(&mut self) {
        self.numbers.written = self.numbers.last;
        self.numbers.failed.clear();
        self.unwritten = 0;
        for (number, now) in std::mem::take(&mut self.skipped) {
            self.skip(number, now);
        }
    }

    /// Notes that the journal has taken all of [`StatementRecorder::intents`], but too late to forward them: none of them runs.
    pub(super) fn not_forwarded(&mut self, now: Moment) {
        self.skipped.clear();
        for number in self.numbers.written + 1..=self.numbers.last {
            if !self.numbers.failed.contains(&number) {
                self.skip(number, now);
            }
        }
    }

    fn skip(&mut self, number: u64, now: Moment) {
        let outcome = StatementOutcome {
            result: StatementResult::Skipped,
            ..no_outcome(&self.who, number)
        };
        self.outcomes.push(now.time, &Event::Outcome(outcome));
    }

    /// Returns false if the target is known to drop the message; its outcome then follows its intent.
    fn runs(&mut self, number: u64, now: Moment) -> bool {
        if !self.extended.skipping {
            return true;
        }
        self.skipped.push((number, now));
        false
    }
}

#[cfg(test)]
mod tests;
