//! Origin of a grant, as the record of a session shows it beside the identity's name.
//!
//! It decides nothing.

use std::collections::BTreeSet;

use super::AccessService;
use crate::ledger::LedgerError;
use crate::model::ids::GrantId;
use crate::model::names::GroupName;

/// Claims that hold the id of a pipeline's run: GitHub's and GitLab's names.
const RUN_CLAIMS: [&str; 2] = ["run_id", "pipeline_id"];

/// Origin of a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Groups of the identity at the time of the request; its present groups if an operator made the grant.
    pub groups: BTreeSet<GroupName>,
    /// Pipeline run that requested it.
    pub run: Option<String>,
}

impl AccessService {
    /// Returns the origin of a grant.
    pub async fn origin(&self, id: &GrantId) -> Result<Attribution, LedgerError> {
        let grant = self.0.ledger.grant(id).await?.grant;
        let Some(request) = grant.request() else {
            let user = self.0.ledger.user(grant.identity());
            return Ok(Attribution {
                groups: user.map(|user| user.groups).unwrap_or_default(),
                run: None,
            });
        };
        let wish = self.0.ledger.request(request).await?.request.wish;
        let run = RUN_CLAIMS.iter().find_map(|claim| wish.claims.get(*claim));
        Ok(Attribution {
            run: run.cloned(),
            groups: wish.groups,
        })
    }
}
