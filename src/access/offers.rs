//! Offers to an identity: every target and profile with a description and the verdict on a request for it.
//!
//! It asks the policies and makes no request.

use std::collections::BTreeMap;

use super::{AccessRules, AccessService, Principal, ProfileWords, RequestArgs, decide};
use crate::access::policy::RequestVerdict;
use crate::model::names::{ProfileName, TargetName};

/// Profile that can be requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Description of its rights.
    pub words: ProfileWords,
    /// Verdict on a request for it with the default window.
    pub verdict: RequestVerdict,
    /// True if the verdict needs a reason in the request; without one it is denied.
    pub needs_reason: bool,
}

impl AccessService {
    /// Returns the profiles of every target, the narrowest first, each with the verdict on a request for it.
    #[must_use]
    pub fn offers(&self, who: &Principal) -> BTreeMap<TargetName, Vec<Offer>> {
        let rules = self.rules();
        let offers = |(target, profiles): (&TargetName, &Vec<ProfileName>)| {
            let offers = profiles.iter().map(|profile| self.offer(&rules, who, target, profile));
            (target.clone(), offers.collect())
        };
        rules.targets.iter().map(offers).collect()
    }

    fn offer(&self, rules: &AccessRules, who: &Principal, target: &TargetName, profile: &ProfileName) -> Offer {
        let verdict = |reason: Option<&str>| {
            let asked = RequestArgs {
                target: target.to_string(),
                profile: Some(profile.to_string()),
                reason: reason.map(str::to_owned),
                ..RequestArgs::default()
            };
            let denied = |why: String| RequestVerdict::Denied { why };
            let wish = match decide::wish(rules, &who.identity, &asked) {
                Ok(wish) => wish,
                Err(error) => return denied(error.to_string()),
            };
            let context = self.context(who.name(), who.client);
            rules.judge(&who.identity, &wish, context).verdict
        };
        let plain = verdict(None);
        let with_reason = matches!(plain, RequestVerdict::Denied { .. }).then(|| verdict(Some("a reason")));
        let better = with_reason.filter(|verdict| !matches!(verdict, RequestVerdict::Denied { .. }));
        Offer {
            profile: profile.clone(),
            words: rules.words(target, profile),
            needs_reason: better.is_some(),
            verdict: better.unwrap_or(plain),
        }
    }
}
