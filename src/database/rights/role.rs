//! Names of roles at a target, and the comment by which a gate recognizes its own.
//!
//! It does not know the existing roles. INVARIANT: two profiles, or two grants, never share a role name; no grant's role has a
//! name that a profile's could have; no name is longer than PostgreSQL keeps.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::model::ids::{GrantId, LogId};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Quoting of an identifier, always with quotes, and of a text, independently of `standard_conforming_strings`.
pub use postgres_protocol::escape::{escape_identifier as quoted, escape_literal as quoted_text};

/// Maximum length of a name, in bytes: `NAMEDATALEN - 1` (src/include/pg_config_manual.h). PostgreSQL truncates longer ones, so
/// two names could become one.
pub const MAX_NAME_BYTES: usize = 63;

/// Number of hexadecimal digits of SHA-256 after a truncated name: 60 bits.
const HASH_LETTERS: usize = 15;

/// Name of a role at a target, as PostgreSQL keeps it, not quoted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(String);

/// Returns the name of the role that holds a profile's rights: `tg_<target>_<profile>`. If that would be too long, or ambiguous
/// (targets may have underscores), it is truncated and followed by a hash of both names, after a `~`, which occurs in no name.
#[must_use]
pub fn profile_role(target: &TargetName, profile: &ProfileName) -> RoleName {
    let plain = format!("tg_{target}_{profile}");
    if plain.len() <= MAX_NAME_BYTES && !target.as_str().contains('_') {
        return RoleName(plain);
    }
    let hash = HEXLOWER.encode(&Sha256::digest(format!("{target}/{profile}")));
    let kept = cut(&plain, MAX_NAME_BYTES - HASH_LETTERS - 1);
    RoleName(format!("{kept}~{}", cut(&hash, HASH_LETTERS)))
}

/// Maximum length of the name of a capture schema, in bytes: the names of its triggers begin with it.
const MAX_CAPTURE_BYTES: usize = 50;

/// Returns the name of the schema that holds a target's captured changes: `tidegate_<target>`, truncated like
/// [`profile_role`]'s.
#[must_use]
pub fn capture_schema(target: &TargetName) -> RoleName {
    let plain = format!("tidegate_{target}");
    if plain.len() <= MAX_CAPTURE_BYTES {
        return RoleName(plain);
    }
    let hash = HEXLOWER.encode(&Sha256::digest(target.as_str()));
    let kept = cut(&plain, MAX_CAPTURE_BYTES - HASH_LETTERS - 1);
    RoleName(format!("{kept}~{}", cut(&hash, HASH_LETTERS)))
}

/// Returns the comment on the schema that holds a target's captured changes.
#[must_use]
pub fn capture_marker(target: &TargetName) -> String {
    format!("tidegate capture {target}")
}

/// Returns true if the comment marks a schema that a gate created.
#[must_use]
pub(super) fn marks_schema(comment: &str) -> bool {
    comment.starts_with("tidegate profile ") || comment.starts_with("tidegate capture ")
}

/// Returns the name of the role that a grant's sessions log in as: `<grant>_<identity>`, with the identity truncated to fit. The
/// grant's id alone makes it unique. Characters other than printable ASCII become `_`: names of roles are common to all databases
/// of a server, whose encodings may differ and lack the character.
#[must_use]
pub fn grant_role(identity: &IdentityName, grant: &GrantId) -> RoleName {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let identity: String = identity.as_str().chars().map(plain).collect();
    let name = format!("{grant}_{identity}");
    RoleName(cut(&name, MAX_NAME_BYTES).to_owned())
}

impl RoleName {
    /// Returns the name of an existing role, as PostgreSQL has it.
    #[must_use]
    pub fn found(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Returns the name as PostgreSQL keeps it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as written in SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        quoted(&self.0)
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns a grantee as written in SQL; `None` is everybody.
pub(super) fn grantee(role: Option<&str>) -> String {
    role.map_or_else(|| "PUBLIC".to_owned(), quoted)
}

/// Returns the beginning of an `ALTER DEFAULT PRIVILEGES` statement.
pub(super) fn alter_defaults(owner: &str, schema: Option<&str>) -> String {
    let within = schema.map(|schema| format!(" IN SCHEMA {}", quoted(schema)));
    format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {}{}",
        quoted(owner),
        within.unwrap_or_default()
    )
}

/// Comment on a role that a gate created. A role with no such comment is never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleMarker {
    /// Role of a grant: `tidegate grant gr_… on orders gate lg_…`.
    Grant {
        /// Id of the grant.
        grant: GrantId,
        /// Target it is for: one server can have several.
        target: TargetName,
        /// Gate that created it, and alone may drop it.
        gate: LogId,
    },
    /// Role of a profile: `tidegate profile orders/read-only`.
    Profile {
        /// Name of the target.
        target: TargetName,
        /// Name of the profile.
        profile: ProfileName,
    },
}

/// Error of a comment that is no marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a comment of a gate")]
pub struct MarkerError;

impl fmt::Display for RoleMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant { grant, target, gate } => write!(f, "tidegate grant {grant} on {target} gate {gate}"),
            Self::Profile { target, profile } => write!(f, "tidegate profile {target}/{profile}"),
        }
    }
}

