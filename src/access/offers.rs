//! Offers to an identity: every target and profile with a description and the verdict on a request for it.
//!
//! It asks the policies and makes no request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::explain::VerdictView;
use super::{AccessError, AccessRules, AccessService, Caller, Principal, ProfileWords, RequestArgs, decide};
use crate::access::policy::RequestVerdict;
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Reason of a request that is tried with one.
const SOME_REASON: &str = "a reason";
/// Number of denials in an answer for which it is searched what would be permitted: each search asks the policies dozens of times.
const MAX_SEARCHES: usize = 16;

/// Profile, described in words.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProfileBody)]
pub struct ProfileView {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Rights of the profile.
    #[serde(default)]
    pub may: Vec<String>,
    /// Masked columns, each with the value shown instead.
    #[serde(default)]
    pub masks: Vec<String>,
    /// Statements that are refused.
    #[serde(default)]
    pub rails: Vec<String>,
    /// Verdict on a request of the caller for this profile; absent for operators, who cannot request access.
    #[schema(nullable = false)]
    pub verdict: Option<VerdictView>,
    /// True if the verdict applies only to a request with a reason; without one it is denied.
    #[serde(default)]
    pub needs_reason: bool,
    /// Users that could approve such a request, if it needs approvers; only in the answer about one target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<IdentityName>,
}

impl ProfileView {
    /// Makes the body of a profile, without a verdict.
    #[must_use]
    pub fn new(profile: ProfileName, words: ProfileWords) -> Self {
        let ProfileWords { may, masks, rails } = words;
        Self {
            profile,
            may,
            masks,
            rails,
            verdict: None,
            needs_reason: false,
            approvers: Vec::new(),
        }
    }
}

impl AccessService {
    /// Returns the profiles of every target, the narrowest first, each with the verdict on a request for it.
    #[must_use]
    pub fn offers(&self, caller: &Caller) -> BTreeMap<TargetName, Vec<ProfileView>> {
        let rules = self.rules();
        let mut searches = MAX_SEARCHES;
        let offers = |(target, profiles): (&TargetName, &Vec<ProfileName>)| {
            (
                target.clone(),
                self.offers_at(&rules, caller, (target, profiles.as_slice()), &mut searches),
            )
        };
        rules.targets.iter().map(offers).collect()
    }

    fn offers_at(
        &self,
        rules: &AccessRules,
        caller: &Caller,
        (target, profiles): (&TargetName, &[ProfileName]),
        searches: &mut usize,
    ) -> Vec<ProfileView> {
        let offer = |profile: &ProfileName| {
            let verdict = caller
                .person()
                .ok()
                .map(|who| self.offered(rules, who, (target, profile), searches));
            ProfileView {
                needs_reason: verdict.as_ref().is_some_and(|(_, needs_reason)| *needs_reason),
                verdict: verdict.map(|(verdict, _)| verdict.into()),
                ..ProfileView::new(profile.clone(), rules.words(target, profile))
            }
        };
        profiles.iter().map(offer).collect()
    }

    /// Returns the same for one target, with the users that could approve a request where it needs approvers.
    pub async fn offers_of(&self, caller: &Caller, target: &str) -> Result<BTreeMap<TargetName, Vec<ProfileView>>, AccessError> {
        let rules = self.rules();
        let (target, profiles) = decide::find_target(&rules, target)?;
        let mut searches = MAX_SEARCHES;
        let mut profiles = self.offers_at(&rules, caller, (target, profiles), &mut searches);
        for offer in &mut profiles {
            let approvals = offer.verdict.as_ref().and_then(|verdict| verdict.approvals);
            let (Some(approvals), Ok(who)) = (approvals, caller.person()) else {
                continue;
            };
            let reason = offer.needs_reason.then_some(SOME_REASON);
            let wish = decide::wish(&rules, &who.identity, &plain(target, &offer.profile, reason))?;
            offer.approvers = self.approvers_of_offer(Arc::clone(&rules), wish, approvals).await;
        }
        Ok(BTreeMap::from([(target.clone(), profiles)]))
    }

    /// Returns the verdict on a request, and true if that is the verdict on one with a reason. `searches`: the number of denials whose
    /// reason may still be searched for.
    fn offered(
        &self,
        rules: &AccessRules,
        who: &Principal,
        (target, profile): (&TargetName, &ProfileName),
        searches: &mut usize,
    ) -> (RequestVerdict, bool) {
        let context = self.context(who);
        let wish = |reason| decide::wish(rules, &who.identity, &plain(target, profile, reason));
        let (plain, reasoned) = match (wish(None), wish(Some(SOME_REASON))) {
            (Ok(plain), Ok(reasoned)) => (plain, reasoned),
            (Err(error), _) | (_, Err(error)) => return (RequestVerdict::Denied { why: error.to_string() }, false),
        };
        let denied = rules.verdict(&who.identity, &plain, context);
        let RequestVerdict::Denied { why } = &denied else {
            return (denied, false);
        };
        let better = rules.verdict(&who.identity, &reasoned, context);
        if !matches!(better, RequestVerdict::Denied { .. }) {
            return (better, true);
        }
        if !why.is_empty() {
            return (denied, false);
        }
        let searched = *searches > 0;
        *searches = searches.saturating_sub(1);
        let verdict = if searched {
            rules.judge(&who.identity, &plain, context).verdict
        } else {
            let why = format!("no policy permits {} to {}", target.with(Some(profile)), who.name());
            RequestVerdict::Denied { why }
        };
        (verdict, false)
    }
}

/// Returns a request for a profile that names nothing else but a reason.
fn plain(target: &TargetName, profile: &ProfileName, reason: Option<&str>) -> RequestArgs {
    RequestArgs {
        target: target.to_string(),
        profile: Some(profile.to_string()),
        reason: reason.map(str::to_owned),
        ..RequestArgs::default()
    }
}
