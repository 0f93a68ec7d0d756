//! Identification of people whom a chat names: by the name that the configuration has for them, or by a verified e-mail address.
//!
//! It proves no call of the chat; `crate::chat` has done that. A chat sends no token with groups in it.
//!
//! INVARIANT: the groups are those that the ledger has now: a local user's, or those of an issuer's identity that is signed in. A
//! person whose token or sign-in is no longer good cannot answer from a chat either.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{AccessError, AccessService, IdentifyError, Principal};
use crate::identity::{Identity, IssuerSettings};
use crate::ledger::{SignedIn, UserView};
use crate::model::arrival::CallerVia;
use crate::model::names::IdentityName;

/// Claim of an issuer's token that an e-mail address can stand for.
const EMAIL_CLAIM: &str = "email";

/// Person as a chat names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatPerson {
    /// Identity that the configuration has for the chat's user.
    Named(IdentityName),
    /// E-mail address that the chat has verified.
    Email(String),
}

/// Reason why an identity cannot answer from a chat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ChatIdentityError {
    #[error("{0} is disabled; an operator can enable it (`tidegate user enable`)")]
    Disabled(IdentityName),
    #[error("the token of {0} has expired; an operator makes a new one (`tidegate user rotate`)")]
    Expired(IdentityName),
    #[error("{0} is no local user, and is not signed in, so this gate does not know the groups; sign in at the console first")]
    NotSignedIn(String),
    #[error("{0} is the address of several identities here; the gate's operator names one of them in [chat.users]")]
    Ambiguous(String),
}

impl AccessService {
    /// Identifies the person who has answered from a chat. A failure is recorded with `claimed`, and returned in words for them.
    pub async fn identify_in_chat(&self, person: &ChatPerson, claimed: &str) -> Result<Principal, AccessError> {
        let found = match person {
            ChatPerson::Named(name) => self.known_in_chat(name),
            ChatPerson::Email(email) => self.known_by_email(email),
        };
        match found {
            Ok((identity, proof_until)) => Ok(Principal {
                via: CallerVia::Slack,
                proof_until,
                ..Principal::of_token(identity, None)
            }),
            Err(error) => {
                let detail = error.to_string();
                self.refused_in_chat(Some(claimed.to_owned()), detail.clone(), None).await;
                Err(AccessError::NotInChat(detail))
            }
        }
    }

    /// Records an answer from a chat that proves nothing, or nobody whom the gate knows.
    pub async fn refused_in_chat(&self, claimed: Option<String>, detail: String, client: Option<IpAddr>) {
        let detail = format!("an answer from chat: {detail}");
        self.record_refused(IdentifyError { claimed, detail }, client).await;
    }

    fn known_in_chat(&self, name: &IdentityName) -> Result<(Identity, Option<Timestamp>), ChatIdentityError> {
        let rules = self.rules();
        let signed_in = self.0.ledger.newest_sign_in(name, &rules.sign_ins);
        let signed_in = signed_in.filter(|signed_in| rules.vouches_for(&signed_in.identity));
        known(name, self.0.ledger.user(name), signed_in, self.0.clock.now())
    }

    /// Returns the identity of an e-mail address: the local user of that name, or the one identity of an issuer that is signed in.
    fn known_by_email(&self, email: &str) -> Result<(Identity, Option<Timestamp>), ChatIdentityError> {
        let nobody = || ChatIdentityError::NotSignedIn(email.to_owned());
        let local = email.parse::<IdentityName>().map_err(|_| nobody())?;
        if self.0.ledger.user(&local).is_some_and(|user| user.local) {
            return self.known_in_chat(&local);
        }
        let rules = self.rules();
        let by_email = |issuer: &&IssuerSettings| issuer.identity_claim == EMAIL_CLAIM;
        let names = rules.issuers.settings().filter(by_email);
        let names = names.filter_map(|issuer| format!("{}{email}", issuer.identity_prefix).parse().ok());
        let mut found = names.filter_map(|name: IdentityName| self.known_in_chat(&name).ok());
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(ChatIdentityError::Ambiguous(email.to_owned())),
            (None, _) => Err(nobody()),
        }
    }
}

/// Decides which identity answers under a name, and until when what proves it is good: the local user of that name as it is now;
/// otherwise an issuer's identity as its newest sign-in has it.
fn known(
    name: &IdentityName,
    user: Option<UserView>,
    signed_in: Option<SignedIn>,
    now: Timestamp,
) -> Result<(Identity, Option<Timestamp>), ChatIdentityError> {
    match (user, signed_in) {
        (Some(user), _) if user.disabled => Err(ChatIdentityError::Disabled(name.clone())),
        (Some(user), _) if user.local => {
            if user.token_until.is_some_and(|until| now >= until) {
                return Err(ChatIdentityError::Expired(name.clone()));
            }
            Ok((Identity::local(user.name, user.groups), user.token_until))
        }
        (_, Some(signed_in)) if signed_in.identity.issuer().is_some() => Ok((signed_in.identity, Some(signed_in.until))),
        _ => Err(ChatIdentityError::NotSignedIn(name.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::identity::IdentitySource;
    use crate::model::sign_in::SignInVia;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn user(local: bool, disabled: bool, token_until: Option<i64>) -> UserView {
        UserView {
            name: "ana".parse().unwrap(),
            groups: ["qa".parse().unwrap()].into(),
            disabled,
            local,
            token_until: token_until.map(at),
            created_at: at(-1),
            effect: None,
        }
    }

    fn signed_in(issuer: Option<&str>) -> SignedIn {
        let groups: BTreeSet<_> = ["leads".parse().unwrap()].into();
        SignedIn {
            id: "si_4k2m9x0a7b".parse().unwrap(),
            identity: Identity {
                name: "ana".parse().unwrap(),
                groups,
                source: issuer.map_or(IdentitySource::Local, |issuer| IdentitySource::Issuer(issuer.to_owned())),
                claims: BTreeMap::new(),
            },
            via: SignInVia::Console,
            created_at: at(-1),
            until: at(60),
        }
    }

    #[test]
    fn groups_are_those_of_now_or_nobody_answers() {
        let issuer = Some("https://id.example.org");
        let name: IdentityName = "ana".parse().unwrap();
        let expired = ChatIdentityError::Expired(name.clone());
        let disabled = ChatIdentityError::Disabled(name.clone());
        let unknown = ChatIdentityError::NotSignedIn("ana".to_owned());
        for (found, signed_in, expected) in [
            (Some(user(true, false, None)), None, Ok(("qa", None))),
            (
                Some(user(true, false, Some(1))),
                Some(signed_in(None)),
                Ok(("qa", Some(at(1)))),
            ),
            (Some(user(true, false, Some(0))), Some(signed_in(None)), Err(expired)),
            (Some(user(true, true, None)), Some(signed_in(None)), Err(disabled.clone())),
            (Some(user(false, true, None)), Some(signed_in(issuer)), Err(disabled)),
            (
                Some(user(false, false, None)),
                Some(signed_in(issuer)),
                Ok(("leads", Some(at(60)))),
            ),
            (None, Some(signed_in(issuer)), Ok(("leads", Some(at(60))))),
            // The sign-in of a local user that is no more.
            (None, Some(signed_in(None)), Err(unknown.clone())),
            (None, None, Err(unknown)),
        ] {
            let told = format!("{found:?} {signed_in:?}");
            let known = known(&name, found, signed_in, at(0));
            let known = known.map(|(identity, until)| (identity.groups.first().unwrap().to_string(), until));
            assert_eq!(known, expected.map(|(group, until)| (group.to_owned(), until)), "{told}");
        }
    }
}
