//! Arrival of a client: authentication by a grant's secret or an identity's token (sent as a password, or by OAUTHBEARER), and the
//! choice of the grant.
//!
//! This module does not decide: the access service has the verifiers, knows the holder of a token and decides on requests.
//!
//! INVARIANT: an identity is known only by a token that was proved, and enters only under a grant of its own.

use std::time::Duration;

use jiff::Timestamp;

use super::destination::TargetNames;
use super::limits::ArrivalNote;
use super::refusal::{self, LoginFailure, RefusedLogin};
use super::registry::ArrivingLogin;
use super::startup_options::StartupOptions;
use super::waiting::{self, ApprovalWait};
use super::{SessionRules, SharedState};
use crate::access::{AccessError, EntryDecision, Principal, RequestArgs};
use crate::audit::event::ConnectionRefused;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::gate::frontend::{self, Authenticated, GreetedClient, TokenExchange, TokenRefusalError};
use crate::ledger::LedgerError;
use crate::model::arrival::CallerVia;
use crate::model::ending::{Ending, LimitScope, TokenForm};
use crate::model::grant::Grant;
use crate::model::ids::GrantId;
use crate::model::names::{ProfileName, TargetName};
use crate::model::request::Request;
use crate::protocol::wire::startup::Replication;

/// Authenticated client with a grant; the next step checks whether the grant covers the session.
pub(super) struct AuthorizedClient {
    /// Registration as an arriving client, so that a shutdown waits for it.
    pub(super) arriving: ArrivingLogin,
    pub(super) client: Authenticated,
    pub(super) pass: GrantPass,
    /// Record of a refusal, in case one follows.
    pub(super) record: ConnectionRefused,
}

/// Grant and destination of a login.
pub(super) struct GrantPass {
    pub(super) grant: GrantId,
    /// `target` or `target/profile`, which must match the grant; `None`: the grant's own.
    pub(super) database: Option<String>,
    /// True if AuthenticationOk has already been sent.
    pub(super) welcomed: bool,
    /// Run that the client claims to belong to.
    pub(super) run: Option<String>,
    /// Client's own setting for the notice at login.
    pub(super) welcome: Option<bool>,
    /// Maximum time that the client waits, if it has said so.
    pub(super) wait: Option<Duration>,
    /// Note on the origin of the grant.
    pub(super) note: Option<ArrivalNote>,
    /// Time at which the token expires that proved the identity, if it does.
    pub(super) token_until: Option<Timestamp>,
}

/// Identity that logs in, and how it proved itself.
struct Visitor {
    principal: Principal,
    form: TokenForm,
}

