//! Events for the tests of this module.
//!
//! It is not part of the program.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::chain::{ChainLink, LinkMark, seal_as};
use super::checkpoint::Checkpoint;
use super::encode::RecordBatch;
use super::event::{
    BackendGone, CancelRequested, ConnectionRefused, CopyChangeKind, CopyChanged, DecisionMade, Event, GateStarted,
    GrantChangeKind, GrantChanged, GrantJoined, IdentityRefused, JournalFault, JournalHealed, KeyChanged, LineChangeKind,
    LineChanged, OutsideText, ParameterValue, PolicyLoaded, RefusalKind, RefusalsCounted, RequestChangeKind, RequestChanged,
    RoleChangeKind, RoleChanged, RolledBack, RowChange, RowOperation, RowsChanged, SegmentBegan, SegmentsRemoved, SessionEnded,
    SessionStarted, SignInChangeKind, SignInChanged, SqlText, Statement, StatementKind, StatementOutcome, StatementResult,
    TlsVersion, TransactionChanged, TransactionStatus, UserChangeKind, UserChanged, Who,
};
use super::key::{PublicKey, Signature};
use super::record::{LogRecord, VERSION};
use crate::model::arrival::CallerVia;
use crate::model::ending::{EndingKind, FateKind};
use crate::model::ids::{GrantId, LogId, SessionId};
use crate::model::line::UseMode;
use crate::model::sign_in::SignInVia;

pub(crate) fn time(second: i64) -> Timestamp {
    "2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
}

/// A session of one's own for each number.
pub(crate) fn who(number: u8, identity: &str) -> Who {
    Who {
        session: SessionId::from_random([number; 10]),
        grant: GrantId::from_random([number; 10]),
        identity: identity.parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    }
}

pub(crate) fn record(seq: u64, event: Event<'static>) -> LogRecord {
    LogRecord {
        v: VERSION,
        seq,
        time: time(i64::try_from(seq).unwrap()),
        event,
        chain: LinkMark::default(),
    }
}

pub(crate) fn statement(who: &Who, statement: u64, sql: &str, parameters: &[&str]) -> Event<'static> {
    let text = |text: &str| OutsideText(Cow::Owned(text.to_owned()));
    Event::Statement(Statement {
        who: Cow::Owned(who.clone()),
        statement,
        kind: if parameters.is_empty() {
            StatementKind::Query
        } else {
            StatementKind::Execute
        },
        sql: Some(SqlText::whole(text(sql))),
        prepared: None,
        portal: None,
        with_parse: false,
        text_uncertain: false,
        continued: false,
        opaque: false,
        parameters: parameters
            .iter()
            .map(|parameter| ParameterValue::Text(text(parameter)))
            .collect(),
        parameter_count: None,
        function: None,
    })
}

/// A statement that was parsed with its Execute.
pub(crate) fn with_parse(who: &Who, statement: u64, sql: &str) -> Event<'static> {
    match self::statement(who, statement, sql, &["x"]) {
        Event::Statement(statement) => Event::Statement(Statement {
            with_parse: true,
            ..statement
        }),
        other => other,
    }
}

/// Its outcome, if the Parse failed.
pub(crate) fn parse_failed(who: &Who, statement: u64, sqlstate: &'static str) -> Event<'static> {
    match outcome(who, statement, Some(sqlstate)) {
        Event::Outcome(outcome) => Event::Outcome(StatementOutcome {
            parse_failed: true,
            rows: 0,
            rows_sent: 0,
            ..outcome
        }),
        other => other,
    }
}

/// The events of records that were pushed, as readers have them.
pub(crate) fn events(batch: &RecordBatch) -> Vec<Event<'static>> {
    let sealed = batch.lines.iter().map(|line| {
        let mut sealed = Vec::new();
        seal_as(&mut sealed, 1, line, LinkMark::default());
        LogRecord::parse(sealed.trim_ascii_end()).unwrap().event
    });
    sealed.collect()
}