impl FromStr for RoleMarker {
    type Err = MarkerError;

    fn from_str(comment: &str) -> Result<Self, MarkerError> {
        let words: Vec<&str> = comment.split(' ').collect();
        match *words.as_slice() {
            ["tidegate", "grant", grant, "on", target, "gate", gate] => Ok(Self::Grant {
                grant: read(grant)?,
                target: read(target)?,
                gate: read(gate)?,
            }),
            ["tidegate", "profile", both] => {
                let (target, profile) = both.split_once('/').ok_or(MarkerError)?;
                Ok(Self::Profile {
                    target: read(target)?,
                    profile: read(profile)?,
                })
            }
            _ => Err(MarkerError),
        }
    }
}

fn read<T: FromStr>(text: &str) -> Result<T, MarkerError> {
    text.parse().map_err(|_| MarkerError)
}

/// Returns the beginning of a text, of at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn grant() -> GrantId {
        GrantId::from_random([1; 10])
    }

    #[test]
    fn they_read_as_what_they_are() {
        let role = profile_role(&"orders".parse().unwrap(), &"read-only".parse().unwrap());
        assert_eq!(role.as_str(), "tg_orders_read-only");
        assert_eq!(role.quoted(), "\"tg_orders_read-only\"");
        let role = grant_role(&"ana@example.com".parse().unwrap(), &grant());
        assert_eq!(role.as_str(), "gr_1111111111_ana@example.com");
        let role = grant_role(&r#"auth0|Zoë O'B\""#.parse().unwrap(), &grant());
        assert_eq!(role.quoted(), r#""gr_1111111111_auth0|Zo__O'B\""""#);
        let long: IdentityName = "a".repeat(255).parse().unwrap();
        assert_eq!(grant_role(&long, &grant()).as_str().len(), MAX_NAME_BYTES);
    }

    #[test]
    fn two_profiles_never_share_a_role() {
        let long = |end: &str| format!("{}{end}", "x".repeat(62));
        let mut seen = HashSet::new();
        let pairs = [
            ("a_b".to_owned(), "c".to_owned()),
            ("a".to_owned(), "b_c".to_owned()),
            ("a".to_owned(), "b".to_owned()),
            (long("1"), "p".to_owned()),
            (long("2"), "p".to_owned()),
            ("t".to_owned(), long("1")),
            ("t".to_owned(), long("2")),
        ];
        for (target, profile) in &pairs {
            let role = profile_role(&target.parse().unwrap(), &profile.parse().unwrap());
            assert!(role.as_str().len() <= MAX_NAME_BYTES);
            assert!(seen.insert(role.clone()), "{role}");
        }
    }

    #[test]
    fn two_targets_never_share_a_store() {
        let name = |target: &str| capture_schema(&target.parse().unwrap());
        assert_eq!(name("orders").quoted(), "\"tidegate_orders\"");
        let long = |end: &str| name(&format!("{}{end}", "x".repeat(62)));
        assert_ne!(long("1"), long("2"));
        assert_eq!(long("1").as_str().len(), MAX_CAPTURE_BYTES);
    }

    #[test]
    fn what_is_no_marker_is_nobodys() {
        for comment in [
            "",
            "tidegate",
            "tidegate grant gr_1111111111",
            "tidegate grant gr_1111111111 on orders gate lg_1",
            "tidegate grant gr_1111111111 on orders gate lg_1111111111 ",
            " tidegate grant gr_1111111111 on orders gate lg_1111111111",
            "Tidegate profile orders/read-only",
            "tidegate profile orders",
            "tidegate profile orders/read only",
        ] {
            assert_eq!(comment.parse::<RoleMarker>(), Err(MarkerError), "{comment:?}");
        }
    }

    #[test]
    fn texts_are_quoted_for_either_setting() {
        assert_eq!(quoted_text("it's"), "'it''s'");
        assert_eq!(quoted_text(r"\'"), r" E'\\'''");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }

    proptest! {
        #[test]
        fn names_fit_and_markers_come_back(
            identity in "[a-zA-Z0-9._@+:/-]{1,63}",
            target in "[a-zA-Z0-9._-]{1,63}",
            profile in "[a-zA-Z0-9_-]{1,63}",
        ) {
            let (target, profile): (TargetName, ProfileName) = (target.parse().unwrap(), profile.parse().unwrap());
            let (of_grant, of_profile) = (grant_role(&identity.parse().unwrap(), &grant()), profile_role(&target, &profile));
            prop_assert!(of_grant.as_str().len() <= MAX_NAME_BYTES && of_grant.as_str().starts_with(grant().as_str()));
            prop_assert!(of_profile.as_str().len() <= MAX_NAME_BYTES && of_profile.as_str().starts_with("tg_"));
            let gate = LogId::from_random([2; 10]);
            for marker in [RoleMarker::Grant { grant: grant(), target: target.clone(), gate }, RoleMarker::Profile { target, profile }] {
                prop_assert_eq!(marker.to_string().parse::<RoleMarker>(), Ok(marker));
            }
        }
    }
}
