//! Cache of an issuer's keys, read from a file or fetched from a web address.
//!
//! It verifies no token. Ages are in gate time, by the `now` of the caller. INVARIANT: keys are fetched by one task at a time,
//! and rarely however many tokens ask for them. A server that does not answer neither delays a token that can be verified nor
//! keeps old keys valid for ever.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::KeysLocation;
use super::fetch::MAX_ANSWER_BYTES;
use super::keys::KeySet;

/// Age from which keys are fetched again.
const REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(10);
/// Maximum age of keys while they cannot be fetched again.
const MAX_KEYS_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Minimum interval between two fetches for an unknown key id, because anybody can invent ids, and between two attempts to
/// refresh old keys. Only fetches for an id count for the former: an issuer may change its keys a moment after the gate was
/// started.
const UNKNOWN_KEY_INTERVAL: SignedDuration = SignedDuration::from_secs(30);
/// Retry interval while there are no keys at all.
const RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// Keys of one issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    source: KeysLocation,
    state: Mutex<JwksState>,
    /// Lock held during a fetch.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct JwksState {
    keys: Option<(Arc<KeySet>, Timestamp)>,
    tried_at: Option<Timestamp>,
    /// Time of the last fetch for an unknown key id.
    missed_at: Option<Timestamp>,
    /// Error of the last fetch.
    trouble: Option<String>,
    /// Version of the file that the keys were read from.
    version: Option<FileVersion>,
}

/// Modification time and length of a file; they change when it is written again.
type FileVersion = (SystemTime, u64);

/// Keys to verify a token with.
pub(super) struct FoundKeys {
    pub(super) keys: Arc<KeySet>,
    /// Error of the last fetch, if it failed.
    pub(super) trouble: Option<String>,
}

enum KeysNeeded {
    /// Use the cached keys, if any.
    Nothing,
    /// Use the cached keys and fetch newer ones in the background.
    Newer,
    /// Wait for new keys: the cached ones do not fit.
    Other,
}

impl Jwks {
    pub(super) fn new(source: KeysLocation) -> Arc<Self> {
        Arc::new(Self {
            source,
            state: Mutex::default(),
            turn: Arc::default(),
        })
    }

    pub(super) fn source(&self) -> &KeysLocation {
        &self.source
    }

    /// Returns the keys, after an attempt to get the key with this id.
    pub(super) async fn keys(self: &Arc<Self>, id: Option<&str>, now: Timestamp) -> Result<FoundKeys, String> {
        match &self.source {
            KeysLocation::Url(url) => self.fetched(url, id, now).await,
            KeysLocation::File(_) => {
                let this = Arc::clone(self);
                let read = tokio::task::spawn_blocking(move || this.read(now)).await;
                let keys = read.map_err(|error| error.to_string())??;
                Ok(FoundKeys { keys, trouble: None })
            }
        }
    }

    async fn fetched(self: &Arc<Self>, url: &str, id: Option<&str>, now: Timestamp) -> Result<FoundKeys, String> {
        let need = self.state.lock().need(id, now);
        match need {
            KeysNeeded::Nothing => {}
            // The cached keys verify the token, so this call does not wait. Another task may be fetching already.
            KeysNeeded::Newer => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    drop(self.fetch(url, now, turn));
                }
            }
            KeysNeeded::Other => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                // Another task may have fetched the keys while this one waited for the lock.
                let still = self.state.lock().still_other(id, now);
                if still {
                    self.fetch(url, now, turn).await.map_err(|error| error.to_string())?;
                }
            }
        }
        let state = self.state.lock();
        match &state.keys {
            Some((keys, at)) if now.duration_since(*at) < MAX_KEYS_AGE => Ok(FoundKeys {
                keys: Arc::clone(keys),
                trouble: state.trouble.clone(),
            }),
            _ => Err(state.trouble.clone().unwrap_or_else(|| "they are not fetched yet".to_owned())),
        }
    }

    /// Fetches in a task of its own, so that a client that hangs up does not stop a fetch that others wait for.
    fn fetch(self: &Arc<Self>, url: &str, now: Timestamp, turn: OwnedMutexGuard<()>) -> JoinHandle<()> {
        let (this, url) = (Arc::clone(self), url.to_owned());
        tokio::spawn(async move {
            let fetched = fetch(&url).await;
            this.state.lock().keep(fetched, now);
            drop(turn);
        })
    }

    /// Reads the file if it changed. A missing file is an error, unlike a silent server: an operator removed it.
    fn read(&self, now: Timestamp) -> Result<Arc<KeySet>, String> {
        let KeysLocation::File(path) = &self.source else {
            return Err("they are not in a file".to_owned());
        };
        let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let metadata = std::fs::metadata(path).map_err(told)?;
        let version = (metadata.modified().map_err(told)?, metadata.len());
        {
            let state = self.state.lock();
            if let Some((keys, _)) = state.keys.as_ref().filter(|_| state.version == Some(version)) {
                return Ok(Arc::clone(keys));
            }
        }
        let keys = Arc::new(read_keys(path)?);
        let mut state = self.state.lock();
        state.keys = Some((Arc::clone(&keys), now));
        state.version = Some(version);
        Ok(keys)
    }
}

impl JwksState {
    fn need(&self, id: Option<&str>, now: Timestamp) -> KeysNeeded {
        let within = |at: Option<Timestamp>, span| at.is_some_and(|at| now.duration_since(at) < span);
        match &self.keys {
            Some((keys, at)) if now.duration_since(*at) < MAX_KEYS_AGE => {
                if !keys.has(id) && !within(self.missed_at, UNKNOWN_KEY_INTERVAL) {
                    KeysNeeded::Other
                } else if now.duration_since(*at) >= REFRESH_INTERVAL && !within(self.tried_at, UNKNOWN_KEY_INTERVAL) {
                    KeysNeeded::Newer
                } else {
                    KeysNeeded::Nothing
                }
            }
            _ if within(self.tried_at, RETRY_INTERVAL) => KeysNeeded::Nothing,
            _ => KeysNeeded::Other,
        }
    }

    /// Returns true if other keys are still needed now that the lock is held. If so, and keys are cached, this counts as one
    /// fetch for an unknown id.
    fn still_other(&mut self, id: Option<&str>, now: Timestamp) -> bool {
        let still = !matches!(self.need(id, now), KeysNeeded::Nothing);
        if still && self.keys.is_some() {
            self.missed_at = Some(now);
        }
        still
    }

    fn keep(&mut self, fetched: Result<KeySet, String>, now: Timestamp) {
        self.tried_at = Some(now);
        match fetched {
            Ok(keys) => {
                self.keys = Some((Arc::new(keys), now));
                self.trouble = None;
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot fetch the signing keys of an issuer; will retry");
                self.trouble = Some(trouble);
            }
        }
    }
}

/// Reads the keys in a file.
pub(super) fn read_keys(path: &Path) -> Result<KeySet, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
    let file = std::fs::File::open(path).map_err(told)?;
    let read = file.take(most + 1).read_to_end(&mut bytes).map_err(told)?;
    if read > MAX_ANSWER_BYTES {
        return Err(format!("{} has more than {MAX_ANSWER_BYTES} bytes", path.display()));
    }
    KeySet::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

async fn fetch(url: &str) -> Result<KeySet, String> {
    let body = super::fetch::get(url).await?;
    KeySet::parse(&body).map_err(|error| format!("{url}: {error}"))
}
