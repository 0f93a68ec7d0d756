//! Changes by operators, and events of the gate and its log. Pure.
//!
//! This module does not look at grants and sessions.

use jiff::Timestamp;

use super::limits::kept;
use super::report::{BoundedList, GateChange};
use crate::audit::event::{Event, JournalHealed, UserChangeKind};

/// Accumulator of the records read so far.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) identities: BoundedList<GateChange>,
    pub(super) policies: BoundedList<GateChange>,
    pub(super) operation: BoundedList<GateChange>,
    /// Number of records that were given up.
    pub(super) records_missing: u64,
    /// Number of times that the gate found its log damaged.
    pub(super) log_damaged: u64,
    /// True if a gate started and has not stopped.
    running: bool,
}

impl Operations {
    /// Takes a record; `within`: its time is in the period.
    pub(super) fn take(&mut self, time: Timestamp, event: &Event<'_>, within: bool) {
        if within {
            self.administration(time, event);
        }
        self.operation(time, event, within);
    }

    /// Takes a change of users, policies or configuration.
    fn administration(&mut self, time: Timestamp, event: &Event<'_>) {
        let gate = || "gate".to_owned();
        match event {
            Event::UserChanged(event) => self.identities.push(GateChange {
                time,
                what: event.identity.to_string(),
                by: kept(&event.by),
                detail: kept(&format!("{}; groups: {}", event.change, event.groups.join(", "))),
                remarkable: event.change == UserChangeKind::NotStored,
            }),
            Event::PolicyLoaded(event) => self.policies.push(GateChange {
                time,
                what: kept(&format!("policies {}", event.policy_set.as_deref().unwrap_or("(none)"))),
                by: gate(),
                detail: kept(&format!("{}: {}", accepted(event.accepted), event.detail)),
                remarkable: !event.accepted,
            }),
            Event::Reloaded(event) => self.policies.push(GateChange {
                time,
                what: "configuration".to_owned(),
                by: gate(),
                detail: kept(&format!("{}: {}", accepted(event.accepted), event.detail)),
                remarkable: !event.accepted,
            }),
            _ => {}
        }
    }

    /// Takes an event of the gate or its log.
    fn operation(&mut self, time: Timestamp, event: &Event<'_>, within: bool) {
        let mut note = |what: &str, detail: String, remarkable: bool| {
            if within {
                let (what, by, detail) = (what.to_owned(), String::new(), kept(&detail));
                self.operation.push(GateChange {
                    time,
                    what,
                    by,
                    detail,
                    remarkable,
                });
            }
        };
        match event {
            Event::GateStarted(event) => {
                let crashed = std::mem::replace(&mut self.running, true);
                let after = if crashed {
                    ", after one that did not stop in order"
                } else {
                    ""
                };
                note("gate started", format!("version {}{after}", event.version), crashed);
            }
            Event::GateStopped {} => {
                self.running = false;
                note("gate stopped", "in order".to_owned(), false);
            }
            Event::JournalHealed(event) => {
                note("log healed", healed(event), true);
                if within {
                    self.records_missing += event.lost;
                    self.log_damaged += u64::from(event.fault.is_damage());
                }
            }
            Event::KeyChanged(event) => {
                let word = if event.vouched {
                    "the old one vouches for it"
                } else {
                    "not vouched for by the old one"
                };
                note(
                    "signing key changed",
                    format!("to {} by {}: {word}", event.key.id(), event.by),
                    !event.vouched,
                );
            }
            Event::SegmentsRemoved(event) => {
                let detail = format!("{} to {}, up to record {}", event.first, event.last, event.last_seq);
                note("old segments removed", detail, false);
            }
            _ => {}
        }
    }
}

fn accepted(yes: bool) -> &'static str {
    if yes { "in force" } else { "refused" }
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
