//! Names the ledger has met: users, and identities that grants or requests are of.
//!
//! It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::timeout;

use super::row::users;
use super::store::open_existing;
use super::{GrantFilter, Ledger, RequestFilter, StoreError};
use crate::names::{GroupName, IdentityName, nearest};

/// The longest wait for the store. What is to be taken from somebody does not wait for a store that is not well.
const STORE_WAIT: Duration = Duration::from_secs(1);

impl Ledger {
    /// Returns whether there is such a user, or a grant or a request was ever such an identity's. Where the store does not tell in
    /// time, there may have been, and the answer is yes.
    pub async fn knows(&self, name: &IdentityName) -> bool {
        if self.user(name).is_some() {
            return true;
        }
        let looking = async {
            let grants = GrantFilter {
                identity: Some(name.clone()),
                ended: true,
                limit: 1,
                ..GrantFilter::default()
            };
            let requests = RequestFilter {
                identity: Some(name.clone()),
                limit: 1,
                ..RequestFilter::default()
            };
            let grants = self.grants(&grants).await.map_or(true, |found| !found.is_empty());
            grants || self.requests(requests).await.map_or(true, |found| !found.is_empty())
        };
        timeout(STORE_WAIT, looking).await.unwrap_or(true)
    }

    /// Returns the user most likely meant by a name that nobody has.
    #[must_use]
    pub fn nearest_user(&self, name: &IdentityName) -> Option<IdentityName> {
        let users = self.users();
        let near = nearest(name.as_str(), users.iter().map(|user| user.name.as_str()))?;
        users
            .iter()
            .find(|user| user.name.as_str() == near)
            .map(|user| user.name.clone())
    }
}

/// Returns the local users of a store with their groups, for someone who looks at it from outside; none where there is no store yet.
pub fn groups_of_users(path: &Path) -> Result<BTreeMap<IdentityName, BTreeSet<GroupName>>, StoreError> {
    let read = |connection: &Connection| {
        let there: bool = connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'users'", [], |row| {
            row.get(0)
        })?;
        if there { users::load(connection) } else { Ok(Vec::new()) }
    };
    let Some(connection) = open_existing(path)? else {
        return Ok(BTreeMap::new());
    };
    let local = read(&connection)?
        .into_iter()
        .filter(|user| user.token_hash.is_some() && !user.disabled);
    Ok(local.map(|user| (user.name, user.groups)).collect())
}
