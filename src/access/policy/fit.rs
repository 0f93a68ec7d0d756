//! Check that the gate's questions fit a schema: each action is asked about once with every optional value and once with none.
//!
//! A set that does not fit would refuse every decision; it is refused here, when it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;

use super::cedar::CedarSchema;
use super::{AccessQuestion, Action, QuestionContext, Resource};
use crate::identity::Identity;
use crate::model::arrival::Arrival;
use crate::model::request::{Request, RequestSpec};

/// Asks every question, and returns the error of the first that does not fit.
pub(super) fn check(cedar: &CedarSchema) -> Result<(), String> {
    for full in [true, false] {
        let (identity, request) = example(full).ok_or("no example")?;
        let context = QuestionContext {
            now: Timestamp::UNIX_EPOCH,
            client: full.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            active_grants: 1,
            arrival: if full { Arrival::FRESH } else { Arrival::TOKEN },
        };
        for action in Action::ALL {
            let resource = match action {
                Action::ReadLog | Action::Administer => Resource::Gate,
                Action::Approve => Resource::Request(&request),
                _ => Resource::Access(&request.wish),
            };
            let question = AccessQuestion {
                identity: &identity,
                action,
                resource,
                context,
            };
            cedar.put(&question).map_err(|why| format!("\"{}\": {why}", action.name()))?;
        }
    }
    Ok(())
}

/// Returns an identity and another's request, with all optional values or none.
fn example(full: bool) -> Option<(Identity, Request)> {
    let text = |text: &str| full.then(|| text.to_owned());
    let groups: BTreeSet<_> = full.then(|| "group".parse().ok()).into_iter().flatten().collect();
    let identity = Identity {
        claims: text("value").map(|value| ("claim".to_owned(), value)).into_iter().collect(),
        ..Identity::local("somebody".parse().ok()?, groups.clone())
    };
    let wish = RequestSpec {
        identity: "else".parse().ok()?,
        groups,
        issuer: None,
        claims: BTreeMap::new(),
        target: "target".parse().ok()?,
        profile: "profile".parse().ok()?,
        window: Duration::from_mins(1),
        reason: text("reason"),
        ticket: text("ticket"),
        max_sessions: 1,
        break_glass: full,
    };
    let id = "rq_0000000000".parse().ok()?;
    let request = Request::waiting(id, wish, 1, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    Some((identity, request))
}
