//! Arrival of a client: authentication by a grant's secret or an identity's token, and the choice of the grant.
//!
//! This module does not decide: the ledger has the verifiers, and the access service knows the holder of a token and decides on
//! requests.
//!
//! INVARIANT: an identity is known only by a token that was proved, and enters only under a grant of its own.

use super::destination::TargetNames;
use super::limits::Note;
use super::refusal::{self, Refusal, Turned};
use super::registry::Arriving;
use super::waiting::{self, Wait};
use super::wishes::Wishes;
use super::{Rules, Shared};
use crate::access::{AccessError, Asked, Visitor, Way};
use crate::audit::event::Refused;
use crate::causes::in_one_line;
use crate::ending::{Ending, Scope};
use crate::frontend::{self, Authenticated, Greeted, TokenRefused};
use crate::grant::Grant;
use crate::ids::GrantId;
use crate::ledger::{LedgerError, RequestView};
use crate::names::{IdentityName, ProfileName};
use crate::request::Request;
use crate::secret::Secret;
use crate::wire::startup::Replication;

/// Authenticated client with a grant; the next step checks whether the grant covers the session.
pub(super) struct Arrival {
    /// Registration as an arriving client, so that a shutdown waits for it.
    pub(super) arriving: Arriving,
    pub(super) client: Authenticated,
    pub(super) pass: Pass,
    /// Record of a refusal, in case one follows.
    pub(super) record: Refused,
}

/// Grant and destination of a login.
pub(super) struct Pass {
    pub(super) grant: GrantId,
    /// `target` or `target/profile`, which must match the grant; `None`: the grant's own.
    pub(super) database: Option<String>,
    /// True if AuthenticationOk has already been sent.
    pub(super) welcomed: bool,
    /// Run that the client claims to belong to.
    pub(super) run: Option<String>,
    /// Client's own setting for the notice at login.
    pub(super) welcome: Option<bool>,
    /// Note on the origin of the grant.
    pub(super) note: Option<Note>,
}

/// Authenticates a client and finds its grant, or returns the refusal.
pub(super) async fn arrive(greeted: Box<Greeted>, rules: &Rules, shared: &Shared) -> Result<Arrival, Turned> {
    let by_grant = frontend::names_grant(&greeted.startup().user);
    let (mut client, visitor) = if by_grant {
        let verifier = shared.ledger.verifier(&greeted.startup().user).await;
        (frontend::authenticate(greeted, &verifier).await?, None)
    } else {
        let (client, visitor) = by_token(greeted, rules, shared).await?;
        (client, Some(visitor))
    };
    let mut record = refusal::blank(client.client, Some(&client.startup));
    record.identity = visitor.as_ref().map(|visitor| visitor.name().clone());
    // Registered before the check: either the shutdown waits for this login, or this login sees the shutdown.
    let arriving = shared.registry.arriving();
    let found = match &visitor {
        _ if shared.draining() => Err(Ending::Draining),
        None => own(&mut client, rules, shared).await,
        Some(visitor) => of_visitor(&mut client, visitor, rules, shared).await,
    };
    match found {
        Ok(pass) => Ok(Arrival {
            arriving,
            client,
            pass,
            record,
        }),
        Err(ending) => Err(Turned::Refused(Box::new(Refusal {
            arriving,
            transport: client.transport,
            record,
            denied: ending.into(),
        }))),
    }
}

/// Returns the refusal if all slots for connections are used.
pub(super) fn no_place(arrival: Arrival, limit: u32) -> Refusal {
    let ending = Ending::TooMany {
        scope: Scope::Gate,
        limit,
    };
    Refusal {
        arriving: arrival.arriving,
        record: arrival.record,
        transport: arrival.client.transport,
        denied: ending.into(),
    }
}

/// Returns the identity that holds the client's token, if it is the one the client named.
async fn by_token(greeted: Box<Greeted>, rules: &Rules, shared: &Shared) -> Result<(Authenticated, Visitor), Turned> {
    let named = greeted.startup().user.clone();
    let address = greeted.client().ip();
    let judge = async |token: Secret<String>| {
        // The client always gets the same error; the refusal's record has the reason.
        let visitor = shared.desk.prove(&token, Some(address)).await;
        let visitor = visitor.map_err(|error| TokenRefused::NotAccepted { why: error.to_string() })?;
        if visitor.name().as_str() == named {
            Ok(visitor)
        } else {
            Err(TokenRefused::AnotherIdentity)
        }
    };
    Ok(frontend::identify(greeted, rules.frontend.token_in_clear, judge).await?)
}

/// Returns the pass for the grant whose secret was proved; the user name is the grant.
async fn own(client: &mut Authenticated, rules: &Rules, shared: &Shared) -> Result<Pass, Ending> {
    let startup = &mut client.startup;
    let wishes = Wishes::take(&mut startup.settings)?;
    let grant = shared.ledger.grant_of_login(&startup.user);
    let grant = grant.ok_or_else(|| Ending::BadSecret {
        user: startup.user.clone(),
        held: None,
    })?;
    let named = startup.database.is_some() || wishes.profile.is_some();
    // A grant that cannot be read is refused at admission, with the reason.
    let view = shared.ledger.grant(&grant).await.ok();
    if startup.replication == Replication::Physical {
        // Physical replication has no database: the server ignores the name, and libpq's tools send their own (`replication`).
        startup.database = None;
    }
    let granted = view.as_ref().map(|view| view.grant.target().as_str());
    let destination = wishes.destination(startup, &target_names(rules), granted)?;
    Ok(Pass {
        grant,
        database: named.then(|| destination.database()),
        welcomed: false,
        run: wishes.run,
        welcome: wishes.welcome,
        note: None,
    })
}

