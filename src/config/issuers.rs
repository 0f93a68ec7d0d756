//! `[[identity.issuers]]`: its values as written, and the settings made from them.
//!
//! It fetches no keys.
//!
//! INVARIANT: two issuers never give the same name to two bearers, and no issuer gives the name of a local user unless the
//! configuration allows it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::checker::SettingsChecker;
use super::reader::TableSection;
use crate::base::duration;
use crate::base::tls::web_address;
use crate::identity::{EmailVerified, IssuerSettings, KeysLocation};
use crate::model::names::IdentityName;

/// Largest tolerance for clock differences. Clocks differ by seconds; a larger value would lengthen the life of tokens.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// Remedy for an issuer without a prefix: a token with `sub = "ana"` would otherwise be that of the local user ana.
const NO_PREFIX: &str = "without it, the issuer's tokens could use the names of local users; set identity_prefix = \"ci:\", or \
                         identity_prefix = \"\" if the issuer never uses the name of a local user";

/// Values of `[[identity.issuers]]`; the path of a key file is still as written.
#[derive(Debug)]
pub(super) struct IssuerTable {
    place: String,
    settings: IssuerSettings,
}

pub(super) fn read(table: &TableSection<'_, '_>) -> Option<IssuerTable> {
    let issuer = table.required("issuer", "set it as in the tokens: issuer = \"https://gitlab.example.org\"");
    let audience = table.required("audience", "set the audience of its tokens: audience = \"tidegate\"");
    let url = table.parsed("jwks_url", |text| web_address(text).map(|_| text.to_owned()));
    let keys = match (url, table.path("jwks_file")) {
        (Some(url), None) => Some(KeysLocation::Url(url)),
        (None, Some(file)) => Some(KeysLocation::File(file)),
        (Some(_), Some(_)) => {
            let reason = "jwks_url is set too".to_owned();
            table.mistake_at("jwks_file", reason, Some("remove one".to_owned()));
            None
        }
        (None, None) => {
            if table.text("jwks_url").is_none() {
                table.mistake_here("its keys are missing; set jwks_url (or jwks_file)".to_owned());
            }
            None
        }
    };
    let leeway = table.duration("leeway", Duration::ZERO).unwrap_or(Duration::from_secs(30));
    if leeway > MAX_LEEWAY {
        let reason = format!(
            "{} is too long; at most {}",
            duration::show(leeway),
            duration::show(MAX_LEEWAY)
        );
        table.mistake_at("leeway", reason, None);
    }
    let prefix = table.required("identity_prefix", NO_PREFIX).filter(|text| {
        let name = format!("{text}x").parse::<IdentityName>();
        name.map_err(|error| table.mistake_at("identity_prefix", error.to_string(), None))
            .is_ok()
    });
    let words = [("required", EmailVerified::Required), ("assumed", EmailVerified::Assumed)];
    let settings = IssuerSettings {
        identity_claim: table.text("identity_claim").unwrap_or_else(|| "sub".to_owned()),
        email_verified: table.one_of("email_verified", &words).unwrap_or_default(),
        identity_prefix: prefix.unwrap_or_default(),
        groups_claim: table.text("groups_claim"),
        claims: table.map("claims").unwrap_or_default(),
        leeway,
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
    };
    Some(IssuerTable {
        place: table.place().to_owned(),
        settings,
    })
}

/// Returns the issuers, with keys that could be read.
pub(super) fn check(checker: &mut SettingsChecker<'_>, tables: &[IssuerTable]) -> Vec<IssuerSettings> {
    let (mut names, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
    let mut issuers = Vec::new();
    for table in tables {
        let at = |key: &str| format!("{}.{key}", table.place);
        let mut settings = table.settings.clone();
        for (key, value) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
            if value.is_empty() {
                checker.note(&at(key), "it is empty", "set it as in the issuer's tokens");
            }
        }
        if !names.insert(&table.settings.issuer) {
            checker.note(&at("issuer"), "this issuer is configured twice", "remove one");
        } else if !prefixes.insert(&table.settings.identity_prefix) {
            let reason = "another issuer has the same prefix, so both could use the same identity";
            checker.note(
                &at("identity_prefix"),
                reason,
                "set a different one for each, like identity_prefix = \"ci:\"",
            );
        }
        if let KeysLocation::File(path) = &settings.keys {
            settings.keys = KeysLocation::File(checker.base.join(path));
            if let Err(reason) = settings.keys.check() {
                checker.note(&at("jwks_file"), reason, "set a file with the issuer's public keys (JWKS)");
            }
        }
        issuers.push(settings);
    }
    issuers
}
