//! Calls below HTTP: what the API's handlers answer as JSON and the console as pages.
//!
//! It parses no body and formats no answer. The access service decides what is permitted, as everywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::authenticate::Call;
use super::model::{
    Briefing, CopyBody, DEFAULT_PAGE_ROWS, GateStatus, Grants, GrantsQuery, LineView, LogStatus, MAX_PAGE_ROWS, ProfileBody,
    RequestBody, RequestsBody, RequestsQuery, RoleBody, SessionsQuery, TargetStatus, UsersBody, UsersQuery, VerdictBody,
};
use super::problem::ApiError;
use crate::access::policy::{Action, RequestVerdict};
use crate::access::{Approvers, Caller};
use crate::gate::session::SessionView;
use crate::ledger::{GrantFilter, RequestFilter, RequestView, UserFilter};
use crate::model::ending::EndedBy;
use crate::model::ids::{GrantId, RequestId, SessionId};
use crate::model::names::TargetName;
use crate::model::request::RequestState;

/// Number of earlier requests of the same identity in a briefing.
const MAX_EARLIER_REQUESTS: usize = 5;

impl Call {
    /// Returns a page of requests that the caller may see.
    pub async fn requests(&self, wanted: RequestsQuery) -> Result<RequestsBody, ApiError> {
        let limit = wanted.limit.unwrap_or(DEFAULT_PAGE_ROWS).clamp(1, MAX_PAGE_ROWS) as usize;
        let filter = RequestFilter {
            status: wanted.status,
            identity: wanted.identity,
            target: wanted.target,
            unreviewed: wanted.unreviewed,
            settled: wanted.settled,
            before: wanted.before,
            // One more than the page shows, to detect a next page.
            limit: limit + 1,
        };
        let service = &self.gate.service;
        let mut requests = if wanted.decidable {
            service.decidable(&self.caller, filter).await?
        } else {
            service.requests(&self.caller, filter).await?
        };
        let next = cut(&mut requests, limit, |view| &view.request.id);
        Ok(RequestsBody { requests, next })
    }

    /// Returns a page of grants that the caller may see.
    pub async fn grants(&self, wanted: GrantsQuery) -> Result<Grants, ApiError> {
        let limit = wanted.limit.unwrap_or(MAX_PAGE_ROWS).clamp(1, MAX_PAGE_ROWS) as usize;
        let filter = GrantFilter {
            identity: wanted.identity,
            target: wanted.target,
            ended: wanted.all,
            before: wanted.before,
            // One more than the page shows, to detect a next page.
            limit: limit + 1,
        };
        let mut grants = self.gate.service.grants(&self.caller, filter).await?;
        let next = cut(&mut grants, limit, |view| view.grant.id());
        Ok(Grants { grants, next })
    }

    /// Adds the possible approvers to a request.
    pub async fn with_approvers(&self, request: RequestView) -> RequestBody {
        let approvers = if request.request.status(self.gate.clock.now()) == RequestState::Pending {
            self.gate.service.approvers(&request).await
        } else {
            Approvers::default()
        };
        RequestBody {
            request,
            approvers: approvers.names,
            waits_for_nobody: approvers.nobody,
        }
    }

    /// Returns what an approver needs to decide on a request.
    pub async fn briefing(&self, id: &RequestId) -> Result<Briefing, ApiError> {
        let Self { gate, caller } = self;
        let view = gate.service.request(caller, id).await?;
        let wish = view.request.wish.clone();
        let filter = RequestFilter {
            identity: Some(wish.identity.clone()),
            limit: MAX_EARLIER_REQUESTS + 1,
            ..RequestFilter::default()
        };
        let mut earlier = gate.service.requests(caller, filter).await?;
        earlier.retain(|other| other.request.id != view.request.id);
        earlier.truncate(MAX_EARLIER_REQUESTS);
        let mut sessions = gate.registry.list();
        sessions.retain(|session| {
            session.who.target == wish.target && (!caller.is(&wish.identity) || session.who.identity == wish.identity)
        });
        let words = gate.service.rules().words(&wish.target, &wish.profile);
        let pending = view.request.status(gate.clock.now()) == RequestState::Pending;
        // The requester's address is not known here: a denial may be for its lack only, and is not told.
        let judgement = Some(gate.service.judgement(&view.request)).filter(|_| pending);
        let judgement = judgement.filter(|judgement| !matches!(judgement.verdict, RequestVerdict::Denied { .. }));
        let (verdict, policies) = judgement.map_or((None, Vec::new()), |judgement| {
            (Some(VerdictBody::from(judgement.verdict)), judgement.policies)
        });
        Ok(Briefing {
            profile: ProfileBody::new(wish.profile, words),
            earlier,
            sessions,
            verdict,
            policies,
            may_decide: gate.service.may_decide(caller, &view.request),
            request: self.with_approvers(view).await,
        })
    }

