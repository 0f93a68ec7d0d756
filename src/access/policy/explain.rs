//! Search for changes that would improve a verdict: the same question is asked again with one thing different.
//!
//! It does not interpret policies; each suggestion was decided by them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{Span, Timestamp};

use super::{Judgement, Policies, QuestionContext, RequestVerdict, notes};
use crate::identity::Identity;
use crate::model::names::{GroupName, ProfileName};
use crate::model::request::RequestSpec;

/// Maximum number of values tried per kind of change: a user waits for the answer, and a large policy set names thousands.
const MAX_TRIED_VALUES: usize = 16;
/// Maximum number of suggested pairs of changes.
const MAX_PAIRS: usize = 8;
/// Maximum number of pairs tried. A large policy set names hundreds of groups, and everybody may ask.
const MAX_TRIED_PAIRS: usize = 300;
/// Maximum number of groups tried.
const MAX_TRIED_GROUPS: usize = 64;

/// Verdict on a request, with the changes that would improve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestExplanation {
    /// Verdict, and the policies that decided.
    pub judgement: Judgement,
    /// Changes that would improve it; pairs of changes if no single one would.
    pub remedies: Vec<Remedy>,
}

/// Change of a request, its time or its requester, and the resulting verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Description that continues "it would be ...": `with a reason`.
    pub change: String,
    /// Verdict after the change.
    pub verdict: RequestVerdict,
}

/// Single change of a question.
#[derive(Debug, Clone)]
enum WhatIfChange {
    Reason,
    Ticket(String),
    Window(Duration),
    Sessions(u32),
    Profile(ProfileName),
    Network(String, IpAddr),
    Waiting,
    Group(GroupName),
}

/// Question about a request, to be changed.
#[derive(Clone)]
struct WhatIfCase {
    identity: Identity,
    wish: RequestSpec,
    context: QuestionContext,
}

impl WhatIfChange {
    fn make(&self, case: &mut WhatIfCase) {
        match self {
            Self::Reason => case.wish.reason = Some("a reason".to_owned()),
            Self::Ticket(ticket) => case.wish.ticket = Some(ticket.clone()),
            Self::Window(window) => case.wish.window = *window,
            Self::Sessions(sessions) => case.wish.max_sessions = *sessions,
            Self::Profile(profile) => case.wish.profile = profile.clone(),
            Self::Network(_, address) => case.context.client = Some(*address),
            Self::Waiting => case.wish.break_glass = false,
            Self::Group(group) => {
                case.identity.groups.insert(group.clone());
                if case.wish.identity == case.identity.name {
                    case.wish.groups.insert(group.clone());
                }
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Reason => "with a reason".to_owned(),
            Self::Ticket(ticket) => format!("under a ticket like {ticket}"),
            Self::Window(window) => format!("for {} at most", notes::show(*window)),
            Self::Sessions(sessions) => format!("with {sessions} sessions at most"),
            Self::Profile(profile) => format!("with profile {profile}"),
            Self::Network(network, _) => format!("from {network}"),
            Self::Waiting => "without break-glass".to_owned(),
            Self::Group(group) => format!("in group {group}"),
        }
    }
}

impl Policies {
    /// Returns the verdict on a request, and the changes that would improve it. `profiles` are those of its target; `None`: those
    /// that the policies name are tried.
    #[must_use]
    pub fn explain(
        &self,
        identity: &Identity,
        wish: &RequestSpec,
        context: QuestionContext,
        profiles: Option<&[ProfileName]>,
    ) -> RequestExplanation {
        let judgement = self.judge(identity, wish, context);
        // Nothing is better than at once.
        if judgement.verdict == RequestVerdict::Automatic {
            return RequestExplanation {
                judgement,
                remedies: Vec::new(),
            };
        }
        let case = WhatIfCase {
            identity: identity.clone(),
            wish: wish.clone(),
            context,
        };
        let mut changes = self.changes(&case, profiles);
        let groups = self.words.groups.difference(&identity.groups);
        changes.extend(groups.take(MAX_TRIED_GROUPS).cloned().map(WhatIfChange::Group));
        let mut remedies = self.better(&case, &judgement.verdict, &changes);
        remedies.extend(self.another_time(&case, &judgement.verdict));
        if remedies.is_empty() {
            remedies = self.two_at_once(&case, &judgement.verdict, &changes);
        }
        RequestExplanation { judgement, remedies }
    }

