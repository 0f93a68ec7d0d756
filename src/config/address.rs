//! Host and port, as one text and in parts.
//!
//! It resolves no names.

/// Joins a host and a port, with brackets around an IPv6 address.
pub(super) fn joined((host, port): (String, u16)) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Parses `host`, `host:port` or `[::1]:port`.
pub(super) fn host_port(text: &str, default: u16) -> Result<(String, u16), String> {
    let bad = || format!("`{text}` is not a host and a port; write it like db.example.org:5432, 10.0.0.5:5432 or [::1]:5432");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() || !(rest.is_empty() || rest.starts_with(':')) {
            return Err(bad());
        }
        (host, rest.strip_prefix(':'))
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(fit) {
        return Err(bad());
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?,
    };
    Ok((host.to_owned(), port))
}
