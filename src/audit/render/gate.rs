//! Short descriptions of records about the gate, its log, and access.
//!
//! This module prints nothing; its callers make the result safe for a terminal.

use jiff::tz::TimeZone;

use crate::audit::event::Event;
use crate::base::times;

/// Describes an event of the log itself.
pub(super) fn of_log(event: &Event<'_>, zone: &TimeZone) -> String {
    match event {
        Event::JournalHealed(event) => {
            let since = event
                .since
                .map(|since| format!(" since {}", times::seconds(since, zone)))
                .unwrap_or_default();
            let (refused, lost, cut) = (event.refused, event.lost, event.cut_bytes);
            let detail = event.detail.as_ref().map(|detail| format!("; {detail}")).unwrap_or_default();
            format!(
                "{:?}{since}: {refused} refused, {lost} lost, {cut} bytes cut off{detail}",
                event.fault
            )
        }
        Event::SegmentBegan(event) => format!("segment {} of log {}, key {}", event.segment, event.log, event.key.id()),
        Event::Checkpoint(event) => format!("lines up to {}, signed with key {}", event.covers, event.key.id()),
        Event::KeyChanged(event) => {
            let vouched = if event.vouched {
                "vouched for by the old one"
            } else {
                "not vouched for"
            };
            format!(
                "{} instead of {} by {}, {vouched}",
                event.key.id(),
                event.previous.id(),
                event.by
            )
        }
        Event::SegmentsRemoved(event) => {
            format!(
                "{} to {}, up to line {}: older than is to be kept",
                event.first, event.last, event.last_seq
            )
        }
        _ => String::new(),
    }
}

/// Describes requests, decisions and changes of identities.
pub(super) fn access(event: &Event<'_>, zone: &TimeZone) -> String {
    let allowed = |yes| if yes { "allowed" } else { "forbidden" };
    match event {
        Event::RequestChanged(event) => {
            let why = event.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let ticket = event.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
            let glass = if event.break_glass { " (break-glass)" } else { "" };
            let asked = event.target.with(Some(&event.profile));
            let policies = match event.policies.as_slice() {
                [] => String::new(),
                policies => format!(" [{}]", policies.join(", ")),
            };
            format!(
                "{} {} {asked} by {}{glass}{ticket}{why}{policies}",
                event.change, event.request, event.by
            )
        }
        Event::GrantJoined(event) => {
            let joined = event.target.with(event.profile.as_ref());
            format!("joined {} for {joined}: {}", event.grant, event.reason)
        }
        Event::DecisionMade(event) => format!(
            "{} {} on {} [{}]",
            allowed(event.allowed),
            event.action,
            event.about,
            event.policies.join(", ")
        ),
        Event::RefusalsCounted(event) => format!(
            "{} more from {}: {}, {} to {}",
            event.count,
            event.network.as_deref().unwrap_or("many addresses"),
            event.ending,
            times::seconds(event.first, zone),
            times::seconds(event.last, zone)
        ),
        Event::UserChanged(event) => format!("{} {} by {}", event.change, event.identity, event.by),
        Event::IdentityRefused(event) => {
            let claimed = event.claimed.as_deref().unwrap_or("?");
            format!("{claimed}: {}", event.detail)
        }
        Event::PolicyLoaded(event) => format!("{}: {}", if event.accepted { "in force" } else { "refused" }, event.detail),
        _ => String::new(),
    }
}
