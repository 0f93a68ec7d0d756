//! State of the extended query protocol in one session: prepared statements, portals and unanswered messages (protocol: "Extended
//! Query").
//!
//! It depends only on facts about messages and on times passed as arguments; it writes no record and uses no socket.
//!
//! INVARIANT: a name resolves to a text only if the server would resolve it to the same one. A definition counts from the
//! server's ParseComplete or BindComplete. Before that it counts only within its own Sync group, because the server skips the
//! rest of the group if it fails. A name that depends on an unfinished earlier group is answered with [`NameLookup::Wait`].

mod answers;
mod pending;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use pending::PendingMessage;
pub(super) use pending::{AnswerState, FailingMessage, NamedObject, PendingKind, SettledStatement, server_name};

use super::pace::{ForwardingPace, MAX_STATEMENTS_IN_FLIGHT};
use super::statement::{FoundWords, Portal, PreparedStatement};
use crate::access::quota::Quota;
use crate::gate::sql_filter::{FilterRule, StatementRefusal};
use crate::protocol::wire::backend::TransactionStatus;

/// Maximum number of unanswered messages of one session; at this number the gate stops reading from the client. Each answer has
/// at least five bytes and the server's output buffer has 8 KiB (`PQ_SEND_BUFFER_SIZE`, libpq/pqcomm.c), so by then the server
/// must have sent some answers.
const MAX_PENDING_MESSAGES: usize = 4096;
/// Maximum number of prepared statements of one session, and of portals.
const MAX_NAMES: usize = 50_000;
const TOO_MANY_HINT: &str =
    "give up prepared statements that are not needed any more (DEALLOCATE, or a smaller statement cache of the driver)";

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

/// Statements that were recorded as run, and that a later error undid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RolledBackRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) sqlstate: Vec<u8>,
}

/// State of the extended query protocol in one session.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(super) struct ExtendedQueryState {
    statements: StatementNames<PreparedStatement>,
    portals: StatementNames<Portal>,
    pending: VecDeque<PendingMessage>,
    /// Usage of its identity, which the bytes of every [`PreparedStatement`] and [`Portal`] are added to. It must be set before
    /// anything is held.
    pub(super) quota: Arc<Quota>,
    /// Pace that the remaining time allows.
    pub(super) pace: ForwardingPace,
    /// Number of messages in `pending` that execute something.
    in_flight: usize,
    /// True if so many were in flight that the client waits until half of them are answered. Then it continues with many at once
    /// instead of one for each answer.
    crowded: bool,
    /// True if an Execute is unanswered and no later message makes the server send its answers: it must be asked for them (protocol:
    /// Flush) before anything may wait for them.
    pub(super) unflushed: bool,
    answer: AnswerState,
    /// True if the server drops everything until the next Sync, which the client has not sent yet.
    pub(super) skipping: bool,
    /// True during a COPY from the client that the client has not ended: Sync and Flush are part of it.
    copying_in: bool,
    /// True if the server reads COPY data, according to its last answer.
    in_copy: bool,
    /// State after a failed COPY: the server skips to the next Sync or is ready, depending on which Syncs it took as part of the
    /// COPY.
    after_copy: AfterCopy,
    copy_in_bytes: u64,
    /// Transaction status of the last ReadyForQuery.
    pub(super) transaction: TransactionStatus,
    settled: u64,
    /// Last settled statement, if the transaction status changed after it and no statement's record has the new status; to be taken.
    pub(super) changed: Option<u64>,
    /// First and last statement that ran since the last end of a transaction. The statements of a pipeline are one transaction up to
    /// its Sync (protocol: "Pipelining"), and a deferred constraint or a conflict fails only at its end.
    ran: Option<(u64, u64)>,
    /// First error since the last ReadyForQuery.
    first_error: Option<Vec<u8>>,
    /// Statements that were recorded as done and then undone because the end of the transaction failed; to be taken. Transactions
    /// that clients roll back themselves are not among them: their `ROLLBACK` is a statement on record.
    pub(super) undone: Option<RolledBackRange>,
    /// Number of times that SQL may have reassigned names; texts parsed before are uncertain. A [`PreparedStatement`] stores the
    /// number at its Parse.
    pub(super) renamed: u64,
}

// Messages from the client.
impl ExtendedQueryState {
    /// Returns true if the gate must stop reading from the client.
    pub(super) fn full(&self) -> bool {
        self.pending.len() >= MAX_PENDING_MESSAGES
    }

