//! An issuer's public keys (JWKS, RFC 7517): which of them verifies a token.
//!
//! It fetches nothing. The law: a key is used only with algorithms of its own kind, and secrets (`oct`) are never keys, so a
//! token "signed" with the text of a public key proves nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The least an RSA key may have: 2048 bits (NIST SP 800-131A).
const RSA_BYTES: usize = 256;
/// More makes each verification slow, and no issuer has it.
const MOST_RSA_BYTES: usize = 1024;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// By its name in a token's header; only what issuers sign with: no `none`, no shared secrets.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    let known = RSA
        .iter()
        .chain(&[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA])
        .copied();
    known.into_iter().find(|known| format!("{known:?}") == name)
}

/// The usable keys of one issuer; at least one.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    fits: Vec<Algorithm>,
    verifies: DecodingKey,
}

impl KeySet {
    /// Of a JWKS document. Keys for encryption, of unknown kinds, too short, or damaged are passed over.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(json).map_err(|error| format!("this is not a JWKS: {error}"))?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("it has no usable signature key".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whether a token that names this key (or none) might be verified.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.0.iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// The key with this id; without one, the only key that fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        if id.is_none() && fitting.next().is_some() {
            return None;
        }
        Some(&first.verifies)
    }
}

fn usable(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !signs {
        return None;
    }
    let mut fits = kind(&jwk.algorithm)?;
    if let Some(only) = common.key_algorithm {
        fits.retain(|algorithm| format!("{algorithm:?}") == only.to_string());
    }
    let verifies = DecodingKey::from_jwk(&jwk).ok()?;
    (!fits.is_empty()).then(|| Key {
        id: common.key_id.clone(),
        fits,
        verifies,
    })
}

/// The algorithms that go with a key; `None` where it is no public key that can be used. Lengths are checked here because the
/// library takes them on trust.
fn kind(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    let length = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().map(|bytes| bytes.len());
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            (RSA_BYTES..=MOST_RSA_BYTES).contains(&bytes).then(|| RSA.to_vec())
        }
        AlgorithmParameters::EllipticCurve(curve) => {
            let (algorithm, bytes) = match curve.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return None,
            };
            (length(&curve.x) == Some(bytes) && length(&curve.y) == Some(bytes)).then(|| vec![algorithm])
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            (pair.curve == EllipticCurve::Ed25519 && length(&pair.x) == Some(32)).then(|| vec![Algorithm::EdDSA])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_none_are_no_algorithms() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "", "rs256"] {
            assert_eq!(algorithm(name), None, "{name}");
        }
        for name in ["RS256", "RS512", "PS384", "ES256", "ES384", "EdDSA"] {
            assert!(algorithm(name).is_some(), "{name}");
        }
    }

    #[test]
    fn keys_that_must_not_be_used_are_passed_over() {
        for key in [
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(),
            format!(r#"{{"kty":"EC","crv":"P-521","x":"{0}","y":"{0}"}}"#, "A".repeat(88)),
            format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, "q".repeat(171)),
            format!(r#"{{"kty":"RSA","e":"AQAB","use":"enc","n":"{}"}}"#, "q".repeat(342)),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"HS256","x":"{}"}}"#, "A".repeat(43)),
            "{}".to_owned(),
            "7".to_owned(),
        ] {
            assert!(KeySet::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes()).is_err(), "{key}");
        }
        let good = format!(
            r#"{{"keys":[7,{{"kty":"OKP","kid":"a","crv":"Ed25519","x":"{}"}}]}}"#,
            "A".repeat(43)
        );
        let keys = KeySet::parse(good.as_bytes()).unwrap();
        assert!(keys.find(Some("a"), Algorithm::EdDSA).is_some());
        assert!(keys.find(None, Algorithm::EdDSA).is_some());
        assert!(keys.find(Some("a"), Algorithm::RS256).is_none());
        assert!(!keys.has(Some("b")));
    }
}
