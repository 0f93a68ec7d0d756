//! Effect of each answer of the server on the state of the extended query protocol.
//!
//! This module does not depend on records: it passes on what an answer settles.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answer::{AnswerState, FailingMessage, FailureReach, SettledStatement};
use super::pending::PendingMessage;
use super::{AfterCopy, ExtendedQueryState};
use crate::audit::event::{StatementKind, StatementResult};
use crate::gate::sql_filter::StatementRefusal;
use crate::protocol::wire::backend::{self, ErrorCode, TransactionState};

/// SQLSTATE protocol_violation: the server's own error for a refused message that it could not parse.
const PROTOCOL_VIOLATION: &[u8] = b"08P01";
/// Maximum number of command tags kept for one Query message; rows are counted over all commands.
const MAX_TAGS: usize = 64;

impl ExtendedQueryState {
    pub(super) fn defined(&mut self) {
        match self.pending.front() {
            Some(
                PendingMessage::Parse { .. }
                | PendingMessage::Bind { .. }
                | PendingMessage::CloseStatement { .. }
                | PendingMessage::ClosePortal { .. },
            ) => {}
            _ => return,
        }
        self.answer = AnswerState::default();
        match self.pending.pop_front() {
            Some(PendingMessage::Parse {
                name,
                prepared,
                statement,
                ..
            }) => {
                self.forget_refusals(statement);
                self.statements.insert(name, prepared);
            }
            Some(PendingMessage::Bind { name, portal, .. }) => {
                self.portals.insert(name, portal);
            }
            Some(PendingMessage::CloseStatement { name, .. }) => {
                self.statements.remove(&name);
            }
            Some(PendingMessage::ClosePortal { name, .. }) => {
                self.portals.remove(&name);
            }
            _ => {}
        }
    }

    pub(super) fn described(&mut self, types: Option<&[u8]>) {
        let Some(PendingMessage::Describe { prepared, .. }) = self.pending.front() else {
            return;
        };
        match (types, prepared) {
            // For a prepared statement the parameters come first and the row description after them.
            (Some(types), Some(prepared)) => prepared.described(types),
            (Some(_), None) => {}
            (None, _) => {
                self.answer = AnswerState::default();
                self.pending.pop_front();
            }
        }
    }