/// The outcome of a statement that the server gave these command tags for.
pub(crate) fn tagged(who: &Who, statement: u64, tags: &[&str]) -> Event<'static> {
    let Event::Outcome(outcome) = outcome(who, statement, None) else {
        unreachable!("an outcome")
    };
    let tags = tags.iter().map(|tag| OutsideText(Cow::Owned((*tag).to_owned()))).collect();
    Event::Outcome(StatementOutcome { tags, ..outcome })
}

pub(crate) fn outcome(who: &Who, statement: u64, sqlstate: Option<&'static str>) -> Event<'static> {
    Event::Outcome(StatementOutcome {
        who: Cow::Owned(who.clone()),
        statement,
        result: if sqlstate.is_some() {
            StatementResult::Failed
        } else {
            StatementResult::Completed
        },
        sqlstate: sqlstate.map(|code| OutsideText(Cow::Borrowed(code))),
        rule: None,
        tags: Vec::new(),
        rows: 1,
        rows_sent: 1,
        portal_rows_sent: None,
        bytes: 80,
        copy_in_bytes: None,
        copy_out_bytes: None,
        first_byte_us: Some(220),
        duration_us: 230,
        transaction: None,
        parse_failed: false,
    })
}

pub(crate) fn skipped(who: &Who, statement: u64) -> Event<'static> {
    match outcome(who, statement, None) {
        Event::Outcome(outcome) => Event::Outcome(StatementOutcome {
            result: StatementResult::Skipped,
            rows: 0,
            rows_sent: 0,
            ..outcome
        }),
        other => other,
    }
}

pub(crate) fn rolled_back(who: &Who, first: u64, last: u64) -> Event<'static> {
    Event::TransactionChanged(TransactionChanged {
        who: Cow::Owned(who.clone()),
        statement: last,
        transaction: TransactionStatus::Idle,
        rolled_back: Some(RolledBack {
            first,
            last,
            sqlstate: OutsideText(Cow::Borrowed("23505")),
        }),
    })
}

pub(crate) fn ended(who: &Who) -> Event<'static> {
    Event::SessionEnded(Cow::Owned(SessionEnded {
        who: who.clone(),
        ending: EndingKind::Expired.into(),
        sqlstate: "57P01".to_owned(),
        detail: None,
        fate: FateKind::RolledBack.into(),
        duration_us: 61_000_000,
        statements: 2,
        rows: 1,
        rows_sent: 1,
        bytes_in: 10,
        bytes_out: 20,
        client_told: Some(true),
        backend_gone: Some(true),
        overshoot_us: Some(12_000),
    }))
}

/// One event of each kind, or two.
pub(crate) fn all() -> Vec<Event<'static>> {
    let ana = who(1, "ana");
    let client = "127.0.0.1".parse().unwrap();
    let mut all = vec![
        Event::GateStarted(Cow::Owned(GateStarted {
            version: "0.1.0".to_owned(),
            pid: 42,
        })),
        Event::GateStopped {},
        Event::Refused(Cow::Owned(ConnectionRefused {
            client,
            port: 5555,
            user: Some("gr_\u{1b}[2J".to_owned()),
            database: None,
            grant: None,
            identity: None,
            ending: EndingKind::BadSecret.into(),
            sqlstate: "28P01".to_owned(),
            detail: Some("unknown grant".to_owned()),
        })),
        Event::CancelRequested(CancelRequested {
            client,
            who: Some(ana.clone()),
            forwarded: true,
        }),
        Event::CancelRequested(CancelRequested {
            client,
            who: None,
            forwarded: false,
        }),
        Event::GrantChanged(Cow::Owned(GrantChanged {
            deadline: None,
            grant: ana.grant.clone(),
            identity: ana.identity.clone(),
            target: ana.target.clone(),
            profile: Some("read-only".parse().unwrap()),
            change: GrantChangeKind::Created.into(),
            by: "ops".to_owned(),
            reason: Some("BUG-812".to_owned()),
            activate_by: time(3600),
            until: None,
            window_seconds: 1800,
        })),
    ];
    all.extend(access(&ana));
    all.extend(chain());
    all.extend(session(&ana, client));
    all
}

