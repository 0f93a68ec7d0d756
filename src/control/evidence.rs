//! `GET /v1/audit/report`: the evidence of a period as one page to keep, made from the whole log, which is verified.
//!
//! It counts nothing itself. The log is read on a thread that all readings share.
//!
//! INVARIANT: a log that is not whole, or could not be verified, is called so on the page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Extension;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::authenticate::Call;
use super::long_poll::LongPollLimiter;
use super::model::ReportQuery;
use super::problem::ApiError;
use super::routes::query;
use crate::audit::evidence::{ReportCollector, ReportPeriod, page, tables};
use crate::audit::key::{PublicKey, public_path};
use crate::audit::verify::{SavedCheckpoint, VerifyExpectation, verify_folder};
use crate::audit::{Filter, RememberedTip, read_whole};
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
    let place = limiter.readings.enter(&call.caller)?;
    let tip = call.gate.service.log_tip().await?;
    let source = LogSource {
        dir: call.gate.audit_dir.clone(),
        key: public_path(&call.gate.journal.settings().key),
        ledger: RememberedTip::of_ledger(tip.as_ref().map(|tip| tip.line.as_str()))
            .kept()
            .cloned(),
    };
    let thread = Arc::clone(&limiter.reading_threads).acquire_owned().await;
    let thread = thread.map_err(|_| ApiError::Stopping)?;
    let making = tokio::task::spawn_blocking(move || {
        // Held by the thread, because it goes on when its caller hangs up.
        let _held = (place, thread);
        source.report(period, made_at)
    });
    let page = making.await.map_err(|_| ApiError::Stopping)??;
    reader.still_allowed()?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tidegate-evidence.html\""),
    ];
    Ok((headers, page).into_response())
}

/// Log of this gate, and what it has to be verified with.
struct LogSource {
    dir: PathBuf,
    /// File with the public key.
    key: PathBuf,
    /// End of the log as the ledger knows it.
    ledger: Option<SavedCheckpoint>,
}

impl LogSource {
    /// Reads and verifies the log, and returns the page. Blocks.
    fn report(&self, period: ReportPeriod, made_at: Timestamp) -> Result<String, ApiError> {
        let mut collector = ReportCollector::new(period);
        // From the log's beginning, since some of the state at the start of the period comes from before it.
        let filter = Filter {
            until: Some(period.to),
            ..Filter::default()
        };
        let records = read_whole(&self.dir, &filter).map_err(|error| ApiError::Log(display_chain(&error)))?;
        for found in records {
            collector.take(found.as_ref());
        }
        let key = read_key(&self.key);
        let expected = VerifyExpectation {
            key,
            ledger: self.ledger.clone(),
            from_start: true,
            ..VerifyExpectation::default()
        };
        let verdict = verify_folder(&self.dir, &expected, |_| {}).map_err(|error| error.to_string());
        let report = collector.report(verdict, key.map(|_| "of this gate".to_owned()));
        let tables = tables(&report);
        Ok(page(&report, &tables, made_at))
    }
}

fn read_key(path: &Path) -> Option<PublicKey> {
    std::fs::read_to_string(path).ok()?.parse().ok()
}
