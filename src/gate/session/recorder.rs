//! Statement recorder for both directions of a session: it records an intent before each statement, an outcome after it.
//!
//! It changes and forwards no bytes: it decides whether a message may be forwarded, and whether unchanged. [`super::extended_query`]
//! determines the meaning of names, [`super::statement`] the recorded parts of a statement.
//!
//! INVARIANT: when [`StatementRecorder::client`] returns [`MessageFlow::Go`] for the last piece of a message that executes something, its intent is in
//! [`StatementRecorder::intents`]; the relay holds that last byte back until the log has it.

mod answers;
mod asked;
mod follow;
mod named;
mod records;
mod refusing;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::extended_query::{ExtendedQueryState, NameLookup};
use named::{as_the_server_does, portal_or_statement};
pub(super) use records::TargetLastWord;
use records::{blank, no_outcome, of_portal};

use super::filter::SessionFilter;
use super::lexer_settings::TrackedSettings;
use super::masked::MaskedTables;
use super::pace::ForwardingPace;
use super::statement::{self, Portal, PreparedStatement, RecordLimits, TextFollower, ValuesFollower};
use crate::access::quota::Quota;
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
    /// Its last byte must wait until the target has answered the earlier messages; then call [`StatementRecorder::held`].
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
    extended: ExtendedQueryState,
    /// Pace that the remaining time allows.
    pub(super) pace: ForwardingPace,
    /// Guard rails of the profile, if it has any.
    pub(super) guard: Option<SessionFilter>,
    /// Tables that its profile sees through masks, if there are any.
    pub(super) masked: Option<Arc<MaskedTables>>,
    /// Settings under which the target reads texts.
    pub(super) settings: TrackedSettings,
    /// Number of the last statement.
    number: u64,
    /// Last number whose intent the journal has taken.
    written: u64,
    /// Number of statements after `written` that `totals.statements` includes.
    unwritten: u64,
    /// Statements after `written` that the target drops.
    skipped: Vec<(u64, Moment)>,
    /// Numbers after `written` of messages that failed: they got their number when they failed.
    failed: Vec<u64>,
    from_client: BodyBuffer,
    from_target: BodyBuffer,
    follow: Option<TextFollower>,
    follow_values: Option<ValuesFollower>,
    /// True if a text with secret parameters has come: an SQL `EXECUTE` may have the secrets.
    wary: bool,
    /// Refusal of the current message by a limit.
    over_limit: Option<Arc<StatementRefusal>>,
    /// Message whose last byte waits: its type and body.
    held: Option<(u8, Vec<u8>)>,
    /// Intents to be written before anything is forwarded.
    pub(super) intents: RecordBatch,
    /// Outcomes to be written soon.
    pub(super) outcomes: RecordBatch,
    pub(super) totals: SessionTotals,
    /// Message by which the target announced the end of the session, if it was its last one.
    pub(super) last_word: Option<TargetLastWord>,
    /// Set when the session is told to stop while a statement runs; true once that statement has completed.
    finished_since_stop: Option<bool>,
}

impl StatementRecorder {
    pub(super) fn new(who: Arc<Who>, keep: RecordLimits, clock: Clock) -> Self {
        Self {
            who,
            keep,
            clock,
            extended: ExtendedQueryState::default(),
            pace: ForwardingPace::default(),
            guard: None,
            masked: None,
            settings: TrackedSettings::new(),
            number: 0,
            written: 0,
            unwritten: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
            from_client: BodyBuffer::default(),
            from_target: BodyBuffer::default(),
            follow: None,
            follow_values: None,
            wary: false,
            over_limit: None,
            held: None,
            intents: RecordBatch::new(),
            outcomes: RecordBatch::new(),
            totals: SessionTotals::default(),
            last_word: None,
            finished_since_stop: None,
        }
    }
}

// Messages from the client.
impl StatementRecorder {
    /// Counts the bytes held together with those of the identity's other sessions.
    pub(super) fn share(&mut self, quota: &Arc<Quota>) {
        self.extended.share(Arc::clone(quota));
    }

