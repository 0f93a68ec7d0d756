//! Against a real PostgreSQL, and against servers that play foul.

mod hostile;
mod real;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::base::tls::{ClientTls, TlsMode};
use crate::model::grant::{Grant, PermitQuery, permit};
use crate::model::ids::GrantId;
use crate::model::names::TargetName;

fn name() -> TargetName {
    "orders".parse().unwrap()
}

/// A permit for the target `orders`.
fn a_permit() -> Permit {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let until = now + jiff::SignedDuration::from_mins(30);
    let grant = Grant {
        id: GrantId::from_random([1; 10]),
        identity: "ana".parse().unwrap(),
        target: name(),
        reason: None,
        created_at: now,
        created_by: "test".to_owned(),
        activate_by: until,
        window: Duration::from_mins(30),
        deadline: None,
        max_sessions: 1,
        client_network: None,
        activated_at: Some(now),
        until: Some(until),
        revoked: None,
        profile: None,
        request: None,
    };
    let question = PermitQuery {
        now,
        database: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        live_sessions: 0,
    };
    permit(&grant, &question).unwrap()
}

/// The target `orders` on loopback, as `user` with password `sesame`, without TLS.
fn a_target(port: u16, user: &str) -> Target {
    let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
    let mut target = Target::new(name(), "localhost".to_owned(), "postgres".to_owned(), user.to_owned(), tls);
    target.port = port;
    target.account.password = Some(Secret::new("sesame".to_owned()));
    target
}

async fn connect_with(target: &Target, parameters: &[(&str, &str)]) -> Result<Connected, ConnectError> {
    let parameters = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    connect(&a_permit(), target, &target.account, &StartupParameters(parameters)).await
}

/// The failure as the operator and the client see it.
async fn failure(target: &Target, parameters: &[(&str, &str)]) -> (ConnectError, &'static str) {
    match connect_with(target, parameters).await {
        Ok(_) => panic!("connected"),
        Err(failed) => {
            let ending = failed.ending(&target.name).name();
            (failed, ending)
        }
    }
}

#[tokio::test]
async fn a_permit_for_another_target_is_none() {
    let mut target = a_target(1, "u");
    target.name = "billing".parse().unwrap();
    assert!(matches!(failure(&target, &[]).await.0, ConnectError::NotPermitted { .. }));
}

#[test]
fn a_target_shows_no_password() {
    let debug = format!("{:?}", a_target(1, "u"));
    assert!(!debug.contains("sesame"), "{debug}");
}
