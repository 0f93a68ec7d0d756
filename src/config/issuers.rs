//! `[identity]`: issuers of accepted tokens, and the names whose clients sign in at one of them.
//!
//! It fetches no keys.
//!
//! INVARIANT: two issuers never give the same name to two bearers, and no issuer gives the name of a local user unless the
//! configuration allows it. A client that signs in is never sent to one of several issuers by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::key::keys;
use super::reader::TableSection;
use crate::base::duration;
use crate::base::tls::web_address;
use crate::gate::frontend::{Discovery, OauthLogins, names_grant};
use crate::identity::{EmailVerified, IssuerSettings, KeysLocation, ProviderClient};
use crate::model::ending::TokenForm;
use crate::model::names::IdentityName;

/// Largest tolerance for clock differences. Clocks differ by seconds; a larger value would lengthen the life of tokens.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

const EMAIL_VERIFIED: &[(&str, EmailVerified)] = &[("required", EmailVerified::Required), ("assumed", EmailVerified::Assumed)];

/// Remedy for an issuer without a prefix: a token with `sub = "ana"` would otherwise be that of the local user ana.
const NO_PREFIX: &str = "without it, the issuer's tokens could use the names of local users; set identity_prefix = \"ci:\", or \
                         identity_prefix = \"\" if the issuer never uses the name of a local user";

const WIRE: &[(&str, TokenForm)] = &[("token", TokenForm::Password), ("oauth", TokenForm::Bearer)];

/// Remedy for an issuer that clients cannot find.
const FIND: &str = "set wire = \"token\", or the issuer's own https address";

/// Issuer as it is configured.
struct ConfiguredIssuer {
    settings: IssuerSettings,
    /// Form in which clients under its names send their tokens.
    wire: TokenForm,
    discovery: Discovery,
}

/// Reads `[identity]`: the issuers, and the names whose clients sign in. `address` is that of the console.
pub(super) fn read(identity: &TableSection<'_>, address: Option<&str>) -> (Vec<IssuerSettings>, OauthLogins) {
    keys! { identity;
        /// The user name of clients that sign in at an issuer (OAUTHBEARER, libpq 18 and newer). Its identity comes from the token. In
        /// force where an issuer is for it. See [signing in with psql](team.md#signing-in-with-psql).
        oauth_user = |key| key.checked("text", login_name).or("sso".to_owned());
        /// The issuer of `oauth_user`.
        oauth_issuer = |key| key.text().or_none("the one with `wire = \"oauth\"`");
    }
    let issuers = issuers(identity, address);
    let shared = shared_issuer(identity, oauth_issuer.as_deref(), &issuers);
    let covers = |issuer: &&ConfiguredIssuer| {
        let prefix = &issuer.settings.identity_prefix;
        !prefix.is_empty() && oauth_user.starts_with(prefix.as_str())
    };
    if shared.is_some()
        && let Some(issuer) = issuers.iter().find(covers)
    {
        let prefix = &issuer.settings.identity_prefix;
        let reason = format!("`{oauth_user}` begins with `{prefix}`, so it could be the name of an identity");
        identity.broken_rule("oauth_user", reason, "set another name, like oauth_user = \"browser\"");
    }
    let prefixes = issuers.iter().map(|issuer| {
        let discovery = (issuer.wire == TokenForm::Bearer).then(|| issuer.discovery.clone());
        (issuer.settings.identity_prefix.clone(), discovery)
    });
    let logins = OauthLogins {
        oauth_user: shared.map(|issuer| (oauth_user, issuer.discovery.clone())),
        prefixes: prefixes.collect(),
    };
    (issuers.into_iter().map(|issuer| issuer.settings).collect(), logins)
}

/// Returns the issuer of the name that stands for whoever the token proves, if there is one.
fn shared_issuer<'i>(
    identity: &TableSection<'_>,
    named: Option<&str>,
    issuers: &'i [ConfiguredIssuer],
) -> Option<&'i ConfiguredIssuer> {
    let Some(named) = named else {
        let mut oauth = issuers.iter().filter(|issuer| issuer.wire == TokenForm::Bearer);
        let (first, second) = (oauth.next(), oauth.next());
        if second.is_some() {
            let reason = "several issuers have wire = \"oauth\", and a client that names nobody is sent to one of them";
            identity.broken_rule("oauth_issuer", reason, "name it: oauth_issuer = \"https://id.example.org\"");
        }
        return first.filter(|_| second.is_none());
    };
    let found = issuers.iter().find(|issuer| issuer.settings.issuer == named);
    if found.is_none() {
        let reason = format!("no issuer is `{named}`");
        identity.broken_rule("oauth_issuer", reason, "write it as in one of [[identity.issuers]]");
    } else if let Err(reason) = discoverable(named) {
        let reason = format!("clients cannot find the issuer: {reason}");
        identity.broken_rule("oauth_issuer", reason, "name an issuer by its own https address");
    }
    found
}

/// Checks the name that stands for whoever the token proves.
fn login_name(name: &str) -> Result<(), String> {
    if names_grant(name) {
        return Err("names that begin with gr_ are those of grants; write another, like sso".to_owned());
    }
    let parsed = name.parse::<IdentityName>();
    parsed.map(drop).map_err(|error| error.to_string())
}

