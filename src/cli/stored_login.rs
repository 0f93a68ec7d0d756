//! Login stored on this machine: `client.toml`, and the token beside it.
//!
//! `endpoint` decides when it is used. `client.toml` contains no secret.
//!
//! INVARIANT: the token's file is readable only by its owner from the moment it exists.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::address::ControlEndpoint;
use super::client_error::ClientError;
use crate::base::secret::Secret;
use crate::base::tls::GateTrust;

/// Stored login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredLogin {
    /// Address of its gate.
    pub(super) control: ControlEndpoint,
    /// Identity of the user when the login was made.
    pub(super) identity: String,
    /// Basis on which that gate is trusted, if one was named.
    pub(super) trust: Option<GateTrust>,
    /// Path of the token's file.
    pub(super) token_file: PathBuf,
}

/// Content of `client.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    control: String,
    identity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust: Option<String>,
}

/// Name of the file with the gate's address and the identity.
const CLIENT_FILE: &str = "client.toml";
/// Name of the file with the token.
const TOKEN_FILE: &str = "token";
/// Name of that file while it is written.
const UNFINISHED_FILE: &str = "client.new";
/// Names of the files of a login, and of those that an interrupted one may have left (`token.new` of former versions). Without the
/// first there is none.
pub(super) const LOGIN_FILES: [&str; 4] = [CLIENT_FILE, TOKEN_FILE, UNFINISHED_FILE, "token.new"];

/// Returns `$XDG_CONFIG_HOME/tidegate`, or `~/.config/tidegate`.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("tidegate"))
}

/// Returns the login, if there is one.
pub(super) fn load() -> Result<Option<StoredLogin>, ClientError> {
    folder().map_or(Ok(None), |folder| load_from(&folder))
}

/// Returns the login in a folder, if there is one.
pub(super) fn load_from(folder: &Path) -> Result<Option<StoredLogin>, ClientError> {
    let path = folder.join(CLIENT_FILE);
    let broken = |reason: String| ClientError::Login {
        path: path.clone(),
        reason,
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(broken(error.to_string())),
    };
    let file: ClientFile = toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
    let pin = file.trust.map(|pin| {
        pin.parse()
            .map_err(|error: crate::base::tls::FingerprintError| broken(error.to_string()))
    });
    Ok(Some(StoredLogin {
        control: file.control.parse()?,
        identity: file.identity,
        trust: pin.transpose()?.map(GateTrust::Pin).or(file.ca.map(GateTrust::Ca)),
        token_file: folder.join(TOKEN_FILE),
    }))
}

/// Replaces the login in a folder.
pub(super) fn store_in(
    folder: &Path,
    (control, trust): (&ControlEndpoint, &GateTrust),
    identity: &str,
    token: &Secret<String>,
) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file = ClientFile {
        control: control.to_string(),
        identity: identity.to_owned(),
        ca: match trust {
            GateTrust::Ca(path) => Some(path.clone()),
            _ => None,
        },
        trust: match trust {
            GateTrust::Pin(pin) => Some(pin.to_string()),
            _ => None,
        },
    };
    // The old login is removed first, and the token is written before the new one: an interruption leaves no login, and sends
    // no token to the wrong gate. The token alone is none, so it needs no second file, which could be left behind.
    for name in LOGIN_FILES {
        remove(&folder.join(name))?;
    }
    write_new(&folder.join(TOKEN_FILE), token.expose().as_bytes())?;
    let beside = folder.join(UNFINISHED_FILE);
    write_new(&beside, toml::to_string(&file)?.as_bytes())?;
    fs::rename(&beside, folder.join(CLIENT_FILE))?;
    Ok(())
}

/// Removes a file; returns true if there was one.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a new file, readable only by its owner from the start.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::tls::Fingerprint;
    use crate::cli::endpoint;

    #[test]
    fn stored_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("config/tidegate");
        assert_eq!(load_from(&folder).unwrap(), None);
        let control = ControlEndpoint::Tls("gate:7433".to_owned());
        let pin = GateTrust::Pin(Fingerprint::of(b"certificate"));
        for (token, trust) in [("tg_first", GateTrust::Ca("/ca.crt".into())), ("tg_second", pin)] {
            store_in(&folder, (&control, &trust), "ana", &Secret::new(token.to_owned())).unwrap();
            let login = load_from(&folder).unwrap().unwrap();
            assert_eq!((&login.control, login.identity.as_str()), (&control, "ana"));
            assert_eq!(login.trust, Some(trust));
            assert_eq!(
                endpoint::token(&endpoint::TokenFrom::Login(login.token_file))
                    .unwrap()
                    .expose(),
                token
            );
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("token")), 0o600);
        assert!(!fs::read_to_string(folder.join(CLIENT_FILE)).unwrap().contains("tg_"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn a_login_that_was_not_finished_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = |gate: &str| {
            let gate = ControlEndpoint::Tcp(gate.to_owned());
            store_in(
                dir.path(),
                (&gate, &GateTrust::Machine),
                "ana",
                &Secret::new("tg_of_that_gate".to_owned()),
            )
        };
        store("one:1").unwrap();
        fs::create_dir(dir.path().join("client.new")).unwrap();
        assert!(store("two:1").is_err());
        assert_eq!(load_from(dir.path()).unwrap(), None, "the token of two must not go to one");
    }

    #[test]
    fn what_an_interrupted_login_has_left_is_removed_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["token", "token.new", "client.new"] {
            fs::write(dir.path().join(name), "tg_of_an_interrupted_login").unwrap();
        }
        assert_eq!(load_from(dir.path()).unwrap(), None);
        let gate = ControlEndpoint::Tcp("one:1".to_owned());
        store_in(
            dir.path(),
            (&gate, &GateTrust::Machine),
            "ana",
            &Secret::new("tg_new".to_owned()),
        )
        .unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["client.toml", "token"]);
        assert_eq!(fs::read_to_string(dir.path().join("token")).unwrap(), "tg_new\n");
    }

    #[test]
    fn a_broken_login_says_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client.toml"), "color = 3").unwrap();
        let said = load_from(dir.path()).unwrap_err().to_string();
        assert!(said.contains("client.toml") && said.contains("tidegate logout"), "{said}");
    }
}
