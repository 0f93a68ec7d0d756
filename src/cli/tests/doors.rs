//! Situations, and what is read in each of them at each door: a plain client of the wire, `tidegate psql`, the control API, a chat
//! that a webhook leads to. One snapshot, to be read as a whole: is it true there, and can its reader do what it advises?

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::access::policy::Action;
use crate::access::strangers::Displaced;
use crate::access::{AccessError, Approvers};
use crate::cli::client_error::ClientError;
use crate::cli::endpoint::TokenFrom;
use crate::cli::wait::{WaitError, settled, waiting};
use crate::cli::{run, wait};
use crate::control::ApiError;
use crate::control::model::{GrantView, RequestBody, RequestView};
use crate::gate::session;
use crate::ledger::LedgerError;
use crate::model::ending::{
    EndedBy, Ending, EndingText, Fate, HeldBack, HeldBackBy, IDENTITY_DISABLED, LimitScope, TargetRefusal, TokenForm,
};
use crate::model::grant::ChangeError;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::IdentityName;
use crate::model::request::{RequestState, StepError};
use crate::outbound::notify::{self, Audience, EventKind, MessageFormat, RequestNotice};

const GRANT: &str = "gr_4k2m9x0a7b";
const REQUEST: &str = "rq_7c1n5d8e2f";

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The deadline is within a second: what is announced is not after it, and less than a second before it.
fn until() -> Timestamp {
    at("2026-08-01T12:30:00.7Z")
}

fn grant(change: Value) -> GrantView {
    let mut value = json!({
        "id": GRANT, "identity": "ana", "target": "orders", "profile": "read-write", "reason": "BUG-812", "request": REQUEST,
        "created_at": "2026-08-01T12:00:00Z", "created_by": "ana", "activate_by": "2026-08-01T13:00:00Z",
        "window_seconds": 1800, "deadline": null, "max_sessions": 10, "client_network": null,
        "activated_at": "2026-08-01T12:00:00.7Z", "until": until(), "revoked": null, "status": "active", "live_sessions": 1,
    });
    merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn request(change: Value) -> RequestView {
    let mut value = json!({
        "id": REQUEST, "identity": "ana", "target": "orders", "profile": "read-write", "window_seconds": 1800,
        "reason": "BUG-812", "max_sessions": 10, "submitted_at": "2026-08-01T12:00:00Z", "expires_at": "2026-08-01T13:00:00Z",
        "approvals_needed": 1, "status": "pending", "approvals_missing": 1,
    });
    merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        into[key] = value;
    }
}

fn refused(change: Value) -> String {
    let told = settled(&request(change)).expect_err("no grant came of it");
    assert!(told.exit_code() > 4, "{told}");
    told.to_string()
}

/// The table, as it is written down.
#[derive(Default)]
struct Table(String);

impl Table {
    fn situation(&mut self, title: &str) {
        let _ = write!(self.0, "\n== {title}\n");
    }

    fn plain(&mut self, ending: &Ending) {
        self.words(ending.words().expect("words"));
    }

    fn words(&mut self, words: EndingText) {
        let _ = writeln!(self.0, "psql           {} {}", words.code, words.message);
        for (part, text) in [("DETAIL", words.detail), ("HINT", words.hint)] {
            if let Some(text) = text {
                assert!(
                    !text.contains(" --reason") && !text.contains(" --for "),
                    "{text}: psql has no such option"
                );
                let _ = writeln!(self.0, "               {part}: {text}");
            }
        }
    }

    fn command(&mut self, text: &str) {
        let _ = writeln!(self.0, "tidegate psql  {text}");
    }

    /// Writes down the words of a chat about the last thing that the state of a request says.
    fn chat(&mut self, change: Value) {
        let request = Arc::new(request(change).request);
        self.notice(&RequestNotice::of(&request).last().expect("a notice"));
    }

    fn notice(&mut self, notice: &RequestNotice) {
        let body: Value = serde_json::from_str(&notify::message(
            notice,
            &Audience::Everybody,
            MessageFormat::Slack,
            None,
            false,
        ))
        .unwrap();
        let text = body["blocks"][0]["text"]["text"].as_str().expect("a text");
        let _ = writeln!(self.0, "chat           {}", text.replace('\n', "\n               "));
    }

