//! State of the extended query protocol in one session: prepared statements, portals and unanswered messages (protocol: "Extended
//! Query").
//!
//! It depends only on facts about messages and on times passed as arguments; it writes no record and uses no socket.
//!
//! INVARIANT: a name resolves to a text only if the server would resolve it to the same one. A definition counts from the
//! server's ParseComplete or BindComplete. Before that it counts only within its own Sync group, because the server skips the
//! rest of the group if it fails. A name that depends on an unfinished earlier group is answered with [`NameLookup::Wait`].

mod answer;
mod flight;
mod limits;
mod lookup;
mod names;
mod pending;
mod settling;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use answer::AnswerState;
pub(super) use answer::{FailingMessage, SettledStatement};
use flight::InFlightCount;
use names::StatementNames;
use pending::{PendingMessage, settle};
pub(super) use work::RolledBackRange;
use work::TransactionWork;

use super::pace::ForwardingPace;
use super::statement::{MemoryUse, Portal, PreparedStatement};
use crate::access::quota::Quota;
use crate::audit::event::{StatementKind, StatementResult};
use crate::gate::sql_filter::StatementRefusal;
use crate::protocol::wire::backend::{self, TransactionState};

/// Maximum number of unanswered messages of one session; at this number the gate stops reading from the client. Each answer has
/// at least five bytes and the server's output buffer has 8 KiB (`PQ_SEND_BUFFER_SIZE`, libpq/pqcomm.c), so by then the server
/// must have sent some answers.
const MAX_PENDING_MESSAGES: usize = 4096;

/// Result of resolving a name.
#[derive(Debug)]
pub(super) enum NameLookup<T> {
    /// The name stands for this.
    Known(Arc<T>),
    /// The name stands for nothing that the gate has seen.
    Unknown,
    /// The result depends on messages that the server has not answered yet.
    Wait,
}

/// Knowledge of the server's state after a COPY from the client failed in the extended protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AfterCopy {
    /// The state is known.
    #[default]
    Known,
    /// Only a Sync may come next; then it makes no difference whether it is the first or the second that the server reads.
    SyncFirst,
    /// More was forwarded, and it is unknown which part of that the server skipped.
    Lost,
}

/// State of the extended query protocol in one session.
#[derive(Debug, Default)]
pub(super) struct ExtendedQueryState {
    statements: StatementNames<PreparedStatement>,
    portals: StatementNames<Portal>,
    pending: VecDeque<PendingMessage>,
    /// Messages in `pending` that the guard rails refuse, by the number of their statement: they are certain to fail.
    refused: VecDeque<(u64, Arc<StatementRefusal>)>,
    /// Messages that deallocate a prepared statement, by the number of their statement.
    deallocating: VecDeque<(u64, Box<[u8]>)>,
    held: MemoryUse,
    /// Messages in `pending` that execute something.
    flight: InFlightCount,
    answer: AnswerState,
    /// True if the server drops everything until the next Sync, which the client has not sent yet.
    skipping: bool,
    /// True during a COPY from the client that the client has not ended: Sync and Flush are part of it.
    copying_in: bool,
    /// True if the server reads COPY data, according to its last answer.
    in_copy: bool,
    /// State after a failed COPY: the server skips to the next Sync or is ready, depending on which Syncs it took as part of the
    /// COPY.
    after_copy: AfterCopy,
    copy_in_bytes: u64,
    transaction: TransactionState,
    settled: u64,
    /// Last settled statement, if the transaction status changed after it and no statement's record has the new status.
    changed: Option<u64>,
    /// Work done in the current transaction.
    work: TransactionWork,
    /// Number of times that SQL may have reassigned names; texts parsed before are uncertain.
    renamed: u64,
}

// Messages from the client.
impl ExtendedQueryState {
    /// Returns true if the gate must stop reading from the client.
    pub(super) fn full(&self) -> bool {
        self.pending.len() >= MAX_PENDING_MESSAGES
    }

    /// Returns true if a message of this type must wait until the server has answered the earlier ones.
    pub(super) fn waits(&mut self, tag: u8, pace: ForwardingPace) -> bool {
        match pace {
            ForwardingPace::Pipelined => matches!(tag, b'Q' | b'E' | b'F') && self.flight.is_full(),
            // A Sync ends a transaction, so it counts as work too.
            ForwardingPace::OneByOne => {
                matches!(tag, b'Q' | b'E' | b'F' | b'P' | b'B' | b'D' | b'C')
                    && (self.flight.statements() > 0
                        || self
                            .pending
                            .iter()
                            .any(|pending| matches!(pending, PendingMessage::Sync { perhaps: false })))
            }
            ForwardingPace::Still => !matches!(tag, b'd' | b'X'),
        }
    }

