//! Tables of test cases for a policy set: requests with their expected verdicts.
//!
//! It reads no file: tables come as texts.
//!
//! ```toml
//! [[case]]
//! name = "a tester reads at once"
//! who = "ana"
//! groups = ["qa"]
//! target = "orders"
//! profile = "read-only"
//! for = "2h"
//! expect = "automatic"          # or "denied", "1 approval", "2 approvals"; for other actions "allowed", "denied"
//! by = ["reading-is-automatic"] # the policies that decide, if that matters
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Deserialize;

use super::{AccessQuestion, Action, Policies, PolicyFile, QuestionContext, RequestVerdict, Resource, notes};
use crate::identity::{Identity, IdentitySource};
use crate::model::arrival::{Arrival, CallerVia};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::model::request::{Request, RequestSpec};

/// Result of running tables of cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableResult {
    /// Number of cases run.
    pub cases: usize,
    /// Failures: `file:line: case: words`.
    pub failures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTable {
    #[serde(default)]
    case: Vec<toml::Spanned<TableCase>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableCase {
    name: String,
    who: IdentityName,
    #[serde(default)]
    groups: BTreeSet<GroupName>,
    /// Issuer of its token; absent: a local user.
    issuer: Option<String>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    action: Option<String>,
    /// Owner of the request or grant, if it is another identity.
    owner: Option<IdentityName>,
    #[serde(default)]
    owner_groups: BTreeSet<GroupName>,
    target: Option<TargetName>,
    profile: Option<ProfileName>,
    #[serde(rename = "for")]
    window: Option<String>,
    /// Number of concurrent sessions.
    #[serde(default = "one_session")]
    sessions: u32,
    reason: Option<String>,
    ticket: Option<String>,
    #[serde(default)]
    break_glass: bool,
    /// Time in the policies' zone (`2026-08-03T10:00`), or in UTC (`2026-08-03T08:00Z`).
    at: Option<String>,
    from: Option<IpAddr>,
    #[serde(default)]
    active_grants: u32,
    /// Age of the sign-in, like `10m`; absent: the identity has not signed in, or this moment.
    signed_in_ago: Option<String>,
    /// Way by which the identity comes; absent: it sends a token, or has signed in at the console.
    via: Option<CallerVia>,
    expect: String,
    by: Option<Vec<String>>,
}

fn one_session() -> u32 {
    1
}

/// Default time of a case: a Monday at ten.
const DEFAULT_CASE_TIME: DateTime = DateTime::constant(2026, 8, 3, 10, 0, 0, 0);

/// Runs every case of the tables against the policies.
#[must_use]
pub fn run(policies: &Policies, tables: &[PolicyFile]) -> TableResult {
    let mut outcome = TableResult::default();
    for table in tables {
        let line = |offset: usize| 1 + table.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let cases = match toml::from_str::<CaseTable>(&table.text) {
            Ok(cases) => cases.case,
            Err(error) => {
                let line = error.span().map_or(1, |span| line(span.start));
                let words = error.message().replace('\n', ", ");
                outcome
                    .failures
                    .push(format!("{}:{line}: invalid table of cases: {words}", table.name));
                continue;
            }
        };
        for case in cases {
            outcome.cases += 1;
            let line = line(case.span().start);
            let case = case.into_inner();
            if let Err(words) = check(policies, &case) {
                outcome
                    .failures
                    .push(format!("{}:{line}: {}: {words}", table.name, case.name));
            }
        }
    }
    outcome
}

/// Formats a verdict as tables write it.
fn shown(verdict: &RequestVerdict) -> String {
    match verdict {
        RequestVerdict::Automatic => "automatic".to_owned(),
        RequestVerdict::Approvals(1) => "1 approval".to_owned(),
        RequestVerdict::Approvals(approvals) => format!("{approvals} approvals"),
        RequestVerdict::Denied { .. } => "denied".to_owned(),
    }
}

fn check(policies: &Policies, case: &TableCase) -> Result<(), String> {
    if let Some(unknown) = case
        .by
        .iter()
        .flatten()
        .find(|id| !policies.ids().any(|known| known == id.as_str()))
    {
        return Err(format!("by: unknown policy {unknown}"));
    }
    let (found, by, why) = ask(policies, case)?;
    let known = ["automatic", "denied", "allowed", "1 approval"].contains(&case.expect.as_str());
    let approvals = case
        .expect
        .strip_suffix(" approvals")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    if !known && !approvals {
        return Err(format!(
            "expect = {:?} is unknown; use \"automatic\", \"denied\", \"1 approval\", \"2 approvals\" and so on, or \"allowed\"",
            case.expect
        ));
    }
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let decided = match by.as_slice() {
        [] => "no policy".to_owned(),
        by => by.join(", "),
    };
    if found != case.expect {
        return Err(format!("expected {}, found {found} by {decided}{why}", case.expect));
    }
    match &case.by {
        Some(expected) if expected.iter().collect::<BTreeSet<_>>() != by.iter().collect::<BTreeSet<_>>() => Err(format!(
            "{found} as expected, but by {decided}{why}, not by {}",
            expected.join(", ")
        )),
        _ => Ok(()),
    }
}

/// Returns the answer of the policies as tables write it, the ids of those that decided, and the reason.
fn ask(policies: &Policies, case: &TableCase) -> Result<(String, Vec<String>, Option<String>), String> {
    let age = case.signed_in_ago.as_deref().map(|age| duration("signed_in_ago", age));
    let context = QuestionContext {
        now: time(policies, case.at.as_deref())?,
        client: case.from,
        active_grants: case.active_grants,
        arrival: Arrival::stated(case.via, age.transpose()?).map_err(|why| format!("signed_in_ago: {why}"))?,
    };
    let identity = Identity {
        name: case.who.clone(),
        groups: case.groups.clone(),
        source: case.issuer.clone().map_or(IdentitySource::Local, IdentitySource::Issuer),
        claims: case.claims.clone(),
    };
    let name = case.action.as_deref().unwrap_or("request");
    let action = Action::ALL.into_iter().find(|action| action.name() == name);
    let action = action.ok_or_else(|| {
        let known = Action::ALL.map(Action::name).join(", ");
        format!("action = {name:?} is unknown; use one of {known}")
    })?;
    let decide = |resource| {
        let decision = policies.decide(&AccessQuestion {
            identity: &identity,
            action,
            resource,
            context,
        });
        let found = if decision.allowed { "allowed" } else { "denied" };
        let errors = (!decision.errors.is_empty()).then(|| decision.errors.join("; "));
        Ok((found.to_owned(), decision.policies, errors))
    };
    match action {
        Action::ReadLog | Action::Administer => decide(Resource::Gate),
        Action::Approve => decide(Resource::Request(&request(wish(case)?)?)),
        Action::Request => {
            let judgement = policies.judge(&identity, &wish(case)?, context);
            let why = match &judgement.verdict {
                RequestVerdict::Denied { why } => Some(why.clone()),
                _ => None,
            };
            Ok((shown(&judgement.verdict), judgement.policies, why))
        }
        _ => decide(Resource::Access(&wish(case)?)),
    }
}

fn wish(case: &TableCase) -> Result<RequestSpec, String> {
    let window = case.window.as_deref().unwrap_or("30m");
    let own = case.owner.is_none();
    Ok(RequestSpec {
        identity: case.owner.clone().unwrap_or_else(|| case.who.clone()),
        groups: if own { case.groups.clone() } else { case.owner_groups.clone() },
        issuer: None,
        claims: BTreeMap::new(),
        target: case.target.clone().ok_or("target = \"...\" is missing")?,
        profile: case.profile.clone().ok_or("profile = \"...\" is missing")?,
        window: duration("for", window)?,
        reason: case.reason.clone(),
        ticket: case.ticket.clone(),
        max_sessions: case.sessions,
        break_glass: case.break_glass,
    })
}

fn duration(key: &str, text: &str) -> Result<Duration, String> {
    notes::duration(text).ok_or_else(|| format!("{key} = {text:?} is not a duration; write it like 45m or 2h30m"))
}

fn request(wish: RequestSpec) -> Result<Request, String> {
    let id = "rq_0000000000".parse().map_err(|_| "no id".to_owned())?;
    Ok(Request::waiting(id, wish, 1, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH))
}

fn time(policies: &Policies, text: Option<&str>) -> Result<Timestamp, String> {
    let Some(text) = text else {
        return policies
            .local(DEFAULT_CASE_TIME)
            .ok_or_else(|| "the zone has no Monday at ten".to_owned());
    };
    policies
        .time(text)
        .ok_or_else(|| format!("at = {text:?} is not a time; write it like 2026-08-03T10:00 or 2026-08-03T08:00Z"))
}

impl Policies {
    /// Parses a time: `2026-08-03T10:00` in the policies' zone, or `2026-08-03T08:00Z`.
    #[must_use]
    pub fn time(&self, text: &str) -> Option<Timestamp> {
        text.parse().ok().or_else(|| self.local(text.parse().ok()?))
    }

    fn local(&self, there: DateTime) -> Option<Timestamp> {
        self.cedar.zone.to_timestamp(there).ok()
    }
}
