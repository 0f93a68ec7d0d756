//! `[audit.forward]`: as written, and as meant.
//!
//! It connects to nobody.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::file::host_port;
use super::reader::Section;
use crate::causes::in_one_line;
use crate::forward::{ForwardSettings, Receiver, hostname};
use crate::tls::CollectorTls;

/// The port of syslog over TLS (RFC 5425, section 4.1).
const TLS_PORT: u16 = 6514;
/// The port of syslog over TCP (RFC 6587, section 4.1, and IANA's list).
const TCP_PORT: u16 = 601;

/// `[audit.forward]`.
#[derive(Debug)]
pub(super) struct ForwardTable {
    address: Option<Address>,
    ca_file: Option<PathBuf>,
    hostname: Option<String>,
    pub(super) checkpoint_every: Duration,
}

#[derive(Debug)]
struct Address {
    host: String,
    port: u16,
    tls: bool,
}

pub(super) fn read(table: &Section<'_, '_>) -> ForwardTable {
    ForwardTable {
        address: table.parsed("address", address),
        ca_file: table.path("ca_file"),
        hostname: table.text("hostname"),
        checkpoint_every: table
            .duration("checkpoint_every", Duration::from_secs(1))
            .unwrap_or(Duration::from_mins(15)),
    }
}

fn address(text: &str) -> Result<Address, String> {
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
            "the audit log would travel to {host} in clear text; write tls://{rest}"
        ));
    }
    Ok(Address { host, port, tls })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where the log is sent, if anywhere.
pub(super) fn check(checker: &mut Checker<'_>) -> Option<ForwardSettings> {
    let table = &checker.file.audit.forward;
    let ca_file = table.ca_file.as_ref().map(|path| checker.base.join(path));
    let to_tls = table.address.as_ref().is_some_and(|address| address.tls);
    if let Some(ca) = &ca_file {
        let key = "audit.forward.ca_file";
        if !to_tls {
            checker.note(key, "it has no effect without address = \"tls://…\"", "leave it out");
        } else if checker.readable(key, ca).is_some()
            && let Err(error) = CollectorTls::new(Some(ca))
        {
            checker.note(key, in_one_line(&error), "");
        }
    }
    let address = table.address.as_ref()?;
    Some(ForwardSettings {
        receiver: Receiver {
            host: address.host.clone(),
            port: address.port,
            tls: address.tls.then_some(ca_file),
        },
        hostname: table.hostname.clone().unwrap_or_else(hostname),
    })
}
