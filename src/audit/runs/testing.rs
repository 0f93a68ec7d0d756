//! Runs of a small suite, for the tests of this module and of the command line.
//!
//! It is not part of the program.

use std::borrow::Cow;

use super::assemble::assemble;
use super::collect::RunCollector;
use super::concurrent::ConcurrentWriteCollector;
use super::diff::RunDiff;
use super::report::RunReport;
use super::selector::RunSelector;
use super::statements::RunStatements;
use crate::audit::event::{Event, SessionStarted, StatementKind, StatementOutcome, TlsVersion, Who};
use crate::audit::record::LogRecord;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::testing::{ended, outcome, record, rolled_back, skipped, statement, tagged, time, who};

/// Log of a run and of others, in order.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    run: RunSelector,
    pub(super) records: Vec<LogRecord>,
    /// Sessions of the run.
    own: Vec<Who>,
    /// Last statement of each session.
    numbers: [u64; 256],
}

impl Suite {
    /// Begins the log of a run.
    pub(crate) fn begin(run: &str) -> Self {
        Self {
            run: run.parse().unwrap(),
            records: Vec::new(),
            own: Vec::new(),
            numbers: [0; 256],
        }
    }

    /// Appends a record.
    pub(super) fn add(&mut self, event: Event<'static>) {
        let seq = self.records.len() as u64 + 1;
        self.records.push(record(seq, event));
    }

    /// Begins a session of the run.
    pub(super) fn session(&mut self, number: u8, application: &str) {
        let who = who(number, "ana");
        self.own.push(who.clone());
        self.started(&who, application, Some(&self.run.to_string()));
    }

    /// Begins a session of somebody else.
    pub(super) fn other(&mut self, number: u8, run: Option<&str>) {
        self.started(&who(number, "ben"), "psql", run);
    }

    fn started(&mut self, who: &Who, application: &str, run: Option<&str>) {
        self.add(Event::SessionStarted(Cow::Owned(SessionStarted {
            who: who.clone(),
            client: "127.0.0.1".parse().unwrap(),
            port: 5555,
            tls: TlsVersion::Tls13.into(),
            application: Some(application.to_owned()),
            backend_pid: 4711,
            until: time(1800),
            groups: Vec::new(),
            run: run.map(str::to_owned),
            masked_tables: 0,
            copy: None,
        })));
    }

    fn of(&self, number: u8) -> Who {
        let own = who(number, "ana");
        if self.own.iter().any(|known| known.session == own.session) {
            own
        } else {
            who(number, "ben")
        }
    }

    /// Appends a statement without its outcome; returns its number.
    pub(super) fn sent(&mut self, session: u8, sql: &str) -> u64 {
        let who = self.of(session);
        let number = &mut self.numbers[usize::from(session)];
        *number += 1;
        let number = *number;
        self.add(statement(&who, number, sql, &[]));
        number
    }

    /// Appends a text that is prepared only.
    pub(super) fn prepared(&mut self, session: u8, sql: &str) {
        self.sent(session, sql);
        if let Some(Event::Statement(statement)) = self.records.last_mut().map(|record| &mut record.event) {
            statement.kind = StatementKind::Parse;
        }
    }

    /// Appends a statement that continues a portal.
    pub(super) fn continued(&mut self, session: u8, sql: &str) {
        let number = self.sent(session, sql);
        if let Some(Event::Statement(statement)) = self.records.last_mut().map(|record| &mut record.event) {
            statement.continued = true;
        }
        self.answered(session, number, "SELECT 5");
    }

    /// Appends the outcome of a statement that ran.
    pub(super) fn answered(&mut self, session: u8, number: u64, tag: &str) {
        let rows = tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        if let Event::Outcome(outcome) = tagged(&self.of(session), number, &[tag]) {
            let duration_us = 100 + number;
            self.add(Event::Outcome(StatementOutcome {
                rows,
                duration_us,
                ..outcome
            }));
        }
    }

    /// Appends the outcome of a statement that failed.
    pub(super) fn refused(&mut self, session: u8, number: u64, sqlstate: &'static str) {
        let who = self.of(session);
        self.add(outcome(&who, number, Some(sqlstate)));
    }

    /// Appends the outcome of a statement that was skipped.
    pub(super) fn skipped(&mut self, session: u8, number: u64) {
        let who = self.of(session);
        self.add(skipped(&who, number));
    }

