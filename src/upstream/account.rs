//! Who logs in at a target, and with what it proves who it is.
//!
//! It does not log in. The law it keeps: what is made for one grant serves no other.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::grant::Permit;
use crate::ids::GrantId;
use crate::scram::ClientKeys;
use crate::secret::Secret;

/// A login at a target: the target's own, for all its sessions, or a grant's.
#[derive(Debug)]
pub struct Account {
    /// The user the gate logs in as.
    pub user: String,
    /// That user's password.
    pub password: Option<Secret<String>>,
    /// Whose it is, if not the target's.
    grant: Option<OfGrant>,
    pub(super) keys: KeyCache,
}

/// The SCRAM keys of an account whose password was just made, so that no login has to derive them.
#[derive(Debug)]
pub struct MadeKeys {
    /// The keys.
    pub keys: ClientKeys,
    /// The salt they were derived with.
    pub salt: Vec<u8>,
    /// And the rounds.
    pub iterations: u32,
}

/// What is different about a grant's account.
#[derive(Debug)]
struct OfGrant {
    grant: GrantId,
    /// The role in which its sessions start, if not as the user; the user has to be a member of it.
    role: Option<String>,
    /// How many connections the server lets it have.
    connections: u32,
    /// The schema that goes before the path a client asks for, as it stands in SQL.
    path_front: Option<String>,
}

impl Account {
    /// The target's own account.
    #[must_use]
    pub fn own(user: String) -> Self {
        Self {
            user,
            password: None,
            grant: None,
            keys: KeyCache::default(),
        }
    }

    /// The same user as the account of one grant: its sessions start in `role`, of which the user has to be a member, or as the user,
    /// and the server lets it have so many `connections`.
    #[must_use]
    pub fn for_grant(self, grant: GrantId, role: Option<String>, connections: u32) -> Self {
        let grant = Some(OfGrant {
            grant,
            role,
            connections,
            path_front: None,
        });
        Self { grant, ..self }
    }

    /// The same, with a schema that goes before the `search_path` its clients ask for.
    #[must_use]
    pub fn behind(mut self, schema: Option<String>) -> Self {
        if let Some(grant) = &mut self.grant {
            grant.path_front = schema;
        }
        self
    }

    /// Returns a `search_path` that a client asks for as its sessions get it.
    pub(super) fn path(&self, asked: &str) -> String {
        match self.grant.as_ref().and_then(|of| of.path_front.as_deref()) {
            Some(front) if asked.trim().is_empty() => front.to_owned(),
            Some(front) => format!("{front}, {asked}"),
            None => asked.to_owned(),
        }
    }

    /// The account with a password that was just made, and its keys.
    #[must_use]
    pub fn with(self, password: Secret<String>, made: MadeKeys) -> Self {
        Self {
            password: Some(password),
            keys: KeyCache::filled(made),
            ..self
        }
    }

    /// How many connections the server lets it have; `None`: not known.
    #[must_use]
    pub fn connections(&self) -> Option<u32> {
        self.grant.as_ref().map(|of| of.connections)
    }

    /// The role its sessions start in; `None`: the user itself.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.grant.as_ref().and_then(|of| of.role.as_deref())
    }

    /// Whether a session under this permit may use it.
    pub(super) fn serves(&self, permit: &Permit) -> bool {
        self.grant.as_ref().is_none_or(|of| of.grant == *permit.grant())
    }
}

/// The SCRAM keys of the last login: with them a login costs no PBKDF2, which would be most of it.
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

    /// The place of the keys for this salt and number of rounds: filled by the first login that needs them, while others that
    /// come at the same time wait for it.
    pub(super) fn place(&self, salt: &[u8], iterations: u32) -> Arc<OnceCell<ClientKeys>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
