//! `login`, `logout`, `whoami`: a person's own token, stored on their machine.
//!
//! `reach` decides when the login is used. `client.toml` contains no secret.
//!
//! INVARIANT: the token's file is readable only by its owner from the moment it exists, and the token is never printed.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};

use super::args::RemoteArgs;
use super::client::{ClientError, ControlClient};
use super::connect::{self, ControlEndpoint, address};
use super::endpoint::{self, EndpointEnvironment, UsualCaller};
use super::render;
use super::speech::note;
use crate::base::secret::Secret;
use crate::base::tls::{Fingerprint, GateTrust};
use crate::control::model::Me;

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
/// Maximum size of a token in bytes; a JWT with many groups has some kilobytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
const MAX_TYPED_BYTES: usize = 64 * 1024;

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

fn load_from(folder: &Path) -> Result<Option<StoredLogin>, ClientError> {
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
        control: address(&file.control)?,
        identity: file.identity,
        trust: pin.transpose()?.map(GateTrust::Pin).or(file.ca.map(GateTrust::Ca)),
        token_file: folder.join("token"),
    }))
}

fn store_in(
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
    // no token to the wrong gate.
    match fs::remove_file(folder.join(CLIENT_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    replace(&folder.join("token"), token.expose().as_bytes())?;
    replace(&folder.join(CLIENT_FILE), toml::to_string(&file)?.as_bytes())?;
    Ok(())
}

/// Writes a temporary file and renames it, so that there is never a partial file; readable only by its owner from the start.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    fs::rename(&beside, path)
}

/// Checks a token at the gate and stores it.
pub(super) async fn login(config: &Path, remote: &RemoteArgs, trust: Option<GateTrust>) -> anyhow::Result<()> {
    let folder = folder().context("cannot store the login: neither XDG_CONFIG_HOME nor HOME is set")?;
    let place = endpoint::place(config, &remote.place)?;
    let trust = settle(&place, trust).await?;
    let token = match endpoint::given_token(&remote.place, &EndpointEnvironment::read()) {
        Some(from) => endpoint::token(&from)?,
        None => ask_for_token(&place)?,
    };
    if token.expose().is_empty() {
        bail!("no token given; an operator of the gate creates one: tidegate user add NAME");
    }
    let client = ControlClient::with(place.clone(), trust.clone(), token.clone());
    let me: Me = client.get("/v1/me", &()).await?;
    if me.source == "admin" {
        bail!("this is the admin token, not a person's; log in with a user's token (tidegate user add NAME)");
    }
    store_in(&folder, (&place, &trust), &me.name, &token)
        .with_context(|| format!("storing the login in {}", folder.display()))?;
    if place.is_exposed() {
        note(&format!("note: {place} is not encrypted; your token is sent in clear text"));
    }
    render::show(remote.printing.output, &me, |me| {
        format!("You are {} at {place}{}.", me.name, groups(me))
    })
}

/// Determines the basis on which the gate is trusted, before a token is asked for, let alone sent.
async fn settle(place: &ControlEndpoint, named: Option<GateTrust>) -> anyhow::Result<GateTrust> {
    let trust = match named {
        // The stored path must mean the same from every folder.
        Some(GateTrust::Ca(path)) => {
            let whole = fs::canonicalize(&path).with_context(|| format!("--ca {}", path.display()))?;
            Some(GateTrust::Ca(whole))
        }
        Some(pin) => Some(pin),
        // A login that cannot be read is about to be replaced.
        None => endpoint::trust(place, &EndpointEnvironment::read(), load().ok().flatten().as_ref())?,
    };
    let tried = connect::connect(place, &trust.clone().unwrap_or_default()).await;
    match (tried, trust) {
        (Ok(_), trust) => Ok(trust.unwrap_or_default()),
        (Err(ClientError::Untrusted { address, why, .. }), None) => {
            let seen = connect::seen(&address).await?;
            match seen {
                Some(seen) if believed(&address, &why, seen)? => Ok(GateTrust::Pin(seen)),
                _ => Err(ClientError::Untrusted { address, why, seen }.into()),
            }
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// Asks the user whether a certificate is the gate's; without a terminal the answer is no.
fn believed(address: &ControlEndpoint, why: &str, seen: Fingerprint) -> io::Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(false);
    }
    let why = render::visible(why);
    prompt(&format!(
        "The certificate of the gate at {address} is not trusted: {why}.\n\
         Its SHA-256 is {seen}\n\
         Compare it with `tidegate fingerprint` on the gate's machine, or with the gate's log at its start. Trust this certificate permanently? [y/N] "
    ))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Removes the login.
pub(super) fn logout() -> anyhow::Result<()> {
    let Some(folder) = folder() else { return Ok(()) };
    let mut found = false;
    for name in ["token", "client.toml"] {
        match fs::remove_file(folder.join(name)) {
            Ok(()) => found = true,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).with_context(|| format!("removing {}", folder.join(name).display())),
        }
    }
    render::print(if found {
        "Logged out. The token stays valid until `tidegate user rotate NAME` replaces it."
    } else {
        "No login is stored here."
    })?;
    Ok(())
}

/// Prints the identity that the gate recognizes the user as.
pub(super) async fn whoami(config: &Path, remote: &RemoteArgs) -> anyhow::Result<()> {
    let client = ControlClient::new(UsualCaller::Person, config, &remote.place)?;
    let me: Me = client.get("/v1/me", &()).await?;
    render::show(remote.printing.output, &me, |me| {
        format!("{} at {}{}", me.name, client.address(), groups(me))
    })
}

fn groups(me: &Me) -> String {
    let groups: Vec<&str> = me.groups.iter().map(crate::model::names::GroupName::as_str).collect();
    match (groups.as_slice(), me.admin) {
        ([], true) => ", administers the gate".to_owned(),
        ([], false) => ", in no group".to_owned(),
        (some, _) => format!(", in {}", some.join(", ")),
    }
}

/// Reads the token from standard input, without echo on a terminal.
fn ask_for_token(place: &ControlEndpoint) -> anyhow::Result<Secret<String>> {
    let mut input = io::stdin().lock();
    if !input.is_terminal() {
        let mut text = String::new();
        input.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        return Ok(Secret::new(text.trim().to_owned()));
    }
    // Echo is disabled before the prompt, so that characters typed right after it are not shown either.
    let mut quiet = HiddenInput::start()?;
    prompt(&format!("Token for {place}: "))?;
    let token = typed(&mut input);
    quiet.end();
    prompt("\n")?;
    token
}

/// Reads one line, key by key.
fn typed(input: &mut impl Read) -> anyhow::Result<Secret<String>> {
    let mut line = Vec::new();
    let mut key = [0_u8];
    // The end of the input ends the line too.
    while line.len() < MAX_TYPED_BYTES && input.read(&mut key)? > 0 {
        let [key] = key;
        match key {
            b'\n' | b'\r' | 0x04 => break,
            // Ctrl-C is a key here, so that the terminal is restored before the exit.
            0x03 => return Err(super::Interrupted(130).into()),
            0x08 | 0x7f => drop(line.pop()),
            // Ctrl-U
            0x15 => line.clear(),
            key => line.push(key),
        }
    }
    let text = String::from_utf8(line).context("a token is plain text")?;
    Ok(Secret::new(text.trim().to_owned()))
}

fn prompt(text: &str) -> io::Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Terminal without echo, until dropped.
struct HiddenInput(Option<Termios>);

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(Some(before)))
    }

    fn end(&mut self) {
        if let Some(before) = self.0.take() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
    fn a_broken_login_says_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client.toml"), "color = 3").unwrap();
        let said = load_from(dir.path()).unwrap_err().to_string();
        assert!(said.contains("client.toml") && said.contains("tidegate logout"), "{said}");
    }

    #[test]
    fn typing_can_be_corrected() {
        assert_eq!(typed(&mut &b"oops\x15tg_ac\x7fb\r"[..]).unwrap().expose(), "tg_ab");
        assert!(typed(&mut &b"tg_\x03"[..]).is_err());
    }
}