    /// Returns true if a message of this type must wait as a whole until the target has answered the earlier ones.
    pub(super) fn waits(&mut self, tag: u8) -> bool {
        self.extended.waits(tag, self.pace)
    }

    /// Returns true if the target must be asked for its answers before anything can wait for them.
    pub(super) fn unflushed(&self) -> bool {
        self.extended.unflushed()
    }

    /// Returns true if the target must be asked directly after the message just taken.
    pub(super) fn needs_flush(&self) -> bool {
        self.extended.needs_flush(self.pace)
    }

    /// Notes that a Flush of the gate's own is on its way.
    pub(super) fn flush(&mut self) {
        self.extended.flush();
    }

    /// Returns true if the target would continue with another statement when the current one is stopped.
    pub(super) fn pipelined(&self) -> bool {
        self.extended.pipelined()
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
        self.follow_text(piece);
        self.follow_values(piece, bound);
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

    /// Tries a held message again.
    ///
    /// # Errors
    /// The same as those of [`StatementRecorder::client`].
    pub(super) fn held(&mut self, now: Moment) -> Result<MessageFlow, Ending> {
        match self.held.take() {
            Some((tag, body)) if self.must_wait(tag) => {
                self.held = Some((tag, body));
                Ok(MessageFlow::Hold)
            }
            Some((tag, body)) => self.message(tag, &body, now),
            None => Ok(MessageFlow::Go),
        }
    }

    fn message(&mut self, tag: u8, body: &[u8], now: Moment) -> Result<MessageFlow, Ending> {
        if self.extended.full() {
            self.held = Some((tag, body.to_vec()));
            return Ok(MessageFlow::Hold);
        }
        if self.extended.out_of_place(tag) {
            return Err(Ending::Malformed {
                what: "a message that does not belong into COPY, or not between a failed COPY and its Sync",
            });
        }
        if self.must_wait(tag) {
            self.held = Some((tag, body.to_vec()));
            return Ok(MessageFlow::Hold);
        }
        match tag {
            b'Q' => self.query(body, now),
            b'P' => self.parse(body, now)?,
            b'B' => return self.bind(body, now),
            b'E' => return Ok(self.execute(body, now)),
            b'F' => self.call(body, now),
            b'D' => self.describe(body, now),
            b'C' if !self.extended.skipping() => match portal_or_statement(body) {
                Some(subject) => self.extended.close(now.instant, subject),
                None => self.extended.malformed(now.instant, StatementKind::Close),
            },
            // PostgreSQL's error for these would be answered out of step with the Syncs around it.
            b'S' | b'H' if !body.is_empty() => {
                return Err(Ending::Malformed {
                    what: "a Sync or Flush with content",
                });
            }
            b'S' => self.extended.sync(),
            b'c' | b'f' => self.extended.copy_end(),
            b'X' => return Ok(MessageFlow::Quit),
            b'H' => self.extended.flush(),
            _ => {}
        }
        Ok(MessageFlow::Go)
    }

    /// Decides as [`StatementRecorder::waits`], for the last byte of a message whose beginning was forwarded: it cannot wait for answers that
    /// the target was not asked for.
    fn must_wait(&mut self, tag: u8) -> bool {
        self.extended.waits(tag, self.pace) && (self.pace == ForwardingPace::Still || !self.extended.unflushed())
    }

    fn query(&mut self, body: &[u8], now: Moment) {
        let text = Fields::of(body).text_or_rest();
        let manner = self.manner(text);
        let read = statement::read(text, self.follow.take(), &self.keep, manner);
        self.wary |= read.secrets != SecretParameters::NONE;
        let refused = self.refusal();
        if read.words.renames && refused.is_none() {
            self.extended.names_may_change();
        }
        if (read.words.renames || read.words.reopens) && refused.is_none() && self.extended.has_named_portals() {
            self.extended.portals_may_change();
        }
        let number = self.next_number();
        if refused.is_none() {
            self.count();
        }
        // This includes a refused one: its error ends a transaction.
        self.settings.sent(number);
        let intent = Statement {
            sql: Some(read.sql),
            opaque: read.opaque,
            ..blank(&self.who, number, StatementKind::Query)
        };
        self.intents.push(now.time, &Event::Statement(intent));
        if self.runs(number, now) {
            self.extended.query(number, now.instant);
            if let Some(name) = statement::deallocated(text).filter(|_| refused.is_none()) {
                self.extended.deallocates(number, name);
            }
            self.refuse(number, refused);
        }
    }

    fn parse(&mut self, body: &[u8], now: Moment) -> Result<(), Ending> {
        let (follow, over_limit, refused) = (self.follow.take(), self.over_limit.take(), self.refusal());
        let Some(parse) = Parse::of(body) else {
            return self.unreadable(body, StatementKind::Parse, now);
        };
        let number = self.next_number();
        let manner = self.manner(parse.text);
        let read = statement::read(parse.text, follow, &self.keep, manner).into_owned();
        // The statement is not executed yet, but an error ends a transaction.
        self.settings.sent(number);
        self.wary |= read.secrets != SecretParameters::NONE;
        let intent = Statement {
            sql: Some(read.sql.borrowed()),
            opaque: read.opaque,
            prepared: Some(OutsideText::of_encoded(parse.name, self.settings.encoding())),
            ..blank(&self.who, number, StatementKind::Parse)
        };
        self.intents.push(now.time, &Event::Statement(intent));
        if !self.runs(number, now) {
            return Ok(());
        }
        if let Some(refused) = over_limit {
            self.extended.refuse_at_limit(Some(number), now.instant, refused);
        } else {
            let prepared = Arc::new(PreparedStatement::new(
                read,
                self.extended.renamed(),
                parse.types,
                self.extended.held(),
            ));
            self.extended
                .parse(number, now.instant, as_the_server_does(parse.name), prepared);
            self.refuse(number, refused);
        }
        Ok(())
    }

    /// Notes a message whose names cannot be read: the server refuses it too, unless it only exceeds the length that is read.
    fn unreadable(&mut self, body: &[u8], kind: StatementKind, now: Moment) -> Result<(), Ending> {
        if body.len() >= MAX_BIND_BYTES {
            return Err(Ending::Malformed {
                what: "a name of more than a megabyte",
            });
        }
        if !self.extended.skipping() {
            self.extended.malformed(now.instant, kind);
        }
        Ok(())
    }

    fn bind(&mut self, body: &[u8], now: Moment) -> Result<MessageFlow, Ending> {
        let over_limit = self.over_limit.take();
        let Some(bind) = Bind::of(body) else {
            return self.unreadable(body, StatementKind::Bind, now).map(|()| MessageFlow::Go);
        };
        if self.extended.skipping() {
            return Ok(MessageFlow::Go);
        }
        if let Some(refused) = over_limit {
            self.extended.refuse_at_limit(None, now.instant, refused);
            return Ok(MessageFlow::Go);
        }
        let prepared = match self.extended.statement(as_the_server_does(bind.statement)) {
            NameLookup::Wait => {
                self.held = Some((b'B', body.to_vec()));
                return Ok(MessageFlow::Hold);
            }
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
            .is_some_and(|p| !bind.statement.is_empty() && p.renamed != self.extended.renamed());
        let portal = Portal {
            name: as_the_server_does(bind.statement).into(),
            prepared,
            uncertain: uncertain.into(),
            _weight: self.extended.held().weigh(statement::size(&parameters)),
            parameters,
            parameter_count,
            executed: false.into(),
            rows_sent: 0.into(),
        };
        self.extended
            .bind(now.instant, as_the_server_does(bind.portal), Arc::new(portal));
        Ok(MessageFlow::Go)
    }

    fn execute(&mut self, body: &[u8], now: Moment) -> MessageFlow {
        let name = Fields::of(body).text_or_rest();
        let portal = match self.extended.portal(as_the_server_does(name)) {
            NameLookup::Wait if !self.extended.skipping() => {
                self.held = Some((b'E', body.to_vec()));
                return MessageFlow::Hold;
            }
            NameLookup::Known(portal) => Some(portal),
            NameLookup::Unknown | NameLookup::Wait => None,
        };
        let number = self.next_number();
        self.count();
        self.settings.sent(number);
        let mut intent = Statement {
            portal: Some(OutsideText::of_encoded(name, self.settings.encoding())),
            ..blank(&self.who, number, StatementKind::Execute)
        };
        if let Some(portal) = portal.as_deref() {
            of_portal(&mut intent, portal, self.settings.encoding());
            intent.continued = portal.executed.load(Ordering::Relaxed);
        }
        self.intents.push(now.time, &Event::Statement(intent));
        if let Some(prepared) = portal.as_deref().and_then(|portal| portal.prepared.as_ref()) {
            let words = prepared.read.words;
            if words.renames {
                self.extended.names_may_change();
            }
            // A text that the server itself assembles is not visible at all.
            if (words.renames || words.reopens) && self.extended.has_named_portals() {
                self.extended.portals_may_change();
            }
        }
        if self.runs(number, now) {
            if let Some(portal) = &portal {
                // A pipelined Execute continues where this one stops; the answer shows whether the portal is finished.
                portal.executed.store(true, Ordering::Relaxed);
                if let Some(name) = portal.prepared.as_ref().and_then(|prepared| prepared.deallocated()) {
                    self.extended.deallocates(number, name);
                }
            }
            self.extended.execute(number, now.instant, portal);
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
        let number = self.next_number();
        if refused.is_none() {
            self.count();
        }
        self.settings.sent(number);
        let intent = Statement {
            parameters,
            parameter_count,
            function,
            ..blank(&self.who, number, StatementKind::FunctionCall)
        };
        self.intents.push(now.time, &Event::Statement(intent));
        if self.runs(number, now) {
            self.extended.call(number, now.instant);
            self.refuse(number, refused);
        }
    }

    fn describe(&mut self, body: &[u8], now: Moment) {
        if self.extended.skipping() {
            return;
        }
        let Some((portal, name)) = portal_or_statement(body) else {
            return self.extended.malformed(now.instant, StatementKind::Describe);
        };
        let prepared = match self.extended.statement(name) {
            NameLookup::Known(prepared) if !portal => Some(prepared),
            _ => None,
        };
        self.extended.describe(now.instant, (portal, name), prepared);
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn count(&mut self) {
        self.totals.statements += 1;
        self.unwritten += 1;
    }

    /// Notes that the journal has taken all of [`StatementRecorder::intents`]: their outcomes may be recorded.
    pub(super) fn written(&mut self) {
        self.written = self.number;
        self.failed.clear();
        self.unwritten = 0;
        for (number, now) in self.skipped.drain(..) {
            let outcome = StatementOutcome {
                result: StatementResult::Skipped,
                ..no_outcome(&self.who, number)
            };
            self.outcomes.push(now.time, &Event::Outcome(outcome));
        }
    }

    /// Notes that the journal has taken all of [`StatementRecorder::intents`], but too late to forward them: none of them runs.
    pub(super) fn not_forwarded(&mut self, now: Moment) {
        self.skipped.clear();
        for number in (self.written + 1..=self.number).filter(|number| !self.failed.contains(number)) {
            let outcome = StatementOutcome {
                result: StatementResult::Skipped,
                ..no_outcome(&self.who, number)
            };
            self.outcomes.push(now.time, &Event::Outcome(outcome));
        }
    }

    /// Returns false if the target is known to drop the message; its outcome then follows its intent.
    fn runs(&mut self, number: u64, now: Moment) -> bool {
        if !self.extended.skipping() {
            return true;
        }
        self.skipped.push((number, now));
        false
    }
}

#[cfg(test)]
mod tests;
