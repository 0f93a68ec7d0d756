//! Public keys of an issuer (JWKS, RFC 7517), and the choice of the key that verifies a token.
//!
//! It fetches nothing. INVARIANT: a key is used only with algorithms of its own kind, and secrets (`oct`) are never keys, so a
//! token "signed" with the text of a public key proves nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

/// Minimum length of an RSA modulus, in bytes: 2048 bits (NIST SP 800-131A).
const MIN_RSA_BYTES: usize = 256;
/// Maximum length of an RSA modulus, in bytes. A longer one makes each verification slow, and no issuer has one.
const MAX_RSA_BYTES: usize = 1024;

/// Signature algorithm of a token (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug)]
pub(super) struct Algorithm {
    /// Name in a token's header.
    pub(super) name: &'static str,
    check: SignatureCheck,
}

#[derive(Debug)]
enum SignatureCheck {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

/// Algorithms that issuers sign with: no `none` and no shared secrets.
static ALGORITHMS: [Algorithm; 9] = [
    rsa("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signature::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signature::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signature::RSA_PSS_2048_8192_SHA512),
    curve("ES256", &signature::ECDSA_P256_SHA256_FIXED),
    curve("ES384", &signature::ECDSA_P384_SHA384_FIXED),
    curve("EdDSA", &signature::ED25519),
];

const fn rsa(name: &'static str, parameters: &'static RsaParameters) -> Algorithm {
    let check = SignatureCheck::Rsa(parameters);
    Algorithm { name, check }
}

const fn curve(name: &'static str, algorithm: &'static dyn VerificationAlgorithm) -> Algorithm {
    let check = SignatureCheck::Curve(algorithm);
    Algorithm { name, check }
}

impl Algorithm {
    /// Returns the algorithm with this name in a token's header.
    pub(super) fn parse(name: &str) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|known| known.name == name)
    }
}

/// Public key that verifies tokens.
#[derive(Debug)]
pub(super) enum VerificationKey {
    /// Modulus and exponent, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// Point on a curve: uncompressed on P-256 and P-384 (SEC 1 section 2.3.3), else as RFC 8032 encodes it.
    Point(Vec<u8>),
}

impl VerificationKey {
    /// Returns true if the signature of the message is this key's, by this algorithm.
    pub(super) fn verifies(&self, algorithm: &Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, &algorithm.check) {
            (Self::Rsa { n, e }, SignatureCheck::Rsa(parameters)) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            (Self::Point(point), SignatureCheck::Curve(algorithm)) => {
                let key = UnparsedPublicKey::new(*algorithm, point);
                key.verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Usable keys of one issuer; at least one.
#[derive(Debug)]
pub(super) struct KeySet(Vec<IssuerKey>);

#[derive(Debug)]
struct IssuerKey {
    id: Option<String>,
    /// Names of its algorithms.
    fits: Vec<&'static str>,
    public: VerificationKey,
}

impl KeySet {
    /// Parses a JWKS document. Keys for encryption, of unknown kinds, too short, or damaged are left out.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct JwksDocument {
            keys: Vec<Value>,
        }
        let document: JwksDocument = serde_json::from_slice(json).map_err(|error| format!("this is not a JWKS: {error}"))?;
        let keys: Vec<IssuerKey> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("it has no usable signature key".to_owned());
        }
        Ok(Self(keys))
    }

    /// Returns true if a key has this id, or if no id is given.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.0.iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// Returns the key with this id; without an id, the only key that fits the algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: &Algorithm) -> Option<&VerificationKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits.contains(&algorithm.name) && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        if id.is_none() && fitting.next().is_some() {
            return None;
        }
        Some(&first.public)
    }
}

/// Fields of a JSON Web Key (RFC 7517 section 4) that say if it may verify tokens.
#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    #[serde(flatten)]
    parameters: Parameters,
}

/// Public key in a JSON Web Key (RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
#[serde(tag = "kty")]
enum Parameters {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    EllipticCurve { crv: String, x: String, y: String },
    #[serde(rename = "OKP")]
    OctetKeyPair { crv: String, x: String },
}

fn usable(value: Value) -> Option<IssuerKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let signs = jwk.purpose.is_none_or(|purpose| purpose == "sig")
        && jwk
            .key_ops
            .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    let (public, mut fits) = public(&jwk.parameters)?;
    if let Some(only) = jwk.alg {
        fits.retain(|name| *name == only);
    }
    (signs && !fits.is_empty()).then_some(IssuerKey {
        id: jwk.kid,
        fits,
        public,
    })
}

/// Returns a public key and the names of its algorithms; `None` if it is not usable.
fn public(parameters: &Parameters) -> Option<(VerificationKey, Vec<&'static str>)> {
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let number = |text: &str| Some(decoded(text)?.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
    let coordinate = |text: &str, length| decoded(text).filter(|bytes| bytes.len() == length);
    match parameters {
        Parameters::Rsa { n, e } => {
            let (n, e) = (number(n)?, number(e)?);
            let rsa = ALGORITHMS
                .iter()
                .filter(|known| matches!(known.check, SignatureCheck::Rsa(_)));
            let long = (MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&n.len());
            long.then(|| (VerificationKey::Rsa { n, e }, rsa.map(|known| known.name).collect()))
        }
        Parameters::EllipticCurve { crv, x, y } => {
            let (algorithm, length) = match crv.as_str() {
                "P-256" => ("ES256", 32),
                "P-384" => ("ES384", 48),
                _ => return None,
            };
            let point = [vec![0x04], coordinate(x, length)?, coordinate(y, length)?].concat();
            Some((VerificationKey::Point(point), vec![algorithm]))
        }
        Parameters::OctetKeyPair { crv, x } if crv == "Ed25519" => {
            Some((VerificationKey::Point(coordinate(x, 32)?), vec!["EdDSA"]))
        }
        Parameters::OctetKeyPair { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_none_are_no_algorithms() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "", "rs256"] {
            assert!(Algorithm::parse(name).is_none(), "{name}");
        }
        for name in ["RS256", "RS512", "PS384", "ES256", "ES384", "EdDSA"] {
            assert!(Algorithm::parse(name).is_some(), "{name}");
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
        let (ed, rsa) = (Algorithm::parse("EdDSA").unwrap(), Algorithm::parse("RS256").unwrap());
        assert!(keys.find(Some("a"), ed).is_some());
        assert!(keys.find(None, ed).is_some());
        assert!(keys.find(Some("a"), rsa).is_none());
        assert!(!keys.has(Some("b")));
    }
}