    fn api(&mut self, error: impl Into<ApiError>) {
        let problem = error.into().problem();
        let _ = writeln!(
            self.0,
            "API            {} {}: {}",
            problem.status, problem.title, problem.detail
        );
        if let Some(remedy) = problem.remedy {
            let _ = writeln!(self.0, "               remedy: {remedy}");
        }
    }
}

fn illegal(standing: &'static str) -> LedgerError {
    LedgerError::Illegal(ChangeError::Ended(standing))
}

/// Ends of a grant and of its sessions.
#[expect(clippy::too_many_lines, reason = "a table")]
fn ends(table: &mut Table) {
    let id = || name::<GrantId>(GRANT);
    let expired = |requested| Ending::Expired {
        grant: id(),
        until: until(),
        requested,
    };
    table.situation("the window closes on a session");
    table.plain(&expired(true));
    table.api(AccessError::from(illegal("expired")));
    table.situation("the same, of a grant made by hand");
    table.plain(&expired(false));
    table.situation("its owner gives the grant back from elsewhere");
    table.plain(&Ending::Released {
        grant: id(),
        at: at("2026-08-01T12:10:00Z"),
    });
    table.api(AccessError::from(illegal("released")));
    table.situation("somebody revokes it");
    let revoked = |reason: &str| Ending::Revoked {
        grant: id(),
        at: at("2026-08-01T12:10:00Z"),
        by: Some("olga".to_owned()),
        reason: Some(reason.to_owned()),
    };
    table.plain(&revoked("locks the nightly load"));
    table.api(AccessError::from(illegal("revoked")));
    table.situation("its identity is disabled");
    table.plain(&revoked(IDENTITY_DISABLED));
    table.api(AccessError::from(LedgerError::Disabled(name("ana"))));
    table.situation("its identity is disabled, and logs in: by the grant's secret, by its token, by OAUTHBEARER");
    table.plain(&Ending::IdentityDisabled { grant: id() });
    table.plain(&Ending::BadToken {
        user: "ana".to_owned(),
        form: TokenForm::Password,
        held: None,
    });
    table.plain(&Ending::BadToken {
        user: "sso".to_owned(),
        form: TokenForm::Bearer,
        held: None,
    });
    let login = TokenFrom::Login("token".into());
    table.command(
        &ClientError::Unaccepted {
            address: name("https://gate.example.org:7433"),
            words: login.words(),
        }
        .to_string(),
    );
    table.api(ApiError::Unauthorized);
    table.situation("its owner's token is rotated, and the old one is used");
    table.plain(&Ending::BadToken {
        user: "ana".to_owned(),
        form: TokenForm::Password,
        held: None,
    });
    table.api(ApiError::Unauthorized);
    table.situation("it is shortened");
    table.api(AccessError::from(LedgerError::Illegal(ChangeError::NotShorter)));
    table.situation("it is extended");
    table.api(AccessError::from(LedgerError::Illegal(ChangeError::Deadline(at(
        "2026-08-01T13:00:00Z",
    )))));
    table.situation("one session is ended: by an operator, by somebody who may administer, by the grant's owner");
    for by in [
        EndedBy::Operator("olga".to_owned()),
        EndedBy::Person(name("lea")),
        EndedBy::Owner(name("ana")),
    ] {
        table.plain(&Ending::Killed {
            grant: id(),
            by,
            reason: Some("holds a lock".to_owned()),
        });
    }
    table.situation("the gate drains: a session, a login");
    table.plain(&Ending::Drained);
    table.plain(&Ending::Draining);
    table.api(ApiError::Stopping);
    table.situation("the target goes, does not answer, is about to be made again");
    table.plain(&Ending::TargetLost { target: name("orders") });
    table.plain(&Ending::TargetUnreachable { target: name("orders") });
    table.plain(&TargetRefusal::NoDatabase.ending(name("orders"), "database \"orders\" does not exist"));
    table.api(ApiError::TargetAway {
        target: name("orders"),
        reason: "connection refused".to_owned(),
    });
    table.situation("what became of what ran, at any of these ends");
    for (case, fate) in [
        ("nothing ran, nothing was open", Fate::None),
        ("a transaction was open", Fate::RolledBack),
        ("a lone SELECT ran", Fate::Stopped),
        ("a lone statement had just ended", Fate::Committed),
        ("the server did not say", Fate::Unknown),
        ("the server is slow to say", Fate::Stopping),
    ] {
        let _ = writeln!(table.0, "psql           DETAIL: {} [{case}]", fate.sentence());
    }
}

