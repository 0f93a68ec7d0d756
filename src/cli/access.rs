//! Request for access: its arguments, and the calls that submit it.
//!
//! The gate decides on it. `requester` shows the answer, `run` uses the access.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;

use super::args::one_profile;
use super::client::ControlClient;
use super::complete;
use crate::base::duration;
use crate::control::model::{AccessBody, NewRequestBody, RequestBody};
use crate::model::names::TargetName;

/// Target, profile and terms of the request.
#[derive(Debug, Clone, Args)]
pub struct AccessArgs {
    /// Name of the target, with an optional profile: `orders` or `orders/read-only`
    #[arg(value_name = "TARGET[/PROFILE]", add = complete::destinations())]
    pub target: String,
    /// Profile [default: the target's narrowest]
    #[arg(long, short, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<String>,
    /// Length of the window, from the first connect; like 30m or 2h30m [default: set by the gate]
    #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
    pub window: Option<Duration>,
    /// Reason; shown to approvers and kept in the audit log
    #[arg(long, short, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Ticket
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// Maximum number of concurrent sessions [default: set by the gate]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: Option<u32>,
    /// Gets access immediately, without an approver; a short window, alerts, and a review afterwards. Needs --reason
    #[arg(long, requires = "reason")]
    pub break_glass: bool,
    /// Time limit for the approval, and for the wait in line (exit code 6 afterwards) [default: until the request or the grant lapses]
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub wait_at_most: Option<Duration>,
}

impl AccessArgs {
    /// Returns a request for a target, on the gate's terms.
    pub(super) fn to(target: &TargetName) -> Self {
        Self {
            target: target.to_string(),
            profile: None,
            window: None,
            reason: None,
            ticket: None,
            sessions: None,
            break_glass: false,
            wait_at_most: None,
        }
    }

    /// Returns the target and the profile, which is named after a slash or by `--profile`.
    pub(super) fn destination(&self) -> anyhow::Result<(String, Option<String>)> {
        let (target, named) = match self.target.split_once('/') {
            Some((target, named)) => (target, Some(named.to_owned())),
            None => (self.target.as_str(), None),
        };
        let profile = one_profile(&self.target, named, self.profile.clone())?;
        Ok((target.to_owned(), profile))
    }
}

/// Submits a request.
pub(super) async fn submit(client: &ControlClient, wanted: &AccessArgs) -> anyhow::Result<RequestBody> {
    ask(client, "/v1/requests", wanted, false).await
}

/// Joins a live grant that covers the request, or submits the request. `alone`: an exclusive profile is not shared with another
/// program under a live grant.
pub(super) async fn enter(client: &ControlClient, wanted: &AccessArgs, alone: bool) -> anyhow::Result<AccessBody> {
    ask(client, "/v1/access", wanted, alone).await
}

async fn ask<T: DeserializeOwned>(client: &ControlClient, path: &str, wanted: &AccessArgs, alone: bool) -> anyhow::Result<T> {
    let (target, profile) = wanted.destination()?;
    let body = NewRequestBody {
        target,
        profile,
        window_seconds: wanted.window.map(|window| window.as_secs()),
        reason: wanted.reason.clone(),
        ticket: wanted.ticket.clone(),
        max_sessions: wanted.sessions,
        break_glass: wanted.break_glass,
        alone,
    };
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    let key = format!("cli-{:032x}", u128::from_ne_bytes(random));
    Ok(client.post_once(path, &body, &key).await?)
}