fn target_names(rules: &Rules) -> TargetNames<'_> {
    TargetNames::of(rules.targets.values().map(|room| &*room.target))
}

/// Returns the pass for the identity's live grant, or for the one that results from its request.
async fn of_visitor(client: &mut Authenticated, visitor: &Visitor, rules: &Rules, shared: &Shared) -> Result<Pass, Ending> {
    let wishes = Wishes::take(&mut client.startup.settings)?;
    let destination = wishes.destination(&client.startup, &target_names(rules), None)?;
    // The access service decides on the grant, and an approver may have narrowed it, so the profile is not checked again.
    let pass = |grant, welcomed, note| Pass {
        grant,
        database: Some(destination.target.clone()),
        welcomed,
        run: wishes.run.clone(),
        welcome: wishes.welcome,
        note,
    };
    let settings = &rules.session.waiting;
    let limit = wishes.wait.map_or(settings.limit, |wait| wait.min(settings.limit));
    let asked = Asked {
        target: destination.target.clone(),
        profile: destination.profile.clone(),
        window: wishes.window,
        reason: wishes.reason,
        ticket: wishes.ticket,
        max_sessions: wishes.sessions,
        ..Asked::default()
    };
    let view = match shared.desk.enter(visitor, asked).await {
        Ok(Way::Grant(view, request)) => {
            let note = joined(&view.grant, request.as_deref(), destination.profile.as_deref());
            return Ok(pass(view.grant.id().clone(), false, Some(note)));
        }
        Ok(Way::Request(view)) => view,
        Err(error) => return Err(refused(error, visitor.name())),
    };
    if let Some(answer) = waiting::answer(&view.request) {
        return answer.map(|grant| pass(grant, false, narrowed(&view.request)));
    }
    let wait = Wait {
        request: watched(&view, shared)?,
        approvers: shared.desk.approvers(&view).await,
        nobody: shared.desk.waits_for_nobody(&view).await,
        limit,
        repeat: settings.repeat,
    };
    if limit.is_zero() {
        return Err(wait.pending(&view.request.id, limit));
    }
    let seat = shared.lobby.enter(visitor.name(), settings)?;
    tracing::info!(request = %view.request.id, identity = %visitor.name(), client = %client.client, "a login waits for approval");
    let watched = wait.request.clone();
    let grant = wait.run(&mut client.transport, &seat, &shared.clock).await?;
    let note = narrowed(&watched.borrow());
    Ok(pass(grant, true, note))
}

/// Returns the note about a grant that existed before.
fn joined(grant: &Grant, request: Option<&Request>, profile: Option<&str>) -> Note {
    let given = grant.profile().map(ProfileName::as_str);
    match request.and_then(narrowed) {
        Some(note) if profile.is_some_and(|profile| given != Some(profile)) => note,
        _ => Note::Joined(grant.reason().map(str::to_owned)),
    }
}

/// Returns the note about a request for which an approver granted less than it asked for.
fn narrowed(request: &Request) -> Option<Note> {
    waiting::narrowed(request).map(Note::Narrowed)
}

type Watched = tokio::sync::watch::Receiver<std::sync::Arc<Request>>;

fn watched(view: &RequestView, shared: &Shared) -> Result<Watched, Ending> {
    let id = &view.request.id;
    shared.ledger.watch_request(id).ok_or_else(|| {
        tracing::error!(request = %id, "refused a login: its pending request is not in memory");
        Ending::LedgerFailed
    })
}

/// Returns the ending of a client whose request was refused at once.
fn refused(error: AccessError, identity: &IdentityName) -> Ending {
    match error {
        // The identity was disabled after its token was proved: the answer is the same as before.
        AccessError::NotIdentified | AccessError::Ledger(LedgerError::Disabled(_)) => Ending::BadToken {
            user: identity.to_string(),
            held: None,
        },
        AccessError::NoSuchTarget { asked, nearest, known } => Ending::NoSuchTarget { asked, nearest, known },
        AccessError::NoSuchProfile { target, asked, known } => Ending::NoSuchProfile { target, asked, known },
        AccessError::Invalid(why) => Ending::InvalidRequest { why },
        AccessError::Denied { why, policies, .. } => Ending::AccessDenied { why, policies },
        AccessError::TooMany { identity, limit, wait } => Ending::TooMany {
            scope: Scope::Requests { identity, wait },
            limit,
        },
        AccessError::Ledger(error) => {
            tracing::error!(%identity, error = %in_one_line(&error), "cannot create a request; refusing the login");
            error.at_login()
        }
        error => {
            tracing::error!(%identity, error = %in_one_line(&error), "cannot create a request: unexpected error; refusing the login");
            Ending::LedgerFailed
        }
    }
}
