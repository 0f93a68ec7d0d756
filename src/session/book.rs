//! Keeps account of one session's prepared statements, portals and unanswered messages (protocol: "Extended Query").
//!
//! It sees messages only as facts and time only as an argument; it writes no record and touches no socket.
//!
//! INVARIANT: a name resolves to a text only if the server would resolve it to the same one. A definition counts from the
//! server's ParseComplete or BindComplete; before that it counts only within its own Sync group, for if it fails the server
//! skips the rest of the group. A name that depends on an unfinished earlier group is answered with [`Lookup::Wait`].

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

use answer::Answer;
pub(super) use answer::{Failing, Settled};
use flight::Flight;
use names::Names;
use pending::{Pending, settle};
pub(super) use work::Undone;
use work::Work;

use super::pace::Pace;
use super::statement::{Held, Portal, Prepared};
use crate::audit::event::{Done, Kind};
use crate::quota::Quota;
use crate::rails::Refused;
use crate::wire::backend::{self, Transaction};

/// Unanswered messages of one session; beyond it the client is not read. Each answer has at least five bytes and the server's
/// output buffer 8 KiB (`PQ_SEND_BUFFER_SIZE`, libpq/pqcomm.c), so the server is bound to have answered some by then.
const MOST_PENDING: usize = 4096;

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Lookup<T> {
    /// This.
    Known(Arc<T>),
    /// Nothing the gate has seen.
    Unknown,
    /// It depends on messages the server has not answered yet.
    Wait,
}

/// What is known of the server after a COPY from the client failed in the extended protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AfterCopy {
    /// All there is to know.
    #[default]
    Known,
    /// Only a Sync may come next: it makes no difference whether it is the first the server sees or the second.
    SyncFirst,
    /// More has been forwarded, and nobody can say what of it was skipped.
    Lost,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Book {
    statements: Names<Prepared>,
    portals: Names<Portal>,
    pending: VecDeque<Pending>,
    /// The messages among them that the guard rails refuse, by the number of their statement: they are bound to fail.
    refused: VecDeque<(u64, Arc<Refused>)>,
    /// Those that give up a prepared statement, by the number of theirs.
    deallocating: VecDeque<(u64, Box<[u8]>)>,
    held: Held,
    /// Those of `pending` that execute something.
    flight: Flight,
    answer: Answer,
    /// The server drops everything until the next Sync, which the client has not sent yet.
    skipping: bool,
    /// A COPY from the client is going on, and the client has not ended it: Sync and Flush are part of it.
    copying_in: bool,
    /// The server reads COPY data, as far as it has said.
    in_copy: bool,
    /// A COPY failed, and whether the server skips to the next Sync or is ready depends on which Syncs it took as part of it.
    after_copy: AfterCopy,
    copy_in_bytes: u64,
    transaction: Transaction,
    settled: u64,
    /// After this statement (the last one `settled`) the transaction is another, and no statement's record says so.
    changed: Option<u64>,
    /// What has been done in it.
    work: Work,
    /// SQL may have given names away since; texts parsed before are uncertain.
    renamed: u64,
}

// What the client sent.
impl Book {
    /// Whether the client must wait before it is heard further.
    pub(super) fn full(&self) -> bool {
        self.pending.len() >= MOST_PENDING
    }

    /// Whether a message of this type has to wait until the server has answered what it has.
    pub(super) fn waits(&mut self, tag: u8, pace: Pace) -> bool {
        match pace {
            Pace::Pipelined => matches!(tag, b'Q' | b'E' | b'F') && self.flight.is_full(),
            // A Sync ends a transaction: that is work, too.
            Pace::OneByOne => {
                matches!(tag, b'Q' | b'E' | b'F' | b'P' | b'B' | b'D' | b'C')
                    && (self.flight.statements() > 0
                        || self
                            .pending
                            .iter()
                            .any(|pending| matches!(pending, Pending::Sync { perhaps: false })))
            }
            Pace::Still => !matches!(tag, b'd' | b'X'),
        }
    }

