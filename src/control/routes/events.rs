//! `GET /v1/events`: changes as server-sent events, as they happen: `request`, `grant` and `session`, each with its view.
//!
//! It keeps no history: a subscriber that falls behind gets `lagged` and must read the state again. Each caller receives only
//! the objects that they may see, also after their rights have changed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::access::identity_limiter::IdentityPermit;
use crate::access::policy::Action;
use crate::access::{Caller, CallerStanding};
use crate::control::ControlContext;
use crate::control::authenticate::Call;
use crate::control::long_poll::LongPollLimiter;
use crate::control::problem::ApiError;
use crate::gate::session::SessionView;
use crate::ledger::{ChangedSubject, GrantView, RequestView};
use crate::model::names::IdentityName;
use crate::model::request::Request;

/// Interval of the keep-alive comments on an idle stream.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Number of changes that a subscriber missed.
#[derive(Serialize)]
struct LaggedEvent {
    missed: u64,
}

struct EventSubscriber {
    gate: Arc<ControlContext>,
    caller: Caller,
    all: bool,
    changes: Receiver<ChangedSubject>,
    sessions: Receiver<SessionView>,
    limiter: LongPollLimiter,
    standing: CallerStanding,
    /// Events to send before all others.
    first: VecDeque<Event>,
    _place: IdentityPermit,
}

#[utoipa::path(get, path = "/v1/events", tag = "events", summary = "Stream of changes",
    description = "Server-sent events. `request`, `grant` and `session` carry the view after the change (an ended session's state is `ended`); `lagged` has the number of missed events: read the current state again. Comments are heartbeats.",
    responses((status = 200, description = "A stream; it ends when the gate stops, for a person also after an hour or when their rights change", content_type = "text/event-stream", body = String)))]
pub(in crate::control) async fn stream(
    Call { gate, caller }: Call,
    Extension(limiter): Extension<LongPollLimiter>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let standing = gate.service.standing(&caller);
    let subscriber = EventSubscriber {
        all: gate.service.would(&caller, Action::Administer),
        changes: gate.service.changes(),
        sessions: gate.registry.changes(),
        standing,
        // A client that reads the state after this comment misses no change.
        first: VecDeque::from([Event::default().comment("subscribed")]),
        _place: limiter.subscribers.enter(&caller)?,
        gate,
        caller,
        limiter,
    };
    Ok(Sse::new(subscriber.events()).keep_alive(KeepAlive::new().interval(HEARTBEAT_INTERVAL)))
}

impl EventSubscriber {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, |mut subscriber| async {
            let event = subscriber.next().await?;
            Some((Ok(event), subscriber))
        })
    }

    /// Returns the next event for this subscriber; `None` when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.first.pop_front() {
            return Some(event);
        }
        loop {
            let event = tokio::select! {
                () = self.limiter.stopped() => return None,
                () = self.standing.over() => return None,
                changed = self.changes.recv() => match changed {
                    Ok(ChangedSubject::Request(request)) => self.request(&request).await,
                    Ok(ChangedSubject::Grant(view)) => self.grant(&view).await,
                    Err(RecvError::Lagged(missed)) => Some(event("lagged", &LaggedEvent { missed })),
                    Err(RecvError::Closed) => return None,
                },
                session = self.sessions.recv() => match session {
                    Ok(view) => self.own(&view.who.identity).then(|| event("session", &view)),
                    Err(RecvError::Lagged(missed)) => Some(event("lagged", &LaggedEvent { missed })),
                    Err(RecvError::Closed) => return None,
                },
            };
            if !self.standing.holds() {
                return None;
            }
            if event.is_some() {
                return event;
            }
        }
    }

    /// Returns the event of a request for its requester and, as the access service decides, for those who may approve it.
    async fn request(&self, request: &Request) -> Option<Event> {
        let view = if self.own(&request.wish.identity) {
            RequestView::of(request, self.gate.clock.now())
        } else {
            self.gate.service.request(&self.caller, &request.id).await.ok()?
        };
        Some(event("request", &view))
    }

    /// Returns the event of a grant for its owner, and for those who may revoke it or have approved it.
    async fn grant(&self, view: &GrantView) -> Option<Event> {
        let seen = self.own(view.grant.identity()) || self.gate.service.grant(&self.caller, view.grant.id()).await.is_ok();
        seen.then(|| event("grant", view))
    }

    fn own(&self, identity: &IdentityName) -> bool {
        self.all || self.caller.is(identity)
    }
}

fn event(kind: &str, data: &impl Serialize) -> Event {
    // JSON without line breaks; serialization of these types cannot fail.
    Event::default()
        .event(kind)
        .data(serde_json::to_string(data).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use tokio::sync::{broadcast, watch};

    use super::*;
    use crate::control::authenticate::tests::person;
    use crate::control::tests::Served;

    fn session(identity: &str, state: &str) -> SessionView {
        let view = json!({
            "session": "se_0123456789", "grant": "gr_0123456789", "identity": identity, "target": "orders", "database": "orders",
            "client": "10.0.0.1:5000", "since": "2026-01-01T00:00:00Z", "state": state, "statements": 3, "backend_pid": 42,
        });
        serde_json::from_value(view).unwrap()
    }

    /// Who hears what: an operator of everything, Ana of her own.
    #[tokio::test]
    async fn sessions_are_told_and_so_is_how_many_were_missed() {
        let served = Served::start().await;
        let operator = Caller::Admin {
            operator: "ops".to_owned(),
        };
        for (caller, hears_of_bob) in [(operator, true), (person("ana"), false)] {
            let (sender, sessions) = broadcast::channel(4);
            let (_stopping, stopped) = watch::channel(false);
            let limiter = LongPollLimiter::new(stopped, 10);
            let subscriber = EventSubscriber {
                all: matches!(caller, Caller::Admin { .. }),
                changes: served.gate.service.changes(),
                sessions,
                // What a token proves is not asked here.
                standing: served.gate.service.standing(&Caller::Admin {
                    operator: "ops".to_owned(),
                }),
                first: VecDeque::new(),
                _place: limiter.subscribers.enter(&caller).unwrap(),
                gate: Arc::clone(&served.gate),
                caller,
                limiter,
            };
            // More than the channel holds, before anybody reads.
            for _ in 0..5 {
                sender.send(session("ana", "idle")).unwrap();
            }
            sender.send(session("bob", "idle")).unwrap();
            sender.send(session("ana", "ended")).unwrap();
            let mut body = Sse::new(subscriber.events()).into_response().into_body();
            let mut said = String::new();
            while !said.contains("ended") {
                let frame = body.frame().await.unwrap().unwrap();
                said.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            assert!(said.starts_with("event: lagged\ndata: {\"missed\":3}\n\n"), "{said}");
            assert_eq!(
                said.matches("event: session\n").count(),
                if hears_of_bob { 4 } else { 3 },
                "{said}"
            );
            assert_eq!(said.contains("\"bob\""), hears_of_bob, "{said}");
            assert!(said.contains("\"state\":\"ended\""), "{said}");
        }
        served.stop().await;
    }
}