    /// Returns true if a message of this type must wait until the server has answered the earlier ones.
    pub(super) fn waits(&mut self, tag: u8) -> bool {
        match self.pace {
            ForwardingPace::Pipelined => matches!(tag, b'Q' | b'E' | b'F') && self.is_crowded(),
            // A Sync ends a transaction, so it counts as work too.
            ForwardingPace::OneByOne => {
                let is_sync = |pending: &PendingMessage| matches!(pending.kind, PendingKind::Sync { perhaps: false });
                matches!(tag, b'Q' | b'E' | b'F' | b'P' | b'B' | b'D' | b'C')
                    && (self.in_flight > 0 || self.pending.iter().any(is_sync))
            }
            ForwardingPace::Still => !matches!(tag, b'd' | b'X'),
        }
    }

    fn is_crowded(&mut self) -> bool {
        let most = if self.crowded {
            MAX_STATEMENTS_IN_FLIGHT / 2 + 1
        } else {
            MAX_STATEMENTS_IN_FLIGHT
        };
        self.crowded = self.in_flight >= most;
        self.crowded
    }

    /// Returns true if the next message will wait for the answer to the last one, and nothing makes the server send that answer.
    pub(super) fn needs_flush(&self) -> bool {
        self.unflushed && (self.pace != ForwardingPace::Pipelined || self.in_flight >= MAX_STATEMENTS_IN_FLIGHT)
    }

    /// Notes that a Flush goes to the server: the client's, or one of the gate's own.
    pub(super) fn flush(&mut self) {
        self.unflushed = false;
    }

    /// Returns true if more than one statement is at the server: it continues with the next when one is stopped.
    pub(super) fn pipelined(&self) -> bool {
        self.in_flight > 1
    }

    /// Returns the number of the first statement without an answer.
    pub(super) fn unanswered(&self) -> Option<u64> {
        self.pending.iter().find_map(|pending| pending.statement)
    }

    /// Returns the refusal if a Parse or Bind (by its tag) must not be forwarded now, because the session or all sessions of the
    /// identity hold too much. A Parse is refused slightly earlier than a Bind, so that statements that are already prepared can
    /// still be executed. Executing, closing and SQL (`DEALLOCATE`) are always allowed, so a client can always get below the limit
    /// again.
    pub(super) fn over_limit(&self, tag: u8) -> Option<Arc<StatementRefusal>> {
        let (names, bytes) = match tag {
            b'P' => (self.statements.len(), self.quota.full_for_statements()),
            b'B' => (self.portals.len(), self.quota.full_for_portals()),
            _ => return None,
        };
        let (rule, message, detail) = if let Some(limit) = bytes {
            (
                FilterRule::PreparedBytes,
                "your sessions hold as many bytes of prepared statements and portals as they may",
                format!(
                    "All your sessions together may hold {limit} bytes; the last eighth is for portals. The session goes on."
                ),
            )
        } else if names >= MAX_NAMES {
            (
                FilterRule::PreparedNames,
                "this session holds as many prepared statements or portals as it may",
                format!("It may hold {MAX_NAMES} of each. The session goes on."),
            )
        } else {
            return None;
        };
        Some(Arc::new(StatementRefusal {
            rule,
            message: message.to_owned(),
            detail,
            hint: TOO_MANY_HINT.to_owned(),
        }))
    }

    /// Notes that SQL text with these words is on its way. Words like `DEALLOCATE`, `PREPARE` or `DISCARD` share the protocol's name
    /// space: names parsed until now may be reassigned to other texts, and a portal may be replaced by a cursor. A text that the
    /// server itself assembles is not visible at all.
    pub(super) fn names_may_change(&mut self, words: FoundWords) {
        self.renamed += u64::from(words.renames);
        if words.renames || words.reopens {
            self.named_portals()
                .for_each(|portal| portal.uncertain.store(true, Ordering::Relaxed));
        }
    }

    fn named_portals(&self) -> impl Iterator<Item = &Arc<Portal>> {
        let coming = self.pending.iter().filter_map(|pending| match &pending.kind {
            PendingKind::Bind { name, portal } if !name.is_empty() => Some(portal),
            _ => None,
        });
        self.portals.named.values().chain(coming)
    }

    /// Notes that a message goes to the server: with its statement's number, if it is one, and with the refusal if it goes in a
    /// form that must fail.
    pub(super) fn send(
        &mut self,
        since: Instant,
        statement: Option<u64>,
        refused: Option<Arc<StatementRefusal>>,
        kind: PendingKind,
    ) {
        if kind.executes() {
            self.in_flight += 1;
            self.unflushed = matches!(kind, PendingKind::Execute(_));
        }
        self.pending.push_back(PendingMessage {
            kind,
            statement,
            since,
            refused,
        });
    }

