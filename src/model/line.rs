//! Exclusive use of a target: the ways in which grants use it, which of them exclude each other, and the place in line of those that
//! wait.
//!
//! It keeps no line: the access service does. The ways are those of PostgreSQL's lock modes SHARE, EXCLUSIVE and ACCESS EXCLUSIVE.
//!
//! INVARIANT: exclusion is mutual.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::ids::GrantId;
use super::names::{IdentityName, ProfileName, TargetName, vocabulary};

vocabulary! {
    /// Way in which the sessions of a grant use their target, by its profile.
    pub enum UseMode {
        /// In a database of its own, beside all others.
        Apart = "apart",
        /// Beside each other.
        Shared = "shared",
        /// One grant at a time of the profiles with this or `all`; others go on beside it.
        Write = "write",
        /// One grant at a time, beside no other of any profile.
        All = "all",
    }
}

impl UseMode {
    /// Returns true if two grants with these modes must not have sessions at the same time.
    #[must_use]
    pub fn excludes(self, other: Self) -> bool {
        use UseMode::{All, Shared, Write};
        matches!(
            (self, other),
            (All, Shared | Write | All) | (Shared | Write, All) | (Write, Write)
        )
    }

    /// Returns true if the grant excludes any other.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Write | Self::All)
    }
}

/// Decides if a grant may use the target now: none that uses it, and none that came to the line before, is in its way. First come,
/// first served, even where a later one would fit beside those who use it.
pub fn may_pass(mode: UseMode, users: impl IntoIterator<Item = UseMode>, before: impl IntoIterator<Item = UseMode>) -> bool {
    users.into_iter().chain(before).all(|other| !mode.excludes(other))
}

/// Grant that uses a target and is in the way of others.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineHolder {
    /// Id of the grant.
    pub grant: GrantId,
    /// Identity of the grant.
    pub identity: IdentityName,
    /// Profile of the grant.
    #[schema(nullable = false)]
    pub profile: Option<ProfileName>,
    /// End of its window, at present.
    #[schema(nullable = false)]
    pub until: Option<Timestamp>,
}

/// Standing of a grant at a target whose profiles exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LineStanding {
    /// It uses the target exclusively.
    Uses,
    /// It waits in line.
    Waits(LinePlace),
}

/// Place in line of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinePlace {
    /// Number of its place; 1 is next.
    pub place: u32,
    /// Grants that use the target and are in its way or in that of another before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<LineHolder>,
}

/// Line at one target, with those who use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TargetLine)]
pub struct LineView {
    /// Name of the target.
    pub target: TargetName,
    /// Grants that use it and exclude others, or are in the way of one that waits.
    pub held_by: Vec<LineHolder>,
    /// Grants that wait, the next one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<LineHolder>,
}

/// Number of holders that a text names.
const MAX_NAMED_HOLDERS: usize = 3;

impl LinePlace {
    /// Returns the holders in words: `in use by ben under grant gr_… until …`. `time` formats the end of a window.
    #[must_use]
    pub fn holders(&self, time: impl Fn(Timestamp) -> String) -> String {
        let named: Vec<String> = self
            .held_by
            .iter()
            .take(MAX_NAMED_HOLDERS)
            .map(|holder| {
                let until = holder.until.map(|until| format!(" until {}", time(until)));
                format!(
                    "{} under grant {}{}",
                    holder.identity,
                    holder.grant,
                    until.unwrap_or_default()
                )
            })
            .collect();
        match self.held_by.len().saturating_sub(MAX_NAMED_HOLDERS) {
            _ if named.is_empty() => "free for the next in line".to_owned(),
            0 => format!("in use by {}", named.join(" and ")),
            more => format!("in use by {} and {more} more", named.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_is_mutual_and_as_it_is_told() {
        use UseMode::{All, Apart, Shared, Write};
        for (mode, others) in [
            (Apart, &[][..]),
            (Shared, &[All]),
            (Write, &[Write, All]),
            (All, &[Shared, Write, All]),
        ] {
            for other in UseMode::ALL {
                assert_eq!(mode.excludes(*other), others.contains(other), "{mode} and {other}");
                assert_eq!(mode.excludes(*other), other.excludes(mode), "{mode} and {other}");
            }
        }
    }

    #[test]
    fn nobody_overtakes() {
        use UseMode::{All, Apart, Shared, Write};
        assert!(may_pass(Write, [Shared, Shared], []));
        assert!(!may_pass(Write, [Shared, Write], []));
        assert!(!may_pass(All, [Shared], []));
        // It would fit beside those who use the target, but another is before it.
        assert!(!may_pass(Shared, [Shared], [All]));
        assert!(!may_pass(Write, [], [Write]));
        assert!(may_pass(Shared, [Write], [Write]));
        assert!(may_pass(Apart, [All], [All]));
    }
}
