//! Free texts of events: what a search by text compares.
//!
//! It does not compare them (the filter does).

use crate::audit::event::{Event, ParameterValue, Statement};

/// Returns all of them; those of a statement are its SQL, its name and its parameters.
pub(in crate::audit) fn texts<'e>(event: &'e Event<'_>) -> Vec<&'e str> {
    let named = |texts: &[Option<&'e str>]| texts.iter().copied().flatten().collect::<Vec<_>>();
    match event {
        Event::GateStarted(event) => vec![&event.version],
        Event::GateStopped {}
        | Event::SegmentBegan(_)
        | Event::Checkpoint(_)
        | Event::SegmentsRemoved(_)
        | Event::CancelRequested(_)
        | Event::BackendGone(_)
        | Event::Outcome(_)
        | Event::TransactionChanged(_) => Vec::new(),
        Event::JournalHealed(event) => named(&[event.detail.as_deref()]),
        Event::ClockSet(event) => named(&[Some(&event.by), event.reason.as_deref()]),
        Event::KeyChanged(event) => vec![&event.by],
        Event::Reloaded(event) => vec![&event.detail],
        Event::Refused(event) => named(&[
            Some(event.ending.as_str()),
            event.user.as_deref(),
            event.database.as_deref(),
            event.detail.as_deref(),
        ]),
        Event::RefusalsCounted(event) => named(&[event.network.as_deref(), Some(event.ending.as_str())]),
        Event::GrantChanged(event) => named(&[Some(event.change.as_str()), Some(&event.by), event.reason.as_deref()]),
        Event::GrantJoined(event) => vec![&event.reason],
        Event::RequestChanged(event) => {
            let mut texts = named(&[
                Some(event.request.as_str()),
                Some(event.change.as_str()),
                Some(event.by.as_str()),
                event.reason.as_deref(),
                event.ticket.as_deref(),
            ]);
            texts.extend(event.claims.values().map(String::as_str));
            texts
        }
        Event::DecisionMade(event) => vec![&event.action, &event.about],
        Event::RoleChanged(event) => named(&[Some(event.change.as_str()), Some(&event.role), event.detail.as_deref()]),
        Event::UserChanged(event) => vec![event.change.as_str(), &event.by],
        Event::IdentityRefused(event) => named(&[event.claimed.as_deref(), Some(&event.detail)]),
        Event::PolicyLoaded(event) => vec![&event.detail],
        Event::SessionStarted(event) => named(&[event.application.as_deref()]),
        Event::SessionEnded(event) => named(&[Some(event.ending.as_str()), event.detail.as_deref()]),
        Event::Statement(statement) => {
            let sql = statement.sql.as_ref().map(|sql| sql.text.0.as_ref());
            sql.into_iter().chain(beside_sql(statement)).collect()
        }
    }
}

/// Returns the texts of a statement that are not its SQL.
fn beside_sql<'e>(statement: &'e Statement<'_>) -> impl Iterator<Item = &'e str> {
    let parameters = statement.parameters.iter().filter_map(|parameter| match parameter {
        ParameterValue::Null | ParameterValue::Redacted | ParameterValue::Blanked { .. } => None,
        ParameterValue::Hashed(hash) => Some(hash.as_ref()),
        ParameterValue::Text(text) | ParameterValue::Long { start: text, .. } => Some(text.0.as_ref()),
        ParameterValue::Binary { hex, .. } => Some(hex.as_ref()),
    });
    let prepared = statement.prepared.as_ref().map(|name| name.0.as_ref());
    prepared.into_iter().chain(parameters)
}
