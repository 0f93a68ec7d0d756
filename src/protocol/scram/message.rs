//! Reader of the attributes of a SCRAM message, in order.
//!
//! It does not know which message has which attributes.
//!
//! INVARIANT: a reader only moves forward, and its results are slices of the input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{MAX_MESSAGE, ScramError};

/// Reader of `name=value` attributes, separated by commas (RFC 5802 section 7).
pub(super) struct MessageAttributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> MessageAttributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// Reads the next attribute: its one-letter name and its value.
    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, ScramError> {
        let Some(rest) = self.rest else { return Ok(None) };
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        match attribute.split_once('=') {
            Some((name, value)) => {
                let mut letters = name.chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) if letter.is_ascii_alphabetic() => Ok(Some((letter, value))),
                    _ => Err(malformed("an attribute name must be one letter")),
                }
            }
            None => Err(malformed("an attribute without a value")),
        }
    }

    /// Reads the next attribute, which must have the name `letter`.
    pub(super) fn expect(&mut self, letter: char, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == letter => Ok(value),
            _ => Err(malformed(missing)),
        }
    }

    /// Skips extensions; all are unknown here, and they are optional (RFC 5802 section 5.1).
    pub(super) fn skip_extensions(&mut self) -> Result<(), ScramError> {
        while let Some((letter, _)) = self.next()? {
            mandatory(letter)?;
        }
        Ok(())
    }
}

/// Rejects `m=`, which announces an extension that must be understood; none is supported.
pub(super) fn mandatory(letter: char) -> Result<(), ScramError> {
    if letter == 'm' {
        return Err(ScramError::Unsupported {
            what: "a mandatory extension",
        });
    }
    Ok(())
}

/// Returns the message as text if it is short enough, UTF-8 and without NUL.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE {
        return Err(ScramError::TooLong { length: message.len() });
    }
    if message.contains(&0) {
        return Err(malformed("a NUL byte"));
    }
    std::str::from_utf8(message).map_err(|_| malformed("not UTF-8"))
}

/// Returns true if the text consists of characters allowed in a nonce: `printable` of RFC 5802 section 7.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x2b | 0x2d..=0x7e))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| malformed(what))
}

pub(super) fn malformed(what: &'static str) -> ScramError {
    ScramError::Malformed { what }
}
