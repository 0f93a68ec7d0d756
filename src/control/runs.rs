//! `GET /v1/runs/report` and `GET /v1/runs/diff`: what a test run did, and the difference between two runs.
//!
//! It counts nothing itself. The log is read on a thread that all readings share.
//!
//! INVARIANT: who may not read the whole log is told of runs that are grants which they may watch, and nothing of others.

use axum::http::Uri;
use axum::{Extension, Json};

use super::authenticate::Call;
use super::log::told;
use super::long_poll::LongPollLimiter;
use super::model::{RunDiffQuery, RunReportQuery};
use super::problem::ApiError;
use super::renewal::Renewal;
use super::routes::query;
use crate::audit::runs::{self, RunDiff, RunError, RunPeriod, RunReport};

#[utoipa::path(get, path = "/v1/runs/report", tag = "log", summary = "Report on a test run (operators, and with `read-log`; of a grant those that may watch its sessions, without what others did)", params(RunReportQuery), responses((status = 200, description = "Statements by test, failures, tables, what was slow or repeated, and other sessions that changed the same tables meanwhile", body = RunReport)))]
pub(super) async fn report(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    uri: Uri,
) -> Result<Json<RunReport>, ApiError> {
    let RunReportQuery { run, since, until } = query(&uri)?;
    let reader = call.log_reader_of(&limiter, run.grant(), Renewal(false)).await?;
    let others = reader.reads_all();
    let (dir, period) = (call.gate.audit_dir.clone(), RunPeriod { since, until });
    let read = reader.read(move || runs::report(&dir, &run, period, others)).await?;
    let report = read.map_err(|error| unread(error, others))?;
    reader.still_allowed()?;
    Ok(Json(report))
}

#[utoipa::path(get, path = "/v1/runs/diff", tag = "log", summary = "Difference between two test runs (operators, and with `read-log`; of grants those that may watch their sessions)", params(RunDiffQuery), responses((status = 200, description = "Statements that one run executed and the other did not, or not so often, or with another outcome; test by test", body = RunDiff)))]
pub(super) async fn diff(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    uri: Uri,
) -> Result<Json<RunDiff>, ApiError> {
    let RunDiffQuery { green, red } = query(&uri)?;
    let first = call.log_reader_of(&limiter, green.grant(), Renewal(false)).await?;
    let second = call.log_reader_of(&limiter, red.grant(), Renewal(false)).await?;
    let all = first.reads_all() && second.reads_all();
    let dir = call.gate.audit_dir.clone();
    let read = first.read(move || runs::diff(&dir, &green, &red)).await?;
    let diff = read.map_err(|error| unread(error, all))?;
    first.still_allowed()?;
    second.still_allowed()?;
    Ok(Json(diff))
}

/// Returns the error as the caller gets it.
fn unread(error: RunError, reads_all: bool) -> ApiError {
    match error {
        RunError::NoSuchRun(run) => ApiError::NoSuchRun(run),
        RunError::Read(error) => ApiError::Log(told(&error, reads_all)),
    }
}
