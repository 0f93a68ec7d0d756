//! Admission of a login whose secret was proved, in one answer; and the questions of a login before it.
//!
//! It activates nothing: the ledger does, and asks for the policies here. They, the time of day, the groups of the identity and
//! its enabled state may have changed since the grant was made.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{AccessService, decide};
use crate::access::policy::{Action, Decision, Judgement};
use crate::base::error_chain::display_chain;
use crate::identity::{Identity, IdentitySource};
use crate::ledger::{AdmittedSession, LedgerError};
use crate::model::arrival::Arrival;
use crate::model::ending::Ending;
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName, TargetName};
use crate::model::request::{ApprovedBy, Request, RequestOutcome, RequestSpec};
use crate::protocol::scram::Verifier;

/// Claims that hold the id of a pipeline's run: GitHub's and GitLab's names.
pub(super) const RUN_CLAIMS: [&str; 2] = ["run_id", "pipeline_id"];

/// Admitted login.
#[derive(Debug)]
pub struct Admission {
    /// Permit, place under the grant, and the grant's changes.
    pub session: AdmittedSession,
    /// Origin of the grant.
    pub attribution: Attribution,
}

/// Origin of a grant, as the record of a session shows it beside the identity's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Groups of the identity at the time of the request; its present groups if an operator made the grant.
    pub groups: BTreeSet<GroupName>,
    /// Pipeline run that requested it.
    pub run: Option<String>,
}

/// Refusal of a login whose secret was proved.
#[derive(Debug)]
pub struct RefusedAdmission {
    /// Reason of the refusal.
    pub ending: Ending,
    /// Identity of the grant, which the proved secret allows to name; `None` if the grant cannot be read.
    pub identity: Option<IdentityName>,
}

/// Request of a grant, or the reason why it cannot be read; `None` for a grant that an operator made.
type RequestOfGrant = Result<Option<Request>, Arc<LedgerError>>;

impl AccessService {
    /// Returns the verifier for a login by `user`, as [`crate::ledger::Ledger::verifier`] does.
    pub async fn verifier(&self, user: &str) -> Verifier {
        self.0.ledger.verifier(user).await
    }

    /// Returns the target of a grant; `None` if the grant cannot be read.
    pub async fn target_of(&self, grant: &GrantId) -> Option<TargetName> {
        let view = self.0.ledger.grant(grant).await.ok()?;
        Some(view.grant.target().clone())
    }

    /// Returns a request, now and after every step; `None` if it was settled a while ago.
    #[must_use]
    pub fn watch_request(&self, id: &RequestId) -> Option<watch::Receiver<Arc<Request>>> {
        self.0.ledger.watch_request(id)
    }

    /// Admits a client from `client` that has proved a secret of the grant. `database` is the one that it asked for, if any. The
    /// first admission opens the grant's window, if the policies still allow that.
    pub async fn admit(&self, id: &GrantId, database: Option<&str>, client: IpAddr) -> Result<Admission, RefusedAdmission> {
        // Read before, so that the activation does not wait for the store.
        let request = self.request_of(id).await.map_err(Arc::new);
        let (service, to_judge) = (self.clone(), request.clone());
        let recheck = move |grant: &Grant| service.judge_activation(grant, &to_judge, client);
        let session = match self.0.ledger.admit(id, database, client, recheck).await {
            Ok(session) => session,
            Err(ending) => {
                let view = self.0.ledger.grant(id).await.ok();
                let identity = view.map(|view| view.grant.identity().clone());
                return Err(RefusedAdmission { ending, identity });
            }
        };
        match self.attribution(session.permit.grant(), session.permit.identity(), request) {
            Ok(attribution) => Ok(Admission { session, attribution }),
            Err(ending) => Err(RefusedAdmission {
                ending,
                identity: Some(session.permit.identity().clone()),
            }),
        }
    }

    async fn request_of(&self, id: &GrantId) -> Result<Option<Request>, LedgerError> {
        match self.0.ledger.grant(id).await?.grant.request() {
            Some(request) => Ok(Some(self.0.ledger.request(request).await?.request)),
            None => Ok(None),
        }
    }

    fn attribution(&self, grant: &GrantId, identity: &IdentityName, request: RequestOfGrant) -> Result<Attribution, Ending> {
        let Some(Request { wish, .. }) = request.map_err(|error| unreadable(grant, &error))? else {
            let user = self.0.ledger.user(identity);
            return Ok(Attribution {
                groups: user.map(|user| user.groups).unwrap_or_default(),
                run: None,
            });
        };
        let run = RUN_CLAIMS.iter().find_map(|claim| wish.claims.get(*claim));
        Ok(Attribution {
            run: run.cloned(),
            groups: wish.groups,
        })
    }

    /// Judges the activation of a grant that came of a request.
    fn judge_activation(&self, grant: &Grant, request: &RequestOfGrant, client: IpAddr) -> Result<(), Ending> {
        if self.0.ledger.is_disabled(grant.identity()) {
            return Err(Ending::IdentityDisabled {
                grant: grant.id().clone(),
            });
        }
        let refused = |why| Ending::PolicyRefused {
            grant: grant.id().clone(),
            why,
        };
        let request = request.as_ref().map_err(|error| unreadable(grant.id(), error))?;
        let outcome = request
            .as_ref()
            .and_then(|request| Some((request, request.outcome.as_ref()?)));
        let Some((request, RequestOutcome::Approved { how, .. })) = outcome else {
            return Err(refused("its request is not approved".to_owned()));
        };
        let Judgement {
            verdict,
            policies,
            errors,
        } = self.judge_again(&request.wish, client);
        // An approver disabled since then may not have been the person the account belongs to.
        let approvals = request
            .approvals
            .iter()
            .filter(|approval| !self.0.ledger.is_disabled(&approval.by));
        let good = decide::still_good(*how, approvals.count(), &verdict);
        let action = match how {
            ApprovedBy::Automatic => Action::AutoApprove,
            ApprovedBy::People => Action::Request,
            ApprovedBy::BreakGlass => Action::BreakGlass,
        };
        let decision = Decision {
            allowed: good.is_ok(),
            policies,
            errors,
        };
        self.note(grant, action, decision, client);
        good.map_err(refused)
    }

    /// Judges the wish as if it were submitted now from `client`.
    fn judge_again(&self, wish: &RequestSpec, client: IpAddr) -> Judgement {
        let mut context = self.context_of(&wish.identity, Some(client));
        // A way and a fresh sign-in are wanted of those who ask; the request was judged by theirs. Now a secret of the grant was
        // proved.
        context.arrival = Arrival::FRESH;
        // The grant itself did not count when it was requested.
        context.active_grants = context.active_grants.saturating_sub(1);
        self.rules().judge(&self.present(wish), wish, context)
    }

    /// Returns the requester's present identity: local users with their present groups, others with the groups and claims of
    /// their token.
    pub(super) fn present(&self, wish: &RequestSpec) -> Identity {
        let local = self.0.ledger.user(&wish.identity).filter(|user| user.local);
        match (local, &wish.issuer) {
            (Some(user), None) => Identity::local(user.name, user.groups),
            (_, issuer) => Identity {
                source: issuer.clone().map_or(IdentitySource::Local, IdentitySource::Issuer),
                claims: wish.claims.clone(),
                ..Identity::local(wish.identity.clone(), wish.groups.clone())
            },
        }
    }
}

fn unreadable(grant: &GrantId, error: &LedgerError) -> Ending {
    tracing::error!(%grant, error = %display_chain(error), "cannot read the request of a grant; refusing the login");
    Ending::LedgerFailed
}
