//! Places to blank in a text, both if PostgreSQL's reading of it is known and if it is not.
//!
//! This module blanks nothing and looks at no token: [`SecretScan`] does.

use super::scan::SecretScan;
use super::{RedactedRange, SecretParameters, body};
use crate::protocol::lexer::{Backslashes, LexerSettings};

/// Result for a text under one reading of it.
#[derive(Debug)]
pub(super) struct RedactionScan {
    pub(super) cuts: Vec<RedactedRange>,
    pub(super) parameters: SecretParameters,
    /// True if every literal ends, and the nesting is within the limit.
    ends: bool,
    /// True if another reading of backslashes might end a literal elsewhere.
    ambiguous: bool,
    pub(super) unclear: bool,
}

impl RedactionScan {
    /// Scans a masked text under known settings. If it is not `whole`, its last token may lack its end.
    pub(super) fn of(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let mut scan = SecretScan::new(text, 0, settings);
        let deep = scan.run().is_err();
        let doubts = scan.doubts;
        let ends = !deep && !doubts.open;
        let mut nest = scan.nest;
        let parameters = if ends && whole {
            nest.parameters.sort_unstable();
            nest.parameters.dedup();
            SecretParameters::These(nest.parameters)
        } else {
            nest.give_up();
            SecretParameters::All
        };
        let mut found = Self {
            cuts: nest.cuts,
            parameters,
            ends,
            ambiguous: doubts.ambiguous,
            unclear: doubts.unclear,
        };
        if deep || (whole && !ends) {
            // PostgreSQL refuses it as a whole, and its author may have meant another text.
            found.cuts.extend(body::literals(text, settings).cuts);
            found.cuts.extend(body::assigned(text, body::ends_word));
            found.unclear = true;
        }
        found
    }

    /// Scans a text under both readings of backslashes. A text that is malformed under one of them runs under the other or not
    /// at all.
    pub(super) fn of_both(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let plain = Self::of(text, whole, with(settings, Backslashes::Ordinary));
        if !plain.ambiguous {
            return plain;
        }
        let escaped = Self::of(text, whole, with(settings, Backslashes::Escape));
        match (plain.is_in_order(), escaped.is_in_order()) {
            (true, false) if whole => return plain,
            (false, true) if whole => return escaped,
            _ => {}
        }
        let literals = |strings| body::literals(text, with(settings, strings)).cuts;
        let (ours, theirs) = (literals(Backslashes::Ordinary), literals(Backslashes::Escape));
        let alike = ours
            .iter()
            .map(RedactedRange::place)
            .eq(theirs.iter().map(RedactedRange::place));
        if alike && plain.is_in_order() && escaped.is_in_order() {
            return plain;
        }
        Self {
            cuts: [plain.cuts, escaped.cuts, ours, theirs].concat(),
            parameters: SecretParameters::All,
            unclear: true,
            ..escaped
        }
    }

    /// Scans a text whose character boundaries are unknown: as it is, under both readings of backslashes.
    pub(super) fn of_any(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let [plain, escaped] = [Backslashes::Ordinary, Backslashes::Escape].map(|strings| {
            let settings = with(settings, strings);
            [Self::of(text, whole, settings).cuts, body::literals(text, settings).cuts].concat()
        });
        Self {
            cuts: [plain, escaped].concat(),
            parameters: SecretParameters::All,
            ends: false,
            ambiguous: true,
            unclear: true,
        }
    }

    fn is_in_order(&self) -> bool {
        self.ends && !self.unclear
    }
}

fn with(settings: LexerSettings, strings: Backslashes) -> LexerSettings {
    LexerSettings { strings, ..settings }
}
