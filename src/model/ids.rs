//! Opaque identifiers of grants, sessions, requests, sign-ins and audit logs. They are names, not secrets.
//!
//! They have no meaning except their prefix, and do not refer to their objects.

use super::text_type::text_type;

/// Crockford's base 32, without easily confused letters; lower case, so that PostgreSQL never needs quotes.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Number of letters after the prefix: 10 × 5 = 50 random bits.
const ID_LETTERS: usize = 10;

/// Error of a text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what} id; expected `{prefix}` and {ID_LETTERS} letters or digits")]
pub struct IdError {
    what: &'static str,
    prefix: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $Name:ident, $what:literal, $prefix:literal) => {
        text_type!($(#[$doc])* $Name, IdError, |text| check($what, $prefix, text));

        impl $Name {
            /// Creates an id from random bytes, which the caller gets from the operating system's generator.
            #[must_use]
            pub fn from_random(bytes: [u8; ID_LETTERS]) -> Self {
                Self($prefix.chars().chain(bytes.map(letter)).collect())
            }
        }

        impl std::borrow::Borrow<str> for $Name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// Identifier of a grant; also a user name for its logins.
    GrantId, "grant", "gr_"
);
id!(
    /// Identifier of a session: one client connection under a grant.
    SessionId, "session", "se_"
);
id!(
    /// Identifier of a request for access.
    RequestId, "request", "rq_"
);
id!(
    /// Identifier of a sign-in: the gate's own session of a person, outside any database.
    SignInId, "sign-in", "si_"
);
id!(
    /// Identifier of an audit log; all segments of one chain have it.
    LogId, "log", "lg_"
);

fn check(what: &'static str, prefix: &'static str, text: &str) -> Result<(), IdError> {
    match text.strip_prefix(prefix) {
        Some(rest) if are_letters(rest, ID_LETTERS) => Ok(()),
        _ => Err(IdError {
            what,
            prefix,
            text: text.chars().take(80).collect(),
        }),
    }
}

fn are_letters(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Number of letters after the dot of a login's user name.
const LOGIN_LETTERS: usize = 4;

impl GrantId {
    /// Returns the user name of one of the grant's logins; several can be valid at once. Random bytes as for
    /// [`GrantId::from_random`].
    #[must_use]
    pub fn login(&self, bytes: [u8; LOGIN_LETTERS]) -> String {
        self.0.chars().chain(std::iter::once('.')).chain(bytes.map(letter)).collect()
    }

    /// Returns the grant that a user name logs in to: the grant's id itself, or one of its logins.
    #[must_use]
    pub fn of_login(user: &str) -> Option<Self> {
        let id = match user.split_once('.') {
            Some((id, rest)) if are_letters(rest, LOGIN_LETTERS) => id,
            Some(_) => return None,
            None => user,
        };
        id.parse().ok()
    }
}

fn letter(byte: u8) -> char {
    ALPHABET.get(usize::from(byte & 31)).copied().map_or('0', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let id = GrantId::from_random([0, 1, 2, 3, 4, 5, 6, 7, 31, 255]);
        assert_eq!(id.as_str(), "gr_01234567zz");
        assert_eq!(id.as_str().parse::<GrantId>(), Ok(id));
    }

    #[test]
    fn a_login_names_its_grant() {
        let id = GrantId::from_random([1; 10]);
        let login = id.login([0, 31, 2, 255]);
        assert_eq!(login, "gr_1111111111.0z2z");
        for user in [login.as_str(), id.as_str()] {
            assert_eq!(GrantId::of_login(user), Some(id.clone()), "{user}");
        }
        for user in [
            "gr_1111111111.",
            "gr_1111111111.0z2",
            "gr_1111111111.0z2L",
            "gr_1111111111.0z2z.",
            ".0z2z",
            "",
        ] {
            assert_eq!(GrantId::of_login(user), None, "{user}");
        }
    }

    #[test]
    fn rejects_others() {
        for text in [
            "",
            "gr_",
            "se_0123456789",
            "gr_012345678",
            "gr_0123456789a",
            "gr_012345678L",
            "gr_01234é789",
        ] {
            assert!(text.parse::<GrantId>().is_err(), "{text}");
        }
    }
}