    /// Whether there are answers for which the server has to be asked (protocol: Flush) before somebody may wait for them.
    pub(super) fn unflushed(&self) -> bool {
        self.flight.unflushed
    }

    /// Whether what comes behind the message just taken will wait for its answer, and nothing makes the server send that.
    pub(super) fn needs_flush(&self, pace: Pace) -> bool {
        self.flight.needs_flush(pace)
    }

    /// A Flush goes to the server: the client's, or one of ours.
    pub(super) fn flush(&mut self) {
        self.flight.unflushed = false;
    }

    /// Whether more than one statement is at the server: it goes on to the next when one is stopped.
    pub(super) fn pipelined(&self) -> bool {
        self.flight.statements() > 1
    }

    /// The number of the first statement that is not answered.
    pub(super) fn unanswered(&self) -> Option<u64> {
        self.pending.iter().find_map(Pending::statement)
    }

    /// Counts what is held with what the identity's other sessions hold; to be said before anything is.
    pub(super) fn share(&mut self, quota: Arc<Quota>) {
        self.held = Held::sharing(quota);
    }

    /// The text of this statement, taken just now, gives up a prepared statement.
    pub(super) fn deallocates(&mut self, statement: u64, name: Box<[u8]>) {
        self.deallocating.push_back((statement, name));
    }

    /// Counts the bytes of what is held; every [`Prepared`] and [`Portal`] is weighed by it.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Whether the server is known to drop what comes, up to the next Sync.
    pub(super) fn skipping(&self) -> bool {
        self.skipping
    }

    /// SQL text that has the words is on its way: names parsed until now may be given to other texts (`DEALLOCATE`, `PREPARE`,
    /// `DISCARD` share the protocol's name space).
    pub(super) fn names_may_change(&mut self) {
        self.renamed += 1;
    }

    /// Whether there are portals, or will be, that have a name.
    pub(super) fn has_named_portals(&self) -> bool {
        let coming = |pending: &Pending| matches!(pending, Pending::Bind { name, .. } if !name.is_empty());
        self.portals.named().next().is_some() || self.pending.iter().any(coming)
    }

    /// SQL text is on its way that may put a cursor in the place of a portal.
    pub(super) fn portals_may_change(&mut self) {
        let coming = self.pending.iter().filter_map(|pending| match pending {
            Pending::Bind { name, portal, .. } if !name.is_empty() => Some(portal),
            _ => None,
        });
        for portal in self.portals.named().chain(coming) {
            portal.uncertain.store(true, Ordering::Relaxed);
        }
    }

    /// How often names may have changed; a [`Prepared`] remembers the count at its Parse.
    pub(super) fn renamed(&self) -> u64 {
        self.renamed
    }

    pub(super) fn query(&mut self, statement: u64, since: Instant) {
        self.flight.begin(false);
        self.pending.push_back(Pending::Query { statement, since });
    }

    pub(super) fn call(&mut self, statement: u64, since: Instant) {
        self.flight.begin(false);
        self.pending.push_back(Pending::Call { statement, since });
    }

    pub(super) fn parse(&mut self, statement: u64, since: Instant, name: &[u8], prepared: Arc<Prepared>) {
        self.pending.push_back(Pending::Parse {
            statement,
            since,
            name: name.into(),
            prepared,
        });
    }

    pub(super) fn bind(&mut self, since: Instant, name: &[u8], portal: Arc<Portal>) {
        self.pending.push_back(Pending::Bind {
            since,
            name: name.into(),
            portal,
        });
    }

    pub(super) fn execute(&mut self, statement: u64, since: Instant, portal: Option<Arc<Portal>>) {
        self.flight.begin(true);
        self.pending.push_back(Pending::Execute {
            statement,
            since,
            portal,
        });
    }

    pub(super) fn describe(&mut self, since: Instant, (portal, name): (bool, &[u8]), prepared: Option<Arc<Prepared>>) {
        self.pending.push_back(Pending::Describe {
            since,
            portal,
            name: name.into(),
            prepared,
        });
    }

