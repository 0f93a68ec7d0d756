//! Where a grant comes from: what the record of a session says of it beside its name.
//!
//! It decides nothing.

use std::collections::BTreeSet;

use super::Desk;
use crate::ids::GrantId;
use crate::ledger::LedgerError;
use crate::names::GroupName;

/// What a pipeline's token calls its run: GitHub's and GitLab's names.
const RUNS: [&str; 2] = ["run_id", "pipeline_id"];

/// Where a grant comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The groups of its identity when it was asked for; those of now, where an operator made it.
    pub groups: BTreeSet<GroupName>,
    /// The pipeline's run that asked for it.
    pub run: Option<String>,
}

impl Desk {
    /// Where a grant comes from.
    pub async fn origin(&self, id: &GrantId) -> Result<Origin, LedgerError> {
        let grant = self.0.ledger.grant(id).await?.grant;
        let Some(request) = grant.request() else {
            let user = self.0.ledger.user(grant.identity());
            return Ok(Origin {
                groups: user.map(|user| user.groups).unwrap_or_default(),
                run: None,
            });
        };
        let wish = self.0.ledger.request(request).await?.request.wish;
        let run = RUNS.iter().find_map(|claim| wish.claims.get(*claim));
        Ok(Origin {
            run: run.cloned(),
            groups: wish.groups,
        })
    }
}
