//! Change of a session's application name by SQL: `SET application_name`, `set_config`, `RESET`, `DISCARD ALL`. Pure.
//!
//! It reads the text of a statement, which may still fail. A name that is computed by the server is not known.

use std::borrow::Cow;

use crate::audit::event::{ParameterValue, Statement};
use crate::protocol::lexer::{Lexer, Token, TokenKind};

/// Name of the setting.
const SETTING: &str = "application_name";

/// New application name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApplicationChange {
    /// Name from the text or a parameter.
    To(String),
    /// Name of the session's start.
    Reset,
    /// Name that the record does not show.
    Unknown,
}

impl ApplicationChange {
    /// Returns the last change that a statement makes.
    pub(super) fn of(statement: &Statement<'_>) -> Option<Self> {
        let sql = statement.sql.as_ref()?;
        let text = sql.text.0.as_bytes();
        if !is_hinted_at(text) {
            return None;
        }
        let settings = sql.settings()?;
        let masked = settings.mask(text)?;
        let mut lexer = Lexer::under(&masked, settings);
        let mut change = None;
        let mut begins = true;
        while let Some(token) = lexer.next_code() {
            let command = CommandReader {
                lexer: &mut lexer,
                text,
                parameters: &statement.parameters,
            };
            change = match () {
                () if begins && token.is("set") => command.set(),
                () if begins && token.is("reset") => command.reset(),
                () if begins && token.is("discard") => command.discard(),
                () if token.is("set_config") => command.set_config(),
                () => None,
            }
            .or(change);
            begins = token.is_sign(b';');
        }
        change
    }
}

/// Returns false if a text cannot have a change, which is true of nearly all.
fn is_hinted_at(text: &[u8]) -> bool {
    let has = |word: &str| memchr::memmem::find(text, word.as_bytes()).is_some();
    let begins = |word: &str| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    ["set", "reset", "discard"].into_iter().any(begins) || has(SETTING) || has("APPLICATION_NAME")
}

/// Reader of a command behind its first word.
struct CommandReader<'r, 't> {
    lexer: &'r mut Lexer<'t>,
    /// Text before it was masked.
    text: &'t [u8],
    parameters: &'r [ParameterValue<'r>],
}

impl<'t> CommandReader<'_, 't> {
    /// Reads on; a semicolon stays where it is.
    fn next(&mut self) -> Option<Token<'t>> {
        let mut ahead = *self.lexer;
        let token = ahead.next_code().filter(|token| !token.is_sign(b';'))?;
        *self.lexer = ahead;
        Some(token.within(self.text))
    }

    fn set(mut self) -> Option<ApplicationChange> {
        let first = self.next()?;
        let is_setting = if first.is("session") || first.is("local") {
            names_setting(&self.next()?)
        } else {
            names_setting(&first)
        };
        if !is_setting {
            return None;
        }
        self.next().filter(|token| token.is("to") || token.is_sign(b'='))?;
        Some(self.value())
    }

    fn reset(mut self) -> Option<ApplicationChange> {
        let token = self.next()?;
        (names_setting(&token) || token.is("all")).then_some(ApplicationChange::Reset)
    }

    fn discard(mut self) -> Option<ApplicationChange> {
        self.next()?.is("all").then_some(ApplicationChange::Reset)
    }

    fn set_config(mut self) -> Option<ApplicationChange> {
        self.next().filter(|token| token.is_sign(b'('))?;
        let name = self.next()?;
        if !name.value().is_some_and(|name| name.eq_ignore_ascii_case(SETTING.as_bytes())) {
            return None;
        }
        self.next().filter(|token| token.is_sign(b','))?;
        Some(self.value())
    }

    /// Reads a value that is not computed: a comma, a type or the end is behind it.
    fn value(mut self) -> ApplicationChange {
        let Some(token) = self.next() else {
            return ApplicationChange::Unknown;
        };
        let is_whole = self.next().is_none_or(|behind| behind.is_sign(b',') || behind.text == b"::");
        let known = match token.kind {
            _ if !is_whole => None,
            TokenKind::Word if token.is("default") => Some(ApplicationChange::Reset),
            TokenKind::Word => Some(named(Cow::Borrowed(token.text))),
            TokenKind::Parameter => of_parameter(&token, self.parameters),
            TokenKind::Quoted => Some(named(Cow::Borrowed(token.inner))),
            _ => token.value().map(named),
        };
        known.unwrap_or(ApplicationChange::Unknown)
    }
}

fn named(name: Cow<'_, [u8]>) -> ApplicationChange {
    ApplicationChange::To(String::from_utf8_lossy(&name).into_owned())
}

fn names_setting(token: &Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Quoted) && token.inner.eq_ignore_ascii_case(SETTING.as_bytes())
}

fn of_parameter(token: &Token<'_>, parameters: &[ParameterValue<'_>]) -> Option<ApplicationChange> {
    let number: usize = std::str::from_utf8(token.text).ok()?.strip_prefix('$')?.parse().ok()?;
    match parameters.get(number.checked_sub(1)?)? {
        ParameterValue::Text(text) => Some(ApplicationChange::To(text.0.clone().into_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::Event;
    use crate::audit::testing::{statement, who};

    fn change(sql: &str, parameters: &[&str]) -> Option<ApplicationChange> {
        let Event::Statement(statement) = statement(&who(1, "ana"), 1, sql, parameters) else {
            unreachable!()
        };
        ApplicationChange::of(&statement)
    }

    fn to(name: &str) -> Option<ApplicationChange> {
        Some(ApplicationChange::To(name.to_owned()))
    }

    #[test]
    fn the_ways_to_change_it() {
        for (sql, expected) in [
            ("SET application_name = 'test_a'", to("test_a")),
            ("set session Application_Name to 'it''s';", to("it's")),
            ("SET LOCAL APPLICATION_NAME TO worker", to("worker")),
            ("SET \"application_name\" = E'a\\'b'", to("a'b")),
            ("SET application_name TO DEFAULT", Some(ApplicationChange::Reset)),
            ("RESET application_name", Some(ApplicationChange::Reset)),
            ("reset all", Some(ApplicationChange::Reset)),
            ("DISCARD ALL", Some(ApplicationChange::Reset)),
            ("SELECT set_config('application_name', 'x', false)", to("x")),
            (
                "SELECT set_config('application_name', $1, false)",
                Some(ApplicationChange::Unknown),
            ),
            (
                "SELECT set_config('application_name', 'a' || b, false)",
                Some(ApplicationChange::Unknown),
            ),
            ("SELECT set_config('application_name', 'x'::text, false)", to("x")),
            ("BEGIN; SET application_name = 'x'; SELECT 1", to("x")),
            ("SET application_name = 'x'; SET application_name = 'y'", to("y")),
            ("SET search_path = 'application_name'", None),
            ("SELECT 'SET application_name = 1'", None),
            ("SHOW application_name", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(change(sql, &[]), expected, "{sql}");
        }
        let sql = "SELECT set_config('application_name', $2, false), $1";
        assert_eq!(change(sql, &["other", "test_b"]), to("test_b"));
    }
}
