//! The attributes of a SCRAM message, read in order.
//!
//! It does not know which message has which attributes. The law it keeps: a reader only moves forward, and what it gives out
//! is a slice of the input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{MAX_MESSAGE, ScramError};

/// Reads `name=value` attributes, separated by commas (RFC 5802 section 7).
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The next attribute: its one-letter name and its value.
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

    /// The next attribute, which must be the one named.
    pub(super) fn expect(&mut self, letter: char, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == letter => Ok(value),
            _ => Err(malformed(missing)),
        }
    }

    /// Passes over extensions, which we do not know and which are optional (RFC 5802 section 5.1).
    pub(super) fn skip_extensions(&mut self) -> Result<(), ScramError> {
        while let Some((letter, _)) = self.next()? {
            mandatory(letter)?;
        }
        Ok(())
    }
}

/// `m=` announces an extension that must be understood; we know none.
pub(super) fn mandatory(letter: char) -> Result<(), ScramError> {
    if letter == 'm' {
        return Err(ScramError::Unsupported {
            what: "a mandatory extension",
        });
    }
    Ok(())
}

/// The message as text, if it is short enough and has no NUL.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE {
        return Err(ScramError::TooLong { length: message.len() });
    }
    if message.contains(&0) {
        return Err(malformed("a NUL byte"));
    }
    std::str::from_utf8(message).map_err(|_| malformed("not UTF-8"))
}

/// `printable` of RFC 5802 section 7: what a nonce may consist of.
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
