//! A log of one working day, for the tests of this module.
//!
//! It is not part of the program.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{EvidenceReport, ReportCollector, ReportPeriod};
use crate::audit::LogRecord;
use crate::audit::verify::VerifyReport;

pub(super) fn at(minute: i64) -> Timestamp {
    "2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

/// Records of these events, each with the minute it happened.
pub(super) fn records(events: impl IntoIterator<Item = (i64, Value)>) -> Vec<LogRecord> {
    let numbered = events.into_iter().zip(1_u64..);
    numbered
        .map(|((minute, event), seq)| {
            let mut line = json!({"v": 2, "seq": seq, "time": format!("{:.6}", at(minute)), "chain": "0123456789abcdef"});
            let fields = event.as_object().unwrap().clone();
            line.as_object_mut().unwrap().extend(fields);
            LogRecord::parse(line.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .collect()
}

fn with(mut event: Value, more: &Value) -> Value {
    let fields = more.as_object().unwrap().clone();
    event.as_object_mut().unwrap().extend(fields);
    event
}

fn who(number: u8, identity: &str) -> Value {
    json!({"session": format!("se_00000000{number:02}"), "grant": format!("gr_00000000{number:02}"), "identity": identity, "target": "orders"})
}

pub(super) fn grant(number: u8, identity: &str, change: &str, by: &str, until: Option<i64>) -> Value {
    let event = json!({"event": "grant_changed", "grant": format!("gr_00000000{number:02}"), "identity": identity, "target": "orders",
        "change": change, "by": by, "reason": "BUG-812", "activate_by": at(60), "window_seconds": 1800});
    match until {
        Some(minute) => with(event, &json!({"until": at(minute)})),
        None => event,
    }
}

pub(super) fn request(number: u8, identity: &str, change: &str, by: &str, more: &Value) -> Value {
    let event = json!({"event": "request_changed", "request": format!("rq_00000000{number:02}"), "identity": identity,
        "target": "orders", "profile": "read-write", "change": change, "by": by, "window_seconds": 1800,
        "policy_set": "ab".repeat(32)});
    with(event, more)
}

pub(super) fn started(number: u8, identity: &str) -> Value {
    let more = json!({"event": "session_started", "client": "10.0.0.7", "port": 5555, "tls": "TLSv1.3", "backend_pid": 4711, "until": at(40)});
    with(more, &who(number, identity))
}

pub(super) fn statement(number: u8, identity: &str, statement: u64, kind: &str) -> Value {
    let more = json!({"event": "statement", "statement": statement, "kind": kind, "sql": {"text": "SELECT 'a'"}, "parameters": [{"text": "b"}]});
    with(more, &who(number, identity))
}

pub(super) fn outcome(number: u8, identity: &str, statement: u64, result: &str, rows: u64) -> Value {
    let more =
        json!({"event": "outcome", "statement": statement, "result": result, "rows": rows, "bytes": 80, "duration_us": 230});
    with(more, &who(number, identity))
}

pub(super) fn role(number: u8, change: &str, more: &Value) -> Value {
    let event = json!({"event": "role_changed", "grant": format!("gr_00000000{number:02}"), "target": "orders",
        "role": format!("role_{number}"), "change": change});
    with(event, more)
}

/// A statement that runs, and its outcome with the server's command tags.
pub(super) fn executed(number: u8, identity: &str, statement: u64, sql: &str, tags: &[&str]) -> [Value; 2] {
    [
        with(
            self::statement(number, identity, statement, "query"),
            &json!({"sql": {"text": sql}}),
        ),
        with(outcome(number, identity, statement, "completed", 0), &json!({"tags": tags})),
    ]
}

/// A statement that the guard rails refuse, and its outcome.
pub(super) fn refused(number: u8, identity: &str, statement: u64, rule: &str) -> [Value; 2] {
    let refused = with(
        outcome(number, identity, statement, "failed", 0),
        &json!({"rule": rule, "sqlstate": "42501"}),
    );
    [self::statement(number, identity, statement, "query"), refused]
}

/// Statements that ran and were undone.
pub(super) fn undone(number: u8, identity: &str, first: u64, last: u64) -> Value {
    let rolled_back = json!({"first": first, "last": last, "sqlstate": "23503"});
    let more = json!({"event": "transaction_changed", "statement": last, "transaction": "idle", "rolled_back": rolled_back});
    with(more, &who(number, identity))
}

pub(super) fn ended(number: u8, identity: &str, more: &Value) -> Value {
    let event = json!({"event": "session_ended", "ending": "expired", "sqlstate": "57P01", "fate": "rolled_back", "duration_us": 61_000_000,
        "statements": 2, "rows": 7, "bytes_in": 10, "bytes_out": 20});
    with(with(event, &who(number, identity)), more)
}

/// A day on which everything happens once.
#[expect(clippy::too_many_lines, reason = "a list")]
pub(crate) fn day() -> Vec<LogRecord> {
    let policies = json!({"policies": ["testers-ask"], "reason": "BUG-812", "ticket": "BUG-812"});
    let approved = json!({"policies": ["leads-approve"], "grant": "gr_0000000001"});
    let glass = json!({"policies": ["oncall"], "reason": "it <burns>", "break_glass": true, "grant": "gr_0000000002"});
    let glass_again = json!({"policies": ["oncall"], "reason": "again", "break_glass": true, "grant": "gr_0000000003"});
    let seen = json!({"reason": "fine", "break_glass": true, "grant": "gr_0000000002"});
    let [forbidden, its_outcome] = refused(1, "ana", 5, "need_where");
    records([
        (0, json!({"event": "gate_started", "version": "0.1.0", "pid": 42})),
        (
            0,
            json!({"event": "policy_loaded", "accepted": true, "policy_set": "ab".repeat(32), "detail": "12 policies"}),
        ),
        (
            1,
            json!({"event": "user_changed", "identity": "ana", "change": "added", "by": "ops", "groups": ["qa"]}),
        ),
        (2, request(1, "ana", "submitted", "ana", &policies)),
        (3, request(1, "ana", "approved", "lea", &approved)),
        (3, grant(1, "ana", "created", "lea", None)),
        (4, grant(1, "ana", "activated", "ana", Some(34))),
        (4, role(1, "made", &json!({"until": at(34)}))),
        (4, started(1, "ana")),
        (5, statement(1, "ana", 1, "parse")),
        (5, outcome(1, "ana", 1, "failed", 0)),
        (5, statement(1, "ana", 2, "execute")),
        (5, outcome(1, "ana", 2, "completed", 7)),
        (6, statement(1, "ana", 3, "query")),
        (6, outcome(1, "ana", 3, "failed", 0)),
        (6, statement(1, "ana", 4, "execute")),
        (6, outcome(1, "ana", 4, "skipped", 0)),
        (7, forbidden),
        (7, its_outcome),
        (8, undone(1, "ana", 2, 2)),
        (34, ended(1, "ana", &json!({"overshoot_us": 12_000, "backend_gone": true}))),
        (35, role(1, "retired", &json!({}))),
        (35, request(2, "oli", "granted", "oli", &glass)),
        (35, grant(2, "oli", "created", "oli", None)),
        (36, grant(2, "oli", "activated", "oli", Some(66))),
        (36, role(2, "made", &json!({"until": at(66)}))),
        (36, started(2, "oli")),
        (37, role(2, "intruder_ended", &json!({"detail": "from \u{1b}10.0.0.9"}))),
        (
            40,
            ended(
                2,
                "oli",
                &json!({"ending": "killed", "overshoot_us": 1_500_000, "backend_gone": true}),
            ),
        ),
        (41, request(2, "oli", "reviewed", "lea", &seen)),
        (42, request(3, "oli", "granted", "oli", &glass_again)),
        (42, grant(3, "oli", "created", "oli", None)),
        (
            43,
            with(grant(4, "ana", "created", "ops", None), &json!({"profile": "read-only"})),
        ),
        (
            44,
            request(5, "fay", "denied", "fay", &json!({"reason": "no policy allows it"})),
        ),
        (45, request(6, "fay", "submitted", "fay", &policies)),
        (45, request(6, "fay", "rejected", "lea", &json!({"reason": "=not now"}))),
        (
            46,
            json!({"event": "decision_made", "identity": "ana", "action": "approve", "about": "rq_0000000006", "allowed": false,
            "policy_set": "ab".repeat(32)}),
        ),
        (
            47,
            json!({"event": "refused", "client": "10.0.0.9", "port": 1, "user": "eve\u{1b}[2J", "ending": "bad_secret", "sqlstate": "28P01"}),
        ),
        (
            48,
            json!({"event": "refused", "client": "10.0.0.9", "port": 2, "user": "eve\u{1b}[2J", "ending": "bad_secret", "sqlstate": "28P01"}),
        ),
        (
            49,
            json!({"event": "identity_refused", "client": "10.0.0.9", "claimed": "eve", "detail": "the token has expired"}),
        ),
        (50, started(2, "oli")),
        (51, statement(2, "oli", 1, "query")),
        (
            51,
            json!({"event": "journal_healed", "fault": "disk_full", "since": at(50), "refused": 3, "lost": 2}),
        ),
        (
            52,
            json!({"event": "reloaded", "accepted": false, "detail": "tidegate.toml:3: no"}),
        ),
        (55, json!({"event": "gate_started", "version": "0.1.0", "pid": 43})),
    ])
}

pub(crate) fn collect(records: &[LogRecord], from: i64, to: i64, verdict: Result<VerifyReport, String>) -> EvidenceReport {
    let mut collector = ReportCollector::new(ReportPeriod {
        from: at(from),
        to: at(to),
    });
    for record in records {
        collector.take(Ok(record));
    }
    collector.report(verdict, Some("audit-key.pub".to_owned()))
}

pub(crate) fn whole() -> VerifyReport {
    VerifyReport {
        log: Some("lg_0123456789".parse().unwrap()),
        segments: 1,
        lines: 37,
        bytes: 4711,
        first: 1,
        last: 37,
        proven: 36,
        keys: vec!["0123456789abcdef".to_owned()],
        key_given: true,
        held_to: Some(36),
        held_against: vec![crate::audit::verify::CheckedCheckpoint {
            source: crate::audit::saved_checkpoint::CheckpointSource::Beside,
            covers: 36,
        }],
        flaw: None,
        remarks: Vec::new(),
    }
}
