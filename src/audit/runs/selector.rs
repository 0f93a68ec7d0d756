//! Selector of a run: its name, or the grant or the session that stands for it. Pure.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::audit::filter::Filter;
use crate::model::ids::{GrantId, SessionId};

/// Maximum length of a name, in bytes: a startup packet's settings are shorter.
const MAX_NAME_BYTES: usize = 8 << 10;

/// Sessions of a run.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub enum RunSelector {
    /// Sessions with this run: as the client said (`tidegate.run`), or as the pipeline's token has it.
    Name(String),
    /// Sessions of a grant.
    Grant(GrantId),
    /// One session.
    Session(SessionId),
}

/// Error of a text that selects no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a run is selected by its name, or by the id of a grant or a session; the text is empty, or longer than {MAX_NAME_BYTES} bytes"
)]
pub struct RunSelectorError;

impl RunSelector {
    /// Returns the filter that finds its records.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        match self {
            Self::Name(name) => filter.run = Some(name.clone()),
            Self::Grant(grant) => filter.grant = Some(grant.clone()),
            Self::Session(session) => filter.session = Some(session.clone()),
        }
        filter
    }

    /// Returns the grant, if it selects by one.
    #[must_use]
    pub fn grant(&self) -> Option<&GrantId> {
        match self {
            Self::Grant(grant) => Some(grant),
            Self::Name(_) | Self::Session(_) => None,
        }
    }
}

impl fmt::Display for RunSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Grant(grant) => grant.fmt(f),
            Self::Session(session) => session.fmt(f),
        }
    }
}

impl FromStr for RunSelector {
    type Err = RunSelectorError;

    /// Parses a text. One that has the form of a grant's or a session's id is that id.
    fn from_str(text: &str) -> Result<Self, RunSelectorError> {
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err(RunSelectorError);
        }
        if let Ok(grant) = text.parse() {
            return Ok(Self::Grant(grant));
        }
        if let Ok(session) = text.parse() {
            return Ok(Self::Session(session));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_an_id_or_a_name() {
        let selected = |text: &str| text.parse::<RunSelector>().unwrap();
        assert!(matches!(selected("gr_4k2m9x0a7b"), RunSelector::Grant(_)));
        assert!(matches!(selected("se_4k2m9x0a7b"), RunSelector::Session(_)));
        for name in ["4711", "gr_", "nightly/2026-11-30 #3", "gr_4k2m9x0a7b2"] {
            assert_eq!(selected(name), RunSelector::Name(name.to_owned()));
            assert_eq!(selected(name).to_string(), name);
        }
        assert_eq!("".parse::<RunSelector>(), Err(RunSelectorError));
        assert_eq!("x".repeat(MAX_NAME_BYTES + 1).parse::<RunSelector>(), Err(RunSelectorError));
        assert_eq!(selected("4711").filter().run.as_deref(), Some("4711"));
    }
}
