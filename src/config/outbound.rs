//! `[notify]` and `[audit.forward]`: systems that are told of requests, and the receiver of the audit log.
//!
//! It sends nothing and opens no connection.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::address::host_port;
use super::key::keys;
use super::reader::TableSection;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::base::tls::{CollectorTls, web_address};
use crate::model::names::IdentityName;
use crate::outbound::forward::{self, ForwardSettings, SyslogReceiver};
use crate::outbound::notify::{Audience, EventKind, MessageFormat, NotifySettings, Webhook};

/// Port of syslog over TLS (RFC 5425, section 4.1).
const TLS_PORT: u16 = 6514;
/// Port of syslog over TCP (RFC 6587, section 4.1, and the IANA registry).
const TCP_PORT: u16 = 601;

const FORMATS: &[(&str, MessageFormat)] = &[
    ("json", MessageFormat::Json),
    ("slack", MessageFormat::Slack),
    ("teams", MessageFormat::Teams),
];

/// Reads `[notify]`; `console` is where people open the console, if it is known.
pub(super) fn notify(table: &TableSection<'_>, console: Option<String>) -> NotifySettings {
    keys! { table;
        /// Address of the console, for messages; `/requests/ID` or `/grants/ID` is put behind it.
        link = |key| key.checked("address", web_address).or_none("`console.address`");
    }
    let mut names = BTreeSet::new();
    let hooks = table.tables("webhooks", |table| webhook(table, &mut names));
    NotifySettings {
        hooks: hooks.into_iter().flatten().collect(),
        link: link.or(console),
        buttons: false,
    }
}

/// Reads `[[notify.webhooks]]`: each has a permitted address and a secret.
fn webhook(table: &TableSection<'_>, names: &mut BTreeSet<String>) -> Option<Webhook> {
    let words: Vec<_> = EventKind::ALL.iter().map(|event| (event.as_str(), *event)).collect();
    keys! { table;
        /// Name of a receiver, for the gate's own messages. See [webhooks](team.md#webhooks).
        name = |key| key.text().required("set a name, for messages about it: name = \"qa-channel\"");
        /// Address of the receiver: https, or http to a loopback address.
        url = |key| key.text().or_none("required").map(Secret::new);
        /// Instead: a file with only the address, where the address is a secret itself.
        url_file = |key| key.path().or_none("none");
        /// A file with the secret that signs messages.
        secret_file = |key| key.path().or_none("required");
        /// Instead: an environment variable with it.
        secret_env = |key| key.text().or_none("none");
        /// Format of the messages; `slack` is for Slack and compatible receivers, `teams` for webhooks of Workflows in Microsoft
        /// Teams.
        format = |key| key.one_of(FORMATS).or(MessageFormat::Json);
        /// Person that the receiver belongs to: it gets only what concerns them, and nothing that they did themselves,
        /// except break-glass, so that they notice if somebody uses their name.
        identity = |key| key.parsed("name", str::parse::<IdentityName>).or_none("none");
        /// Events that are sent; `request_without_approver`: no enabled identity may approve it; those of grants and `checkpoint`
        /// are sent only where they are named. With `identity`: of the requests and grants of this person.
        events = |key| key.some_of(&words).or_as("all of requests; with `identity` all that a person is told", usual_events(identity.is_some()));
    }
    let events: BTreeSet<EventKind> = events.into_iter().collect();
    let audience = identity.map_or(Audience::Everybody, Audience::Person);
    let name = name?;
    if !names.insert(name.clone()) {
        table.broken_rule("name", format!("two webhooks are named {name}"), "use different names");
    }
    let (url, key) = match (url, url_file) {
        (Some(url), None) => (Some(url), "url"),
        (None, Some(file)) => (table.secret("url", Some(file), None), "url_file"),
        (Some(_), Some(_)) => {
            table.broken_rule("url_file", "url is set too", "remove one");
            return None;
        }
        (None, None) => {
            let remedy = "set url, or url_file if the address itself is secret";
            table.broken_rule("url", "is missing", remedy);
            return None;
        }
    };
    if let Some(reason) = url.as_ref().and_then(|url| web_address(url.expose()).err()) {
        table.broken_rule(key, reason, "");
    }
    if events.is_empty() {
        let remedy = "list events, or remove the key for all events";
        table.broken_rule("events", "it has no events", remedy);
    }
    check_personal(table, &audience, &events);
    if secret_file.is_none() && secret_env.is_none() {
        let remedy = "set the secret that signs messages: secret_file = \"webhook.secret\" (or secret_env)";
        table.broken_rule("secret_file", "is missing", remedy);
    }
    Some(Webhook {
        secret: table.secret("secret", secret_file, secret_env)?,
        name,
        url: url?,
        format,
        audience,
        events,
    })
}

/// Returns the events of a receiver that names none.
fn usual_events(personal: bool) -> Vec<EventKind> {
    if personal {
        EventKind::personal().collect()
    } else {
        EventKind::usual().collect()
    }
}

/// Notes the events of a person's receiver that a person is never told.
fn check_personal(table: &TableSection<'_>, audience: &Audience, events: &BTreeSet<EventKind>) {
    let Audience::Person(person) = audience else { return };
    let never = listed(events.iter().copied().filter(|event| !event.is_personal()));
    if never.is_empty() {
        return;
    }
    let remedy = format!(
        "remove them, or `identity`; a person is told of {}",
        listed(EventKind::personal())
    );
    table.broken_rule("events", format!("{person} alone is not told of {never}"), &remedy);
}

