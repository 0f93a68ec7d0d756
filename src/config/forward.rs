//! `[audit.forward]`: its values as written, and the settings made from them.
//!
//! It opens no connection.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::address::host_port;
use super::checker::SettingsChecker;
use super::reader::TableSection;
use crate::base::error_chain::display_chain;
use crate::base::tls::CollectorTls;
use crate::outbound::forward::{ForwardSettings, SyslogReceiver, hostname};

/// Port of syslog over TLS (RFC 5425, section 4.1).
const TLS_PORT: u16 = 6514;
/// Port of syslog over TCP (RFC 6587, section 4.1, and the IANA registry).
const TCP_PORT: u16 = 601;

/// Values of `[audit.forward]`.
#[derive(Debug)]
pub(super) struct ForwardTable {
    address: Option<ReceiverAddress>,
    ca_file: Option<PathBuf>,
    hostname: Option<String>,
    pub(super) checkpoint_every: Duration,
}

#[derive(Debug)]
struct ReceiverAddress {
    host: String,
    port: u16,
    tls: bool,
}

pub(super) fn read(table: &TableSection<'_, '_>) -> ForwardTable {
    ForwardTable {
        address: table.parsed("address", address),
        ca_file: table.path("ca_file"),
        hostname: table.text("hostname"),
        checkpoint_every: table
            .duration("checkpoint_every", Duration::from_secs(1))
            .unwrap_or(Duration::from_mins(15)),
    }
}

fn address(text: &str) -> Result<ReceiverAddress, String> {
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
    Ok(ReceiverAddress { host, port, tls })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the settings for forwarding the log, if an address is configured.
pub(super) fn check(checker: &mut SettingsChecker<'_>, table: &ForwardTable) -> Option<ForwardSettings> {
    let ca_file = table.ca_file.as_ref().map(|path| checker.base.join(path));
    let to_tls = table.address.as_ref().is_some_and(|address| address.tls);
    if let Some(ca) = &ca_file {
        let key = "audit.forward.ca_file";
        if !to_tls {
            checker.note(key, "it has no effect without address = \"tls://…\"", "remove it");
        } else if checker.readable(key, ca).is_some()
            && let Err(error) = CollectorTls::new(Some(ca))
        {
            checker.note(key, display_chain(&error), "");
        }
    }
    let address = table.address.as_ref()?;
    Some(ForwardSettings {
        receiver: SyslogReceiver {
            host: address.host.clone(),
            port: address.port,
            tls: address.tls.then_some(ca_file),
        },
        hostname: table.hostname.clone().unwrap_or_else(hostname),
    })
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
