//! E-mail addresses of a chat's users, asked of the chat's API (`users.info`).
//!
//! It knows no identity. INVARIANT: an address is that of a full member of a workspace of the configuration who has confirmed it; an
//! answer is kept for five minutes at most.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header;
use serde::Deserialize;

use super::{Chat, ChatSettings};
use crate::base::tls::{web_address, web_call};

/// Time limit of a question, from the connect to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of an answer, in bytes; those about a user have some kilobytes.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// Time for which an address is kept.
const CACHED_FOR: SignedDuration = SignedDuration::from_mins(5);
/// Maximum number of addresses kept.
const MAX_CACHED: usize = 1000;

/// Reason why the chat gives no address of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatUserError {
    /// The user is not in the configuration, and nobody is looked up.
    #[error("the gate knows nobody by this account; its operator adds {0} to [chat.users]")]
    Unknown(String),
    /// The chat does not answer, or refuses.
    #[error("the chat does not say who {user} is: {reason}; try again, or decide at the console")]
    Away {
        /// Id of the user.
        user: String,
        /// Reason in words.
        reason: String,
    },
    /// The account is none that may answer.
    #[error("{user} cannot answer: {reason}; use the account of a full member with a confirmed e-mail address, or the console")]
    Unfit {
        /// Id of the user.
        user: String,
        /// Reason in words.
        reason: &'static str,
    },
}

/// Answer of `users.info`.
#[derive(Deserialize)]
struct UserAnswer {
    ok: bool,
    error: Option<String>,
    user: Option<Member>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the chat's own form")]
struct Member {
    id: String,
    team_id: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    is_restricted: bool,
    #[serde(default)]
    is_ultra_restricted: bool,
    #[serde(default)]
    is_stranger: bool,
    #[serde(default)]
    is_email_confirmed: bool,
    #[serde(default)]
    profile: Profile,
}

#[derive(Default, Deserialize)]
struct Profile {
    email: Option<String>,
}

/// Addresses of users that were asked for a moment ago.
#[derive(Debug, Default)]
pub(super) struct AddressCache(HashMap<String, (String, Timestamp)>);

impl AddressCache {
    fn known(&self, user: &str, now: Timestamp) -> Option<String> {
        let (address, until) = self.0.get(user)?;
        (now < *until).then(|| address.clone())
    }