    /// Returns true if the server must be asked to send answers (protocol: Flush) before anything may wait for them.
    pub(super) fn unflushed(&self) -> bool {
        self.flight.unflushed
    }

    /// Returns true if the next message will wait for the answer to the last one, and nothing makes the server send that answer.
    pub(super) fn needs_flush(&self, pace: ForwardingPace) -> bool {
        self.flight.needs_flush(pace)
    }

    /// Notes that a Flush goes to the server: the client's, or one of the gate's own.
    pub(super) fn flush(&mut self) {
        self.flight.unflushed = false;
    }

    /// Returns true if more than one statement is at the server: it continues with the next when one is stopped.
    pub(super) fn pipelined(&self) -> bool {
        self.flight.statements() > 1
    }

    /// Returns the number of the first statement without an answer.
    pub(super) fn unanswered(&self) -> Option<u64> {
        self.pending.iter().find_map(PendingMessage::statement)
    }

    /// Counts the bytes held together with those of the identity's other sessions; it must be called before anything is held.
    pub(super) fn share(&mut self, quota: Arc<Quota>) {
        self.held = MemoryUse::sharing(quota);
    }

    /// Notes that the text of this statement, just taken, deallocates a prepared statement.
    pub(super) fn deallocates(&mut self, statement: u64, name: Box<[u8]>) {
        self.deallocating.push_back((statement, name));
    }

    /// Returns the counter of held bytes, which every [`PreparedStatement`] and [`Portal`] is added to.
    pub(super) fn held(&self) -> &MemoryUse {
        &self.held
    }

    /// Returns true if the server is known to drop all messages up to the next Sync.
    pub(super) fn skipping(&self) -> bool {
        self.skipping
    }

    /// Notes that SQL text with words like `DEALLOCATE`, `PREPARE` or `DISCARD` is on its way, which share the protocol's name
    /// space: names parsed until now may be reassigned to other texts.
    pub(super) fn names_may_change(&mut self) {
        self.renamed += 1;
    }

    /// Returns true if there are named portals, or if one is about to be created.
    pub(super) fn has_named_portals(&self) -> bool {
        let coming = |pending: &PendingMessage| matches!(pending, PendingMessage::Bind { name, .. } if !name.is_empty());
        self.portals.named().next().is_some() || self.pending.iter().any(coming)
    }

