//! Answers of the server: their effect on the state of the extended query protocol, and the statements that they settle.
//!
//! This module does not depend on records: it passes on what an answer settles.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::pending::{AnswerState, FailingMessage, PendingKind, PendingMessage, SettledStatement};
use super::{AfterCopy, ExtendedQueryState, RolledBackRange};
use crate::audit::event::{OutsideText, StatementKind, StatementResult};
use crate::gate::sql_filter::StatementRefusal;
use crate::protocol::wire::backend::{self, ErrorCode, TransactionStatus};

/// SQLSTATE protocol_violation: the server's own error for a refused message that it could not parse.
const PROTOCOL_VIOLATION: &[u8] = b"08P01";
/// Maximum number of command tags kept for one Query message; rows are counted over all commands.
const MAX_TAGS: usize = 64;

impl ExtendedQueryState {
    /// Counts bytes of an answer; calls `now` at the first.
    pub(in crate::gate::session) fn answered(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        self.answer.bytes += bytes;
        self.answer.first.get_or_insert_with(now);
    }

    /// Counts a row sent to the client if it is `whole`.
    pub(in crate::gate::session) fn row(&mut self, whole: bool) {
        self.answer.rows_sent += u64::from(whole);
    }

    /// Counts COPY data to the client; a message is a row if it is `whole`.
    pub(in crate::gate::session) fn copied_out(&mut self, bytes: u64, whole: bool) {
        *self.answer.copy_out.get_or_insert(0) += bytes;
        self.answer.rows_copied += u64::from(whole);
    }

    /// Subtracts rows, or messages of a COPY, that were counted but not sent to the client.
    pub(in crate::gate::session) fn not_sent(&mut self, rows: u64) {
        let answer = &mut self.answer;
        let counted = if answer.rows_copied > 0 {
            &mut answer.rows_copied
        } else {
            &mut answer.rows_sent
        };
        *counted = counted.saturating_sub(rows);
    }

    /// Returns true if the server is answering a Query, which ends with its ReadyForQuery and not with each command.
    pub(in crate::gate::session) fn answers_query(&self) -> bool {
        matches!(self.head(), Some(PendingKind::Query { .. }))
    }

    /// Returns the refusal that the next error belongs to.
    pub(in crate::gate::session) fn refusal(&self) -> Option<&Arc<StatementRefusal>> {
        let head = self.pending.iter().find(|pending| !pending.kind.has_no_answer())?;
        head.refused.as_ref().filter(|_| self.answer.sqlstate.is_none())
    }

    /// Returns true if the server still owes answers to messages that execute something.
    pub(in crate::gate::session) fn executing(&self) -> bool {
        self.pending.iter().any(|pending| !pending.kind.has_no_answer())
    }

    /// Returns true if an error has arrived that belongs to the current transaction.
    pub(in crate::gate::session) fn failed(&self) -> bool {
        self.answer.sqlstate.is_some() || self.skipping
    }

