//! Certificates with which a program verifies the gate, stored in files that its environment names.
//!
//! One pure function, [`choose`], decides. Only certificates are written, which are no secret.
//!
//! INVARIANT: the user's own settings are never weakened, and their own certificates are never left out.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::super::address::ControlEndpoint;
use super::super::client::ControlClient;
use super::super::speech::complain;
use super::super::stored_login;
use crate::base::tls::GateTrust;
use crate::control::model::GrantLoginBody;

/// Strictness of a client's verification, with libpq's names and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn of(text: &str) -> Option<Self> {
        Self::from_str(text, false).ok()
    }
}

/// Variables about certificates that are to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerificationVariables {
    pub(super) sslmode: SslMode,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) node_certificates: Option<PathBuf>,
    /// Mode that the user has set.
    pub(super) own: Option<SslMode>,
}

/// Settings of the user, without those that an earlier `tidegate env` left in the shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct UserSslSettings {
    sslmode: Option<SslMode>,
    root_certificates: Option<PathBuf>,
    node_certificates: Option<PathBuf>,
}

impl UserSslSettings {
    fn read(folder: Option<&Path>) -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let ours = |path: &PathBuf| folder.is_some_and(|folder| path.starts_with(folder));
        let root = path("PGSSLROOTCERT");
        let left_by_us = root.as_ref().is_some_and(ours);
        let mode = std::env::var("PGSSLMODE").ok();
        Self {
            sslmode: mode.filter(|_| !left_by_us).and_then(|mode| SslMode::of(&mode)),
            root_certificates: root.filter(|_| !left_by_us),
            node_certificates: path("NODE_EXTRA_CA_CERTS"),
        }
    }
}

/// Maximum size in bytes of a certificate file that is joined with the gate's; that of a whole system has 220 kB.
const MAX_BUNDLE_BYTES: u64 = 4 << 20;

/// Files with the certificates that a system trusts: Debian, Fedora, Alpine and macOS.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

impl VerificationVariables {
    /// Chooses by the gate's own information, received over a verified connection, and stores the gate's certificate.
    pub(super) fn of(login: &GrantLoginBody, client: &ControlClient) -> Self {
        let folder = stored_login::folder().map(|folder| folder.join("certificates"));
        let own = UserSslSettings::read(folder.as_deref());
        let kept = match (&login.certificate, client.trust()) {
            (Some(pem), _) => kept(folder.as_deref(), pem.as_bytes()),
            (None, GateTrust::Ca(path)) => fs::canonicalize(path).map(Some),
            (None, GateTrust::Machine) if matches!(client.address(), ControlEndpoint::Tls(_)) => {
                Ok(SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()))
            }
            (None, _) => Ok(None),
        };
        let root = kept.unwrap_or_else(|error| {
            complain(&format!(
                "cannot write the gate's certificate to a file, so clients cannot verify it: {error}"
            ));
            None
        });
        let node = root
            .as_deref()
            .and_then(|root| joined(folder.as_deref(), own.node_certificates.as_deref(), root));
        choose(&own, SslMode::of(&login.sslmode), root, node)
    }
}

/// Chooses the variables. `root` and `node` are the files with the gate's certificates, if there are any.
fn choose(
    own: &UserSslSettings,
    offered: Option<SslMode>,
    root: Option<PathBuf>,
    node: Option<PathBuf>,
) -> VerificationVariables {
    let ours = root.filter(|_| own.root_certificates.is_none());
    let least = match (&ours, offered) {
        (Some(_), Some(offered)) => offered.max(SslMode::Require),
        _ => SslMode::Require,
    };
    VerificationVariables {
        sslmode: own.sslmode.map_or(least, |own| own.max(least)),
        root_certificates: ours,
        node_certificates: node,
        own: own.sslmode,
    }
}

