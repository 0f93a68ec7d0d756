//! `GET /v1/audit/files`: the audit log as it lies on the disk, as a tar archive, for those who verify it elsewhere.
//!
//! It reads no line. It hands on each file at the caller's pace, as long as the caller may read the log; memory is that of a piece.
//!
//! The law: what the checkpoints at the beginning cover is in the segments behind them. An answer that does not go on to its end is
//! broken off, so that nobody takes a part for the whole.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::Gate;
use super::caller::{Caller, Standing};
use super::hold::Hold;
use super::problem::ApiError;
use crate::audit::segment::{self, Segment};
use crate::audit::{CHECKPOINT, LEDGER_CHECKPOINT};
use crate::policy::Action;

/// As much is read and sent at once. Bytes.
const PIECE: usize = 128 << 10;
/// Two empty blocks are the end of an archive.
const END: [u8; 1024] = [0; 1024];
/// Why an answer is broken off.
const ANEW: &str = "whether you may read the log is to be settled anew";
/// Files in a tar archive are filled up to a multiple of this. Bytes.
const BLOCK: u64 = 512;

#[utoipa::path(get, path = "/v1/audit/files", tag = "log", summary = "The audit log's files as they are, to be verified elsewhere (operators, and with `read-log`)", responses((status = 200, description = "A tar archive: `ledger-checkpoint.json` (the checkpoint that the ledger remembers), `checkpoint.json`, and the segments in their order", content_type = "application/x-tar", body = String)))]
pub(super) async fn files(
    State(gate): State<Arc<Gate>>,
    Extension(hold): Extension<Hold>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let standing = Standing::of(&caller, &gate);
    caller.may(&gate, Action::ReadLog).await?;
    let reading = hold.read(&caller)?;
    let archive = Archive::open(&gate).await?;
    let pieces = futures_util::stream::unfold(Some((archive, hold, standing, reading)), |sending| async {
        let (mut archive, mut hold, standing, reading) = sending?;
        let piece = tokio::select! {
            piece = archive.next() => if standing.holds() { piece.transpose()? } else { Err(broken(ANEW)) },
            () = standing.over() => Err(broken(ANEW)),
            () = hold.stopped() => Err(broken("the gate stops")),
        };
        let rest = piece.is_ok().then_some((archive, hold, standing, reading));
        Some((piece, rest))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(pieces)).into_response())
}

fn broken(why: &'static str) -> io::Error {
    io::Error::other(why)
}

/// What is still to be sent.
struct Archive {
    /// Small files, whole.
    small: VecDeque<(&'static str, Vec<u8>)>,
    segments: VecDeque<Segment>,
    /// The file being sent: how much of it is left, and what fills its last block.
    open: Option<(File, u64, u64)>,
    ended: bool,
}

impl Archive {
    /// Takes the checkpoints first: what they cover is in the segments by then.
    async fn open(gate: &Gate) -> Result<Self, ApiError> {
        let unreadable = |error: io::Error| ApiError::Log(error.to_string());
        let mut small = VecDeque::new();
        if let Some(tip) = gate.ledger.log_tip().await? {
            small.push_back((LEDGER_CHECKPOINT, format!("{}\n", tip.line).into_bytes()));
        }
        match tokio::fs::read(gate.audit_dir.join(CHECKPOINT)).await {
            Ok(beside) => small.push_back((CHECKPOINT, beside)),
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

    /// The next piece; nothing behind the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some((file, left, filling)) = &mut self.open {
            let mut piece = Vec::with_capacity(PIECE);
            let room = (*left).min(PIECE as u64);
            let read = (&mut *file).take(room).read_to_end(&mut piece).await? as u64;
            if read < room {
                return Err(broken("a file of the log became shorter while it was read"));
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
        Ok(Some(Bytes::from_static(&END)))
    }
}

/// Opens a segment, which may have been packed since it was listed; `None` if it was removed, which is on record in one behind it.
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

/// What fills the last block of a file of this length.
fn filling(length: u64) -> u64 {
    length.next_multiple_of(BLOCK) - length
}

/// The block in front of a file.
fn head(name: &str, length: u64) -> io::Result<Vec<u8>> {
    let mut head = tar::Header::new_gnu();
    head.set_path(name)?;
    head.set_size(length);
    head.set_mode(0o600);
    head.set_cksum();
    Ok(head.as_bytes().to_vec())
}
