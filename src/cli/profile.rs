//! `login`, `whoami`: a person's own token, stored on their machine.
//!
//! `stored_login` has its files.
//!
//! INVARIANT: the token is never printed.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::address::ControlEndpoint;
use super::args::RemoteArgs;
use super::browser;
use super::client::{ControlClient, seen};
use super::client_error::ClientError;
use super::device;
use super::endpoint::{self, EndpointEnvironment};
use super::render;
use super::speech::note;
use super::stored_login::{folder, load, store_in};
use super::wait::Interrupted;
use crate::base::secret::Secret;
use crate::base::tls::{Fingerprint, GateTrust};
use crate::control::model::Me;

/// Maximum size of a token in bytes; a JWT with many groups has some kilobytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
const MAX_TYPED_BYTES: usize = 64 * 1024;

/// Way by which a person proves who they are.
pub(super) enum SignInWay {
    /// With a token.
    Token,
    /// At a provider, of this name or the only one, with a code.
    Code(Option<String>),
    /// At the console, with the browser of this machine.
    Browser,
}

/// Checks a token at the gate, or signs in there, and stores the token or the secret of the sign-in.
pub(super) async fn login(
    config: &Path,
    remote: &RemoteArgs,
    trust: Option<GateTrust>,
    instead: SignInWay,
) -> anyhow::Result<()> {
    let folder = folder().context("cannot store the login: neither XDG_CONFIG_HOME nor HOME is set")?;
    let place = endpoint::place(config, &remote.place)?;
    let trust = settle(&place, trust).await?;
    let given = endpoint::given_token(&remote.place, &EndpointEnvironment::read());
    let stranger = ControlClient::with(place.clone(), trust.clone(), Secret::new(String::new()))?;
    let token = match (instead, given) {
        (SignInWay::Code(issuer), _) => device::sign_in(&stranger, issuer).await?,
        (SignInWay::Browser, _) => browser::sign_in(&stranger).await?,
        (SignInWay::Token, Some(from)) => endpoint::token(&from)?,
        (SignInWay::Token, None) => ask_for_token(&place)?,
    };
    if token.expose().is_empty() {
        bail!("no token given; an operator of the gate creates one: tidegate user add NAME");
    }
    let client = ControlClient::with(place.clone(), trust.clone(), token.clone())?;
    let me: Me = client.get("/v1/me", &()).await?;
    if me.source == "admin" {
        bail!("this is the admin token, not a person's; log in with a user's token (tidegate user add NAME)");
    }
    store_in(&folder, (&place, &trust), &me.name, &token)
        .with_context(|| format!("storing the login in {}", folder.display()))?;
    if place.is_exposed() {
        note(&format!("note: {place} is not encrypted; your token is sent in clear text"));
    }
    remote.show(&me, |me| format!("You are {} at {place}{}.", me.name, groups(me)))
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
    let client = ControlClient::with(place.clone(), trust.clone().unwrap_or_default(), Secret::new(String::new()))?;
    match (client.reach().await, trust) {
        (Ok(()), trust) => Ok(trust.unwrap_or_default()),
        (Err(ClientError::Untrusted { address, why, .. }), None) => {
            let seen = seen(&address).await?;
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

/// Prints the identity that the gate recognizes the user as.
pub(super) async fn whoami(config: &Path, remote: &RemoteArgs) -> anyhow::Result<()> {
    let client = remote.place.person(config)?;
    let me: Me = client.get("/v1/me", &()).await?;
    remote.show(&me, |me| {
        let until = me
            .until
            .map(|until| format!(", until {}", render::time(until)))
            .unwrap_or_default();
        format!("{} at {}{}{until}", me.name, client.address(), groups(me))
    })
}

fn groups(me: &Me) -> String {
    match (me.groups.is_empty(), me.admin) {
        (true, true) => ", administers the gate".to_owned(),
        (true, false) => ", in no group".to_owned(),
        (false, _) => format!(", in {}", render::joined(&me.groups, ", ")),
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
    let quiet = HiddenInput::start()?;
    prompt(&format!("Token for {place}: "))?;
    let token = typed(&mut input);
    drop(quiet);
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
            0x03 => return Err(Interrupted(130).into()),
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
struct HiddenInput(Termios);

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_can_be_corrected() {
        assert_eq!(typed(&mut &b"oops\x15tg_ac\x7fb\r"[..]).unwrap().expose(), "tg_ab");
        assert!(typed(&mut &b"tg_\x03"[..]).is_err());
    }
}
