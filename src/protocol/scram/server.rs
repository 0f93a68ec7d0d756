//! Server side of a SCRAM exchange: two client messages, two answers.
//!
//! It does not choose the verifier. It ignores the user name inside the SCRAM message, as PostgreSQL does, because the startup
//! packet has already given it.
//!
//! INVARIANT: only a correct proof over exactly these messages succeeds, and a mock verifier never does, with the same work done
//! for it.

use super::keys::{KeyBytes, auth_message, hash, hmac, same, xor};
use super::message::{self, MessageAttributes, malformed};
use super::verifier::Verifier;
use super::{Mechanism, ScramError};

/// Only supported channel binding type (RFC 5929 section 4), which libpq uses too.
pub(super) const BINDING_TYPE: &str = "tls-server-end-point";

/// Exchange that has sent the server's first message and waits for the client's last.
pub struct ServerExchange {
    client_first_bare: String,
    server_first: String,
    /// Bytes that the client must repeat in `c=`: the GS2 header, then the channel binding data.
    expected_binding: Vec<u8>,
    bound: bool,
    nonce: String,
    verifier: Verifier,
}

/// Reads the client's first message. Returns the exchange and the answer to the client.
///
/// `binding` is the `tls-server-end-point` hash of the gate's certificate if the connection uses TLS and PLUS was offered.
/// `nonce` is random bytes, 18 or more, fresh for each exchange.
pub fn server_start(
    mechanism: Mechanism,
    client_first: &[u8],
    verifier: &Verifier,
    binding: Option<&[u8]>,
    nonce: &[u8],
) -> Result<(ServerExchange, Vec<u8>), ScramError> {
    start_with_nonce(mechanism, client_first, verifier, binding, &message::encode(nonce))
}

pub(super) fn start_with_nonce(
    mechanism: Mechanism,
    client_first: &[u8],
    verifier: &Verifier,
    binding: Option<&[u8]>,
    nonce: &str,
) -> Result<(ServerExchange, Vec<u8>), ScramError> {
    let text = message::text(client_first)?;
    // gs2-header = gs2-cbind-flag "," [ authzid ] ","
    let (flag, rest) = text.split_once(',').ok_or(malformed("no GS2 header"))?;
    let (authzid, bare) = rest.split_once(',').ok_or(malformed("no GS2 header"))?;
    let bound = check_flag(flag, mechanism, binding.is_some())?;
    if !authzid.is_empty() {
        return Err(ScramError::Unsupported {
            what: "an authorization identity",
        });
    }
    let client_nonce = read_bare(bare)?;

    let mut expected_binding = format!("{flag},,").into_bytes();
    if bound {
        expected_binding.extend_from_slice(binding.unwrap_or_default());
    }
    let nonce = format!("{client_nonce}{nonce}");
    let server_first = format!("r={nonce},s={},i={}", message::encode(verifier.salt()), verifier.iterations());
    let answer = server_first.clone().into_bytes();
    let exchange = ServerExchange {
        client_first_bare: bare.to_owned(),
        server_first,
        expected_binding,
        bound,
        nonce,
        verifier: verifier.clone(),
    };
    Ok((exchange, answer))
}

/// Returns true if this exchange is bound to the TLS connection, by the rules of RFC 5802 section 6.
fn check_flag(flag: &str, mechanism: Mechanism, offered: bool) -> Result<bool, ScramError> {
    match (flag, mechanism) {
        ("y", Mechanism::ScramSha256) if offered => Err(ScramError::Downgrade),
        ("n" | "y", Mechanism::ScramSha256) => Ok(false),
        ("n" | "y", Mechanism::ScramSha256Plus) => Err(malformed("PLUS chosen, but no channel binding in the message")),
        (flag, mechanism) => match (flag.strip_prefix("p="), mechanism) {
            (Some(BINDING_TYPE), Mechanism::ScramSha256Plus) if offered => Ok(true),
            (Some(_), Mechanism::ScramSha256) => Err(malformed("channel binding in the message, but PLUS not chosen")),
            (Some(BINDING_TYPE), Mechanism::ScramSha256Plus) => Err(malformed("PLUS chosen, which was not offered")),
            (Some(_), Mechanism::ScramSha256Plus) => Err(ScramError::Unsupported {
                what: "a channel binding type other than tls-server-end-point",
            }),
            (None, _) => Err(malformed("unknown channel binding flag")),
        },
    }
}

/// Reads the nonce from client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
fn read_bare(bare: &str) -> Result<&str, ScramError> {
    let mut attributes = MessageAttributes::new(bare);
    let Some((letter, _)) = attributes.next()? else {
        return Err(malformed("no user name"));
    };
    message::mandatory(letter)?;
    if letter != 'n' {
        return Err(malformed("no user name"));
    }
    let nonce = attributes.expect('r', "no nonce")?;
    if !message::is_nonce(nonce) {
        return Err(malformed("the nonce has characters that are not allowed"));
    }
    attributes.skip_extensions()?;
    Ok(nonce)
}

impl ServerExchange {
    /// Verifies the client's last message. Returns server-final: once it is sent, the client is authenticated.
    pub fn finish(self, client_final: &[u8]) -> Result<Vec<u8>, ScramError> {
        let text = message::text(client_final)?;
        // The proof is the last attribute and its base 64 has no comma.
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed("no proof"))?;
        let mut attributes = MessageAttributes::new(without_proof);
        let binding = attributes.expect('c', "no channel binding")?;
        let nonce = attributes.expect('r', "no nonce")?;
        attributes.skip_extensions()?;

        let binding = message::decode(binding, "the channel binding is not base 64")?;
        if !same(&binding, &self.expected_binding) {
            return Err(if self.bound {
                ScramError::BindingMismatch
            } else {
                malformed("the channel binding does not repeat the GS2 header")
            });
        }
        if !same(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(malformed("the nonce is not the one sent"));
        }
        let proof = message::decode(proof, "the proof is not base 64")?;
        let proof = KeyBytes::try_from(proof).map_err(|_| malformed("the proof has a wrong length"))?;

        let auth_message = auth_message(&self.client_first_bare, &self.server_first, without_proof);
        let client_key = xor(&proof, &hmac(&self.verifier.stored_key, &auth_message));
        let right = same(&hash(&client_key), &self.verifier.stored_key);
        let signature = hmac(&self.verifier.server_key, &auth_message);
        if !right || self.verifier.mock {
            return Err(ScramError::BadProof);
        }
        Ok(format!("v={}", message::encode(&signature)).into_bytes())
    }
}