    /// Processes one answer message, whose body is complete as far as it matters, and passes each statement it settles to
    /// `settled`. Returns the refusal that replaces an error for the client.
    pub(in crate::gate::session) fn answer(
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
            // For a prepared statement the parameters come first and the row description after them.
            b't' => {
                if let Some(PendingKind::Describe(_, Some(prepared))) = self.head() {
                    prepared.described(backend::parameter_types(body));
                }
            }
            b'T' | b'n' => drop(self.answered_head(|kind| matches!(kind, PendingKind::Describe(..)))),
            b'G' | b'W' => self.copy_in_begins(),
            b'H' => self.answer.copy_out = Some(0),
            b'E' => return self.error(backend::error_code(body), settled),
            b'Z' => self.ready(TransactionStatus::of(body), settled),
            _ => {}
        }
        None
    }

    /// Settles the remaining messages at the end of the session.
    pub(in crate::gate::session) fn abandon(&mut self, mut settled: impl FnMut(SettledStatement)) {
        while !self.pending.is_empty() {
            if let Some(rule) = self.refusal().map(|refused| refused.rule) {
                // The server cannot have executed it, with or without time to report the error.
                self.answer.refused(rule);
            }
            let done = if self.answer.sqlstate.is_some() {
                StatementResult::Failed
            } else {
                StatementResult::Unknown
            };
            self.settle_head(done, &mut settled);
        }
    }

    fn head(&self) -> Option<&PendingKind> {
        self.pending.front().map(|head| &head.kind)
    }

    /// Removes messages without an answer of their own from the head.
    fn pass_over(&mut self) {
        while self.pending.pop_front_if(|pending| pending.kind.has_no_answer()).is_some() {}
        if self.pending.is_empty() && !self.copying_in {
            // COPY data outside any COPY: the server ignores it.
            self.copy_in_bytes = 0;
        }
    }

    /// Removes the message at the head, whose answer is complete and has no record, if it is one of these.
    fn answered_head(&mut self, is_one: impl Fn(&PendingKind) -> bool) -> Option<PendingKind> {
        let head = self.pending.pop_front_if(|head| is_one(&head.kind))?;
        self.answer = AnswerState::default();
        Some(head.kind)
    }

    fn defined(&mut self) {
        let defines = |kind: &PendingKind| {
            matches!(
                kind,
                PendingKind::Parse { .. } | PendingKind::Bind { .. } | PendingKind::Close(_)
            )
        };
        match self.answered_head(defines) {
            Some(PendingKind::Parse { name, prepared }) => self.statements.insert(name, prepared),
            Some(PendingKind::Bind { name, portal }) => self.portals.insert(name, portal),
            Some(PendingKind::Close(closed)) if closed.portal => self.portals.remove(&closed.name),
            Some(PendingKind::Close(closed)) => self.statements.remove(&closed.name),
            _ => {}
        }
    }

    fn command_complete(&mut self, tag: &[u8], mut settled: impl FnMut(SettledStatement)) {
        self.answer.command_ended(backend::tag_rows(tag));
        self.given_up(tag);
        self.answer.committed |= matches!(tag, b"COMMIT" | b"PREPARE TRANSACTION");
        let tag = OutsideText::of(tag.get(..64).unwrap_or(tag)).into_owned();
        let tags = &mut self.answer.tags;
        // Beyond that number, the tag of a command that has not occurred yet is kept as well.
        let is_new = || !tags.iter().any(|known| known.0.split(' ').next() == tag.0.split(' ').next());
        if tags.len() < MAX_TAGS || (tags.len() < 2 * MAX_TAGS && is_new()) {
            tags.push(tag);
        }
        if std::mem::take(&mut self.in_copy) {
            // The server has read up to the client's CopyDone: the Syncs before that were part of the COPY.
            let is_sync = |next: &PendingMessage| matches!(next.kind, PendingKind::Sync { perhaps: true });
            while self.pending.get(1).is_some_and(is_sync) {
                self.pending.remove(1);
            }
            if self
                .pending
                .get(1)
                .is_some_and(|next| matches!(next.kind, PendingKind::CopyEnd))
            {
                self.pending.remove(1);
            }
        }
        self.finish_execute(StatementResult::Completed, &mut settled);
    }

    /// Forgets the prepared statements that the server has deallocated. One that is deallocated unnoticed (in a function) only
    /// keeps its memory.
    fn given_up(&mut self, tag: &[u8]) {
        match tag {
            b"DEALLOCATE ALL" | b"DISCARD ALL" => self.statements.clear_named(),
            b"DEALLOCATE" => {
                let name = match self.pending.front_mut().map(|head| &mut head.kind) {
                    Some(PendingKind::Query { deallocates }) => deallocates.take(),
                    Some(PendingKind::Execute(Some(portal))) => {
                        portal.prepared.as_ref().and_then(|prepared| prepared.deallocated())
                    }
                    _ => None,
                };
                if let Some(name) = name {
                    self.statements.remove(&name);
                }
            }
            _ => {}
        }
    }

    /// Ends an Execute at its tag; a Query continues to its ReadyForQuery.
    fn finish_execute(&mut self, done: StatementResult, settled: &mut impl FnMut(SettledStatement)) {
        if let Some(PendingKind::Execute(portal)) = self.head() {
            if let Some(portal) = portal {
                portal.executed.store(done == StatementResult::Suspended, Ordering::Relaxed);
            }
            self.settle_head(done, settled);
        }
        self.copying_in = false;
    }

    fn copy_in_begins(&mut self) {
        self.answer.copy_in = Some(0);
        self.in_copy = true;
        let mut ended = false;
        // Syncs sent before the data are part of the COPY if the server reads data at all (a trigger may fail first).
        for pending in self.pending.iter_mut().skip(1) {
            match &mut pending.kind {
                PendingKind::Sync { perhaps } => *perhaps = true,
                PendingKind::CopyEnd => {
                    ended = true;
                    break;
                }
                _ => break,
            }
        }
        self.copying_in = !ended;
    }

    fn error(&mut self, code: ErrorCode<'_>, mut settled: impl FnMut(SettledStatement)) -> Option<Arc<StatementRefusal>> {
        self.copying_in = false;
        let in_copy = std::mem::take(&mut self.in_copy);
        // A FATAL belongs to the session, not to the message.
        let refused = self.refusal().filter(|_| !code.fatal).cloned();
        match &refused {
            Some(refused) => {
                self.answer.refused(refused.rule);
                self.answer.unread |= code.sqlstate == PROTOCOL_VIOLATION;
            }
            None => self.answer.sqlstate = Some(code.sqlstate.get(..5).unwrap_or(code.sqlstate).to_vec()),
        }
        self.first_error = self.first_error.take().or_else(|| self.answer.sqlstate.clone());
        match self.head() {
            // After an error the server answers these with ReadyForQuery.
            None | Some(PendingKind::Query { .. } | PendingKind::Call | PendingKind::Sync { .. }) => return refused,
            Some(_) => self.settle_head(StatementResult::Failed, &mut settled),
        }
        // The server reads and drops everything up to the next Sync.
        loop {
            match self.head() {
                Some(PendingKind::Sync { perhaps }) => {
                    if *perhaps && in_copy {
                        self.copy_failed();
                    }
                    break;
                }
                Some(_) => self.settle_head(StatementResult::Skipped, &mut settled),
                None => {
                    self.skipping = true;
                    break;
                }
            }
        }
        refused
    }

    /// Determines which Sync ends the skipping after a failed COPY: any of those that may have been part of it, or the next one.
    fn copy_failed(&mut self) {
        let mut behind = self.pending.iter().map(|pending| &pending.kind);
        self.after_copy = match behind.find(|kind| !kind.has_no_answer()) {
            None => AfterCopy::SyncFirst,
            Some(PendingKind::Sync { .. }) => AfterCopy::Known,
            Some(_) => AfterCopy::Lost,
        };
    }

    fn ready(&mut self, transaction: TransactionStatus, mut settled: impl FnMut(SettledStatement)) {
        self.copying_in = false;
        self.in_copy = false;
        if self.after_copy == AfterCopy::SyncFirst {
            self.after_copy = AfterCopy::Known;
        }
        let changed = std::mem::replace(&mut self.transaction, transaction) != transaction;
        if transaction == TransactionStatus::Idle {
            // All portals end with their transaction.
            self.portals.clear();
        }
        let done = if self.answer.sqlstate.is_some() {
            StatementResult::Failed
        } else {
            StatementResult::Completed
        };
        self.pass_over();
        self.answer.transaction = Some(transaction);
        let recorded = self.answer.begun && matches!(self.head(), Some(PendingKind::Query { .. } | PendingKind::Call));
        self.changed = (changed && !recorded).then_some(self.settled);
        match self.head() {
            // A text that could not be parsed has not reached that step (`exec_simple_query`, tcop/postgres.c).
            Some(PendingKind::Query { .. }) if recorded && !self.answer.unread => {
                self.statements.remove(&[]);
                self.portals.remove(&[]);
                self.settle_head(done, &mut settled);
            }
            Some(PendingKind::Query { .. } | PendingKind::Call) if recorded => self.settle_head(done, &mut settled),
            Some(PendingKind::Sync { .. }) => self.settle_head(done, &mut settled),
            // It belongs to a Sync that was not part of a COPY after all, and answers no message that is still open.
            _ => self.answer = AnswerState::default(),
        }
        let error = self.first_error.take();
        if transaction == TransactionStatus::Idle
            && let (Some((first, last)), Some(sqlstate)) = (self.ran.take(), error)
        {
            self.undone = Some(RolledBackRange { first, last, sqlstate });
        }
        self.pass_over();
    }

    /// Removes the message at the head, whose answer is complete, and passes on its record, if it is a statement or failed. A Parse
    /// that succeeds has none: nothing was executed, or its Execute has it.
    fn settle_head(&mut self, done: StatementResult, settled: &mut impl FnMut(SettledStatement)) {
        let mut answer = std::mem::take(&mut self.answer);
        let Some(head) = self.pending.pop_front() else { return };
        let executes = head.kind.executes();
        if executes {
            self.in_flight = self.in_flight.saturating_sub(1);
            // The answer that a Flush was needed for has arrived.
            self.unflushed &= self.in_flight > 0;
        }
        let execute = if executes { None } else { self.execute_of(head.statement) };
        let is_joined = execute.is_some();
        let parse_failed = is_joined && done == StatementResult::Failed;
        if let Some(execute) = execute.filter(|_| parse_failed) {
            execute.statement = None;
        }
        let statement = head
            .statement
            .filter(|_| executes || parse_failed || (done != StatementResult::Completed && !is_joined));
        let failing = self.failing(&head, done);
        if statement.is_none() && failing.is_none() {
            return;
        }
        answer.end();
        if let Some(bytes) = &mut answer.copy_in {
            *bytes = std::mem::take(&mut self.copy_in_bytes);
        }
        if done != StatementResult::Failed {
            answer.sqlstate = None;
        }
        if let Some(statement) = statement {
            self.settled = statement;
        }
        if answer.committed {
            self.ran = None;
        } else if let Some(statement) = statement.filter(|_| done.ran()) {
            self.ran = Some((self.ran.map_or(statement, |(first, _)| first), statement));
        }
        let portal_rows_sent = match &head.kind {
            PendingKind::Execute(Some(portal)) => portal.sent(answer.rows_sent, done == StatementResult::Suspended),
            _ => None,
        };
        settled(SettledStatement {
            statement: statement.unwrap_or_default(),
            failing,
            done,
            parse_failed,
            since: head.since,
            portal_rows_sent,
            answer,
        });
    }

    /// Returns the next Execute if it has this number, which is that of its Parse: the two have one record. The Execute settles it, unless
    /// the Parse fails.
    fn execute_of(&mut self, parse: Option<u64>) -> Option<&mut PendingMessage> {
        let next = self.pending.iter_mut().find(|next| next.statement.is_some());
        next.filter(|next| next.statement == parse)
    }

    /// Returns the details of a message that is not a statement and failed: it is recorded with its error. All earlier messages are
    /// answered by now, so the names still have the same meaning.
    fn failing(&self, head: &PendingMessage, done: StatementResult) -> Option<Box<FailingMessage>> {
        if done != StatementResult::Failed || head.statement.is_some() {
            return None;
        }
        let (kind, subject, prepared) = match &head.kind {
            PendingKind::Bind { name, portal } => {
                return Some(Box::new(FailingMessage {
                    portal_name: Some(name.clone()),
                    portal: Some(Arc::clone(portal)),
                    ..FailingMessage::of(StatementKind::Bind)
                }));
            }
            PendingKind::Describe(subject, prepared) => (StatementKind::Describe, subject, prepared.as_ref()),
            PendingKind::Close(subject) => (StatementKind::Close, subject, self.statements.get(&subject.name)),
            PendingKind::Malformed(kind) => return Some(Box::new(FailingMessage::of(*kind))),
            PendingKind::OverLimit => return Some(Box::new(FailingMessage::of(StatementKind::Bind))),
            _ => return None,
        };
        let mut failing = FailingMessage::of(kind);
        if subject.portal {
            let portal = self.portals.get(&subject.name);
            failing.portal_name = Some(subject.name.clone());
            failing.name = portal.map(|portal| portal.name.clone());
            failing.prepared = portal.and_then(|portal| portal.prepared.clone());
        } else {
            failing.name = Some(subject.name.clone());
            failing.prepared = prepared.cloned();
        }
        Some(Box::new(failing))
    }
}
