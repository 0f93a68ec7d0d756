//! The one table of endings: kind, SQLSTATE and the texts that clients read (message, detail and hint).
//!
//! This module does not choose endings and does not encode messages.

use std::time::Duration;

use jiff::Timestamp;

use super::EndingKind as Kind;
use super::{CopyFault, EndedBy, Ending, EndingText, HeldBack, IDENTITY_DISABLED, OptionsFault, ParameterRule, TokenForm};
use crate::base::duration;
use crate::base::visible::visible;
use crate::model::ids::GrantId;
use crate::model::line::LinePlace;
use crate::model::names::TargetName;

/// SQLSTATE of an unknown setting, as the server reports it.
const UNDEFINED_OBJECT: &str = "42704";
/// `object_in_use`.
const IN_USE: &str = "55006";
/// Extension that a holder is offered when the end is near.
pub(crate) const OFFERED_EXTENSION: Duration = Duration::from_mins(30);
/// Remedy of a revocation.
const ASK_REVOKER: &str = "ask the person who revoked it, or request a new grant";
/// Remedy of a connection in clear text.
const USE_TLS: &str = "connect with sslmode=require or stronger";

/// Entry of the table: an ending's kind, and its text for the client.
pub(super) struct EndingEntry {
    pub(super) kind: Kind,
    pub(super) text: EndingText,
}

/// Returns an entry without detail and hint.
pub(super) fn say(kind: Kind, code: &'static str, message: impl Into<String>) -> EndingEntry {
    let text = EndingText {
        code,
        message: message.into(),
        detail: None,
        hint: None,
    };
    EndingEntry { kind, text }
}

impl EndingEntry {
    /// Adds a detail.
    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        self.details(Some(detail.into()))
    }

    /// Adds a detail, if there is one.
    fn details(mut self, detail: Option<String>) -> Self {
        self.text.detail = detail;
        self
    }

    /// Adds a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.text.hint = Some(hint.into());
        self
    }
}

impl Ending {
    /// Returns the text for the client; `None` if the client already has it or is no longer connected.
    #[must_use]
    pub fn words(&self) -> Option<EndingText> {
        match self {
            Self::Quit | Self::Disconnected | Self::TargetClosed { .. } | Self::GateFault | Self::GateDied => None,
            told => Some(told.entry().text),
        }
    }

