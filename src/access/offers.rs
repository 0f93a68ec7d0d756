//! The offers to an identity: every target and profile in words, with the verdict on a request.
//!
//! It asks the policies and makes no request.

use std::collections::BTreeMap;

use super::{Asked, Desk, ProfileWords, Rules, Visitor, decide};
use crate::names::{ProfileName, TargetName};
use crate::policy::Verdict;

/// A profile that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub profile: ProfileName,
    /// Its rights.
    pub words: ProfileWords,
    /// The verdict on a request for it, for the gate's default window.
    pub verdict: Verdict,
    /// That would become of a request with a reason; without one it is denied.
    pub needs_reason: bool,
}

impl Desk {
    /// The profiles of every target, each with what would become of a request for it; the narrowest first.
    #[must_use]
    pub fn offers(&self, who: &Visitor) -> BTreeMap<TargetName, Vec<Offer>> {
        let rules = self.rules();
        let offers = |(target, profiles): (&TargetName, &Vec<ProfileName>)| {
            let offers = profiles.iter().map(|profile| self.offer(&rules, who, target, profile));
            (target.clone(), offers.collect())
        };
        rules.targets.iter().map(offers).collect()
    }

    fn offer(&self, rules: &Rules, who: &Visitor, target: &TargetName, profile: &ProfileName) -> Offer {
        let verdict = |reason: Option<&str>| {
            let asked = Asked {
                target: target.to_string(),
                profile: Some(profile.to_string()),
                reason: reason.map(str::to_owned),
                ..Asked::default()
            };
            let denied = |why: String| Verdict::Denied { why };
            let wish = match decide::wish(rules, &who.identity, &asked) {
                Ok(wish) => wish,
                Err(error) => return denied(error.to_string()),
            };
            let judged = rules.policies.as_ref().map_or_else(decide::no_policies, |policies| {
                policies.judge(&who.identity, &wish, self.context(who.name(), who.client))
            });
            judged.verdict
        };
        let plain = verdict(None);
        let with_reason = matches!(plain, Verdict::Denied { .. }).then(|| verdict(Some("a reason")));
        let better = with_reason.filter(|verdict| !matches!(verdict, Verdict::Denied { .. }));
        Offer {
            profile: profile.clone(),
            words: rules.words(target, profile),
            needs_reason: better.is_some(),
            verdict: better.unwrap_or(plain),
        }
    }
}