fn listed(events: impl Iterator<Item = EventKind>) -> String {
    events.map(EventKind::as_str).collect::<Vec<_>>().join(", ")
}

/// Reads `[audit.forward]`: the receiver, if an address is configured, and the interval of checkpoints.
pub(super) fn forward(table: &TableSection<'_>) -> (Option<ForwardSettings>, Duration) {
    keys! { table;
        /// Receiver of the log as syslog (RFC 5424): `tls://host:6514`, or `tcp://127.0.0.1:601` on this machine.
        address = |key| key.parsed("address", receiver).or_none("none");
        /// The CA of the receiver's certificate.
        ca_file = |key| key.path().or_none("the machine's CAs");
        /// The name that the receiver sees for the gate.
        hostname = |key| key.text().or_none("the machine's name");
        /// Interval at which webhooks with `checkpoint` in their `events` get the last checkpoint.
        checkpoint_every = |key| key.duration(Duration::from_secs(1)).or(Duration::from_mins(15));
    }
    if let Some(ca) = &ca_file {
        if !address.as_ref().is_some_and(|(_, _, tls)| *tls) {
            table.broken_rule("ca_file", "it has no effect without address = \"tls://…\"", "remove it");
        } else if table.readable("ca_file", ca).is_some()
            && let Err(error) = CollectorTls::new(Some(ca))
        {
            table.broken_rule("ca_file", display_chain(&error), "");
        }
    }
    let settings = address.map(|(host, port, tls)| ForwardSettings {
        receiver: SyslogReceiver {
            host,
            port,
            tls: tls.then_some(ca_file),
        },
        hostname: hostname.unwrap_or_else(forward::hostname),
    });
    (settings, checkpoint_every)
}

/// Returns host, port, and true for TLS.
fn receiver(text: &str) -> Result<(String, u16, bool), String> {
    let (tls, rest, port) = match text.split_once("://") {
        Some(("tls", rest)) => (true, rest, TLS_PORT),
        Some(("tcp", rest)) => (false, rest, TCP_PORT),
        _ => {
            return Err(format!(
                "`{text}` is not a receiver; write it like tls://siem.example.org:6514, or tcp://127.0.0.1:601 on this machine"
            ));
        }
    };
    let (host, port) = host_port(rest, port)?;
    if !tls && !is_loopback(&host) {
        return Err(format!(
            "the audit log would be sent to {host} in clear text; write tls://{rest}"
        ));
    }
    Ok((host, port, tls))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ConfigMistake, GateSettings, from_text};

    fn load(lines: &str) -> Result<GateSettings, Vec<String>> {
        let text = format!(
            "[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n[audit]\nsegment_age = \"1h\"\n[audit.forward]\n{lines}"
        );
        from_text(Path::new("tidegate.toml"), &text).map_err(|mistakes| mistakes.iter().map(ConfigMistake::to_string).collect())
    }

    fn receiver(lines: &str) -> SyslogReceiver {
        load(lines).unwrap().forward.expect("a receiver").receiver
    }

    #[test]
    fn a_receiver_is_on_tls_or_on_this_machine() {
        let tls = receiver("address = \"tls://siem.example.org\"");
        assert_eq!((&*tls.host, tls.port, tls.tls), ("siem.example.org", 6514, Some(None)));
        for (address, port) in [
            ("tcp://127.0.0.1", 601),
            ("tcp://localhost:1514", 1514),
            ("tcp://[::1]:514", 514),
        ] {
            let clear = receiver(&format!("address = \"{address}\""));
            assert_eq!((clear.port, clear.tls), (port, None), "{address}");
        }
        let settings = load("").unwrap();
        assert!(settings.forward.is_none());
        assert_eq!(settings.checkpoint_every, Duration::from_mins(15));
        let named = load("address = \"tcp://127.0.0.1\"\nhostname = \"gate-1\"\ncheckpoint_every = \"1m\"").unwrap();
        assert_eq!(
            (named.checkpoint_every, &*named.forward.unwrap().hostname),
            (Duration::from_mins(1), "gate-1")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (lines, words) in [
            (
                "address = \"tcp://siem.example.org:601\"",
                "tidegate.toml:7: audit.forward.address: the audit log would be sent to siem.example.org in clear text; write tls://siem.example.org:601",
            ),
            (
                "address = \"siem.example.org\"",
                "is not a receiver; write it like tls://siem.example.org:6514",
            ),
            ("address = \"tls://siem.example.org:0\"", "is not a host and a port"),
            (
                "address = \"tcp://127.0.0.1\"\nca_file = \"ca.pem\"",
                "audit.forward.ca_file: it has no effect without",
            ),
            (
                "address = \"tls://siem\"\nca_file = \"nowhere.pem\"",
                "cannot read nowhere.pem",
            ),
            ("protocol = \"udp\"", "protocol"),
        ] {
            let mistakes = load(lines).expect_err(lines);
            assert!(mistakes.len() == 1 && mistakes[0].contains(words), "{lines}: {mistakes:?}");
        }
    }
}
