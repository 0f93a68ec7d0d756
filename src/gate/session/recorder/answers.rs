//! Answers of the target, message by message: statements that they settle are recorded; at the end, the fate of the transaction.
//!
//! This module does not know which message an answer belongs to: [`extended`](crate::gate::session::extended_query) does.

use std::sync::Arc;

use super::records::{TargetLastWord, failing, record, transaction};
use super::{MAX_ANSWER_BYTES, StatementRecorder};
use crate::audit::event::StatementResult;
use crate::base::clock::Moment;
use crate::gate::session::extended_query::SettledStatement;
use crate::gate::sql_filter::StatementRefusal;
use crate::model::ending::Fate;
use crate::protocol::wire::backend::TransactionStatus;
use crate::protocol::wire::frame::BodyPiece;
use crate::protocol::wire::frontend::Fields;

impl StatementRecorder {
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
            b'S' => self.setting_reported(piece),
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
            .flatten()
            .map(Box::new);
        let Self {
            extended,
            outcomes,
            totals,
            who,
            clock,
            finished_since_stop,
            numbers,
            skipped,
            settings,
            ..
        } = self;
        let refused = extended.answer(tag, body, |mut settled| {
            let now = *now.get_or_insert_with(|| clock.moment());
            if let Some(message) = settled.failing.take() {
                settled.statement = numbers.late();
                failing(outcomes, who, (settled.statement, &message), settings.encoding(), now);
            } else if settled.statement > numbers.written {
                // Its intent is still on its way to the log, so it has not been forwarded. An earlier error makes the target drop
                // it on arrival. Its outcome must not precede its intent.
                skipped.push((settled.statement, now));
                return;
            } else if let Some(finished) = finished_since_stop {
                *finished = settled.done == StatementResult::Completed;
            }
            totals.add(&settled);
            record(outcomes, who, settled, now);
        });
        if tag == b'Z' {
            settings.ready(|| extended.unanswered());
        }
        let undone = extended.undone.take();
        if let Some(finished) = finished_since_stop.as_mut().filter(|_| undone.is_some()) {
            *finished = false;
        }
        let changed = extended.changed.take().or(undone.as_ref().map(|undone| undone.last));
        if let Some(statement) = changed {
            let now = *now.get_or_insert_with(|| clock.moment());
            transaction(outcomes, who, (statement, extended.transaction), undone.as_ref(), now);
        }
        if !piece.first {
            self.from_target.release();
        }
        refused
    }

    /// Takes a setting that the target reports: some determine how it reads texts.
    fn setting_reported(&mut self, piece: &BodyPiece<'_>) {
        if let Some(body) = self.from_target.add(piece, MAX_ANSWER_BYTES) {
            let mut fields = Fields::of(body);
            self.settings.reported(fields.text_or_rest(), fields.text_or_rest());
        }
    }

    /// Keeps the warning of a server that stops at once, which sends no further message.
    fn noticed(&mut self, piece: &BodyPiece<'_>) {
        if let Some(last) = piece
            .whole()
            .and_then(|body| TargetLastWord::of_notice(body, self.settings.encoding()))
        {
            self.last_word = Some(Box::new(last));
        }
    }

    /// Returns the number of bytes of records that wait to be written.
    pub(in crate::gate::session) fn records_size(&self) -> usize {
        self.intents.size() + self.outcomes.size()
    }

    /// Returns true if a transaction is open, according to the target's last message on that.
    pub(in crate::gate::session) fn in_transaction(&self) -> bool {
        self.extended.transaction != TransactionStatus::Idle
    }

    /// Starts to track whether the running statement completes.
    pub(in crate::gate::session) fn stopping(&mut self) {
        if self.extended.executing() {
            self.finished_since_stop = Some(false);
        }
    }

    /// Returns the fate of the transaction, judging by all messages until now. `cut` means that the target's last message was cut
    /// off: then the statement had not finished.
    pub(in crate::gate::session) fn fate(&self, cut: bool) -> Fate {
        let open = self.in_transaction();
        let said_fatal = self.last_word.as_ref().is_some_and(|last| last.fatal);
        let undone = if open { Fate::RolledBack } else { Fate::Stopped };
        match self.finished_since_stop {
            None if open => Fate::RolledBack,
            None => Fate::None,
            Some(_) if said_fatal || self.extended.failed() || cut => undone,
            Some(true) if open => Fate::RolledBack,
            Some(true) => Fate::Committed,
            Some(false) if self.extended.executing() => Fate::Unknown,
            // Answered with an error, and ready again.
            Some(false) => undone,
        }
    }

    /// Records the statements without an answer at the end of the session. A statement without a recorded intent was never
    /// forwarded: it is dropped and not counted.
    pub(in crate::gate::session) fn abandon(&mut self) {
        let now = self.clock.moment();
        self.skipped.clear();
        self.totals.statements -= std::mem::take(&mut self.unwritten);
        let Self {
            extended,
            outcomes,
            who,
            numbers,
            totals,
            settings,
            ..
        } = self;
        extended.abandon(|mut settled| {
            if let Some(message) = settled.failing.take() {
                settled.statement = numbers.late();
                failing(outcomes, who, (settled.statement, &message), settings.encoding(), now);
            } else if settled.statement > numbers.written {
                return;
            }
            totals.add(&settled);
            record(outcomes, who, settled, now);
        });
    }
}

impl super::SessionTotals {
    pub(super) fn add(&mut self, settled: &SettledStatement) {
        self.rows = self.rows.saturating_add(settled.answer.rows);
        self.rows_sent = self.rows_sent.saturating_add(settled.answer.rows_sent);
    }
}
