//! Claims of a verified token: its validity at a time, and the identity it proves.
//!
//! It verifies no signature and reads no clock. Claims are taken over as text: they have no meaning except the one that the
//! issuer's settings give them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::error::shown;
use super::{EmailVerified, Identity, IdentitySource, IssuerSettings, TokenError};
use crate::model::names::{GroupName, IdentityName};

pub(super) type Claims = Map<String, Value>;

/// Checks that the token is valid at `now`, within the leeway. The claim `exp` is required.
pub(super) fn good_at(claims: &Claims, leeway: SignedDuration, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_duration();
    let expires = time(claims, "exp")?.ok_or(TokenError::NoTime("exp"))?;
    if now >= expires.saturating_add(leeway) {
        return Err(TokenError::Expired(point(expires)));
    }
    for claim in ["nbf", "iat"] {
        if let Some(from) = time(claims, claim)?.filter(|from| now.saturating_add(leeway) < *from) {
            return Err(TokenError::NotYet { claim, at: point(from) });
        }
    }
    Ok(())
}

/// Returns the time at which a token expires; one without a time has expired long ago.
pub(super) fn expiry(claims: &Claims) -> Timestamp {
    let expires = time(claims, "exp").ok().flatten();
    let after_all_time = |expires: SignedDuration| Timestamp::from_duration(expires).unwrap_or(Timestamp::MAX);
    expires.map_or(Timestamp::UNIX_EPOCH, after_all_time)
}

/// Returns the time at which the person proved who they are to the issuer, if the token says so (`auth_time`: OpenID Connect Core 1.0,
/// section 2).
pub(super) fn authenticated_at(claims: &Claims, leeway: SignedDuration, now: Timestamp) -> Result<Option<Timestamp>, TokenError> {
    let claim = "auth_time";
    let Some(at) = time(claims, claim)? else { return Ok(None) };
    if now.as_duration().saturating_add(leeway) < at {
        return Err(TokenError::NotYet { claim, at: point(at) });
    }
    Ok(Some(Timestamp::from_duration(at).unwrap_or(Timestamp::MIN).min(now)))
}

/// Returns the identity that the token proves.
pub(super) fn identity(claims: &Claims, settings: &IssuerSettings) -> Result<Identity, TokenError> {
    let bad = |claim: &str, reason: String| TokenError::Claim {
        claim: claim.to_owned(),
        reason,
    };
    let claim = &settings.identity_claim;
    let value = find(claims, claim).ok_or_else(|| bad(claim, "is missing, but it names the identity".to_owned()))?;
    let value = value.as_str().ok_or_else(|| bad(claim, "is not a string".to_owned()))?;
    if value.is_empty() {
        return Err(bad(claim, "is empty".to_owned()));
    }
    verified(claims, settings)?;
    let name = format!("{}{value}", settings.identity_prefix);
    let name: IdentityName = name
        .parse()
        .map_err(|error| bad(claim, format!("({}) is not a valid name: {error}", shown(&name))))?;
    let groups = match settings.groups_claim.as_deref() {
        None => BTreeSet::new(),
        Some(claim) => groups(find(claims, claim)).map_err(|reason| bad(claim, reason))?,
    };
    Ok(Identity {
        name,
        groups,
        source: IdentitySource::Issuer(settings.issuer.clone()),
        claims: mapped(claims, &settings.claims),
    })
}

/// Checks that an email address that is to be the name is verified (OpenID Connect Core 1.0, section 5.1). The claim
/// `email_verified` is looked up next to the address.
fn verified(claims: &Claims, settings: &IssuerSettings) -> Result<(), TokenError> {
    let Some(beside) = settings.identity_claim.strip_suffix("email") else {
        return Ok(());
    };
    if !beside.is_empty() && !beside.ends_with('.') {
        return Ok(());
    }
    let claim = format!("{beside}email_verified");
    let reason = match find(claims, &claim) {
        Some(verified) if is_true(verified) => return Ok(()),
        Some(_) => "is not true",
        None if settings.email_verified == EmailVerified::Assumed => return Ok(()),
        None => "is missing, but the identity is an email address (to accept it, set the issuer's email_verified = \"assumed\")",
    };
    Err(TokenError::Claim {
        claim,
        reason: reason.to_owned(),
    })
}

/// Returns the groups of a claim. Names that are not valid group names are left out: directories have many of them, and no policy
/// can refer to them, neither to permit nor to forbid.
fn groups(value: Option<&Value>) -> Result<BTreeSet<GroupName>, String> {
    let names: Vec<&str> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split([' ', ',']).filter(|name| !name.is_empty()).collect(),
        Some(Value::Array(list)) => {
            let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            names.ok_or("is a list with values other than strings")?
        }
        Some(_) => return Err("is neither a string nor a list of strings".to_owned()),
    };
    Ok(names.into_iter().filter_map(|name| name.parse().ok()).collect())
}

/// Returns the claims that policies see: texts, numbers and booleans, as text. Lists and objects are left out.
fn mapped(claims: &Claims, names: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let found = names
        .iter()
        .filter_map(|(name, claim)| Some((name.clone(), text(find(claims, claim)?)?)));
    found.collect()
}

/// Returns a claim by its name or, if no claim has that name, by a path with dots (`realm_access.roles`).
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(claims.get(first)?.as_object()?, rest)
    })
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// Parses a NumericDate (RFC 7519, section 2): seconds, possibly with a fraction.
fn time(claims: &Claims, claim: &'static str) -> Result<Option<SignedDuration>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let whole = value.as_i64().map(SignedDuration::from_secs);
    let time = whole.or_else(|| SignedDuration::try_from_secs_f64(value.as_f64()?).ok());
    time.map(Some).ok_or(TokenError::NoTime(claim))
}

/// Formats a time for the log; a time outside the calendar is given in seconds since 1970.
fn point(time: SignedDuration) -> String {
    Timestamp::from_duration(time).map_or_else(|_| format!("{} s after 1970", time.as_secs()), |time| time.to_string())
}
