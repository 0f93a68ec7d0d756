//! Texts that would like to be markup, in every field of every page: they stay texts.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::markup::{elements, shape};
use super::{grant_with, now, profile_with, request_with, session_with};
use crate::access::ExplanationView;
use crate::audit::LogRecord;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::table_access::TableAccessSums;
use crate::audit::timeline::SessionTimeline;
use crate::console::form::{self, FormError, FormFields, RefusedForm};
use crate::console::pages::ask::{self, AskView};
use crate::console::pages::decide::{self, DecideRow, DecideView};
use crate::console::pages::gate::{self, GateView, TargetRow};
use crate::console::pages::live::{self, LiveView};
use crate::console::pages::log::{self, LogPage};
use crate::console::pages::mine::{self, MineView};
use crate::console::pages::request::{self, RequestPageView};
use crate::console::pages::story::{self, StoryView};
use crate::console::pages::users::{self, UsersView};
use crate::console::pages::window::{self, WindowView};
use crate::console::pages::{policies, sign_in, touched};
use crate::console::templates::frame::{self, Frame, Section, Viewer};
use crate::console::templates::problem;
use crate::control::model::{Briefing, IssuedUser, Problem, ProfileBody, TargetStatus, UserView};
use crate::model::names::ProfileName;

/// A text without anything that markup could be made of.
const HARMLESS: &str = "harmless";

/// Texts that are known to have worked somewhere, and what gets one out of an attribute, an element or a comment. `tests/it/hostile.rs`
/// has a browser look at the pages that show them.
#[derive(serde::Deserialize)]
struct HostileTexts {
    payloads: Vec<String>,
    breaks: Vec<(String, String)>,
}

