//! What comes of a statement: collected while it is answered, and settled when it is.
//!
//! It does not know which message belongs to which statement.

use std::sync::Arc;

use tokio::time::Instant;

use crate::audit::event::{Done, Kind};
use crate::rails::Rule;
use crate::session::statement::{Portal, Prepared};
use crate::wire::backend::Transaction;

/// An answered (or skipped) statement, or another message that failed.
#[derive(Debug)]
pub(in crate::session) struct Settled {
    /// Its number in the session; 0 for a message that has a record only because it failed.
    pub(in crate::session) statement: u64,
    /// That message.
    pub(in crate::session) failing: Option<Box<Failing>>,
    pub(in crate::session) done: Done,
    pub(in crate::session) sqlstate: Option<Vec<u8>>,
    /// The guard rail or limit that refused it.
    pub(in crate::session) rule: Option<Rule>,
    pub(in crate::session) tags: Vec<Vec<u8>>,
    /// Rows returned or changed.
    pub(in crate::session) rows: u64,
    /// Rows that the client was sent.
    pub(in crate::session) rows_sent: u64,
    /// The same over all Executes of its portal, where there is more than this one.
    pub(in crate::session) portal_rows_sent: Option<u64>,
    pub(in crate::session) bytes: u64,
    pub(in crate::session) copy_in: Option<u64>,
    pub(in crate::session) copy_out: Option<u64>,
    pub(in crate::session) since: Instant,
    /// When the first byte of the answer came.
    pub(in crate::session) first: Option<Instant>,
    /// The transaction after it, where its answer ends with that.
    pub(in crate::session) transaction: Option<Transaction>,
}

/// A message that is no statement by itself, and failed.
#[derive(Debug)]
pub(in crate::session) struct Failing {
    pub(in crate::session) kind: Kind,
    /// The name of the portal that it makes or is about.
    pub(in crate::session) portal_name: Option<Box<[u8]>>,
    /// That portal, as far as it is known.
    pub(in crate::session) portal: Option<Arc<Portal>>,
    /// The name of the statement that it is about.
    pub(in crate::session) name: Option<Box<[u8]>>,
    /// That statement, as far as it is known.
    pub(in crate::session) prepared: Option<Arc<Prepared>>,
}

impl Failing {
    /// Makes a message of which only its kind is known.
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            portal_name: None,
            portal: None,
            name: None,
            prepared: None,
        }
    }
}

/// How far the server came with a message that it was to fail at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// It read the text, and did before what it does with any.
    #[default]
    Text,
    /// It could not even read the message, and did nothing of that.
    Nothing,
}

/// What has come of the answer to the message at the head.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Something other than ReadyForQuery has come.
    pub(super) begun: bool,
    /// When anything has come.
    pub(super) first: Option<Instant>,
    /// It ends with a ReadyForQuery, which said this.
    pub(super) ready: Option<Transaction>,
    pub(super) error: Option<Vec<u8>>,
    /// The error is that of a message that was refused by this rule.
    pub(super) rule: Option<Rule>,
    /// How far the server came with a message that was refused.
    pub(super) reach: Reach,
    /// A command in it has ended a transaction for good.
    pub(super) committed: bool,
    pub(super) tags: Vec<Vec<u8>>,
    /// Rows of the commands that have ended: what their tags count, or the rows sent, where those are more.
    rows: u64,
    /// Rows sent to the client.
    pub(super) rows_sent: u64,
    /// Those of commands that have ended.
    rows_ended: u64,
    /// Messages of the COPY to the client that is going on: each is a row, but for the header and the end that some formats have.
    pub(super) rows_copied: u64,
    pub(super) bytes: u64,
    pub(super) copy_in: bool,
    pub(super) copy_out: Option<u64>,
}

impl Answer {
    /// Ends a command whose tag counts so many rows.
    pub(super) fn command_ended(&mut self, counted: u64) {
        let sent = self.rows_sent - self.rows_ended;
        self.rows = self.rows.saturating_add(counted.max(sent));
        if std::mem::take(&mut self.rows_copied) > 0 {
            self.rows_sent = self.rows_sent.saturating_add(counted);
        }
        self.rows_ended = self.rows_sent;
    }

    /// Ends the answer, wherever its command was. Returns its rows, and those that were sent.
    pub(super) fn rows(&mut self) -> (u64, u64) {
        self.rows_sent += std::mem::take(&mut self.rows_copied);
        let sent = self.rows_sent - self.rows_ended;
        (self.rows.saturating_add(sent), self.rows_sent)
    }

    /// The error, whatever it was, stands for a refusal.
    pub(super) fn refused(&mut self, rule: Rule) {
        self.error = Some(rule.sqlstate().into());
        self.rule = Some(rule);
    }
}
