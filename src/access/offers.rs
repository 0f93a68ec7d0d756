//! Offers to an identity: every target and profile with a description and the verdict on a request for it.
//!
//! It asks the policies and makes no request.

use std::collections::BTreeMap;

use super::{AccessRules, AccessService, Caller, Principal, ProfileWords, RequestArgs, decide};
use crate::access::policy::RequestVerdict;
use crate::model::names::{ProfileName, TargetName};

/// Profile that can be requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Description of its rights.
    pub words: ProfileWords,
    /// Verdict on a request for it with the default window; `None` for an operator, who cannot request access.
    pub verdict: Option<RequestVerdict>,
    /// True if the verdict needs a reason in the request; without one it is denied.
    pub needs_reason: bool,
}

impl AccessService {
    /// Returns the profiles of every target, the narrowest first, each with the verdict on a request for it.
    #[must_use]
    pub fn offers(&self, caller: &Caller) -> BTreeMap<TargetName, Vec<Offer>> {
        let rules = self.rules();
        let offers = |(target, profiles): (&TargetName, &Vec<ProfileName>)| {
            let offer = |profile: &ProfileName| {
                let verdict = caller.person().ok().map(|who| self.offered(&rules, who, target, profile));
                Offer {
                    profile: profile.clone(),
                    words: rules.words(target, profile),
                    needs_reason: verdict.as_ref().is_some_and(|(_, needs_reason)| *needs_reason),
                    verdict: verdict.map(|(verdict, _)| verdict),
                }
            };
            (target.clone(), profiles.iter().map(offer).collect())
        };
        rules.targets.iter().map(offers).collect()
    }

    /// Returns the verdict on a request, and true if that is the verdict on one with a reason.
    fn offered(
        &self,
        rules: &AccessRules,
        who: &Principal,
        target: &TargetName,
        profile: &ProfileName,
    ) -> (RequestVerdict, bool) {
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
        let needs_reason = better.is_some();
        (better.unwrap_or(plain), needs_reason)
    }
}