/// Those of a session.
fn session(ana: &Who, client: std::net::IpAddr) -> Vec<Event<'static>> {
    vec![
        Event::SessionStarted(Cow::Owned(SessionStarted {
            who: ana.clone(),
            client,
            port: 5555,
            tls: TlsVersion::Tls13.into(),
            application: Some("psql".to_owned()),
            backend_pid: 4711,
            until: time(1800),
            groups: vec!["qa".to_owned()],
            run: Some("4711".to_owned()),
            masked_tables: 2,
            copy: None,
        })),
        ended(ana),
        Event::BackendGone(BackendGone {
            who: ana.clone(),
            backend_pid: 4711,
            overshoot_us: 6_500_000,
        }),
        statement(ana, 1, "SELECT 1", &["a\nb"]),
        outcome(ana, 1, None),
        outcome(ana, 2, Some("42P01")),
        rows_changed(ana),
    ]
}

/// A changed row.
fn rows_changed(ana: &Who) -> Event<'static> {
    let values = |value: &str| [("status".to_owned(), Some(value.to_owned())), ("note".to_owned(), None)].into();
    Event::RowsChanged(Cow::Owned(RowsChanged {
        session: Some(ana.session.clone()),
        grant: Some(ana.grant.clone()),
        identity: Some(ana.identity.clone()),
        target: ana.target.clone(),
        profile: ana.profile.clone(),
        schema: "shop".to_owned(),
        table: "orders".to_owned(),
        operation: RowOperation::Update.into(),
        role: "gr_1111111111_ana".to_owned(),
        backend_pid: 4711,
        transaction: 812,
        change: 3,
        depth: 1,
        statement_at: time(60),
        rows: 1,
        offset: 0,
        changes: vec![RowChange {
            key: [("id".to_owned(), Some("42".to_owned()))].into(),
            old: Some(values("open")),
            new: Some(values("clo\u{202e}sed")),
            ..RowChange::default()
        }],
        old_checksum: None,
        new_checksum: None,
        hashed: false,
        masked: vec!["note".to_owned()],
        generated: vec!["twice".to_owned()],
    }))
}

/// Those of the log itself.
fn chain() -> Vec<Event<'static>> {
    let log = LogId::from_random([3; 10]);
    let key: PublicKey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".parse().unwrap();
    let signature = Signature::try_from("AA==".to_owned()).unwrap();
    vec![
        Event::JournalHealed(JournalHealed {
            fault: JournalFault::TornTail,
            since: None,
            refused: 0,
            lost: 0,
            cut_bytes: 12,
            detail: Some("audit-000001.jsonl, behind line 7".to_owned()),
        }),
        Event::SegmentBegan(Cow::Owned(SegmentBegan {
            log: log.clone(),
            segment: 2,
            previous: ChainLink::START.after(b"x"),
            key,
            rest_void: false,
        })),
        Event::Checkpoint(Cow::Owned(Checkpoint {
            log,
            covers: 7,
            link: ChainLink::START.after(b"y"),
            key,
            signature,
        })),
        Event::KeyChanged(KeyChanged {
            key,
            previous: key,
            vouched: true,
            by: "ops".to_owned(),
        }),
        Event::SegmentsRemoved(SegmentsRemoved {
            first: 1,
            last: 3,
            last_seq: 99,
            link: ChainLink::START,
        }),
    ]
}

