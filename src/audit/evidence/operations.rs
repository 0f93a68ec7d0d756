//! Changes by operators, and events of the gate and its log. Pure.
//!
//! This module does not look at grants and sessions.

use jiff::Timestamp;

use super::report::{EvidenceReport, GateChange};
use crate::audit::event::{Event, JournalHealed, UserChangeKind};
use crate::audit::report::kept;

/// Adds a record of the period to the report, if it is about users, policies, configuration, the gate or its log. `crashed`: the
/// gate before the one that starts did not stop in order.
pub(super) fn add(report: &mut EvidenceReport, time: Timestamp, event: &Event<'_>, crashed: bool) {
    let (list, what, by, detail, remarkable) = match event {
        Event::UserChanged(event) => (
            &mut report.identities,
            event.identity.to_string(),
            &*event.by,
            format!("{}; groups: {}", event.change, event.groups.join(", ")),
            event.change == UserChangeKind::NotStored,
        ),
        Event::PolicyLoaded(event) => (
            &mut report.policies,
            format!("policies {}", event.policy_set.as_deref().unwrap_or("(none)")),
            "gate",
            loaded(event.accepted, &event.detail),
            !event.accepted,
        ),
        Event::Reloaded(event) => (
            &mut report.policies,
            "configuration".to_owned(),
            "gate",
            loaded(event.accepted, &event.detail),
            !event.accepted,
        ),
        _ => {
            let Some((what, detail, remarkable)) = of_gate(event, crashed) else {
                return;
            };
            (&mut report.operation, what.to_owned(), "", detail, remarkable)
        }
    };
    list.push(GateChange {
        time,
        what: kept(&what),
        by: kept(by),
        detail: kept(&detail),
        remarkable,
    });
    if let Event::JournalHealed(event) = event {
        report.records_missing += event.lost;
        report.log_damaged += u64::from(event.fault.is_damage());
    }
}

fn loaded(accepted: bool, detail: &str) -> String {
    format!("{}: {detail}", if accepted { "in force" } else { "refused" })
}

/// Returns the kind of an event of the gate or its log, a description, and true if it needs attention.
fn of_gate(event: &Event<'_>, crashed: bool) -> Option<(&'static str, String, bool)> {
    Some(match event {
        Event::GateStarted(event) => {
            let after = if crashed {
                ", after one that did not stop in order"
            } else {
                ""
            };
            ("gate started", format!("version {}{after}", event.version), crashed)
        }
        Event::GateStopped {} => ("gate stopped", "in order".to_owned(), false),
        Event::JournalHealed(event) => ("log healed", healed(event), true),
        Event::KeyChanged(event) => {
            let word = if event.vouched {
                "the old one vouches for it"
            } else {
                "not vouched for by the old one"
            };
            let detail = format!("to {} by {}: {word}", event.key.id(), event.by);
            ("signing key changed", detail, !event.vouched)
        }
        Event::SegmentsRemoved(event) => {
            let detail = format!("{} to {}, up to record {}", event.first, event.last, event.last_seq);
            ("old segments removed", detail, false)
        }
        _ => return None,
    })
}

fn healed(event: &JournalHealed) -> String {
    let mut parts = vec![event.fault.words().to_owned()];
    parts.extend(event.since.map(|since| format!("since {since}")));
    if event.refused > 0 {
        parts.push(format!(
            "{} records refused, and what they stood for with them",
            event.refused
        ));
    }
    if event.lost > 0 {
        parts.push(format!("{} records of what had happened were given up", event.lost));
    }
    if event.cut_bytes > 0 {
        parts.push(format!("{} bytes cut off", event.cut_bytes));
    }
    parts.extend(event.detail.clone());
    parts.join("; ")
}