    pub(super) fn sync(&mut self, since: Instant) {
        let perhaps = self.copying_in;
        self.unflushed = false;
        if perhaps {
            // During a COPY from the client the server ignores Sync (protocol: "COPY Operations"), but the COPY may have failed
            // before the server reads this one. Several of them count as one: an extra ReadyForQuery is ignored.
            let last = self.pending.back().map(|last| &last.kind);
            if matches!(last, Some(PendingKind::Sync { perhaps: true })) {
                return;
            }
        } else {
            self.skipping = false;
            if self.after_copy == AfterCopy::SyncFirst {
                self.after_copy = AfterCopy::Known;
            }
        }
        self.send(since, None, None, PendingKind::Sync { perhaps });
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

    pub(super) fn copy_data(&mut self, bytes: u64) {
        self.copy_in_bytes += bytes;
    }

    pub(super) fn copy_end(&mut self, since: Instant) {
        if self.copying_in {
            self.copying_in = false;
        } else if !self.pending.is_empty() {
            self.send(since, None, None, PendingKind::CopyEnd);
        }
        // A Flush sent before was part of the COPY.
        let is_execute = |pending: &PendingMessage| matches!(pending.kind, PendingKind::Execute(_));
        self.unflushed = self.pending.iter().any(is_execute);
    }
}

// Meaning of a name at the current point of the client's stream.
impl ExtendedQueryState {
    /// Returns the prepared statement that a name stands for.
    pub(super) fn statement(&self, name: &[u8]) -> NameLookup<PreparedStatement> {
        let meaning = |kind: &PendingKind| match kind {
            PendingKind::Parse { name: defined, prepared } if **defined == *name => Some(NameLookup::Known(Arc::clone(prepared))),
            PendingKind::Close(closed) if !closed.portal && *closed.name == *name => Some(NameLookup::Unknown),
            _ => None,
        };
        self.look_up(meaning, self.statements.get(name))
    }

    /// Returns the portal that a name stands for.
    pub(super) fn portal(&self, name: &[u8]) -> NameLookup<Portal> {
        let meaning = |kind: &PendingKind| match kind {
            PendingKind::Bind { name: defined, portal } if **defined == *name => Some(NameLookup::Known(Arc::clone(portal))),
            PendingKind::Close(closed) if closed.portal && *closed.name == *name => Some(NameLookup::Unknown),
            _ => None,
        };
        self.look_up(meaning, self.portals.get(name))
    }

    /// Searches the unanswered messages backwards for one that gives the name a `meaning`, then the entries `settled` before them.
    fn look_up<T>(&self, meaning: impl Fn(&PendingKind) -> Option<NameLookup<T>>, settled: Option<&Arc<T>>) -> NameLookup<T> {
        let mut own_group = true;
        for pending in self.pending.iter().rev() {
            match (meaning(&pending.kind), &pending.kind) {
                (Some(_), _) if !own_group => return NameLookup::Wait,
                (Some(found), _) => return found,
                (None, PendingKind::Sync { .. }) => own_group = false,
                // The server skips the rest of the group.
                (None, PendingKind::OverLimit) if own_group => return NameLookup::Unknown,
                // A simple query drops the unnamed statement, and its SQL may rename the others.
                (None, PendingKind::Query { .. }) => return NameLookup::Wait,
                _ => {}
            }
        }
        settled.map_or(NameLookup::Unknown, |thing| NameLookup::Known(Arc::clone(thing)))
    }
}

/// Map from names to values. The unnamed one is by far the most used, and needs no hashing.
#[derive(Debug)]
struct StatementNames<T> {
    unnamed: Option<Arc<T>>,
    named: HashMap<Box<[u8]>, Arc<T>>,
}

impl<T> Default for StatementNames<T> {
    fn default() -> Self {
        Self {
            unnamed: None,
            named: HashMap::new(),
        }
    }
}

impl<T> StatementNames<T> {
    fn get(&self, name: &[u8]) -> Option<&Arc<T>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name)
        }
    }

    fn insert(&mut self, name: Box<[u8]>, value: Arc<T>) {
        if name.is_empty() {
            self.unnamed = Some(value);
        } else {
            self.named.insert(name, value);
        }
    }

    fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }

    fn clear_named(&mut self) {
        // This frees the capacity too: a session that had thousands once may live for hours.
        self.named = HashMap::new();
    }

    fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }
}

#[cfg(test)]
mod tests;
