//! The settings of a session that decide how PostgreSQL reads its texts, as far as the target has told them.
//!
//! It reads no text: it is told which statements may change a setting, and what the target says of it. PostgreSQL reports both settings
//! (ParameterStatus), from version 14 on only right before it is ready for the next message.
//!
//! INVARIANT: while a statement that may have changed a setting is not answered, the settings are [`LexerSettings::UNSETTLED`]. A
//! text that is read under them is read alike under all others, or not at all.

use crate::lexer::{Backslashes, Encoding, LexerSettings};

/// The settings, and which statement may have changed them since.
#[derive(Debug)]
pub(super) struct TrackedSettings {
    told: LexerSettings,
    /// A statement may have changed them. Any later one may bring back what was before: by the end of a transaction, or an error.
    changed: bool,
    /// The last statement that may have changed them and whose answer is not complete.
    waits_for: Option<u64>,
}

impl TrackedSettings {
    /// Makes settings of which the target has told nothing yet.
    pub(super) fn new() -> Self {
        Self {
            told: LexerSettings::UNSETTLED,
            changed: false,
            waits_for: None,
        }
    }

    /// Takes a setting that the target tells, at login or later.
    pub(super) fn told(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => {
                self.told.strings = match value {
                    b"on" => Backslashes::Ordinary,
                    b"off" => Backslashes::Escape,
                    _ => Backslashes::Unsettled,
                };
            }
            b"client_encoding" => self.told.encoding = Encoding::of_name(value),
            _ => {}
        }
    }

    /// Returns the settings under which the target reads a text that is sent now.
    pub(super) fn now(&self) -> LexerSettings {
        match self.waits_for {
            None => self.told,
            Some(_) => LexerSettings::UNSETTLED,
        }
    }

    /// Notes that this statement is on its way to the target.
    pub(super) fn sent(&mut self, statement: u64, may_change: bool) {
        self.changed |= may_change;
        if self.changed {
            self.waits_for = Some(statement);
        }
    }

    /// Notes that the target is ready, and the first statement that it has not answered (`None`: it has answered all).
    pub(super) fn ready(&mut self, unanswered: impl FnOnce() -> Option<u64>) {
        if let Some(waits_for) = self.waits_for
            && unanswered().is_none_or(|unanswered| unanswered > waits_for)
        {
            self.waits_for = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: LexerSettings = LexerSettings {
        strings: Backslashes::Escape,
        encoding: Encoding::UTF8,
    };

    fn after_login() -> TrackedSettings {
        let mut tracked = TrackedSettings::new();
        assert_eq!(tracked.now(), LexerSettings::UNSETTLED);
        tracked.told(b"client_encoding", b"UTF8");
        tracked.told(b"standard_conforming_strings", b"on");
        tracked.told(b"TimeZone", b"off");
        assert_eq!(tracked.now(), LexerSettings::default());
        tracked
    }

    #[test]
    fn what_is_pipelined_behind_a_change_is_unsettled() {
        let mut tracked = after_login();
        tracked.sent(1, false);
        assert_eq!(tracked.now(), LexerSettings::default());
        tracked.sent(2, true);
        assert_eq!(tracked.now(), LexerSettings::UNSETTLED);
        tracked.told(b"standard_conforming_strings", b"off");
        tracked.ready(|| Some(2));
        assert_eq!(tracked.now(), LexerSettings::UNSETTLED, "an earlier one was answered");
        tracked.ready(|| Some(3));
        assert_eq!(tracked.now(), OFF);
    }

    #[test]
    fn what_was_changed_may_come_back_with_any_statement() {
        let mut tracked = after_login();
        tracked.sent(1, true);
        tracked.told(b"standard_conforming_strings", b"off");
        tracked.ready(|| None);
        // It fails, or ends the transaction.
        tracked.sent(2, false);
        assert_eq!(tracked.now(), LexerSettings::UNSETTLED);
        tracked.told(b"standard_conforming_strings", b"on");
        tracked.ready(|| None);
        assert_eq!(tracked.now(), LexerSettings::default());
    }

    #[test]
    fn what_is_not_known_is_unsettled() {
        let mut tracked = after_login();
        tracked.told(b"client_encoding", b"EBCDIC");
        tracked.told(b"standard_conforming_strings", b"sometimes");
        assert_eq!(tracked.now(), LexerSettings::UNSETTLED);
    }
}
