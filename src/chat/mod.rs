//! Answers from a chat: what a call of Slack has to prove, what a click says, who has clicked, and what is told there.
//!
//! It decides on no request: the access service does, with the person that this room names.
//!
//! INVARIANT: nothing of a call is looked at before its signature; a signed call counts once, and only within five minutes of its
//! time.

mod answer;
mod click;
mod people;
mod signature;
mod tell;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::model::names::IdentityName;

pub use answer::{COMMENT_INPUT, ChatAction, ChatAnswer, with_id};
pub use click::{Click, ClickError};
use people::AddressCache;
pub use people::ChatUserError;
use signature::ReplayMemory;
pub(crate) use signature::verified;
pub use signature::{SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER};
pub use tell::{decided, escaped, escaped_start, refused};

/// Address of Slack's API.
pub const SLACK_API: &str = "https://slack.com/api";
/// Maximum number of clicks that are decided at the same time.
const MAX_ANSWERS: usize = 32;

/// Settings of `[chat]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatSettings {
    /// Secret with which the chat signs its calls.
    pub signing_secret: Secret<String>,
    /// Workspaces whose members may answer.
    pub teams: BTreeSet<String>,
    /// Identities by the ids of the chat's users.
    pub users: BTreeMap<String, IdentityName>,
    /// Token with which others are looked up; `None`: they cannot answer.
    pub api_token: Option<Secret<String>>,
    /// Base address of the chat's API.
    pub api: String,
    /// Base address of the pages with requests, for refusals.
    pub link: Option<String>,
}

/// Permit to decide on one click. Dropping it returns it.
pub struct AnswerPermit {
    chat: Chat,
    user: String,
    _place: OwnedSemaphorePermit,
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.chat.0.busy.lock().remove(&self.user);
    }
}

/// Answers from a chat: the settings in force, and what is remembered beyond them. Cheap to clone.
#[derive(Clone)]
pub struct Chat(Arc<ChatInner>);

struct ChatInner {
    settings: Mutex<Option<Arc<ChatSettings>>>,
    replays: Mutex<ReplayMemory>,
    addresses: Mutex<AddressCache>,
    answering: Arc<Semaphore>,
    /// Users whose clicks are decided now.
    busy: Mutex<BTreeSet<String>>,
    clock: Clock,
}

impl Chat {
    /// Creates the state; without settings nobody answers.
    #[must_use]
    pub fn new(settings: Option<ChatSettings>, clock: Clock) -> Self {
        Self(Arc::new(ChatInner {
            settings: Mutex::new(settings.map(Arc::new)),
            replays: Mutex::new(ReplayMemory::new(clock.now().as_second())),
            addresses: Mutex::default(),
            answering: Arc::new(Semaphore::new(MAX_ANSWERS)),
            busy: Mutex::default(),
            clock,
        }))
    }

    /// Replaces the settings, for a reload. Calls that were accepted stay remembered.
    pub fn renew(&self, settings: Option<ChatSettings>) {
        *self.0.settings.lock() = settings.map(Arc::new);
        *self.0.addresses.lock() = AddressCache::default();
    }

    /// Returns the settings in force; `None`: nobody answers.
    #[must_use]
    pub fn settings(&self) -> Option<Arc<ChatSettings>> {
        self.0.settings.lock().clone()
    }

    /// Accepts a call that the chat has signed, once: the time and the signature of its headers, and its body.
    pub async fn accept(&self, settings: &ChatSettings, time: &str, signature: &str, body: &[u8]) -> Result<(), SignatureError> {
        let now = || self.0.clock.now().as_second();
        let call = verified(&settings.signing_secret, time, signature, body, now())?;
        // So that no call is accepted that a gate that starts again would take for a new one.
        tokio::time::sleep(Duration::from_secs(call.early(now()))).await;
        self.0.replays.lock().accept(&call, now())
    }

    /// Returns the permit to decide on a click of a user, if not too many are decided already, or another of the same user.
    #[must_use]
    pub fn answering(&self, user: &str) -> Option<AnswerPermit> {
        let place = Arc::clone(&self.0.answering).try_acquire_owned().ok()?;
        self.0.busy.lock().insert(user.to_owned()).then(|| AnswerPermit {
            chat: self.clone(),
            user: user.to_owned(),
            _place: place,
        })
    }
}