/// Checks that clients can find an issuer's document by its name, and that libpq takes its address.
fn discoverable(issuer: &str) -> Result<(), String> {
    let url = web_address(issuer)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("its address has a query or a fragment".to_owned());
    }
    if issuer.contains("/.well-known/") {
        return Err("it is the address of a document".to_owned());
    }
    Ok(())
}

/// Checks the scopes that clients ask for (RFC 6749, section 3.3).
fn check_scope(text: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
    let good = text.split(' ').all(|scope| !scope.is_empty() && scope.bytes().all(allowed));
    good.then_some(())
        .ok_or("it is not a list of scopes with one space between; write scope = \"openid email\"")
}

/// Reads `[[identity.issuers]]`.
fn issuers(identity: &TableSection<'_>, address: Option<&str>) -> Vec<ConfiguredIssuer> {
    let (mut names, mut prefixes, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let issuers = identity.tables("issuers", |table| {
        let issuer = issuer(table)?;
        let settings = &issuer.settings;
        for (key, value) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
            if value.is_empty() {
                table.broken_rule(key, "it is empty", "set it as in the issuer's tokens");
            }
        }
        if settings.client.is_some() {
            check_sign_in(table, &settings.issuer, address);
            if !addresses.insert(settings.address_name()) {
                let reason =
                    "another issuer with a client_id has the same host and path, and both would have one redirect address";
                table.broken_rule("client_id", reason, "leave it to one of them");
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
        if issuer.wire == TokenForm::Bearer
            && let Err(reason) = discoverable(&settings.issuer)
        {
            table.broken_rule("wire", format!("clients cannot find the issuer: {reason}"), FIND);
        }
        Some(issuer)
    });
    issuers.into_iter().flatten().collect()
}

/// Checks that browsers find the way to an issuer and back.
fn check_sign_in(table: &TableSection<'_>, issuer: &str, address: Option<&str>) {
    if address.is_none() {
        let reason = "console.address is not set, so nobody could come back from the issuer";
        let remedy = "set the address of the gate for browsers: [console] address = \"https://gate.example.org:7433\"";
        table.broken_rule("client_id", reason, remedy);
    }
    if let Err(reason) = discoverable(issuer) {
        table.broken_rule(
            "client_id",
            format!("nobody could sign in at the issuer: {reason}"),
            "remove the key, or set the issuer's own https address",
        );
    }
}

/// Reads the keys with which people sign in.
fn client(table: &TableSection<'_>, scope: &str) -> Option<ProviderClient> {
    keys! { table;
        /// The `client_id` under which the gate is registered at the issuer. With it people sign in with the issuer, at the console
        /// and with `tidegate login`. Its redirect address there is `console.address` and `/signin/callback/HOST`, with the issuer's
        /// host. Of several issuers on one host each has its path behind it, with `~`: `/signin/callback/HOST~realms~qa`.
        client_id = |key| key.text().or_none("none");
    }
    keys! { table;
        /// A file with the secret of that client, if it has one.
        client_secret_file = |key| key.path().or_none("none");
        /// Instead: an environment variable with it.
        client_secret_env = |key| key.text().or_none("none");
    }
    if client_id.as_deref() == Some("") {
        table.broken_rule(
            "client_id",
            "it is empty",
            "write the id that the issuer has for the gate, or remove the key",
        );
    }
    let has_secret = client_secret_file.is_some() || client_secret_env.is_some();
    if client_id.is_none() && has_secret {
        let key = if client_secret_file.is_some() {
            "client_secret_file"
        } else {
            "client_secret_env"
        };
        table.broken_rule(key, "it has no effect without client_id", "set client_id, or remove the key");
    }
    let secret = table.secret("client_secret", client_secret_file, client_secret_env);
    if client_id.is_some() && !scope.split(' ').any(|scope| scope == "openid") {
        table.broken_rule(
            "scope",
            "it has no `openid`, so the issuer gives no ID token",
            "write scope = \"openid email\"",
        );
    }
    Some(ProviderClient {
        id: client_id?,
        secret,
        scope: scope.to_owned(),
    })
}

fn issuer(table: &TableSection<'_>) -> Option<ConfiguredIssuer> {
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
        /// Proof that clients are asked for under the names of this issuer: their `token` as a password, or a sign-in there (`oauth`).
        /// An issuer without a prefix has no names of its own; `oauth_user` signs in.
        wire = |key| key.one_of(WIRE).or(TokenForm::Password);
        /// The scopes that people's sign-ins ask for, with a space between.
        scope = |key| key.checked("text", check_scope).or("openid".to_owned());
    }
    if leeway > MAX_LEEWAY {
        let (found, most) = (duration::show(leeway), duration::show(MAX_LEEWAY));
        table.mistake_at("leeway", format!("{found} is too long; at most {most}"), "");
    }
    let settings = IssuerSettings {
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        identity_claim,
        email_verified,
        identity_prefix,
        groups_claim,
        claims,
        leeway,
        client: client(table, &scope),
    };
    Some(ConfiguredIssuer {
        discovery: Discovery::new(&settings.issuer, &scope),
        settings,
        wire,
    })
}
