//! Result of one check at a target.
//!
//! It checks nothing itself: [`mod@super::inspect`] and the checks that it runs do.

/// Result of one check at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetFinding {
    /// Requirement that is met.
    Good(String),
    /// Warning: something is open that could be closed, or could not be checked.
    Warning(String),
    /// Missing: without it no role can be created or no session ended.
    Lack(String),
    /// Refused: with it a grant gives more than its profile defines.
    Refused(String),
}

impl TargetFinding {
    /// Returns true if the target should not be served in this state.
    #[must_use]
    pub fn stops(&self) -> bool {
        matches!(self, Self::Lack(_) | Self::Refused(_))
    }
}

impl std::fmt::Display for TargetFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(text) => f.write_str(text),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Lack(text) => write!(f, "missing: {text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
        }
    }
}
