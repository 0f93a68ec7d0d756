//! Warns about requests without a possible approver: no identity that may approve them is enabled.
//!
//! The access service determines the possible approvers.

use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::access::AccessService;
use crate::ledger::{ChangedSubject, Ledger};
use crate::outbound::notify::{EventKind, Notifier, RequestNotice};

/// Checks every new request, until the ledger is gone. The requester of a request missed here is told all the same.
pub(super) async fn watch(mut changes: Receiver<ChangedSubject>, ledger: Ledger, service: AccessService, notifier: Notifier) {
    loop {
        let request = match changes.recv().await {
            Ok(ChangedSubject::Request(request)) if request.outcome.is_none() && request.approvals.is_empty() => request,
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Ok(view) = ledger.request(&request.id).await else {
            continue;
        };
        if !service.approvers(&view).await.nobody {
            continue;
        }
        tracing::warn!(
            request = %request.id, identity = %request.wish.identity, target_name = %request.wish.target,
            "a request waits, but no enabled user may approve it; enable an approver or change the policies"
        );
        let notice = RequestNotice {
            event: EventKind::RequestWithoutApprover,
            at: request.submitted_at,
            request: Arc::clone(&request),
        };
        notifier.enqueue(&notice).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::post;
    use jiff::Timestamp;
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::*;
    use crate::access::policy::{Policies, PolicyFile};
    use crate::access::strangers::RefusalLog;
    use crate::access::{AccessRules, RequestArgs, testing};
    use crate::audit::{self, Journal};
    use crate::base::clock::Clock;
    use crate::base::secret::Secret;
    use crate::outbound::notify::{Audience, MessageFormat, NotifySettings, Webhook};

    const POLICIES: &str = r#"
@id("ask") permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"request", resource);
@id("orders") permit (principal == Tidegate::Identity::"lea", action == Tidegate::Action::"approve", resource in Tidegate::Target::"orders");
@id("payments") permit (principal == Tidegate::Identity::"bo", action == Tidegate::Action::"approve", resource in Tidegate::Target::"payments");
"#;

    fn rules() -> AccessRules {
        let source = |name: &str, text: &str| PolicyFile {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let schema = source("schema.cedarschema", include_str!("../../policies/schema.cedarschema"));
        let policies = Policies::parse(&schema, &[source("test.cedar", POLICIES)], jiff::tz::TimeZone::UTC).unwrap();
        testing::rules(Some(Arc::new(policies)))
    }

    /// Starts a receiver of messages; returns its address and what it gets.
    async fn receiver() -> (String, mpsc::UnboundedReceiver<Value>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let take = async move |body: Bytes| {
            let _ = sender.send(serde_json::from_slice(&body).unwrap());
        };
        let router = Router::new().route("/", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, received)
    }

    #[tokio::test]
    async fn it_is_told_only_of_what_nobody_enabled_may_approve() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let journal = Journal::open(&audit::JournalSettings::in_folder(folder.path()), clock.clone()).unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.sqlite"), journal.clone(), clock.clone()).unwrap();
        let rules = tokio::sync::watch::channel(Arc::new(rules())).1;
        let refusals = RefusalLog::new(journal.clone(), clock.clone());
        let service = AccessService::new(ledger.clone(), journal, refusals, clock.clone(), rules);
        let mut tokens = Vec::new();
        for name in ["ana", "lea", "bo"] {
            let groups = ["qa".parse().unwrap()].into();
            tokens.push(ledger.add_user(&name.parse().unwrap(), groups, "ops").await.unwrap());
        }
        ledger.disable_user(&"bo".parse().unwrap(), "ops").await.unwrap();
        let (url, mut received) = receiver().await;
        let hook = Webhook {
            name: "desk".to_owned(),
            url: Secret::new(url),
            secret: Secret::new("shared".to_owned()),
            format: MessageFormat::Json,
            audience: Audience::Everybody,
            events: [EventKind::RequestWithoutApprover].into(),
        };
        let settings = NotifySettings {
            hooks: vec![hook],
            link: None,
            buttons: false,
        };
        let notifier = Notifier::start(&folder.path().join("outbox.sqlite"), settings, clock).unwrap();
        let watching = tokio::spawn(watch(ledger.changes(), ledger.clone(), service.clone(), notifier));

        let here = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let ana = service.identify(&tokens[0], here).await.unwrap();
        let ask = async |target: &str| {
            let asked = RequestArgs {
                target: target.to_owned(),
                reason: Some("bug 17".to_owned()),
                ..RequestArgs::default()
            };
            service.submit(&ana, asked).await.unwrap().request.id
        };
        // Lea may approve the first; nobody but Bo, who is disabled, the second.
        ask("orders").await;
        let second = ask("payments").await;
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), received.recv());
        let told = told.await.unwrap().unwrap();
        assert_eq!(told["event"], "request_without_approver");
        assert_eq!(told["request"]["id"], second.as_str());
        watching.abort();
    }
}
