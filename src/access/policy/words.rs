//! Values that a policy set mentions (groups, profiles, durations, tickets, networks), to try as changes of a question.
//!
//! They decide nothing: a missed value is a missed suggestion.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use cedar_policy::Policy;
use serde_json::Value;

use super::Action;
use super::cedar::CedarSchema;
use super::notes::PolicyNotes;
use crate::model::names::{GroupName, ProfileName};

/// Operators with a result that is the same for all values between two numbers that they mention.
const COMPARISONS: [&str; 7] = ["==", "!=", "<", "<=", ">", ">=", "contains"];

/// Comparisons of an attribute with whole numbers, and the ranges of its values that they cannot tell apart.
#[derive(Debug, Default)]
pub(super) struct ComparedRanges {
    /// First values of the ranges.
    starts: BTreeSet<i64>,
    mentions: usize,
    /// Number of the mentions that are such comparisons.
    compared: usize,
}

impl ComparedRanges {
    /// Returns the first value of the range of a value; the value itself if something else is done with the attribute.
    pub(super) fn start_of(&self, value: i64) -> i64 {
        if self.mentions != self.compared {
            return value;
        }
        self.starts.range(..=value).next_back().copied().unwrap_or(i64::MIN)
    }

    fn compare(&mut self, numbers: &[i64]) {
        self.compared += 1;
        self.starts
            .extend(numbers.iter().flat_map(|number| [*number, number.saturating_add(1)]));
    }
}

/// Values that the policies mention.
#[derive(Debug, Default)]
pub struct PolicyVocabulary {
    /// Names of groups.
    pub groups: BTreeSet<GroupName>,
    /// Names of profiles, with their targets or without.
    pub profiles: BTreeSet<ProfileName>,
    /// Names of targets, each with the id of a policy that mentions it.
    pub targets: BTreeMap<String, String>,
    /// Accesses (`target/profile`), each with the id of a policy that mentions it.
    pub accesses: BTreeMap<String, String>,
    /// Actions for which a policy asks by what way somebody comes (`context.via`).
    pub asks_via: HashSet<Action>,
    pub(super) windows: BTreeSet<Duration>,
    pub(super) sessions: BTreeSet<u32>,
    pub(super) tickets: BTreeSet<String>,
    pub(super) hours: ComparedRanges,
    pub(super) weekdays: ComparedRanges,
    /// Networks as they are written, each with an address in it.
    pub(super) networks: BTreeSet<(String, IpAddr)>,
}

impl PolicyVocabulary {
    pub(super) fn add(&mut self, policy: &Policy, notes: &PolicyNotes, actions: &[Action], cedar: &CedarSchema) {
        self.windows.extend(notes.max_duration);
        self.sessions.extend(notes.max_sessions);
        for entity in policy.entity_literals() {
            let id = entity.id().unescaped();
            if cedar.is_group(&entity) {
                self.groups.extend(id.parse::<GroupName>());
            } else if cedar.is_target(&entity) {
                self.targets.insert(id.to_owned(), policy.id().to_string());
            } else if cedar.is_access(&entity) {
                self.accesses.insert(id.to_owned(), policy.id().to_string());
                self.profiles
                    .extend(id.rsplit('/').next().and_then(|profile| profile.parse::<ProfileName>().ok()));
            }
        }
        if let Ok(json) = policy.to_json() {
            let conditions = json.get("conditions").unwrap_or(&Value::Null);
            if asks_via(conditions) {
                self.asks_via.extend(actions);
            }
            self.walk(conditions);
        }
    }

