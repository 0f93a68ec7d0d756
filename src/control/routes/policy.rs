//! `/v1/policy/explain`: the answer that the policies would give, and the changes that would alter it. Nothing is changed.

use axum::Json;
use axum::body::Bytes;

use super::requests::wanted;
use super::{JsonAnswer, body};
use crate::access::policy::Action;
use crate::access::{HypotheticalQuestion, QuestionSubject};
use crate::control::authenticate::Call;
use crate::control::model::{ExplainBody, ExplanationBody};
use crate::control::problem::ApiError;

#[utoipa::path(post, path = "/v1/policy/explain", tag = "policy", summary = "Decision of the policies, and the changes that would permit it",
    description = "Everyone may ask about themselves; about others only with `read-log` or `administer`.",
    request_body = ExplainBody, responses((status = 200, description = "The decision, without effect", body = ExplanationBody)))]
pub(in crate::control) async fn explain(Call { gate, caller }: Call, bytes: Bytes) -> JsonAnswer<ExplanationBody> {
    let question: ExplainBody = body(&bytes)?;
    caller.person()?;
    let about = about(&question)?;
    let hypothesis = HypotheticalQuestion {
        identity: question.identity,
        groups: question.groups.map(|groups| groups.into_iter().collect()),
        at: question.at,
        client: question.client,
        about,
    };
    Ok(Json(gate.service.explain(&caller, hypothesis).await?))
}

fn about(question: &ExplainBody) -> Result<QuestionSubject, ApiError> {
    let missing = |what: &str| ApiError::Malformed(format!("this action needs {what}"));
    let name = question.action.as_deref().unwrap_or(Action::Request.name());
    let action = Action::ALL.into_iter().find(|action| action.name() == name);
    let action = action.ok_or_else(|| {
        let all: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        ApiError::Malformed(format!("unknown action `{name}`; use one of: {}", all.join(", ")))
    })?;
    Ok(match action {
        Action::Request | Action::AutoApprove | Action::BreakGlass => {
            let mut access = question
                .access
                .clone()
                .ok_or_else(|| missing("the requested access (`access`)"))?;
            access.break_glass |= action == Action::BreakGlass;
            QuestionSubject::Access(wanted(access, None))
        }
        Action::Approve => QuestionSubject::Request(question.request.clone().ok_or_else(|| missing("a request (`request`)"))?),
        Action::Extend | Action::Revoke => {
            QuestionSubject::Grant(action, question.grant.clone().ok_or_else(|| missing("a grant (`grant`)"))?)
        }
        Action::ReadLog | Action::Administer => QuestionSubject::Gate(action),
    })
}
