//! What comes of a statement: collected while it is answered, and settled when it is.
//!
//! It does not know which message belongs to which statement.

use tokio::time::Instant;

use crate::audit::event::Done;
use crate::rails::Rule;
use crate::wire::backend::Transaction;

/// An answered (or skipped) statement.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Settled {
    /// Its number in the session.
    pub(in crate::session) statement: u64,
    pub(in crate::session) done: Done,
    pub(in crate::session) sqlstate: Option<Vec<u8>>,
    /// The guard rail or limit that refused it.
    pub(in crate::session) rule: Option<Rule>,
    pub(in crate::session) tags: Vec<Vec<u8>>,
    pub(in crate::session) rows: u64,
    pub(in crate::session) bytes: u64,
    pub(in crate::session) copy_in: Option<u64>,
    pub(in crate::session) copy_out: Option<u64>,
    pub(in crate::session) since: Instant,
    /// When the first byte of the answer came.
    pub(in crate::session) first: Option<Instant>,
    /// The transaction after it, where its answer ends with that.
    pub(in crate::session) transaction: Option<Transaction>,
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
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) copy_in: bool,
    pub(super) copy_out: Option<u64>,
}

impl Answer {
    /// The error, whatever it was, stands for a refusal.
    pub(super) fn refused(&mut self, rule: Rule) {
        self.error = Some(rule.sqlstate().into());
        self.rule = Some(rule);
    }
}
