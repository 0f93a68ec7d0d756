//! Texts that clients read: message, detail and hint of each ending.
//!
//! This module does not choose endings and does not encode messages.

use std::time::Duration;

use jiff::Timestamp;

use super::{EndedBy, Ending, EndingText, IDENTITY_DISABLED, OptionsFault, ParameterRule};
use crate::base::visible::visible;
use crate::model::ids::GrantId;

impl Ending {
    /// Returns the text for the client; `None` if the client already has it or is no longer connected.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one entry for each ending: a table, not a procedure")]
    pub fn words(&self) -> Option<EndingText> {
        let (message, detail, hint) = match self {
            Self::Quit | Self::Disconnected | Self::TargetClosed { .. } | Self::GateFault | Self::GateDied => return None,
            Self::Malformed { what } => ((*what).to_owned(), None, None),
            Self::ProtocolUnsupported { major, minor } => {
                (format!("unsupported frontend protocol {major}.{minor}: this gate speaks 3.0 to 3.2"), None, None)
            }
            Self::TlsRequired => (
                "connection requires TLS".to_owned(),
                None,
                Some("connect with sslmode=require or stronger".to_owned()),
            ),
            Self::NoUser => (
                "no user name in the startup packet".to_owned(),
                None,
                Some("give the grant id as user name".to_owned()),
            ),
            Self::ParameterRefused { name, rule } => (
                format!("startup parameter \"{name}\" is not allowed through this gate"),
                Some(match rule {
                    ParameterRule::SetByGate => "The gate sets it itself, so that the database notices a connection that is gone.",
                    ParameterRule::GivenByGrant => "A session begins in the role of its grant.",
                    ParameterRule::PacketField => "It is a field of the startup packet and not a setting.",
                }.to_owned()),
                Some(match rule {
                    ParameterRule::PacketField => "leave it out of `options` (or PGOPTIONS); the connection string has a keyword of its own for it",
                    _ => "leave it out of the connection string (or PGOPTIONS)",
                }.to_owned()),
            ),
            Self::OptionsUnreadable { word, fault } => (
                match fault {
                    OptionsFault::Switch => format!("the switch \"{word}\" in `options` is not taken by this gate"),
                    OptionsFault::StrayWord => format!("\"{word}\" in `options` is neither a switch nor part of a value"),
                    OptionsFault::NotNameValue => format!("\"{word}\" in `options` is not name=value"),
                },
                None,
                Some(match fault {
                    OptionsFault::Switch => "write settings as -c name=value",
                    OptionsFault::StrayWord => r"a space in options is written `\ `: options='-c tidegate.reason=fix\ the\ totals'",
                    OptionsFault::NotNameValue => r"write settings as -c name=value; a space in options is written `\ `",
                }.to_owned()),
            ),
            Self::ReplicationRefused { target } => (
                format!("replication connections to \"{target}\" are not allowed through this gate"),
                None,
                Some("ask the gate's operator to set `replication = true` on the target if they are wanted".to_owned()),
            ),
            Self::HandshakeTimeout { step, limit } => (
                format!("{step} took longer than {}", span(*limit)),
                None,
                Some("connect again".to_owned()),
            ),
            Self::BadSecret { user, held } => (
                format!("password authentication failed for user \"{user}\""),
                held.map(|held| held.told()),
                Some("user is the grant id (gr_…), password is the secret shown when the grant was made".to_owned()),
            ),
            Self::BadToken { user, held } => (
                format!("password authentication failed for user \"{user}\""),
                held.map(|held| held.told()),
                Some("user is your name at the gate, password is your token (tg_…) or the token of your CI job; or log in with a grant id (gr_…) and its secret".to_owned()),
            ),
            Self::TokenInClear => (
                "a token is not taken without TLS".to_owned(),
                None,
                Some("connect with sslmode=require or stronger".to_owned()),
            ),
            Self::BindingFailed => (
                "SCRAM channel binding check failed".to_owned(),
                None,
                Some("somebody may stand between you and the gate: check its address and certificate (sslmode=verify-full)".to_owned()),
            ),
            Self::WrongDatabase { grant, target, asked } => (
                format!("grant {grant} is not for database \"{asked}\""),
                Some(format!("It is for \"{target}\".")),
                Some(format!("connect with dbname={target}")),
            ),
            Self::WrongProfile { grant, target, profile, asked } => (
                format!("grant {grant} is not for profile \"{asked}\""),
                profile.as_ref().map(|profile| format!("It is for \"{profile}\".")),
                Some(match profile {
                    Some(profile) => format!("connect with dbname={target}.{profile}, or ask for another grant"),
                    None => format!("connect with dbname={target}, or ask for another grant"),
                }),
            ),
            Self::UnknownOption { name, nearest } => (
                format!("unknown setting \"tidegate.{name}\""),
                None,
                Some(format!("did you mean tidegate.{nearest}?")),
            ),
            Self::InvalidOption { name, wanted } => (
                format!("invalid value of \"tidegate.{name}\": it has to be {wanted}"),
                None,
                None,
            ),
            Self::NoSuchTarget { asked, nearest, known } => (
                format!("there is no database \"{asked}\" at this gate"),
                (!known.is_empty()).then(|| format!("It has: {}.", listed(known))),
                match (nearest, known.first()) {
                    (Some(nearest), _) => Some(format!("did you mean dbname={nearest}?")),
                    (None, Some(first)) => Some(format!("name one of them, like dbname={first}")),
                    (None, None) => None,
                },
            ),
            Self::NoSuchProfile { target, asked, known } => (
                format!("database \"{target}\" has no profile \"{asked}\""),
                Some(format!("It has: {}.", listed(known))),
                known.first().map(|first| format!("connect with dbname={target}.{first}")),
            ),
            Self::InvalidRequest { why } => (
                why.clone(),
                None,
                Some("say why and for how long: options='-c tidegate.reason=TEXT -c tidegate.for=30m' (in TEXT a backslash before each space)".to_owned()),
            ),
            Self::AccessDenied { why, policies } => (
                format!("access denied: {}", visible(why)),
                (!policies.is_empty()).then(|| format!("Decided by: {}.", policies.join(", "))),
                Some("a reason goes with options='-c tidegate.reason=TEXT' (in TEXT a backslash before each space); what else would have to change: tidegate policy explain --target NAME".to_owned()),
            ),
            Self::ApprovalPending { request, approvers, nobody, waited } => (
                if waited.is_zero() {
                    format!("request {request} has to be approved first")
                } else {
                    format!("request {request} was not approved within {}", span(*waited))
                },
                (!approvers.is_empty()).then(|| format!("It can be approved by: {}.", listed(approvers))),
                Some(if *nobody {
                    "no enabled user of this gate may approve it: tell its operator; until then it stays pending".to_owned()
                } else {
                    format!("it stays pending: have it approved (tidegate approve {request}), then connect again")
                }),
            ),
            Self::RequestRejected { request, by, comment } => (
                format!("request {request} was rejected by {by}"),
                comment.as_ref().map(|comment| format!("They say: {}", visible(comment))),
                Some("talk to them, then connect again with another reason or a shorter time".to_owned()),
            ),
            Self::RequestWithdrawn { request } => (
                format!("request {request} was withdrawn"),
                None,
                Some("connect again to ask anew".to_owned()),
            ),
            Self::RequestLapsed { request, until } => (
                format!("request {request} lapsed at {}: it did not get its approvals in time", clock_time(*until)),
                None,
                Some("connect again to ask anew".to_owned()),
            ),
            Self::AddressRefused { grant } => (
                format!("grant {grant} is not valid from this address"),
                None,
                Some("connect from the network the grant was made for, or ask for a grant for this one".to_owned()),
            ),
            Self::Lapsed { grant, activate_by } => (
                format!("grant {grant} has lapsed"),
                Some(format!("It had to be used first by {}.", clock_time(*activate_by))),
                Some("ask for a new grant".to_owned()),
            ),
            Self::LoginExpired { grant, until } => (
                format!("grant {grant} ended at {}", clock_time(*until)),
                None,
                Some("ask for a new grant".to_owned()),
            ),
            Self::LoginRevoked { grant, at } => (
                format!("grant {grant} was revoked at {}", clock_time(*at)),
                None,
                Some("ask the person who revoked it, or request a new grant".to_owned()),
            ),
            Self::PolicyRefused { grant, why } => (
                format!("grant {grant} cannot be used now: the policies do not allow it any more"),
                Some(format!("Policies: {}.", visible(why))),
                Some("ask again for what you need".to_owned()),
            ),
            Self::IdentityDisabled { grant } => (
                format!("grant {grant} cannot be used: the identity it is for has been disabled"),
                None,
                Some("ask the gate's operator".to_owned()),
            ),
            Self::TooMany { scope, limit } => scope.words(*limit),
            Self::TargetUnreachable { target } => (
                format!("database \"{target}\" cannot be reached"),
                None,
                Some("the gate is up, the database behind it is not: try again, then tell its operator".to_owned()),
            ),
            Self::TargetRefused { target } => (
                format!("database \"{target}\" does not let the gate in"),
                None,
                Some("tell the gate's operator: the gate's log has the reason (credentials, TLS or connection limit of the target)".to_owned()),
            ),
            Self::LeftoversPending { target } => (
                format!("database \"{target}\" is not open yet: sessions that a former run of the gate left there are still being ended"),
                None,
                Some("connect again in a few seconds; if it stays so, tell the gate's operator".to_owned()),
            ),
            Self::TargetSaysNo { target, refusal, message } => (
                message.clone(),
                Some(format!("The server behind \"{target}\" says so; it is not a limit of your grant or of the gate.")),
                Some(refusal.hint().to_owned()),
            ),
            Self::RoleNotMade { target, read_only: true } => (
                format!("database \"{target}\" is read-only at present, so no role can be made for this grant, and without its own role no session begins"),
                None,
                Some("tell the gate's operator: the target's server is a standby, or is set to be read-only; the target has to lead to the primary".to_owned()),
            ),
            Self::RoleNotMade { target, .. } => (
                format!("no role could be made for this grant on database \"{target}\", and without its own role no session begins"),
                None,
                Some("tell the gate's operator: the gate's log has the reason, and `tidegate check` says what the gate's account lacks".to_owned()),
            ),
            Self::LedgerFailed => (
                "the gate cannot read or write its grants, so it lets nobody in".to_owned(),
                None,
                Some("tell the gate's operator".to_owned()),
            ),
            Self::ClockDoubted { ahead } => (
                "the gate's clock is in doubt: nobody new is let in".to_owned(),
                Some(format!(
                    "The machine's clock is {} ahead of gate time, and a window that is over must not be taken for open. Sessions go on to their deadlines.",
                    span(*ahead)
                )),
                Some("connect again in some minutes, or tell the gate's operator: `tidegate clock` says what to do".to_owned()),
            ),
            Self::Draining => (
                "the gate is shutting down".to_owned(),
                None,
                Some("connect again in a moment".to_owned()),
            ),
            Self::Expired { grant, until, requested } => (
                format!("grant {grant} ended at {}: the session is closed", clock_time(*until)),
                None,
                Some(if *requested {
                    "to go on, ask for a new grant: connect again under your own name, or tidegate request TARGET".to_owned()
                } else {
                    "to go on, ask the gate's operator for a new grant".to_owned()
                }),
            ),
            Self::Released { grant, at } => (
                format!("grant {grant} was given back at {}: the session is closed", clock_time(*at)),
                None,
                Some("to go on, ask for a new grant".to_owned()),
            ),
            Self::Revoked { grant, at, by, reason } => (
                format!("grant {grant} was revoked at {}: the session is closed", clock_time(*at)),
                by.as_ref().map(|by| match reason {
                    Some(reason) => format!("Revoked by {}; reason: {}.", visible(by), visible(reason)),
                    None => format!("Revoked by {}.", visible(by)),
                }),
                Some(match reason.as_deref() {
                    Some(IDENTITY_DISABLED) => "ask the gate's operator: the identity gets no grant before it is enabled again",
                    _ => "ask the person who revoked it, or request a new grant",
                }.to_owned()),
            ),
            Self::Killed { grant, by, reason } => (
                match by {
                    EndedBy::Owner(by) => format!("{by} ended this session under their own grant {grant}"),
                    EndedBy::Person(by) => format!("{by} ended this session under grant {grant}"),
                    EndedBy::Operator(by) => format!("operator {} ended this session under grant {grant}", visible(by)),
                },
                reason.as_ref().map(|reason| format!("Reason: {}.", visible(reason))),
                Some(match by {
                    EndedBy::Owner(_) => "the grant itself is still valid: connect again".to_owned(),
                    EndedBy::Person(by) => format!("the grant itself is still valid: connect again, or ask {by}"),
                    EndedBy::Operator(_) => "the grant itself is still valid: connect again, or ask the operator".to_owned(),
                }),
            ),
            Self::Idle { limit } => (
                format!("the session was idle for more than {}", span(*limit)),
                None,
                Some("connect again".to_owned()),
            ),
            Self::Drained => (
                "the gate is shutting down: the session is closed".to_owned(),
                None,
                Some("connect again in a moment".to_owned()),
            ),
            Self::AuditFailed { disk_full } => (
                "nothing was run: it could not be put on record".to_owned(),
                Some(if *disk_full { "The disk of the audit log is full." } else { "The audit log cannot be written." }.to_owned()),
                Some("tell the gate's operator; connect again when the log can be written".to_owned()),
            ),
            Self::TargetLost { target } => (
                format!("the connection to database \"{target}\" was lost"),
                None,
                Some("connect again".to_owned()),
            ),
        };
        Some(EndingText {
            code: self.code(),
            message,
            detail,
            hint,
        })
    }
}

/// Joins names for a person to read; a long list is shortened.
fn listed<T: std::fmt::Display>(names: &[T]) -> String {
    const MOST: usize = 10;
    let mut said: Vec<_> = names.iter().take(MOST).map(ToString::to_string).collect();
    if names.len() > MOST {
        said.push(format!("{} others", names.len() - MOST));
    }
    said.join(", ")
}

/// Formats a time for a person to read: to the second, with its zone UTC.
fn clock_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Formats a length of time for a person to read.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        secs if secs < 120 => format!("{secs} s"),
        secs => format!("{} min", secs / 60),
    }
}

/// Returns the command that extends a live grant: its owner's if it came from a request, else the operator's.
pub(crate) fn prolonging(grant: &GrantId, requested: bool) -> String {
    if requested {
        format!("tidegate extend {grant} --by 30m")
    } else {
        format!("ask the gate's operator (tidegate grant extend {grant} --by 30m)")
    }
}