    fn remember(&mut self, user: &str, address: &str, now: Timestamp) {
        if self.0.len() >= MAX_CACHED {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MAX_CACHED {
            self.0.clear();
        }
        let until = now.saturating_add(CACHED_FOR).unwrap_or(Timestamp::MAX);
        self.0.insert(user.to_owned(), (address.to_owned(), until));
    }
}

impl Chat {
    /// Returns the confirmed e-mail address of a user.
    pub async fn address(&self, settings: &ChatSettings, user: &str) -> Result<String, ChatUserError> {
        let now = self.0.clock.now();
        if let Some(address) = self.0.addresses.lock().known(user, now) {
            return Ok(address);
        }
        let answer = ask(settings, user).await?;
        let address = address(&answer, user, settings)?;
        // What was asked under settings that are no longer in force is not kept for those that are.
        if self.settings().is_some_and(|current| *current == *settings) {
            self.0.addresses.lock().remember(user, &address, now);
        }
        Ok(address)
    }
}

async fn ask(settings: &ChatSettings, user: &str) -> Result<Vec<u8>, ChatUserError> {
    let token = settings.api_token.as_ref();
    let token = token.ok_or_else(|| ChatUserError::Unknown(user.to_owned()))?;
    let away = |reason| ChatUserError::Away {
        user: user.to_owned(),
        reason,
    };
    let api = settings.api.trim_end_matches('/');
    let mut url = web_address(&format!("{api}/users.info")).map_err(away)?;
    url.query_pairs_mut().append_pair("user", user);
    let asked = web_call(url, CALL_TIMEOUT, MAX_ANSWER_BYTES, |client, url| {
        let request = client.get(url).bearer_auth(token.expose());
        request.header(header::ACCEPT, "application/json")
    });
    let (status, body) = asked.await.map_err(away)?;
    if !status.is_success() {
        return Err(away(format!("it answers {status}")));
    }
    Ok(body)
}

/// Returns the address in an answer, if its user is a full member of a configured workspace, and has confirmed it.
fn address(answer: &[u8], user: &str, settings: &ChatSettings) -> Result<String, ChatUserError> {
    let away = |reason: &str| ChatUserError::Away {
        user: user.to_owned(),
        reason: reason.to_owned(),
    };
    let answer: UserAnswer = serde_json::from_slice(answer).map_err(|_| away("its answer cannot be read"))?;
    let member = match answer {
        UserAnswer {
            ok: true,
            user: Some(member),
            ..
        } if member.id == user => member,
        UserAnswer { ok: false, error, .. } => return Err(away(error.as_deref().unwrap_or("it refuses"))),
        _ => return Err(away("its answer is about nobody, or about somebody else")),
    };
    let team = member.team_id.as_ref().is_some_and(|team| settings.teams.contains(team));
    let guest = member.is_restricted || member.is_ultra_restricted || member.is_stranger;
    let faults = [
        (!team, "the account is of another workspace"),
        (member.deleted, "the account is deactivated"),
        (member.is_bot, "the account is a bot's"),
        (guest, "the account is a guest's"),
        (!member.is_email_confirmed, "its e-mail address is not confirmed"),
    ];
    let unfit = |reason| ChatUserError::Unfit {
        user: user.to_owned(),
        reason,
    };
    if let Some((_, reason)) = faults.into_iter().find(|(fault, _)| *fault) {
        return Err(unfit(reason));
    }
    let address = member.profile.email.filter(|address| !address.is_empty());
    address.ok_or_else(|| unfit("it shows no e-mail address to the gate's app (scope users:read.email)"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::settings;
    use super::*;

    fn member() -> Value {
        json!({"ok": true, "user": {
            "id": "U7", "team_id": "T1", "deleted": false, "is_bot": false, "is_restricted": false, "is_email_confirmed": true,
            "profile": {"email": "lea@example.com", "display_name": "lea"},
        }})
    }

    fn read(answer: &Value) -> Result<String, ChatUserError> {
        address(answer.to_string().as_bytes(), "U7", &settings())
    }

    #[test]
    fn a_full_member_with_a_confirmed_address() {
        assert_eq!(read(&member()).unwrap(), "lea@example.com");
        for (field, value, words) in [
            ("deleted", json!(true), "deactivated"),
            ("is_bot", json!(true), "bot"),
            ("is_restricted", json!(true), "guest"),
            ("is_ultra_restricted", json!(true), "guest"),
            ("is_stranger", json!(true), "guest"),
            ("is_email_confirmed", json!(false), "not confirmed"),
            ("team_id", json!("T2"), "another workspace"),
            ("team_id", Value::Null, "another workspace"),
            ("profile", json!({}), "no e-mail address"),
            ("profile", json!({"email": ""}), "no e-mail address"),
            ("id", json!("U8"), "somebody else"),
        ] {
            let mut answer = member();
            answer["user"][field] = value;
            let error = read(&answer).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("U7"), "{field}: {error}");
        }
        let mut unconfirmed = member();
        unconfirmed["user"].as_object_mut().unwrap().remove("is_email_confirmed");
        assert!(read(&unconfirmed).is_err(), "it has to be said");
        for (answer, words) in [
            (json!({"ok": false, "error": "user_not_found"}), "user_not_found"),
            (json!({"ok": true}), "about nobody"),
            (json!([]), "cannot be read"),
        ] {
            assert!(read(&answer).unwrap_err().to_string().contains(words), "{answer}");
        }
    }

    #[test]
    fn addresses_are_kept_for_a_while_and_not_without_end() {
        let mut cache = AddressCache::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let later = |seconds| now + SignedDuration::from_secs(seconds);
        cache.remember("U7", "lea@example.com", now);
        assert_eq!(cache.known("U7", later(299)).as_deref(), Some("lea@example.com"));
        assert_eq!((cache.known("U7", later(300)), cache.known("U8", now)), (None, None));
        for number in 0..=MAX_CACHED {
            cache.remember(&format!("V{number}"), "x", now);
            assert!(cache.0.len() <= MAX_CACHED);
        }
    }
}
