//! Second check of a grant at its first connect, before its activation.
//!
//! It activates nothing. The policies, the time of day, the groups of the identity and its enabled state may have changed since
//! the grant was made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{AccessService, decide};
use crate::access::policy::{Action, Decision, Judgement};
use crate::identity::{Identity, IdentitySource};
use crate::ledger::LedgerError;
use crate::model::ending::Ending;
use crate::model::grant::{Grant, GrantState};
use crate::model::ids::GrantId;
use crate::model::request::{ApprovedBy, Request, RequestOutcome, RequestSpec};

impl AccessService {
    /// Returns a check that the grant may still be activated from `client`, to be run inside the serialized activation. The
    /// request is read here, so that the activation does not wait for the store.
    pub async fn recheck(&self, id: &GrantId, client: IpAddr) -> impl FnOnce(&Grant) -> Result<(), Ending> + Send + use<> {
        let request = self.request_to_recheck(id).await;
        let service = self.clone();
        move |grant| service.judge_activation(grant, request, client)
    }

    /// Returns the request of a grant that waits for its first connect; `None` if there is nothing to check.
    async fn request_to_recheck(&self, id: &GrantId) -> Result<Option<Request>, LedgerError> {
        let grant = self.0.ledger.grant(id).await?.grant;
        match grant.request() {
            Some(request) if grant.status(self.0.clock.now()) == GrantState::Ready => {
                Ok(Some(self.0.ledger.request(request).await?.request))
            }
            _ => Ok(None),
        }
    }

    /// Checks an activation. A grant made by hand is refused only if its identity is disabled.
    fn judge_activation(
        &self,
        grant: &Grant,
        request: Result<Option<Request>, LedgerError>,
        client: IpAddr,
    ) -> Result<(), Ending> {
        if self.0.ledger.is_disabled(grant.identity()) {
            return Err(Ending::IdentityDisabled {
                grant: grant.id().clone(),
            });
        }
        if grant.request().is_none() {
            return Ok(());
        }
        let request = match request {
            Ok(Some(request)) => request,
            not_read => {
                tracing::error!(grant = %grant.id(), ?not_read, "cannot read the request of a grant; refusing the login");
                return Err(Ending::LedgerFailed);
            }
        };
        let refused = |why| Ending::PolicyRefused {
            grant: grant.id().clone(),
            why,
        };
        let Some(RequestOutcome::Approved { how, .. }) = &request.outcome else {
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
        let rules = self.rules();
        let Some(policies) = &rules.policies else {
            return decide::no_policies();
        };
        let mut context = self.context(&wish.identity, Some(client));
        // The grant itself did not count when it was requested.
        context.active_grants = context.active_grants.saturating_sub(1);
        policies.judge(&self.present(wish), wish, context)
    }

    /// Returns the requester's present identity: local users with their present groups, others with the groups and claims of
    /// their token.
    pub(super) fn present(&self, wish: &RequestSpec) -> Identity {
        let local = self.0.ledger.user(&wish.identity).filter(|user| user.local);
        let asked_as = wish.issuer.as_ref();
        match (local, asked_as) {
            (Some(user), None) => Identity {
                name: user.name,
                groups: user.groups,
                source: IdentitySource::Local,
                claims: BTreeMap::new(),
            },
            (_, issuer) => Identity {
                name: wish.identity.clone(),
                groups: wish.groups.clone(),
                source: issuer.cloned().map_or(IdentitySource::Local, IdentitySource::Issuer),
                claims: wish.claims.clone(),
            },
        }
    }
}
