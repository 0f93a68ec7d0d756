//! Validated names of targets, profiles, identities and groups.
//!
//! Names of targets, profiles and groups need no quotes anywhere. The name of an identity comes from its issuer: all its
//! characters are visible and it is one line, but code that inserts it into other text has to quote it.
//!
//! It does not know the objects named.

mod vocabulary;

use super::text_type::text_type;
use crate::base::visible;
pub(crate) use vocabulary::vocabulary;
pub use vocabulary::{EnumOrUnknown, Vocabulary};

/// Error of a text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("{} name must not be empty", with_article(.what))]
    Empty {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
    },
    /// The text is too long.
    #[error("{} name has at most {limit} bytes; this one has {length}", with_article(.what))]
    TooLong {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
        /// Maximum length, in bytes.
        limit: usize,
        /// Length of the text, in bytes.
        length: usize,
    },
    /// The text has a character outside the allowed set.
    #[error("{} name consists of letters, digits and `{also}`; found {found:?}", with_article(.what))]
    Character {
        /// `target`, `profile`, `identity` or `group`.
        what: &'static str,
        /// Allowed punctuation.
        also: &'static str,
        /// The disallowed character.
        found: char,
    },
    /// The text has an invisible character.
    #[error("{} name must not contain invisible characters such as line breaks; found {found:?}", with_article(.what))]
    Unseen {
        /// `identity`.
        what: &'static str,
        /// The invisible character.
        found: char,
    },
    /// The text begins or ends with a space.
    #[error("{} name must not begin or end with a space", with_article(.what))]
    Space {
        /// `identity`.
        what: &'static str,
    },
}

/// Maximum length of a text that is compared with names, in characters: it may come from anybody.
const MAX_COMPARED_CHARS: usize = 63;

/// Returns the number of edits that make one name of another, whatever the case.
#[must_use]
pub fn distance(found: &str, known: &str) -> usize {
    let found: String = found.chars().take(MAX_COMPARED_CHARS).flat_map(char::to_lowercase).collect();
    strsim::damerau_levenshtein(&found, &known.to_lowercase())
}

/// Returns the name in `known` that is most similar to `found`, if one is similar enough.
#[must_use]
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(found, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// Maximum length of a name, in bytes: NAMEDATALEN - 1. PostgreSQL truncates longer names, so two names could become one.
const MAX_NAME_BYTES: usize = 63;
/// Maximum length of an identity's name, in bytes: the limit of `sub` in OpenID Connect Core 1.0, section 2.
const MAX_IDENTITY_BYTES: usize = 255;

/// Returns the kind of a name with its article: a target, an identity.
fn with_article(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {what}")
}

text_type!(
    /// Name of a target: a database behind the gate. Clients send it as the database name.
    TargetName, NameError, |text| plain("target", "-_.", text)
);
text_type!(
    /// Name of an identity: the person or workload that statements are recorded under, as its issuer names it (`auth0|x`, `Zoë
    /// O'Brien`). Up to 255 bytes; it has no invisible characters, and its only blank is the space.
    IdentityName, NameError, identity
);
text_type!(
    /// Name of a profile: a set of database privileges on a target (`read-only`).
    ProfileName, NameError, |text| plain("profile", "-_", text)
);
text_type!(
    /// Name of a group of identities in policies.
    GroupName, NameError, |text| plain("group", "-_.@+:/", text)
);

impl TargetName {
    /// Returns the target with a profile as one name: `orders/read-only`, or `orders` without a profile.
    #[must_use]
    pub fn with(&self, profile: Option<&ProfileName>) -> String {
        match profile {
            Some(profile) => format!("{self}/{profile}"),
            None => self.to_string(),
        }
    }
}

fn sized(what: &'static str, limit: usize, text: &str) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty { what }),
        length if length > limit => Err(NameError::TooLong { what, limit, length }),
        _ => Ok(()),
    }
}

fn identity(text: &str) -> Result<(), NameError> {
    let what = "identity";
    sized(what, MAX_IDENTITY_BYTES, text)?;
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(NameError::Space { what });
    }
    // Other blanks look like a space, so two names would look the same.
    let unseen = |c: &char| visible::is_unseen(*c) || (c.is_whitespace() && *c != ' ');
    match text.chars().find(unseen) {
        Some(found) => Err(NameError::Unseen { what, found }),
        None => Ok(()),
    }
}

fn plain(what: &'static str, also: &'static str, text: &str) -> Result<(), NameError> {
    sized(what, MAX_NAME_BYTES, text)?;
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !also.contains(*c)) {
        Some(found) => Err(NameError::Character { what, also, found }),
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
