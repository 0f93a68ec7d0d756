//! State that a leader holds while it writes: the writer, the lines to write, and other tasks.
//!
//! This module does not decide which thread leads (the queue does).

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::AuditError;
use super::encode::LineBuffer;
use super::event::{Event, JournalFault, JournalHealed};
use super::key::PublicKey;
use super::writer::SegmentWriter;
use crate::base::clock::Clock;

pub(super) type WriteResult = Result<(), AuditError>;

/// Task of the journal's thread other than writing.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Signs the unsigned lines and answers with the checkpoint's line.
    Checkpoint(oneshot::Sender<Result<Option<String>, AuditError>>),
    /// Replaces the signing key.
    RotateKey {
        /// Name of the operator.
        by: String,
        done: oneshot::Sender<Result<PublicKey, AuditError>>,
    },
    /// To panic.
    #[cfg(test)]
    Panic,
}

/// Right to write, with the buffers for it.
#[derive(Debug)]
pub(super) struct CommitWriter {
    pub(super) writer: SegmentWriter,
    pub(super) note: LineBuffer,
    pub(super) deferred: LineBuffer,
    pub(super) intents: LineBuffer,
    pub(super) waiting: Vec<oneshot::Sender<WriteResult>>,
}

/// Time since which no record can be written, with the cause.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOutage {
    pub(super) since: Timestamp,
    pub(super) fault: JournalFault,
    pub(super) refused: u64,
}

/// Instructions for a leader that takes lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitTask {
    pub(super) outage: Option<WriteOutage>,
    pub(super) lost: u64,
    pub(super) check: bool,
    pub(super) sign: bool,
}

impl CommitWriter {
    pub(super) fn new(writer: SegmentWriter) -> Self {
        Self {
            writer,
            note: LineBuffer::default(),
            deferred: LineBuffer::default(),
            intents: LineBuffer::default(),
            waiting: Vec::new(),
        }
    }

    /// Writes once: a note about earlier faults, deferred lines, the followers' lines, the leader's own, and a checkpoint if
    /// one is due.
    pub(super) fn write(&mut self, order: CommitTask, own: &LineBuffer, clock: &Clock) -> WriteResult {
        self.note.clear();
        let now = clock.now();
        if order.outage.is_some() || order.lost > 0 {
            let outage = order.outage;
            self.remark(
                now,
                JournalHealed {
                    fault: outage.map_or(JournalFault::WriteFailed, |outage| outage.fault),
                    since: outage.map(|outage| outage.since),
                    refused: outage.map_or(0, |outage| outage.refused),
                    lost: order.lost,
                    cut_bytes: 0,
                    detail: None,
                },
            );
        }
        if order.check && !self.writer.check_in_place() {
            tracing::error!("the open audit segment was removed, replaced or truncated; starting a new one");
            self.remark(
                now,
                JournalHealed {
                    fault: JournalFault::FileLost,
                    since: None,
                    refused: 0,
                    lost: 0,
                    cut_bytes: 0,
                    detail: None,
                },
            );
        }
        self.writer
            .write(&[&self.note, &self.deferred, &self.intents, own], order.sign, now)
    }

    /// Runs a task. Its caller may have gone.
    pub(super) fn run(&mut self, command: WriterCommand, clock: &Clock) {
        match command {
            WriterCommand::Checkpoint(done) => drop(done.send(self.writer.checkpoint(clock.now()))),
            WriterCommand::RotateKey { by, done } => drop(done.send(self.writer.rotate_key(&by, clock.now()))),
            #[cfg(test)]
            WriterCommand::Panic => panic!("as a test wants it"),
        }
    }

    fn remark(&mut self, now: Timestamp, healed: JournalHealed) {
        // Encoding this event cannot fail; if it did, the records themselves would still have to be written.
        let _ = self.note.push(now, &Event::JournalHealed(healed));
    }
}