    pub(super) fn close(&mut self, since: Instant, (portal, name): (bool, &[u8])) {
        let name = name.into();
        self.pending.push_back(if portal {
            Pending::ClosePortal { since, name }
        } else {
            Pending::CloseStatement { since, name }
        });
    }

    pub(super) fn sync(&mut self) {
        let perhaps = self.copying_in;
        self.flight.unflushed = false;
        if perhaps {
            // In a COPY from the client the server ignores Sync (protocol: "COPY Operations"), but the COPY may have failed before
            // it reads this one. Many of them are as one: a ReadyForQuery too many is ignored.
            if matches!(self.pending.back(), Some(Pending::Sync { perhaps: true })) {
                return;
            }
        } else {
            self.skipping = false;
            if self.after_copy == AfterCopy::SyncFirst {
                self.after_copy = AfterCopy::Known;
            }
        }
        self.pending.push_back(Pending::Sync { perhaps });
    }

    /// Whether a message may not come now: where the server reads COPY data it is an error that ends the session (`CopyGetData`,
    /// commands/copyfromparse.c), and after a COPY that failed nobody could tell whether the server skipped it.
    pub(super) fn out_of_place(&self, tag: u8) -> bool {
        match self.after_copy {
            AfterCopy::Lost => tag != b'X',
            AfterCopy::SyncFirst => !matches!(tag, b'S' | b'H' | b'c' | b'f' | b'X'),
            AfterCopy::Known => self.copying_in && !matches!(tag, b'S' | b'H' | b'c' | b'f' | b'X'),
        }
    }

    /// The message of this statement, taken just now, is refused: the server gets it in a form in which it has to fail.
    pub(super) fn refuse(&mut self, statement: u64, refused: Arc<Refused>) {
        self.refused.push_back((statement, refused));
    }

    /// A Parse, with its statement's number, or a Bind is refused by a limit.
    pub(super) fn refuse_at_limit(&mut self, statement: Option<u64>, since: Instant, refused: Arc<Refused>) {
        self.pending.push_back(Pending::Refused {
            statement,
            since,
            refused,
        });
    }

    /// A message the server is bound to refuse.
    pub(super) fn malformed(&mut self, since: Instant, kind: Kind) {
        self.pending.push_back(Pending::Malformed { since, kind });
    }

    pub(super) fn copy_data(&mut self, bytes: u64) {
        self.copy_in_bytes += bytes;
    }

    pub(super) fn copy_end(&mut self) {
        if self.copying_in {
            self.copying_in = false;
        } else if !self.pending.is_empty() {
            self.pending.push_back(Pending::CopyEnd);
        }
        // A Flush sent before it was part of the COPY.
        self.flight.unflushed = self.pending.iter().any(|pending| matches!(pending, Pending::Execute { .. }));
    }
}

// What the server answered.
impl Book {
    /// Counts bytes of an answer; asks for the time at the first.
    pub(super) fn answered(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        self.answer.bytes += bytes;
        self.answer.first.get_or_insert_with(now);
    }

    /// Counts a row to the client, when it is `whole`.
    pub(super) fn row(&mut self, whole: bool) {
        self.answer.rows_sent += u64::from(whole);
    }

    /// Counts COPY data to the client; a message is a row, when it is `whole`.
    pub(super) fn copied_out(&mut self, bytes: u64, whole: bool) {
        *self.answer.copy_out.get_or_insert(0) += bytes;
        self.answer.rows_copied += u64::from(whole);
    }

    /// Takes off so many rows, or messages of a COPY, that were counted and did not go to the client after all.
    pub(super) fn not_sent(&mut self, rows: u64) {
        let answer = &mut self.answer;
        let counted = if answer.rows_copied > 0 {
            &mut answer.rows_copied
        } else {
            &mut answer.rows_sent
        };
        *counted = counted.saturating_sub(rows);
    }