/// Requests and what becomes of them.
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests(table: &mut Table) {
    let id = || name::<RequestId>(REQUEST);
    let waits = |table: &mut Table, approvers: &[IdentityName]| {
        let (names, nobody) = (approvers.to_vec(), approvers.is_empty());
        let approvers = Approvers { names, nobody };
        table.words(session::waits(
            &request(json!({})).request,
            "waiting for approval",
            &approvers,
        ));
        let approvers = approvers.names;
        for waited in [Duration::ZERO, Duration::from_mins(5)] {
            table.plain(&Ending::ApprovalPending {
                request: id(),
                approvers: approvers.clone(),
                nobody,
                waited,
            });
        }
        table.command(&waiting(&RequestBody {
            request: request(json!({})),
            approvers,
            waits_for_nobody: nobody,
        }));
    };
    table.situation("a request waits, and the client waits no longer");
    waits(table, &[name("lea")]);
    table.command(&WaitError::Pending(id()).to_string());
    table.chat(json!({}));
    table.chat(json!({"approvals_needed": 2}));
    table.situation("no enabled user may approve it");
    waits(table, &[]);
    let pending = Arc::new(request(json!({})).request);
    table.notice(&RequestNotice {
        event: EventKind::RequestWithoutApprover,
        at: pending.submitted_at,
        request: pending,
    });
    table.situation("it is approved");
    let approval = json!([{"by": "lea", "at": "2026-08-01T12:05:00Z", "comment": "reading will do"}]);
    let approved = |how: &str| json!({"outcome": "approved", "at": "2026-08-01T12:05:00Z", "grant": GRANT, "how": how});
    let by_lea = json!({"status": "approved", "approvals": approval, "approvals_missing": 0, "outcome": approved("people")});
    table.command(&wait::decision(&request(by_lea.clone())));
    table.chat(by_lea.clone());
    table.situation("the policies approve it");
    table.chat(json!({"status": "approved", "approvals_missing": 0, "outcome": approved("automatic")}));
    table.situation("it is approved for less");
    let mut less = by_lea;
    merge(
        &mut less,
        json!({
            "profile": "read-only", "window_seconds": 900,
            "narrowed_from": {"profile": "read-write", "window_seconds": 1800},
        }),
    );
    table.words(session::narrowed(&request(less.clone()).request).expect("less"));
    table.command(&wait::decision(&request(less.clone())));
    table.chat(less);
    let given = grant(json!({"profile": "read-only", "window_seconds": 900, "until": "2026-08-01T12:15:00.7Z"}));
    table.command(&run::window(&given, at("2026-08-01T12:00:00.7Z")));
    table.situation("it is rejected");
    table.plain(&Ending::RequestRejected {
        request: id(),
        by: name("lea"),
        comment: Some("not today".to_owned()),
    });
    let rejected = json!({
        "status": "rejected", "outcome": {"outcome": "rejected", "at": "2026-08-01T12:05:00Z", "by": "lea", "comment": "not today"},
    });
    table.command(&refused(rejected.clone()));
    table.chat(rejected);
    table.api(AccessError::Illegal(StepError::Settled(RequestState::Rejected)));
    table.situation("nobody decides in time");
    table.plain(&Ending::RequestLapsed {
        request: id(),
        until: at("2026-08-01T13:00:00Z"),
    });
    table.command(&WaitError::Lapsed(id()).to_string());
    table.api(AccessError::Illegal(StepError::Settled(RequestState::Lapsed)));
    table.situation("its requester takes it back");
    let withdrawn = json!({"status": "withdrawn", "outcome": {"outcome": "withdrawn", "at": "2026-08-01T12:05:00Z"}});
    table.plain(&Ending::RequestWithdrawn { request: id() });
    table.command(&refused(withdrawn.clone()));
    table.api(AccessError::Illegal(StepError::Settled(RequestState::Withdrawn)));
    table.chat(withdrawn);
    table.situation("somebody breaks the glass");
    let mut glass =
        json!({"status": "approved", "approvals_missing": 0, "break_glass": true, "outcome": approved("break_glass")});
    table.command(&run::broken(&id()));
    table.chat(glass.clone());
    table.situation("somebody reviews that");
    merge(
        &mut glass,
        json!({"review": {"by": "lea", "at": "2026-08-01T14:00:00Z", "comment": "was right"}}),
    );
    table.chat(glass);
    table.situation("the policies say no");
    table.plain(&Ending::AccessDenied {
        why: "say why: give a reason".to_owned(),
        policies: vec!["testers-say-why".to_owned()],
    });
    table.api(AccessError::Denied {
        action: Action::Request,
        why: "say why: give a reason".to_owned(),
        policies: vec!["testers-say-why".to_owned()],
        sign_in_again: false,
    });
    table.chat(json!({
        "status": "denied", "outcome": {"outcome": "denied", "at": "2026-08-01T12:00:00Z", "why": "say why: give a reason"},
    }));
}

