//! `[[identity.issuers]]`: issuers of accepted tokens.
//!
//! It fetches no keys.
//!
//! INVARIANT: two issuers never give the same name to two bearers, and no issuer gives the name of a local user unless the
//! configuration allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::key::keys;
use super::reader::TableSection;
use crate::base::duration;
use crate::base::tls::web_address;
use crate::identity::{EmailVerified, IssuerSettings, KeysLocation};
use crate::model::names::IdentityName;

/// Largest tolerance for clock differences. Clocks differ by seconds; a larger value would lengthen the life of tokens.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

const EMAIL_VERIFIED: &[(&str, EmailVerified)] = &[("required", EmailVerified::Required), ("assumed", EmailVerified::Assumed)];

/// Remedy for an issuer without a prefix: a token with `sub = "ana"` would otherwise be that of the local user ana.
const NO_PREFIX: &str = "without it, the issuer's tokens could use the names of local users; set identity_prefix = \"ci:\", or \
                         identity_prefix = \"\" if the issuer never uses the name of a local user";

/// Reads `[[identity.issuers]]`.
pub(super) fn read(identity: &TableSection<'_>) -> Vec<IssuerSettings> {
    let (mut names, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
    let issuers = identity.tables("issuers", |table| {
        let settings = issuer(table)?;
        for (key, value) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
            if value.is_empty() {
                table.broken_rule(key, "it is empty", "set it as in the issuer's tokens");
            }
        }
        if !names.insert(settings.issuer.clone()) {
            table.broken_rule("issuer", "this issuer is configured twice", "remove one");
        } else if !prefixes.insert(settings.identity_prefix.clone()) {
            let reason = "another issuer has the same prefix, so both could use the same identity";
            let remedy = "set a different one for each, like identity_prefix = \"ci:\"";
            table.broken_rule("identity_prefix", reason, remedy);
        }
        if matches!(settings.keys, KeysLocation::File(_))
            && table.opens("jwks_file")
            && let Err(reason) = settings.keys.check()
        {
            table.broken_rule("jwks_file", reason, "set a file with the issuer's public keys (JWKS)");
        }
        Some(settings)
    });
    issuers.into_iter().flatten().collect()
}

fn issuer(table: &TableSection<'_>) -> Option<IssuerSettings> {
    let named = |prefix: &String| {
        let name = format!("{prefix}x").parse::<IdentityName>();
        let noted = name.map_err(|error| table.mistake_at("identity_prefix", error.to_string(), ""));
        noted.is_ok()
    };
    keys! { table;
        /// The issuer whose tokens are accepted: their `iss` claim. See [identity providers](team.md#identity-providers).
        issuer = |key| key.text().required("set it as in the tokens: issuer = \"https://gitlab.example.org\"");
        /// The audience of its tokens: their `aud` claim.
        audience = |key| key.text().required("set the audience of its tokens: audience = \"tidegate\"");
        /// Its public keys: https, or http to a loopback address.
        jwks_url = |key| key.checked("address", web_address).or_none("required");
        /// Instead: a file with them.
        jwks_file = |key| key.path().or_none("none");
    }
    let keys = match (jwks_url, jwks_file) {
        (Some(url), None) => Some(KeysLocation::Url(url)),
        (None, Some(file)) => Some(KeysLocation::File(file)),
        (Some(_), Some(_)) => {
            table.mistake_at("jwks_file", "jwks_url is set too", "remove one");
            None
        }
        (None, None) => {
            if !table.has("jwks_url") {
                table.mistake_at("", "its keys are missing; set jwks_url (or jwks_file)", "");
            }
            None
        }
    };
    keys! { table;
        /// Tolerated difference of the issuer's clock; at most 5 minutes.
        leeway = |key| key.duration(Duration::ZERO).or(Duration::from_secs(30));
        /// Prefix of the identity's name. Every issuer has its own. `""` is safe only where no name the issuer gives is ever a
        /// local user's.
        identity_prefix = |key| key.text().required(NO_PREFIX).filter(named).unwrap_or_default();
        /// The claim that names the identity.
        identity_claim = |key| key.text().or("sub".to_owned());
        /// A name that is an address needs a true `email_verified`. With `"assumed"` it may be missing.
        email_verified = |key| key.one_of(EMAIL_VERIFIED).or(EmailVerified::default());
        /// The claim with the groups: a list, or one text with spaces or commas.
        groups_claim = |key| key.text().or_none("none");
        /// Claims that policies see: their names there, and the claims of the token they come from.
        claims = |key| key.map().or_as("none", BTreeMap::new());
    }
    if leeway > MAX_LEEWAY {
        let (found, most) = (duration::show(leeway), duration::show(MAX_LEEWAY));
        table.mistake_at("leeway", format!("{found} is too long; at most {most}"), "");
    }
    Some(IssuerSettings {
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        identity_claim,
        email_verified,
        identity_prefix,
        groups_claim,
        claims,
        leeway,
    })
}
