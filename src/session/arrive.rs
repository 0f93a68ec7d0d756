//! From a greeted stranger to somebody with a grant: by the grant's own secret, or by an identity's token.
//!
//! It decides nothing: the ledger has the verifiers, the desk says who holds a token and what becomes of a request.
//!
//! INVARIANT: an identity is known only by a token that was proved, and comes in only under a grant of its own.

use super::destination::TargetNames;
use super::refusal::{self, Refusal, Turned};
use super::registry::Arriving;
use super::waiting::{self, Wait};
use super::wishes::Wishes;
use super::{Rules, Shared};
use crate::access::{AccessError, Asked, Visitor, Way};
use crate::audit::event::Refused;
use crate::causes::in_one_line;
use crate::ending::{Ending, Scope, Words};
use crate::frontend::{self, Authenticated, Greeted, TokenRefused};
use crate::grant::Grant;
use crate::ids::GrantId;
use crate::ledger::{LedgerError, RequestView};
use crate::names::{IdentityName, ProfileName};
use crate::request::Request;
use crate::secret::Secret;
use crate::wire::startup::Replication;

/// Somebody with a grant; whether it covers a session is asked next.
pub(super) struct Arrival {
    /// So that a shutdown waits for it.
    pub(super) arriving: Arriving,
    pub(super) client: Authenticated,
    pub(super) pass: Pass,
    /// What a refusal would say.
    pub(super) record: Refused,
}

/// Under which grant, and where to.
pub(super) struct Pass {
    pub(super) grant: GrantId,
    /// `target` or `target/profile`, as the grant has to have it; `None`: whatever it has.
    pub(super) database: Option<String>,
    /// Whether AuthenticationOk has been sent already.
    pub(super) welcomed: bool,
    /// The run that the client says it belongs to.
    pub(super) run: Option<String>,
    /// The client's own word on the notice at login.
    pub(super) welcome: Option<bool>,
    /// A note on how it came by the grant.
    pub(super) note: Option<Note>,
}

/// A note to a client on how it came by its grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// The grant was there before; it was asked for with this reason.
    Joined(Option<String>),
    /// An approver has given less than was asked for.
    Narrowed(Words),
}

/// Brings a stranger to a grant, or says why not.
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
    // Counted before it is asked: either the shutdown waits for this login, or this login sees the shutdown.
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

/// The identity that holds the client's token, if it is the one the client named.
async fn by_token(greeted: Box<Greeted>, rules: &Rules, shared: &Shared) -> Result<(Authenticated, Visitor), Turned> {
    let named = greeted.startup().user.clone();
    let address = greeted.client().ip();
    let judge = async |token: Secret<String>| {
        // To the client all of it is the same; why is put on record with the refusal.
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

/// The grant whose secret was proved: the user names it.
async fn own(client: &mut Authenticated, rules: &Rules, shared: &Shared) -> Result<Pass, Ending> {
    let startup = &mut client.startup;
    let wishes = Wishes::take(&mut startup.settings)?;
    let grant = shared.ledger.grant_of_login(&startup.user);
    let grant = grant.ok_or_else(|| Ending::BadSecret {
        user: startup.user.clone(),
        held: None,
    })?;
    let named = startup.database.is_some() || wishes.profile.is_some();
    // A grant that cannot be read is refused where it is admitted, with the reason.
    let view = shared.ledger.grant(&grant).await.ok();
    if startup.replication == Replication::Physical {
        // It has no database: the server looks at no name, and libpq's tools give their own (`replication`).
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

/// The identity's live grant, or what its request becomes.
async fn of_visitor(client: &mut Authenticated, visitor: &Visitor, rules: &Rules, shared: &Shared) -> Result<Pass, Ending> {
    let wishes = Wishes::take(&mut client.startup.settings)?;
    let destination = wishes.destination(&client.startup, &target_names(rules), None)?;
    // Which grant it is, the desk decides, and an approver may have narrowed it: the profile is not asked for again.
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

/// The note about a grant that was there before.
fn joined(grant: &Grant, request: Option<&Request>, profile: Option<&str>) -> Note {
    let given = grant.profile().map(ProfileName::as_str);
    match request.and_then(narrowed) {
        Some(note) if profile.is_some_and(|profile| given != Some(profile)) => note,
        _ => Note::Joined(grant.reason().map(str::to_owned)),
    }
}

/// The note about a request that an approver has given less than it asked for.
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

/// What a client is told whose request was not even taken.
fn refused(error: AccessError, identity: &IdentityName) -> Ending {
    match error {
        // Shut out since the token was proved: as if it were proved now.
        AccessError::NotIdentified | AccessError::Ledger(LedgerError::Disabled(_)) => Ending::BadToken {
            user: identity.to_string(),
            held: None,
        },
        AccessError::NoSuchTarget { asked, nearest, known } => Ending::NoSuchTarget { asked, nearest, known },
        AccessError::NoSuchProfile { target, asked, known } => Ending::NoSuchProfile { target, asked, known },
        AccessError::Invalid(why) => Ending::InvalidRequest { why },
        AccessError::Denied { why, policies } => Ending::AccessDenied { why, policies },
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
