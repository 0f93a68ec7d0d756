//! Answers from a chat: from a click to the decision, and what its clicker is told.
//!
//! It verifies no call (the route does), and decides nothing: the person whom the click stands for calls the access service like
//! anybody else.

use std::sync::Arc;

use super::ControlContext;
use super::authenticate::wait_of;
use super::problem::ApiError;
use crate::access::{AccessError, Caller, ChatPerson, NarrowedRequest, Principal};
use crate::base::duration;
use crate::base::secret::Secret;
use crate::chat::{self, ChatAnswer, ChatSettings, Click};
use crate::ledger::RequestView;
use crate::model::names::IdentityName;
use crate::model::request::RequestState;

/// Refusal of a review that says nothing.
const NO_RESULT: &str = "a review needs its result; type it into the message above the button, and click again";

/// Result of an answer.
struct ChatResult {
    /// Result in words, for everybody in the channel.
    text: String,
    /// True if nothing is left to decide.
    settled: bool,
}

/// Decides on a click, and posts what came of it.
pub(super) async fn answer(gate: Arc<ControlContext>, settings: Arc<ChatSettings>, click: Click) {
    let message = match decide(&gate, &settings, &click).await {
        Ok(result) => chat::decided(click.blocks.clone(), &result.text, result.settled),
        Err(error) => chat::refused(&refusal(&settings, &click.answer, &error)),
    };
    if let Err(reason) = click.tell(&settings, &message).await {
        let (about, user) = (click.answer.about(), &click.user);
        tracing::warn!(
            about,
            user,
            reason,
            "cannot post to the chat what came of an answer; the answer counts all the same"
        );
    }
}

async fn decide(gate: &ControlContext, settings: &ChatSettings, click: &Click) -> Result<ChatResult, ApiError> {
    let caller = person(gate, settings, &click.user).await?;
    let who = caller.person()?;
    // What the caller's records take of the log is waited for as at any call, also if it was refused.
    let wait = wait_of(&caller, gate);
    let result = act(gate, &caller, who, click).await;
    tokio::time::sleep(wait).await;
    result
}

async fn act(gate: &ControlContext, caller: &Caller, who: &Principal, click: &Click) -> Result<ChatResult, ApiError> {
    let (by, comment) = (who.name(), click.comment.clone());
    let said = comment.as_ref().map_or_else(String::new, |comment| format!(": {comment}"));
    Ok(match &click.answer {
        ChatAnswer::Approve(request, window) => {
            let narrowed = NarrowedRequest {
                window: *window,
                profile: None,
            };
            let view = gate.service.approve(who, request, narrowed, comment).await?;
            approved(gate, by, &view, &said)
        }
        ChatAnswer::Reject(request) => {
            gate.service.reject(who, request, comment).await?;
            ChatResult {
                text: format!("{by} rejected {request}{said}"),
                settled: true,
            }
        }
        ChatAnswer::Review(request) => {
            let comment = comment.ok_or_else(|| AccessError::Invalid(NO_RESULT.to_owned()))?;
            gate.service.review(who, request, comment).await?;
            ChatResult {
                text: format!("{by} reviewed the break-glass access {request}{said}"),
                settled: true,
            }
        }
        ChatAnswer::Extend(grant, time) => {
            // Others' grants are extended at the console, where it can be seen whose they are.
            if gate.service.grant(caller, grant).await?.grant.identity() != by {
                return Err(AccessError::NotYours(grant.clone()).into());
            }
            let view = gate.service.extend(caller, grant, *time, None).await?;
            let until = view
                .grant
                .until()
                .map(|until| until.strftime("; it ends at %H:%M UTC").to_string());
            ChatResult {
                text: format!(
                    "{by} extended {grant} by {}{}",
                    duration::show(*time),
                    until.unwrap_or_default()
                ),
                settled: true,
            }
        }
    })
}

/// Returns the person whom a user of the chat stands for.
async fn person(gate: &ControlContext, settings: &ChatSettings, user: &str) -> Result<Caller, ApiError> {
    let claimed = format!("slack:{user}");
    let person = match settings.users.get(user) {
        Some(name) => ChatPerson::Named(name.clone()),
        None => match gate.chat.address(settings, user).await {
            Ok(address) => ChatPerson::Email(address),
            Err(error) => {
                let detail = error.to_string();
                gate.service.refused_in_chat(Some(claimed), detail.clone(), None).await;
                return Err(AccessError::NotInChat(detail).into());
            }
        },
    };
    let principal = gate.service.identify_in_chat(&person, &claimed).await?;
    // The click is the proof; there is no token that could be proved again.
    Ok(Caller::Person(principal, Arc::new(Secret::new(String::new()))))
}

fn approved(gate: &ControlContext, by: &IdentityName, view: &RequestView, said: &str) -> ChatResult {
    let request = &view.request;
    let settled = request.status(gate.clock.now()) != RequestState::Pending;
    let text = if settled {
        format!(
            "{by} approved {} for {}{said}",
            request.id,
            duration::show(request.wish.window)
        )
    } else {
        format!(
            "{by} approved {}{said}; approvals still needed: {}",
            request.id, view.approvals_missing
        )
    };
    ChatResult { text, settled }
}

/// Returns what the clicker is told of an answer that changed nothing: the object, the reason, the remedy.
fn refusal(settings: &ChatSettings, answer: &ChatAnswer, error: &ApiError) -> String {
    let problem = error.problem();
    let remedy = problem.remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
    let link = match (&settings.link, answer) {
        (Some(link), ChatAnswer::Approve(request, _) | ChatAnswer::Reject(request) | ChatAnswer::Review(request)) => {
            format!(" At the console: {}/requests/{request}", link.trim_end_matches('/'))
        }
        _ => String::new(),
    };
    format!("{}: {}{remedy}.{link}", answer.about(), problem.detail)
}