    /// Returns the entry. Its SQLSTATE is `00000` if the gate has none of its own.
    #[expect(clippy::too_many_lines, reason = "one entry for each ending: a table, not a procedure")]
    pub(super) fn entry(&self) -> EndingEntry {
        match self {
            // No client reads the text of these.
            Self::Quit => say(Kind::Quit, "00000", ""),
            Self::TargetClosed { .. } => say(Kind::TargetClosed, "00000", ""),
            Self::Disconnected => say(Kind::Disconnected, "08006", ""),
            Self::GateFault => say(Kind::GateFault, "XX000", ""),
            Self::GateDied => say(Kind::GateDied, "57P01", ""),

            Self::Malformed { what } => say(Kind::Malformed, "08P01", *what),
            Self::ProtocolUnsupported { major, minor } => say(
                Kind::ProtocolUnsupported,
                "0A000",
                format!("unsupported frontend protocol {major}.{minor}: this gate speaks 3.0 to 3.2"),
            ),
            Self::TlsRequired => say(Kind::TlsRequired, "28000", "connection requires TLS").hint(USE_TLS),
            Self::NoUser => {
                say(Kind::NoUser, "28000", "no user name in the startup packet").hint("give the grant id as user name")
            }
            Self::ParameterRefused { name, rule } => parameter_refused(name, *rule),
            Self::OptionsUnreadable { word, fault } => options_unreadable(word, *fault),
            Self::ReplicationRefused { target } => {
                let message = format!("replication connections to \"{target}\" are not allowed through this gate");
                say(Kind::ReplicationRefused, "42501", message)
                    .hint("ask the gate's operator to set `replication = true` on the target if they are wanted")
            }
            Self::HandshakeTimeout { step, limit } => {
                let message = format!("{step} took longer than {}", span(*limit));
                // query_canceled, as PostgreSQL itself reports an authentication timeout.
                say(Kind::HandshakeTimeout, "57014", message).hint("connect again")
            }
            Self::BadSecret { user, held } => not_authenticated(Kind::BadSecret, user, *held)
                .hint("user is the grant id (gr_…), password is the secret shown when the grant was made"),
            Self::BadToken { user, form: TokenForm::Bearer, held } => {
                // PostgreSQL's own text and code.
                let message = format!("OAuth bearer authentication failed for user \"{user}\"");
                say(Kind::BadToken, "28000", message).details(held.map(|held| held.told())).hint(
                    "sign in again; if that fails too, ask the gate's operator: the gate's log has the reason",
                )
            }
            Self::BadToken { user, form: TokenForm::Password, held } => not_authenticated(Kind::BadToken, user, *held).hint(
                "user is your name at the gate, password is your token (tg_…) or the token of your CI job; or log in with a grant \
                 id (gr_…) and its secret",
            ),
            Self::TokenInClear => say(Kind::TokenInClear, "28000", "a token is not taken without TLS").hint(USE_TLS),
            Self::BindingFailed => say(Kind::BindingFailed, "28000", "SCRAM channel binding check failed").hint(
                "somebody may stand between you and the gate: check its address and certificate (sslmode=verify-full)",
            ),
            Self::WrongDatabase { grant, target, asked } => {
                let message = format!("grant {grant} is not for database \"{asked}\"");
                say(Kind::WrongDatabase, "28000", message)
                    .detail(format!("It is for \"{target}\"."))
                    .hint(format!("connect with dbname={target}"))
            }
            Self::WrongProfile { grant, target, profile, asked } => {
                let of_profile = profile.as_ref().map(|profile| format!(".{profile}")).unwrap_or_default();
                say(Kind::WrongProfile, "28000", format!("grant {grant} is not for profile \"{asked}\""))
                    .details(profile.as_ref().map(|profile| format!("It is for \"{profile}\".")))
                    .hint(format!("connect with dbname={target}{of_profile}, or ask for another grant"))
            }
            Self::UnknownOption { name, nearest } => {
                say(Kind::UnknownOption, UNDEFINED_OBJECT, format!("unknown setting \"tidegate.{name}\""))
                    .hint(format!("did you mean tidegate.{nearest}?"))
            }
            Self::InvalidOption { name, wanted } => {
                let message = format!("invalid value of \"tidegate.{name}\": it has to be {wanted}");
                say(Kind::InvalidOption, "22023", message)
            }
            Self::NoSuchTarget { asked, nearest, known } => {
                let entry = say(Kind::NoSuchTarget, "3D000", format!("there is no database \"{asked}\" at this gate"))
                    .details((!known.is_empty()).then(|| format!("It has: {}.", listed(known))));
                match (nearest, known.first()) {
                    (Some(nearest), _) => entry.hint(format!("did you mean dbname={nearest}?")),
                    (None, Some(first)) => entry.hint(format!("name one of them, like dbname={first}")),
                    (None, None) => entry,
                }
            }
            Self::NoSuchProfile { target, asked, known } => {
                let message = format!("database \"{target}\" has no profile \"{asked}\"");
                let entry = say(Kind::NoSuchProfile, "3D000", message).detail(format!("It has: {}.", listed(known)));
                match known.first() {
                    Some(first) => entry.hint(format!("connect with dbname={target}.{first}")),
                    None => entry,
                }
            }
            Self::InvalidRequest { why } => say(Kind::InvalidRequest, "22023", why).hint(
                "say why and for how long: options='-c tidegate.reason=TEXT -c tidegate.for=30m' (in TEXT a backslash before each \
                 space)",
            ),
            Self::AccessDenied { why, policies } => {
                say(Kind::AccessDenied, "28000", format!("access denied: {}", visible(why)))
                    .details((!policies.is_empty()).then(|| format!("Decided by: {}.", policies.join(", "))))
                    .hint(
                        "a reason goes with options='-c tidegate.reason=TEXT' (in TEXT a backslash before each space); what else \
                         would have to change: tidegate policy explain --target NAME",
                    )
            }
            Self::ApprovalPending { request, approvers, nobody, waited } => {
                let message = if waited.is_zero() {
                    format!("request {request} has to be approved first")
                } else {
                    format!("request {request} was not approved within {}", span(*waited))
                };
                let hint = if *nobody {
                    "no enabled user of this gate may approve it: tell its operator; until then it stays pending".to_owned()
                } else {
                    format!("it stays pending: have it approved (tidegate approve {request}), then connect again")
                };
                say(Kind::ApprovalPending, "28000", message)
                    .details((!approvers.is_empty()).then(|| format!("It can be approved by: {}.", listed(approvers))))
                    .hint(hint)
            }
            Self::RequestRejected { request, by, comment } => {
                say(Kind::RequestRejected, "28000", format!("request {request} was rejected by {by}"))
                    .details(comment.as_ref().map(|comment| format!("They say: {}", visible(comment))))
                    .hint("talk to them, then connect again with another reason or a shorter time")
            }
            Self::RequestWithdrawn { request } => {
                let message = format!("request {request} was withdrawn");
                say(Kind::RequestWithdrawn, "28000", message).hint("connect again to ask anew")
            }
            Self::RequestLapsed { request, until } => {
                let until = clock_time(*until);
                let message = format!("request {request} lapsed at {until}: it did not get its approvals in time");
                say(Kind::RequestLapsed, "28000", message).hint("connect again to ask anew")
            }
            Self::AddressRefused { grant } => {
                say(Kind::AddressRefused, "28000", format!("grant {grant} is not valid from this address"))
                    .hint("connect from the network the grant was made for, or ask for a grant for this one")
            }
            Self::Lapsed { grant, activate_by } => say(Kind::Lapsed, "28000", format!("grant {grant} has lapsed"))
                .detail(format!("It had to be used first by {}.", clock_time(*activate_by)))
                .hint("ask for a new grant"),
            Self::LoginExpired { grant, until } => {
                let message = format!("grant {grant} ended at {}", clock_time(*until));
                say(Kind::LoginExpired, "28000", message).hint("ask for a new grant")
            }
            Self::LoginRevoked { grant, at } => {
                let message = format!("grant {grant} was revoked at {}", clock_time(*at));
                say(Kind::LoginRevoked, "28000", message).hint(ASK_REVOKER)
            }
            Self::PolicyRefused { grant, why } => {
                let message = format!("grant {grant} cannot be used now: the policies do not allow it any more");
                say(Kind::PolicyRefused, "28000", message)
                    .detail(format!("Policies: {}.", visible(why)))
                    .hint("ask again for what you need")
            }
            Self::IdentityDisabled { grant } => {
                let message = format!("grant {grant} cannot be used: the identity it is for has been disabled");
                say(Kind::IdentityDisabled, "28000", message).hint("ask the gate's operator")
            }
            Self::TooMany { scope, limit } => scope.entry(*limit),
            Self::TargetInUse { target, place, waited } => target_in_use(target, place, *waited),
            Self::TemplateInUse { target, template, tried } => {
                let message = format!(
                    "the template of database \"{target}\", \"{template}\", is in use, so no copy of it could be made for this grant"
                );
                // object_in_use, as the server reports it.
                say(Kind::TemplateInUse, IN_USE, message).detail(format!("It was tried for {}.", span(*tried))).hint(format!(
                    "close the connections to {template}, and connect again; the gate's operator can keep it free: \
                     ALTER DATABASE \"{template}\" ALLOW_CONNECTIONS false"
                ))
            }
            Self::CopyNotMade { target, template, fault } => copy_not_made(target, template, *fault),
            Self::TargetUnreachable { target } => {
                say(Kind::TargetUnreachable, "08001", format!("database \"{target}\" cannot be reached"))
                    .hint("the gate is up, the database behind it is not: try again, then tell its operator")
            }
            Self::TargetRefused { target } => {
                say(Kind::TargetRefused, "08006", format!("database \"{target}\" does not let the gate in")).hint(
                    "tell the gate's operator: the gate's log has the reason (credentials, TLS or connection limit of the target)",
                )
            }
            Self::LeftoversPending { target } => {
                let message = format!(
                    "database \"{target}\" is not open yet: sessions that a former run of the gate left there are still being ended"
                );
                say(Kind::LeftoversPending, "57P03", message)
                    .hint("connect again in a few seconds; if it stays so, tell the gate's operator")
            }
            Self::TargetSaysNo { target, refusal, message } => {
                let (code, kind, hint) = refusal.entry();
                let detail = format!("The server behind \"{target}\" says so; it is not a limit of your grant or of the gate.");
                say(kind, code, message).detail(detail).hint(hint)
            }
            Self::RoleNotMade { target, read_only: true } => {
                let message = format!(
                    "database \"{target}\" is read-only at present, so no role can be made for this grant, and without its own \
                     role no session begins"
                );
                // read_only_sql_transaction, as the server reports it.
                say(Kind::RoleNotMade, "25006", message).hint(
                    "tell the gate's operator: the target's server is a standby, or is set to be read-only; the target has to \
                     lead to the primary",
                )
            }
            Self::RoleNotMade { target, .. } => {
                let message = format!(
                    "no role could be made for this grant on database \"{target}\", and without its own role no session begins"
                );
                say(Kind::RoleNotMade, "08006", message).hint(
                    "tell the gate's operator: the gate's log has the reason, and `tidegate check` says what the gate's account \
                     lacks",
                )
            }
            Self::LedgerFailed => {
                let message = "the gate cannot read or write its grants, so it lets nobody in";
                say(Kind::LedgerFailed, "58030", message).hint("tell the gate's operator")
            }
            Self::ClockDoubted { ahead } => {
                let detail = format!(
                    "The machine's clock is {} ahead of gate time, and a window that is over must not be taken for open. Sessions \
                     go on to their deadlines.",
                    span(*ahead)
                );
                say(Kind::ClockDoubted, "57P03", "the gate's clock is in doubt: nobody new is let in")
                    .detail(detail)
                    .hint("connect again in some minutes, or tell the gate's operator: `tidegate clock` says what to do")
            }
            Self::Draining => say(Kind::Draining, "57P03", "the gate is shutting down").hint("connect again in a moment"),
            Self::Expired { grant, until, requested } => {
                let message = format!("grant {grant} ended at {}: the session is closed", clock_time(*until));
                say(Kind::Expired, "57P01", message).hint(if *requested {
                    "to go on, ask for a new grant: connect again under your own name, or tidegate request TARGET"
                } else {
                    "to go on, ask the gate's operator for a new grant"
                })
            }
            Self::Released { grant, at } => {
                let message = format!("grant {grant} was given back at {}: the session is closed", clock_time(*at));
                say(Kind::Released, "57P01", message).hint("to go on, ask for a new grant")
            }
            Self::Revoked { grant, at, by, reason } => {
                let message = format!("grant {grant} was revoked at {}: the session is closed", clock_time(*at));
                let reason_given = reason.as_ref().map(|reason| format!("; reason: {}", visible(reason)));
                let reason_given = reason_given.unwrap_or_default();
                say(Kind::Revoked, "57P01", message)
                    .details(by.as_ref().map(|by| format!("Revoked by {}{reason_given}.", visible(by))))
                    .hint(match reason.as_deref() {
                        Some(IDENTITY_DISABLED) => "ask the gate's operator: the identity gets no grant before it is enabled again",
                        _ => ASK_REVOKER,
                    })
            }
            Self::Killed { grant, by, reason } => {
                let (by, own, or_ask) = match by {
                    EndedBy::Owner(by) => (by.to_string(), " their own", String::new()),
                    EndedBy::Person(by) => (by.to_string(), "", format!(", or ask {by}")),
                    EndedBy::Operator(by) => (format!("operator {}", visible(by)), "", ", or ask the operator".to_owned()),
                };
                say(Kind::Killed, "57P01", format!("{by} ended this session under{own} grant {grant}"))
                    .details(reason.as_ref().map(|reason| format!("Reason: {}.", visible(reason))))
                    .hint(format!("the grant itself is still valid: connect again{or_ask}"))
            }
            Self::Idle { limit } => {
                let message = format!("the session was idle for more than {}", span(*limit));
                say(Kind::Idle, "57P05", message).hint("connect again")
            }
            Self::Drained => {
                let message = "the gate is shutting down: the session is closed";
                say(Kind::Drained, "57P01", message).hint("connect again in a moment")
            }
            Self::AuditFailed { disk_full } => {
                let (code, detail) = if *disk_full {
                    ("53100", "The disk of the audit log is full.")
                } else {
                    ("58030", "The audit log cannot be written.")
                };
                say(Kind::AuditFailed, code, "nothing was run: it could not be put on record")
                    .detail(detail)
                    .hint("tell the gate's operator; connect again when the log can be written")
            }
            Self::TargetLost { target } => {
                let message = format!("the connection to database \"{target}\" was lost");
                say(Kind::TargetLost, "08006", message).hint("connect again")
            }
        }
    }
}