/// Authenticates a client and finds its grant, or returns the refusal.
pub(super) async fn arrive(
    greeted: Box<GreetedClient>,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<AuthorizedClient, LoginFailure> {
    let (mut client, visitor) = if frontend::names_grant(&greeted.startup().user) {
        let verifier = shared.service.verifier(&greeted.startup().user).await;
        (frontend::authenticate(greeted, &verifier).await?, None)
    } else {
        let (client, visitor) = by_token(greeted, rules, shared).await?;
        (client, Some(visitor))
    };
    let mut record = refusal::blank(client.client, Some(&client.startup));
    record.identity = visitor.as_ref().map(|visitor| visitor.principal.name().clone());
    // Registered before the check: either the shutdown waits for this login, or this login sees the shutdown.
    let arriving = shared.registry.arriving();
    let found = match &visitor {
        _ if shared.draining() => Err(Ending::Draining),
        None => own(&mut client, rules, shared).await,
        // Boxed: a request takes several times the memory of a login with a grant.
        Some(visitor) => Box::pin(of_visitor(&mut client, visitor, rules, shared)).await,
    };
    match found {
        Ok(pass) => Ok(AuthorizedClient {
            arriving,
            client,
            pass,
            record,
        }),
        Err(ending) => Err(LoginFailure::Refused(Box::new(RefusedLogin {
            arriving,
            transport: client.transport,
            record,
            denied: ending.into(),
        }))),
    }
}

/// Returns the refusal if all slots for connections are used.
pub(super) fn no_place(arrival: AuthorizedClient, limit: u32) -> RefusedLogin {
    let ending = Ending::TooMany {
        scope: LimitScope::Gate,
        limit,
    };
    RefusedLogin {
        arriving: arrival.arriving,
        record: arrival.record,
        transport: arrival.client.transport,
        denied: ending.into(),
    }
}

/// Returns the identity that holds the client's token, if it is one that the client may log in as under the name it gave.
async fn by_token(
    greeted: Box<GreetedClient>,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<(Authenticated, Visitor), LoginFailure> {
    let (named, address) = (greeted.startup().user.clone(), greeted.client().ip());
    let (clear, oauth) = (rules.frontend.token_in_clear, &rules.frontend.oauth);
    let discovery = oauth.offered_to(&named);
    let form = discovery.map_or(TokenForm::Password, |_| TokenForm::Bearer);
    let judge = async |token: Secret<String>| {
        // The client always gets the same error; the refusal's record has the reason.
        let principal = shared.service.prove(&token, Some(address)).await;
        let mut principal = principal.map_err(|error| TokenRefusalError::NotAccepted { why: error.to_string() })?;
        principal.via = CallerVia::Wire;
        if form == TokenForm::Bearer && !principal.identity.issuer().is_some_and(|issuer| oauth.has_issuer(issuer)) {
            return Err(TokenRefusalError::AnotherIssuer);
        }
        if oauth.is_oauth_user(&named) || principal.name().as_str() == named {
            Ok(Visitor { principal, form })
        } else {
            Err(TokenRefusalError::AnotherIdentity)
        }
    };
    let exchange = discovery.map_or(TokenExchange::Password, TokenExchange::Bearer);
    Ok(frontend::identify(greeted, clear, exchange, judge).await?)
}

/// Returns the pass for the grant whose secret was proved; the user name is the grant.
async fn own(client: &mut Authenticated, rules: &SessionRules, shared: &SharedState) -> Result<GrantPass, Ending> {
    let startup = &mut client.startup;
    let options = StartupOptions::take(&mut startup.settings)?;
    let grant = GrantId::of_login(&startup.user);
    let grant = grant.ok_or_else(|| Ending::BadSecret {
        user: startup.user.clone(),
        held: None,
    })?;
    let named = startup.database.is_some() || options.profile.is_some();
    // A grant that cannot be read is refused at admission, with the reason.
    let granted = shared.service.target_of(&grant).await;
    if startup.replication == Replication::Physical {
        // Physical replication has no database: the server ignores the name, and libpq's tools send their own (`replication`).
        startup.database = None;
    }
    let destination = options.destination(startup, &target_names(rules), granted.as_ref().map(TargetName::as_str))?;
    Ok(GrantPass {
        grant,
        database: named.then(|| destination.database()),
        welcomed: false,
        run: options.run,
        welcome: options.welcome,
        wait: options.wait,
        note: None,
        token_until: None,
    })
}

fn target_names(rules: &SessionRules) -> TargetNames<'_> {
    TargetNames::of(rules.targets.values().map(|target_state| &*target_state.target))
}

/// Returns the pass for the identity's live grant, or for the one that results from its request.
async fn of_visitor(
    client: &mut Authenticated,
    visitor: &Visitor,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<GrantPass, Ending> {
    let principal = &visitor.principal;
    let options = StartupOptions::take(&mut client.startup.settings)?;
    let destination = options.destination(&client.startup, &target_names(rules), None)?;
    // The access service decides on the grant, and an approver may have narrowed it, so the profile is not checked again.
    let pass = |grant, welcomed, note| GrantPass {
        grant,
        database: Some(destination.target.clone()),
        welcomed,
        run: options.run.clone(),
        welcome: options.welcome,
        wait: options.wait,
        note,
        token_until: principal.token_until(),
    };
    let settings = &rules.session.waiting;
    let limit = options.wait.map_or(settings.limit, |wait| wait.min(settings.limit));
    let asked = RequestArgs {
        target: destination.target.clone(),
        profile: destination.profile.clone(),
        window: options.window,
        reason: options.reason,
        ticket: options.ticket,
        max_sessions: options.sessions,
        ..RequestArgs::default()
    };
    let view = match shared.service.enter(principal, asked).await {
        Ok(EntryDecision::Grant(view, request)) => {
            let note = joined(&view.grant, request.as_deref(), destination.profile.as_deref());
            return Ok(pass(view.grant.id().clone(), false, Some(note)));
        }
        Ok(EntryDecision::Request(view)) => view,
        Err(error) => return Err(refused(error, visitor, &client.startup.user)),
    };
    if let Some(answer) = waiting::answer(&view.request) {
        return answer.map(|grant| pass(grant, false, narrowed(&view.request)));
    }
    let request = shared.service.watch_request(&view.request.id).ok_or_else(|| {
        tracing::error!(request = %view.request.id, "refused a login: its pending request is not in memory");
        Ending::LedgerFailed
    })?;
    let wait = ApprovalWait {
        request: request.clone(),
        approvers: shared.service.approvers(&view).await,
        limit,
        repeat: settings.repeat,
    };
    if limit.is_zero() {
        return Err(wait.pending(&view.request.id, limit));
    }
    let waiter = shared.waiters.enter(principal.name(), settings)?;
    tracing::info!(request = %view.request.id, identity = %principal.name(), client = %client.client, "a login waits for approval");
    let grant = wait.run(&mut client.transport, &waiter, &shared.clock).await?;
    let note = narrowed(&request.borrow());
    Ok(pass(grant, true, note))
}

/// Returns the note about a grant that existed before.
fn joined(grant: &Grant, request: Option<&Request>, profile: Option<&str>) -> ArrivalNote {
    let given = grant.profile().map(ProfileName::as_str);
    match request.and_then(narrowed) {
        Some(note) if profile.is_some_and(|profile| given != Some(profile)) => note,
        _ => ArrivalNote::Joined(grant.reason().map(str::to_owned)),
    }
}

/// Returns the note about a request for which an approver granted less than it asked for.
fn narrowed(request: &Request) -> Option<ArrivalNote> {
    waiting::narrowed(request).map(ArrivalNote::Narrowed)
}

/// Returns the ending of a client whose request was refused at once; `user` as it named itself.
fn refused(error: AccessError, visitor: &Visitor, user: &str) -> Ending {
    let identity = visitor.principal.name();
    match error {
        // The identity was disabled after its token was proved: the answer is the same as before.
        AccessError::NotIdentified | AccessError::Ledger(LedgerError::Disabled(_)) => Ending::BadToken {
            user: user.to_owned(),
            form: visitor.form,
            held: None,
        },
        AccessError::NoSuchTarget { asked, nearest, known } => Ending::NoSuchTarget { asked, nearest, known },
        AccessError::NoSuchProfile { target, asked, known } => Ending::NoSuchProfile { target, asked, known },
        AccessError::Invalid(why) => Ending::InvalidRequest { why },
        AccessError::Denied { why, policies, .. } => Ending::AccessDenied { why, policies },
        AccessError::TooMany { identity, limit, wait } => Ending::TooMany {
            scope: LimitScope::Requests { identity, wait },
            limit,
        },
        AccessError::Ledger(error) => {
            tracing::error!(%identity, error = %display_chain(&error), "cannot create a request; refusing the login");
            error.at_login()
        }
        error => {
            tracing::error!(%identity, error = %display_chain(&error), "cannot create a request: unexpected error; refusing the login");
            Ending::LedgerFailed
        }
    }
}