fn texts() -> Vec<String> {
    let texts: HostileTexts = serde_json::from_str(include_str!("../../../tests/browser/hostile.json")).unwrap();
    let all = texts.payloads.iter().flat_map(|text| {
        texts
            .breaks
            .iter()
            .map(move |(before, after)| format!("{before}{text}{after}"))
    });
    all.collect()
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn outcomes(text: &str) -> Vec<(Value, &'static str)> {
    vec![
        (Value::Null, "pending"),
        (
            json!({"outcome": "denied", "at": "2026-08-01T11:01:00Z", "why": text}),
            "denied",
        ),
        (
            json!({"outcome": "rejected", "at": "2026-08-01T11:01:00Z", "by": super::name(text), "comment": text}),
            "rejected",
        ),
        (
            json!({"outcome": "approved", "at": "2026-08-01T11:01:00Z", "how": "people", "grant": "gr_0123456789"}),
            "approved",
        ),
    ]
}

/// Every page with this text wherever a text may be.
fn pages(text: &str) -> Vec<(&'static str, String)> {
    let mut pages = people(text);
    pages.extend(of_operators(text));
    pages.extend(of_log(text));
    let viewer = Viewer {
        name: super::name(text),
        reads_log: true,
        administers: true,
    };
    let frame = Frame {
        viewer: Some(&viewer),
        section: Some(Section::Mine),
        now: Some(now()),
        ..Frame::bare(text)
    };
    pages.push(("frame", frame::page(&frame, &maud::html! {}).into_string()));
    pages
}

fn problem_with(text: &str) -> Problem {
    of(json!({
        "type": text, "title": text, "status": 403, "detail": text, "remedy": text, "policies": [text], "nearest": text,
        "sign_in_again": true,
    }))
}

/// The fields of a form with the text in each.
fn fields(text: &str) -> FormFields {
    let form = form::path(
        "/",
        &[
            "reason", "ticket", "window", "sessions", "target", "profile", "comment", "name", "groups", "expires", "by",
        ]
        .map(|name| (name, text)),
    );
    FormFields::parse(form.split_once('?').unwrap().1.as_bytes())
}

/// A form that was refused for this field.
fn refused(form: &'static str, fields: &FormFields, field: &'static str, text: &str) -> RefusedForm {
    RefusedForm::new(form, fields.clone(), FormError::of_field(field, &text)).unwrap()
}

fn explained(text: &str) -> ExplanationView {
    of(json!({
        "identity": super::name(text), "action": text, "answer": {"verdict": "denied", "why": text}, "policies": [text],
        "remedies": [{"change": text, "answer": {"verdict": "automatic"}}], "policy_set": text,
    }))
}

fn people(text: &str) -> Vec<(&'static str, String)> {
    let (problem, explained) = (problem_with(text), explained(text));
    let profile: ProfileBody = of(profile_with(text));
    let fields = fields(text);
    let refused = refused("ask", &fields, "window", text);
    let asked = AskView {
        target: text,
        profile: Some(&profile),
        fields: &fields,
        window: text,
        key: text,
        explained: Some(&explained),
        refused: Some(&refused),
    };
    let button = sign_in::ProviderButton {
        name: text.to_owned(),
        way: sign_in::way_to("", text, text, true),
    };
    let sign_in = sign_in::SignInView {
        next: text,
        again: true,
        providers: &[button],
        problem: Some(&problem),
    };
    let mut pages = vec![
        ("problem", problem::page(&problem, text, None).into_string()),
        ("ask", ask::body(&asked).into_string()),
        ("sign-in", sign_in::body(&sign_in).into_string()),
    ];
    pages.extend(of_requests(text, &profile));
    pages
}

#[expect(clippy::too_many_lines, reason = "each page with all that it shows")]
fn of_requests(text: &str, profile: &ProfileBody) -> Vec<(&'static str, String)> {
    let mut pages = Vec::new();
    let fields = fields(text);
    let [decision, extension] =
        [("decision", "comment"), ("extension", "reason")].map(|(form, field)| refused(form, &fields, field, text));
    let narrower: Vec<ProfileName> = vec!["read-only".parse().unwrap(), "read-write".parse().unwrap()];
    for (outcome, status) in outcomes(text) {
        let view = || request_with(text, &outcome, status);
        let mut with_approvers = view();
        with_approvers["approvers"] = json!([super::name(text)]);
        let briefing: Briefing = of(json!({
            "request": with_approvers, "profile": profile_with(text), "earlier": [view()], "sessions": [session_with(text)],
            "verdict": {"verdict": "approvals", "approvals": 2}, "policies": [text], "may_decide": true,
        }));
        for own in [true, false] {
            let shown = RequestPageView {
                briefing: &briefing,
                narrower: &narrower,
                own,
                refused: Some(&decision),
                now: now(),
            };
            pages.push(("request", request::body(&shown).into_string()));
        }
        let rows = [
            DecideRow {
                view: of(view()),
                mine: true,
            },
            DecideRow {
                view: of(view()),
                mine: false,
            },
        ];
        let waiting = DecideView {
            rows: &rows,
            reviews: false,
            all: true,
            now: now(),
        };
        pages.push(("decide", decide::body(&waiting).into_string()));
        let grant = of(grant_with(text));
        let sessions = [of(session_with(text))];
        let offers = BTreeMap::from([("orders".parse().unwrap(), vec![profile.clone()])]);
        let mine = MineView {
            grants: std::slice::from_ref(&grant),
            pending: &[of(view())],
            earlier: &[of(view())],
            sessions: &sessions,
            offers: &offers,
            now: now(),
        };
        pages.push(("mine", mine::body(&mine).into_string()));
        for own in [true, false] {
            let shown = WindowView {
                grant: &grant,
                sessions: &sessions,
                own,
                refused: Some(&extension),
                ends_sessions: true,
                now: now(),
            };
            pages.push(("grant", window::body(&shown).into_string()));
        }
    }
    pages
}

fn log_status(text: &str) -> Value {
    json!({"last": 9, "signed_to": 7, "signed_at": "2026-08-01T11:50:00Z", "gap": text, "not_ready": text})
}

#[expect(clippy::too_many_lines, reason = "each page with all that it shows")]
fn of_operators(text: &str) -> Vec<(&'static str, String)> {
    let sessions = [of(session_with(text))];
    let live = LiveView {
        sessions: &sessions,
        all: 3,
        now: now(),
    };
    let status = json!([{
        "profile": "read-only", "looked_at": "2026-08-01T11:50:00Z", "differences": 2, "first": [text], "problem": text,
    }]);
    let targets = [TargetRow {
        name: "orders".parse().unwrap(),
        profiles: vec!["read-only".parse().unwrap()],
        seen: of(status.clone()),
    }];
    let gate_status = of(json!({
        "not_ready": text, "not_alive": text, "gate_time": "2026-08-01T12:00:00Z", "version": text, "advertise": text,
        "sessions": 3, "log": log_status(text),
        "forwarding": {
            "receiver": text, "sent": 7, "missed": 1, "received_to": 5, "lag_seconds": 90, "failure": text,
            "failed_at": "2026-08-01T11:50:00Z",
        },
    }));
    let gate = GateView {
        status: &gate_status,
        targets: &targets,
    };
    let target: TargetStatus = of(json!({
        "target": "orders", "role_per_grant": true, "made": 1, "retired": 1, "left": 0, "intruders": 0, "elsewhere": 0,
        "roles": [{
            "role": text, "grant": "gr_0123456789", "identity": super::name(text), "status": text, "can_login": false,
            "backends": 1, "sessions": 1,
        }],
        "profiles": status,
    }));
    let user: UserView = of(json!({
        "name": super::name(text), "groups": ["qa"], "disabled": false, "local": true, "created_at": "2026-08-01T11:50:00Z",
    }));
    let again = refused("add", &fields(text), "name", text);
    let warnings = [text.to_owned()];
    let listed = UsersView {
        users: std::slice::from_ref(&user),
        part: text,
        warnings: &warnings,
        refused: Some(&again),
        ..UsersView::default()
    };
    let issued = IssuedUser {
        user: user.clone(),
        token: Some(text.to_owned()),
        warnings: warnings.to_vec(),
        ended_sign_ins: Some(2),
    };
    let explained = explained(text);
    let query = form::path(
        "/gate/policies",
        &["identity", "target", "profile", "at"].map(|name| (name, text)),
    );
    let fields = FormFields::parse(query.split_once('?').unwrap().1.as_bytes());
    let again = refused("question", &fields, "at", text);
    vec![
        ("live", live::body(&live).into_string()),
        ("gate", gate::body(&gate).into_string()),
        ("target", gate::target_body(&target, now()).into_string()),
        ("users", users::body(&listed).into_string()),
        ("token", users::token_body(&issued).into_string()),
        (
            "policies",
            policies::body(Some(text), &[text.to_owned()], &fields, Some(&explained), Some(&again)).into_string(),
        ),
    ]
}

/// Every kind of record with the text in every field that takes it.
fn of_log(text: &str) -> Vec<(&'static str, String)> {
    let records: Vec<LogRecord> = include_str!("../../audit/snapshots/records.jsonl")
        .lines()
        .map(|line| record(line, text))
        .collect();
    let id = "se_1111111111".parse().unwrap();
    let timeline = SessionTimeline::of(records.clone(), records.clone());
    let story = StoryView {
        id: &id,
        timeline: &timeline,
        cut: true,
        newest: false,
        reads_log: true,
        live: None,
    };
    let found = LogPage {
        records,
        unreadable: vec![text.to_owned()],
        more: true,
        stopped: true,
    };
    let log = of(log_status(text));
    let verified = of(json!({
        "whole": false, "flaw": text, "remedy": text, "first": 2, "last": 9, "proven": 7, "remarks": [text],
        "checked_at": "2026-08-01T12:00:00Z",
    }));
    let query = form::path(
        "/log",
        &["identity", "target", "text", "since", "event", "table"].map(|name| (name, text)),
    );
    let fields = FormFields::parse(query.split_once('?').unwrap().1.as_bytes());
    let again = refused("search", &fields, "since", text);
    let mut sums = TableAccessSums::new(None, Rollbacks::default());
    found.records.iter().for_each(|record| sums.add(record));
    vec![
        (
            "touched",
            touched::body(&fields, Some(&sums.sums()), Some(&again)).into_string(),
        ),
        ("log", log::body(&fields, &found, &log, None).into_string()),
        ("verification", log::verify_body(&verified).into_string()),
        ("log", log::body(&fields, &found, &log, Some(&again)).into_string()),
        (
            "story",
            story::body(&StoryView {
                newest: true,
                live: Some(&of(session_with(text))),
                ..story
            })
            .into_string(),
        ),
        ("story", story::body(&story).into_string()),
    ]
}

/// A record in which each text is this one, as far as the record can have it.
fn record(line: &str, text: &str) -> LogRecord {
    let mut value: Value = serde_json::from_str(line).unwrap();
    let names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    for name in names {
        let before = value.clone();
        replace(&mut value[&name], text);
        if LogRecord::parse(value.to_string().as_bytes()).is_err() {
            value = before;
        }
    }
    LogRecord::parse(value.to_string().as_bytes()).unwrap()
}

fn replace(value: &mut Value, text: &str) {
    match value {
        Value::String(old) => text.clone_into(old),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, text)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, text)),
        _ => {}
    }
}

