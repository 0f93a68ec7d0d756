//! Hash chain that binds each line of the log to all lines before it.
//!
//! This module only computes: it holds no file, signs nothing (checkpoints do) and does not look at what a line contains.
//!
//! INVARIANT: `link(n) = SHA-256(link(n-1) || body(n))`, where `body(n)` is the line from its opening brace up to, and without,
//! `,"chain":"`; `link(0)` is 32 zero bytes. The line shows the first [`MARK_DIGITS`] hexadecimal digits of its link. All lines, and
//! nothing else, are needed to follow the chain.
//!
//! A mark is shorter than its link on purpose. It only locates a fault: the proof of a line is the whole link in a signed
//! checkpoint after it, and an unsigned line could be forged with a mark of any length. The rest would be a fifth of the log,
//! and does not compress.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::{Digest, Sha256};

use super::text::decimal;

/// Start of a line before its sequence number; the version is [`super::VERSION`].
const LINE_HEAD: &[u8] = br#"{"v":2,"seq":"#;
/// Number of hexadecimal digits of its link that a line shows.
pub const MARK_DIGITS: usize = 16;
/// Separator between a line's body and its mark.
const MARK_PREFIX: &[u8] = br#","chain":""#;
/// End of a line.
const LINE_END: &[u8] = b"\"}";
/// Number of bytes of a line after its body, without the newline.
const TAIL_BYTES: usize = MARK_PREFIX.len() + MARK_DIGITS + LINE_END.len();

/// First [`MARK_DIGITS`] digits of a link, as a line shows them.
#[derive(Clone, Copy, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct LinkMark([u8; MARK_DIGITS]);

impl Default for LinkMark {
    /// Returns the mark before the first line: zeros.
    fn default() -> Self {
        Self([b'0'; MARK_DIGITS])
    }
}

impl fmt::Display for LinkMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for LinkMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LinkMark {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        // Only lower-case digits are ever written.
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mark = text.as_bytes().try_into().ok().filter(|_| digits);
        mark.map(Self).ok_or(LinkError)
    }
}

/// State of the chain after a line.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct ChainLink([u8; 32]);

/// Error for a text that is not a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hash of the chain; expected 64 hexadecimal digits")]
pub struct LinkError;

impl ChainLink {
    /// Link before the first line.
    pub const START: Self = Self([0; 32]);

    /// Returns the link after one more line.
    #[must_use]
    pub fn after(self, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(body);
        Self(hash.finalize().into())
    }

    /// Returns the mark of this link.
    #[must_use]
    pub fn mark(self) -> LinkMark {
        let mut mark = [0; MARK_DIGITS];
        HEXLOWER.encode_mut(&self.0[..MARK_DIGITS / 2], &mut mark);
        LinkMark(mark)
    }
}

impl fmt::Display for ChainLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let link = HEXLOWER.decode(text.as_bytes()).map_err(|_| LinkError)?;
        link.try_into().map(Self).map_err(|_| LinkError)
    }
}

/// End of the log: the number of its last line and the state of the chain after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainTip {
    /// Number of the last line; 0 before the first.
    pub seq: u64,
    /// Link after that line.
    pub link: ChainLink,
}

impl ChainTip {
    /// Tip before the first line.
    pub const START: Self = Self {
        seq: 0,
        link: ChainLink::START,
    };

    /// Gives a line its number and its place in the chain, and appends it to `out`. Lines become final only here.
    ///
    /// `line` comes from [`super::encode`]: a line without its head that ends in `}` and a newline.
    #[must_use]
    pub(super) fn seal(self, out: &mut Vec<u8>, line: &[u8]) -> Self {
        let start = out.len();
        let seq = self.seq + 1;
        head(out, seq, line);
        let after = self.link.after(out.get(start..).unwrap_or_default());
        tail(out, after.mark());
        Self { seq, link: after }
    }
}

/// Appends a line whose number and mark are known.
pub(super) fn seal_as(out: &mut Vec<u8>, seq: u64, line: &[u8], mark: LinkMark) {
    head(out, seq, line);
    tail(out, mark);
}

fn head(out: &mut Vec<u8>, seq: u64, line: &[u8]) {
    out.extend_from_slice(LINE_HEAD);
    decimal(out, seq);
    out.push(b',');
    out.extend_from_slice(line.strip_suffix(b"}\n").unwrap_or(line));
}

fn tail(out: &mut Vec<u8>, mark: LinkMark) {
    out.extend_from_slice(MARK_PREFIX);
    out.extend_from_slice(&mark.0);
    out.extend_from_slice(LINE_END);
    out.push(b'\n');
}

/// Splits a line (without its newline) into body and mark; `None` if it has no mark.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&[u8], LinkMark)> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL_BYTES)?)?;
    let mark = tail.strip_prefix(MARK_PREFIX)?.strip_suffix(LINE_END)?;
    Some((body, LinkMark(mark.try_into().ok()?)))
}

/// Returns the digits of a line's number and the rest after them; `None` if it does not begin like a line.
pub(super) fn open(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(LINE_HEAD)?;
    rest.split_at_checked(rest.iter().position(|byte| !byte.is_ascii_digit())?)
}

/// Returns the number of a line, read from its first bytes (40 are enough).
#[must_use]
pub fn number(line: &[u8]) -> Option<u64> {
    let (digits, rest) = open(line)?;
    let written = rest.starts_with(b",") && !digits.starts_with(b"0");
    std::str::from_utf8(digits).ok().filter(|_| written)?.parse().ok()
}

/// Reason why a line does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreach {
    /// The line has no number or no mark.
    #[error("it is not a record of this log")]
    Foreign,
    /// The line's number is not the next one.
    #[error("its number is {found}, expected {expected}")]
    Number {
        /// Number that is due.
        expected: u64,
        /// Number of the line.
        found: u64,
    },
    /// The content of this line, or of one before it, is not as it was written.
    #[error("its content does not match the hash chain")]
    Changed,
}

impl ChainTip {
    /// Returns the tip after this line (without its newline), if it is the line that was written there.
    pub fn follow(self, line: &[u8]) -> Result<Self, ChainBreach> {
        let (body, mark) = split(line).ok_or(ChainBreach::Foreign)?;
        let found = number(line).ok_or(ChainBreach::Foreign)?;
        let seq = self.seq + 1;
        let after = self.link.after(body);
        if found != seq {
            return Err(ChainBreach::Number { expected: seq, found });
        }
        if after.mark() != mark {
            return Err(ChainBreach::Changed);
        }
        Ok(Self { seq, link: after })
    }
}

#[cfg(test)]
mod tests;
