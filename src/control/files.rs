//! `GET /v1/audit/files`: the files of the audit log as a tar archive, for verification elsewhere.
//!
//! It does not parse the log. Each file is sent at the caller's pace, in pieces of bounded memory, for as long as the caller
//! may read the log.
//!
//! INVARIANT: the segments in the archive contain all that the checkpoints at its beginning cover. An incomplete answer is
//! broken off, so that a part is never taken for the whole.

use std::collections::VecDeque;
use std::io;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::ControlContext;
use super::authenticate::Call;
use super::long_poll::LongPollLimiter;
use super::problem::ApiError;
use crate::access::policy::Action;
use crate::audit::segment::{self, Segment};
use crate::audit::{CHECKPOINT_FILE, LEDGER_CHECKPOINT_FILE};

/// Number of bytes that are read and sent at once.
const PIECE_BYTES: usize = 128 << 10;
/// End of a tar archive: two empty blocks.
const ARCHIVE_END: [u8; 1024] = [0; 1024];
/// Reason for breaking off an answer.
const ENDED_REASON: &str = "your right to read the log must be checked again";
/// Block size of a tar archive in bytes; files are padded to a multiple of it.
const BLOCK_BYTES: u64 = 512;

#[utoipa::path(get, path = "/v1/audit/files", tag = "log", summary = "Files of the audit log, for verification elsewhere (operators, and with `read-log`)", responses((status = 200, description = "A tar archive: `ledger-checkpoint.json` (the ledger's checkpoint), `checkpoint.json`, and the segments in order", content_type = "application/x-tar", body = String)))]
pub(super) async fn files(
    Call { gate, caller }: Call,
    Extension(limiter): Extension<LongPollLimiter>,
) -> Result<Response, ApiError> {
    let standing = gate.service.standing(&caller);
    gate.service.may(&caller, Action::ReadLog).await?;
    let reading = limiter.log.readings.enter(&caller)?;
    let archive = LogArchive::open(&gate).await?;
    let pieces = futures_util::stream::unfold(Some((archive, limiter, standing, reading)), |sending| async {
        let (mut archive, mut limiter, standing, reading) = sending?;
        let piece = tokio::select! {
            piece = archive.next() => if standing.holds() { piece.transpose()? } else { Err(broken(ENDED_REASON)) },
            () = standing.over() => Err(broken(ENDED_REASON)),
            () = limiter.stopped() => Err(broken("the gate stops")),
        };
        let rest = piece.is_ok().then_some((archive, limiter, standing, reading));
        Some((piece, rest))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(pieces)).into_response())
}

fn broken(why: &'static str) -> io::Error {
    io::Error::other(why)
}

/// Rest of the archive that is still to be sent.
struct LogArchive {
    /// Small files, held in memory.
    small: VecDeque<(&'static str, Vec<u8>)>,
    segments: VecDeque<Segment>,
    /// File being sent, its remaining bytes, and the padding of its last block.
    open: Option<(File, u64, u64)>,
    ended: bool,
}

impl LogArchive {
    /// Reads the checkpoints first and lists the segments after, so that the segments contain all that the checkpoints cover.
    async fn open(gate: &ControlContext) -> Result<Self, ApiError> {
        let unreadable = |error: io::Error| ApiError::Log(error.to_string());
        let mut small = VecDeque::new();
        if let Some(tip) = gate.service.log_tip().await? {
            small.push_back((LEDGER_CHECKPOINT_FILE, format!("{}\n", tip.line).into_bytes()));
        }
        match tokio::fs::read(gate.audit_dir.join(CHECKPOINT_FILE)).await {
            Ok(beside) => small.push_back((CHECKPOINT_FILE, beside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
        let dir = gate.audit_dir.clone();
        let segments = tokio::task::spawn_blocking(move || segment::list(&dir)).await;
        let segments = segments.map_err(io::Error::other).flatten().map_err(unreadable)?;
        Ok(Self {
            small,
            segments: segments.into(),
            open: None,
            ended: false,
        })
    }

    /// Returns the next piece; `None` after the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some((file, left, filling)) = &mut self.open {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let room = (*left).min(PIECE_BYTES as u64);
            let read = (&mut *file).take(room).read_to_end(&mut piece).await? as u64;
            if read < room {
                return Err(broken("a file of the log was truncated while it was read"));
            }
            *left -= read;
            if *left == 0 {
                piece.resize(piece.len() + usize::try_from(*filling).unwrap_or(0), 0);
                self.open = None;
            }
            return Ok(Some(piece.into()));
        }
        if let Some((name, content)) = self.small.pop_front() {
            let mut piece = head(name, content.len() as u64)?;
            piece.extend(&content);
            piece.resize(piece.len() + usize::try_from(filling(content.len() as u64)).unwrap_or(0), 0);
            return Ok(Some(piece.into()));
        }
        while let Some(segment) = self.segments.pop_front() {
            let Some((name, file)) = open(&segment).await? else { continue };
            let length = file.metadata().await?.len();
            let head = head(&name, length)?;
            self.open = (length > 0).then(|| (file, length, filling(length)));
            return Ok(Some(head.into()));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Ok(None);
        }
        Ok(Some(Bytes::from_static(&ARCHIVE_END)))
    }
}

/// Opens a segment, which may have been packed since it was listed. Returns `None` if it was removed; a later segment records
/// that.
async fn open(segment: &Segment) -> io::Result<Option<(String, File)>> {
    for path in [segment.path.clone(), segment.path.with_extension("jsonl.zst")] {
        match File::open(&path).await {
            Ok(file) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Some((name, file)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns the number of padding bytes after a file of this length.
fn filling(length: u64) -> u64 {
    length.next_multiple_of(BLOCK_BYTES) - length
}

/// Returns the header block of a file.
fn head(name: &str, length: u64) -> io::Result<Vec<u8>> {
    let mut head = tar::Header::new_gnu();
    head.set_path(name)?;
    head.set_size(length);
    head.set_mode(0o600);
    head.set_cksum();
    Ok(head.as_bytes().to_vec())
}
