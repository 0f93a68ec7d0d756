//! Logins of grants, with everything that a client needs to connect: address, certificate, connection string.
//!
//! It makes no login; the access service does.
//!
//! INVARIANT: the secret of a login is in the answer that made it, and nowhere else.

use super::authenticate::Call;
use super::model::GrantLoginBody;
use super::problem::ApiError;
use crate::model::ids::GrantId;
use crate::model::names::TargetName;

impl Call {
    /// Makes a login of the caller's own grant.
    pub async fn grant_login(&self, id: &GrantId) -> Result<GrantLoginBody, ApiError> {
        let gate = &self.gate;
        let (target, login) = gate.service.login(self.caller.person()?, id).await?;
        let secret = login.secret.expose().clone();
        let (host, port) = host_and_port(&gate.advertise);
        let certificate = gate.tls.current();
        let sslmode = match certificate.anchor() {
            _ if certificate.is_for(&host) => "verify-full",
            Some(_) => "verify-ca",
            None => "require",
        };
        Ok(GrantLoginBody {
            certificate: certificate.anchor().map(str::to_owned),
            sslmode: sslmode.to_owned(),
            connection_string: connection_string(&login.user, &secret, &target, &gate.advertise),
            host,
            port,
            database: target.to_string(),
            user: login.user,
            secret,
        })
    }
}

/// Returns the connection string for a client. The gate always offers TLS, and `require` works also with its own certificate.
pub(super) fn connection_string(user: &str, secret: &str, target: &TargetName, advertise: &str) -> String {
    // Ids, secrets and target names consist of characters that need no escape in a URI.
    format!("postgresql://{user}:{secret}@{advertise}/{target}?sslmode=require")
}

/// Splits `host:port` into its parts, without the brackets of an IPv6 address.
fn host_and_port(advertise: &str) -> (String, u16) {
    let (host, port) = match advertise.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (advertise, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_in_two_parts() {
        assert_eq!(host_and_port("gate.example.com:7432"), ("gate.example.com".to_owned(), 7432));
        assert_eq!(host_and_port("[::1]:7432"), ("::1".to_owned(), 7432));
        assert_eq!(host_and_port("gate"), ("gate".to_owned(), 5432));
    }
}
