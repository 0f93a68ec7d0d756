//! Admin token: created once, stored in a file that only its owner can read, compared in constant time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

use crate::base::secret::Secret;

/// Error of loading or creating the admin token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be read or created.
    #[error("cannot read or create the admin token {path}", path = path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Reason from the operating system.
        source: io::Error,
    },
    /// Others than the owner can read the file.
    #[error("other users can read the admin token {path} (mode {mode:o}); chmod it to 600, or remove it to get a new one", path = path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Mode of the file.
        mode: u32,
    },
    /// The content of the file is too short to be secret.
    #[error("the admin token {path} has fewer than {MIN_TOKEN_CHARS} letters; remove it to get a new one", path = path.display())]
    Weak {
        /// Path of the file.
        path: PathBuf,
    },
    /// The operating system provides no random numbers.
    #[error("the operating system's random generator failed")]
    Random(#[from] getrandom::Error),
}

/// Minimum length of the token; 32 hexadecimal digits are 128 bits.
const MIN_TOKEN_CHARS: usize = 32;

/// Token that identifies operators.
#[derive(Debug)]
pub struct AdminToken(Secret<String>);

impl AdminToken {
    /// Reads the token, or creates one (256 random bits, hexadecimal) if the file does not exist.
    pub fn load_or_make(path: &Path) -> Result<Self, AdminTokenError> {
        let failed = |source| AdminTokenError::File {
            path: path.to_owned(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(AdminTokenError::Exposed {
                        path: path.to_owned(),
                        mode,
                    });
                }
                let token = Secret::new(text.trim().to_owned());
                if token.expose().len() < MIN_TOKEN_CHARS {
                    return Err(AdminTokenError::Weak { path: path.to_owned() });
                }
                Ok(Self(token))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(failed(error)),
        }
    }

    fn make(path: &Path) -> Result<Self, AdminTokenError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        let token = Secret::new(HEXLOWER.encode(&bytes));
        // Write to a temporary file and rename: a crash here leaves no partial token.
        let beside = path.with_extension("new");
        let write = || {
            let _ = fs::remove_file(&beside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(token.expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|source| AdminTokenError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(token))
    }

    /// Returns true if an `Authorization` header contains the token.
    #[must_use]
    pub fn proved_by(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|text| text.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && bool::from(token.trim().as_bytes().ct_eq(self.0.expose().as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let first = AdminToken::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = AdminToken::load_or_make(&path).unwrap();
        let header = format!("Bearer {}", first.0.expose());
        assert!(again.proved_by(Some(&header)));
        assert!(again.proved_by(Some(&header.replace("Bearer", "bearer"))));
        assert!(!format!("{again:?}").contains(first.0.expose().as_str()));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some(first.0.expose().as_str()),
            Some("Bearer x"),
        ] {
            assert!(!again.proved_by(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            AdminToken::load_or_make(&path),
            Err(AdminTokenError::Exposed { mode: 0o644, .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(AdminToken::load_or_make(&path), Err(AdminTokenError::Weak { .. })));
    }
}
