//! Names that the ledger knows: users, and identities with grants or requests.
//!
//! This module changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::timeout;

use super::row::users;
use super::store::open_existing;
use super::{GrantFilter, Ledger, RequestFilter, StoreError};
use crate::model::names::{GroupName, IdentityName, nearest};

/// Longest wait for the store. A restriction does not wait for a store that is slow or failing.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

impl Ledger {
    /// Reports whether there is such a user, or the identity ever had a grant or a request. If the store does not answer in
    /// time, the result is true.
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
        timeout(STORE_TIMEOUT, looking).await.unwrap_or(true)
    }

    /// Returns the user whose name is most similar to an unknown one.
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

/// Returns the local users of a store with their groups, for a reader other than the gate; empty if there is no store yet.
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
