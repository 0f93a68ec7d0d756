//! Settings of a session that determine how PostgreSQL reads its texts, as far as the target has reported them.
//!
//! PostgreSQL reports both settings (ParameterStatus), from version 14 on only directly before it is ready for the next message.
//! Any statement may change them: by its own SQL, in a function, or because an error or the end of a transaction restores earlier
//! values.
//!
//! INVARIANT: a text that is sent while a statement is unanswered is either read alike under all settings, or read under
//! [`LexerSettings::UNSETTLED`].

use crate::protocol::lexer::{Backslashes, Encoding, LexerSettings};

/// Settings, and the statement that may have changed them since.
#[derive(Debug)]
pub(super) struct TrackedSettings {
    reported: LexerSettings,
    /// Last statement whose answer is not complete.
    waits_for: Option<u64>,
}

impl TrackedSettings {
    /// Creates settings of which the target has reported nothing yet.
    pub(super) fn new() -> Self {
        Self {
            reported: LexerSettings::UNSETTLED,
            waits_for: None,
        }
    }

    /// Takes a setting that the target reports, at login or later.
    pub(super) fn reported(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => {
                self.reported.strings = match value {
                    b"on" => Backslashes::Ordinary,
                    b"off" => Backslashes::Escape,
                    _ => Backslashes::Unsettled,
                };
            }
            b"client_encoding" => self.reported.encoding = Encoding::of_name(value),
            _ => {}
        }
    }

    /// Returns the settings under which the target reads this text, if it is sent now.
    pub(super) fn of(&self, text: &[u8]) -> LexerSettings {
        if self.waits_for.is_none() || LexerSettings::are_all_alike_to(text) {
            self.reported
        } else {
            LexerSettings::UNSETTLED
        }
    }

    /// Returns the encoding of the session, as the target reported it last.
    pub(super) fn encoding(&self) -> Encoding {
        self.reported.encoding
    }

    /// Returns true if no statement is on its way that may have changed the reported settings.
    pub(super) fn are_settled(&self) -> bool {
        self.waits_for.is_none()
    }

    /// Notes that this statement is on its way to the target.
    pub(super) fn sent(&mut self, statement: u64) {
        self.waits_for = Some(statement);
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
    /// A text that is another under other settings.
    const TEXT: &[u8] = br"select '\', '; select 1 --'";

    fn after_login() -> TrackedSettings {
        let mut tracked = TrackedSettings::new();
        assert_eq!(tracked.of(TEXT), LexerSettings::UNSETTLED);
        tracked.reported(b"client_encoding", b"UTF8");
        tracked.reported(b"standard_conforming_strings", b"on");
        tracked.reported(b"TimeZone", b"off");
        assert_eq!(tracked.of(TEXT), LexerSettings::default());
        tracked
    }

    #[test]
    fn what_is_pipelined_is_unsettled_where_it_matters() {
        let mut tracked = after_login();
        tracked.sent(1);
        tracked.sent(2);
        assert_eq!(tracked.of(TEXT), LexerSettings::UNSETTLED);
        assert_eq!(
            tracked.of("select '\\d', 'Köln', '日本', E'\\''".as_bytes()),
            LexerSettings::default()
        );
        tracked.reported(b"standard_conforming_strings", b"off");
        tracked.ready(|| Some(2));
        assert_eq!(tracked.of(TEXT), LexerSettings::UNSETTLED, "an earlier one was answered");
        tracked.ready(|| Some(3));
        assert_eq!(tracked.of(TEXT), OFF);
    }

    #[test]
    fn what_is_not_known_is_unsettled() {
        let mut tracked = after_login();
        tracked.reported(b"client_encoding", b"EBCDIC");
        tracked.reported(b"standard_conforming_strings", b"sometimes");
        assert_eq!(tracked.of(b""), LexerSettings::UNSETTLED);
    }
}