#[test]
fn no_text_becomes_markup() {
    let texts = texts();
    assert!(texts.len() >= 200, "{}", texts.len());
    // Names cannot have each text; a page is compared with that of a text of the same kind.
    let plain = pages(HARMLESS);
    let expected: Vec<Vec<String>> = plain.iter().map(|(_, page)| shape(page)).collect();
    for text in &texts {
        for ((name, page), expected) in pages(text).iter().zip(&expected) {
            assert_eq!(&shape(page), expected, "{name}: {text}");
        }
    }
}

#[test]
fn pages_have_no_handlers_no_styles_and_no_other_origin() {
    for (name, page) in pages("\"><img src=//evil.example onerror=alert(1)>") {
        for element in elements(&page) {
            assert!(
                !matches!(
                    element.name.as_str(),
                    "style" | "iframe" | "object" | "embed" | "base" | "img"
                ),
                "{name}: {element:?}"
            );
            for (attribute, value) in &element.attributes {
                assert!(
                    !attribute.starts_with("on") && attribute != "style" && attribute != "srcdoc",
                    "{name}: {element:?}"
                );
                let own = value.starts_with('/') && !value.starts_with("//");
                if matches!(attribute.as_str(), "href" | "src" | "action" | "formaction") {
                    assert!(
                        own || value.starts_with('#') || value.starts_with("data:image/svg+xml,"),
                        "{name}: {element:?}"
                    );
                }
            }
        }
    }
}
