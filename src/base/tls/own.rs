//! Certificate that the gate makes itself. It is issued by the gate's own CA, so that a client that trusts the CA once also
//! trusts renewed certificates.
//!
//! This module does not serve connections.
//!
//! INVARIANT: keys are readable by their owner only, a file is written completely or not at all, and a certificate that the gate
//! did not make stays unchanged.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{Fingerprint, TlsError, certificate, read, read_certificates};

const ONE_DAY: SignedDuration = SignedDuration::from_hours(24);
/// Validity of the CA in days: ten years, after which clients have to trust a new one.
const CA_LIFETIME_DAYS: i32 = 3653;
/// Validity of a certificate in days.
const CERTIFICATE_LIFETIME_DAYS: i32 = 90;
/// Number of days before its end at which a certificate is renewed.
const RENEWAL_LEAD_DAYS: i32 = 30;

/// Paths of the files, in the gate's state directory.
pub(super) struct CertificateFiles {
    /// Path of the certificate, followed in the file by its CA's.
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    ca_key: PathBuf,
}

impl CertificateFiles {
    pub(super) fn within(dir: &Path) -> Self {
        Self {
            cert: dir.join("tls.crt"),
            key: dir.join("tls.key"),
            ca_key: dir.join("tls-ca.key"),
        }
    }

    /// Makes the files that are missing, for the names (DNS names and IP addresses) given, and renews a certificate that ends
    /// soon or is not for one of them. Keys are P-256, whose handshakes cost least. A certificate without a CA's key beside it
    /// stays unchanged: an earlier version of the gate made it, or a person did.
    pub(super) fn keep(&self, names: &[String], now: Timestamp) -> Result<(), TlsError> {
        if !(self.cert.exists() && self.key.exists()) {
            return self.make(names, now);
        }
        if !self.ca_key.exists() {
            return Ok(());
        }
        match read_certificates(&self.cert)?.as_slice() {
            [leaf, ca] if ends_after(ca, now, CERTIFICATE_LIFETIME_DAYS) => {
                let good = ends_after(leaf, now, RENEWAL_LEAD_DAYS) && names.iter().all(|name| certificate::is_for(leaf, name));
                if good { Ok(()) } else { self.renew(ca, names, now) }
            }
            _ => self.make(names, now),
        }
    }

    fn make(&self, names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let ca_pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let ca = ca_parameters(&ca_pair, now).self_signed(&ca_pair)?;
        let leaf = parameters(names, now)?.signed_by(&pair, &Issuer::new(ca_parameters(&ca_pair, now), &ca_pair))?;
        // The certificate is written last: if all files exist, all are complete and belong together.
        write(&self.ca_key, Zeroizing::new(ca_pair.serialize_pem()).as_bytes(), 0o600)?;
        write(&self.key, Zeroizing::new(pair.serialize_pem()).as_bytes(), 0o600)?;
        write(&self.cert, format!("{}{}", leaf.pem(), ca.pem()).as_bytes(), 0o644)
    }

    /// Renews the certificate with the same keys, so that only one file is written.
    fn renew(&self, ca: &CertificateDer<'_>, names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let (pair, ca_pair) = (key_pair(&self.key)?, key_pair(&self.ca_key)?);
        let leaf = parameters(names, now)?.signed_by(&pair, &Issuer::new(ca_parameters(&ca_pair, now), &ca_pair))?;
        write(
            &self.cert,
            format!("{}{}", leaf.pem(), certificate::pem(ca)).as_bytes(),
            0o644,
        )
    }
}

/// Returns true if a certificate is valid for at least this number of days; false for one that cannot be parsed.
pub(super) fn ends_after(certificate: &CertificateDer<'_>, now: Timestamp, days: i32) -> bool {
    let least = now.checked_add(ONE_DAY * days).unwrap_or(Timestamp::MAX);
    certificate::expires_at(certificate).is_some_and(|end| end > least)
}

/// Returns true if a certificate of the gate's own CA must be renewed.
pub(super) fn is_due(certificate: &CertificateDer<'_>, now: Timestamp) -> bool {
    !ends_after(certificate, now, RENEWAL_LEAD_DAYS)
}

fn key_pair(path: &Path) -> Result<KeyPair, TlsError> {
    let pem = Zeroizing::new(read(path)?);
    let text = std::str::from_utf8(&pem).map_err(|_| TlsError::NoKey { path: path.to_owned() })?;
    KeyPair::from_pem(text).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

/// Returns the CA's parameters. Each key has its own name: if two CAs have the same name, OpenSSL may take the wrong one for an
/// issuer.
fn ca_parameters(pair: &KeyPair, now: Timestamp) -> CertificateParams {
    let key = Fingerprint::of(pair.public_key_raw()).to_string();
    let name = format!("tidegate CA {}", key.get(..16).unwrap_or_default());
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    for_days(&mut parameters, now, CA_LIFETIME_DAYS);
    parameters
}

fn parameters(names: &[String], now: Timestamp) -> Result<CertificateParams, TlsError> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "tidegate");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for_days(&mut parameters, now, CERTIFICATE_LIFETIME_DAYS);
    Ok(parameters)
}

/// Sets the validity. It begins a day earlier, for clients whose clock is behind.
fn for_days(parameters: &mut CertificateParams, now: Timestamp, days: i32) {
    let date = |days: i32| {
        let time = now.checked_add(ONE_DAY * days).unwrap_or(Timestamp::MAX);
        let date = TimeZone::UTC.to_datetime(time).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (parameters.not_before, parameters.not_after) = (date(-1), date(days + 1));
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), TlsError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let attempt = || {
        // NamedTempFile is created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(contents)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    };
    attempt().map_err(|source| TlsError::Write {
        path: path.to_owned(),
        source,
    })
}
