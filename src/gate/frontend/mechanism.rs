//! Choice of the login by the startup packet's user name: names whose clients sign in at an issuer (OAUTHBEARER).
//!
//! This module does not know identities, only how names begin.
//!
//! INVARIANT: the choice depends on the name and the configuration alone, never on whether an identity has the name. A name of a
//! grant is never among them.

use super::token::names_grant;
use crate::protocol::oauth_bearer::Discovery;

/// Names whose clients sign in at an issuer. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OauthLogins {
    /// Name that stands for whoever the token proves, and the issuer that gives the token.
    pub oauth_user: Option<(String, Discovery)>,
    /// Prefixes of the issuers' names; `None`: these clients send their token as a password. The empty prefix has no names here.
    pub prefixes: Vec<(String, Option<Discovery>)>,
}

impl OauthLogins {
    /// Returns the issuer to sign in at as `user`; `None` if that name proves itself in another way. Of several prefixes that
    /// `user` begins with the longest counts, as it does for the identities' names.
    #[must_use]
    pub fn offered_to(&self, user: &str) -> Option<&Discovery> {
        if names_grant(user) {
            return None;
        }
        if let Some((name, discovery)) = &self.oauth_user
            && name == user
        {
            return Some(discovery);
        }
        let of_user = |(prefix, _): &&(String, Option<Discovery>)| !prefix.is_empty() && user.starts_with(prefix.as_str());
        let longest = self.prefixes.iter().filter(of_user).max_by_key(|(prefix, _)| prefix.len());
        longest?.1.as_ref()
    }

    /// Returns true if the name stands for whoever the token proves.
    #[must_use]
    pub fn is_oauth_user(&self, user: &str) -> bool {
        self.oauth_user.as_ref().is_some_and(|(name, _)| name == user)
    }

    /// Returns true if clients sign in at this issuer under any name. Tokens of others do not belong into OAUTHBEARER.
    #[must_use]
    pub fn has_issuer(&self, issuer: &str) -> bool {
        let shared = self.oauth_user.iter().map(|(_, discovery)| discovery);
        let mut all = shared.chain(self.prefixes.iter().filter_map(|(_, discovery)| discovery.as_ref()));
        all.any(|discovery| discovery.issuer() == issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_by_their_beginning_alone() {
        let discovery = |issuer: &str| Discovery::new(issuer, "openid");
        let logins = OauthLogins {
            oauth_user: Some(("sso".to_owned(), discovery("https://people"))),
            prefixes: vec![
                ("id:".to_owned(), Some(discovery("https://id"))),
                ("id:ci:".to_owned(), None),
                ("github:".to_owned(), None),
                ("id:ci:people:".to_owned(), Some(discovery("https://deep"))),
                (String::new(), Some(discovery("https://any"))),
            ],
        };
        let issuer = |user: &str| logins.offered_to(user).map(Discovery::issuer);
        for (user, expected) in [
            ("sso", Some("https://people")),
            ("id:ana", Some("https://id")),
            ("id:", Some("https://id")),
            ("id:ci:shop/orders", None),
            ("id:ci:people:ana", Some("https://deep")),
            ("github:shop/orders", None),
            // No name belongs to the empty prefix: local users have such names, too.
            ("ana@example.com", None),
            ("SSO", None),
            ("sso ", None),
            ("ssop", None),
            ("id", None),
            ("", None),
            ("gr_0123456789", None),
        ] {
            assert_eq!(issuer(user), expected, "{user:?}");
        }
        assert!(logins.is_oauth_user("sso") && !logins.is_oauth_user("id:ana"));
        for (issuer, taken) in [
            ("https://people", true),
            ("https://deep", true),
            ("https://github", false),
            ("", false),
        ] {
            assert_eq!(logins.has_issuer(issuer), taken, "{issuer}");
        }
    }

    #[test]
    fn a_grants_name_is_never_among_them() {
        let discovery = Discovery::new("https://id", "openid");
        let logins = OauthLogins {
            oauth_user: Some(("gr_sso".to_owned(), discovery.clone())),
            prefixes: vec![("gr_".to_owned(), Some(discovery.clone())), ("g".to_owned(), Some(discovery))],
        };
        for user in ["gr_", "gr_sso", "gr_0123456789", "gr_mistyped.k7ab"] {
            assert_eq!(logins.offered_to(user), None, "{user}");
        }
        assert!(logins.offered_to("grace").is_some());
        assert_eq!(OauthLogins::default().offered_to("sso"), None);
    }
}