    /// Returns whether the server answers a Query, which ends with its ReadyForQuery and not with each command.
    pub(super) fn answers_query(&self) -> bool {
        matches!(self.pending.front(), Some(Pending::Query { .. }))
    }

    /// The refusal that the next error is for.
    pub(super) fn refusal(&self) -> Option<&Arc<Refused>> {
        let head = self.pending.iter().find(|pending| !pending.has_no_answer())?;
        let refused = if let Pending::Refused { refused, .. } = head {
            refused
        } else {
            let (statement, refused) = self.refused.front()?;
            (head.statement() == Some(*statement)).then_some(refused)?
        };
        self.answer.error.is_none().then_some(refused)
    }

    /// Takes one answer message, its body whole as far as it matters; hands each statement it settles to `settled`. Gives the
    /// refusal that the client is to read in the place of an error.
    pub(super) fn answer(&mut self, tag: u8, body: &[u8], mut settled: impl FnMut(Settled)) -> Option<Arc<Refused>> {
        // Nothing (more) answers these: what comes now is for the message behind.
        if tag != b'Z' {
            self.pass_over();
            self.answer.begun = true;
        }
        match tag {
            b'1' | b'2' | b'3' => self.defined(),
            b'C' => self.command_complete(backend::command_tag(body), settled),
            b'I' => self.finish_execute(Done::Completed, &mut settled),
            b's' => self.finish_execute(Done::Suspended, &mut settled),
            b't' => self.described(Some(backend::parameter_types(body))),
            b'T' | b'n' => self.described(None),
            b'G' | b'W' => self.copy_in_begins(),
            b'H' => self.answer.copy_out = Some(0),
            b'E' => return self.error(backend::error_code(body), settled),
            b'Z' => self.ready(Transaction::of(body), settled),
            _ => {}
        }
        None
    }

    /// As the last ReadyForQuery said.
    pub(super) fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// See [`Book::changed`]; once.
    pub(super) fn transaction_changed(&mut self) -> Option<u64> {
        self.changed.take()
    }

    /// What was told as done and then undone, for the transaction's end failed; once.
    pub(super) fn undone(&mut self) -> Option<Undone> {
        self.work.undone()
    }

    /// Whether the server still owes answers to something that executes.
    pub(super) fn executing(&self) -> bool {
        self.pending.iter().any(|pending| !pending.has_no_answer())
    }

    /// Whether an error has come that belongs to the transaction at work.
    pub(super) fn failed(&self) -> bool {
        self.answer.error.is_some() || self.skipping
    }

    /// Settles what is left when the session ends.
    pub(super) fn abandon(&mut self, mut settled: impl FnMut(Settled)) {
        loop {
            if let Some(rule) = self.refusal().map(|refused| refused.rule) {
                // Whether the server had the time to say so or not: it cannot have executed it.
                self.answer.refused(rule);
            }
            let Some(head) = self.take_head() else { break };
            self.forget_refusals(head.statement().unwrap_or_default());
            let done = if self.answer.error.is_some() {
                Done::Failed
            } else {
                Done::Unknown
            };
            let answer = std::mem::take(&mut self.answer);
            let failing = self.failing(&head, done);
            if let Some(record) = settle(&head, done, failing, answer, &mut self.copy_in_bytes) {
                settled(record);
            }
        }
    }

    /// Drops what has no answer of its own from the head.
    fn pass_over(&mut self) {
        while self.pending.pop_front_if(|pending| pending.has_no_answer()).is_some() {}
        if self.pending.is_empty() && !self.copying_in {
            // COPY data outside any COPY: the server ignores it.
            self.copy_in_bytes = 0;
        }
    }

    fn settle_head(&mut self, done: Done, settled: &mut impl FnMut(Settled)) {
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

    fn take_head(&mut self) -> Option<Pending> {
        let head = self.pending.pop_front()?;
        if head.executes() {
            self.flight.end();
        }
        Some(head)
    }

    /// The statement is answered, or skipped: its refusal is of no use any more, nor is what it was to give up.
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
