//! Accounts for logins at a target, with their credentials.
//!
//! This module does not log in.
//!
//! INVARIANT: an account made for one grant serves no other.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::base::secret::Secret;
use crate::model::grant::Permit;
use crate::model::ids::GrantId;
use crate::protocol::scram::ClientKeys;

/// Account at a target: the target's own, for all its sessions, or a grant's.
#[derive(Debug)]
pub struct TargetAccount {
    /// User that the gate logs in as.
    pub user: String,
    /// Password of that user.
    pub password: Option<Secret<String>>,
    /// Grant of the account; `None` for the target's own.
    grant: Option<GrantAccount>,
    pub(super) keys: KeyCache,
}

/// SCRAM keys of an account whose password was just made, so that no login has to derive them.
#[derive(Debug)]
pub struct MadeKeys {
    /// Derived keys.
    pub keys: ClientKeys,
    /// Salt that they were derived with.
    pub salt: Vec<u8>,
    /// Number of PBKDF2 rounds that they were derived with.
    pub iterations: u32,
}

/// Properties of a grant's account.
#[derive(Debug)]
struct GrantAccount {
    grant: GrantId,
    /// Role in which its sessions start, if it is not the user; the user must be a member of it.
    role: Option<String>,
    /// Connection limit of the account at the server.
    connections: u32,
    /// Schema that is put before the search path that a client asks for, as SQL text.
    path_front: Option<String>,
}

impl TargetAccount {
    /// Returns the target's own account.
    #[must_use]
    pub fn own(user: String) -> Self {
        Self {
            user,
            password: None,
            grant: None,
            keys: KeyCache::default(),
        }
    }

    /// Returns the same user as the account of one grant: its sessions start in `role`, of which the user must be a member, or as
    /// the user, and `connections` is its connection limit at the server.
    #[must_use]
    pub fn for_grant(self, grant: GrantId, role: Option<String>, connections: u32) -> Self {
        let grant = Some(GrantAccount {
            grant,
            role,
            connections,
            path_front: None,
        });
        Self { grant, ..self }
    }

    /// Returns the same account with a schema that is put before the `search_path` of its clients.
    #[must_use]
    pub fn behind(mut self, schema: Option<String>) -> Self {
        if let Some(grant) = &mut self.grant {
            grant.path_front = schema;
        }
        self
    }

    /// Returns the `search_path` that sessions get if a client asks for `asked`.
    pub(super) fn path(&self, asked: &str) -> String {
        match self.grant.as_ref().and_then(|of| of.path_front.as_deref()) {
            Some(front) if asked.trim().is_empty() => front.to_owned(),
            Some(front) => format!("{front}, {asked}"),
            None => asked.to_owned(),
        }
    }

    /// Returns the account with a password that was just made, and its keys.
    #[must_use]
    pub fn with(self, password: Secret<String>, made: MadeKeys) -> Self {
        Self {
            password: Some(password),
            keys: KeyCache::filled(made),
            ..self
        }
    }

    /// Returns the connection limit of the account at the server; `None` if not known.
    #[must_use]
    pub fn connections(&self) -> Option<u32> {
        self.grant.as_ref().map(|of| of.connections)
    }

    /// Returns the role that its sessions start in; `None` for the user itself.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.grant.as_ref().and_then(|of| of.role.as_deref())
    }

    /// Returns true if a session with this permit may use the account.
    pub(super) fn serves(&self, permit: &Permit) -> bool {
        self.grant.as_ref().is_none_or(|of| of.grant == *permit.grant())
    }
}

/// Cache of the SCRAM keys of the last login: they save the PBKDF2, which is most of the cost of a login.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Mutex<Option<CachedKeys>>);

#[derive(Debug)]
struct CachedKeys {
    salt: Vec<u8>,
    iterations: u32,
    keys: Arc<OnceCell<ClientKeys>>,
}

impl KeyCache {
    fn filled(made: MadeKeys) -> Self {
        Self(Mutex::new(Some(CachedKeys {
            salt: made.salt,
            iterations: made.iterations,
            keys: Arc::new(OnceCell::new_with(Some(made.keys))),
        })))
    }

    /// Returns the cell of the keys for this salt and number of rounds. The first login that needs them fills it, and concurrent
    /// logins wait for it.
    pub(super) fn place(&self, salt: &[u8], iterations: u32) -> Arc<OnceCell<ClientKeys>> {
        let mut cached = self.0.lock();
        match cached.as_ref() {
            Some(cached) if cached.salt == salt && cached.iterations == iterations => Arc::clone(&cached.keys),
            _ => {
                let keys = Arc::new(OnceCell::new());
                *cached = Some(CachedKeys {
                    salt: salt.to_vec(),
                    iterations,
                    keys: Arc::clone(&keys),
                });
                keys
            }
        }
    }
}
