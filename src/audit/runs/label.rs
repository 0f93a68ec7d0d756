//! Test that a statement belongs to, as the suite says: in a comment of the statement, or by the application name of its session.
//! Pure.

use std::collections::VecDeque;

use super::application::ApplicationChange;
use super::comment::StatementOrigin;
use super::report::LabelSource;

/// Maximum number of characters that are kept of a test's name.
const MAX_TEST_CHARS: usize = 300;
/// Number of changes without an outcome that are followed in a session; a pipeline rarely has two.
const MAX_OPEN_CHANGES: usize = 64;

/// Test as the suite names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TestLabel {
    /// Name.
    pub(super) name: String,
    /// Place of the name.
    pub(super) source: LabelSource,
}

/// Application name of a session, as it changes.
#[derive(Debug, Default)]
pub(super) struct SessionApplication {
    at_start: Option<String>,
    /// Name in force; `None`: none, or one that is not known.
    current: Option<String>,
    /// Changes whose outcome is not known yet: the statement, and the name before it.
    open: VecDeque<(u64, Option<String>)>,
}

impl SessionApplication {
    /// Returns the application name of a session that begins.
    pub(super) fn at_start(name: Option<&str>) -> Self {
        let name = name.filter(|name| !name.is_empty()).map(kept);
        Self {
            at_start: name.clone(),
            current: name,
            open: VecDeque::new(),
        }
    }

    /// Takes a change that a statement makes if it succeeds.
    pub(super) fn change(&mut self, statement: u64, change: ApplicationChange) {
        let next = match change {
            ApplicationChange::To(name) => Some(kept(&name)).filter(|name| !name.is_empty()),
            ApplicationChange::Reset => self.at_start.clone(),
            ApplicationChange::Unknown => None,
        };
        let before = std::mem::replace(&mut self.current, next);
        if self.open.len() == MAX_OPEN_CHANGES {
            self.open.pop_front();
        }
        self.open.push_back((statement, before));
    }

    /// Takes the outcome of a statement: without success its change, and those behind it, have not happened.
    pub(super) fn settle(&mut self, statement: u64, succeeded: bool) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == statement) else {
            return;
        };
        if succeeded {
            self.open.remove(at);
        } else if let Some((_, before)) = self.open.drain(at..).next() {
            self.current = before;
        }
    }

    /// Returns the test of a statement of this session with this origin.
    pub(super) fn label(&self, origin: &StatementOrigin) -> Option<TestLabel> {
        let by_comment = origin.test.as_deref().map(|test| (test, LabelSource::Comment));
        let by_name = self.current.as_deref().map(|name| (name, LabelSource::ApplicationName));
        by_comment.or(by_name).map(|(name, source)| TestLabel {
            name: kept(name),
            source,
        })
    }
}

fn kept(name: &str) -> String {
    name.chars().take(MAX_TEST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(application: &SessionApplication) -> Option<String> {
        application.label(&StatementOrigin::default()).map(|label| label.name)
    }

    fn to(name: &str) -> ApplicationChange {
        ApplicationChange::To(name.to_owned())
    }

    #[test]
    fn a_comment_goes_before_the_name_of_the_session() {
        let application = SessionApplication::at_start(Some("pytest"));
        let origin = StatementOrigin {
            test: Some("test_a".to_owned()),
            trace: None,
        };
        let label = application.label(&origin).unwrap();
        assert_eq!((label.name.as_str(), label.source), ("test_a", LabelSource::Comment));
        assert_eq!(named(&application).as_deref(), Some("pytest"));
        assert_eq!(named(&SessionApplication::at_start(Some(""))), None);
    }

    #[test]
    fn a_change_that_fails_has_not_happened() {
        let mut application = SessionApplication::at_start(Some("pytest"));
        application.change(1, to("test_a"));
        application.settle(1, true);
        application.change(2, to("test_b"));
        application.change(3, to("test_c"));
        assert_eq!(named(&application).as_deref(), Some("test_c"));
        application.settle(2, false);
        assert_eq!(named(&application).as_deref(), Some("test_a"));
        application.settle(3, false);
        assert_eq!(named(&application).as_deref(), Some("test_a"));
        application.change(4, ApplicationChange::Reset);
        assert_eq!(named(&application).as_deref(), Some("pytest"));
        application.change(5, ApplicationChange::Unknown);
        assert_eq!(named(&application), None);
    }

    #[test]
    fn open_changes_are_bounded() {
        let mut application = SessionApplication::default();
        for statement in 0..1_000 {
            application.change(statement, to("x"));
        }
        assert!(application.open.len() <= MAX_OPEN_CHANGES);
    }
}
