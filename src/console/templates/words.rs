//! Verdicts, profiles and notices in words.
//!
//! It decides nothing: the policies gave the verdict, the configuration the words of a profile.

use maud::{Markup, html};

use super::state;
use super::text::{count, shown};
use crate::control::model::{ProfileBody, VerdictBody};

/// Shows the verdict on a request for a profile: at once, waits, or refused.
pub(in crate::console) fn verdict(verdict: &VerdictBody, needs_reason: bool) -> Markup {
    let reason = if needs_reason { ", with a reason" } else { "" };
    match verdict.verdict.as_str() {
        "automatic" => state::good(true, &format!("at once{reason}")),
        "allowed" => state::good(true, "allowed"),
        "approvals" => {
            let people = count(u64::from(verdict.approvals.unwrap_or(1)), "approver", "approvers");
            html! { span.status.waiting { "waits for " (people) (reason) } }
        }
        _ => state::good(false, "refused"),
    }
}

/// Returns true if a request would be refused.
pub(in crate::console) fn is_refused(verdict: &VerdictBody) -> bool {
    verdict.verdict == "denied"
}

/// Shows what a profile may do, what it sees masked, and what is refused of it.
pub(in crate::console) fn profile(profile: &ProfileBody) -> Markup {
    let told = |title: &str, lines: &[String]| {
        html! {
            @if !lines.is_empty() {
                p.note { (title) }
                ul.masks { @for line in lines { li { (shown(line)) } } }
            }
        }
    };
    html! {
        @if profile.may.is_empty() && profile.masks.is_empty() && profile.rails.is_empty() {
            p.note { "The rights of the target's own account." }
        }
        (told("May:", &profile.may))
        (told("Masked:", &profile.masks))
        (told("Guard rails:", &profile.rails))
    }
}

/// PageNotice at the head of a page that a form led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::console) enum PageNotice {
    Approved,
    Rejected,
    Withdrawn,
    Reviewed,
    Joined,
    BrokenGlass,
    Extended,
    Released,
    Revoked,
    Ended,
    Changed,
    Disabled,
    /// In effect, and to be stored or recorded yet.
    Late,
}

impl PageNotice {
    const ALL: [(&'static str, Self, &'static str); 13] = [
        ("approved", Self::Approved, "Your approval is on record."),
        ("rejected", Self::Rejected, "Rejected. The requester is told."),
        ("withdrawn", Self::Withdrawn, "Withdrawn."),
        ("reviewed", Self::Reviewed, "Your review is on record."),
        ("joined", Self::Joined, "You have this access already: here it is."),
        (
            "glass",
            Self::BrokenGlass,
            "You have it without approval. That is on record, and somebody else reviews it.",
        ),
        ("extended", Self::Extended, "Extended. Open sessions go on."),
        ("released", Self::Released, "Given back. Its sessions have ended."),
        ("revoked", Self::Revoked, "Revoked. Its sessions have ended."),
        ("ended", Self::Ended, "The session has ended. Its grant is still valid."),
        ("changed", Self::Changed, "Changed."),
        (
            "disabled",
            Self::Disabled,
            "Disabled. Sessions, requests, grants and sign-ins have ended.",
        ),
        (
            "late",
            Self::Late,
            "In effect at once. It is not stored or recorded yet; the gate retries.",
        ),
    ];

    /// Returns the word of the notice in a query.
    pub(in crate::console) fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, notice, _)| *notice == self);
        found.map_or("", |(word, ..)| *word)
    }

    /// Returns the sentence of the notice.
    pub(in crate::console) fn words(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, notice, _)| *notice == self);
        found.map_or("", |(.., sentence)| *sentence)
    }

    /// Returns the sentence of a word; no other text comes from a query.
    pub(in crate::console) fn sentence(word: &str) -> Option<&'static str> {
        let found = Self::ALL.iter().find(|(known, ..)| *known == word);
        found.map(|(.., sentence)| *sentence)
    }
}
