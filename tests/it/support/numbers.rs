//! Statements that write their own number into a table: the table shows which ran, the log which are on record.
//!
//! Half of the writers use the simple protocol, half the extended one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tidegate::demo::testkit::{TestGate, TestLogin};

use super::{Raw, Told, audit, database, records};

/// Number of concurrent writers.
pub(crate) const WRITERS: u32 = 6;

/// Table, and the number that was written last.
pub(crate) struct Numbers {
    table: &'static str,
    next: Arc<AtomicU64>,
}

impl Numbers {
    pub(crate) async fn into(table: &'static str) -> Self {
        let make = format!("SET ROLE shop_app; CREATE TABLE {table} (n bigint PRIMARY KEY)");
        database().server.batch("shop", &make).await.expect("a table");
        Self {
            table,
            next: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Returns the number of statements sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Starts writers that write until their connection ends; each returns the error it ended with, if it received one.
    pub(crate) async fn write(&self, gate: &TestGate, login: &TestLogin) -> Vec<tokio::task::JoinHandle<Option<Told>>> {
        self.write_at_once(gate, login, WRITERS).await
    }

    /// Starts a given number of writers, as [`Self::write`] does.
    pub(crate) async fn write_at_once(
        &self,
        gate: &TestGate,
        login: &TestLogin,
        writers: u32,
    ) -> Vec<tokio::task::JoinHandle<Option<Told>>> {
        let many = writers;
        let mut writers = Vec::new();
        for writer in 0..many {
            let raw = Raw::session(gate, login).await;
            writers.push(tokio::spawn(write(raw, self.table, Arc::clone(&self.next), writer)));
        }
        writers
    }

    /// Asserts that every statement that ran is on record, that the log's sequence numbers have no gap, and that the log
    /// verifies; returns a summary.
    pub(crate) async fn all_on_record(&self, gate: &TestGate) -> String {
        let client = database().server.client("shop").await.expect("a connection");
        let rows = client
            .query(&format!("SELECT n FROM {}", self.table), &[])
            .await
            .expect("rows");
        let ran: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let all = records(gate);
        let logged: HashSet<i64> = all.iter().filter_map(|record| self.number_of(record)).collect();
        let missing: Vec<_> = ran.difference(&logged).collect();
        assert!(missing.is_empty(), "ran and are not on record: {missing:?}");
        assert!(!ran.is_empty());
        let numbers: Vec<_> = all.iter().filter_map(|record| record["seq"].as_u64()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the log has no gap");
        proven(gate);
        format!("{} statements ran, {} are on record", ran.len(), logged.len())
    }

    /// Returns the number that a recorded statement writes.
    fn number_of(&self, record: &Value) -> Option<i64> {
        if record["event"] != "statement" {
            return None;
        }
        let text = match record["kind"].as_str()? {
            "query" => record["sql"]["text"]
                .as_str()?
                .strip_prefix(&format!("INSERT INTO {} VALUES (", self.table))?
                .strip_suffix(')')?,
            "execute" => record["parameters"][0]["text"].as_str()?,
            _ => return None,
        };
        text.parse().ok()
    }
}

/// Asserts that the log of this gate, running or not, verifies; returns the verdict.
pub(crate) fn proven(gate: &TestGate) -> Value {
    let (code, verdict) = audit(gate, &["verify"]);
    assert_eq!(code, Some(0), "{verdict:#}");
    verdict
}

async fn write(mut raw: Raw, table: &'static str, next: Arc<AtomicU64>, writer: u32) -> Option<Told> {
    use postgres_protocol::message::frontend;
    let mut told = None;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if writer.is_multiple_of(2) {
            raw.query(&format!("INSERT INTO {table} VALUES ({n})")).await;
        } else {
            raw.write(|out| {
                frontend::parse("", &format!("INSERT INTO {table} VALUES ($1)"), [20], out).expect("parse");
                let text = |n: u64, out: &mut bytes::BytesMut| {
                    out.extend_from_slice(n.to_string().as_bytes());
                    Ok(postgres_protocol::IsNull::No)
                };
                frontend::bind("", "", [0], [n], text, [], out).map_err(|_| ()).expect("bind");
                frontend::execute("", 0, out).expect("execute");
                frontend::sync(out);
            })
            .await;
        }
        loop {
            match raw.torn_frame().await {
                Some(frame) if frame.kind == b'Z' => break,
                Some(frame) if frame.kind == b'E' => told = Some(Told::read(&frame.body)),
                Some(_) => {}
                None => return told,
            }
        }
    }
}
