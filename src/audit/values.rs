//! Recording of parameter values: in full, as keyed hashes, or not at all; and the key for the hashes.
//!
//! This module formats no value: it hashes the text that would have been recorded. The same key hashes statements that were
//! blanked or cut.
//!
//! INVARIANT: without the key, a hashed value reveals only whether it is equal to another one of the same log. A plain hash
//! would not suffice: numbers, names and dates are few enough to be tried one by one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::hmac;
use zeroize::Zeroizing;

use super::key::{KeyError, KeyFile, write_new};

/// Configured form in which parameters are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParameterPolicy {
    /// Values themselves.
    #[default]
    Full,
    /// Keyed hash of each value.
    Hashed,
    /// Number of values only.
    None,
}

/// Form in which parameters are recorded, with the key that it needs.
#[derive(Debug, Clone, Default)]
pub enum ParameterDisplay {
    /// Values themselves.
    #[default]
    Full,
    /// Keyed hash of each value.
    Hashed(ValueKey),
    /// Number of values only.
    None,
}

static VALUE_KEY: KeyFile = KeyFile {
    name: "key for hashed parameters",
    content: "a key for hashed parameters; expected 64 hexadecimal digits",
    remedy: "",
};

/// Key that hashes the values of one log. Its `Debug` form does not show it.
#[derive(Debug, Clone)]
pub struct ValueKey(Arc<hmac::Key>);

impl ValueKey {
    /// Loads the key in this file, or creates one (mode 0600).
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let text = match VALUE_KEY.read(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Self::make(path).map_err(|error| VALUE_KEY.io(path, error));
            }
            text => text?,
        };
        let digits = text.trim_ascii();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(VALUE_KEY.malformed(path));
        }
        Ok(Self::of(digits))
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *seed).map_err(io::Error::other)?;
        let digits = Zeroizing::new(HEXLOWER.encode(&*seed));
        write_new(path, 0o600, &Zeroizing::new(format!("{}\n", *digits)))?;
        Ok(Self::of(digits.as_bytes()))
    }

    fn of(digits: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &digits.to_ascii_lowercase())))
    }

    /// Returns the hash of a value, in hexadecimal: 16 bytes, enough to make equal hashes of two values practically impossible.
    #[must_use]
    pub fn hash(&self, value: &[u8]) -> String {
        short(&hmac::sign(&self.0, value))
    }

    /// Returns the hash of a text, in hexadecimal: all 32 bytes.
    #[must_use]
    pub fn hash_text(&self, text: &[u8]) -> String {
        HEXLOWER.encode(hmac::sign(&self.0, text).as_ref())
    }

    /// Begins the hash of data that comes in pieces.
    #[must_use]
    pub fn begin(&self) -> KeyedHash {
        KeyedHash(hmac::Context::with_key(&self.0))
    }

    /// Returns a key of its own for a test.
    #[cfg(test)]
    #[must_use]
    pub fn for_test() -> Self {
        Self::of(&[b'0'; 64])
    }
}

/// Keyed hash of data that comes in pieces.
#[derive(Debug, Clone)]
pub struct KeyedHash(hmac::Context);

impl KeyedHash {
    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the hash as [`ValueKey::hash`] does.
    #[must_use]
    pub fn value(self) -> String {
        short(&self.0.sign())
    }

    /// Returns the hash as [`ValueKey::hash_text`] does.
    #[must_use]
    pub fn text(self) -> String {
        HEXLOWER.encode(self.0.sign().as_ref())
    }
}

fn short(tag: &hmac::Tag) -> String {
    HEXLOWER.encode(tag.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = ValueKey::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = ValueKey::load_or_make(&path).unwrap();
        assert_eq!(made.hash(b"x"), loaded.hash(b"x"));
        assert_ne!(made.hash(b"x"), made.hash(b"y"));
        let other = ValueKey::load_or_make(&folder.path().join("other")).unwrap();
        assert_ne!(made.hash(b"x"), other.hash(b"x"));
    }

    #[test]
    fn a_file_that_is_no_key_or_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        ValueKey::load_or_make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            ValueKey::load_or_make(&path),
            Err(KeyError::Exposed { mode: 0o640, .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(ValueKey::load_or_make(&path), Err(KeyError::Malformed { .. })));
    }
}
