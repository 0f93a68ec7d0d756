//! Where an issuer's keys come from: a file, or a web address, kept for a while.
//!
//! It verifies nothing. The law: keys are fetched by one task at a time, seldom however many tokens ask for it, and a server that
//! is not there neither holds up a token that can be verified nor lets keys live for ever. Ages are in gate time, by the `now` of
//! whoever asks.

use std::error::Error;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::Keys;
use super::keys::KeySet;
use crate::causes::in_one_line;
use crate::tls::{web_address, web_client};

/// Older keys are fetched again.
const FRESH: SignedDuration = SignedDuration::from_mins(10);
/// Keys that cannot be fetched again serve that long.
const USABLE: SignedDuration = SignedDuration::from_hours(24);
/// An unknown key id has them fetched at most that often: ids are free to invent. What is fetched without one does not count:
/// an issuer may change its keys a moment after a gate was started.
const EVERY: SignedDuration = SignedDuration::from_secs(30);
/// With no keys at all they are tried for that often.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// From dialling to the last byte.
const FETCH: Duration = Duration::from_secs(5);
/// Issuers have a few kilobytes.
const MOST_BYTES: usize = 1 << 20;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    source: Keys,
    state: Mutex<State>,
    /// Whoever has it fetches.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<KeySet>, Timestamp)>,
    tried_at: Option<Timestamp>,
    /// When they were last fetched for an unknown key id.
    missed_at: Option<Timestamp>,
    /// Why the last try failed.
    trouble: Option<String>,
    /// Of the file the keys are from.
    version: Option<Version>,
}

/// A file that was written again has another.
type Version = (SystemTime, u64);

/// What a token is verified with.
pub(super) struct Found {
    pub(super) keys: Arc<KeySet>,
    /// Why they are not newer.
    pub(super) trouble: Option<String>,
}

enum Need {
    /// What is there has to do.
    Nothing,
    /// Better newer ones, but these will do.
    Newer,
    /// These will not do.
    Other,
}

impl Jwks {
    pub(super) fn new(source: Keys) -> Arc<Self> {
        Arc::new(Self {
            source,
            state: Mutex::default(),
            turn: Arc::default(),
        })
    }

    pub(super) fn source(&self) -> &Keys {
        &self.source
    }

    /// The keys, with this one among them if it can be.
    pub(super) async fn keys(self: &Arc<Self>, id: Option<&str>, now: Timestamp) -> Result<Found, String> {
        match &self.source {
            Keys::Url(url) => self.fetched(url, id, now).await,
            Keys::File(_) => {
                let this = Arc::clone(self);
                let read = tokio::task::spawn_blocking(move || this.read(now)).await;
                let keys = read.map_err(|error| error.to_string())??;
                Ok(Found { keys, trouble: None })
            }
        }
    }

    async fn fetched(self: &Arc<Self>, url: &str, id: Option<&str>, now: Timestamp) -> Result<Found, String> {
        let need = self.state().need(id, now);
        match need {
            Need::Nothing => {}
            // Nobody waits: what is there verifies the token. Somebody else may be at it already.
            Need::Newer => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    drop(self.fetch(url, now, turn));
                }
            }
            Need::Other => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                // Those who waited for their turn may find that it has been done.
                let still = self.state().still_other(id, now);
                if still {
                    self.fetch(url, now, turn).await.map_err(|error| error.to_string())?;
                }
            }
        }
        let state = self.state();
        match &state.keys {
            Some((keys, at)) if now.duration_since(*at) < USABLE => Ok(Found {
                keys: Arc::clone(keys),
                trouble: state.trouble.clone(),
            }),
            _ => Err(state.trouble.clone().unwrap_or_else(|| "they are not fetched yet".to_owned())),
        }
    }

    /// In a task of its own: a client that hangs up must not stop what others wait for.
    fn fetch(self: &Arc<Self>, url: &str, now: Timestamp, turn: OwnedMutexGuard<()>) -> JoinHandle<()> {
        let (this, url) = (Arc::clone(self), url.to_owned());
        tokio::spawn(async move {
            let fetched = fetch(&url).await;
            this.state().keep(fetched, now);
            drop(turn);
        })
    }

    /// The file is looked at each time; unlike a server's, its silence means something: an operator took it away.
    fn read(&self, now: Timestamp) -> Result<Arc<KeySet>, String> {
        let Keys::File(path) = &self.source else {
            return Err("they are not in a file".to_owned());
        };
        let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let metadata = std::fs::metadata(path).map_err(told)?;
        let version = (metadata.modified().map_err(told)?, metadata.len());
        {
            let state = self.state();
            if let Some((keys, _)) = state.keys.as_ref().filter(|_| state.version == Some(version)) {
                return Ok(Arc::clone(keys));
            }
        }
        let keys = Arc::new(read_keys(path)?);
        let mut state = self.state();
        state.keys = Some((Arc::clone(&keys), now));
        state.version = Some(version);
        Ok(keys)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn need(&self, id: Option<&str>, now: Timestamp) -> Need {
        let within = |at: Option<Timestamp>, span| at.is_some_and(|at| now.duration_since(at) < span);
        match &self.keys {
            Some((keys, at)) if now.duration_since(*at) < USABLE => {
                if !keys.has(id) && !within(self.missed_at, EVERY) {
                    Need::Other
                } else if now.duration_since(*at) >= FRESH && !within(self.tried_at, EVERY) {
                    Need::Newer
                } else {
                    Need::Nothing
                }
            }
            _ if within(self.tried_at, RETRY) => Need::Nothing,
            _ => Need::Other,
        }
    }

    /// Whether others are needed now that it is our turn; if so, and there are some, that counts as one fetch for an unknown id.
    fn still_other(&mut self, id: Option<&str>, now: Timestamp) -> bool {
        let still = !matches!(self.need(id, now), Need::Nothing);
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

/// The keys in a file.
pub(super) fn read_keys(path: &Path) -> Result<KeySet, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    let file = std::fs::File::open(path).map_err(told)?;
    let read = file.take(most + 1).read_to_end(&mut bytes).map_err(told)?;
    if read > MOST_BYTES {
        return Err(format!("{} has more than {MOST_BYTES} bytes", path.display()));
    }
    KeySet::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

async fn fetch(url: &str) -> Result<KeySet, String> {
    let told = |error: &(dyn Error + 'static)| format!("{url}: {}", in_one_line(error));
    let address = web_address(url).map_err(|error| format!("{url}: {error}"))?;
    // One for each fetch: there are few, and a client belongs to the runtime it was first used on.
    let client = {
        let address = address.clone();
        tokio::task::spawn_blocking(move || web_client(&address, FETCH)).await
    };
    let client = client.map_err(|error| told(&error))?.map_err(|error| told(&error))?;
    let mut response = client.get(address).send().await.map_err(|error| told(&error))?;
    if !response.status().is_success() {
        return Err(format!("{url} answers {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| told(&error))? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(format!("{url} answers with more than {MOST_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    KeySet::parse(&body).map_err(|error| format!("{url}: {error}"))
}