    /// Returns the reason of a denial for which no policy has an `@advice`.
    pub(super) fn why_not(&self, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> String {
        let case = WhatIfCase {
            identity: identity.clone(),
            wish: wish.clone(),
            context,
        };
        let verdict = RequestVerdict::Denied { why: String::new() };
        let remedies = self.better(&case, &verdict, &self.changes(&case, None));
        let (wanted, name) = (wish.target.with(Some(&wish.profile)), &identity.name);
        let window = notes::show(wish.window);
        let what = if wish.break_glass { " by break-glass" } else { "" };
        let why = format!("no policy permits {wanted} for {window}{what} to {name}");
        if remedies.is_empty() {
            return why;
        }
        let helps: Vec<_> = remedies.iter().map(|remedy| remedy.change.as_str()).collect();
        format!("{why}; it would be permitted {}", helps.join(", or "))
    }

    /// Returns the changes that the requester could make.
    fn changes(&self, case: &WhatIfCase, profiles: Option<&[ProfileName]>) -> Vec<WhatIfChange> {
        let mut changes = Vec::new();
        if case.wish.reason.is_none() {
            changes.push(WhatIfChange::Reason);
        }
        if case.wish.ticket.is_none() {
            let any = std::iter::once("ABC-1".to_owned()).filter(|_| self.words.tickets.is_empty());
            changes.extend(
                self.words
                    .tickets
                    .iter()
                    .cloned()
                    .chain(any)
                    .take(MAX_TRIED_VALUES)
                    .map(WhatIfChange::Ticket),
            );
        }
        let shorter = self.words.windows.range(..case.wish.window).rev();
        changes.extend(shorter.copied().take(MAX_TRIED_VALUES).map(WhatIfChange::Window));
        let fewer = self.words.sessions.range(..case.wish.max_sessions).rev();
        changes.extend(fewer.copied().take(MAX_TRIED_VALUES).map(WhatIfChange::Sessions));
        let profiles: Vec<_> = profiles.map_or_else(|| self.words.profiles.iter().collect(), |there| there.iter().collect());
        let others = profiles.into_iter().filter(|profile| **profile != case.wish.profile);
        changes.extend(others.take(MAX_TRIED_VALUES).cloned().map(WhatIfChange::Profile));
        let networks = self.words.networks.iter().take(MAX_TRIED_VALUES).cloned();
        changes.extend(networks.map(|(network, address)| WhatIfChange::Network(network, address)));
        if case.wish.break_glass {
            changes.push(WhatIfChange::Waiting);
        }
        changes
    }

    /// Returns the changes that alone improve the verdict; of windows only the longest for each verdict, of sessions the largest
    /// number.
    fn better(&self, case: &WhatIfCase, than: &RequestVerdict, changes: &[WhatIfChange]) -> Vec<Remedy> {
        let mut remedies = Vec::new();
        let (mut shorter, mut fewer, mut other) = (rank(than), rank(than), rank(than));
        for change in changes {
            let verdict = self.changed(case, &[change]);
            let best = match change {
                WhatIfChange::Window(_) => &mut shorter,
                WhatIfChange::Sessions(_) => &mut fewer,
                _ => &mut other,
            };
            if rank(&verdict) >= *best {
                continue;
            }
            if matches!(change, WhatIfChange::Window(_) | WhatIfChange::Sessions(_)) {
                *best = rank(&verdict);
            }
            let change = change.words();
            remedies.push(Remedy { change, verdict });
        }
        remedies
    }

    /// Returns the pairs of changes that improve the verdict.
    fn two_at_once(&self, case: &WhatIfCase, than: &RequestVerdict, changes: &[WhatIfChange]) -> Vec<Remedy> {
        let (mut remedies, mut tried) = (Vec::new(), 0);
        for (at, first) in changes.iter().enumerate() {
            for second in changes.iter().skip(at + 1) {
                if std::mem::discriminant(first) == std::mem::discriminant(second) {
                    continue;
                }
                if tried == MAX_TRIED_PAIRS {
                    return remedies;
                }
                tried += 1;
                let verdict = self.changed(case, &[first, second]);
                if rank(&verdict) < rank(than) {
                    let change = format!("{} and {}", first.words(), second.words());
                    remedies.push(Remedy { change, verdict });
                    if remedies.len() == MAX_PAIRS {
                        return remedies;
                    }
                }
            }
        }
        remedies
    }

    fn changed(&self, case: &WhatIfCase, changes: &[&WhatIfChange]) -> RequestVerdict {
        let mut case = case.clone();
        for change in changes {
            change.make(&mut case);
        }
        self.verdict(&case.identity, &case.wish, case.context).verdict
    }

    /// Returns the hours of the week with the best verdict, if that is better than now.
    fn another_time(&self, case: &WhatIfCase, than: &RequestVerdict) -> Option<Remedy> {
        // Hours and days that no policy tells apart have one verdict.
        let mut known: HashMap<(i64, i64), RequestVerdict> = HashMap::new();
        let mut week: Vec<Vec<(i8, RequestVerdict)>> = Vec::new();
        for weekday in 1..=7 {
            let at = |hour| Some((hour, at(&self.cedar.zone, case.context.now, weekday, hour)?));
            let hours = (0..24).filter_map(at).map(|(hour, now)| {
                let ranges = (
                    self.words.weekdays.start_of(weekday.into()),
                    self.words.hours.start_of(hour.into()),
                );
                let context = QuestionContext { now, ..case.context };
                let judged = || self.verdict(&case.identity, &case.wish, context).verdict;
                (hour, known.entry(ranges).or_insert_with(judged).clone())
            });
            week.push(hours.collect());
        }
        let best = week
            .iter()
            .flatten()
            .map(|(_, verdict)| verdict)
            .min_by_key(|verdict| rank(verdict))?
            .clone();
        if rank(&best) >= rank(than) {
            return None;
        }
        let days: Vec<Vec<i8>> = week
            .iter()
            .map(|day| {
                day.iter()
                    .filter(|(_, verdict)| *verdict == best)
                    .map(|(hour, _)| *hour)
                    .collect()
            })
            .collect();
        Some(Remedy {
            change: times(&days),
            verdict: best,
        })
    }
}

/// Returns the rank of a verdict; lower is better.
fn rank(verdict: &RequestVerdict) -> u64 {
    match verdict {
        RequestVerdict::Automatic => 0,
        RequestVerdict::Approvals(approvals) => u64::from(*approvals),
        RequestVerdict::Denied { .. } => u64::MAX,
    }
}

/// Returns that hour of that weekday in the week of `now`; `None` if a change of the clocks skips it.
fn at(zone: &jiff::tz::TimeZone, now: Timestamp, weekday: i8, hour: i8) -> Option<Timestamp> {
    let today = zone.to_datetime(now).date();
    let days = i64::from(weekday - today.weekday().to_monday_one_offset());
    let day = today.checked_add(Span::new().try_days(days).ok()?).ok()?;
    let there = zone.to_timestamp(day.at(hour, 0, 0, 0)).ok()?;
    (zone.to_datetime(there).hour() == hour).then_some(there)
}

/// Formats hours of the week: `at Mon-Fri 08:00-18:00, Sat 08:00-12:00`.
fn times(days: &[Vec<i8>]) -> String {
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let named: Vec<_> = NAMES.iter().zip(days).collect();
    let parts = named.chunk_by(|(_, one), (_, next)| one == next).filter_map(|alike| {
        let (first, last) = (alike.first()?, alike.last()?);
        let hours = hours(first.1);
        let name = if alike.len() == 1 {
            (*first.0).to_owned()
        } else {
            format!("{}-{}", first.0, last.0)
        };
        (!hours.is_empty()).then(|| format!("{name} {hours}"))
    });
    format!("at another time ({})", parts.collect::<Vec<_>>().join(", "))
}

/// Formats the hours of a day: `08:00-12:00 13:00-18:00`.
fn hours(hours: &[i8]) -> String {
    let runs = hours.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[i8]| Some(format!("{:02}:00-{:02}:00", run.first()?, run.last()? + 1));
    runs.filter_map(run).collect::<Vec<_>>().join(" ")
}
