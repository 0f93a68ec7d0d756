//! Validated names: of targets, profiles, identities and groups.
//!
//! A target's, a profile's and a group's name needs no quotes anywhere. An identity's is what its issuer says: it can be seen as a
//! whole and is one line, but whoever writes it into something else has to quote it there.
//!
//! It does not know whether the thing named exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::visible;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing there.
    #[error("{} name must not be empty", with_article(.what))]
    Empty {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
    },
    /// Too long.
    #[error("{} name has at most {limit} bytes; this one has {length}", with_article(.what))]
    TooLong {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
        /// How many bytes are allowed.
        limit: usize,
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside the allowed set.
    #[error("{} name consists of letters, digits and `{also}`; found {found:?}", with_article(.what))]
    Character {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
        /// Which punctuation is allowed.
        also: &'static str,
        /// The offending character.
        found: char,
    },
    /// A character that cannot be seen as what it is.
    #[error("{} name must not contain invisible characters such as line breaks; found {found:?}", with_article(.what))]
    Unseen {
        /// `identity`.
        what: &'static str,
        /// The offending character.
        found: char,
    },
    /// A space at an end.
    #[error("{} name must not begin or end with a space", with_article(.what))]
    Space {
        /// `identity`.
        what: &'static str,
    },
}

/// The longest text that is compared with names, in characters: it may come from anybody.
const MAX_COMPARED_CHARS: usize = 63;

/// Returns the one of `known` that was most likely meant by `found`, if one is near enough.
#[must_use]
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found: String = found.chars().take(MAX_COMPARED_CHARS).flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// NAMEDATALEN - 1: PostgreSQL cuts longer names, and two names could become one.
const MAX_NAME_BYTES: usize = 63;
/// The most that OpenID Connect Core (section 2, `sub`) lets an issuer call somebody by.
const MAX_IDENTITY_BYTES: usize = 255;

/// The kind of a name in a sentence: a target, an identity.
fn with_article(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {what}")
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// Names a target: a database the gate fronts. A client gives it as the database name.
    TargetName,
    |text| plain("target", "-_.", text)
);
name!(
    /// Names an identity: the person or workload a statement is recorded under, as whoever proves it calls it (`auth0|x`,
    /// `Zoë O'Brien`). Up to 255 bytes; no character in it is unseen ([`visible::is_unseen`]), and its only blank is the space.
    IdentityName,
    identity
);
name!(
    /// Names a profile: a set of database privileges on a target (`read-only`).
    ProfileName,
    |text| plain("profile", "-_", text)
);
name!(
    /// Names a group of identities, as policies do.
    GroupName,
    |text| plain("group", "-_.@+:/", text)
);

impl TargetName {
    /// Returns a target and the profile it is used with as one name: `orders/read-only`, or `orders` without a profile.
    #[must_use]
    pub fn with(&self, profile: Option<&ProfileName>) -> String {
        match profile {
            Some(profile) => format!("{self}/{profile}"),
            None => self.to_string(),
        }
    }
}

fn sized(what: &'static str, limit: usize, text: &str) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty { what }),
        length if length > limit => Err(InvalidName::TooLong { what, limit, length }),
        _ => Ok(()),
    }
}

fn identity(text: &str) -> Result<(), InvalidName> {
    let what = "identity";
    sized(what, MAX_IDENTITY_BYTES, text)?;
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(InvalidName::Space { what });
    }
    // Other blanks than the space look like it, and two names would look like one.
    let unseen = |c: &char| visible::is_unseen(*c) || (c.is_whitespace() && *c != ' ');
    match text.chars().find(unseen) {
        Some(found) => Err(InvalidName::Unseen { what, found }),
        None => Ok(()),
    }
}

fn plain(what: &'static str, also: &'static str, text: &str) -> Result<(), InvalidName> {
    sized(what, MAX_NAME_BYTES, text)?;
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !also.contains(*c)) {
        Some(found) => Err(InvalidName::Character { what, also, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_people_use() {
        assert!("orders-eu_2".parse::<TargetName>().is_ok());
        assert!("ana@example.com".parse::<IdentityName>().is_ok());
        let long = "ö".repeat(127);
        for identity in [
            "ci:shop/orders",
            "auth0|6507a1",
            "Zoë O'Brien",
            "CORP\\jürgen",
            "a\"b",
            "東京",
            &long,
        ] {
            assert_eq!(identity.parse::<IdentityName>().map(String::from).as_deref(), Ok(identity));
        }
    }

    #[test]
    fn rejects_what_would_need_quotes() {
        for text in ["", "a b", "a\n", "ä", "a\"b", &"x".repeat(64)] {
            assert!(text.parse::<TargetName>().is_err(), "{text:?}");
            assert!(text.parse::<GroupName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn rejects_identities_that_cannot_be_told_apart_by_eye() {
        for text in [
            "",
            "a\n",
            "a\0b",
            " a",
            "a ",
            "a\u{a0}b",
            "a\u{3000}b",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{feff}a",
            &"ö".repeat(128),
        ] {
            assert!(text.parse::<IdentityName>().is_err(), "{text:?}");
        }
    }
}