/// Those of people and their requests.
#[expect(clippy::too_many_lines, reason = "one of each event")]
fn access(ana: &Who) -> Vec<Event<'static>> {
    let client = "127.0.0.1".parse().unwrap();
    vec![
        Event::RequestChanged(Cow::Owned(RequestChanged {
            request: crate::model::ids::RequestId::from_random([7; 10]),
            identity: ana.identity.clone(),
            target: ana.target.clone(),
            profile: "read-only".parse().expect("a profile"),
            change: RequestChangeKind::Granted.into(),
            by: ana.identity.clone(),
            window_seconds: 1800,
            reason: Some("BUG-812".to_owned()),
            ticket: None,
            break_glass: false,
            grant: Some(ana.grant.clone()),
            policies: vec!["qa-reads".to_owned()],
            policy_set: Some("ab".repeat(32)),
            errors: Vec::new(),
            client: None,
            via: Some(CallerVia::Slack.into()),
            issuer: None,
            claims: std::collections::BTreeMap::new(),
        })),
        Event::GrantJoined(Cow::Owned(GrantJoined {
            grant: ana.grant.clone(),
            identity: ana.identity.clone(),
            target: ana.target.clone(),
            profile: Some("read-write".parse().unwrap()),
            reason: "BUG-813".to_owned(),
            client: None,
        })),
        Event::DecisionMade(Cow::Owned(DecisionMade {
            identity: ana.identity.clone(),
            action: "extend".to_owned(),
            about: ana.grant.to_string(),
            allowed: false,
            client: None,
            via: Some(CallerVia::Api.into()),
            policies: Vec::new(),
            errors: Vec::new(),
            policy_set: "ab".repeat(32),
        })),
        Event::RoleChanged(Cow::Owned(RoleChanged {
            grant: ana.grant.clone(),
            target: ana.target.clone(),
            role: format!("{}_{}", ana.grant, ana.identity),
            change: RoleChangeKind::Made.into(),
            until: Some(Timestamp::UNIX_EPOCH),
            detail: None,
        })),
        Event::CopyChanged(Cow::Owned(CopyChanged {
            grant: ana.grant.clone(),
            target: ana.target.clone(),
            database: format!("{}_lg_4k2m9x0a7b", ana.grant),
            template: Some("orders_golden".to_owned()),
            change: CopyChangeKind::Ready.into(),
            took_us: Some(212_000),
            detail: None,
        })),
        Event::LineChanged(Cow::Owned(LineChanged {
            grant: ana.grant.clone(),
            identity: ana.identity.clone(),
            target: ana.target.clone(),
            profile: Some("read-write".parse().unwrap()),
            change: LineChangeKind::Took.into(),
            mode: UseMode::Write.into(),
            place: None,
            behind: Some("gr_0123456789".parse().unwrap()),
            behind_identity: Some("ben@example.com".parse().unwrap()),
            waited_us: Some(61_000_000),
        })),
        Event::UserChanged(Cow::Owned(UserChanged {
            identity: ana.identity.clone(),
            change: UserChangeKind::Added.into(),
            by: "ops".to_owned(),
            groups: vec!["qa".to_owned()],
        })),
        Event::SignInChanged(Cow::Owned(SignInChanged {
            sign_in: "si_4k2m9x0a7b".parse().unwrap(),
            identity: ana.identity.clone(),
            change: SignInChangeKind::SignedIn.into(),
            by: ana.identity.to_string(),
            via: SignInVia::Console.into(),
            client: Some(client),
            issuer: None,
            groups: vec!["qa".to_owned()],
            until: Timestamp::UNIX_EPOCH,
            reason: None,
        })),
        Event::IdentityRefused(Cow::Owned(IdentityRefused {
            client: Some(client),
            claimed: Some("eve".to_owned()),
            detail: "the token has expired".to_owned(),
        })),
        Event::RefusalsCounted(RefusalsCounted {
            network: Some("192.0.2.7".to_owned()),
            ending: RefusalKind::Ending(EndingKind::BadSecret).into(),
            count: 991,
            first: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
        }),
        Event::PolicyLoaded(Cow::Owned(PolicyLoaded {
            accepted: true,
            policy_set: Some("ab".repeat(32)),
            detail: "12 policies".to_owned(),
        })),
    ]
}
