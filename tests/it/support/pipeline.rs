//! Sessions that send statements without waiting for answers; each statement records its time in a table.
//!
//! It asserts nothing about the gate.

use bytes::BytesMut;
use jiff::Timestamp;
use postgres_protocol::message::frontend;
use tokio_postgres::Client;

use super::{Database, Frame, Raw, Told};

/// Table of the times at which statements were executed, by the target's clock.
pub(crate) struct Witness {
    pub(crate) table: String,
    client: Client,
}

/// Way of pipelining statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipeline {
    /// Simple queries.
    Queries,
    /// Extended queries, each with its Sync.
    Groups,
    /// Many extended queries up to one Sync.
    OneGroup,
    /// Simple queries of many statements, each in a transaction of its own.
    Strings,
}

/// Maximum number of messages ahead of their answers.
const AHEAD: usize = 400;
/// Number of messages sent at once.
const BATCH: usize = 100;

impl Witness {
    pub(crate) async fn table(database: &Database, table: &str) -> Self {
        let make = format!("SET ROLE shop_app; CREATE TABLE {table} (session int, kind text, at timestamptz)");
        database.server.batch("shop", &make).await.expect("a table");
        Self {
            table: table.to_owned(),
            client: database.server.client("shop").await.expect("a connection"),
        }
    }

    /// Returns the statement that records its time.
    pub(crate) fn insert(&self, session: usize, kind: &str) -> String {
        format!("INSERT INTO {} VALUES ({session}, '{kind}', clock_timestamp())", self.table)
    }

    /// Returns the number of executed statements, the number executed later than `time`, and the delay of the last one in
    /// milliseconds.
    pub(crate) async fn later_than(&self, time: Timestamp, kind: &str) -> (i64, i64, f64) {
        let count = format!(
            "SELECT count(*), count(*) FILTER (WHERE at > $1::text::timestamptz),
                    coalesce(extract(epoch FROM max(at) - $1::text::timestamptz), 0)::float8 * 1000
             FROM {} WHERE kind LIKE $2",
            self.table
        );
        let row = self
            .client
            .query_one(&count, &[&time.to_string(), &kind])
            .await
            .expect("a count");
        (row.get(0), row.get(1), row.get(2))
    }
}

impl Pipeline {
    /// Keeps the pipeline full until the session ends. Returns the final error, and the time it arrived.
    pub(crate) async fn keep_full(self, mut raw: Raw, insert: String) -> (Told, Timestamp) {
        let batch = self.batch(&insert);
        let mut unanswered = 0;
        loop {
            while unanswered + BATCH <= AHEAD {
                raw.send(&batch).await;
                unanswered += BATCH;
            }
            match raw.frame().await {
                Some(Frame { kind: b'E', body }) => return (Told::read(&body), Timestamp::now()),
                Some(frame) => unanswered -= usize::from(frame.kind == self.answer()),
                None => panic!("closed without a word"),
            }
        }
    }

    /// Executes `statements` statements, with a full pipeline.
    pub(crate) async fn run(self, mut raw: Raw, sql: &'static str, statements: u32) {
        let batch = self.batch(sql);
        let (mut sent, mut answered) = (0, 0);
        while answered < statements as usize {
            while sent < statements as usize && sent - answered + BATCH <= AHEAD {
                raw.send(&batch).await;
                sent += BATCH;
            }
            let frame = raw.frame().await.expect("a message");
            answered += usize::from(frame.kind == self.answer());
        }
    }

    /// Returns the type of the message that answers one message of a batch.
    fn answer(self) -> u8 {
        if self == Self::OneGroup { b'C' } else { b'Z' }
    }

    /// Returns [`BATCH`] messages, each with a countable answer.
    fn batch(self, insert: &str) -> BytesMut {
        let mut out = BytesMut::new();
        let string = format!("BEGIN; {insert}; COMMIT;").repeat(20);
        for _ in 0..BATCH {
            match self {
                Self::Queries => frontend::query(insert, &mut out).expect("a query"),
                Self::Strings => frontend::query(&string, &mut out).expect("a query"),
                Self::Groups | Self::OneGroup => execute(insert, &mut out),
            }
            if self == Self::Groups {
                frontend::sync(&mut out);
            }
        }
        if self == Self::OneGroup {
            frontend::sync(&mut out);
        }
        out
    }
}

fn execute(sql: &str, out: &mut BytesMut) {
    frontend::parse("", sql, [], out).expect("parse");
    frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], out)
        .map_err(|_| ())
        .expect("bind");
    frontend::execute("", 0, out).expect("execute");
}