    /// Returns the running sessions that match and that the caller may watch ([`crate::access::AccessService::watches`]), each with the statement
    /// that it runs.
    pub async fn sessions(&self, wanted: &SessionsQuery) -> Vec<SessionView> {
        let mut sessions = self.gate.registry.list();
        sessions.retain(|SessionView { who, .. }| {
            wanted.grant.as_ref().is_none_or(|grant| who.grant == *grant)
                && wanted.identity.as_ref().is_none_or(|identity| who.identity == *identity)
                && wanted.target.as_ref().is_none_or(|target| who.target == *target)
        });
        if !self.gate.service.would(&self.caller, Action::Administer) {
            let is_own = |view: &SessionView| self.caller.is(&view.who.identity);
            let others = sessions.iter().filter(|view| !is_own(view));
            let others: BTreeSet<GrantId> = others.map(|view| view.who.grant.clone()).collect();
            // What cannot be read is nobody's to watch.
            let overseen = self.gate.service.overseen(&self.caller, others).await.unwrap_or_default();
            sessions.retain(|view| is_own(view) || overseen.contains(&view.who.grant));
        }
        for view in &mut sessions {
            self.gate.registry.show_statement(view);
        }
        sessions
    }

    /// Returns the lines at the wanted targets: with `administer` all, otherwise those that the caller is in.
    #[must_use]
    pub fn lines(&self, wanted: &SessionsQuery) -> Vec<LineView> {
        let all = self.gate.service.would(&self.caller, Action::Administer);
        let of = self.caller.person().ok().map(|who| who.name()).filter(|_| !all);
        let mut lines = self.gate.service.lines(of);
        lines.retain(|line| wanted.target.as_ref().is_none_or(|target| line.target == *target));
        lines
    }

    /// Ends a session that the caller may watch. Returns it as it was before its end.
    pub async fn end_session(&self, id: &SessionId, reason: Option<String>) -> Result<SessionView, ApiError> {
        let Self { gate, caller } = self;
        let view = gate.registry.list().into_iter().find(|view| view.who.session == *id);
        let own = view.as_ref().is_some_and(|view| caller.is(&view.who.identity));
        let others = view.iter().filter(|_| !own).map(|view| view.who.grant.clone());
        let overseen = gate.service.overseen(caller, others.collect()).await.unwrap_or_default();
        if !own && overseen.is_empty() {
            gate.service.may_take_away(caller, Action::Administer).await?;
        }
        let killed = gate.registry.kill(id, ended_by(caller, own), reason).await;
        killed.ok_or_else(|| ApiError::NoSuchSession(id.clone()))
    }

    /// Returns a page of the users, for those who may administer.
    pub async fn users(&self, wanted: UsersQuery) -> Result<UsersBody, ApiError> {
        let admin = self.gate.service.administer(&self.caller).await?;
        let limit = wanted.limit.map(|limit| limit.clamp(1, MAX_PAGE_ROWS) as usize);
        let filter = UserFilter {
            name: wanted.name,
            identity: wanted.identity,
            after: wanted.after,
            // One more than the page shows, to detect a next page.
            limit: limit.map(|limit| limit + 1),
        };
        let mut users = admin.users(&filter);
        let next = limit.and_then(|limit| cut(&mut users, limit, |user| &user.name));
        Ok(UsersBody { users, next })
    }

    /// Returns the state of the gate, for those who may administer.
    pub async fn status(&self) -> Result<GateStatus, ApiError> {
        let gate = &self.gate;
        gate.service.may(&self.caller, Action::Administer).await?;
        Ok(GateStatus {
            not_ready: (gate.ready)().err(),
            not_alive: (gate.alive)().err(),
            gate_time: gate.clock.now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            advertise: gate.advertise.clone(),
            sessions: gate.registry.unfinished(),
            log: self.state_of_log(),
            forwarding: (gate.forwarding)(),
        })
    }

