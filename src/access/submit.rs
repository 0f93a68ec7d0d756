//! Submission of requests for access.
//!
//! It does not decide: the policies judge, and the ledger stores the request and its grant.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::recorded_decision::RecordedDecision;
use super::{AccessError, AccessRules, AccessService, EntryDecision, Principal, RequestArgs, decide};
use crate::access::policy::{Action, Decision, Judgement, QuestionContext, RequestVerdict};
use crate::audit::event::RefusalKind;
use crate::ledger::{DecisionReasons, NewRequest, RequestView};
use crate::model::ending::EndingKind;
use crate::model::request::{RequestOutcome, RequestSpec};

/// Setting recorded in place of a policy when the rate limit refuses a request.
const RATE_SETTING: &str = "access.requests_per_minute";

impl AccessService {
    /// Submits a request. A pending request for the same wish is returned instead of a second one. A denial by the policies is
    /// recorded and returned as an error.
    pub async fn submit(&self, who: &Principal, asked: RequestArgs) -> Result<RequestView, AccessError> {
        let rules = self.rules();
        let wish = decide::wish(&rules, &who.identity, &asked)?;
        let _turn = self.0.turns.take(who.name().as_str()).await;
        self.submit_in_turn(who, &rules, wish, &asked).await
    }

    /// Returns the live grant that covers the wish, or a request for it. Concurrent calls of one identity (the connections of one
    /// test run) share one request.
    pub async fn enter(&self, who: &Principal, asked: RequestArgs) -> Result<EntryDecision, AccessError> {
        let rules = self.rules();
        let wish = decide::wish(&rules, &who.identity, &asked)?;
        let _turn = self.0.turns.take(who.name().as_str()).await;
        if let Some(joined) = self.joined(who, &rules, &asked, &wish).await? {
            return Ok(EntryDecision::Grant(Box::new(joined.view), joined.request.map(Box::new)));
        }
        let view = self.submit_in_turn(who, &rules, wish, &asked).await?;
        Ok(EntryDecision::Request(Box::new(view)))
    }

    async fn submit_in_turn(
        &self,
        who: &Principal,
        rules: &AccessRules,
        wish: RequestSpec,
        asked: &RequestArgs,
    ) -> Result<RequestView, AccessError> {
        if let Some(view) = self.asked_again(who, rules, asked, &wish) {
            return Ok(view);
        }
        let now = self.0.clock.now();
        if let Err(wait) = self.0.floods.admit(who.name(), rules.requests_per_minute, now) {
            self.flooded(who, rules, &wish).await;
            return Err(AccessError::TooMany {
                identity: who.name().clone(),
                limit: rules.requests_per_minute,
                wait,
            });
        }
        let context = self.context(who);
        let Judgement {
            verdict,
            policies,
            errors,
        } = rules.judge(&who.identity, &wish, context);
        let new = NewRequest {
            submitted: decide::submitted(verdict, &wish, rules.pending_for, now),
            wish: wish.clone(),
            key: asked.key.clone(),
            activate_within: Duration::max(rules.activate_within, crate::model::grant::MIN_WINDOW),
        };
        let reasons = DecisionReasons {
            policies: policies.clone(),
            policy_set: rules.policy_set(),
            errors,
            client: who.client,
            via: Some(who.via),
        };
        let view = self.0.ledger.submit(new, reasons).await?;
        // Otherwise the caller would take the answer to the earlier request for the answer to this one.
        if !decide::same_request(&view.request.wish, &wish) {
            return Err(AccessError::Invalid(
                "this idempotency key was used for another request; use a new one for each request".to_owned(),
            ));
        }
        match &view.request.outcome {
            Some(RequestOutcome::Denied { why, .. }) => Err(AccessError::Denied {
                action: Action::Request,
                why: why.clone(),
                policies,
                sign_in_again: is_allowed_after_sign_in(rules, who, &wish, context),
            }),
            _ => Ok(view),
        }
    }

    /// Counts and records a request refused by the rate limit; the record itself is rate limited.
    async fn flooded(&self, who: &Principal, rules: &AccessRules, wish: &RequestSpec) {
        tracing::warn!(identity = %who.name(), limit = rules.requests_per_minute, "too many requests from an identity; refusing one");
        self.0.floods_refused.fetch_add(1, Ordering::Relaxed);
        let refused = RecordedDecision {
            decision: Decision {
                allowed: false,
                policies: vec![RATE_SETTING.to_owned()],
                errors: Vec::new(),
            },
            action: Action::Request,
            who: who.name().clone(),
            client: who.client,
            via: who.via,
            policy_set: rules.policy_set(),
            advice: String::new(),
            sign_in_again: false,
        };
        let (kind, event) = (
            RefusalKind::Ending(EndingKind::TooManyRequests),
            refused.event(&wish.target.with(Some(&wish.profile))),
        );
        self.0.refusals.record(who.client, kind, &event).await;
    }
}

/// Returns true if the policies would not deny the wish to the same person with a sign-in of this moment.
fn is_allowed_after_sign_in(rules: &AccessRules, who: &Principal, wish: &RequestSpec, context: QuestionContext) -> bool {
    context.signed_in_now().is_some_and(|context| {
        let again = rules.judge(&who.identity, wish, context);
        !matches!(again.verdict, RequestVerdict::Denied { .. })
    })
}
