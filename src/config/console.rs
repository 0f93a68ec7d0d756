//! `[console]`: where the console is, and how long people stay signed in.
//!
//! It serves no page and signs nobody in.

use std::net::SocketAddr;
use std::time::Duration;

use super::key::{keys, section};
use super::reader::TableSection;
use crate::base::tls::web_address;
use crate::model::sign_in::SignInLimits;

/// Shortest life of a sign-in, and shortest time without a use.
const MIN_DURATION: Duration = Duration::from_mins(1);

section! {
    /// Address of the console, and sign-ins of people there and at the command line.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConsoleTable {
        /// A loopback address for the browsers of this machine, with the [console](console.md) and the API, without TLS. The
        /// console is at `control.listen` too.
        listen: Option<SocketAddr> = |key| key.parsed("loopback IP address and port", loopback).or_none("none");
        /// Address where people open the console: https, or http to a loopback address. Messages link to it, and providers send
        /// browsers back to it, to `/signin/callback/HOST`.
        address: Option<String> = |key| key.parsed("address", origin).or_none("that of `control.listen`, or of `listen` here");
        /// The longest life of a sign-in. It ends earlier with the token that it was made with.
        max_sign_in: Duration = |key| key.duration(MIN_DURATION).or(SignInLimits::default().longest);
        /// A sign-in ends when it is not used for this long.
        idle_timeout: Duration = |key| key.duration(MIN_DURATION).or(SignInLimits::default().idle);
        /// A sign-in at the console counts only from the address that it was made from, so a cookie that was stolen counts nowhere
        /// else. People whose address changes have to sign in again.
        bind_address: bool = |key| key.yes_no().or(SignInLimits::default().bind_address);
    }
}

/// Reads `[console]`; its address is another than those of the gate and of the control API.
pub(super) fn read(table: &TableSection<'_>, taken: &[SocketAddr], control: Option<SocketAddr>) -> ConsoleTable {
    let console = ConsoleTable::read(table);
    if let Some(listen) = console.listen.filter(|listen| listen.port() != 0) {
        let other = taken.contains(&listen).then_some("listen");
        if let Some(other) = other.or((control == Some(listen)).then_some("control.listen")) {
            let remedy = "use another port for the console; at `control.listen` it is without this key";
            table.broken_rule("listen", format!("{listen} is also in `{other}`"), remedy);
        }
    }
    console
}

/// Parses the address of a host: a scheme, a name, perhaps a port.
fn origin(text: &str) -> Result<String, String> {
    let url = web_address(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "it has a path; write the scheme, the host and the port alone, like https://gate.example.org:7433".to_owned(),
        );
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

impl ConsoleTable {
    /// Returns the address where people open the console, as far as it is known before the gate listens: without its last
    /// slash. `control` is the control API's, with TLS or without.
    #[must_use]
    pub fn address(&self, control: Option<SocketAddr>, tls: bool) -> Option<String> {
        let own = |listen: SocketAddr, scheme: &str| {
            let known = listen.port() != 0 && !listen.ip().is_unspecified();
            known.then(|| format!("{scheme}://{listen}"))
        };
        let scheme = if tls { "https" } else { "http" };
        let named = self.address.as_ref().map(|address| address.trim_end_matches('/').to_owned());
        named.or_else(|| own(control?, scheme)).or_else(|| own(self.listen?, "http"))
    }

    /// Returns the limits on sign-ins.
    #[must_use]
    pub fn sign_ins(&self) -> SignInLimits {
        SignInLimits {
            longest: self.max_sign_in,
            idle: self.idle_timeout,
            bind_address: self.bind_address,
        }
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is not an IP address and a port; write 127.0.0.1:7480 or [::1]:7480"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{address} is reachable from other machines, in clear text; use 127.0.0.1 here, and control.listen for others"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{ConfigMistake, GateSettings, from_text};

    fn load(lines: &str) -> Result<GateSettings, Vec<String>> {
        let text = format!("[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n{lines}");
        from_text(Path::new("tidegate.toml"), &text).map_err(|mistakes| mistakes.iter().map(ConfigMistake::to_string).collect())
    }

    #[test]
    fn the_address_is_named_or_that_of_a_listener() {
        for (lines, link) in [
            ("", None),
            ("[console]\nlisten = \"127.0.0.1:7480\"", Some("http://127.0.0.1:7480")),
            (
                "[console]\nlisten = \"127.0.0.1:7480\"\n[control]\nlisten = \"127.0.0.1:7433\"",
                Some("http://127.0.0.1:7433"),
            ),
            (
                "[control]\nlisten = \"192.0.2.1:7433\"\nallow_remote = true",
                Some("https://192.0.2.1:7433"),
            ),
            ("[control]\nlisten = \"0.0.0.0:7433\"\nallow_remote = true", None),
            (
                "[console]\naddress = \"https://gate.example.org/\"",
                Some("https://gate.example.org"),
            ),
            (
                "[console]\naddress = \"https://gate.example.org\"\n[notify]\nlink = \"https://chat.example.org\"",
                Some("https://chat.example.org"),
            ),
        ] {
            let settings = load(lines).unwrap();
            assert_eq!(settings.notify.link.as_deref(), link, "{lines}");
        }
    }

    #[test]
    fn it_is_for_this_machine_and_on_a_port_of_its_own() {
        for (lines, words) in [
            ("[console]\nlisten = \"0.0.0.0:7480\"", "is reachable from other machines"),
            ("[console]\nlisten = \"7480\"", "is not an IP address and a port"),
            ("[console]\nlisten = \"127.0.0.1:7432\"", "is also in `listen`"),
            (
                "[console]\nlisten = \"127.0.0.1:7433\"\n[control]\nlisten = \"127.0.0.1:7433\"",
                "is also in `control.listen`",
            ),
            ("[console]\naddress = \"http://gate.example.org\"", "it is not encrypted"),
        ] {
            let mistakes = load(lines).expect_err(lines);
            assert!(mistakes.len() == 1 && mistakes[0].contains(words), "{lines}: {mistakes:?}");
        }
    }
}
