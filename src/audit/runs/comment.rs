//! Comment that a program puts into its SQL to say where it comes from, in the form of sqlcommenter
//! (<https://google.github.io/sqlcommenter/spec/>): `/*key='value',key='value'*/`, with URL-encoded keys and values. Pure.
//!
//! INVARIANT: only a comment is one, as PostgreSQL reads the text: not what looks like one within a literal.

use std::borrow::Cow;

use crate::audit::event::SqlText;
use crate::protocol::lexer::{Lexer, TokenKind};

/// Key of the test.
const TEST_KEY: &str = "test";
/// Key of the trace, as W3C's Trace Context has it.
const TRACE_KEY: &str = "traceparent";
/// Length of a trace's id in hexadecimal digits.
const TRACE_ID_DIGITS: usize = 32;

/// Origin of a statement, as its comment has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StatementOrigin {
    /// Name of the test.
    pub(super) test: Option<String>,
    /// Id of the trace.
    pub(super) trace: Option<String>,
}

impl StatementOrigin {
    /// Returns the origin of a text; the first comment with a key counts for it.
    pub(super) fn of(sql: &SqlText<'_>) -> Self {
        let text = sql.text.0.as_bytes();
        let mut origin = Self::default();
        if memchr::memmem::find(text, b"/*").is_none() {
            return origin;
        }
        let Some((settings, masked)) = sql.settings().and_then(|settings| Some((settings, settings.mask(text)?))) else {
            return origin;
        };
        let mut lexer = Lexer::under(&masked, settings);
        while let Some(token) = lexer.next() {
            if token.kind == TokenKind::Comment {
                origin.add(&String::from_utf8_lossy(token.within(text).text));
            }
        }
        origin
    }

    fn add(&mut self, comment: &str) {
        let Some(mut rest) = comment.strip_prefix("/*").and_then(|inside| inside.strip_suffix("*/")) else {
            return;
        };
        while let Some((key, value, behind)) = pair(rest) {
            rest = behind;
            match &*decoded(key) {
                TEST_KEY if self.test.is_none() => self.test = Some(decoded(value).into_owned()).filter(|test| !test.is_empty()),
                TRACE_KEY if self.trace.is_none() => self.trace = trace_id(&decoded(value)).map(str::to_owned),
                _ => {}
            }
        }
    }
}

/// Returns the next key, its value as it is written, and the rest.
fn pair(rest: &str) -> Option<(&str, &str, &str)> {
    let (key, value) = rest.trim_start_matches([' ', ',', '\n', '\t']).split_once('=')?;
    let value = value.trim_start().strip_prefix('\'')?;
    let mut escaped = false;
    let end = value.find(|character| {
        let is_end = character == '\'' && !escaped;
        escaped = character == '\\' && !escaped;
        is_end
    })?;
    let (value, behind) = value.split_at_checked(end)?;
    Some((key.trim(), value, behind.strip_prefix('\'')?))
}

/// Returns a key or a value without its escapes.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+', '\\', '&']) {
        return Cow::Borrowed(text);
    }
    // A form's value is URL-encoded; `&` would end it.
    let field = format!("v={}", text.replace("\\'", "'").replace("\\\\", "\\").replace('&', "%26"));
    let value = form_urlencoded::parse(field.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned());
    Cow::Owned(value.unwrap_or_default())
}

/// Returns the trace's id: `00-TRACE-SPAN-FLAGS`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let is_id =
        id.len() == TRACE_ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0');
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::event::OutsideText;

    fn origin(sql: &str) -> (Option<String>, Option<String>) {
        let StatementOrigin { test, trace } = StatementOrigin::of(&SqlText::whole(OutsideText(Cow::Borrowed(sql))));
        (test, trace)
    }

    fn test(sql: &str) -> Option<String> {
        origin(sql).0
    }

    #[test]
    fn a_test_and_a_trace_are_read_from_a_comment() {
        let sql = "SELECT 1 /*action='%2Fparam*d',framework='spring',\
                   traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01',test='test_orders.py%3A%3Atest_a%5B1%5D'*/";
        assert_eq!(
            origin(sql),
            (
                Some("test_orders.py::test_a[1]".to_owned()),
                Some("5bd66ef5095369c7b0d1f8f4bd33716a".to_owned())
            )
        );
        assert_eq!(test("/* test='a' */ SELECT 1").as_deref(), Some("a"));
        assert_eq!(
            test(r"SELECT 1 /*test='it\'s 100%25 a\\b'*/").as_deref(),
            Some(r"it's 100% a\b")
        );
        assert_eq!(test("SELECT 1 /*test='a&b=c+d'*/").as_deref(), Some("a&b=c d"));
        assert_eq!(test("SELECT 1 /*test='one'*/ /*test='two'*/").as_deref(), Some("one"));
    }

    #[test]
    fn what_is_no_such_comment_says_nothing() {
        for sql in [
            "SELECT 1",
            "SELECT '/*test=''a''*/'",
            "SELECT $$ /*test='a'*/ $$",
            "SELECT 1 -- /*test='a'*/",
            "SELECT 1 /* a test */",
            "SELECT 1 /*test=a*/",
            "SELECT 1 /*test='a*/",
            "SELECT 1 /*test=''*/",
            "SELECT 1 /*tests='a'*/",
            "SELECT 1 /*traceparent='00-00000000000000000000000000000000-1-01'*/",
            "SELECT 1 /*traceparent='00-xyz-1-01'*/",
        ] {
            assert_eq!(origin(sql), (None, None), "{sql}");
        }
    }

    proptest! {
        /// Any name comes back as sqlcommenter's libraries write it.
        #[test]
        fn any_name_comes_back(name in "\\PC{1,40}") {
            let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            prop_assert_eq!(test(&format!("SELECT 1 /*test='{encoded}'*/")), Some(name));
        }

        #[test]
        fn any_comment_is_taken_apart(text in "[/*a-z='\\\\, %+]{0,60}") {
            let _ = origin(&format!("SELECT 1 /*{text}*/"));
        }
    }
}
