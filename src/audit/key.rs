//! Key that signs the log's checkpoints, and public keys that verify them.
//!
//! This module knows nothing of checkpoints or the chain: it signs bytes. Ed25519 (RFC 8032); files are PEM as OpenSSL reads
//! them (RFC 8410), the private one with mode 0600 and created on first use.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::HEXLOWER;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Prefix of the 32 bytes of a seed in PKCS#8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// Prefix of the 32 bytes of a public key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Error of a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or created.
    #[error("cannot use the {} {}: {source}", kind.name, path.display())]
    Io {
        /// Kind of the file.
        kind: &'static KeyFile,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file holds no key of its kind.
    #[error("{} is not {}", path.display(), kind.content)]
    Malformed {
        /// Kind of the file.
        kind: &'static KeyFile,
        /// Path of the file.
        path: PathBuf,
    },
    /// Other users may read the file.
    #[error("other users can read the {} {} (mode {mode:03o}); chmod it to 600{}", kind.name, path.display(), kind.remedy)]
    Exposed {
        /// Kind of the file.
        kind: &'static KeyFile,
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system's random generator failed; cannot create an audit key")]
    Random,
}

/// Kind of a file with a secret key, in the words of its errors.
#[derive(Debug)]
pub struct KeyFile {
    /// Name of the key.
    pub(super) name: &'static str,
    /// Expected content.
    pub(super) content: &'static str,
    /// Alternative to another mode of the file.
    pub(super) remedy: &'static str,
}

static SIGNING_KEY: KeyFile = KeyFile {
    name: "audit key",
    content: "an Ed25519 private key in PEM (PKCS#8)",
    remedy: ", or remove it to get a new one",
};

impl KeyFile {
    pub(super) fn io(&'static self, path: &Path, source: io::Error) -> KeyError {
        let path = path.to_owned();
        KeyError::Io {
            kind: self,
            path,
            source,
        }
    }

    pub(super) fn malformed(&'static self, path: &Path) -> KeyError {
        let path = path.to_owned();
        KeyError::Malformed { kind: self, path }
    }

    /// Reads a file that no other user may read.
    pub(super) fn read(&'static self, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let metadata = std::fs::metadata(path).map_err(|error| self.io(path, error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let (kind, path) = (self, path.to_owned());
            return Err(KeyError::Exposed { kind, path, mode });
        }
        std::fs::read(path).map(Zeroizing::new).map_err(|error| self.io(path, error))
    }
}

/// Private key in memory. Its `Debug` form shows only the public half.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Loads the key in this file, or creates it, with its public half beside it (`.pub`).
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::make(path),
            answer => answer,
        }
    }

    /// Creates the successor of the key in this file, and keeps it beside: see [`Self::replace`] and [`Self::recover`].
    pub fn prepare(path: &Path) -> Result<Self, KeyError> {
        Self::write(&next(path))
    }

    /// Replaces the key in this file by the prepared one; the old key is then gone.
    pub fn replace(&self, path: &Path) -> Result<(), KeyError> {
        // The public half comes first: while the prepared key exists, a start repeats all of this.
        publish(path, &self.public())
            .and_then(|()| std::fs::rename(next(path), path))
            .and_then(|()| sync_folder(path))
            .map_err(|error| SIGNING_KEY.io(path, error))
    }

    /// Finishes an interrupted change of keys if the prepared key is the one that `signs` the log; otherwise deletes the
    /// prepared key.
    pub fn recover(path: &Path, signs: Option<PublicKey>) -> Result<(), KeyError> {
        let next = next(path);
        match Self::load(&next) {
            Ok(key) if Some(key.public()) == signs => key.replace(path),
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            // The key was never used, or is not even complete.
            Ok(_) | Err(KeyError::Malformed { .. }) => std::fs::remove_file(&next).map_err(|error| SIGNING_KEY.io(&next, error)),
            Err(error) => Err(error),
        }
    }

    /// Loads the key in this file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let pem = SIGNING_KEY.read(path)?;
        let malformed = || SIGNING_KEY.malformed(path);
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| malformed())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| malformed())?;
        Ok(Self(pair))
    }

    /// Creates a key and its file, which must not exist.
    pub fn make(path: &Path) -> Result<Self, KeyError> {
        let key = Self::write(path)?;
        publish(path, &key.public()).map_err(|error| SIGNING_KEY.io(&public_path(path), error))?;
        Ok(key)
    }

    fn write(path: &Path) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::Random)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::Random)?;
        let der = Zeroizing::new([&PKCS8_PREFIX[..], &seed[..]].concat());
        write_new(path, 0o600, &Zeroizing::new(pem("PRIVATE KEY", &der)))
            .and_then(|()| sync_folder(path))
            .map_err(|error| SIGNING_KEY.io(path, error))?;
        Ok(Self(pair))
    }

    /// Returns its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().try_into().unwrap_or_default())
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).as_ref().to_vec())
    }
}

/// Returns the path of the public half of the key in this file.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// Returns the path of the prepared successor of the key in this file.
fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// Writes the public half beside the key in this file. A leftover of an old key would mislead a verification.
fn publish(path: &Path, key: &PublicKey) -> io::Result<()> {
    let public = public_path(path);
    let next = next(&public);
    // Removes the leftover of a gate that crashed in between.
    let _ = std::fs::remove_file(&next);
    write_new(&next, 0o644, &key.pem())?;
    std::fs::rename(&next, &public)
}

/// Syncs the folder of a file: a file's name survives a power failure only after that.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Public key. As text: base 64 of its 32 bytes; PEM is parsed, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct PublicKey([u8; 32]);

/// Error for a text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key; expected PEM (`BEGIN PUBLIC KEY`) or base64 of 32 bytes")]
pub struct PublicKeyError;

impl PublicKey {
    /// Returns a short name for people: the first 16 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        HEXLOWER.encode(Sha256::digest(self.0).get(..8).unwrap_or_default())
    }

    /// Returns true if the signature of the message was made with its private half.
    #[must_use]
    pub fn proves(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, &signature.0).is_ok()
    }

    /// Returns the key in PEM as OpenSSL reads it.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI_PREFIX[..], &self.0[..]].concat())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.trim();
        let inner = text
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
        let letters: String = inner.unwrap_or(text).split_whitespace().collect();
        let bytes = BASE64.decode(letters).map_err(|_| PublicKeyError)?;
        let key = if inner.is_some() {
            bytes.strip_prefix(&SPKI_PREFIX).ok_or(PublicKeyError)?
        } else {
            &bytes
        };
        key.try_into().map(Self).map_err(|_| PublicKeyError)
    }
}

/// Signature: base 64 in text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(Vec<u8>);

impl TryFrom<String> for Signature {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text).map(Self)
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        BASE64.encode(signature.0)
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64.encode(der))
}

/// Creates a file that must not exist, with this mode, and syncs it.
pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