/// Steps that cannot be taken, or are not allowed.
fn steps(table: &mut Table) {
    let mins = Duration::from_mins;
    for (situation, step) in [
        ("one's own request is approved", StepError::OwnRequest),
        ("it is approved twice by one person", StepError::Twice(name("lea"))),
        (
            "for longer than was asked",
            StepError::Longer {
                asked: mins(30),
                given: mins(120),
            },
        ),
        (
            "with more than was asked",
            StepError::Wider {
                asked: name("read-only"),
                given: name("read-write"),
            },
        ),
        ("another's request is withdrawn", StepError::NotYours(name("ana"))),
        ("what was no break-glass access is reviewed", StepError::NothingToReview),
        ("one's own access is reviewed", StepError::OwnReview),
        ("it is reviewed twice", StepError::Reviewed(name("sec"))),
    ] {
        table.situation(situation);
        table.api(AccessError::Illegal(step));
    }
    for action in Action::ALL.into_iter().skip(3) {
        table.situation(&format!("no policy permits to {}", action.name()));
        table.api(AccessError::Denied {
            action,
            why: "no policy lets you".to_owned(),
            policies: Vec::new(),
            sign_in_again: false,
        });
    }
}

/// Limits that were reached.
fn limits(table: &mut Table) {
    table.situation("more sessions than a grant has, and than a target has");
    for scope in [LimitScope::Grant(name(GRANT)), LimitScope::Target(name("orders"))] {
        table.plain(&Ending::TooMany { scope, limit: 10 });
    }
    table.situation("more requests than one may make");
    let wait = Duration::from_secs(37);
    table.plain(&Ending::TooMany {
        scope: LimitScope::Requests {
            identity: name("ana"),
            wait,
        },
        limit: 30,
    });
    table.api(AccessError::TooMany {
        identity: name("ana"),
        limit: 30,
        wait,
    });
    table.situation("more logins that wait, and that are not finished");
    for scope in [
        LimitScope::Waiting,
        LimitScope::WaitingOf(name("ana")),
        LimitScope::Unfinished,
        LimitScope::UnfinishedOfAddress,
        LimitScope::Gate,
    ] {
        table.plain(&Ending::TooMany { scope, limit: 5 });
    }
    table.situation("more callers of the API that have proved nothing");
    for of_address in [false, true] {
        table.api(ApiError::Displaced(Displaced { limit: 128, of_address }));
    }
    table.situation("logins that fail too often");
    for by in [HeldBackBy::Name, HeldBackBy::Address] {
        let held = HeldBack {
            by,
            over_in: Duration::from_secs(7),
        };
        table.plain(&Ending::BadSecret {
            user: GRANT.to_owned(),
            held: Some(held),
        });
        table.api(ApiError::HeldBack(held));
    }
}

#[test]
fn what_is_read_in_each_situation_at_each_door() {
    let mut table = Table::default();
    ends(&mut table);
    requests(&mut table);
    steps(&mut table);
    limits(&mut table);
    let Table(text) = table;
    // A grant that is over gets no more time.
    let after_the_end = text.split("== it is shortened").next().unwrap();
    assert!(!after_the_end.contains("extend"), "{after_the_end}");
    // Of a revoked grant and of a request that has lapsed no chat is told: the message that it waits says until when.
    for title in ["somebody revokes it", "nobody decides in time"] {
        let told = text.split("\n== ").find(|situation| situation.starts_with(title)).unwrap();
        assert!(!told.contains("\nchat"), "{told}");
    }
    // What is announced is the second in which it ends.
    assert!(text.contains("12:30:00") && !text.contains("12:30:01"), "{text}");
    insta::assert_snapshot!(text);
}