    /// Appends a statement that ran, with its command tag.
    pub(super) fn ran(&mut self, session: u8, sql: &str, tag: &str) {
        let number = self.sent(session, sql);
        self.answered(session, number, tag);
    }

    /// Appends a statement that failed.
    pub(super) fn failed(&mut self, session: u8, sql: &str, sqlstate: &'static str) {
        let number = self.sent(session, sql);
        self.refused(session, number, sqlstate);
    }

    /// Appends that statements were rolled back after they had run.
    pub(super) fn undone(&mut self, session: u8, first: u64, last: u64) {
        let who = self.of(session);
        self.add(rolled_back(&who, first, last));
    }

    /// Ends a session.
    pub(super) fn ended(&mut self, session: u8) {
        let who = self.of(session);
        self.add(ended(&who));
    }

    fn undone_of(&self) -> Rollbacks {
        let mut undone = Rollbacks::default();
        self.records.iter().for_each(|record| undone.add(record));
        undone
    }

    pub(super) fn statements(&self) -> RunStatements {
        let mut collector = RunCollector::new(self.undone_of());
        let is_own = |record: &&LogRecord| {
            record
                .event
                .session()
                .is_some_and(|session| self.own.iter().any(|who| who.session == *session))
        };
        self.records.iter().filter(is_own).for_each(|record| collector.take(record));
        collector.finish(0)
    }

    /// Returns the report on the run.
    pub(crate) fn report(&self) -> RunReport {
        let statements = self.statements();
        let mut others = ConcurrentWriteCollector::new(&statements, self.undone_of());
        self.records.iter().for_each(|record| others.take(record));
        assemble(&self.run, &statements, Some(others.finish()), 0).unwrap()
    }

    /// Compares the run with another one.
    pub(crate) fn diff(&self, red: &Self) -> RunDiff {
        RunDiff::of((&self.run, &self.statements()), (&red.run, &red.statements()))
    }
}

/// Returns a text with its test in a comment.
pub(super) fn commented(sql: &str, test: &str) -> String {
    format!("{sql} /*test='{test}'*/")
}

fn total(suite: &mut Suite, rows: u32) {
    let of = |sql: &str| commented(sql, "test_orders.py%3A%3Atest_total");
    suite.ran(1, &of("SELECT * FROM orders WHERE customer_id = 7"), "SELECT 3");
    for item in 0..rows {
        suite.ran(1, &of(&format!("SELECT * FROM items WHERE order_id = {item}")), "SELECT 1");
    }
    suite.ran(1, &of("UPDATE shop.orders SET total = 12 WHERE id = 1"), "UPDATE 1");
}

fn lock(suite: &mut Suite) {
    suite.session(2, "pytest");
    suite.ran(2, "SET application_name = 'test_lock'", "SET");
    suite.failed(2, "SELECT * FROM orders WHERE id = 1 FOR UPDATE NOWAIT", "55P03");
    suite.ended(2);
}

/// Returns a run that went well.
pub(crate) fn suite(run: &str) -> Suite {
    let mut suite = Suite::begin(run);
    suite.session(1, "pytest");
    suite.other(9, Some("nightly"));
    suite.ran(1, "BEGIN", "BEGIN");
    suite.ran(
        1,
        &commented("SELECT * FROM customers WHERE name = 'Ana'", "test_login"),
        "SELECT 1",
    );
    total(&mut suite, 12);
    suite.ran(9, "DELETE FROM orders WHERE id > 100", "DELETE 40");
    suite.failed(1, &commented("SELECT * FROM missing", "test_login"), "42P01");
    lock(&mut suite);
    suite.ran(1, "ROLLBACK", "ROLLBACK");
    suite.ended(1);
    suite
}

/// Returns the same run with a change in one test: a statement more, one less, and one that ends otherwise.
pub(crate) fn changed(run: &str) -> Suite {
    let mut suite = Suite::begin(run);
    suite.session(1, "pytest");
    suite.ran(1, "BEGIN", "BEGIN");
    suite.ran(
        1,
        &commented("SELECT * FROM customers WHERE name = 'Ben'", "test_login"),
        "SELECT 1",
    );
    total(&mut suite, 11);
    let of = |sql: &str| commented(sql, "test_orders.py%3A%3Atest_total");
    suite.ran(1, &of("DELETE FROM orders WHERE id = 1"), "DELETE 1");
    suite.failed(1, &commented("SELECT * FROM missing", "test_login"), "42501");
    lock(&mut suite);
    suite.ran(1, "ROLLBACK", "ROLLBACK");
    suite.ended(1);
    suite
}