fn parameter_refused(name: &str, rule: ParameterRule) -> EndingEntry {
    const LEAVE_OUT: &str = "leave it out of the connection string (or PGOPTIONS)";
    let (code, detail, hint) = match rule {
        ParameterRule::SetByGate => (
            "42501",
            "The gate sets it itself, so that the database notices a connection that is gone.",
            LEAVE_OUT,
        ),
        ParameterRule::GivenByGrant => ("42501", "A session begins in the role of its grant.", LEAVE_OUT),
        ParameterRule::PacketField => (
            UNDEFINED_OBJECT,
            "It is a field of the startup packet and not a setting.",
            "leave it out of `options` (or PGOPTIONS); the connection string has a keyword of its own for it",
        ),
    };
    let message = format!("startup parameter \"{name}\" is not allowed through this gate");
    say(Kind::ParameterRefused, code, message).detail(detail).hint(hint)
}

fn options_unreadable(word: &str, fault: OptionsFault) -> EndingEntry {
    let (message, hint) = match fault {
        OptionsFault::Switch => (
            format!("the switch \"{word}\" in `options` is not taken by this gate"),
            "write settings as -c name=value",
        ),
        OptionsFault::StrayWord => (
            format!("\"{word}\" in `options` is neither a switch nor part of a value"),
            r"a space in options is written `\ `: options='-c tidegate.reason=fix\ the\ totals'",
        ),
        OptionsFault::NotNameValue => (
            format!("\"{word}\" in `options` is not name=value"),
            r"write settings as -c name=value; a space in options is written `\ `",
        ),
    };
    say(Kind::OptionsUnreadable, "42601", message).hint(hint)
}

