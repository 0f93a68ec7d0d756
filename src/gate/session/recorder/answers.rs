//! Answers of the target, message by message: statements that they settle are recorded.
//!
//! This module does not know which message an answer belongs to: [`extended`](crate::gate::session::extended_query) does.

use std::sync::Arc;

use super::records::{TargetLastWord, failing, record, transaction};
use super::{MAX_ANSWER_BYTES, StatementRecorder};
use crate::audit::event::StatementResult;
use crate::base::clock::Moment;
use crate::gate::session::extended_query::SettledStatement;
use crate::gate::sql_filter::StatementRefusal;
use crate::protocol::wire::frame::BodyPiece;

impl StatementRecorder {
    /// Returns true if the next error of the target belongs to a refused message: then the error must be complete.
    pub(in crate::gate::session) fn refusal_due(&self) -> bool {
        self.extended.refusal().is_some()
    }

    /// Processes the next piece of the target's stream; `now` is read at most once per chunk. Returns the refusal that replaces
    /// this message for the client.
    pub(in crate::gate::session) fn target(
        &mut self,
        piece: &BodyPiece<'_>,
        now: &mut Option<Moment>,
    ) -> Option<Arc<StatementRefusal>> {
        match piece.tag {
            // Rows: most of the data.
            b'D' => {
                self.answered(piece, now);
                self.extended.row(piece.last);
            }
            b'd' => {
                self.answered(piece, now);
                self.extended.copied_out(piece.bytes.len() as u64, piece.last);
            }
            // These arrive at any time and answer nothing.
            b'S' => self.told(piece),
            b'N' => self.noticed(piece),
            b'A' | b'K' => {}
            _ => return self.answer(piece, now),
        }
        None
    }

    /// Processes the next piece that is not sent to the client any more.
    pub(in crate::gate::session) fn target_unsent(&mut self, piece: &BodyPiece<'_>, now: &mut Option<Moment>) {
        match piece.tag {
            b'D' | b'd' => self.answered(piece, now),
            _ => drop(self.target(piece, now)),
        }
    }

    /// Subtracts rows, or messages of a COPY, that were counted but not sent to the client.
    pub(in crate::gate::session) fn not_sent(&mut self, rows: u64) {
        self.extended.not_sent(rows);
    }

    /// Returns true if a message of this type is the last one of an answer, and settles it.
    pub(in crate::gate::session) fn settles(&self, tag: u8) -> bool {
        match tag {
            b'Z' => true,
            b'C' | b'I' | b's' | b'E' => !self.extended.answers_query(),
            _ => false,
        }
    }

    fn answered(&mut self, piece: &BodyPiece<'_>, now: &mut Option<Moment>) {
        let bytes = piece.bytes.len() as u64 + if piece.first { 5 } else { 0 };
        let clock = &self.clock;
        self.extended
            .answered(bytes, || now.get_or_insert_with(|| clock.moment()).instant);
    }

    fn answer(&mut self, piece: &BodyPiece<'_>, now: &mut Option<Moment>) -> Option<Arc<StatementRefusal>> {
        self.answered(piece, now);
        let tag = piece.tag;
        let body = self.from_target.add(piece, MAX_ANSWER_BYTES)?;
        // Any further message shows that it was not the last one.
        self.last_word = (tag == b'E')
            .then(|| TargetLastWord::of_error(body, self.settings.encoding()))
            .flatten();
        let Self {
            extended,
            outcomes,
            totals,
            who,
            clock,
            finished_since_stop,
            number,
            written,
            failed,
            skipped,
            settings,
            ..
        } = self;
        let refused = extended.answer(tag, body, |mut settled| {
            let now = *now.get_or_insert_with(|| clock.moment());
            if let Some(message) = settled.failing.take() {
                settled.statement = late_number(number, written, failed);
                failing(outcomes, who, (settled.statement, &message), settings.encoding(), now);
            } else if settled.statement > *written {
                // Its intent is still on its way to the log, so it has not been forwarded. An earlier error makes the target drop
                // it on arrival. Its outcome must not precede its intent.
                skipped.push((settled.statement, now));
                return;
            } else if let Some(finished) = finished_since_stop {
                *finished = settled.done == StatementResult::Completed;
            }
            totals.add(&settled);
            record(outcomes, who, &settled, now);
        });
        if tag == b'Z' {
            settings.ready(|| extended.unanswered());
        }
        let undone = extended.undone();
        if let Some(finished) = finished_since_stop.as_mut().filter(|_| undone.is_some()) {
            *finished = false;
        }
        let changed = extended.transaction_changed().or(undone.as_ref().map(|undone| undone.last));
        if let Some(statement) = changed {
            let now = *now.get_or_insert_with(|| clock.moment());
            transaction(outcomes, who, (statement, extended.transaction()), undone.as_ref(), now);
        }
        if !piece.first {
            self.from_target.release();
        }
        refused
    }

    /// Keeps the warning of a server that stops at once, which sends no further message.
    fn noticed(&mut self, piece: &BodyPiece<'_>) {
        if let Some(last) = piece
            .whole()
            .and_then(|body| TargetLastWord::of_notice(body, self.settings.encoding()))
        {
            self.last_word = Some(last);
        }
    }
}

impl super::SessionTotals {
    pub(super) fn add(&mut self, settled: &SettledStatement) {
        self.rows = self.rows.saturating_add(settled.rows);
        self.rows_sent = self.rows_sent.saturating_add(settled.rows_sent);
    }
}

/// Assigns a number to a message because it failed. It has been forwarded, so its record need not wait.
pub(super) fn late_number(number: &mut u64, written: &mut u64, failed: &mut Vec<u64>) -> u64 {
    let all_written = written == number;
    *number += 1;
    if all_written {
        *written = *number;
    } else {
        failed.push(*number);
    }
    *number
}
