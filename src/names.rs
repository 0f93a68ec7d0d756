//! Validated names: of targets, profiles, identities and groups. A name that exists is fit for logs, URLs and PostgreSQL.
//!
//! It does not know whether the thing named exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing there.
    #[error("{} name must not be empty", with_article(.what))]
    Empty {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
    },
    /// Longer than PostgreSQL's identifiers (63 bytes).
    #[error("{} name has at most 63 bytes, this one has {length}", with_article(.what))]
    TooLong {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
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
}

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
    ($(#[$doc:meta])* $name:ident, $what:literal, $also:literal) => {
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
                check($what, $also, text).map(|()| Self(text.to_owned()))
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
    "target",
    "-_."
);
name!(
    /// Names an identity: the person or workload a statement is recorded under.
    IdentityName,
    "identity",
    "-_.@+:/"
);
name!(
    /// Names a profile: a set of database privileges on a target (`read-only`).
    ProfileName,
    "profile",
    "-_"
);
name!(
    /// Names a group of identities, as policies do.
    GroupName,
    "group",
    "-_.@+:/"
);

fn check(what: &'static str, also: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { what });
    }
    // NAMEDATALEN - 1: PostgreSQL cuts longer names, and two names could become one.
    if text.len() > 63 {
        return Err(InvalidName::TooLong {
            what,
            length: text.len(),
        });
    }
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
        assert!("ci:shop/orders".parse::<IdentityName>().is_ok());
    }

    #[test]
    fn rejects_what_would_need_quotes() {
        for text in ["", "a b", "a\n", "ä", "a\"b", &"x".repeat(64)] {
            assert!(text.parse::<IdentityName>().is_err(), "{text:?}");
        }
    }
}
