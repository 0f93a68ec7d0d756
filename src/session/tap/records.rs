//! The records of a statement, put together from what the tap knows.
//!
//! It observes nothing and writes nothing.

use std::borrow::Cow;

use tokio::time::Instant;

use crate::audit::Batch;
use crate::audit::event::{Done, Event, Kind, Outcome, RolledBack, Statement, Text, TransactionChanged, TransactionStatus, Who};
use crate::clock::Moment;
use crate::session::book::{Settled, Undone};
use crate::wire::backend::Transaction;

pub(super) fn record(outcomes: &mut Batch, who: &Who, settled: &Settled, now: Moment) {
    let outcome = Outcome {
        result: settled.done,
        sqlstate: settled.sqlstate.as_deref().map(Text::of),
        rule: settled.rule.map(|rule| Text(Cow::Borrowed(rule.name()))),
        tags: settled.tags.iter().map(|tag| Text::of(tag)).collect(),
        rows: settled.rows,
        bytes: settled.bytes,
        copy_in_bytes: settled.copy_in,
        copy_out_bytes: settled.copy_out,
        first_byte_us: settled.first.map(|first| micros(settled.since, first)),
        duration_us: micros(settled.since, now.instant),
        transaction: settled.transaction.map(status),
        ..no_outcome(who, settled.statement)
    };
    outcomes.push(now.time, &Event::Outcome(outcome));
}

/// After the statement the transaction is this, and what may have been undone is.
pub(super) fn transaction(
    outcomes: &mut Batch,
    who: &Who,
    (statement, is): (u64, Transaction),
    undone: Option<&Undone>,
    now: Moment,
) {
    let changed = TransactionChanged {
        who: Cow::Borrowed(who),
        statement,
        transaction: status(is),
        rolled_back: undone.map(|undone| RolledBack {
            first: undone.first,
            last: undone.last,
            sqlstate: Text::of(&undone.sqlstate),
        }),
    };
    outcomes.push(now.time, &Event::TransactionChanged(changed));
}

fn status(transaction: Transaction) -> TransactionStatus {
    match transaction {
        Transaction::Idle => TransactionStatus::Idle,
        Transaction::Open => TransactionStatus::Open,
        Transaction::Failed => TransactionStatus::Failed,
    }
}

pub(super) fn no_outcome(who: &Who, statement: u64) -> Outcome<'_> {
    Outcome {
        who: Cow::Borrowed(who),
        statement,
        result: Done::Unknown,
        sqlstate: None,
        rule: None,
        tags: Vec::new(),
        rows: 0,
        bytes: 0,
        copy_in_bytes: None,
        copy_out_bytes: None,
        first_byte_us: None,
        duration_us: 0,
        transaction: None,
    }
}

pub(super) fn blank(who: &Who, statement: u64, kind: Kind) -> Statement<'_> {
    Statement {
        who: Cow::Borrowed(who),
        statement,
        kind,
        sql: None,
        prepared: None,
        portal: None,
        text_uncertain: false,
        continued: false,
        opaque: false,
        parameters: Vec::new(),
        parameter_count: None,
        function: None,
    }
}

fn micros(since: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}