    /// Returns the state of the log, for those who may read it.
    pub async fn log_status(&self) -> Result<LogStatus, ApiError> {
        self.gate.service.may(&self.caller, Action::ReadLog).await?;
        Ok(self.state_of_log())
    }

    pub(super) fn state_of_log(&self) -> LogStatus {
        let journal = &self.gate.journal;
        let written = journal.written();
        LogStatus {
            last: written.last_seq,
            signed_to: journal.signed_tip().map(|tip| tip.seq),
            signed_at: written.signed,
            gap: journal.gap().map(str::to_owned),
            not_ready: (self.gate.ready)().err(),
        }
    }

    /// Returns the state of the roles of a target's grants, for those who may administer.
    pub async fn target_status(&self, name: &str) -> Result<TargetStatus, ApiError> {
        let Self { gate, caller } = self;
        let admin = gate.service.administer(caller).await?;
        let target: TargetName = named(name)?;
        let Some(target_state) = (gate.target_state)(&target) else {
            let names: Vec<String> = gate.service.rules().targets.keys().map(ToString::to_string).collect();
            return Err(ApiError::NoSuchTarget {
                asked: name.to_owned(),
                known: names.join(", "),
            });
        };
        let Some(roles) = &target_state.roles else {
            return Ok(TargetStatus::shared(target));
        };
        let away = |reason| ApiError::TargetAway {
            target: target.clone(),
            reason,
        };
        let found = roles.look().await.map_err(|fault| away(fault.to_string()))?;
        let copies = roles.look_for_copies().await.map_err(|fault| away(fault.to_string()))?;
        let copies = copies.into_iter().map(|copy| CopyBody {
            database: copy.database,
            grant: copy.grant,
            bytes: copy.bytes,
        });
        let copies_counted = roles.copies_counted();
        let mut sessions: BTreeMap<GrantId, u32> = BTreeMap::new();
        for session in gate.registry.list() {
            *sessions.entry(session.who.grant).or_default() += 1;
        }
        let counted = roles.counted();
        let mut status = TargetStatus {
            role_per_grant: true,
            made: counted.made,
            retired: counted.retired,
            left: counted.left,
            intruders: counted.intruders,
            copies: copies.collect(),
            copies_made: copies_counted.made,
            copies_dropped: copies_counted.dropped,
            profiles: gate.profiles.borrow().get(&target).cloned().unwrap_or_default(),
            ..TargetStatus::shared(target)
        };
        for role in found {
            if !roles.ours(&role) {
                status.elsewhere += 1;
                continue;
            }
            // The status of a role whose grant is not in this gate's store is `unknown`.
            let grant = admin.grant(&role.grant).await.ok();
            status.roles.push(RoleBody {
                sessions: sessions.get(&role.grant).copied().unwrap_or_default(),
                backends: u32::try_from(role.backends.len()).unwrap_or(u32::MAX),
                identity: grant.as_ref().map(|view| view.grant.identity().clone()),
                until: grant.as_ref().and_then(|view| view.grant.until()),
                status: grant.map_or_else(|| "unknown".to_owned(), |view| view.status),
                role: role.role,
                grant: role.grant,
                can_login: role.can_login,
            });
        }
        Ok(status)
    }
}

fn ended_by(caller: &Caller, own: bool) -> EndedBy {
    match caller {
        Caller::Admin { operator } => EndedBy::Operator(operator.clone()),
        Caller::Person(person, _) if own => EndedBy::Owner(person.name().clone()),
        Caller::Person(person, _) => EndedBy::Person(person.name().clone()),
    }
}

/// Cuts a list, which has one row more than a page if there is a next page. Returns the id of the page's last row in that case.
fn cut<T, I>(rows: &mut Vec<T>, limit: usize, id: impl Fn(&T) -> &I) -> Option<I>
where
    I: Clone,
{
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(|row| id(row).clone())
}

/// Parses an id or a name in a path.
pub fn named<T: std::str::FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ApiError::Malformed(error.to_string()))
}