fn target_in_use(target: &TargetName, place: &LinePlace, waited: Duration) -> EndingEntry {
    let holders = place.holders(clock_time);
    let message = format!("database \"{target}\" is {holders}");
    let detail = match place.place {
        _ if waited.is_zero() => "One grant at a time works there under this profile.".to_owned(),
        1 => format!("The login waited for {} and was next in line.", span(waited)),
        number => format!("The login waited for {} and was number {number} in line.", span(waited)),
    };
    say(Kind::TargetInUse, IN_USE, message).detail(detail).hint(
        "connect again when it is free; tidegate psql and tidegate exec wait as long as that takes, and keep their place in line",
    )
}

fn copy_not_made(target: &TargetName, template: &str, fault: CopyFault) -> EndingEntry {
    let message = format!("no copy of \"{template}\" could be made on \"{target}\", and this grant works in a copy only");
    let (code, detail, hint) = match fault {
        CopyFault::NoTemplate => (
            "3D000",
            "The template does not exist.",
            "connect again when it has been made; if nobody is at it, tell the gate's operator",
        ),
        CopyFault::DiskFull => (
            "53100",
            "The disk of the database's server is full.",
            "connect again when others have finished, whose copies are dropped then; tell the gate's operator",
        ),
        CopyFault::Other => (
            "08006",
            "What there was of it was dropped.",
            "tell the gate's operator: the gate's log has the reason, and `tidegate check` says what the gate's account lacks",
        ),
    };
    say(Kind::CopyNotMade, code, message).detail(detail).hint(hint)
}

fn not_authenticated(kind: Kind, user: &str, held: Option<HeldBack>) -> EndingEntry {
    let message = format!("password authentication failed for user \"{user}\"");
    say(kind, "28P01", message).details(held.map(|held| held.told()))
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
    let by = duration::show(OFFERED_EXTENSION);
    if requested {
        format!("tidegate extend {grant} --by {by}")
    } else {
        format!("ask the gate's operator (tidegate grant extend {grant} --by {by})")
    }
}
