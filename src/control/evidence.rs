//! `GET /v1/audit/report`: the evidence of a period as one page to keep, made from the whole log, which is verified.
//!
//! It counts nothing itself. The log is read on a thread that all readings share.
//!
//! INVARIANT: a log that is not whole, or could not be verified, is called so on the page.

use axum::Extension;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::authenticate::Call;
use super::long_poll::LongPollLimiter;
use super::model::ReportQuery;
use super::problem::ApiError;
use super::routes::query;
use super::verification::VerifiedLog;
use crate::audit::evidence::{ReportCollector, ReportPeriod, document, tables};
use crate::audit::report::page;
use crate::audit::{Filter, read_whole};
use crate::base::error_chain::display_chain;

#[utoipa::path(get, path = "/v1/audit/report", tag = "log", summary = "Evidence of a period as one page (operators, and with `read-log`)", params(ReportQuery), responses((status = 200, description = "An HTML page to keep, with the result of the log's verification", content_type = "text/html", body = String)))]
pub(super) async fn report(call: Call, Extension(limiter): Extension<LongPollLimiter>, uri: Uri) -> Result<Response, ApiError> {
    let reader = call.log_reader(&limiter).await?;
    let ReportQuery { since, until } = query(&uri)?;
    let made_at = call.gate.clock.now();
    let period = ReportPeriod {
        from: since,
        to: until.unwrap_or(made_at),
    };
    if period.from >= period.to {
        return Err(ApiError::Malformed(format!(
            "the period since {since} until {} is empty",
            period.to
        )));
    }
    let log = VerifiedLog::of(&call.gate).await?;
    let page = limiter.log.read(&call.caller, move || made(&log, period, made_at)).await??;
    reader.still_allowed()?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tidegate-evidence.html\""),
    ];
    Ok((headers, page).into_response())
}

/// Reads and verifies the log, and returns the page. Blocks.
fn made(log: &VerifiedLog, period: ReportPeriod, made_at: Timestamp) -> Result<String, ApiError> {
    let mut collector = ReportCollector::new(period);
    // From the log's beginning, since some of the state at the start of the period comes from before it.
    let filter = Filter {
        until: Some(period.to),
        ..Filter::default()
    };
    let records = read_whole(&log.dir, &filter).map_err(|error| ApiError::Log(display_chain(&error)))?;
    for found in records {
        collector.take(found.as_ref());
    }
    let verdict = log.verify().map_err(|error| error.to_string());
    let report = collector.report(verdict, log.key.map(|_| "of this gate".to_owned()));
    let tables = tables(&report);
    Ok(page(&document(&report, tables, made_at)))
}
