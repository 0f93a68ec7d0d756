//! Client side of a SCRAM exchange, in three stages: started, challenged, answered.
//!
//! It does not hold the password: between challenge and answer the caller provides [`ClientKeys`], freshly derived or cached.
//!
//! INVARIANT: the exchange succeeds only if the server's own signature is verified.

use super::ScramError;
use super::keys::{ClientKeys, KeyBytes, auth_message, hmac, same};
use super::message::{self, MessageAttributes, malformed};
use super::server::BINDING_TYPE;

/// Exchange whose first message is to be sent.
pub struct ClientExchange {
    /// GS2 flag: `n`, `y` or `p=tls-server-end-point`.
    flag: String,
    /// GS2 header, followed by the channel binding data if the exchange is bound.
    binding: Vec<u8>,
    nonce: String,
}

/// Exchange that has the server's challenge and needs keys for it.
pub struct Challenged {
    client_first_bare: String,
    server_first: String,
    binding: Vec<u8>,
    nonce: String,
    /// Salt to derive [`ClientKeys`] with.
    pub salt: Vec<u8>,
    /// Number of PBKDF2 rounds to derive [`ClientKeys`] with: 1 to [`MAX_ITERATIONS`](super::MAX_ITERATIONS).
    pub iterations: u32,
}

/// Exchange whose last message is to be sent.
pub struct Answered {
    /// Last message.
    pub message: Vec<u8>,
    signature: KeyBytes,
}

/// Begins an exchange: SCRAM-SHA-256-PLUS if given the `tls-server-end-point` hash of the server's certificate, else
/// SCRAM-SHA-256. `nonce` is random text, fresh for each exchange: visible ASCII without a comma (base 64 of 18 bytes or more).
#[must_use]
pub fn client_start(binding: Option<&[u8]>, nonce: &str) -> ClientExchange {
    let flag = binding.map_or_else(|| "n".to_owned(), |_| format!("p={BINDING_TYPE}"));
    let mut header = format!("{flag},,").into_bytes();
    header.extend_from_slice(binding.unwrap_or_default());
    ClientExchange {
        flag,
        binding: header,
        nonce: nonce.to_owned(),
    }
}

impl ClientExchange {
    /// Tells the server that the client could have bound to its certificate but saw no offer. A server that did offer then
    /// detects that its offer was removed from the message on the way, and refuses (RFC 5802 section 6, flag `y`).
    #[must_use]
    pub fn binding_not_offered(mut self) -> Self {
        if self.flag == "n" {
            "y".clone_into(&mut self.flag);
            self.binding = b"y,,".to_vec();
        }
        self
    }

    /// Returns the first message.
    #[must_use]
    pub fn first(&self) -> Vec<u8> {
        format!("{},,{}", self.flag, self.bare()).into_bytes()
    }

    /// Returns the message without its GS2 header. It has no user name, as with libpq: the startup packet has already sent it.
    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Reads the server's first message.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenged, ScramError> {
        let text = message::text(server_first)?;
        let mut attributes = MessageAttributes::new(text);
        let (letter, nonce) = attributes.next()?.ok_or(malformed("empty"))?;
        message::mandatory(letter)?;
        if letter == 'e' {
            return Err(ScramError::ServerError);
        }
        if letter != 'r' {
            return Err(malformed("no nonce"));
        }
        // Only the server's own part of the nonce prevents the replay of an old exchange, so it must not be empty.
        let extended = nonce.strip_prefix(self.nonce.as_str()).is_some_and(message::is_nonce);
        if !extended {
            return Err(ScramError::Nonce);
        }
        let salt = attributes.expect('s', "no salt")?;
        let salt = message::decode(salt, "the salt is not base 64")?;
        if salt.is_empty() {
            return Err(malformed("an empty salt"));
        }
        let iterations = attributes.expect('i', "no number of rounds")?;
        let iterations = read_iterations(iterations)?;
        attributes.skip_extensions()?;
        Ok(Challenged {
            client_first_bare: self.bare(),
            nonce: nonce.to_owned(),
            server_first: text.to_owned(),
            binding: self.binding,
            salt,
            iterations,
        })
    }
}

fn read_iterations(text: &str) -> Result<u32, ScramError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("the number of rounds is not a number"));
    }
    // A number with more digits than u64 holds counts as the largest one.
    let got = text.parse::<u64>().unwrap_or(u64::MAX);
    u32::try_from(got)
        .ok()
        .filter(|rounds| (1..=super::MAX_ITERATIONS).contains(rounds))
        .ok_or(ScramError::Iterations { got })
}

impl Challenged {
    /// Makes the last message.
    #[must_use]
    pub fn answer(self, keys: &ClientKeys) -> Answered {
        let without_proof = format!("c={},r={}", message::encode(&self.binding), self.nonce);
        let auth_message = auth_message(&self.client_first_bare, &self.server_first, &without_proof);
        let proof = keys.proof(&auth_message);
        Answered {
            signature: hmac(&keys.server_key, &auth_message),
            message: format!("{without_proof},p={}", message::encode(&proof)).into_bytes(),
        }
    }
}

impl Answered {
    /// Verifies the server's last message: only a server that knows the verifier can produce it.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut attributes = MessageAttributes::new(message::text(server_final)?);
        let (letter, value) = attributes.next()?.ok_or(malformed("empty"))?;
        if letter == 'e' {
            return Err(ScramError::ServerError);
        }
        if letter != 'v' {
            return Err(malformed("no signature"));
        }
        let signature = message::decode(value, "the signature is not base 64")?;
        if same(&signature, &self.signature) {
            Ok(())
        } else {
            Err(ScramError::BadSignature)
        }
    }
}