    pub(super) fn command_complete(&mut self, tag: &[u8], mut settled: impl FnMut(SettledStatement)) {
        self.answer.command_ended(backend::tag_rows(tag));
        self.given_up(tag);
        self.answer.committed |= matches!(tag, b"COMMIT" | b"PREPARE TRANSACTION");
        let tag = tag.get(..64).unwrap_or(tag);
        let command = |tag: &[u8]| tag.split(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
        let tags = &mut self.answer.tags;
        // Beyond that number, the tag of a command that has not occurred yet is kept as well.
        let is_new = || !tags.iter().any(|known| command(known) == command(tag));
        if tags.len() < MAX_TAGS || (tags.len() < 2 * MAX_TAGS && is_new()) {
            tags.push(tag.to_vec());
        }
        if std::mem::take(&mut self.in_copy) {
            // The server has read up to the client's CopyDone: the Syncs before that were part of the COPY.
            while let Some(PendingMessage::Sync { perhaps: true }) = self.pending.get(1) {
                self.pending.remove(1);
            }
            if let Some(PendingMessage::CopyEnd) = self.pending.get(1) {
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
                let at_work = self.pending.front().and_then(PendingMessage::statement);
                let name = self.deallocating.pop_front_if(|(statement, _)| Some(*statement) == at_work);
                if let Some((_, name)) = name {
                    self.statements.remove(&name);
                }
            }
            _ => {}
        }
    }

    /// Ends an Execute at its tag; a Query continues to its ReadyForQuery.
    pub(super) fn finish_execute(&mut self, done: StatementResult, settled: &mut impl FnMut(SettledStatement)) {
        if let Some(PendingMessage::Execute { portal, .. }) = self.pending.front() {
            if let Some(portal) = portal {
                portal.executed.store(done == StatementResult::Suspended, Ordering::Relaxed);
            }
            self.settle_head(done, settled);
        }
        self.copying_in = false;
    }

    pub(super) fn copy_in_begins(&mut self) {
        self.answer.copy_in = true;
        self.in_copy = true;
        let mut ended = false;
        // Syncs sent before the data are part of the COPY if the server reads data at all (a trigger may fail first).
        for pending in self.pending.iter_mut().skip(1) {
            match pending {
                PendingMessage::Sync { perhaps } => *perhaps = true,
                PendingMessage::CopyEnd => {
                    ended = true;
                    break;
                }
                _ => break,
            }
        }
        self.copying_in = !ended;
    }

    pub(super) fn error(
        &mut self,
        code: ErrorCode<'_>,
        mut settled: impl FnMut(SettledStatement),
    ) -> Option<Arc<StatementRefusal>> {
        self.copying_in = false;
        let in_copy = std::mem::take(&mut self.in_copy);
        // A FATAL belongs to the session, not to the message.
        let refused = self.refusal().filter(|_| !code.fatal).cloned();
        match &refused {
            Some(refused) => {
                self.answer.refused(refused.rule);
                if code.sqlstate == PROTOCOL_VIOLATION {
                    self.answer.reach = FailureReach::Nothing;
                }
            }
            None => self.answer.error = Some(code.sqlstate.get(..5).unwrap_or(code.sqlstate).to_vec()),
        }
        self.work.failed(self.answer.error.as_deref());
        match self.pending.front() {
            // After an error the server answers these with ReadyForQuery.
            None | Some(PendingMessage::Query { .. } | PendingMessage::Call { .. } | PendingMessage::Sync { .. }) => {
                return refused;
            }
            Some(_) => self.settle_head(StatementResult::Failed, &mut settled),
        }
        // The server reads and drops everything up to the next Sync.
        loop {
            match self.pending.front() {
                Some(PendingMessage::Sync { perhaps }) => {
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

    /// Returns the details of the message at the head, if it is not a statement and failed: it is recorded with its error.
    pub(super) fn failing(&self, head: &PendingMessage, done: StatementResult) -> Option<Box<FailingMessage>> {
        if done != StatementResult::Failed {
            return None;
        }
        let failing = match head {
            PendingMessage::Bind { name, portal, .. } => FailingMessage {
                portal_name: Some(name.clone()),
                portal: Some(Arc::clone(portal)),
                name: Some(portal.name.clone()),
                prepared: portal.prepared.clone(),
                ..FailingMessage::of(StatementKind::Bind)
            },
            PendingMessage::Describe { portal: true, name, .. } => self.of_portal(StatementKind::Describe, name),
            PendingMessage::ClosePortal { name, .. } => self.of_portal(StatementKind::Close, name),
            PendingMessage::Describe { name, prepared, .. } => FailingMessage {
                name: Some(name.clone()),
                prepared: prepared.clone(),
                ..FailingMessage::of(StatementKind::Describe)
            },
            PendingMessage::CloseStatement { name, .. } => FailingMessage {
                name: Some(name.clone()),
                prepared: self.statements.get(name).map(Arc::clone),
                ..FailingMessage::of(StatementKind::Close)
            },
            PendingMessage::Malformed { kind, .. } => FailingMessage::of(*kind),
            PendingMessage::Refused { statement: None, .. } => FailingMessage::of(StatementKind::Bind),
            _ => return None,
        };
        Some(Box::new(failing))
    }

    /// Returns a message about a portal. All earlier messages are answered by now, so the name still has the same meaning.
    fn of_portal(&self, kind: StatementKind, name: &[u8]) -> FailingMessage {
        let portal = self.portals.get(name);
        FailingMessage {
            portal_name: Some(name.into()),
            name: portal.map(|portal| portal.name.clone()),
            prepared: portal.and_then(|portal| portal.prepared.clone()),
            ..FailingMessage::of(kind)
        }
    }

    /// Determines which Sync ends the skipping after a failed COPY: any of those that may have been part of it, or the next one.
    fn copy_failed(&mut self) {
        let mut behind = self.pending.iter().filter(|pending| !pending.has_no_answer());
        self.after_copy = match behind.next() {
            None => AfterCopy::SyncFirst,
            Some(PendingMessage::Sync { .. }) => AfterCopy::Known,
            Some(_) => AfterCopy::Lost,
        };
    }

    pub(super) fn ready(&mut self, transaction: TransactionState, mut settled: impl FnMut(SettledStatement)) {
        self.copying_in = false;
        self.in_copy = false;
        if self.after_copy == AfterCopy::SyncFirst {
            self.after_copy = AfterCopy::Known;
        }
        let changed = std::mem::replace(&mut self.transaction, transaction) != transaction;
        if transaction == TransactionState::Idle {
            // All portals end with their transaction.
            self.portals.clear();
        }
        let done = if self.answer.error.is_some() {
            StatementResult::Failed
        } else {
            StatementResult::Completed
        };
        self.pass_over();
        self.answer.ready = Some(transaction);
        let told = self.answer.begun
            && matches!(
                self.pending.front(),
                Some(PendingMessage::Query { .. } | PendingMessage::Call { .. })
            );
        self.changed = (changed && !told).then_some(self.settled);
        match self.pending.front() {
            Some(PendingMessage::Query { .. }) if self.answer.begun => {
                // A text that could not be parsed has not reached that step (`exec_simple_query`, tcop/postgres.c).
                if self.answer.reach == FailureReach::Text {
                    self.statements.remove(&[]);
                    self.portals.remove(&[]);
                }
                self.settle_head(done, &mut settled);
            }
            Some(PendingMessage::Call { .. }) if self.answer.begun => self.settle_head(done, &mut settled),
            Some(PendingMessage::Sync { .. }) => self.settle_head(done, &mut settled),
            // It belongs to a Sync that was not part of a COPY after all, and answers no message that is still open.
            _ => self.answer = AnswerState::default(),
        }
        self.work.ready(transaction);
        self.pass_over();
    }
}