/// Stores certificates under their hash as the name, so that a file in use by another program never changes.
fn kept(folder: Option<&Path>, pem: &[u8]) -> io::Result<Option<PathBuf>> {
    let Some(folder) = folder else {
        let reason = "neither XDG_CONFIG_HOME nor HOME is set";
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    };
    let path = folder.join(format!("{}.pem", HEXLOWER.encode(&Sha256::digest(pem))));
    if fs::read(&path).is_ok_and(|held| held == pem) {
        return Ok(Some(path));
    }
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(pem)?;
    file.persist(&path).map_err(|failed| failed.error)?;
    Ok(Some(path))
}

/// Returns the single file that Node.js reads besides its own CAs: the user's, with the gate's certificate appended. Returns
/// `None` if the user's file already contains it.
fn joined(folder: Option<&Path>, own: Option<&Path>, root: &Path) -> Option<PathBuf> {
    // Node.js treats a missing file as an empty one.
    let Some(held) = own.and_then(|own| read(own).ok()) else {
        return Some(root.to_owned());
    };
    let gate = read(root).ok()?;
    if contains(&held, gate.trim_ascii()) {
        return None;
    }
    match kept(folder, &[held.as_slice(), b"\n", &gate].concat()) {
        Ok(path) => path,
        Err(error) => {
            complain(&format!("cannot add the gate's certificate to NODE_EXTRA_CA_CERTS: {error}"));
            None
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_BUNDLE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(own: &UserSslSettings, offered: &str, root: bool) -> (String, bool) {
        let chosen = choose(own, SslMode::of(offered), root.then(|| "/gate.pem".into()), None);
        (chosen.sslmode.name(), chosen.root_certificates.is_some())
    }

    #[test]
    fn what_the_user_has_set_is_never_made_weaker() {
        let own = |sslmode: &str, root: Option<&str>| UserSslSettings {
            sslmode: SslMode::of(sslmode),
            root_certificates: root.map(PathBuf::from),
            node_certificates: None,
        };
        for (own, offered, root, expected) in [
            (own("", None), "verify-full", true, ("verify-full", true)),
            (own("", None), "verify-ca", true, ("verify-ca", true)),
            (own("disable", None), "verify-full", true, ("verify-full", true)),
            (own("verify-full", None), "verify-ca", true, ("verify-full", true)),
            (own("verify-full", None), "verify-full", false, ("verify-full", false)),
            (own("", None), "verify-full", false, ("require", false)),
            (own("", None), "", true, ("require", true)),
            (own("", Some("/own.pem")), "verify-full", true, ("require", false)),
            (own("verify-ca", Some("/own.pem")), "verify-full", true, ("verify-ca", false)),
        ] {
            let (sslmode, root_set) = chosen(&own, offered, root);
            assert_eq!((sslmode.as_str(), root_set), expected, "{own:?} {offered} {root}");
        }
    }

    #[test]
    fn certificates_are_kept_once_and_joined_with_the_users() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("certificates");
        let gate = kept(Some(&folder), b"GATE\n").unwrap().unwrap();
        assert_eq!(kept(Some(&folder), b"GATE\n").unwrap(), Some(gate.clone()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // A file that was cut short is made anew.
        fs::write(&gate, "GA").unwrap();
        kept(Some(&folder), b"GATE\n").unwrap();
        assert_eq!(fs::read(&gate).unwrap(), b"GATE\n");

        assert_eq!(joined(Some(&folder), None, &gate), Some(gate.clone()));
        assert_eq!(
            joined(Some(&folder), Some(Path::new("/nonexistent")), &gate),
            Some(gate.clone())
        );
        let own = dir.path().join("corporate.pem");
        fs::write(&own, "CORPORATE\n").unwrap();
        let both = joined(Some(&folder), Some(&own), &gate).unwrap();
        assert_eq!(fs::read(&both).unwrap(), b"CORPORATE\n\nGATE\n");
        assert_eq!(joined(Some(&folder), Some(&both), &gate), None);
        assert!(kept(None, b"GATE").is_err());
    }
}