    /// Visits every part of an expression.
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(parts) => parts.iter().for_each(|part| self.walk(part)),
            Value::Object(parts) => {
                for (operator, operands) in parts {
                    if operator == "."
                        && let Some(ranges) = operands
                            .get("attr")
                            .and_then(Value::as_str)
                            .and_then(|name| self.ranges(name))
                    {
                        ranges.mentions += 1;
                    }
                    self.operation(operator, operands);
                    self.walk(operands);
                }
            }
            _ => {}
        }
    }

    fn ranges(&mut self, attribute: &str) -> Option<&mut ComparedRanges> {
        match attribute {
            "hour" => Some(&mut self.hours),
            "weekday" => Some(&mut self.weekdays),
            _ => None,
        }
    }

    /// Collects the values of one operation: `resource.profile == "read-only"`, `context.ticket like "BUG-*"`,
    /// `ip("10.0.0.0/8")`.
    fn operation(&mut self, operator: &str, operands: &Value) {
        if operator == "ip" {
            let network = operands.pointer("/0/Value").and_then(Value::as_str).unwrap_or_default();
            let address = network.split('/').next().and_then(|address| address.parse().ok());
            self.networks.extend(address.map(|address| (network.to_owned(), address)));
            return;
        }
        let side = |name: &str| operands.get(name);
        let attribute = |side: Option<&Value>| Some(side?.pointer("/./attr")?.as_str()?.to_owned());
        // The attribute may be on either side; the other side is the value.
        let (attribute, other) = match (attribute(side("left")), attribute(side("right"))) {
            (Some(left), _) => (left, side("right")),
            (None, Some(right)) => (right, side("left")),
            (None, None) => return,
        };
        if let Some(pattern) = operands.get("pattern") {
            if attribute == "ticket" {
                self.tickets.extend(sample(pattern));
            }
            return;
        }
        if COMPARISONS.contains(&operator)
            && let (Some(numbers), Some(ranges)) = (other.and_then(numbers), self.ranges(&attribute))
        {
            ranges.compare(&numbers);
        }
        match (attribute.as_str(), other) {
            ("profile", Some(other)) => self
                .profiles
                .extend(strings(other).filter_map(|text| text.parse::<ProfileName>().ok())),
            ("ticket", Some(other)) => self.tickets.extend(strings(other).map(str::to_owned)),
            ("window_seconds", Some(other)) => {
                // One second less too, for conditions with `<`.
                let seconds = other.get("Value").and_then(Value::as_u64).filter(|seconds| *seconds > 1);
                let seconds = seconds.into_iter().flat_map(|seconds| [seconds, seconds - 1]);
                self.windows.extend(seconds.map(Duration::from_secs));
            }
            ("max_sessions", Some(other)) => {
                let sessions = other
                    .get("Value")
                    .and_then(Value::as_u64)
                    .and_then(|sessions| u32::try_from(sessions).ok());
                let sessions = sessions.filter(|sessions| *sessions > 1);
                self.sessions
                    .extend(sessions.into_iter().flat_map(|sessions| [sessions, sessions - 1]));
            }
            _ => {}
        }
    }
}

/// Returns true if an expression asks for the way: its value cannot be used without `context has via`.
fn asks_via(value: &Value) -> bool {
    match value {
        Value::Array(parts) => parts.iter().any(asks_via),
        Value::Object(parts) => parts.iter().any(|(operator, operands)| {
            let asked = operator == "has" && operands.get("attr").and_then(Value::as_str) == Some("via");
            asked || asks_via(operands)
        }),
        _ => false,
    }
}

/// Returns a whole number, or those of a set; `None` if there is anything else.
fn numbers(value: &Value) -> Option<Vec<i64>> {
    let number = |value: &Value| value.get("Value")?.as_i64();
    match value.get("Set") {
        Some(set) => set.as_array()?.iter().map(number).collect(),
        None => Some(vec![number(value)?]),
    }
}

/// Returns a literal, or those of a set.
fn strings(value: &Value) -> impl Iterator<Item = &str> {
    let set = value
        .get("Set")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    std::iter::once(value)
        .chain(set)
        .filter_map(|value| value.get("Value")?.as_str())
}

/// Returns a text that matches a pattern: `BUG-1` for `BUG-*`.
fn sample(pattern: &Value) -> Option<String> {
    let parts = pattern.as_array()?.iter();
    Some(
        parts
            .map(|part| part.get("Literal").and_then(Value::as_str).unwrap_or("1"))
            .collect(),
    )
}