    /// Notes that SQL text is on its way that may replace a portal by a cursor.
    pub(super) fn portals_may_change(&mut self) {
        let coming = self.pending.iter().filter_map(|pending| match pending {
            PendingMessage::Bind { name, portal, .. } if !name.is_empty() => Some(portal),
            _ => None,
        });
        for portal in self.portals.named().chain(coming) {
            portal.uncertain.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the number of times that names may have changed; a [`PreparedStatement`] stores the number at its Parse.
    pub(super) fn renamed(&self) -> u64 {
        self.renamed
    }

    pub(super) fn query(&mut self, statement: u64, since: Instant) {
        self.flight.begin(false);
        self.pending.push_back(PendingMessage::Query { statement, since });
    }

    pub(super) fn call(&mut self, statement: u64, since: Instant) {
        self.flight.begin(false);
        self.pending.push_back(PendingMessage::Call { statement, since });
    }

    pub(super) fn parse(&mut self, statement: u64, since: Instant, name: &[u8], prepared: Arc<PreparedStatement>) {
        self.pending.push_back(PendingMessage::Parse {
            statement,
            since,
            name: name.into(),
            prepared,
        });
    }

    pub(super) fn bind(&mut self, since: Instant, name: &[u8], portal: Arc<Portal>) {
        self.pending.push_back(PendingMessage::Bind {
            since,
            name: name.into(),
            portal,
        });
    }

    pub(super) fn execute(&mut self, statement: u64, since: Instant, portal: Option<Arc<Portal>>) {
        self.flight.begin(true);
        self.pending.push_back(PendingMessage::Execute {
            statement,
            since,
            portal,
        });
    }

    pub(super) fn describe(&mut self, since: Instant, (portal, name): (bool, &[u8]), prepared: Option<Arc<PreparedStatement>>) {
        self.pending.push_back(PendingMessage::Describe {
            since,
            portal,
            name: name.into(),
            prepared,
        });
    }

    pub(super) fn close(&mut self, since: Instant, (portal, name): (bool, &[u8])) {
        let name = name.into();
        self.pending.push_back(if portal {
            PendingMessage::ClosePortal { since, name }
        } else {
            PendingMessage::CloseStatement { since, name }
        });
    }

    pub(super) fn sync(&mut self) {
        let perhaps = self.copying_in;
        self.flight.unflushed = false;
        if perhaps {
            // During a COPY from the client the server ignores Sync (protocol: "COPY Operations"), but the COPY may have failed
            // before the server reads this one. Several of them count as one: an extra ReadyForQuery is ignored.
            if matches!(self.pending.back(), Some(PendingMessage::Sync { perhaps: true })) {
                return;
            }
        } else {
            self.skipping = false;
            if self.after_copy == AfterCopy::SyncFirst {
                self.after_copy = AfterCopy::Known;
            }
        }
        self.pending.push_back(PendingMessage::Sync { perhaps });
    }

    /// Returns true if a message is not allowed now. If the server reads COPY data, it is an error that ends the session
    /// (`CopyGetData`, commands/copyfromparse.c), and after a failed COPY it would be unknown whether the server skipped it.
    pub(super) fn out_of_place(&self, tag: u8) -> bool {
        match self.after_copy {
            AfterCopy::Lost => tag != b'X',
            AfterCopy::SyncFirst => !matches!(tag, b'S' | b'H' | b'c' | b'f' | b'X'),
            AfterCopy::Known => self.copying_in && !matches!(tag, b'S' | b'H' | b'c' | b'f' | b'X'),
        }
    }

    /// Notes that the message of this statement, just taken, is refused: the server gets it in a form that must fail.
    pub(super) fn refuse(&mut self, statement: u64, refused: Arc<StatementRefusal>) {
        self.refused.push_back((statement, refused));
    }

    /// Notes that a Parse, with its statement's number, or a Bind is refused by a limit.
    pub(super) fn refuse_at_limit(&mut self, statement: Option<u64>, since: Instant, refused: Arc<StatementRefusal>) {
        self.pending.push_back(PendingMessage::Refused {
            statement,
            since,
            refused,
        });
    }

    /// Notes a message that the server is certain to refuse.
    pub(super) fn malformed(&mut self, since: Instant, kind: StatementKind) {
        self.pending.push_back(PendingMessage::Malformed { since, kind });
    }

    pub(super) fn copy_data(&mut self, bytes: u64) {
        self.copy_in_bytes += bytes;
    }

    pub(super) fn copy_end(&mut self) {
        if self.copying_in {
            self.copying_in = false;
        } else if !self.pending.is_empty() {
            self.pending.push_back(PendingMessage::CopyEnd);
        }
        // A Flush sent before was part of the COPY.
        self.flight.unflushed = self
            .pending
            .iter()
            .any(|pending| matches!(pending, PendingMessage::Execute { .. }));
    }
}

// Answers of the server.
impl ExtendedQueryState {
    /// Counts bytes of an answer; calls `now` at the first.
    pub(super) fn answered(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        self.answer.bytes += bytes;
        self.answer.first.get_or_insert_with(now);
    }

    /// Counts a row sent to the client if it is `whole`.
    pub(super) fn row(&mut self, whole: bool) {
        self.answer.rows_sent += u64::from(whole);
    }

    /// Counts COPY data to the client; a message is a row if it is `whole`.
    pub(super) fn copied_out(&mut self, bytes: u64, whole: bool) {
        *self.answer.copy_out.get_or_insert(0) += bytes;
        self.answer.rows_copied += u64::from(whole);
    }

    /// Subtracts rows, or messages of a COPY, that were counted but not sent to the client.
    pub(super) fn not_sent(&mut self, rows: u64) {
        let answer = &mut self.answer;
        let counted = if answer.rows_copied > 0 {
            &mut answer.rows_copied
        } else {
            &mut answer.rows_sent
        };
        *counted = counted.saturating_sub(rows);
    }

    /// Returns true if the server is answering a Query, which ends with its ReadyForQuery and not with each command.
    pub(super) fn answers_query(&self) -> bool {
        matches!(self.pending.front(), Some(PendingMessage::Query { .. }))
    }

    /// Returns the refusal that the next error belongs to.
    pub(super) fn refusal(&self) -> Option<&Arc<StatementRefusal>> {
        let head = self.pending.iter().find(|pending| !pending.has_no_answer())?;
        let refused = if let PendingMessage::Refused { refused, .. } = head {
            refused
        } else {
            let (statement, refused) = self.refused.front()?;
            (head.statement() == Some(*statement)).then_some(refused)?
        };
        self.answer.error.is_none().then_some(refused)
    }

    /// Processes one answer message, whose body is complete as far as it matters, and passes each statement it settles to
    /// `settled`. Returns the refusal that replaces an error for the client.
    pub(super) fn answer(
        &mut self,
        tag: u8,
        body: &[u8],
        mut settled: impl FnMut(SettledStatement),
    ) -> Option<Arc<StatementRefusal>> {
        // These messages get no (further) answer: the answer belongs to the next message.
        if tag != b'Z' {
            self.pass_over();
            self.answer.begun = true;
        }
        match tag {
            b'1' | b'2' | b'3' => self.defined(),
            b'C' => self.command_complete(backend::command_tag(body), settled),
            b'I' => self.finish_execute(StatementResult::Completed, &mut settled),
            b's' => self.finish_execute(StatementResult::Suspended, &mut settled),
            b't' => self.described(Some(backend::parameter_types(body))),
            b'T' | b'n' => self.described(None),
            b'G' | b'W' => self.copy_in_begins(),
            b'H' => self.answer.copy_out = Some(0),
            b'E' => return self.error(backend::error_code(body), settled),
            b'Z' => self.ready(TransactionState::of(body), settled),
            _ => {}
        }
        None
    }

    /// Returns the transaction status of the last ReadyForQuery.
    pub(super) fn transaction(&self) -> TransactionState {
        self.transaction
    }

    /// Returns the statement described at [`ExtendedQueryState::changed`], once.
    pub(super) fn transaction_changed(&mut self) -> Option<u64> {
        self.changed.take()
    }

    /// Returns the statements that were recorded as done and then undone because the end of the transaction failed; once.
    pub(super) fn undone(&mut self) -> Option<RolledBackRange> {
        self.work.undone()
    }

    /// Returns true if the server still owes answers to messages that execute something.
    pub(super) fn executing(&self) -> bool {
        self.pending.iter().any(|pending| !pending.has_no_answer())
    }

    /// Returns true if an error has arrived that belongs to the current transaction.
    pub(super) fn failed(&self) -> bool {
        self.answer.error.is_some() || self.skipping
    }

    /// Settles the remaining messages at the end of the session.
    pub(super) fn abandon(&mut self, mut settled: impl FnMut(SettledStatement)) {
        loop {
            if let Some(rule) = self.refusal().map(|refused| refused.rule) {
                // The server cannot have executed it, with or without time to report the error.
                self.answer.refused(rule);
            }
            let Some(head) = self.take_head() else { break };
            self.forget_refusals(head.statement().unwrap_or_default());
            let done = if self.answer.error.is_some() {
                StatementResult::Failed
            } else {
                StatementResult::Unknown
            };
            let answer = std::mem::take(&mut self.answer);
            let failing = self.failing(&head, done);
            if let Some(record) = settle(&head, done, failing, answer, &mut self.copy_in_bytes) {
                settled(record);
            }
        }
    }

    /// Removes messages without an answer of their own from the head.
    fn pass_over(&mut self) {
        while self.pending.pop_front_if(|pending| pending.has_no_answer()).is_some() {}
        if self.pending.is_empty() && !self.copying_in {
            // COPY data outside any COPY: the server ignores it.
            self.copy_in_bytes = 0;
        }
    }

    fn settle_head(&mut self, done: StatementResult, settled: &mut impl FnMut(SettledStatement)) {
        let answer = std::mem::take(&mut self.answer);
        let committed = answer.committed;
        let Some(head) = self.take_head() else { return };
        self.forget_refusals(head.statement().unwrap_or_default());
        let failing = self.failing(&head, done);
        if let Some(record) = settle(&head, done, failing, answer, &mut self.copy_in_bytes) {
            if record.failing.is_none() {
                self.settled = record.statement;
            }
            self.work.settled(record.statement, record.done, committed);
            settled(record);
        }
    }

    fn take_head(&mut self) -> Option<PendingMessage> {
        let head = self.pending.pop_front()?;
        if head.executes() {
            self.flight.end();
        }
        Some(head)
    }

    /// Removes the refusal and the deallocation of statements that are answered or skipped.
    fn forget_refusals(&mut self, answered: u64) {
        while self.refused.pop_front_if(|(statement, _)| *statement <= answered).is_some() {}
        while self
            .deallocating
            .pop_front_if(|(statement, _)| *statement <= answered)
            .is_some()
        {}
    }
}

#[cfg(test)]
mod tests;
